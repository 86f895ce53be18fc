/* SPDX-License-Identifier: MIT */
/* spec 7.1 to 7.4, in the order of their steps. */
#include "lib/view/patch.h"

#include "format/base/bytes.h"

#include <string.h>

#define DEPTH 32 // of the rank, that is added at a time

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

const lorafmt_tensor *lf_replacement_of(const lf_plan *plan, uint64_t row, uint64_t *first)
{
    const size_t replaced = find_row(plan, row);

    *first = (replaced == LF_NOT_THERE ? row : replaced) * plan->n_cols;
    return replaced == LF_NOT_THERE ? plan->value : &lorafmt_site_factor(plan->rows, LORAFMT_ROLE_VALUE)->tensor;
}

uint64_t lf_rows_together(const lf_plan *plan, uint64_t row, uint64_t n)
{
    for (size_t k = 0; k < plan->n_terms; k++) {
        const uint64_t n_rows = plan->terms[k].rank ? plan->terms[k].expert_rows : plan->info.n_rows;
        n = n_rows - row % n_rows < n ? n_rows - row % n_rows : n;
    }
    return n;
}

/* One row to the working type. */
static void widen(const lf_plan *plan, lf_real from, const void *src, size_t n, lf_acc *acc, size_t row)
{
    if (plan->f64)
        lf_widen_f64(from, src, acc->f64[row], n);
    else
        lf_widen_f32(from, src, acc->f32[row], n);
}

void lf_patch_start(const lf_plan *plan, const lf_base_rows *base, lf_patch *patch)
{
    for (size_t i = 0; i < patch->n_rows; i++) {
        uint64_t first;
        const lorafmt_tensor *value = lf_replacement_of(plan, patch->row + i, &first);
        uint8_t start[LF_PATCH_COLS * sizeof(double)];
        lf_tally unused = {0}; // what is computed from it is counted
        if (value) {
            lf_value_convert(value, plan->info.dtype, first + patch->col, patch->n_cols, start, &unused);
            widen(plan, lf_real_of(plan->info.dtype), start, patch->n_cols, &patch->acc, i);
        } else {
            widen(plan, base->type, base->data + i * base->stride, patch->n_cols, &patch->acc, i);
        }
    }
}

/* x = fma(scale, d, x) for one row. */
static void add_scaled(const lf_kernels *kernels, const lf_plan *plan, double scale, const lf_acc *d, lf_patch *patch, size_t row)
{
    if (plan->f64)
        kernels->add_scaled_f64(patch->acc.f64[row], patch->n_cols, d->f64[row], scale);
    else
        kernels->add_scaled_f32(patch->acc.f32[row], patch->n_cols, d->f32[row], (float)scale);
}

static void add_value(const lf_kernels *kernels, const lf_plan *plan, const lf_term *t, lf_patch *patch)
{
    const lf_real from = lf_real_of(t->value->dtype);
    lf_acc value;

    for (size_t i = 0; i < patch->n_rows; i++) {
        const uint64_t at = (patch->row + i) * plan->n_cols + patch->col;
        widen(plan, from, (const uint8_t *)t->value->data + at * lf_real_size(from), patch->n_cols, &value, i);
        add_scaled(kernels, plan, t->scale, &value, patch, i);
    }
}

/* The matrix of the expert that `row` belongs to; each has n elements. */
static lf_matrix of_expert(const lf_matrix *first, const lf_term *t, uint64_t row, size_t n)
{
    lf_matrix m = *first;

    m.data = (const uint8_t *)m.data + (size_t)(row / t->expert_rows) * n * lf_real_size(m.type);
    return m;
}

lf_matrix lf_left_of(const lf_term *t, uint64_t row)
{
    return of_expert(&t->left, t, row, (size_t)t->expert_rows * t->rank);
}

lf_matrix lf_right_of(const lf_plan *plan, const lf_term *t, uint64_t row)
{
    return of_expert(&t->right, t, row, t->rank * plan->n_cols);
}

static void multiply_f32(const lf_kernels *kernels, const lf_term *t, const lf_matrix *left, const lf_matrix *right,
                         const lf_patch *patch, lf_acc *delta)
{
    float panels[LF_PATCH_COLS * DEPTH], rows[LF_PATCH_ROWS * DEPTH];

    for (size_t p = 0; p < t->rank; p += DEPTH) {
        const size_t depth = t->rank - p < DEPTH ? t->rank - p : DEPTH;
        lf_pack_panels(kernels, right, p, depth, patch->col, patch->n_cols, panels);
        lf_pack_rows_f32(kernels, left, (size_t)(patch->row % t->expert_rows), patch->n_rows, p, depth, rows);
        for (size_t i = 0; i < patch->n_rows; i++)
            kernels->multiply_f32(delta->f32[i], patch->n_cols, rows + i * depth, panels, depth);
    }
}

static void multiply_f64(const lf_kernels *kernels, const lf_term *t, const lf_matrix *left, const lf_matrix *right,
                         const lf_patch *patch, lf_acc *delta)
{
    double cols[LF_PATCH_COLS * DEPTH], rows[LF_PATCH_ROWS * DEPTH];

    for (size_t p = 0; p < t->rank; p += DEPTH) {
        const size_t depth = t->rank - p < DEPTH ? t->rank - p : DEPTH;
        lf_pack_rows_f64(right, p, depth, patch->col, patch->n_cols, cols);
        lf_pack_rows_f64(left, (size_t)(patch->row % t->expert_rows), patch->n_rows, p, depth, rows);
        for (size_t i = 0; i < patch->n_rows; i++)
            kernels->multiply_f64(delta->f64[i], patch->n_cols, rows + i * depth, cols, patch->n_cols, depth);
    }
}

static void add_low_rank(const lf_kernels *kernels, const lf_plan *plan, const lf_term *t, lf_patch *patch)
{
    const lf_matrix left = lf_left_of(t, patch->row), right = lf_right_of(plan, t, patch->row);
    lf_acc delta;

    memset(&delta, 0, sizeof delta);
    if (plan->f64)
        multiply_f64(kernels, t, &left, &right, patch, &delta);
    else
        multiply_f32(kernels, t, &left, &right, patch, &delta);
    for (size_t i = 0; i < patch->n_rows; i++)
        add_scaled(kernels, plan, t->scale, &delta, patch, i);
}

void lf_patch_add(const lf_kernels *kernels, const lf_plan *plan, const lf_term *t, lf_patch *patch)
{
    if (t->rank)
        add_low_rank(kernels, plan, t, patch);
    else
        add_value(kernels, plan, t, patch);
}

void lf_patch_apply_dora(const lf_plan *plan, const lf_dora *dora, lf_patch *patch)
{
    for (size_t i = 0; i < patch->n_rows; i++)
        for (size_t j = 0; j < patch->n_cols; j++) {
            const size_t k = dora->by_column ? patch->col + j : (size_t)(patch->row + i);
            if (plan->f64)
                patch->acc.f64[i][j] *= ((const double *)dora->factors)[k];
            else
                patch->acc.f32[i][j] *= ((const float *)dora->factors)[k];
        }
}
