/* SPDX-License-Identifier: MIT */
/* spec 7.1: rows of a tensor of the merged model. Factors are read where they lie, a few columns at a time. */
#include "lib/view/evaluate.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/kernels/fpenv.h"
#include "lib/view/patch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Rows that the tallest tiles of every level divide, and columns that the widest do. */
#define TILE_ROWS 24
#define TILE_COLS 64

/* Of all updates of a plain block. */
#define MOST_RANK 512
#define MOST_UPDATES 64

/*
 * Factors of a plain block at hand, in f32. The right ones of a group of columns stay in a second-level cache while all rows of a
 * band go by; the more columns, the longer the runs of each row. The left ones are of as few rows as make whole tiles.
 */
#define PANELS_SIZE 49152
#define LEFT_SIZE (TILE_ROWS * MOST_RANK)

/* Rows are walked in bands: so few that their pages stay in a second-level TLB from one group of columns to the next. */
#define BAND_SIZE ((size_t)16 << 20)

/* Of a result that is elsewhere than its base: more than this is not in a cache for long. */
#define STREAM_SIZE ((uint64_t)512 << 10)

/* What every way to evaluate needs to know. */
typedef struct job {
    const lf_kernels *kernels;
    const lf_plan *plan;
    lorafmt_dtype src_dtype, dst_dtype; // one, and maybe not real, or both real
    lf_real from, to;
    size_t src_unit, dst_unit; // bytes of an element
    const uint8_t *src;
    uint8_t *dst;
    size_t src_stride, dst_stride;
    lf_tally *tally;
    const lf_right *right; // packed already, or NULL
    lf_change *change;     // or NULL
    bool streamed;         // lf_block.streamed
} job;

/* Where an element of the base is; NULL when it is not read. */
static const uint8_t *src_at(const job *j, uint64_t row, size_t col)
{
    return j->plan->info.reads_base ? j->src + row * j->src_stride + col * j->src_unit : NULL;
}

static uint8_t *dst_at(const job *j, uint64_t row, size_t col)
{
    return j->dst + row * j->dst_stride + col * j->dst_unit;
}

static size_t least(uint64_t a, size_t b)
{
    return a < b ? (size_t)a : b;
}

/* Is it nothing but low-rank updates of what the base has, in f32? Then blocks of rows are made at once. */
static bool has_plain_terms(const lf_plan *plan)
{
    size_t rank = 0;

    for (size_t k = 0; k < plan->n_terms; k++) {
        if (plan->terms[k].rank == 0 || plan->terms[k].rank > MOST_RANK || plan->terms[k].dora)
            return false;
        rank += plan->terms[k].rank;
    }
    return !plan->f64 && !plan->value && !plan->rows && plan->n_terms && plan->n_terms <= MOST_UPDATES && rank <= MOST_RANK;
}

static bool is_plain(const job *j)
{
    return has_plain_terms(j->plan) && j->from != LF_REAL_F64 && j->to != LF_REAL_F64;
}

static size_t right_size(const lf_plan *plan)
{
    size_t size = 0;

    for (size_t k = 0; k < plan->n_terms; k++)
        size += lf_panels_size(plan->terms[k].rank, plan->n_cols);
    return size;
}

/* The rows around one whose terms all have the right factors that its terms have. */
static void set_rows(const lf_plan *plan, uint64_t row, lf_right *right)
{
    uint64_t first = 0;

    for (size_t k = 0; k < plan->n_terms; k++) {
        const uint64_t begin = row - row % plan->terms[k].expert_rows;
        first = begin > first ? begin : first;
    }
    right->first_row = first;
    right->n_rows = row - first + lf_rows_together(plan, row, plan->info.n_rows - row);
}

static bool reserve(lf_right *right, size_t size)
{
    if (right->capacity >= size)
        return true;
    free(right->panels);
    right->panels = malloc(size * sizeof *right->panels);
    right->capacity = right->panels ? size : 0;
    return right->panels != NULL;
}

