/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"
#include "lib/model/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ONE_FILE "model.safetensors"
#define ONE_INDEX "model.safetensors.index.json"
#define ADAPTER "adapter_model.safetensors"

typedef struct listing {
    char **names;
    size_t n;
} listing;

typedef bool (*matcher)(const char *name);

/* Other systems leave hidden files with the names of visible ones, as ._model.safetensors. */
static bool is_weights(const char *name)
{
    return name[0] != '.' && lf_ends_with(name, ".safetensors") && strcmp(name, ADAPTER) != 0;
}

static bool is_index(const char *name)
{
    return name[0] != '.' && lf_ends_with(name, ".safetensors.index.json");
}

static bool is_pickle(const char *name)
{
    return lf_ends_with(name, ".bin") || lf_ends_with(name, ".pt") || lf_ends_with(name, ".pth") || lf_ends_with(name, ".ckpt");
}

static bool is_gguf(const char *name)
{
    return lf_ends_with(name, ".gguf");
}

static bool is_adapter(const char *name)
{
    return strcmp(name, "adapter_config.json") == 0 || strcmp(name, ADAPTER) == 0;
}

static const char *named(const listing *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->names[i], name) == 0)
            return l->names[i];
    return NULL;
}

/* The first that matches, and how many do. */
static const char *first(const listing *l, matcher matches, size_t *n)
{
    const char *found = NULL;

    *n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (matches(l->names[i]) && (*n)++ == 0)
            found = l->names[i];
    return found;
}

/* "a, b, c" into buf, as far as it fits. */
static const char *all(const listing *l, matcher matches, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < l->n && used < size; i++)
        if (matches(l->names[i]))
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", l->names[i]);
    return buf;
}

/* "model-00002-of-00003.safetensors": one of several, which alone would pass for a base with few tensors. */
static bool is_shard_of_many(const char *name)
{
    const char *of = strstr(name, "-of-");
    char *end;

    return of && strtoul(of + 4, &end, 10) > 1 && strcmp(end, ".safetensors") == 0;
}

static lorafmt_status no_base(const listing *l, lorafmt_error *err)
{
    char names[512];
    size_t n;

    if (first(l, is_adapter, &n))
        return lf_fail(err, LORAFMT_NOT_LORAFMT, LORAFMT_NO_OFFSET, NULL, "this is an adapter (%s), not a base model",
                       all(l, is_adapter, names, sizeof names));
    if (first(l, is_pickle, &n))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "holds pickles (%s), which are never opened: load the model with transformers and write it with "
                       "`save_pretrained(DIR, safe_serialization=True)`",
                       all(l, is_pickle, names, sizeof names));
    if (first(l, is_gguf, &n))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "holds GGUF files (%s), which cannot be read here: a base must be safetensors",
                       all(l, is_gguf, names, sizeof names));
    return lf_fail(err, LORAFMT_NOT_LORAFMT, LORAFMT_NO_OFFSET, NULL, "holds no .safetensors file");
}

static lorafmt_status choose_file(const listing *l, const char **out, lorafmt_error *err)
{
    char names[512];
    size_t n;

    *out = first(l, is_weights, &n);
    if (n == 0)
        return no_base(l, err);
    if (n > 1)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "holds %zu .safetensors files without an index, must be one or come with " ONE_INDEX ": %s", n,
                       all(l, is_weights, names, sizeof names));
    if (is_shard_of_many(*out))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, *out, "one shard of several, without " ONE_INDEX);
    return LORAFMT_OK;
}

static lorafmt_status choose_index(const listing *l, const char **out, lorafmt_error *err)
{
    char names[512];
    size_t n;

    *out = named(l, ONE_INDEX);
    if (*out)
        return LORAFMT_OK;
    *out = first(l, is_index, &n);
    if (n > 1)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "holds %zu shard indexes, must be one or " ONE_INDEX ": %s", n, all(l, is_index, names, sizeof names));
    return LORAFMT_OK;
}

static lorafmt_status choose(const listing *l, lf_arena *arena, lf_model_choice *out, lorafmt_error *err)
{
    const char *file = named(l, ONE_FILE), *index = NULL;

    if (!file)
        LF_TRY(choose_index(l, &index, err));
    if (!file && !index)
        LF_TRY(choose_file(l, &file, err));
    out->has_config = named(l, "config.json") != NULL;
    out->index = index ? lf_arena_strdup(arena, index) : NULL;
    out->file = index ? NULL : lf_arena_strdup(arena, file);
    return out->index || out->file ? LORAFMT_OK : lf_no_memory(err);
}

lorafmt_status lf_model_choose(const char *directory, lf_arena *arena, lf_model_choice *out, lorafmt_error *err)
{
    listing l = {0};
    lorafmt_status st;

    *out = (lf_model_choice){0};
    LF_TRY(lf_directory_list(directory, &l.names, &l.n, err));
    st = choose(&l, arena, out, err);
    if (st != LORAFMT_OK)
        lf_error_set_file(err, directory);
    lf_names_free(l.names, l.n);
    return st;
}
