/* SPDX-License-Identifier: MIT */
/* What is live, in a few bytes. */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "lib/runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

typedef struct reading {
    const lorafmt_runtime *runtime;
    unsigned set;
    uint8_t (*each)[32];
} reading;

static void add(const reading *r, size_t tensor, lf_sha256 *sha256)
{
    const lf_place *place = &r->runtime->places[tensor];
    const uint8_t *live = place->live[r->set], *row = live ? live : place->pristine;
    const size_t stride = live ? place->live_stride : place->pristine_stride,
                 size = live ? place->live_row_size : place->row_size;

    for (uint64_t i = 0; i < place->n_rows; i++, row += stride)
        lf_sha256_update(sha256, row, size);
}

static lorafmt_status hash_one(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    const reading *r = ctx;
    lf_sha256 sha256;

    (void)unused;
    (void)err;
    lf_sha256_init(&sha256);
    add(r, i, &sha256);
    lf_sha256_final(&sha256, r->each[i]);
    return LORAFMT_OK;
}

typedef struct named {
    const char *name;
    size_t tensor;
} named;

static int compare(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static lorafmt_status hash_all(const reading *r, uint8_t out[32], lorafmt_error *err)
{
    const lorafmt_base *base = &r->runtime->base;
    named *order = calloc(base->n_tensors ? base->n_tensors : 1, sizeof *order);
    lf_sha256 sha256;

    if (!order)
        return lf_no_memory(err);
    for (size_t i = 0; i < base->n_tensors; i++)
        order[i] = (named){base->tensors[i].name, i};
    qsort(order, base->n_tensors, sizeof *order, compare);
    lf_sha256_init(&sha256);
    for (size_t i = 0; i < base->n_tensors; i++)
        add(r, order[i].tensor, &sha256);
    lf_sha256_final(&sha256, out);
    free(order);
    return LORAFMT_OK;
}

lorafmt_status lorafmt_runtime_digest(lorafmt_runtime *rt, uint8_t all[32], uint8_t (*each)[32], lorafmt_error *err)
{
    reading r = {.runtime = rt, .set = lorafmt_runtime_read_begin(rt), .each = each};
    lorafmt_status st = all ? hash_all(&r, all, err) : LORAFMT_OK;

    if (!st && each)
        st = lf_runtime_run(rt, rt->base.n_tensors, hash_one, &r, err);
    lorafmt_runtime_read_end(rt, r.set);
    return st;
}
