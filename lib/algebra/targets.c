/* SPDX-License-Identifier: MIT */
#include "lib/algebra/targets.h"

#include "format/base/text.h"

#include <stddef.h>
#include <string.h>

static bool is_one_of(const char *name, const char *const *suffixes)
{
    for (; *suffixes; suffixes++) {
        const size_t n = strlen(name), m = strlen(*suffixes);
        if (lf_ends_with(name, *suffixes) && (n == m || name[n - m - 1] == '.'))
            return true;
    }
    return false;
}

bool lk_is_embedding(const char *name)
{
    static const char *const suffixes[] = {"embed_tokens.weight",
                                           "wte.weight",
                                           "word_embeddings.weight",
                                           "tok_embeddings.weight",
                                           "embed_in.weight",
                                           "shared.weight",
                                           "word_embedding.weight",
                                           "wpe.weight",
                                           "embed_positions.weight",
                                           "position_embeddings.weight",
                                           "token_type_embeddings.weight",
                                           NULL};
    return is_one_of(name, suffixes);
}

bool lk_is_head(const char *name)
{
    static const char *const suffixes[] = {"lm_head.weight", "embed_out.weight", NULL};
    return is_one_of(name, suffixes);
}

/* Whole text against a pattern with stars: going back to the last star is enough. */
static bool matches(const char *pattern, const char *text, const char *end)
{
    const char *star = NULL, *from = NULL;

    while (text < end) {
        if (*pattern == '*') {
            star = pattern++;
            from = text;
        } else if (*pattern == *text && *pattern) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool lk_target_takes(const char *pattern, const char *name)
{
    const char *end = name + strlen(name), *last = strrchr(name, '.');

    if (strcmp(pattern, "all-linear") == 0)
        return lf_ends_with(name, ".weight") && !lk_is_embedding(name) && !lk_is_head(name);
    for (const char *from = name; from; from = strchr(from, '.')) {
        from += *from == '.';
        if (matches(pattern, from, end) || (last && from < last && matches(pattern, from, last)))
            return true;
    }
    return false;
}
