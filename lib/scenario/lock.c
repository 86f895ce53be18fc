/* SPDX-License-Identifier: MIT */
/* spec/manifest.md 5: reading and writing a lock. */
#include "lib/scenario/lock.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"
#include "lib/scenario/record.h"
#include "lib/scenario/set.h"
#include "lib/scenario/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define VERSION 1

/* --- reading --- */

static lorafmt_status read_version(const lk_yaml *root, lorafmt_error *err)
{
    const lk_yaml *node;
    uint64_t version;

    LF_TRY(lk_yaml_mapping(root, NULL, err));
    LF_TRY(lk_yaml_require(root, "version", &node, err));
    LF_TRY(lk_yaml_u64(node, &version, err));
    if (version != VERSION)
        return lk_yaml_fail(node, LORAFMT_UNSUPPORTED, err, "version %" PRIu64 ", this reads %d", version, VERSION);
    return LORAFMT_OK;
}

static lorafmt_status read_arithmetic(const lk_yaml *root, lk_lock *out, lorafmt_error *err)
{
    const lk_yaml *node;
    uint64_t arithmetic;

    LF_TRY(lk_yaml_require(root, "arithmetic", &node, err));
    LF_TRY(lk_yaml_u64(node, &arithmetic, err));
    if (arithmetic > UINT32_MAX)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%" PRIu64 ", must be below 2^32", arithmetic);
    out->arithmetic = (uint32_t)arithmetic;
    return LORAFMT_OK;
}

static lorafmt_status read_digest(const lk_yaml *mapping, const char *key, uint8_t out[32], lorafmt_error *err)
{
    const lk_yaml *node;

    LF_TRY(lk_yaml_require(mapping, key, &node, err));
    return lk_yaml_sha256(node, out, err);
}

static lorafmt_status read_file(const lk_yaml *node, lk_base_file *out, lorafmt_error *err)
{
    static const char *const keys[] = {"size", "sha256", NULL};
    const lk_yaml *size;

    out->name = node->key->text;
    LF_TRY(lk_yaml_mapping(node, keys, err));
    LF_TRY(lk_yaml_require(node, "size", &size, err));
    LF_TRY(lk_yaml_u64(size, &out->size, err));
    return read_digest(node, "sha256", out->sha256, err);
}

static lorafmt_status read_base(const lk_yaml *root, lf_arena *arena, lk_lock *out, lorafmt_error *err)
{
    static const char *const keys[] = {"structure", "files", NULL};
    const lk_yaml *base, *files;

    LF_TRY(lk_yaml_require(root, "base", &base, err));
    LF_TRY(lk_yaml_mapping(base, keys, err));
    LF_TRY(read_digest(base, "structure", out->structure, err));
    LF_TRY(lk_yaml_require(base, "files", &files, err));
    LF_TRY(lk_yaml_mapping(files, NULL, err));
    out->n_files = files->n;
    if (!(out->files = lf_arena_alloc(arena, files->n, sizeof *out->files)))
        return lf_no_memory(err);
    for (size_t i = 0; i < files->n; i++)
        LF_TRY(read_file(files->value[i], &out->files[i], err));
    return LORAFMT_OK;
}

static lorafmt_status read_adapters(const lk_yaml *root, lf_arena *arena, lk_lock *out, lorafmt_error *err)
{
    const lk_yaml *adapters;

    LF_TRY(lk_yaml_require(root, "adapters", &adapters, err));
    LF_TRY(lk_yaml_mapping(adapters, NULL, err));
    out->n_adapters = adapters->n;
    if (!(out->adapters = lf_arena_alloc(arena, adapters->n, sizeof *out->adapters)))
        return lf_no_memory(err);
    for (size_t i = 0; i < adapters->n; i++) {
        out->adapters[i].name = adapters->value[i]->key->text;
        LF_TRY(lk_yaml_sha256(adapters->value[i], out->adapters[i].id, err));
    }
    return LORAFMT_OK;
}

/* A link is there wherever it leads: a lock that cannot be read is not as if there were none. */
static lorafmt_status is_there(const char *path, bool *out, lorafmt_error *err)
{
    struct stat st;

    *out = lstat(path, &st) == 0;
    return *out || errno == ENOENT ? LORAFMT_OK : lf_fail_os(err, errno, path, "cannot look at it");
}

lorafmt_status lk_lock_read(const char *path, const lorafmt_limits *limits, lf_arena *arena, bool *found, lk_lock *out,
                            lorafmt_error *err)
{
    static const char *const keys[] = {"version", "arithmetic", "base", "adapters", NULL};
    const lk_yaml *root;

    *out = (lk_lock){0};
    LF_TRY(is_there(path, found, err));
    if (!*found)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_load(path, limits, arena, &root, err));
    LF_TRY(read_version(root, err));
    LF_TRY(lk_yaml_mapping(root, keys, err));
    LF_TRY(read_arithmetic(root, out, err));
    LF_TRY(read_base(root, arena, out, err));
    return read_adapters(root, arena, out, err);
}

