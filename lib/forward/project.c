/* SPDX-License-Identifier: MIT */
/* h = A x: a task takes some rows of one adapter's factors A, whichever update they belong to, and some of its tokens. */
#include "lib/forward/forward.h"
#include "lib/view/view.h"

#include <string.h>

#define MOST_TOKENS 64
#define MOST_ROWS 64
#define MOST_COLS (LF_BLOCK_SIZE / MOST_ROWS)

/* So few tokens are done while rows of A go by; for more, rows are widened once and stay in a first-level cache. */
#define FEW_TOKENS 3

/* Of A that are a task at least. */
#define TASK_SIZE ((size_t)64 << 10)

/* What the largest tiles of all levels divide. */
#define TILE_ROWS 8

/* Rows of one update's A by tokens. */
typedef struct part {
    const lorafmt_workspace *ws;
    const lorafmt_batch *batch;
    const lorafmt_update *update;
    size_t row, n_rows;
    const size_t *tokens;
    size_t n_tokens;
    lf_scratch *scratch;
} part;

static size_t up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

static const uint8_t *a_at(const part *p, size_t col)
{
    return (const uint8_t *)p->update->a + (p->row * p->batch->in + col) * lf_real_size(lf_real_of(p->update->a_dtype));
}

/* Whole panels of the tokens' x: where it lies, or widened. */
static void gather_x(const part *p, size_t col, size_t n, const float *x[MOST_TOKENS])
{
    const lf_real type = lf_real_of(p->batch->x_dtype);

    for (size_t t = 0; t < p->n_tokens; t++) {
        const uint8_t *row = lf_batch_x(p->batch, p->tokens[t]) + col * lf_real_size(type);
        x[t] = (const float *)(const void *)row;
        if (type != LF_REAL_F32) {
            p->ws->kernels.widen_rows(type, row, 0, 1, n, p->scratch->x + t * n, 0, LF_PANEL);
            x[t] = p->scratch->x + t * n;
        }
    }
}

static void add_dots(const part *p, size_t col, size_t n)
{
    const lf_real type = lf_real_of(p->update->a_dtype);
    const float *x[MOST_TOKENS];
    lf_dots dots = {.type = type,
                    .a = a_at(p, col),
                    .a_stride = p->batch->in * lf_real_size(type),
                    .n_a = p->n_rows,
                    .x = x,
                    .n_x = p->n_tokens,
                    .n = n,
                    .sums = p->scratch->sums};

    gather_x(p, col, n, x);
    if (p->n_tokens > FEW_TOKENS && type != LF_REAL_F32) {
        p->ws->kernels.widen_rows(type, dots.a, dots.a_stride, p->n_rows, n, p->scratch->a, n, LF_PANEL);
        dots.type = LF_REAL_F32;
        dots.a = p->scratch->a;
        dots.a_stride = n * sizeof(float);
    }
    p->ws->kernels.add_dots(&dots);
}

/* The columns after the last whole panel, as if zeros followed. */
static void add_last_dots(const part *p, size_t col, size_t n)
{
    const lf_real a_type = lf_real_of(p->update->a_dtype), x_type = lf_real_of(p->batch->x_dtype);
    const size_t a_stride = p->batch->in * lf_real_size(a_type);
    const float *x[MOST_TOKENS];
    const lf_dots dots = {.type = LF_REAL_F32,
                          .a = p->scratch->a,
                          .a_stride = LF_PANEL * sizeof(float),
                          .n_a = p->n_rows,
                          .x = x,
                          .n_x = p->n_tokens,
                          .n = LF_PANEL,
                          .sums = p->scratch->sums};

    memset(p->scratch->a, 0, p->n_rows * LF_PANEL * sizeof(float));
    memset(p->scratch->x, 0, p->n_tokens * LF_PANEL * sizeof(float));
    for (size_t i = 0; i < p->n_rows; i++)
        lf_widen_f32(a_type, a_at(p, col) + i * a_stride, p->scratch->a + i * LF_PANEL, n);
    for (size_t t = 0; t < p->n_tokens; t++) {
        x[t] = p->scratch->x + t * LF_PANEL;
        lf_widen_f32(x_type, lf_batch_x(p->batch, p->tokens[t]) + col * lf_real_size(x_type), p->scratch->x + t * LF_PANEL, n);
    }
    p->ws->kernels.add_dots(&dots);
}

