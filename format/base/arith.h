/* SPDX-License-Identifier: MIT */
/* Checked arithmetic: every sum or product of numbers from a file goes through here. */
#ifndef LF_BASE_ARITH_H
#define LF_BASE_ARITH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* false when the result does not fit; *out is then unspecified. */
static inline bool lf_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    *out = a + b;
    return *out >= a;
}

static inline bool lf_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    *out = a * b;
    return (a | b) <= UINT32_MAX || a == 0 || *out / a == b; // dividing takes longer than all else that a record is checked for
}

static inline bool lf_u64_to_size(uint64_t a, size_t *out)
{
    *out = (size_t)a;
    return *out == a;
}

/* x rounded up to a multiple of align, a power of two. The caller knows that it fits. */
static inline uint64_t lf_round_up(uint64_t x, uint64_t align)
{
    return (x + align - 1) & ~(align - 1);
}

#endif
