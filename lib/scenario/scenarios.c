/* SPDX-License-Identifier: MIT */
#include "lorakit/scenarios.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"
#include "lib/scenario/record.h"
#include "lib/scenario/set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- the base --- */

static lorafmt_status mismatch(const lorakit_scenarios *set, const char *field, const uint8_t found[32], const uint8_t said[32],
                               lorafmt_error *err)
{
    char f[LF_HEX_SIZE], s[LF_HEX_SIZE];

    if (memcmp(found, said, 32) == 0)
        return LORAFMT_OK;
    lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, field, "it is %s, the manifest says %s", lf_hex(found, f), lf_hex(said, s));
    lf_error_set_file(err, set->manifest->path);
    return LORAFMT_MISMATCH;
}

static lorafmt_status check_base(lorakit_scenarios *set, lorafmt_error *err)
{
    const lorakit_manifest_base *said = &set->manifest->base;
    uint8_t sha256[32];

    if (said->has_structure)
        LF_TRY(mismatch(set, "base.structure", set->structure, said->structure, err));
    if (set->has_lock)
        LF_TRY(lk_lock_check_base(set, err));
    if (!said->has_sha256)
        return LORAFMT_OK;
    LF_TRY(lorakit_scenarios_base_sha256(set, sha256, err));
    return mismatch(set, "base.sha256", sha256, said->sha256, err);
}

static lorafmt_status open_base(lorakit_scenarios *set, lorafmt_error *err)
{
    const char *path = set->manifest->base.path;

    LF_TRY(lorakit_manifest_check_path(set->manifest, path, err));
    LF_TRY(lorafmt_model_open(path, &set->model, err));
    set->n_files = lorafmt_model_n_files(set->model);
    LF_TRY(lorafmt_base_structure(lorafmt_model_base(set->model), set->structure, err));
    return check_base(set, err);
}

/* --- the set --- */

/* The manifest's name with another extension. */
static char *lock_path(lf_arena *arena, const char *manifest)
{
    const char *slash = strrchr(manifest, '/'), *name = slash ? slash + 1 : manifest, *dot = strrchr(name, '.');
    const size_t n = dot && dot != name ? (size_t)(dot - manifest) : strlen(manifest);

    return lf_arena_printf(arena, "%.*s.lock", (int)n, manifest);
}

static lorafmt_status open_set(lorakit_scenarios *set, const char *path, lorafmt_error *err)
{
    LF_TRY(lorakit_manifest_open(path, set->options.limits, &set->manifest, err));
    set->lock_path = lock_path(&set->arena, path);
    set->output = lf_arena_strdup(&set->arena, set->options.output ? set->options.output : set->manifest->output);
    set->adapters = lf_arena_alloc(&set->arena, set->manifest->n_adapters, sizeof *set->adapters);
    if (!set->lock_path || !set->output || !set->adapters)
        return lf_no_memory(err);
    if (strcmp(set->lock_path, path) == 0) {
        lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "its lock would have the same name; call the manifest otherwise");
        lf_error_set_file(err, path);
        return LORAFMT_MISUSE;
    }
    if (!set->options.no_lock)
        LF_TRY(lk_lock_read(set->lock_path, set->options.limits, &set->arena, &set->has_lock, &set->lock, err));
    LF_TRY(lk_policy_open(set, err));
    return open_base(set, err);
}

lorafmt_status lorakit_scenarios_open(const char *path, const lorakit_scenarios_options *options, lorakit_scenarios **out,
                                      lorafmt_error *err)
{
    static const lorakit_scenarios_options defaults = {.struct_size = sizeof defaults};
    lorakit_scenarios *set;
    lorafmt_status st;

    *out = NULL;
    if (options)
        LF_TRY(lf_check_struct_size(options->struct_size, sizeof *options, err));
    if (options && options->output && !*options->output)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "output", "the path of the output is empty");
    if (!(set = calloc(1, sizeof *set)))
        return lf_no_memory(err);
    set->options = options ? *options : defaults;
    st = open_set(set, path, err);
    if (st)
        lorakit_scenarios_free(set);
    else
        *out = set;
    return st;
}

void lorakit_scenarios_free(lorakit_scenarios *set)
{
    if (!set)
        return;
    for (size_t i = 0; set->adapters && i < set->manifest->n_adapters; i++)
        lorafmt_source_free(set->adapters[i].source);
    lorafmt_model_free(set->model);
    lorakit_manifest_free(set->manifest);
    lf_arena_free(&set->arena);
    free(set);
}

const lorakit_manifest *lorakit_scenarios_manifest(const lorakit_scenarios *set)
{
    return set->manifest;
}

lorafmt_model *lorakit_scenarios_model(const lorakit_scenarios *set)
{
    return set->model;
}

const char *lorakit_scenarios_output(const lorakit_scenarios *set)
{
    return set->output;
}