void lf_right_pack(const lorafmt_view *view, size_t tensor, uint64_t row, size_t most, lf_right *right)
{
    const lf_plan *plan = &view->plans[tensor];
    lf_fpenv env;
    float *panels;

    right->n_rows = 0;
    if (!has_plain_terms(plan) || right_size(plan) > most || !reserve(right, right_size(plan)))
        return;
    set_rows(plan, row, right);
    panels = right->panels;
    env = lf_fpenv_enter();
    for (size_t k = 0; k < plan->n_terms; k++) {
        const lf_matrix matrix = lf_right_of(plan, &plan->terms[k], row);
        lf_pack_panels(&view->kernels, &matrix, 0, plan->terms[k].rank, 0, plan->n_cols, panels);
        panels += lf_panels_size(plan->terms[k].rank, plan->n_cols);
    }
    lf_fpenv_leave(env);
}

void lf_right_free(lf_right *right)
{
    free(right->panels);
    *right = (lf_right){0};
}

static void use_right(const job *j, size_t col, lf_update *updates)
{
    const float *panels = j->right->panels;

    for (size_t k = 0; k < j->plan->n_terms; k++) {
        const lf_term *t = &j->plan->terms[k];
        updates[k] = (lf_update){.panels = panels + lf_panel_at(t->rank, col), .rank = t->rank, .scale = (float)t->scale};
        panels += lf_panels_size(t->rank, j->plan->n_cols);
    }
}

static void pack_right(const job *j, const lf_region *r, lf_update *updates, float *panels)
{
    for (size_t k = 0; k < j->plan->n_terms; k++) {
        const lf_term *t = &j->plan->terms[k];
        const lf_matrix right = lf_right_of(j->plan, t, r->row);
        updates[k] = (lf_update){.panels = panels, .rank = t->rank, .scale = (float)t->scale};
        lf_pack_panels(j->kernels, &right, 0, t->rank, r->col, r->n_cols, panels);
        panels += lf_panels_size(t->rank, r->n_cols);
    }
}

static void pack_left(const job *j, const lf_region *r, lf_update *updates, float *rows)
{
    for (size_t k = 0; k < j->plan->n_terms; k++) {
        const lf_term *t = &j->plan->terms[k];
        const lf_matrix left = lf_left_of(t, r->row);
        updates[k].left = rows;
        lf_pack_rows_f32(j->kernels, &left, (size_t)(r->row % t->expert_rows), (size_t)r->n_rows, 0, t->rank, rows);
        rows += r->n_rows * t->rank;
    }
}

/* Some rows of a region, and columns whose panels are packed. */
static void evaluate_rows(const job *j, const lf_region *whole, const lf_region *part, lf_update *updates, float *left)
{
    const uint64_t row = part->row - whole->row;
    const size_t col = part->col - whole->col;
    const lf_block block = {.from = j->from,
                            .to = j->to,
                            .src = src_at(j, row, col),
                            .dst = dst_at(j, row, col),
                            .src_stride = j->src_stride,
                            .dst_stride = j->dst_stride,
                            .n_rows = (size_t)part->n_rows,
                            .n_cols = part->n_cols,
                            .updates = updates,
                            .n_updates = j->plan->n_terms,
                            .change = j->change,
                            .streamed = j->streamed};

    pack_left(j, part, updates, left);
    j->kernels->merge_block(&block, j->tally);
}

static size_t whole_tiles(size_t n, size_t tile)
{
    return n > tile ? n / tile * tile : n;
}

/* A band of a region: groups of columns, and in each a few rows after the other. */
static void evaluate_band(const job *j, const lf_region *whole, const lf_region *band, size_t rank)
{
    const size_t n_cols = whole_tiles(PANELS_SIZE / rank, TILE_COLS), n_rows = whole_tiles(LEFT_SIZE / rank, TILE_ROWS);
    float panels[PANELS_SIZE], left[LEFT_SIZE];
    lf_update updates[MOST_UPDATES];

    for (size_t col = 0; col < band->n_cols; col += n_cols) {
        lf_region part = {band->row, 0, band->col + col, least(band->n_cols - col, n_cols)};
        if (j->right)
            use_right(j, part.col, updates);
        else
            pack_right(j, &part, updates, panels);
        for (uint64_t done = 0; done < band->n_rows; done += part.n_rows) {
            part.row = band->row + done;
            part.n_rows = least(band->n_rows - done, n_rows);
            evaluate_rows(j, whole, &part, updates, left);
        }
    }
}

