/* SPDX-License-Identifier: MIT */
#include "lib/scenario/manifest.h"

#include "format/base/error.h"
#include "lib/scenario/choices.h"

#include <stdlib.h>
#include <string.h>

#define MAX_NAME 64
#define MAX_KEYS 64

/* --- values --- */

lorafmt_status lk_manifest_read_dtype(const lk_yaml *node, lorafmt_dtype *out, lorafmt_error *err)
{
    static const char *const words[] = {"f32", "f16", "bf16", NULL};
    static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_F16, LORAFMT_BF16};
    size_t i;

    if (!node)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_choice(node, words, &i, err));
    *out = dtypes[i];
    return LORAFMT_OK;
}

static bool is_letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

lorafmt_status lk_manifest_check_name(const lk_yaml *node, lorafmt_error *err)
{
    const char *name = node->key->text;
    size_t n = 0;

    while (is_letter_or_digit(name[n]) || (n && name[n] && strchr("._-", name[n])))
        n++;
    if (n && n <= MAX_NAME && !name[n])
        return LORAFMT_OK;
    return lk_yaml_fail(node->key, LORAFMT_CORRUPT, err,
                        "not a name: must be 1 to %d of A-Z a-z 0-9 . _ - and begin with a letter or digit", MAX_NAME);
}

static lorafmt_status read_optional_text(const lk_yaml *node, const char **out, lorafmt_error *err)
{
    return node ? lk_yaml_nonempty(node, out, err) : LORAFMT_OK;
}

static lorafmt_status read_optional_sha256(const lk_yaml *node, bool *has, uint8_t out[32], lorafmt_error *err)
{
    *has = node != NULL;
    return node ? lk_yaml_sha256(node, out, err) : LORAFMT_OK;
}

/* Of what is its path alone, or a mapping with these keys and a path. */
static lorafmt_status find_path(const lk_yaml *node, const char *const *keys, const lk_yaml **path, lorafmt_error *err)
{
    *path = node;
    if (node->kind == LK_YAML_SCALAR)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_mapping(node, keys, err));
    return lk_yaml_require(node, "path", path, err);
}

/* --- the base: spec/manifest.md 3.2 --- */

static lorafmt_status read_base(lk_manifest *m, const lk_yaml *node, lorafmt_error *err)
{
    static const char *const keys[] = {"path", "name", "revision", "structure", "sha256", NULL};
    lorakit_manifest_base *base = &m->shown.base;
    const lk_yaml *path;

    LF_TRY(find_path(node, keys, &path, err));
    LF_TRY(lk_manifest_read_path(m, path, &base->path, err));
    if (path == node)
        return LORAFMT_OK;
    LF_TRY(read_optional_text(lk_yaml_get(node, "name"), &base->name, err));
    LF_TRY(read_optional_text(lk_yaml_get(node, "revision"), &base->revision, err));
    LF_TRY(read_optional_sha256(lk_yaml_get(node, "structure"), &base->has_structure, base->structure, err));
    return read_optional_sha256(lk_yaml_get(node, "sha256"), &base->has_sha256, base->sha256, err);
}

/* --- whose adapters: spec/manifest.md 3.6 --- */

static lorafmt_status read_keys(lk_manifest *m, const lk_yaml *node, lorafmt_error *err)
{
    const char **keys;

    if (!node)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_sequence(node, err));
    if (node->n == 0)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err,
                            "names no key, must name at least one; without the key anybody's will do");
    if (node->n > MAX_KEYS)
        return lk_yaml_fail(node, LORAFMT_LIMIT, err, "%zu keys, at most %d", node->n, MAX_KEYS);
    if (!(m->shown.keys = keys = lf_arena_alloc(&m->arena, node->n, sizeof *keys)))
        return lf_no_memory(err);
    for (size_t i = 0; i < node->n; i++)
        LF_TRY(lk_manifest_read_path(m, node->value[i], &keys[i], err));
    m->shown.n_keys = node->n;
    return LORAFMT_OK;
}

