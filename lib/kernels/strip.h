/* SPDX-License-Identifier: MIT */
/*
 * What the levels' loops are made of: a strip is LF_PANEL columns of a row in f32. x86/strip_avx2.h, x86/strip_avx512.h and
 * arm/strip_neon.h each give
 *
 *   INLINE                           what inline functions begin with, and the attribute that allows the instructions, TARGET
 *   vec, vec_set(float)              one number in every lane
 *   strip, strip_zero(), strip_load(const float *), strip_store(float *, strip)
 *   strip_fma(vec a, strip b, strip c), strip_fma_each(strip a, strip b, strip c): a * b + c
 *   strip_keep(strip)                it, in a register: what is read more than once, which a compiler may read again each time
 *   strip_fold(strip)                its one sum, as lf_fold says
 *   strip_even(strip, strip), strip_odd(strip, strip): of the words of both, one after the other, every other one
 *   strip_widen(lf_real, src)        exact
 *   strip_widen_half(lf_real, strip, bool high): of words that are pairs of F16 or BF16 the first of each, or the second; exact
 *   strip_narrow(lf_real, strip, dst, bool stream) rounds to nearest even, NaN becomes canonical; tells what came out NaN or infinite
 *   flags, flags_none(), flags_or(flags, flags), flags_any(flags)
 */
#ifndef LF_KERNELS_STRIP_H
#define LF_KERNELS_STRIP_H

#include "lib/kernels/kernels.h"

#if defined(UNROLL)
#elif defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" // with sanitizers not all loops can be
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define STRIP_SIZE (LF_PANEL * sizeof(float)) // of any type, at most
#define CACHE_LINE 64

/* Bytes of each row ahead that are due with each of n_tiles. */
static inline size_t ahead_step(const lf_ahead *a, size_t n_tiles)
{
    return n_tiles ? (a->size / n_tiles + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE : 0;
}

/* Into a second-level cache, for the first is full of what is at hand. */
static inline void fetch_ahead(const lf_ahead *a, size_t from, size_t n)
{
    for (size_t i = 0; i < a->n_rows; i++)
        for (size_t k = from; k < from + n && k < a->size; k += CACHE_LINE)
            __builtin_prefetch((const uint8_t *)a->rows + i * a->stride + k, 0, 2);
}

#endif
