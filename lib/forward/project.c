/* SPDX-License-Identifier: MIT */
/* h = A x: a task takes some rows of one adapter's factors A, whichever update they belong to, and some of its tokens. */
#include "lib/forward/forward.h"
#include "lib/view/view.h"

#include <string.h>

#define MOST_TOKENS 64
#define MOST_ROWS 64

/* Rows that the largest tiles of all levels divide, and columns of them that stay in a first-level cache while tokens go by. */
#define BLOCK_ROWS 8
#define BLOCK_COLS 1024

/* So few tokens are done while rows of A go by; for more, blocks follow one another so that x stays in a second-level cache. */
#define FEW_TOKENS 6

/* Of A that are a task at least. */
#define TASK_SIZE ((size_t)64 << 10)

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

/* Some of its rows, and columns of them. */
typedef struct block {
    size_t row, n_rows; // of the part
    size_t col, n_cols;
} block;

static size_t up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

static size_t a_stride(const part *p)
{
    return p->batch->in * lf_real_size(lf_real_of(p->update->a_dtype));
}

static const uint8_t *a_at(const part *p, size_t row, size_t col)
{
    return (const uint8_t *)p->update->a + (p->row + row) * a_stride(p) + col * lf_real_size(lf_real_of(p->update->a_dtype));
}

/* Of a block's rows: [n_tokens][n_rows][LF_PANEL]. */
static float *sums_of(const part *p, size_t row)
{
    return p->scratch->sums + row * p->n_tokens * LF_PANEL;
}

static const uint8_t *x_at(const part *p, size_t t, size_t col)
{
    return lf_batch_x(p->batch, p->tokens[t]) + col * lf_real_size(lf_real_of(p->batch->x_dtype));
}

static lf_ahead ahead_of(const part *p, const block *next)
{
    return (lf_ahead){a_at(p, next->row, next->col), next->n_rows, next->n_cols * lf_real_size(lf_real_of(p->update->a_dtype)),
                      a_stride(p)};
}

static void add_dots(const part *p, const block *b, const block *next)
{
    const lf_real type = lf_real_of(p->update->a_dtype);
    const void *x[MOST_TOKENS];
    lf_dots dots = {.a_type = type,
                    .x_type = lf_real_of(p->batch->x_dtype),
                    .a = a_at(p, b->row, b->col),
                    .a_stride = a_stride(p),
                    .n_a = b->n_rows,
                    .x = x,
                    .n_x = p->n_tokens,
                    .n = b->n_cols,
                    .goes_on = b->col > 0,
                    .sums = sums_of(p, b->row)};

    for (size_t t = 0; t < p->n_tokens; t++)
        x[t] = x_at(p, t, b->col);
    if (p->n_tokens > FEW_TOKENS)
        dots.ahead = ahead_of(p, next);
    if (p->n_tokens > FEW_TOKENS && type != LF_REAL_F32) {
        p->ws->kernels.widen_rows(type, dots.a, dots.a_stride, b->n_rows, b->n_cols, p->scratch->a, b->n_cols, LF_PANEL);
        dots.a_type = LF_REAL_F32;
        dots.a = p->scratch->a;
        dots.a_stride = b->n_cols * sizeof(float);
    }
    p->ws->kernels.add_dots(&dots);
}

static block block_at(const part *p, size_t row, size_t col, size_t end)
{
    return (block){row, lf_least(p->n_rows - row, BLOCK_ROWS), col, lf_least(end - col, BLOCK_COLS)};
}

/* Columns [first, end) of `whole`, which are whole panels. */
static void project_columns(const part *p, size_t first, size_t end, size_t whole)
{
    for (size_t row = 0; row < p->n_rows; row += BLOCK_ROWS)
        for (size_t col = first; col < end; col += BLOCK_COLS) {
            const block b = block_at(p, row, col, end);
            const bool last = row + b.n_rows == p->n_rows;
            const block next = last ? block_at(p, 0, end, whole) : block_at(p, row + b.n_rows, col, end);
            add_dots(p, &b, &next);
        }
}

/* The columns after the last whole panel, as if zeros followed. */
static void project_last(const part *p, size_t col, size_t n)
{
    const lf_real a_type = lf_real_of(p->update->a_dtype), x_type = lf_real_of(p->batch->x_dtype);
    const void *x[MOST_TOKENS];
    lf_dots dots = {.a_type = LF_REAL_F32,
                    .x_type = LF_REAL_F32,
                    .a = p->scratch->a,
                    .a_stride = LF_PANEL * sizeof(float),
                    .x = x,
                    .n_x = p->n_tokens,
                    .n = LF_PANEL,
                    .goes_on = col > 0};

    memset(p->scratch->a, 0, BLOCK_ROWS * LF_PANEL * sizeof(float));
    memset(p->scratch->x, 0, p->n_tokens * LF_PANEL * sizeof(float));
    for (size_t t = 0; t < p->n_tokens; t++) {
        float *wide = p->scratch->x + t * LF_PANEL;
        lf_widen_f32(x_type, x_at(p, t, col), wide, n);
        x[t] = wide;
    }
    for (size_t row = 0; row < p->n_rows; row += BLOCK_ROWS) {
        dots.n_a = lf_least(p->n_rows - row, BLOCK_ROWS);
        dots.sums = sums_of(p, row);
        for (size_t i = 0; i < dots.n_a; i++)
            lf_widen_f32(a_type, a_at(p, row + i, col), p->scratch->a + i * LF_PANEL, n);
        p->ws->kernels.add_dots(&dots);
    }
}

/* h is the first token's, of the part's first row. */
static void project_part(const part *p, float *h)
{
    const size_t whole = p->batch->in / LF_PANEL * LF_PANEL, most = p->n_tokens > FEW_TOKENS ? BLOCK_COLS : whole;

    for (size_t col = 0; col < whole; col += most)
        project_columns(p, col, lf_least(whole, col + most), whole);
    if (whole < p->batch->in || !whole)
        project_last(p, whole, p->batch->in - whole);
    for (size_t row = 0; row < p->n_rows; row += BLOCK_ROWS) {
        const size_t n = lf_least(p->n_rows - row, BLOCK_ROWS);
        for (size_t t = 0; t < p->n_tokens; t++)
            p->ws->kernels.fold(sums_of(p, row) + t * n * LF_PANEL, n, h + t * p->update->rank + row);
    }
}

/* --- tasks --- */

/* Rows of a task: about TASK_SIZE bytes for few tokens, otherwise so many that every thread has some. */
static size_t rows_at_once(const lorafmt_workspace *ws, const lf_group *g, const lorafmt_batch *b)
{
    const size_t n = g->n > FEW_TOKENS ? (g->rank + ws->n_threads - 1) / ws->n_threads : TASK_SIZE / (b->in * 2 + 1) + 1;

    return lf_least(up(n, BLOCK_ROWS), MOST_ROWS);
}

static size_t count_tasks(const lorafmt_workspace *ws, const lf_group *g, const lorafmt_batch *b)
{
    const size_t n_rows = rows_at_once(ws, g, b);

    return g->rank ? (g->n + MOST_TOKENS - 1) / MOST_TOKENS * ((g->rank + n_rows - 1) / n_rows) : 0;
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
    const size_t n_rows = rows_at_once(j->ws, g, j->batch), n_cuts = (g->rank + n_rows - 1) / n_rows;
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