static lorafmt_status read_signature(lk_manifest *m, const lk_yaml *node, const char **out, lorafmt_error *err)
{
    if (!node)
        return LORAFMT_OK;
    if (!m->shown.n_keys)
        return lk_yaml_fail(node->key, LORAFMT_CORRUPT, err, "nobody would check it: the manifest has no require-signature");
    return lk_manifest_read_path(m, node, out, err);
}

/* --- adapters: spec/manifest.md 3.3 --- */

static lorafmt_status read_map(lk_manifest *m, const lk_yaml *node, lorakit_manifest_adapter *adapter, lorafmt_error *err)
{
    lorafmt_rename *map;

    LF_TRY(lk_yaml_mapping(node, NULL, err));
    adapter->map = map = lf_arena_alloc(&m->arena, node->n, sizeof *map);
    if (!map)
        return lf_no_memory(err);
    for (size_t i = 0; i < node->n; i++) {
        map[i].from = node->value[i]->key->text;
        LF_TRY(lk_yaml_text(node->value[i], &map[i].to, err));
    }
    adapter->n_map = node->n;
    return LORAFMT_OK;
}

/* As on the command line, where `select` has no place of its own. */
static lorafmt_status refuse_number_sign(const lk_yaml *path, lorafmt_error *err)
{
    const char *at = path->kind == LK_YAML_SCALAR ? strstr(path->text, ".lora#") : NULL;

    return at ? lk_yaml_fail(path, LORAFMT_CORRUPT, err,
                             "an adapter of a file of several is chosen by the key select: %.64s, not by #",
                             at + strlen(".lora#"))
              : LORAFMT_OK;
}

static lorafmt_status read_adapter(lk_manifest *m, const lk_yaml *node, lorakit_manifest_adapter *adapter, lorafmt_error *err)
{
    static const char *const keys[] = {"path", "select", "id", "map", "signature", NULL};
    const lk_yaml *path, *map;

    LF_TRY(lk_manifest_check_name(node, err));
    adapter->name = node->key->text;
    LF_TRY(find_path(node, keys, &path, err));
    LF_TRY(refuse_number_sign(path, err));
    LF_TRY(lk_manifest_read_path(m, path, &adapter->path, err));
    if (path == node)
        return LORAFMT_OK;
    LF_TRY(read_optional_text(lk_yaml_get(node, "select"), &adapter->selected, err));
    LF_TRY(read_optional_sha256(lk_yaml_get(node, "id"), &adapter->has_id, adapter->id, err));
    LF_TRY(read_signature(m, lk_yaml_get(node, "signature"), &adapter->signature, err));
    map = lk_yaml_get(node, "map");
    return map ? read_map(m, map, adapter, err) : LORAFMT_OK;
}

static lorafmt_status read_adapters(lk_manifest *m, const lk_yaml *node, lorafmt_error *err)
{
    lorakit_manifest_adapter *adapters;

    if (!node)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_mapping(node, NULL, err));
    m->shown.adapters = adapters = lf_arena_alloc(&m->arena, node->n, sizeof *adapters);
    if (!adapters)
        return lf_no_memory(err);
    for (size_t i = 0; i < node->n; i++)
        LF_TRY(read_adapter(m, node->value[i], &adapters[i], err));
    m->shown.n_adapters = node->n;
    return LORAFMT_OK;
}

/* --- the whole --- */

static lorafmt_status check_version(const lk_yaml *root, lorafmt_error *err)
{
    const lk_yaml *node;
    double version;

    LF_TRY(lk_yaml_mapping(root, NULL, err));
    LF_TRY(lk_yaml_require(root, "version", &node, err));
    LF_TRY(lk_yaml_number(node, &version, err));
    return version == 1 ? LORAFMT_OK
                        : lk_yaml_fail(node, LORAFMT_UNSUPPORTED, err, "%.64s, this reader knows version 1", node->text);
}

