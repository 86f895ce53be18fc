/* SPDX-License-Identifier: MIT */
#include "tools/tokenizer.h"

#include "tools/message.h"
#include "tools/path.h"
#include "tools/text.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *const files[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
};

static FILE *open_in(const char *directory, const char *name)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", directory, name);

    return n > 0 && (size_t)n < sizeof path ? fopen(path, "rb") : NULL;
}

static bool same_content(FILE *a, FILE *b)
{
    char x[4096], y[4096];
    size_t n, m;

    do {
        n = fread(x, 1, sizeof x, a);
        m = fread(y, 1, sizeof y, b);
        if (n != m || memcmp(x, y, n) != 0)
            return false;
    } while (n == sizeof x);
    return true;
}

/* Is the adapter's file there and other than the base's? */
static bool differs(const char *base, const char *adapter, const char *name)
{
    FILE *a = open_in(adapter, name), *b = a ? open_in(base, name) : NULL;
    const bool differ = a && (!b || !same_content(a, b));

    if (a)
        fclose(a);
    if (b)
        fclose(b);
    return differ;
}

void tokenizer_compare(const char *base, const char *adapter)
{
    char list[256] = "";

    if (!path_is_directory(base) || !path_is_directory(adapter))
        return;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (differs(base, adapter, files[i]))
            text_append(list, sizeof list, "%s%s", list[0] ? ", " : "", files[i]);
    if (list[0])
        message_note("%s ships a tokenizer of its own (%s); the merged model keeps what the base has", adapter, list);
}
