/* SPDX-License-Identifier: MIT */
/* The definition, in scalar C, and the choice of a level. */
#include "lib/kernels/low_rank.h"

#include <math.h>

static void low_rank_f32(float *acc, size_t n, const float *left, const float *panels, size_t rank, float scale)
{
    for (size_t j = 0; j < n; j++) {
        const float *right = panels + lf_panel_at(rank, j);
        float delta = 0;
        for (size_t p = 0; p < rank; p++)
            delta = fmaf(left[p], right[p * LF_PANEL], delta);
        acc[j] = fmaf(scale, delta, acc[j]);
    }
}

static void low_rank_f64(double *acc, size_t n, const double *left, const double *right, size_t stride, size_t rank, double scale)
{
    double delta[LF_TILE] = {0};

    for (size_t p = 0; p < rank; p++)
        for (size_t j = 0; j < n; j++)
            delta[j] = fma(left[p], right[p * stride + j], delta[j]);
    for (size_t j = 0; j < n; j++)
        acc[j] = fma(scale, delta[j], acc[j]);
}

static void merge_row(const lf_block *b, size_t row, lf_tally *tally)
{
    const uint8_t *src = (const uint8_t *)b->src + row * b->src_stride;
    uint8_t *dst = (uint8_t *)b->dst + row * b->dst_stride;

    for (size_t j = 0; j < b->n_cols; j += LF_TILE) {
        const size_t n = b->n_cols - j < LF_TILE ? b->n_cols - j : LF_TILE;
        float acc[LF_TILE];
        lf_widen_f32(b->from, src + j * lf_real_size(b->from), acc, n);
        for (size_t k = 0; k < b->n_updates; k++) {
            const lf_update *u = &b->updates[k];
            low_rank_f32(acc, n, u->left + row * u->rank, u->panels + lf_panel_at(u->rank, j), u->rank, u->scale);
        }
        lf_narrow_f32(b->to, acc, dst + j * lf_real_size(b->to), n, tally);
    }
}

static void merge_block(const lf_block *b, lf_tally *tally)
{
    for (size_t row = 0; row < b->n_rows; row++)
        merge_row(b, row, tally);
}

unsigned lf_cpu_flags(void)
{
#if defined(__x86_64__)
    return lf_cpu_flags_x86();
#else
    return 0;
#endif
}

void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags)
{
    kernels->low_rank_f32 = low_rank_f32;
    kernels->low_rank_f64 = low_rank_f64;
    kernels->merge_block = merge_block;
    kernels->gram_f64 = lf_gram_f64_scalar;
#if defined(__x86_64__)
    lf_kernels_init_x86(kernels, cpu_flags);
#else
    (void)cpu_flags;
#endif
}
