/* SPDX-License-Identifier: MIT */
/* spec 7.1: rows of a tensor of the merged model. */
#include "lib/view/evaluate.h"

#include "format/base/bytes.h"
#include "format/base/error.h"
#include "lib/kernels/fpenv.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MOST_UPDATES 64 // of one block

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

/* Which of the replaced rows this one is, or LF_NOT_THERE. */
static size_t find_row(const lf_plan *plan, uint64_t row)
{
    const lorafmt_tensor *numbers = plan->rows ? &lorafmt_site_factor(plan->rows, LORAFMT_ROLE_ROW_INDEX)->tensor : NULL;
    size_t low = 0, high = numbers ? (size_t)numbers->shape[0] : 0;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const uint64_t there = lf_load_u64le((const uint8_t *)numbers->data + 8 * middle);
        if (there == row)
            return middle;
        if (there < row)
            low = middle + 1;
        else
            high = middle;
    }
    return LF_NOT_THERE;
}

/*
 * What elements [col, col + n) of a row start from, in the tensor's dtype: a replaced row, the replacement, or the base, where src
 * points at the row.
 */
static const uint8_t *start_of(const lf_plan *plan, uint64_t row, size_t col, size_t n, const uint8_t *src, uint8_t *start,
                               lf_tally *tally)
{
    const size_t replaced = find_row(plan, row);
    lf_tally ignored = {0}; // what is computed from it is counted instead

    if (replaced == LF_NOT_THERE && !plan->value)
        return src + col * (lorafmt_dtype_bits(plan->info.dtype) / 8);
    lf_value_convert(replaced == LF_NOT_THERE ? plan->value : &lorafmt_site_factor(plan->rows, LORAFMT_ROLE_VALUE)->tensor,
                     plan->info.dtype, (replaced == LF_NOT_THERE ? row : replaced) * plan->n_cols + col, n, start,
                     plan->n_terms ? &ignored : tally);
    return start;
}

void lf_widen_start(const lf_plan *plan, uint64_t row, size_t col, size_t n, const uint8_t *src, lf_acc *acc)
{
    uint8_t start[LF_TILE * sizeof(double)];
    lf_tally unused = {0};
    const uint8_t *from = start_of(plan, row, col, n, src, start, &unused);

    if (plan->f64)
        lf_widen_f64(lf_real_of(plan->info.dtype), from, acc->f64, n);
    else
        lf_widen_f32(lf_real_of(plan->info.dtype), from, acc->f32, n);
}

static void add_value(const lf_plan *plan, const lf_term *t, uint64_t row, size_t col, size_t n, lf_acc *acc)
{
    const lf_real from = lf_real_of(t->value->dtype);
    const uint8_t *src = (const uint8_t *)t->value->data + (row * plan->n_cols + col) * lf_real_size(from);
    lf_acc value;

    if (plan->f64) {
        lf_widen_f64(from, src, value.f64, n);
        for (size_t j = 0; j < n; j++)
            acc->f64[j] = fma(t->scale, value.f64[j], acc->f64[j]);
    } else {
        lf_widen_f32(from, src, value.f32, n);
        for (size_t j = 0; j < n; j++)
            acc->f32[j] = fmaf((float)t->scale, value.f32[j], acc->f32[j]);
    }
}

static const float *panels_of(const lf_plan *plan, const lf_term *t, uint64_t row)
{
    return (const float *)t->right + (size_t)(row / t->panel_rows) * lf_panels_size(t->rank, plan->n_cols);
}

void lf_add_term(const lf_kernels *kernels, const lf_plan *plan, const lf_term *t, uint64_t row, size_t col, size_t n,
                 lf_acc *acc)
{
    const size_t left = (size_t)row * t->rank;

    if (t->rank == 0)
        add_value(plan, t, row, col, n, acc);
    else if (plan->f64)
        kernels->low_rank_f64(acc->f64, n, (const double *)t->left + left,
                              (const double *)t->right + (size_t)(row / t->panel_rows) * t->rank * plan->n_cols + col,
                              plan->n_cols, t->rank, t->scale);
    else
        kernels->low_rank_f32(acc->f32, n, (const float *)t->left + left, panels_of(plan, t, row) + lf_panel_at(t->rank, col),
                              t->rank, (float)t->scale);
}