static lorafmt_status read_defaults(lk_manifest *m, const lk_yaml *root, lorafmt_dtype *dtype, lorafmt_error *err)
{
    static const char *const keys[] = {"dtype", "output", NULL};
    const lk_yaml *node = lk_yaml_get(root, "defaults"), *output = NULL;

    if (node) {
        LF_TRY(lk_yaml_mapping(node, keys, err));
        LF_TRY(lk_manifest_read_dtype(lk_yaml_get(node, "dtype"), dtype, err));
        output = lk_yaml_get(node, "output");
    }
    if (output)
        return lk_manifest_read_path(m, output, &m->shown.output, err);
    m->shown.output = lk_manifest_join(m, "build");
    return m->shown.output ? lk_manifest_check_beneath(m, m->shown.output, root, err) : lf_no_memory(err);
}

static lorafmt_status read_root(lk_manifest *m, const lk_yaml *root, lorafmt_error *err)
{
    static const char *const keys[] = {"version",  "base",     "roots",     "require-signature",
                                       "adapters", "defaults", "scenarios", NULL};
    lorafmt_dtype default_dtype = (lorafmt_dtype)0;
    const lk_yaml *base;

    LF_TRY(check_version(root, err));
    LF_TRY(lk_yaml_mapping(root, keys, err));
    LF_TRY(lk_yaml_require(root, "base", &base, err));
    LF_TRY(lk_manifest_read_roots(m, lk_yaml_get(root, "roots"), err));
    LF_TRY(read_base(m, base, err));
    LF_TRY(read_keys(m, lk_yaml_get(root, "require-signature"), err));
    LF_TRY(read_adapters(m, lk_yaml_get(root, "adapters"), err));
    LF_TRY(read_defaults(m, root, &default_dtype, err));
    return lk_manifest_read_scenarios(m, root, default_dtype, err);
}

static char *directory_of(lf_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return lf_arena_strdup(arena, ".");
    return lf_arena_strndup(arena, path, slash == path ? 1 : (size_t)(slash - path));
}

static lorafmt_status read_manifest(lk_manifest *m, const char *path, const lorafmt_limits *limits, lorafmt_error *err)
{
    const lk_yaml *root;

    m->shown.path = lf_arena_strdup(&m->arena, path);
    m->shown.directory = directory_of(&m->arena, path);
    if (!m->shown.path || !m->shown.directory)
        return lf_no_memory(err);
    LF_TRY(lk_yaml_load(m->shown.path, limits, &m->arena, &root, err));
    return read_root(m, root, err);
}

lorafmt_status lorakit_manifest_open(const char *path, const lorafmt_limits *limits, lorakit_manifest **out, lorafmt_error *err)
{
    lk_manifest *m;
    lorafmt_status st;

    *out = NULL;
    LF_TRY(lorafmt_limits_check(limits, err));
    if (!(m = calloc(1, sizeof *m)))
        return lf_no_memory(err);
    st = read_manifest(m, path, limits, err);
    if (st)
        lorakit_manifest_free(&m->shown);
    else
        *out = &m->shown;
    return st;
}

void lorakit_manifest_free(lorakit_manifest *manifest)
{
    lk_manifest *m = (lk_manifest *)(void *)manifest;

    if (m)
        lf_arena_free(&m->arena);
    free(m);
}

lorafmt_status lorakit_manifest_find(const lorakit_manifest *manifest, const char *name, size_t *out, lorafmt_error *err)
{
    lk_choices choices = lk_choices_begin(name);
    lorafmt_status st;

    *out = 0;
    for (size_t i = 0; i < manifest->n_scenarios; i++) {
        if (strcmp(manifest->scenarios[i].name, name) == 0) {
            *out = i;
            return LORAFMT_OK;
        }
        lk_choices_add(&choices, manifest->scenarios[i].name);
    }
    st =
        lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, "scenarios", "%.64s is not there; %s", name, lk_choices_end(&choices));
    lf_error_set_file(err, manifest->path);
    return st;
}
