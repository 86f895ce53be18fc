/* SPDX-License-Identifier: MIT */
/* Memory that is freed all at once: what a parser builds belongs to one arena, so a failure half-way leaks nothing. */
#ifndef LF_BASE_ARENA_H
#define LF_BASE_ARENA_H

#include <stddef.h>

typedef struct lf_arena {
    struct lf_arena_block *head;
} lf_arena;

/* n * size zeroed bytes aligned for any type; NULL when out of memory or when the product overflows. n may be 0. */
void *lf_arena_alloc(lf_arena *arena, size_t n, size_t size);

/* The same with any bytes in it: for what is large and written as a whole. */
void *lf_arena_alloc_dirty(lf_arena *arena, size_t n, size_t size);

/* A NUL-terminated copy of n bytes; NULL when out of memory. */
char *lf_arena_strndup(lf_arena *arena, const char *s, size_t n);
char *lf_arena_strdup(lf_arena *arena, const char *s);

/* printf into the arena; NULL when out of memory. */
__attribute__((format(printf, 2, 3))) char *lf_arena_printf(lf_arena *arena, const char *format, ...);

/* Also for an arena that was never used (all zero). */
void lf_arena_free(lf_arena *arena);

#endif
