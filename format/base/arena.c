/* SPDX-License-Identifier: MIT */
#include "format/base/arena.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE 16384

struct lf_arena_block {
    struct lf_arena_block *next;
    size_t used, size;
    max_align_t bytes[];
};

void *lf_arena_alloc_dirty(lf_arena *arena, size_t n, size_t size)
{
    const size_t align = sizeof(max_align_t);
    struct lf_arena_block *block = arena->head;
    size_t bytes;
    void *p;

    if (size && n > (SIZE_MAX / 2) / size)
        return NULL;
    bytes = (n * size + align - 1) / align * align;
    if (!block || block->size - block->used < bytes) {
        const size_t block_size = bytes > BLOCK_SIZE ? bytes : BLOCK_SIZE;
        block = malloc(sizeof *block + block_size);
        if (!block)
            return NULL;
        block->next = arena->head;
        block->used = 0;
        block->size = block_size;
        arena->head = block;
    }
    p = (char *)block->bytes + block->used;
    block->used += bytes;
    return p;
}

void *lf_arena_alloc(lf_arena *arena, size_t n, size_t size)
{
    void *p = lf_arena_alloc_dirty(arena, n, size);

    if (p)
        memset(p, 0, n * size);
    return p;
}

char *lf_arena_strndup(lf_arena *arena, const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? lf_arena_alloc(arena, n + 1, 1) : NULL;
    if (copy)
        memcpy(copy, s, n);
    return copy;
}

char *lf_arena_strdup(lf_arena *arena, const char *s)
{
    return lf_arena_strndup(arena, s, strlen(s));
}

char *lf_arena_printf(lf_arena *arena, const char *format, ...)
{
    va_list args;
    char *text;
    int n;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !(text = lf_arena_alloc(arena, (size_t)n + 1, 1)))
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

void lf_arena_free(lf_arena *arena)
{
    struct lf_arena_block *block = arena->head;
    while (block) {
        struct lf_arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->head = NULL;
}