static void evaluate_plain(const job *j, const lf_region *r)
{
    const size_t n_rows = whole_tiles(BAND_SIZE / (r->n_cols * j->src_unit) + TILE_ROWS, TILE_ROWS);
    size_t rank = 0;

    for (size_t k = 0; k < j->plan->n_terms; k++)
        rank += j->plan->terms[k].rank;
    for (uint64_t done = 0; done < r->n_rows;) {
        const uint64_t row = r->row + done;
        const lf_region band = {row, lf_rows_together(j->plan, row, least(r->n_rows - done, n_rows)), r->col, r->n_cols};
        evaluate_band(j, r, &band, rank);
        done += band.n_rows;
    }
}

/* Round a row of a patch; dst may be where its base was. */
static void put_row(const job *j, const lf_patch *patch, size_t i, uint64_t row, size_t col)
{
    const uint8_t *src = src_at(j, row + i, col);
    uint8_t rounded[LF_PATCH_COLS * sizeof(double)];
    const size_t n = patch->n_cols;

    if (j->plan->f64)
        lf_narrow_f64(j->to, patch->acc.f64[i], rounded, n, j->tally);
    else
        lf_narrow_f32(j->to, patch->acc.f32[i], rounded, n, j->tally);
    if (j->change && j->plan->f64)
        lf_change_add_f64(j->from, src, patch->acc.f64[i], j->to, rounded, n, j->change);
    else if (j->change)
        lf_change_add_f32(j->from, src, patch->acc.f32[i], j->to, rounded, n, j->change);
    memcpy(dst_at(j, row + i, col), rounded, n * j->dst_unit);
}

/* A patch whose first element is at (row, col) of src and dst. */
static void evaluate_patch(const job *j, lf_patch *patch, uint64_t row, size_t col)
{
    const lf_plan *plan = j->plan;
    const lf_base_rows base = {src_at(j, row, col), j->src_stride, j->from};

    lf_patch_start(plan, &base, patch);
    for (size_t k = 0; k < plan->n_terms; k++) {
        lf_patch_add(j->kernels, plan, &plan->terms[k], patch);
        if (plan->terms[k].dora)
            lf_patch_apply_dora(plan, plan->terms[k].dora, patch);
    }
    for (size_t i = 0; i < patch->n_rows; i++)
        put_row(j, patch, i, row, col);
}

static void evaluate_patches(const job *j, const lf_region *r)
{
    lf_patch patch;

    for (uint64_t done = 0; done < r->n_rows; done += patch.n_rows) {
        patch.row = r->row + done;
        patch.n_rows = (size_t)lf_rows_together(j->plan, patch.row, least(r->n_rows - done, LF_PATCH_ROWS));
        for (size_t col = 0; col < r->n_cols; col += LF_PATCH_COLS) {
            patch.col = r->col + col;
            patch.n_cols = least(r->n_cols - col, LF_PATCH_COLS);
            evaluate_patch(j, &patch, done, col);
        }
    }
}

/* n elements that nothing is added to, n <= LF_TILE: from a replacement or from the base. */
static void take(const job *j, const lorafmt_tensor *value, uint64_t first, size_t n, const uint8_t *src, uint8_t *dst)
{
    uint8_t taken[LF_TILE * sizeof(double)];
    double x[LF_TILE];

    if (value) {
        lf_value_convert(value, j->dst_dtype, first, n, taken, j->tally);
    } else if (j->src_dtype == j->dst_dtype) {
        memmove(dst, src, n * j->dst_unit);
        if (j->change)
            j->change->n_unchanged += n;
        return;
    } else {
        lf_widen_f64(j->from, src, x, n);
        lf_narrow_f64(j->to, x, taken, n, j->tally);
    }
    if (j->change && lf_dtype_is_real(j->dst_dtype)) {
        lf_widen_f64(j->to, taken, x, n);
        lf_change_add_f64(j->from, src, x, j->to, taken, n, j->change);
    }
    memcpy(dst, taken, n * j->dst_unit);
}

