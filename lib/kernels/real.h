/* SPDX-License-Identifier: MIT */
/*
 * Numeric loops on pointers and sizes: widening, narrowing, and the low-rank update. Nothing here allocates, fails, or knows
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

size_t lf_real_size(lf_real type);

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

/*
 * acc[j] = fma(scale, delta_j, acc[j]) for j in [0, n), where delta_j = fma over p = 0 .. rank-1 in order of
 * left[p] * right[p * stride + j], from 0. n is at most LF_TILE.
 */
#define LF_TILE 512
void lf_low_rank_f32(float *acc, size_t n, const float *left, const float *right, size_t stride, size_t rank, float scale);
void lf_low_rank_f64(double *acc, size_t n, const double *left, const double *right, size_t stride, size_t rank, double scale);

#endif
