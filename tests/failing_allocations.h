/* SPDX-License-Identifier: MIT */
/*
 * Memory that is not given, of the heap or of an arena, and how much was not given back: for one test program, linked with
 * allocation_wraps of meson.build. An arena rarely asks the heap; here each request to it may fail, too.
 */
#ifndef TESTS_FAILING_ALLOCATIONS_H
#define TESTS_FAILING_ALLOCATIONS_H

#include "format/base/arena.h"
#include "lorafmt/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>

#include <cmocka.h>

static long fail_at = -1; /* the call that fails, counted from 0; -1 = none */
static atomic_long n_calls, n_held;

static bool is_refused(void)
{
    errno = ENOMEM;
    return n_calls++ == fail_at;
}

static void *held(void *p)
{
    n_held += p != NULL;
    return p;
}

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes

#define WRAP_ALLOCATION(type, name, parameters, result)                                                                          \
    type __real_##name parameters;                                                                                               \
    type __wrap_##name parameters;                                                                                               \
    type __wrap_##name parameters                                                                                                \
    {                                                                                                                            \
        return is_refused() ? NULL : (result);                                                                                   \
    }

WRAP_ALLOCATION(void *, malloc, (size_t size), held(__real_malloc(size)))
WRAP_ALLOCATION(void *, calloc, (size_t n, size_t size), held(__real_calloc(n, size)))
WRAP_ALLOCATION(void *, realloc, (void *p, size_t size), p ? __real_realloc(p, size) : held(__real_realloc(p, size)))
WRAP_ALLOCATION(char *, strdup, (const char *s), held(__real_strdup(s)))
WRAP_ALLOCATION(char *, strndup, (const char *s, size_t n), held(__real_strndup(s, n)))
WRAP_ALLOCATION(char *, realpath, (const char *path, char *resolved), held(__real_realpath(path, resolved)))

/* What is held is the text that it leaves when it is closed. */
WRAP_ALLOCATION(FILE *, open_memstream, (char **text, size_t *size), held(__real_open_memstream(text, size)))

WRAP_ALLOCATION(void *, lf_arena_alloc, (lf_arena * arena, size_t n, size_t size), __real_lf_arena_alloc(arena, n, size))
WRAP_ALLOCATION(void *, lf_arena_alloc_dirty, (lf_arena * arena, size_t n, size_t size),
                __real_lf_arena_alloc_dirty(arena, n, size))
WRAP_ALLOCATION(char *, lf_arena_strdup, (lf_arena * arena, const char *s), __real_lf_arena_strdup(arena, s))
WRAP_ALLOCATION(char *, lf_arena_strndup, (lf_arena * arena, const char *s, size_t n), __real_lf_arena_strndup(arena, s, n))

char *__wrap_lf_arena_printf(lf_arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *__wrap_lf_arena_printf(lf_arena *arena, const char *format, ...)
{
    va_list args, again;
    char *text;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    text = is_refused() ? NULL : __real_lf_arena_alloc(arena, (size_t)n + 1, 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p)
{
    n_held -= p != NULL;
    __real_free(p);
}

// NOLINTEND(bugprone-reserved-identifier)

/* What is run again and again: it gives back all that it made. */
typedef lorafmt_status operation(const void *ctx, lorafmt_error *err);

/*
 * Runs it until no call is left that could fail. Each time it says that there is no memory, or does without; then it is as if nothing
 * had been. Returns how many calls it could do without.
 */
static inline unsigned refuse_each(operation *run, const void *ctx)
{
    unsigned n_without = 0;

    for (long at = 0;; at++) {
        const long held_before = n_held;
        lorafmt_error err = {0};
        lorafmt_status st;
        bool done;

        n_calls = 0;
        fail_at = at;
        st = run(ctx, &err);
        fail_at = -1;
        done = n_calls <= at;
        if (n_held != held_before)
            fail_msg("allocation %ld: %ld are held", at, n_held - held_before);
        if (st != LORAFMT_OK && (done || st != LORAFMT_NO_MEMORY || st != err.status))
            fail_msg("allocation %ld: %d: %s: %s: %s", at, (int)st, err.file, err.field, err.text);
        if (done)
            return n_without;
        n_without += st == LORAFMT_OK;
    }
}

#endif
