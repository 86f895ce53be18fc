/* SPDX-License-Identifier: MIT */
/*
 * The loops of the merge arithmetic (spec 7.1) and the Gram matrix of a factor, once for each level of instructions that the CPU
 * may have. Every level gives the same bytes: lanes run over columns, so each element sees the same operations in the same order.
 *
 *   scalar.c         the definition of each loop, in plain C, and the choice of a level
 *   real.c           one type to another, and what rounding did
 *   pack.c           factors of any type and orientation -> what the loops read
 *   merge_impl.h     blocks of rows by tiles that stay in registers: the walk, which the levels share
 *   forward_impl.h   dot products, and factors turned over, likewise
 *   change_impl.h    what rounding did to a tile: what the levels share
 *   x86/, arm/       the levels
 */
#ifndef LF_KERNELS_KERNELS_H
#define LF_KERNELS_KERNELS_H

#include "lib/kernels/real.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * In f32 the right factor [rank x cols] is read in panels of LF_PANEL columns, one after the other: element (p, j) is at
 * panels[lf_panel_at(rank, j) + p * LF_PANEL]. The last panel is filled up with anything finite.
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

/* Rows, of so many bytes each, that are read next: they are fetched meanwhile, some bytes of all with each tile. */
typedef struct lf_ahead {
    const void *rows;
    size_t n_rows, size;
    size_t stride; /* bytes from row to row */
} lf_ahead;

/* One update of a block of rows: left is [rows x rank]. */
typedef struct lf_update {
    const float *left, *panels;
    size_t rank;
    float scale;
} lf_update;

/*
 * Rows that are read, changed by all updates in order, rounded once and written. dst may be src when types and strides are equal;
 * nothing need be aligned.
 */
typedef struct lf_block {
    lf_real from, to; /* not F64 */
    const void *src;
    void *dst;
    size_t src_stride, dst_stride; /* bytes from row to row */
    size_t n_rows, n_cols;
    const lf_update *updates;
    size_t n_updates; /* from 1 */
    lf_ahead ahead;
    lf_change *change; /* what that did is added to it; or NULL */
    bool streamed; /* dst is not src, and too large to be in the cache when it is read: write past that, where it can be done */
} lf_block;

/*
 * For each element (i, j) of a block: x = src(i, j), exactly in f32; for every update x = fma(scale, d, x), where d = fma over
 * p = 0 .. rank-1 in order of left(i, p) * right(p, j), from 0; dst(i, j) = x rounded once, to nearest even.
 */
typedef void lf_merge_block(const lf_block *block, lf_tally *tally);

/*
 * delta[j] = fma over p = 0 .. rank-1 in order of left[p] * right(p, j), from what delta[j] is, for j in [0, n). In f64 right(p, j)
 * is right[p * stride + j].
 */
typedef void lf_multiply_f32(float *delta, size_t n, const float *left, const float *panels, size_t rank);
typedef void lf_multiply_f64(double *delta, size_t n, const double *left, const double *right, size_t stride, size_t rank);

/* x[j] = fma(scale, d[j], x[j]) for j in [0, n). */
typedef void lf_add_scaled_f32(float *x, size_t n, const float *d, float scale);
typedef void lf_add_scaled_f64(double *x, size_t n, const double *d, double scale);

/*
 * lf_widen_f32() of rows that are src_stride bytes apart. Row i begins at dst[i * row_step], and each LF_PANEL of its columns at the
 * next group_step floats.
 */
typedef void lf_widen_rows(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                           size_t row_step, size_t group_step);

/*
 * Rows, src_stride bytes apart, 16 of them turned over into each panel: n columns, element p of row i at
 * panel[p * LF_PANEL + i], widened.
 */
typedef void lf_widen_panels(lf_real from, const void *src, size_t src_stride, size_t n, size_t n_panels, float *panels);

/* Rows of a times rows of x, all of n numbers, a multiple of LF_PANEL, in as many sums as a panel has columns. */
typedef struct lf_dots {
    lf_real a_type, x_type; /* not F64 */
    const void *a;
    size_t a_stride; /* bytes from row to row */
    size_t n_a;
    const void *const *x; /* n_x rows */
    size_t n_x;
    size_t n;
    lf_ahead ahead;
    bool goes_on; /* from what the sums are; otherwise from 0 */
    float *sums;  /* [n_x][n_a][LF_PANEL] */
} lf_dots;

/* For all t, p and k: sums[t][p][k] = fma(a(p, j), x[t][j], that), for j = k, k + LF_PANEL ... in order. */
typedef void lf_add_dots(const lf_dots *dots);