/* --- writing --- */

static void print_quoted(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static lorafmt_status print_base(lorakit_scenarios *set, FILE *to, lorafmt_error *err)
{
    char hex[LF_HEX_SIZE];

    LF_TRY(lk_base_digest(set, err));
    fprintf(to, "base:\n  structure: \"%s\"\n  files:\n", lf_hex(set->structure, hex));
    for (size_t i = 0; i < set->n_files; i++) {
        if (!lf_name_valid(set->files[i].name, strlen(set->files[i].name)))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "base.files",
                           "a file of the base has a name that is no text: %s", set->files[i].name);
        fputs("    ", to);
        print_quoted(to, set->files[i].name);
        fprintf(to, ": {size: %" PRIu64 ", sha256: \"%s\"}\n", set->files[i].size, lf_hex(set->files[i].sha256, hex));
    }
    return LORAFMT_OK;
}

static lorafmt_status print_adapters(lorakit_scenarios *set, FILE *to, lorafmt_error *err)
{
    const lorakit_manifest *m = set->manifest;
    char hex[LF_HEX_SIZE];

    fputs(m->n_adapters ? "adapters:\n" : "adapters: {}\n", to);
    for (size_t i = 0; i < m->n_adapters; i++) {
        const lk_opened *opened;
        LF_TRY(lk_set_adapter(set, i, &opened, err));
        fputs("  ", to);
        print_quoted(to, m->adapters[i].name);
        fprintf(to, ": \"%s\"\n", lf_hex(opened->id, hex));
    }
    return LORAFMT_OK;
}

static lorafmt_status print_lock(lorakit_scenarios *set, FILE *to, lorafmt_error *err)
{
    fprintf(
        to,
        "# What the manifest beside this names, as it was when `lorapack lock` wrote it. `lorapack lock --update` writes it anew.\n"
        "version: %d\narithmetic: %d\n",
        VERSION, LORAKIT_ARITHMETIC);
    LF_TRY(print_base(set, to, err));
    return print_adapters(set, to, err);
}

static lorafmt_status check_size(const lorakit_scenarios *set, const lk_text *text, lorafmt_error *err)
{
    const uint64_t most = lorafmt_limit_most(LORAFMT_LIMIT_YAML_SIZE);

    if (text->size <= most)
        return LORAFMT_OK;
    lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL,
            "it would have %zu bytes, must be at most %" PRIu64 ": name fewer adapters", text->size, most);
    lf_error_set_file(err, set->lock_path);
    return LORAFMT_LIMIT;
}

/* Does the lock say this? One that cannot be read says something else. */
static lorafmt_status compare(const lorakit_scenarios *set, const lk_text *text, lorakit_lock_state *out, lorafmt_error *err)
{
    lorafmt_status st;
    bool there;
    char *found;
    size_t size;

    *out = LORAKIT_LOCK_ABSENT;
    LF_TRY(is_there(set->lock_path, &there, err));
    if (!there)
        return LORAFMT_OK;
    st = lf_file_load(set->lock_path, lorafmt_limit_most(LORAFMT_LIMIT_YAML_SIZE), &found, &size, NULL);
    if (st == LORAFMT_NO_MEMORY)
        return lf_no_memory(err);
    *out = !st && size == text->size && memcmp(found, text->bytes, size) == 0 ? LORAKIT_LOCK_SAME : LORAKIT_LOCK_OTHER;
    free(found);
    return LORAFMT_OK;
}

static lorafmt_status write_lock(const lorakit_scenarios *set, const lk_text *text, bool force, lorafmt_error *err)
{
    lf_output *output;
    lorafmt_status st;

    LF_TRY(lf_output_begin_file(set->lock_path, force, &output, err));
    st = lf_file_write(lf_output_fd(output), set->lock_path, 0, text->bytes, text->size, err);
    if (!st)
        return lf_output_commit(output, err);
    lf_output_abort(output);
    return st;
}

lorafmt_status lorakit_scenarios_lock(lorakit_scenarios *set, bool write, lorakit_lock_state *found, lorafmt_error *err)
{
    lk_text text;
    lorafmt_status st, ended;

    *found = LORAKIT_LOCK_ABSENT;
    LF_TRY(lk_text_begin(&text, err));
    st = print_lock(set, text.stream, err);
    ended = lk_text_finish(&text, st ? NULL : err);
    if (!st && !(st = ended))
        st = check_size(set, &text, err);
    if (!st)
        st = lk_lock_check_removed(set, err);
    if (!st)
        st = compare(set, &text, found, err);
    if (!st && write && *found != LORAKIT_LOCK_SAME)
        st = write_lock(set, &text, *found == LORAKIT_LOCK_OTHER, err);
    free(text.bytes);
    return st;
}

const char *lorakit_scenarios_lock_path(const lorakit_scenarios *set)
{
    return set->lock_path;
}