static void take_rows(const job *j, const lf_region *r)
{
    for (uint64_t i = 0; i < r->n_rows; i++)
        for (size_t col = 0; col < r->n_cols; col += LF_TILE) {
            uint64_t first;
            const lorafmt_tensor *value = lf_replacement_of(j->plan, r->row + i, &first);
            take(j, value, first + r->col + col, least(r->n_cols - col, LF_TILE), src_at(j, i, col), dst_at(j, i, col));
        }
}

/* Every byte is the base's, or the replacement's. */
static void copy_rows(const lf_plan *plan, const lf_region *r, const lorafmt_rows *rows)
{
    const size_t bits = lorafmt_dtype_bits(rows->dst_dtype);

    for (uint64_t i = 0; i < r->n_rows; i++) {
        const uint8_t *from = plan->value ? (const uint8_t *)plan->value->data + ((r->row + i) * plan->n_cols + r->col) * bits / 8
                                          : (const uint8_t *)rows->src + i * rows->src_stride;
        memmove((uint8_t *)rows->dst + i * rows->dst_stride, from, r->n_cols * bits / 8);
    }
}

static lorafmt_status check_region(const lorafmt_view *view, size_t tensor, const lf_region *r, const void *src,
                                   lorafmt_error *err)
{
    const lf_plan *plan;

    if (view->check_only)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound with check_only");
    if (tensor >= view->n_tensors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "tensor %zu, the view has %zu", tensor, view->n_tensors);
    plan = &view->plans[tensor];
    if (r->row > plan->info.n_rows || r->n_rows > plan->info.n_rows - r->row)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name,
                       "rows %" PRIu64 " and %" PRIu64 " on, the tensor has %" PRIu64, r->row, r->n_rows, plan->info.n_rows);
    if (r->col > plan->n_cols || r->n_cols > plan->n_cols - r->col)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "columns %zu and %zu on, the tensor has %zu",
                       r->col, r->n_cols, plan->n_cols);
    if (r->n_cols < plan->n_cols && lorafmt_dtype_bits(plan->info.dtype) < 8)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "some columns of %s, which are less than bytes",
                       lorafmt_dtype_name(plan->info.dtype));
    if (plan->info.needs_prepare && !plan->prepared)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "has a DoRA site and was not prepared");
    if (plan->info.reads_base && r->n_rows && !src)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "base rows are needed, src is NULL");
    return LORAFMT_OK;
}

static lorafmt_status check_dtypes(const lf_plan *plan, const lorafmt_rows *rows, lorafmt_error *err)
{
    const lorafmt_dtype own = plan->info.dtype, other = rows->src_dtype != own ? rows->src_dtype : rows->dst_dtype;

    if (other == own)
        return LORAFMT_OK;
    if (!lf_dtype_is_real(own) || !lf_dtype_is_real(rows->src_dtype) || !lf_dtype_is_real(rows->dst_dtype))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name,
                       "%s asked of a tensor of %s; only F64, F32, F16 and BF16 are converted", lorafmt_dtype_name(other),
                       lorafmt_dtype_name(own));
    if (rows->src_dtype == LORAFMT_F64 && !plan->f64 && plan->n_terms)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name,
                       "base rows of F64, but the tensor was bound as %s and is computed in f32", lorafmt_dtype_name(own));
    return LORAFMT_OK;
}

