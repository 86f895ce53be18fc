/* SPDX-License-Identifier: MIT */
/*
 * The low-rank update and the Gram matrix of a factor, once for each level of instructions that the CPU may have. Every level gives
 * the same bytes: lanes run over columns, so each element sees the same operations in the same order.
 */
#ifndef LF_KERNELS_LOW_RANK_H
#define LF_KERNELS_LOW_RANK_H

#include "lib/kernels/real.h"

#include <stddef.h>

/* Columns that one call of the row kernels takes at most. */
#define LF_TILE 512

/*
 * In f32 the right factor [rank x cols] is kept in panels of LF_PANEL columns, one after the other: element (p, j) is at
 * panels[lf_panel_at(rank, j) + p * LF_PANEL]. The last panel is filled up with zeros.
 */
#define LF_PANEL 16

static inline size_t lf_panel_at(size_t rank, size_t j)
{
    return j / LF_PANEL * LF_PANEL * rank + j % LF_PANEL;
}

/* Elements of all panels of a matrix. */
static inline size_t lf_panels_size(size_t rank, size_t n_cols)
{
    return (n_cols + LF_PANEL - 1) / LF_PANEL * LF_PANEL * rank;
}

/*
 * acc[j] = fma(scale, delta_j, acc[j]) for j in [0, n), where delta_j = fma over p = 0 .. rank-1 in order of left[p] * right(p, j),
 * from 0. n is at most LF_TILE, and may be 0; nothing need be aligned beyond its type. In f64 right(p, j) is right[p * stride + j].
 */
typedef void lf_low_rank_f32(float *acc, size_t n, const float *left, const float *panels, size_t rank, float scale);
typedef void lf_low_rank_f64(double *acc, size_t n, const double *left, const double *right, size_t stride, size_t rank,
                             double scale);

/* One update of a block of rows: left is [rows x rank]. */
typedef struct lf_update {
    const float *left, *panels;
    size_t rank;
    float scale;
} lf_update;

/* Rows that are read, changed by all updates in order, rounded once and written; src may be dst when the types are one. */
typedef struct lf_block {
    lf_real from, to; /* not F64 */
    const void *src;
    void *dst;
    size_t src_stride, dst_stride; /* bytes from row to row */
    size_t n_rows, n_cols;
    const lf_update *updates;
    size_t n_updates; /* from 1 */
} lf_block;

/* Does to each element of a block what lf_widen_f32, lf_low_rank_f32 for every update and lf_narrow_f32 do to it. */
typedef void lf_merge_block(const lf_block *block, lf_tally *tally);

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
    lf_merge_block *merge_block;
    lf_gram_f64 *gram_f64;
} lf_kernels;

/* Levels above scalar. */
enum { LF_CPU_FMA = 1u << 0 }; /* x86: AVX2, FMA and F16C */

/* What this CPU has. */
unsigned lf_cpu_flags(void);

/* The best kernels for these levels. */
void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags);

lf_gram_f64 lf_gram_f64_scalar;
#if defined(__x86_64__)
lf_gram_f64 lf_gram_f64_avx2;
lf_merge_block lf_merge_block_avx2;
unsigned lf_cpu_flags_x86(void);
void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags);
#endif

#endif
