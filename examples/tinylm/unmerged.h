/* SPDX-License-Identifier: MIT */
/* Adapters side by side that are not merged: what each does to each tensor, for tokens that name theirs. */
#ifndef TINYLM_UNMERGED_H
#define TINYLM_UNMERGED_H

#include "matrix.h"

#include <lorafmt/forward.h>

typedef struct unmerged {
    size_t n_tensors, n_adapters;
    uint32_t max_rank;
    lorafmt_updates *table; /* [tensor of the base][adapter] */
    lorafmt_update *all;    /* what the table points into */
} unmerged;

/* Prepare a view, and find out whether all that it does can be done unmerged. */
lorafmt_status unmerged_prepare(lorafmt_view *view, lorafmt_error *err);

/* One prepared view of the base for each adapter, or stack of them, which must outlive it. out zeroed; unmerged_free() in any case. */
lorafmt_status unmerged_make(lorafmt_view *const *views, size_t n_views, unmerged *out, lorafmt_error *err);
void unmerged_free(unmerged *u);

/* For one thread. */
lorafmt_status unmerged_make_workspace(const unmerged *u, size_t max_tokens, lorafmt_workspace **out, lorafmt_error *err);

/* What the adapters do to a tensor. */
const lorafmt_updates *unmerged_layer(const unmerged *u, size_t tensor);

/* n tokens on their way through a layer, from x to y; adapters as lorafmt_batch has them. */
lorafmt_batch unmerged_batch(const unmerged *u, const matrix *w, const uint32_t *adapters, const float *x, size_t n, float *y);

#endif
