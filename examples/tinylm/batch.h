/* SPDX-License-Identifier: MIT */
/* Windows of a text that are learnt together, on several threads. */
#ifndef TINYLM_BATCH_H
#define TINYLM_BATCH_H

#include "backward.h"
#include "score.h"

#define BATCH_SIZE 8

typedef struct batch {
    uint8_t *text;
    size_t text_size;
    uint64_t chance; /* the state of draw(), which chooses windows */
    size_t n_threads;
    learner learners[BATCH_SIZE]; /* of each thread */

    /* Of each window, so that sums do not depend on which thread had it. */
    const uint8_t *windows[BATCH_SIZE];
    double losses[BATCH_SIZE];
    float *gradients; /* [BATCH_SIZE][trainable's n]; after batch_learn() the first is the mean of all */
} batch;

/* Read a text of at least one window. out zeroed; to be freed with batch_free() in any case. */
lorafmt_status batch_start(const char *path, uint64_t seed, size_t n_threads, const model *m, const transposed *w,
                           const trainable *t, batch *out, lorafmt_error *err);
void batch_free(batch *b);

/* Choose windows by chance; leave the mean of their gradients in b->gradients and of their losses in *loss. */
lorafmt_status batch_learn(batch *b, double *lost, lorafmt_error *err);

#endif
