/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "lib/forward/forward.h"
#include "lib/view/view.h"

#include <inttypes.h>

static size_t size_of(lorafmt_dtype dtype)
{
    return lf_real_size(lf_real_of(dtype));
}

const uint8_t *lf_batch_x(const lorafmt_batch *b, size_t token)
{
    return (const uint8_t *)b->x + token * (b->x_stride ? b->x_stride : b->in * size_of(b->x_dtype));
}

uint8_t *lf_batch_y(const lorafmt_batch *b, size_t token)
{
    return (uint8_t *)b->y + token * (b->y_stride ? b->y_stride : b->out * size_of(b->y_dtype));
}

bool lf_update_contributes(const lorafmt_update *u)
{
    return u->factors || (u->rank && u->scale != 0);
}

static lorafmt_status check_dtype(lorafmt_dtype dtype, const char *field, lorafmt_error *err)
{
    if (dtype == LORAFMT_F32 || dtype == LORAFMT_F16 || dtype == LORAFMT_BF16)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, field, "dtype %d, must be F32, F16 or BF16", (int)dtype);
}

/* Rows of n elements. */
static lorafmt_status check_rows(lorafmt_dtype dtype, const void *rows, size_t stride, size_t n, const char *field,
                                 lorafmt_error *err)
{
    LF_TRY(check_dtype(dtype, field, err));
    if (stride && (stride < n * size_of(dtype) || stride % size_of(dtype)))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, field, "stride %zu, must be whole elements and at least %zu bytes",
                       stride, n * size_of(dtype));
    if ((uintptr_t)rows % size_of(dtype))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, field, "is not aligned to its elements of %zu bytes",
                       size_of(dtype));
    return LORAFMT_OK;
}

static lorafmt_status check_update(const lorafmt_batch *b, size_t i, const lorafmt_update *u, lorafmt_error *err)
{
    LF_TRY(check_dtype(u->a_dtype, "a_dtype", err));
    LF_TRY(check_dtype(u->b_dtype, "b_dtype", err));
    if (u->in != b->in || u->out != b->out)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "layer",
                       "adapter %zu is for %zu inputs and %zu outputs, the batch has %zu and %zu", i, u->in, u->out, b->in,
                       b->out);
    return LORAFMT_OK;
}

static lorafmt_status check_adapter(const lorafmt_workspace *ws, const lorafmt_batch *b, size_t i, lorafmt_error *err)
{
    const lorafmt_updates *layer = &b->layer[i];
    uint64_t rank = 0;

    for (size_t k = 0; k < layer->n; k++) {
        LF_TRY(check_update(b, i, &layer->updates[k], err));
        rank += layer->updates[k].rank;
    }
    if (rank > ws->max_rank)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "layer",
                       "adapter %zu has rank %" PRIu64 ", the workspace is for %zu", i, rank, ws->max_rank);
    return LORAFMT_OK;
}

static lorafmt_status check_batch(const lorafmt_workspace *ws, const lorafmt_batch *b, lorafmt_error *err)
{
    if (b->n_tokens > ws->max_tokens)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "n_tokens", "%zu, the workspace is for %zu", b->n_tokens,
                       ws->max_tokens);
    if (b->n_adapters > ws->max_adapters)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "n_adapters", "%zu, the workspace is for %zu", b->n_adapters,
                       ws->max_adapters);
    LF_TRY(check_rows(b->x_dtype, b->x, b->x_stride, b->in, "x", err));
    LF_TRY(check_rows(b->y_dtype, b->y, b->y_stride, b->out, "y", err));
    for (size_t i = 0; i < b->n_adapters; i++)
        LF_TRY(check_adapter(ws, b, i, err));
    for (size_t t = 0; t < b->n_tokens; t++)
        if (b->adapters ? b->adapters[t] >= b->n_adapters && b->adapters[t] != LORAFMT_NO_ADAPTER : !b->n_adapters)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "adapters",
                           "token %zu names adapter %" PRIu32 ", there are %zu", t, b->adapters ? b->adapters[t] : 0,
                           b->n_adapters);
    return LORAFMT_OK;
}

/* One group for each adapter, with the number of its tokens; n_tokens of none. */
static void count_tokens(lorafmt_workspace *ws, const lorafmt_batch *b)
{
    for (size_t i = 0; i < b->n_adapters; i++) {
        lf_group *g = &ws->groups[i];
        *g = (lf_group){.updates = &b->layer[i], .adapter = i};
        for (size_t k = 0; k < b->layer[i].n; k++)
            if (lf_update_contributes(&b->layer[i].updates[k]))
                g->rank += b->layer[i].updates[k].rank;
    }
    for (size_t t = 0; t < b->n_tokens; t++)
        if (!b->adapters || b->adapters[t] != LORAFMT_NO_ADAPTER)
            ws->groups[b->adapters ? b->adapters[t] : 0].n++;
}

static bool has_work(const lf_group *g)
{
    for (size_t k = 0; g->n && k < g->updates->n; k++)
        if (lf_update_contributes(&g->updates->updates[k]))
            return true;
    return false;
}

/* Tokens in the order of their groups. */
static void sort_tokens(lorafmt_workspace *ws, const lorafmt_batch *b)
{
    size_t first = 0;

    for (size_t i = 0; i < b->n_adapters; i++) {
        ws->groups[i].first = first;
        first += ws->groups[i].n;
        ws->groups[i].n = 0;
    }
    for (size_t t = 0; t < b->n_tokens; t++)
        if (!b->adapters || b->adapters[t] != LORAFMT_NO_ADAPTER) {
            lf_group *g = &ws->groups[b->adapters ? b->adapters[t] : 0];
            ws->order[g->first + g->n++] = t;
        }
}

lorafmt_status lf_group_tokens(lorafmt_workspace *ws, const lorafmt_batch *b, lorafmt_error *err)
{
    LF_TRY(check_batch(ws, b, err));
    count_tokens(ws, b);
    sort_tokens(ws, b);
    ws->n_groups = 0;
    for (size_t i = 0; i < b->n_adapters; i++)
        if (has_work(&ws->groups[i]))
            ws->groups[ws->n_groups++] = ws->groups[i];
    return LORAFMT_OK;
}

float *lf_group_numbers(const lorafmt_workspace *ws, float *numbers, const lf_group *g)
{
    return numbers + g->first * ws->max_rank;
}
