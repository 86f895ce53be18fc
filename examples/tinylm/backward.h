/* SPDX-License-Identifier: MIT */
/*
 * The backward pass: how the loss of a window changes with the numbers of the adapter. What flows through the frozen weights is
 * computed here, and goes back through a layer as forward through one of its transposed weights.
 */
#ifndef TINYLM_BACKWARD_H
#define TINYLM_BACKWARD_H

#include "session.h"
#include "trainable.h"

/* Transposed weights of a model of F32, in its layers; those of norms are missing. */
typedef struct transposed {
    layer *layers;
    matrix lm_head;
    float *memory;
} transposed;

/* out zeroed; to be freed with transposed_free() in any case. */
lorafmt_status transposed_make(const model *m, transposed *out, lorafmt_error *err);
void transposed_free(transposed *t);

/* What a thread needs to learn. */
typedef struct learner {
    const transposed *transposed;
    const trainable *trainable;
    session session;
    sequence sequence;
    float *memory; /* where all gradients below are: of the loss, with respect to what they are named after */
    float *dx, *dnormed, *dquery, *dkey, *dvalue, *dmixed, *dproduct, *dgate, *dup, *dlogits;
    float *through; /* what came back through frozen weights */
    float *dscores;
    float *gradient; /* what is at hand: as the trainable's numbers */
} learner;

/* out zeroed; to be freed with learner_free() in any case. The others must outlive it. */
lorafmt_status learner_start(const model *m, const transposed *w, const trainable *t, learner *out, lorafmt_error *err);
void learner_free(learner *l);

/*
 * The loss of bytes 1 .. n, n < WINDOW_SIZE, foretold from those before them, in nats per byte. Its gradient is added to `gradient`:
 * a number for each of the trainable's.
 */
double learner_learn(learner *l, const uint8_t *bytes, size_t n, float *gradient);

#endif
