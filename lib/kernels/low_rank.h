/* SPDX-License-Identifier: MIT */
/*
 * The low-rank update, once for each level of instructions that the CPU may have. Every level gives the same bytes: lanes run over
 * columns, so each element sees the same operations in the same order.
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

typedef struct lf_kernels {
    lf_low_rank_f32 *low_rank_f32;
    lf_low_rank_f64 *low_rank_f64;
} lf_kernels;

/* Levels above scalar. */
enum { LF_CPU_FMA = 1u << 0 }; /* x86: AVX2 and FMA */

/* What this CPU has. */
unsigned lf_cpu_flags(void);

/* The best kernels for these levels. */
void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags);

#if defined(__x86_64__)
void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags);
#endif

#endif
