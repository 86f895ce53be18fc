/* SPDX-License-Identifier: MIT */
/*
 * Gradients. A task takes all tokens of one adapter, some at a time. Each of the four is a product of matrices, left [rows x depth] and
 * right [depth x cols]; with g = dL/dy they are u = g B, dB = g' h, dA = u' x, dx = u A, where a row is a token's.
 */
#include "lib/forward/forward.h"

#include "format/base/error.h"
#include "lib/view/view.h"

#include <string.h>

#define SOME_TOKENS 64
#define SOME_COLS 512
#define SOME_ROWS (LF_BLOCK_SIZE / SOME_COLS) // of a factor; so many tokens too are a block, at most

typedef struct job {
    lorafmt_workspace *ws;
    const lorafmt_batch *batch;
    const lorafmt_gradient *const *gradients;
    float *dx;
    size_t dx_stride;
} job;

/* Some tokens of a group, and one of its updates. */
typedef struct part {
    const job *job;
    const lf_kernels *kernels;
    const lorafmt_update *update;
    const size_t *tokens;
    size_t n_tokens;
    float *h, *u; // [n_tokens x rank]
    lf_scratch *scratch;
} part;

/* dst += scale · left · right of one row, with no more than SOME_COLS columns. */
static void add_product(const part *p, const float *left, size_t depth, const float *panels, size_t n_cols, float scale,
                        float *dst)
{
    float d[SOME_COLS] = {0};

    p->kernels->multiply_f32(d, n_cols, left, panels, depth);
    p->kernels->add_scaled_f32(dst, n_cols, d, scale);
}

/* --- left and right --- */

static lf_matrix factor(const void *data, lorafmt_dtype dtype, size_t n_cols)
{
    return (lf_matrix){.type = lf_real_of(dtype), .data = data, .n_cols = n_cols};
}

/* Columns of x as right: a row for each token. */
static void pack_x(const part *p, size_t col, size_t n_cols, float *panels)
{
    const lf_real type = lf_real_of(p->job->batch->x_dtype);

    for (size_t t = 0; t < p->n_tokens; t++)
        p->kernels->widen_rows(type, lf_batch_x(p->job->batch, p->tokens[t]) + col * lf_real_size(type), 0, 1, n_cols,
                               panels + t * LF_PANEL, 0, p->n_tokens * LF_PANEL);
}

/* Columns of g as left: a row for each token. */
static void widen_g(const part *p, size_t col, size_t n_cols, float *rows)
{
    const lf_real type = lf_real_of(p->job->batch->y_dtype);

    for (size_t t = 0; t < p->n_tokens; t++)
        lf_widen_f32(type, lf_batch_y(p->job->batch, p->tokens[t]) + col * lf_real_size(type), rows + t * n_cols, n_cols);
}

/* [n_tokens x n_cols] as left of what is summed over tokens: a row for each column. */
static void turn_over(const part *p, const float *rows, size_t stride, size_t n_cols, float *turned)
{
    for (size_t t = 0; t < p->n_tokens; t++)
        for (size_t i = 0; i < n_cols; i++)
            turned[i * p->n_tokens + t] = rows[t * stride + i];
}

/* --- the products --- */

static void fill_u(const part *p)
{
    const size_t rank = p->update->rank, out = p->job->batch->out;
    const lf_matrix b = factor(p->update->b, p->update->b_dtype, rank);

    memset(p->u, 0, p->n_tokens * rank * sizeof *p->u);
    for (size_t i = 0; i < out; i += SOME_ROWS) {
        const size_t depth = lf_least(out - i, SOME_ROWS);
        widen_g(p, i, depth, p->scratch->x);
        for (size_t col = 0; col < rank; col += SOME_COLS) {
            const size_t n = lf_least(rank - col, SOME_COLS);
            lf_pack_panels(p->kernels, &b, i, depth, col, n, p->scratch->a);
            for (size_t t = 0; t < p->n_tokens; t++)
                add_product(p, p->scratch->x + t * depth, depth, p->scratch->a, n, 1, p->u + t * rank + col);
        }
    }
}

static void add_db(const part *p, float *db)
{
    const size_t rank = p->update->rank, out = p->job->batch->out;
    const lf_matrix h = factor(p->h, LORAFMT_F32, rank);

    for (size_t col = 0; col < rank; col += SOME_COLS) {
        const size_t n = lf_least(rank - col, SOME_COLS);
        lf_pack_panels(p->kernels, &h, 0, p->n_tokens, col, n, p->scratch->a);
        for (size_t i = 0; i < out; i += SOME_COLS) {
            const size_t n_rows = lf_least(out - i, SOME_COLS);
            widen_g(p, i, n_rows, p->scratch->x);
            turn_over(p, p->scratch->x, n_rows, n_rows, p->scratch->sums);
            for (size_t k = 0; k < n_rows; k++)
                add_product(p, p->scratch->sums + k * p->n_tokens, p->n_tokens, p->scratch->a, n, p->update->scale,
                            db + (i + k) * rank + col);
        }
    }
}