static lorafmt_status make_directory(const char *path, lorafmt_error *err)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? LORAFMT_OK : lf_fail_os(err, errno, path, "cannot make the directory");
}

lorafmt_status lk_make_own_directory(const char *path, lorafmt_error *err)
{
    struct stat st;

    LF_TRY(make_directory(path, err));
    if (lstat(path, &st) != 0)
        return lf_fail_os(err, errno, path, "cannot look at the directory");
    return S_ISDIR(st.st_mode) ? LORAFMT_OK : lf_fail_os(err, ENOTDIR, path, "must be a directory, and no link to one");
}

lorafmt_status lk_make_directories(const lorakit_scenarios *set, lorafmt_error *err)
{
    char *state = lf_path_join(set->output, LK_STATE_DIRECTORY);
    lorafmt_status st = state ? make_directory(set->output, err) : lf_no_memory(err);

    if (!st && !set->options.output)
        st = lorakit_manifest_check_path(set->manifest, set->output, err);
    if (!st)
        st = lk_make_own_directory(state, err);
    free(state);
    return st;
}

/* --- adapters --- */

/* The last part of a path or of an id on a hub. */
static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/');

    return slash && slash[1] ? slash + 1 : name;
}

/* What bind does not compare: of bases without a structure the name, of the same base the revision. */
static lorafmt_status check_made_for(const lorakit_scenarios *set, const lorafmt_adapter *adapter, lorafmt_error *err)
{
    const lorakit_manifest_base *base = &set->manifest->base;

    if (base->name && adapter->base_name[0] && !adapter->has_base_structure &&
        strcmp(last_part(base->name), last_part(adapter->base_name)) != 0)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL, "made for %s, but the manifest's base is %s",
                       adapter->base_name, base->name);
    if (base->revision && adapter->base_revision[0] && strcmp(base->revision, adapter->base_revision) != 0)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL, "made for revision %s of the base, the manifest says %s",
                       adapter->base_revision, base->revision);
    return LORAFMT_OK;
}

static lorafmt_status check_adapter(const lorakit_scenarios *set, size_t i, const lk_opened *opened, lorafmt_error *err)
{
    const lorakit_manifest_adapter *said = &set->manifest->adapters[i];
    char field[sizeof err->field];

    snprintf(field, sizeof field, "adapters.%s.id", said->name);
    if (said->has_id)
        LF_TRY(mismatch(set, field, opened->id, said->id, err));
    LF_TRY(check_made_for(set, opened->adapter, err));
    return lk_lock_check_adapter(set, i, opened->id, err);
}

static lorafmt_status open_adapter(const lorakit_scenarios *set, size_t i, lk_opened *out, lorafmt_error *err)
{
    const lorakit_manifest_adapter *said = &set->manifest->adapters[i];
    uint8_t signature[LORAFMT_SIGNATURE_SIZE];
    lorafmt_policy policy;
    const lorafmt_source_options options = {.struct_size = sizeof options,
                                            .base = lorafmt_model_base(set->model),
                                            .n_threads = set->options.n_threads,
                                            .adapter = said->selected,
                                            .in_memory = set->options.in_memory,
                                            .policy = set->manifest->n_keys ? &policy : NULL,
                                            .limits = set->options.limits,
                                            .paranoid = set->options.paranoid};

    LF_TRY(lk_policy_of(set, i, signature, &policy, err));
    LF_TRY(lorakit_manifest_check_path(set->manifest, said->path, err));
    LF_TRY(lorafmt_source_open(said->path, &options, &out->source, err));
    LF_TRY(lorafmt_source_choose(out->source, said->selected, &out->adapter, err));
    lorafmt_adapter_id(out->adapter, out->id);
    return check_adapter(set, i, out, err);
}

lorafmt_status lk_set_adapter(lorakit_scenarios *set, size_t i, const lk_opened **out, lorafmt_error *err)
{
    lk_opened opened = {0};
    lorafmt_status st;

    *out = NULL;
    if (i >= set->manifest->n_adapters)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "adapter %zu, the manifest has %zu", i,
                       set->manifest->n_adapters);
    if (!set->adapters[i].source) {
        st = open_adapter(set, i, &opened, err);
        if (st) {
            lorafmt_source_free(opened.source);
            lf_error_set_file(err, set->manifest->adapters[i].path);
            return st;
        }
        set->adapters[i] = opened;
    }
    *out = &set->adapters[i];
    return LORAFMT_OK;
}

lorafmt_status lorakit_scenarios_adapter(lorakit_scenarios *set, size_t adapter, const lorafmt_adapter **out, lorafmt_error *err)
{
    const lk_opened *opened;

    *out = NULL;
    LF_TRY(lk_set_adapter(set, adapter, &opened, err));
    *out = opened->adapter;
    return LORAFMT_OK;
}