void lf_apply_dora(const lf_plan *plan, const lf_dora *dora, uint64_t row, size_t col, size_t n, lf_acc *acc)
{
    for (size_t j = 0; j < n; j++) {
        const size_t i = dora->by_column ? col + j : (size_t)row;
        if (plan->f64)
            acc->f64[j] *= ((const double *)dora->factors)[i];
        else
            acc->f32[j] *= ((const float *)dora->factors)[i];
    }
}

/* Steps between numbers of a type, from 0: what lies between two of them is the difference. */
static int64_t steps_of(lf_real type, const uint8_t *element)
{
    const size_t unit = lf_real_size(type);
    uint64_t bits = 0, sign = UINT64_C(1) << (8 * unit - 1);

    memcpy(&bits, element, unit);
    return bits & sign ? -(int64_t)(bits ^ sign) : (int64_t)bits;
}

/* What became of n elements: base and out are in the tensor's dtype, acc is out before it was rounded. */
static void measure(const lf_plan *plan, const uint8_t *base, const lf_acc *acc, const uint8_t *out, size_t n,
                    lorafmt_change *change)
{
    const lf_real type = lf_real_of(plan->info.dtype);
    const size_t unit = lf_real_size(type);

    for (size_t j = 0; j < n; j++, base += unit, out += unit) {
        const int64_t from = steps_of(type, base), to = steps_of(type, out);
        const uint64_t ulp = to > from ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to;
        double before, after, asked;
        lf_widen_f64(type, base, &before, 1);
        lf_widen_f64(type, out, &after, 1);
        asked = plan->f64 ? acc->f64[j] - before : (double)(acc->f32[j] - (float)before);
        change->n_unchanged += memcmp(base, out, unit) == 0;
        if (!isfinite(after) || !isfinite(asked))
            continue;
        change->max_ulp = ulp > change->max_ulp ? ulp : change->max_ulp;
        change->sum_asked += asked * asked;
        change->sum_realised += (after - before) * (after - before);
        change->sum_along += asked * (after - before);
    }
}

/* Elements [col, col + n) of one row, n <= LF_TILE: start from what is there, add the terms, round once. */
static void evaluate_tile(const lf_kernels *kernels, const lf_plan *plan, uint64_t row, size_t col, size_t n, const uint8_t *src,
                          uint8_t *dst, lf_tally *tally, lorafmt_change *change)
{
    const lf_real real = lf_real_of(plan->info.dtype);
    const size_t unit = lorafmt_dtype_bits(plan->info.dtype) / 8;
    uint8_t start[LF_TILE * sizeof(double)], base[LF_TILE * sizeof(double)];
    lf_acc acc;

    dst += col * unit;
    if (change && plan->info.reads_base)
        memcpy(base, src + col * unit, n * unit);
    if (plan->n_terms == 0) {
        memmove(dst, start_of(plan, row, col, n, src, start, tally), n * unit);
        if (change && plan->info.reads_base) {
            lf_widen_start(plan, row, col, n, base - col * unit, &acc);
            measure(plan, base, &acc, dst, n, change);
        }
        return;
    }
    lf_widen_start(plan, row, col, n, src, &acc);
    for (size_t k = 0; k < plan->n_terms; k++) {
        lf_add_term(kernels, plan, &plan->terms[k], row, col, n, &acc);
        if (plan->terms[k].dora)
            lf_apply_dora(plan, plan->terms[k].dora, row, col, n, &acc);
    }
    if (plan->f64)
        lf_narrow_f64(real, acc.f64, dst, n, tally);
    else
        lf_narrow_f32(real, acc.f32, dst, n, tally);
    if (change && plan->info.reads_base)
        measure(plan, base, &acc, dst, n, change);
}

/* Is it nothing but low-rank updates of what the base has, in f32? Then blocks of rows are made at once. */
static bool is_plain(const lf_plan *plan)
{
    for (size_t k = 0; k < plan->n_terms; k++)
        if (plan->terms[k].rank == 0 || plan->terms[k].dora)
            return false;
    return !plan->f64 && !plan->value && !plan->rows && plan->n_terms && plan->n_terms <= MOST_UPDATES;
}