/* h is the first token's, of the part's first row. */
static void project_part(const part *p, float *h)
{
    const size_t whole = p->batch->in / LF_PANEL * LF_PANEL;
    const size_t most = p->n_tokens > FEW_TOKENS ? MOST_COLS : LF_BLOCK_SIZE / FEW_TOKENS / LF_PANEL * LF_PANEL;

    memset(p->scratch->sums, 0, p->n_tokens * p->n_rows * LF_PANEL * sizeof(float));
    for (size_t col = 0; col < whole; col += most)
        add_dots(p, col, lf_least(whole - col, most));
    if (whole < p->batch->in)
        add_last_dots(p, whole, p->batch->in - whole);
    for (size_t t = 0; t < p->n_tokens; t++)
        p->ws->kernels.fold(p->scratch->sums + t * p->n_rows * LF_PANEL, p->n_rows, h + t * p->update->rank);
}

/* --- tasks --- */

/* Rows of a task: about TASK_SIZE bytes. */
static size_t rows_at_once(const lorafmt_batch *b)
{
    return lf_least(up(TASK_SIZE / (b->in * 2 + 1) + 1, TILE_ROWS), MOST_ROWS);
}

static size_t count_tasks(const lf_group *g, const lorafmt_batch *b)
{
    const size_t n_rows = rows_at_once(b);

    return (g->n + MOST_TOKENS - 1) / MOST_TOKENS * ((g->rank + n_rows - 1) / n_rows);
}

/* Rows [row, row + n_rows) of all A of a group, one below the other. */
static void project_rows(part *p, const lf_group *g, size_t token, size_t row, size_t n_rows)
{
    float *h = lf_group_numbers(p->ws, p->ws->h, g);
    size_t first = 0; // row of the update

    for (size_t k = 0; k < g->updates->n; k++) {
        const lorafmt_update *u = p->update = &g->updates->updates[k];
        const size_t begin = row > first ? row : first, end = lf_least(row + n_rows, first + u->rank);
        if (!lf_update_contributes(u))
            continue;
        p->row = begin - first;
        p->n_rows = end - begin;
        if (begin < end)
            project_part(p, h + token * u->rank + p->row);
        h += g->n * u->rank;
        first += u->rank;
    }
}

static void project_task(void *ctx, size_t task, lf_scratch *scratch)
{
    const lf_job *j = ctx;
    const lf_group *g = lf_group_of_task(j->ws, task);
    const size_t n_rows = rows_at_once(j->batch), n_cuts = (g->rank + n_rows - 1) / n_rows;
    const size_t token = (task - g->first_task) / n_cuts * MOST_TOKENS, row = (task - g->first_task) % n_cuts * n_rows;
    part p = {.ws = j->ws,
              .batch = j->batch,
              .tokens = j->ws->order + g->first + token,
              .n_tokens = lf_least(g->n - token, MOST_TOKENS),
              .scratch = scratch};

    project_rows(&p, g, token, row, n_rows);
}

static size_t bytes_read(const lorafmt_workspace *ws, const lorafmt_batch *b)
{
    size_t n = 0;

    for (size_t i = 0; i < ws->n_groups; i++)
        n += ws->groups[i].rank * b->in * (2 + ws->groups[i].n / FEW_TOKENS);
    return n;
}

lorafmt_status lf_project(lorafmt_workspace *ws, const lorafmt_batch *batch, lorafmt_error *err)
{
    lf_job j = {ws, batch};

    return lf_run_tasks(ws, lf_number_tasks(ws, count_tasks, batch), bytes_read(ws, batch), project_task, &j, err);
}
