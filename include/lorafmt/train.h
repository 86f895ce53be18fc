/* SPDX-License-Identifier: MIT */
/**
 * Training adapters: the gradients of lorafmt_forward(), and steps that take them. The base is frozen, so it needs none; what flows
 * through it is the caller's business, and what flows through the low-rank terms is added here.
 */
#ifndef LORAFMT_TRAIN_H
#define LORAFMT_TRAIN_H

#include "lorafmt/error.h"
#include "lorafmt/forward.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Of the loss with respect to one update; both are added to. */
typedef struct lorafmt_gradient {
    float *da; /**< [rank x in]; NULL = not wanted */
    float *db; /**< [out x rank]; NULL = not wanted */
} lorafmt_gradient;

/**
 * Go back through what lorafmt_forward() did. With g = dL/dy[t]:
 *
 *     dB += scale · g (A x[t])'      dA += scale · (B' g) x[t]'      dx[t] += scale · A' (B' g)
 *
 * All sums are in f32, over the tokens of a batch in ascending order.
 *
 * @param workspace  as for lorafmt_forward()
 * @param batch      the same, but that y is dL/dy and only read. Without DoRA.
 * @param gradients  for each adapter of the batch an array with one for each of its updates; NULL = for this adapter, or for all,
 *                   not wanted. No two of the same memory.
 * @param dx         [n_tokens x in] of F32, dx_stride bytes apart, added to; must not overlap x or y; NULL = not wanted
 *
 * @return LORAFMT_OK; MISUSE as lorafmt_forward(); UNSUPPORTED (DoRA). On failure nothing is changed, but for an executor that did
 *         not run every item.
 */
LORAFMT_API lorafmt_status lorafmt_backward(lorafmt_workspace *workspace, const lorafmt_batch *batch,
                                            const lorafmt_gradient *const *gradients, float *dx, size_t dx_stride,
                                            lorafmt_error *err);

/** Of stochastic gradient descent, as torch.optim.SGD. */
typedef struct lorafmt_sgd {
    float rate;
    float momentum;     /**< 0 = none */
    float weight_decay; /**< added to the gradient, times the weight */
} lorafmt_sgd;

/**
 * One step: g = gradient + weight_decay · w;  velocity = momentum · velocity + g;  w -= rate · velocity.
 *
 * @param w, gradient  n numbers
 * @param velocity     n numbers, zero before the first step; NULL when momentum is 0
 */
LORAFMT_API void lorafmt_sgd_step(const lorafmt_sgd *how, float *w, const float *gradient, float *velocity, size_t n);

/** Of AdamW (arXiv:1711.05101, algorithm 2), as torch.optim.AdamW. Usual: 1e-3, 0.9, 0.999, 1e-8, 0.01. */
typedef struct lorafmt_adamw {
    float rate, beta1, beta2, eps, weight_decay;
} lorafmt_adamw;

/**
 * One step: w -= rate · weight_decay · w;  m = β1 m + (1 - β1) g;  v = β2 v + (1 - β2) g²;
 * w -= rate · (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + eps).
 *
 * @param step         t, from 1 on
 * @param w, gradient  n numbers
 * @param m, v         n numbers, zero before the first step
 */
LORAFMT_API void lorafmt_adamw_step(const lorafmt_adamw *how, uint64_t step, float *w, const float *gradient, float *m, float *v,
                                    size_t n);

#ifdef __cplusplus
}
#endif

#endif