lorafmt_status lf_view_evaluate(const lorafmt_view *view, size_t tensor, const lf_region *r, const lorafmt_rows *rows,
                                const lf_right *right, lf_tally *tally, lorafmt_change *change, lorafmt_error *err)
{
    lf_change what = {0};
    const lf_plan *plan;
    lf_fpenv env;
    job j;

    LF_TRY(check_region(view, tensor, r, rows->src, err));
    plan = &view->plans[tensor];
    LF_TRY(check_dtypes(plan, rows, err));
    if (r->n_rows == 0 || r->n_cols == 0)
        return LORAFMT_OK;
    j = (job){.kernels = &view->kernels,
              .plan = plan,
              .src_dtype = rows->src_dtype,
              .dst_dtype = rows->dst_dtype,
              .from = lf_real_of(rows->src_dtype),
              .to = lf_real_of(rows->dst_dtype),
              .src_unit = lorafmt_dtype_bits(rows->src_dtype) / 8,
              .dst_unit = lorafmt_dtype_bits(rows->dst_dtype) / 8,
              .src = rows->src,
              .dst = rows->dst,
              .src_stride = rows->src_stride,
              .dst_stride = rows->dst_stride,
              .tally = tally,
              .right = right && right->n_rows ? right : NULL,
              .change = change && plan->info.reads_base ? &what : NULL,
              .streamed = rows->src != rows->dst && r->n_rows * rows->dst_stride >= STREAM_SIZE};
    env = lf_fpenv_enter();
    if (!plan->n_terms && !plan->rows && rows->dst_dtype == (plan->value ? plan->value->dtype : rows->src_dtype))
        copy_rows(plan, r, rows);
    else if (!plan->n_terms)
        take_rows(&j, r);
    else if (is_plain(&j))
        evaluate_plain(&j, r);
    else
        evaluate_patches(&j, r);
    lf_fpenv_leave(env);
    if (change) {
        change->n_elements += r->n_rows * r->n_cols;
        change->n_unchanged += what.n_unchanged;
        change->max_ulp = what.max_ulp > change->max_ulp ? what.max_ulp : change->max_ulp;
        change->sum_asked += what.sum_asked;
        change->sum_realised += what.sum_realised;
        change->sum_along += what.sum_along;
    }
    return LORAFMT_OK;
}

/* The rows asked for, or some columns of them. */
static lorafmt_status evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const lorafmt_rows *rows,
                               lf_tally *tally, lorafmt_change *change, lorafmt_error *err)
{
    const size_t all = tensor < view->n_tensors ? view->plans[tensor].n_cols : 0;
    const lf_region region = {row, n_rows, rows->col, rows->n_cols ? rows->n_cols : all};

    return lf_view_evaluate(view, tensor, &region, rows, NULL, tally, change, err);
}

lorafmt_status lorafmt_view_evaluate_as(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows,
                                        const lorafmt_rows *rows, lorafmt_counts *counts, lorafmt_error *err)
{
    lf_tally tally = {0};

    LF_TRY(evaluate(view, tensor, row, n_rows, rows, &tally, NULL, err));
    if (counts) {
        counts->n_nan += tally.n_nan;
        counts->n_inf += tally.n_inf;
    }
    return LORAFMT_OK;
}

/* Rows of the tensor's own dtype. */
static lorafmt_rows own_rows(const lorafmt_view *view, size_t tensor, const void *src, size_t src_stride, void *dst,
                             size_t dst_stride)
{
    const lorafmt_dtype dtype = tensor < view->n_tensors ? view->plans[tensor].info.dtype : 0;

    return (lorafmt_rows){src, src_stride, dtype, dst, dst_stride, dtype, 0, 0};
}

lorafmt_status lorafmt_view_evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const void *src,
                                     size_t src_stride, void *dst, size_t dst_stride, lorafmt_counts *counts, lorafmt_error *err)
{
    const lorafmt_rows rows = own_rows(view, tensor, src, src_stride, dst, dst_stride);

    return lorafmt_view_evaluate_as(view, tensor, row, n_rows, &rows, counts, err);
}

lorafmt_status lorafmt_view_measure(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const void *src,
                                    size_t src_stride, void *dst, size_t dst_stride, lorafmt_change *change, lorafmt_error *err)
{
    const lorafmt_rows rows = own_rows(view, tensor, src, src_stride, dst, dst_stride);
    lf_tally tally = {0};

    LF_TRY(evaluate(view, tensor, row, n_rows, &rows, &tally, change, err));
    change->n_nan += tally.n_nan;
    change->n_inf += tally.n_inf;
    return LORAFMT_OK;
}