/* Of n sums each: the sums of k and k + 8, of these of k and k + 4, then of k and k + 2 and of k and k + 1. */
typedef void lf_fold(const float *sums, size_t n, float *out);

/* One block of a Gram matrix. */
#define LF_GRAM_ROWS 4
#define LF_GRAM_COLS 8

/*
 * gram[p * stride + q] += sum over i = 0 .. n-1 in order, from 0, of x[i * stride + p] * x[i * stride + q], for all p <= q <
 * stride; product and sum are each rounded. What is below the diagonal is unspecified. stride is a multiple of LF_GRAM_COLS.
 */
typedef void lf_gram_f64(double *gram, const double *x, size_t n, size_t stride);

typedef struct lf_kernels {
    lf_merge_block *merge_block;
    lf_multiply_f32 *multiply_f32;
    lf_multiply_f64 *multiply_f64;
    lf_add_scaled_f32 *add_scaled_f32;
    lf_add_scaled_f64 *add_scaled_f64;
    lf_widen_rows *widen_rows;
    lf_widen_panels *widen_panels;
    lf_add_dots *add_dots;
    lf_fold *fold;
    lf_gram_f64 *gram_f64;
} lf_kernels;

/* Levels above scalar; each holds those before it of the same architecture. */
enum {
    LF_CPU_FMA = 1u << 0,    /* x86: AVX2, FMA and F16C */
    LF_CPU_AVX512 = 1u << 1, /* x86: AVX-512 F, BW, DQ and VL */
    LF_CPU_NEON = 1u << 2,   /* AArch64: all of them */
};

/* What this CPU has. */
unsigned lf_cpu_flags(void);

/* The best kernels for these levels. */
void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags);

/* A factor's matrix as it lies in memory: of any type but F64, each row after the other. */
typedef struct lf_matrix {
    lf_real type;
    const void *data;
    size_t n_cols;   /* from row to row */
    bool transposed; /* (i, j) is meant where (j, i) lies */
} lf_matrix;

/* Elements [row, row + n_rows) x [col, col + n_cols) in panels; the last one is filled up with zeros. */
void lf_pack_panels(const lf_kernels *kernels, const lf_matrix *m, size_t row, size_t n_rows, size_t col, size_t n_cols,
                    float *panels);
/* The same elements, row after row. */
void lf_pack_rows_f32(const lf_kernels *kernels, const lf_matrix *m, size_t row, size_t n_rows, size_t col, size_t n_cols,
                      float *rows);
void lf_pack_rows_f64(const lf_matrix *m, size_t row, size_t n_rows, size_t col, size_t n_cols, double *rows);

/* A tile of whole panels, all elements of one type and finite. */
typedef struct lf_panels {
    const uint8_t *base, *result;
    const float *x;
    size_t base_stride, result_stride; /* bytes from row to row */
    size_t x_stride;                   /* floats */
    size_t n_rows, n_cols;
} lf_panels;

/* lf_change_add_f32() of it; the sums are good to 1e-6. */
typedef void lf_change_add_panels(lf_real type, const lf_panels *panels, lf_change *change);

lf_gram_f64 lf_gram_f64_scalar;
#if defined(__x86_64__)
lf_gram_f64 lf_gram_f64_avx2;
lf_merge_block lf_merge_block_avx2, lf_merge_block_avx512;
lf_multiply_f32 lf_multiply_f32_fma;
lf_multiply_f64 lf_multiply_f64_fma;
lf_add_scaled_f32 lf_add_scaled_f32_fma;
lf_add_scaled_f64 lf_add_scaled_f64_fma;
lf_widen_rows lf_widen_rows_avx2, lf_widen_rows_avx512;
lf_widen_panels lf_widen_panels_avx2, lf_widen_panels_avx512;
lf_add_dots lf_add_dots_avx2, lf_add_dots_avx512;
lf_fold lf_fold_avx2, lf_fold_avx512;

lf_change_add_panels lf_change_add_panels_avx2, lf_change_add_panels_avx512;

unsigned lf_cpu_flags_x86(void);
void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags);
#endif
#if defined(__aarch64__)
lf_gram_f64 lf_gram_f64_neon;
lf_merge_block lf_merge_block_neon;
lf_multiply_f32 lf_multiply_f32_neon;
lf_multiply_f64 lf_multiply_f64_neon;
lf_widen_rows lf_widen_rows_neon;
lf_widen_panels lf_widen_panels_neon;
lf_add_dots lf_add_dots_neon;
lf_fold lf_fold_neon;
lf_change_add_panels lf_change_add_panels_neon;

unsigned lf_cpu_flags_arm(void);
void lf_kernels_init_arm(lf_kernels *kernels, unsigned cpu_flags);
#endif

#endif
