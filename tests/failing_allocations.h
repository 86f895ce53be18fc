/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail, and how many were not given back: for one test program, linked with --wrap of malloc, calloc and free.
 */
#ifndef TESTS_FAILING_ALLOCATIONS_H
#define TESTS_FAILING_ALLOCATIONS_H

#include <stddef.h>

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __wrap_free(void *p);

static long fail_at = -1, n_calls, n_held; /* fail_at: the call that fails, counted from 0; -1 = none */

void *__wrap_malloc(size_t size)
{
    if (n_calls++ == fail_at)
        return NULL;
    n_held++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    if (n_calls++ == fail_at)
        return NULL;
    n_held++;
    return __real_calloc(n, size);
}

void __wrap_free(void *p)
{
    n_held -= p != NULL;
    __real_free(p);
}

// NOLINTEND(bugprone-reserved-identifier)

#endif
