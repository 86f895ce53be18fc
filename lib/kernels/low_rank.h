/* SPDX-License-Identifier: MIT */
/*
 * The low-rank update and the Gram matrix of a factor, once for each level of instructions that the CPU may have. Every level gives
 * the same bytes: lanes run over columns, so each element sees the same operations in the same order.
 */
#ifndef LF_KERNELS_LOW_RANK_H
#define LF_KERNELS_LOW_RANK_H

#include <stddef.h>

/* Columns that one call takes at most. */
#define LF_TILE 512

/*
 * acc[j] = fma(scale, delta_j, acc[j]) for j in [0, n), where delta_j = fma over p = 0 .. rank-1 in order of
 * left[p] * right[p * stride + j], from 0. n is at most LF_TILE, and may be 0; nothing need be aligned beyond its type.
 */
typedef void lf_low_rank_f32(float *acc, size_t n, const float *left, const float *right, size_t stride, size_t rank,
                             float scale);
typedef void lf_low_rank_f64(double *acc, size_t n, const double *left, const double *right, size_t stride, size_t rank,
                             double scale);

/* One block of a Gram matrix. */
#define LF_GRAM_ROWS 4
#define LF_GRAM_COLS 8

/*
 * gram[p * stride + q] += sum over i = 0 .. n-1 in order, from 0, of x[i * stride + p] * x[i * stride + q], for all p <= q <
 * stride; product and sum are each rounded. What is below the diagonal is unspecified. stride is a multiple of LF_GRAM_COLS.
 */
typedef void lf_gram_f64(double *gram, const double *x, size_t n, size_t stride);

typedef struct lf_kernels {
    lf_low_rank_f32 *low_rank_f32;
    lf_low_rank_f64 *low_rank_f64;
    lf_gram_f64 *gram_f64;
} lf_kernels;

/* Levels above scalar. */
enum { LF_CPU_FMA = 1u << 0 }; /* x86: AVX2 and FMA */

/* What this CPU has. */
unsigned lf_cpu_flags(void);

/* The best kernels for these levels. */
void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags);

lf_gram_f64 lf_gram_f64_scalar;
#if defined(__x86_64__)
lf_gram_f64 lf_gram_f64_avx2;
void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags);
#endif

#endif
