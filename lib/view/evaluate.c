/* SPDX-License-Identifier: MIT */
/* spec 7.1: rows of a tensor of the merged model. */
#include "lib/view/evaluate.h"

#include "format/base/error.h"
#include "lib/kernels/fpenv.h"
#include "lib/view/view.h"

#include <inttypes.h>
#include <string.h>

lf_real lf_real_of(lorafmt_dtype dtype)
{
    switch (dtype) {
    case LORAFMT_F16:
        return LF_REAL_F16;
    case LORAFMT_BF16:
        return LF_REAL_BF16;
    case LORAFMT_F64:
        return LF_REAL_F64;
    default:
        return LF_REAL_F32;
    }
}

void lf_value_convert(const lorafmt_tensor *value, lorafmt_dtype to, uint64_t first, size_t n, void *dst, lf_tally *tally)
{
    const size_t unit = lorafmt_dtype_bits(value->dtype) / 8;
    const uint8_t *src = (const uint8_t *)value->data + first * unit;
    double wide[LF_TILE];

    if (value->dtype == to) {
        memcpy(dst, src, n * unit);
        return;
    }
    lf_widen_f64(lf_real_of(value->dtype), src, wide, n);
    lf_narrow_f64(lf_real_of(to), wide, dst, n, tally);
}

/* Elements [col, col + n) of one row, n <= LF_TILE: start from the base or the replacement, add the terms, round once. */
static void evaluate_tile(const lf_kernels *kernels, const lf_plan *plan, uint64_t row, size_t col, size_t n, const uint8_t *src,
                          uint8_t *dst, lf_tally *tally)
{
    const lf_real real = lf_real_of(plan->info.dtype);
    const size_t unit = lorafmt_dtype_bits(plan->info.dtype) / 8;
    uint8_t start[LF_TILE * sizeof(double)];
    union {
        double f64[LF_TILE];
        float f32[LF_TILE];
    } acc;

    if (plan->value) {
        lf_tally ignored = {0};
        lf_value_convert(plan->value, plan->info.dtype, row * plan->n_cols + col, n, start, plan->n_terms ? &ignored : tally);
        src = start;
    } else
        src += col * unit;
    dst += col * unit;
    if (plan->n_terms == 0) {
        memcpy(dst, src, n * unit);
        return;
    }
    if (plan->f64)
        lf_widen_f64(real, src, acc.f64, n);
    else
        lf_widen_f32(real, src, acc.f32, n);
    for (size_t k = 0; k < plan->n_terms; k++) {
        const lf_term *t = &plan->terms[k];
        if (plan->f64)
            kernels->low_rank_f64(acc.f64, n, (const double *)t->left + row * t->rank, (const double *)t->right + col,
                                  plan->n_cols, t->rank, t->scale);
        else
            kernels->low_rank_f32(acc.f32, n, (const float *)t->left + row * t->rank, (const float *)t->right + col, plan->n_cols,
                                  t->rank, (float)t->scale);
    }
    if (plan->f64)
        lf_narrow_f64(real, acc.f64, dst, n, tally);
    else
        lf_narrow_f32(real, acc.f32, dst, n, tally);
}

static void copy_rows(const lf_plan *plan, uint64_t n_rows, const void *src, size_t src_stride, void *dst, size_t dst_stride)
{
    for (uint64_t i = 0; i < n_rows; i++)
        memmove((uint8_t *)dst + i * dst_stride, (const uint8_t *)src + i * src_stride, plan->info.row_size);
}

lorafmt_status lorafmt_view_evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const void *src,
                                     size_t src_stride, void *dst, size_t dst_stride, lorafmt_counts *counts, lorafmt_error *err)
{
    const lf_plan *plan;
    lf_tally tally = {0};
    lf_fpenv env;

    if (view->check_only)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound with check_only");
    if (tensor >= view->n_tensors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "tensor %zu, the view has %zu", tensor, view->n_tensors);
    plan = &view->plans[tensor];
    if (row > plan->info.n_rows || n_rows > plan->info.n_rows - row)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name,
                       "rows %" PRIu64 " and %" PRIu64 " on, the tensor has %" PRIu64, row, n_rows, plan->info.n_rows);
    if (plan->info.reads_base && n_rows && !src)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "base rows are needed, src is NULL");
    if (!plan->info.touched) {
        copy_rows(plan, n_rows, src, src_stride, dst, dst_stride);
        return LORAFMT_OK;
    }
    env = lf_fpenv_enter();
    for (uint64_t i = 0; i < n_rows; i++) {
        const uint8_t *from = plan->value ? NULL : (const uint8_t *)src + i * src_stride;
        for (size_t col = 0; col < plan->n_cols; col += LF_TILE) {
            const size_t n = plan->n_cols - col < LF_TILE ? plan->n_cols - col : LF_TILE;
            evaluate_tile(&view->kernels, plan, row + i, col, n, from, (uint8_t *)dst + i * dst_stride, &tally);
        }
    }
    lf_fpenv_leave(env);
    if (counts) {
        counts->n_nan += tally.n_nan;
        counts->n_inf += tally.n_inf;
    }
    return LORAFMT_OK;
}