static void add_da(const part *p, float *da)
{
    const size_t rank = p->update->rank, in = p->job->batch->in;

    for (size_t row = 0; row < rank; row += SOME_COLS) {
        const size_t n_rows = lf_least(rank - row, SOME_COLS);
        turn_over(p, p->u + row, rank, n_rows, p->scratch->sums);
        for (size_t col = 0; col < in; col += SOME_COLS) {
            const size_t n = lf_least(in - col, SOME_COLS);
            pack_x(p, col, n, p->scratch->x);
            for (size_t k = 0; k < n_rows; k++)
                add_product(p, p->scratch->sums + k * p->n_tokens, p->n_tokens, p->scratch->x, n, p->update->scale,
                            da + (row + k) * in + col);
        }
    }
}

static float *dx_of(const part *p, size_t t)
{
    const size_t stride = p->job->dx_stride ? p->job->dx_stride / sizeof(float) : p->job->batch->in;

    return p->job->dx + p->tokens[t] * stride;
}

static void add_dx(const part *p)
{
    const size_t rank = p->update->rank, in = p->job->batch->in;
    const lf_matrix a = factor(p->update->a, p->update->a_dtype, in);

    for (size_t row = 0; row < rank; row += SOME_ROWS) {
        const size_t depth = lf_least(rank - row, SOME_ROWS);
        for (size_t col = 0; col < in; col += SOME_COLS) {
            const size_t n = lf_least(in - col, SOME_COLS);
            lf_pack_panels(p->kernels, &a, row, depth, col, n, p->scratch->a);
            for (size_t t = 0; t < p->n_tokens; t++)
                add_product(p, p->u + t * rank + row, depth, p->scratch->a, n, p->update->scale, dx_of(p, t) + col);
        }
    }
}

/* --- tasks --- */

static void go_back(const part *p, const lorafmt_gradient *gradient)
{
    if (gradient && gradient->db)
        add_db(p, gradient->db);
    fill_u(p);
    if (gradient && gradient->da)
        add_da(p, gradient->da);
    if (p->job->dx)
        add_dx(p);
}

static void update_task(const job *j, const lf_group *g, const lorafmt_update *u, size_t before, const lorafmt_gradient *gradient,
                        lf_scratch *scratch)
{
    float *h = lf_group_numbers(j->ws, j->ws->h, g) + before, *room = lf_group_numbers(j->ws, j->ws->u, g) + before;

    for (size_t first = 0; first < g->n; first += SOME_TOKENS) {
        const part p = {.job = j,
                        .kernels = &j->ws->kernels,
                        .update = u,
                        .tokens = j->ws->order + g->first + first,
                        .n_tokens = lf_least(g->n - first, SOME_TOKENS),
                        .h = h + first * u->rank,
                        .u = room + first * u->rank,
                        .scratch = scratch};
        go_back(&p, gradient);
    }
}

static void backward_task(void *ctx, size_t task, lf_scratch *scratch)
{
    const job *j = ctx;
    const lf_group *g = &j->ws->groups[task];
    const lorafmt_gradient *gradients = j->gradients ? j->gradients[g->adapter] : NULL;
    size_t before = 0;

    for (size_t k = 0; k < g->updates->n; k++) {
        const lorafmt_update *u = &g->updates->updates[k];
        if (!lf_update_contributes(u))
            continue;
        update_task(j, g, u, before, gradients ? &gradients[k] : NULL, scratch);
        before += g->n * u->rank;
    }
}

static lorafmt_status check_gradients(const lorafmt_batch *b, const float *dx, size_t dx_stride, lorafmt_error *err)
{
    if (dx && dx_stride && (dx_stride < b->in * sizeof *dx || dx_stride % sizeof *dx))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "dx_stride", "%zu, must be whole elements and at least %zu bytes",
                       dx_stride, b->in * sizeof *dx);
    for (size_t i = 0; i < b->n_adapters; i++)
        for (size_t k = 0; k < b->layer[i].n; k++)
            if (b->layer[i].updates[k].factors)
                return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "layer",
                               "adapter %zu has DoRA, which has no gradients here", i);
    return LORAFMT_OK;
}

lorafmt_status lorafmt_backward(lorafmt_workspace *ws, const lorafmt_batch *batch, const lorafmt_gradient *const *gradients,
                                float *dx, size_t dx_stride, lorafmt_error *err)
{
    job j = {ws, batch, gradients, dx, dx_stride};

    LF_TRY(lf_group_tokens(ws, batch, err));
    LF_TRY(check_gradients(batch, dx, dx_stride, err));
    LF_TRY(lf_project(ws, batch, err));
    return lf_run_tasks(ws, ws->n_groups, SIZE_MAX, backward_task, &j, err);
}
