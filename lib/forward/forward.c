/* SPDX-License-Identifier: MIT */
/* y += scale · B h: a task takes some columns of y, for which it turns B over, and some tokens of a group. */
#include "lib/forward/forward.h"

#include "format/base/error.h"
#include "lib/view/view.h"

#include <string.h>

/* Of all updates of an adapter, so that tokens are done by the kernel that merges rows. */
#define MOST_RANK 512
#define MOST_UPDATES 64

#define MOST_TOKENS 256
#define MOST_COLS 512
#define TILE_COLS 64 // what the widest tiles divide

/* Panels of all updates that are made at once: they stay in a first-level cache. */
#define PANELS_SIZE 4096

/* Tokens that do not follow one another are brought together, so many of them; of a run as long as the highest tile none need be. */
#define GATHERED 24
#define RUN 6

/* Otherwise, tokens and columns that are done at once in f32, and ranks whose panels are at hand. */
#define SOME_TOKENS 64
#define SOME_COLS 256
#define SOME_RANKS (LF_BLOCK_SIZE / SOME_COLS)

/* Columns of y by tokens. */
typedef struct part {
    const lorafmt_workspace *ws;
    const lorafmt_batch *batch;
    const lf_group *group;
    size_t token, n_tokens; // of the group
    size_t col, n_cols;
    lf_scratch *scratch;
} part;

static size_t whole_tiles(size_t n)
{
    return n > TILE_COLS ? n / TILE_COLS * TILE_COLS : TILE_COLS;
}

static lf_matrix b_of(const lorafmt_update *u)
{
    return (lf_matrix){.type = lf_real_of(u->b_dtype), .data = u->b, .n_cols = u->rank, .transposed = true};
}

static size_t token_at(const part *p, size_t i)
{
    return p->ws->order[p->group->first + p->token + i];
}

static uint8_t *y_at(const part *p, size_t i)
{
    return lf_batch_y(p->batch, token_at(p, i)) + p->col * lf_real_size(lf_real_of(p->batch->y_dtype));
}

/* --- with the kernel that merges rows: what is a row of W there is a token here --- */

/* What is done to a part: panels of B as right factors, h as left ones. */
static size_t pack_updates(const part *p, lf_update updates[MOST_UPDATES])
{
    const float *h = lf_group_numbers(p->ws, p->ws->h, p->group);
    float *panels = p->scratch->a;
    size_t n = 0;

    for (size_t k = 0; k < p->group->updates->n; k++) {
        const lorafmt_update *u = &p->group->updates->updates[k];
        const lf_matrix b = b_of(u);
        if (!lf_update_contributes(u))
            continue;
        lf_pack_panels(&p->ws->kernels, &b, 0, u->rank, p->col, p->n_cols, panels);
        updates[n++] = (lf_update){.left = h + p->token * u->rank, .panels = panels, .rank = u->rank, .scale = u->scale};
        panels += lf_panels_size(u->rank, p->n_cols);
        h += p->group->n * u->rank;
    }
    return n;
}

/* What the columns after these need of the B of the first update that contributes; one does. */
static lf_ahead next_b(const part *p)
{
    const lorafmt_update *u = p->group->updates->updates;
    const size_t col = p->col + p->n_cols;
    size_t row;

    while (!lf_update_contributes(u))
        u++;
    row = u->rank * lf_real_size(lf_real_of(u->b_dtype));
    return (lf_ahead){(const uint8_t *)u->b + col * row, 1, lf_least(p->batch->out - col, p->n_cols) * row, 0};
}

/* How many tokens from i on follow one another in the batch. */
static size_t run_length(const part *p, size_t i)
{
    size_t n = 1;

    while (i + n < p->n_tokens && token_at(p, i + n) == token_at(p, i) + n)
        n++;
    return n;
}

/* Columns of n tokens from i on, to y or from there. */
static void copy_y(const part *p, size_t i, size_t n, uint8_t *gathered, bool back)
{
    const size_t size = p->n_cols * lf_real_size(lf_real_of(p->batch->y_dtype));

    for (size_t k = 0; k < n; k++)
        memcpy(back ? y_at(p, i + k) : gathered + k * size, back ? gathered + k * size : y_at(p, i + k), size);
}

static void expand_columns(const part *p)
{
    const lf_real type = lf_real_of(p->batch->y_dtype);
    const size_t stride = (size_t)(lf_batch_y(p->batch, 1) - lf_batch_y(p->batch, 0));
    uint8_t *gathered = (uint8_t *)p->scratch->x;
    lf_update updates[MOST_UPDATES];
    lf_block block = {.from = type,
                      .to = type,
                      .n_cols = p->n_cols,
                      .updates = updates,
                      .n_updates = pack_updates(p, updates),
                      .ahead = next_b(p)};
    lf_tally tally = {0};

    for (size_t i = 0; i < p->n_tokens; i += block.n_rows) {
        const size_t run = run_length(p, i), left = p->n_tokens - i;
        const bool apart = run < RUN && run < left;
        block.n_rows = apart ? lf_least(left, GATHERED) : run;
        block.src = block.dst = apart ? gathered : y_at(p, i);
        block.src_stride = block.dst_stride = apart ? p->n_cols * lf_real_size(type) : stride;
        if (apart)
            copy_y(p, i, block.n_rows, gathered, false);
        p->ws->kernels.merge_block(&block, &tally);
        if (apart)
            copy_y(p, i, block.n_rows, gathered, true);
        for (size_t k = 0; k < block.n_updates; k++)
            updates[k].left += block.n_rows * updates[k].rank;
    }
}

