/* SPDX-License-Identifier: MIT */
#include "lib/algebra/names.h"

#include "format/base/text.h"

#include <string.h>

#define WEIGHT ".weight"

/* The last component of a module's name. */
typedef struct component {
    const char *text;
    size_t n;
} component;

/* Of a tensor that is the weight of a module; else nothing. */
static component last_of(const char *tensor)
{
    const size_t n = strlen(tensor);
    const char *end = tensor + n - (sizeof WEIGHT - 1), *at = end;

    if (!lf_ends_with(tensor, WEIGHT))
        return (component){tensor, 0};
    while (at > tensor && at[-1] != '.')
        at--;
    return (component){at, (size_t)(end - at)};
}

static bool last_is_one_of(component l, const char *const *names)
{
    for (; *names; names++)
        if (l.n && lf_glob_matches(*names, l.text, l.n))
            return true;
    return false;
}

bool lk_is_embedding(const char *name)
{
    static const char *const names[] =
        {"embed_tokens*", "embed_positions*",        "*embedding", "*embeddings", "*_emb", "wte", "wpe", "emb", "shared", "embed",
         "embed_in",      "relative_attention_bias", NULL};

    return last_is_one_of(last_of(name), names);
}

bool lk_is_head(const char *name)
{
    static const char *const names[] = {"lm_head", "embed_out", "output_layer", "output", "score", "classifier", NULL};

    return last_is_one_of(last_of(name), names);
}

bool lk_target_takes(const char *pattern, const char *name)
{
    const char *end = name + strlen(name), *last = strrchr(name, '.');

    if (strcmp(pattern, "all-linear") == 0)
        return lf_ends_with(name, ".weight") && !lk_is_embedding(name) && !lk_is_head(name);
    for (const char *from = name; from; from = strchr(from, '.')) {
        from += *from == '.';
        if (lf_glob_matches(pattern, from, (size_t)(end - from)) ||
            (last && from < last && lf_glob_matches(pattern, from, (size_t)(last - from))))
            return true;
    }
    return false;
}
