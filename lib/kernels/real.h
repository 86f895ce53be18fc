/* SPDX-License-Identifier: MIT */
/*
 * Numeric loops on pointers and sizes: widening, narrowing, and what narrowing did. Nothing here allocates, fails, or knows
 * what a tensor is. Every loop accepts n = 0. Exact results: spec 7.
 *
 * Callers hold an lf_fpenv (fpenv.h), so that rounding is to nearest even and subnormals are kept.
 */
#ifndef LF_KERNELS_REAL_H
#define LF_KERNELS_REAL_H

#include <stddef.h>
#include <stdint.h>

/* The types the arithmetic reads and writes. Values are little-endian in memory and need not be aligned. */
typedef enum lf_real { LF_REAL_F32, LF_REAL_F16, LF_REAL_BF16, LF_REAL_F64 } lf_real;

static inline size_t lf_real_size(lf_real type)
{
    return type == LF_REAL_F64 ? 8 : type == LF_REAL_F32 ? 4 : 2;
}

/* Elements that loops with a buffer on the stack take at once. */
#define LF_TILE 512

/* Exact, but that F64 -> float rounds: use lf_widen_f64 for F64. A signalling NaN may become quiet. */
void lf_widen_f32(lf_real from, const void *src, float *dst, size_t n);
void lf_widen_f64(lf_real from, const void *src, double *dst, size_t n);

/* Elements that came out as NaN or infinite. */
typedef struct lf_tally {
    uint64_t n_nan, n_inf;
} lf_tally;

/* One rounding, to nearest even, subnormals kept; NaN becomes the positive canonical quiet NaN. Adds to *tally. */
void lf_narrow_f32(lf_real to, const float *src, void *dst, size_t n, lf_tally *tally);
void lf_narrow_f64(lf_real to, const double *src, void *dst, size_t n, lf_tally *tally);

/* Count n elements that were narrowed. */
void lf_tally_add(lf_real type, const void *data, size_t n, lf_tally *tally);

/*
 * What became of elements: d = x - base, where x is what was rounded, in its own type; r = result - base. Elements with d or r not
 * finite are in n_unchanged alone, and max_ulp is of equal types alone: the most steps from base to result.
 */
typedef struct lf_change {
    uint64_t n_unchanged, max_ulp;
    double sum_asked, sum_realised, sum_along; /* of d d, r r, d r */
} lf_change;

void lf_change_add_f32(lf_real from, const void *base, const float *x, lf_real to, const void *result, size_t n,
                       lf_change *change);
void lf_change_add_f64(lf_real from, const void *base, const double *x, lf_real to, const void *result, size_t n,
                       lf_change *change);

#endif