static void expand_part(const part *whole)
{
    const size_t most = whole_tiles(PANELS_SIZE / whole->group->rank);
    part p = *whole;

    for (size_t done = 0; done < whole->n_cols; done += most) {
        p.col = whole->col + done;
        p.n_cols = lf_least(whole->n_cols - done, most);
        expand_columns(&p);
    }
}

/* --- any ranks, and DoRA: the same arithmetic, step by step --- */

/* d = B h, into sums. */
static void multiply(const part *p, const lorafmt_update *u, const float *h)
{
    const lf_matrix b = b_of(u);

    memset(p->scratch->sums, 0, p->n_tokens * SOME_COLS * sizeof(float));
    for (size_t done = 0; done < u->rank; done += SOME_RANKS) {
        const size_t n = lf_least(u->rank - done, SOME_RANKS);
        lf_pack_panels(&p->ws->kernels, &b, done, n, p->col, p->n_cols, p->scratch->a);
        for (size_t i = 0; i < p->n_tokens; i++)
            p->ws->kernels.multiply_f32(p->scratch->sums + i * SOME_COLS, p->n_cols, h + (p->token + i) * u->rank + done,
                                        p->scratch->a, n);
    }
}

static void add_update(const part *p, const lorafmt_update *u, const float *h)
{
    multiply(p, u, h);
    for (size_t i = 0; i < p->n_tokens; i++) {
        float *y = p->scratch->x + i * SOME_COLS;
        p->ws->kernels.add_scaled_f32(y, p->n_cols, p->scratch->sums + i * SOME_COLS, u->scale);
        for (size_t j = 0; u->factors && j < p->n_cols; j++)
            y[j] *= u->factors[p->col + j];
    }
}

static void expand_steps(const part *p)
{
    const lf_real type = lf_real_of(p->batch->y_dtype);
    const float *h = lf_group_numbers(p->ws, p->ws->h, p->group);
    lf_tally tally = {0};

    for (size_t i = 0; i < p->n_tokens; i++)
        lf_widen_f32(type, y_at(p, i), p->scratch->x + i * SOME_COLS, p->n_cols);
    for (size_t k = 0; k < p->group->updates->n; k++) {
        const lorafmt_update *u = &p->group->updates->updates[k];
        if (!lf_update_contributes(u))
            continue;
        add_update(p, u, h);
        h += p->group->n * u->rank;
    }
    for (size_t i = 0; i < p->n_tokens; i++)
        lf_narrow_f32(type, p->scratch->x + i * SOME_COLS, y_at(p, i), p->n_cols, &tally);
}

/* --- tasks --- */

static bool is_plain(const lf_group *g)
{
    for (size_t k = 0; k < g->updates->n; k++)
        if (g->updates->updates[k].factors)
            return false;
    return g->rank <= MOST_RANK && g->updates->n <= MOST_UPDATES;
}

static size_t tokens_at_once(const lf_group *g)
{
    return is_plain(g) ? MOST_TOKENS : SOME_TOKENS;
}

static size_t cols_at_once(const lf_group *g)
{
    return is_plain(g) ? lf_least(whole_tiles(LF_BLOCK_SIZE / g->rank), MOST_COLS) : SOME_COLS;
}

static size_t n_cuts(const lf_group *g, const lorafmt_batch *b)
{
    return (b->out + cols_at_once(g) - 1) / cols_at_once(g);
}

static size_t count_tasks(const lorafmt_workspace *ws, const lf_group *g, const lorafmt_batch *b)
{
    (void)ws;
    return (g->n + tokens_at_once(g) - 1) / tokens_at_once(g) * n_cuts(g, b);
}

static void expand_task(void *ctx, size_t task, lf_scratch *scratch)
{
    const lf_job *j = ctx;
    const lf_group *g = lf_group_of_task(j->ws, task);
    const size_t n = n_cuts(g, j->batch), token = (task - g->first_task) / n * tokens_at_once(g);
    const size_t col = (task - g->first_task) % n * cols_at_once(g);
    const part p = {.ws = j->ws,
                    .batch = j->batch,
                    .group = g,
                    .token = token,
                    .n_tokens = lf_least(g->n - token, tokens_at_once(g)),
                    .col = col,
                    .n_cols = lf_least(j->batch->out - col, cols_at_once(g)),
                    .scratch = scratch};

    if (is_plain(g))
        expand_part(&p);
    else
        expand_steps(&p);
}

static size_t bytes_read(const lorafmt_workspace *ws, const lorafmt_batch *b)
{
    size_t n = 0;

    for (size_t i = 0; i < ws->n_groups; i++)
        n += (2 * ws->groups[i].rank + 4 * ws->groups[i].n) * b->out;
    return n;
}

static lorafmt_status expand(lorafmt_workspace *ws, const lorafmt_batch *batch, lorafmt_error *err)
{
    lf_job j = {ws, batch};

    return lf_run_tasks(ws, lf_number_tasks(ws, count_tasks, batch), bytes_read(ws, batch), expand_task, &j, err);
}

lorafmt_status lorafmt_forward(lorafmt_workspace *ws, const lorafmt_batch *batch, lorafmt_error *err)
{
    LF_TRY(lf_group_tokens(ws, batch, err));
    LF_TRY(lf_project(ws, batch, err));
    return expand(ws, batch, err);
}