/* Rows [row, row + n_rows) of a plain plan. No block goes over the edge between two experts. */
static void evaluate_plain(const lf_kernels *kernels, const lf_plan *plan, uint64_t row, lf_block *block, lf_tally *tally)
{
    const size_t n_rows = block->n_rows;
    lf_update updates[MOST_UPDATES];

    block->updates = updates;
    block->n_updates = plan->n_terms;
    for (size_t done = 0; done < n_rows; done += block->n_rows) {
        block->n_rows = n_rows - done;
        for (size_t k = 0; k < plan->n_terms; k++) {
            const lf_term *t = &plan->terms[k];
            const uint64_t left = t->panel_rows - (row + done) % t->panel_rows;
            updates[k] = (lf_update){(const float *)t->left + (size_t)(row + done) * t->rank, panels_of(plan, t, row + done),
                                     t->rank, (float)t->scale};
            block->n_rows = left < block->n_rows ? (size_t)left : block->n_rows;
        }
        kernels->merge_block(block, tally);
        block->src = (const uint8_t *)block->src + block->n_rows * block->src_stride;
        block->dst = (uint8_t *)block->dst + block->n_rows * block->dst_stride;
    }
}

/* Rows of any plan, a tile of one row at a time. */
static void evaluate_rows(const lf_kernels *kernels, const lf_plan *plan, uint64_t row, lf_block *block, lf_tally *tally,
                          lorafmt_change *change)
{
    for (size_t i = 0; i < block->n_rows; i++) {
        const uint8_t *from = plan->value ? NULL : (const uint8_t *)block->src + i * block->src_stride;
        for (size_t col = 0; col < plan->n_cols; col += LF_TILE) {
            const size_t n = plan->n_cols - col < LF_TILE ? plan->n_cols - col : LF_TILE;
            evaluate_tile(kernels, plan, row + i, col, n, from, (uint8_t *)block->dst + i * block->dst_stride, tally, change);
        }
    }
}

static void copy_rows(const lf_plan *plan, uint64_t n_rows, const void *src, size_t src_stride, void *dst, size_t dst_stride)
{
    for (uint64_t i = 0; i < n_rows; i++)
        memmove((uint8_t *)dst + i * dst_stride, (const uint8_t *)src + i * src_stride, plan->info.row_size);
}

static lorafmt_status evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const void *src,
                               size_t src_stride, void *dst, size_t dst_stride, lf_tally *tally, lorafmt_change *change,
                               lorafmt_error *err)
{
    const lf_plan *plan;
    lf_block block;
    lf_fpenv env;

    if (view->check_only)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound with check_only");
    if (tensor >= view->n_tensors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "tensor %zu, the view has %zu", tensor, view->n_tensors);
    plan = &view->plans[tensor];
    if (row > plan->info.n_rows || n_rows > plan->info.n_rows - row)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name,
                       "rows %" PRIu64 " and %" PRIu64 " on, the tensor has %" PRIu64, row, n_rows, plan->info.n_rows);
    if (plan->info.needs_prepare && !plan->prepared)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "has a DoRA site and was not prepared");
    if (plan->info.reads_base && n_rows && !src)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "base rows are needed, src is NULL");
    if (!plan->info.touched) {
        copy_rows(plan, n_rows, src, src_stride, dst, dst_stride);
        return LORAFMT_OK;
    }
    block = (lf_block){.from = lf_real_of(plan->info.dtype),
                       .to = lf_real_of(plan->info.dtype),
                       .src = src,
                       .dst = dst,
                       .src_stride = src_stride,
                       .dst_stride = dst_stride,
                       .n_rows = (size_t)n_rows,
                       .n_cols = plan->n_cols};
    env = lf_fpenv_enter();
    if (is_plain(plan) && !change)
        evaluate_plain(&view->kernels, plan, row, &block, tally);
    else
        evaluate_rows(&view->kernels, plan, row, &block, tally, change);
    lf_fpenv_leave(env);
    if (change)
        change->n_elements += n_rows * plan->n_cols;
    return LORAFMT_OK;
}

lorafmt_status lorafmt_view_evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const void *src,
                                     size_t src_stride, void *dst, size_t dst_stride, lorafmt_counts *counts, lorafmt_error *err)
{
    lf_tally tally = {0};

    LF_TRY(evaluate(view, tensor, row, n_rows, src, src_stride, dst, dst_stride, &tally, NULL, err));
    if (counts) {
        counts->n_nan += tally.n_nan;
        counts->n_inf += tally.n_inf;
    }
    return LORAFMT_OK;
}

lorafmt_status lorafmt_view_measure(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const void *src,
                                    size_t src_stride, void *dst, size_t dst_stride, lorafmt_change *change, lorafmt_error *err)
{
    lf_tally tally = {0};

    LF_TRY(evaluate(view, tensor, row, n_rows, src, src_stride, dst, dst_stride, &tally, change, err));
    change->n_nan += tally.n_nan;
    change->n_inf += tally.n_inf;
    return LORAFMT_OK;
}
