/* SPDX-License-Identifier: MIT */
/* A new adapter whose numbers change: in f32, and all in one array, so that a step is one call. */
#ifndef TINYLM_TRAINABLE_H
#define TINYLM_TRAINABLE_H

#include "model.h"
#include "unmerged.h"

#include <lorakit/init.h>

typedef struct trainable {
    lorakit_adapter *fresh; /* what it is made of, and was */
    size_t n;
    float *numbers;          /* A and B of every site, one after another */
    lorafmt_adapter adapter; /* with these numbers */
    lorafmt_site *sites;
    lorafmt_factor *factors; /* two of each site */
    unmerged unmerged;       /* this adapter alone */
} trainable;

/*
 * options  of F32
 * out      zeroed; to be freed with trainable_free() in any case
 *
 * What lorakit_init() returns; UNSUPPORTED for what is not linear.
 */
lorafmt_status trainable_make(const model *m, const lorakit_init_options *options, trainable *out, lorafmt_error *err);
void trainable_free(trainable *t);

/* Write it as a `.lora` made for this base. */
lorafmt_status trainable_save(const trainable *t, const model *m, const char *path, lorafmt_dtype dtype, lorafmt_error *err);

#endif
