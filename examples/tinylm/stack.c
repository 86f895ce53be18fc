/* SPDX-License-Identifier: MIT */
#include "stack.h"

#include "fail.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A path may hold an = of its own: only what ends in a number has a weight. */
static parse_result parse_item(char *text, stack_item *out)
{
    char *at = strrchr(text, '='), *end;

    *out = (stack_item){.path = text, .weight = 1};
    if (at && at[1]) {
        const double weight = strtod(at + 1, &end);
        if (!*end) {
            out->weight = weight;
            *at = '\0';
        }
    }
    return *text && isfinite(out->weight) ? PARSED : PARSE_WRONG;
}

parse_result stack_add(stack *s, char *text)
{
    while (text) {
        char *plus = strchr(text, '+');
        stack_item *items = realloc(s->items, (s->n + 1) * sizeof *items);
        if (!items)
            return PARSE_NO_MEMORY;
        s->items = items;
        if (plus)
            *plus++ = '\0';
        if (parse_item(text, &s->items[s->n++]) != PARSED)
            return PARSE_WRONG;
        text = plus;
    }
    return PARSED;
}

void stack_free(stack *s)
{
    stack_close(s);
    free(s->items);
}

void stack_name(const stack *s, char *out, size_t size)
{
    size_t used = 0;

    for (size_t i = 0; i < s->n && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? "+" : "", s->items[i].path);
}

static uint64_t size_of_file(const char *path)
{
    struct stat facts;

    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode) ? (uint64_t)facts.st_size : 0;
}

/* Of a PEFT directory, the two files that are read. */
static uint64_t size_of(const stack_item *item)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors"};
    uint64_t size = size_of_file(item->path);

    for (size_t i = 0; i < 2 && lorafmt_source_get_kind(item->source) == LORAFMT_SOURCE_PEFT; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", item->path, names[i]);
        size += size_of_file(path);
    }
    return size;
}

static lorafmt_status open_item(stack_item *item, const lorafmt_base *base, lorafmt_stack_entry *out, lorafmt_error *err)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .base = base};

    if (lorafmt_source_open(item->path, &options, &item->source, err))
        return err->status;
    for (size_t i = 0; i < lorafmt_source_n_notes(item->source); i++)
        fprintf(stderr, "tinylm: note: %s: %s\n", item->path, lorafmt_source_note(item->source, i));
    item->file_size = size_of(item);
    out->weight = item->weight;
    return lorafmt_source_choose(item->source, NULL, &out->adapter, err);
}

lorafmt_status stack_open(stack *s, const lorafmt_base *base, lorafmt_error *err)
{
    s->entries = calloc(s->n + 1, sizeof *s->entries);
    if (!s->entries)
        return fail_memory(err);
    for (size_t i = 0; i < s->n; i++)
        if (open_item(&s->items[i], base, &s->entries[i], err))
            return err->status;
    return LORAFMT_OK;
}

void stack_close(stack *s)
{
    for (size_t i = 0; i < s->n; i++) {
        lorafmt_source_free(s->items[i].source);
        s->items[i].source = NULL;
    }
    free(s->entries);
    s->entries = NULL;
}
