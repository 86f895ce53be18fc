/* SPDX-License-Identifier: MIT */
#include "unmerged.h"

#include "fail.h"

#include <stdlib.h>

lorafmt_status unmerged_prepare(lorafmt_view *view, lorafmt_error *err)
{
    for (size_t i = 0; i < lorafmt_view_n_tensors(view); i++)
        if (lorafmt_view_prepare(view, i, err))
            return err->status;
    return lorafmt_view_check_unmerged(view, err);
}

static size_t count_updates(lorafmt_view *const *views, size_t n_views)
{
    size_t n = 0;

    for (size_t k = 0; k < n_views; k++)
        for (size_t i = 0; i < lorafmt_view_n_tensors(views[k]); i++)
            n += lorafmt_view_n_updates(views[k], i);
    return n;
}

/* Updates of one adapter to one tensor, from `next` on. */
static lorafmt_updates take_updates(const lorafmt_view *view, size_t tensor, unmerged *u, lorafmt_update *next)
{
    const lorafmt_updates updates = {.updates = next, .n = lorafmt_view_n_updates(view, tensor)};
    uint32_t rank = 0;

    for (size_t i = 0; i < updates.n; i++) {
        next[i] = lorafmt_view_get_update(view, tensor, i);
        rank += next[i].rank;
    }
    u->max_rank = rank > u->max_rank ? rank : u->max_rank;
    return updates;
}

static void fill_table(lorafmt_view *const *views, unmerged *u)
{
    lorafmt_update *next = u->all;

    for (size_t tensor = 0; tensor < u->n_tensors; tensor++)
        for (size_t k = 0; k < u->n_adapters; k++) {
            lorafmt_updates *updates = &u->table[tensor * u->n_adapters + k];
            *updates = take_updates(views[k], tensor, u, next);
            next += updates->n;
        }
}

lorafmt_status unmerged_make(lorafmt_view *const *views, size_t n_views, unmerged *out, lorafmt_error *err)
{
    out->n_tensors = lorafmt_view_n_tensors(views[0]);
    out->n_adapters = n_views;
    out->max_rank = 1;
    out->table = calloc(out->n_tensors * n_views, sizeof *out->table);
    out->all = calloc(count_updates(views, n_views) + 1, sizeof *out->all);
    if (!out->table || !out->all)
        return fail_memory(err);
    fill_table(views, out);
    return LORAFMT_OK;
}

void unmerged_free(unmerged *u)
{
    free(u->table);
    free(u->all);
}

lorafmt_status unmerged_make_workspace(const unmerged *u, size_t max_tokens, lorafmt_workspace **out, lorafmt_error *err)
{
    const lorafmt_workspace_options options = {
        .struct_size = sizeof options,
        .max_tokens = max_tokens,
        .max_adapters = u->n_adapters,
        .max_rank = u->max_rank,
        .n_threads = 1,
    };

    return lorafmt_workspace_new(&options, out, err);
}

const lorafmt_updates *unmerged_layer(const unmerged *u, size_t tensor)
{
    return u->table + tensor * u->n_adapters;
}

lorafmt_batch unmerged_batch(const unmerged *u, const matrix *w, const uint32_t *adapters, const float *x, size_t n, float *y)
{
    return (lorafmt_batch){
        .n_tokens = n,
        .in = w->in,
        .out = w->out,
        .x = x,
        .x_dtype = LORAFMT_F32,
        .y = y,
        .y_dtype = LORAFMT_F32,
        .adapters = adapters,
        .layer = unmerged_layer(u, w->tensor),
        .n_adapters = u->n_adapters,
    };
}
