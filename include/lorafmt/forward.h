/* SPDX-License-Identifier: MIT */
/**
 * Adapters that are not merged. The base stays as it is and computes y = W x for a batch of tokens; lorafmt_forward() adds, to each
 * token, the low-rank term of the adapter that it names. So one copy of the weights serves tokens of many adapters in one batch.
 *
 *     lorafmt_bind() ─▶ view ─▶ lorafmt_view_get_update() ──┐
 *                                                           ├─▶ lorafmt_forward():  y[t] += scale · B (A x[t])
 *     x and y of one layer, which adapter each token has ───┘
 *
 * Tokens are grouped by adapter, so the factors of each are read once for a batch, where the adapter has them: in its file. Nothing
 * is allocated but when a workspace is made.
 *
 * Numbers. In f32, whatever the dtypes:
 *
 *     h[ρ] = Σ_j A[ρ,j] x[j]               in 16 sums, of the j that are alike modulo 16, each by fma in ascending order from 0;
 *                                          then of these the sums of i and i + 8, of i and i + 4, i + 2, i + 1
 *     d[i] = Σ_ρ B[i,ρ] h[ρ]               by fma in ascending order from 0
 *     y[i] = round(fma(scale, d[i], y[i])) to nearest even, once, to the dtype of y
 *
 * An element thus depends on its token and its adapter and on nothing else: not on the other tokens of the batch, their order, the
 * number of threads or the CPU. With u = 2^-24 and n = ⌈in / 16⌉ + rank + 7 it differs from the exact sum by at most
 *
 *     n u / (1 - n u) · |scale| Σ_ρ |B[i,ρ]| Σ_j |A[ρ,j]| |x[j]|  +  one rounding to f32 and one to the dtype of y,
 *
 * besides what underflows. A merged weight is rounded to the dtype of the base, which in bf16 costs up to 2^-9 |W'[i,j]| |x[j]| in
 * each product: unmerged is the more exact of the two.
 */
#ifndef LORAFMT_FORWARD_H
#define LORAFMT_FORWARD_H

#include "lorafmt/error.h"
#include "lorafmt/runtime.h"
#include "lorafmt/tensor.h"
#include "lorafmt/view.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One low-rank update of a layer. All is borrowed. */
typedef struct lorafmt_update {
    size_t in, out;                 /**< of the layer */
    const void *a;                  /**< [rank x in], rows one after the other; need not be aligned */
    const void *b;                  /**< [out x rank] */
    lorafmt_dtype a_dtype, b_dtype; /**< F32, F16 or BF16 */
    uint32_t rank;                  /**< 0 = adds nothing */
    float scale;
    const float *factors; /**< DoRA: out numbers, y[i] is multiplied with factors[i] after the update; NULL = none */
} lorafmt_update;

/** All that one adapter, or a stack of them, does to a layer: updates in the order they are added, with one rounding. */
typedef struct lorafmt_updates {
    const lorafmt_update *updates;
    size_t n; /**< 0 = leaves the layer as it is */
} lorafmt_updates;

/** What stands for an adapter where a token has none. */
#define LORAFMT_NO_ADAPTER UINT32_MAX

/** Tokens on their way through one layer. Rows are contiguous; strides are bytes from one to the next, 0 = they follow one another. */
typedef struct lorafmt_batch {
    size_t n_tokens, in, out;
    const void *x; /**< [n_tokens x in] */
    size_t x_stride;
    lorafmt_dtype x_dtype; /**< F32, F16 or BF16 */
    void *y;               /**< [n_tokens x out]; must not overlap x. With DoRA what W alone makes of x, without bias. */
    size_t y_stride;
    lorafmt_dtype y_dtype;        /**< F32, F16 or BF16 */
    const uint32_t *adapters;     /**< for each token an index into layer, or LORAFMT_NO_ADAPTER; NULL = 0 for all */
    const lorafmt_updates *layer; /**< what each adapter does here */
    size_t n_adapters;            /**< of layer */
} lorafmt_batch;

typedef struct lorafmt_workspace_options {
    size_t struct_size;  /**< sizeof(lorafmt_workspace_options) */
    size_t max_tokens;   /**< of a batch; at least 1 */
    size_t max_adapters; /**< of a batch; 0 = max_tokens */
    size_t max_rank;     /**< of an adapter, its updates together; at least 1 */
    /**
     * Threads to work on: own ones, which wait for work as long as the workspace lives, the caller's among them; or as many items at
     * a time as the executor is given. 0 = one per CPU.
     */
    unsigned n_threads;
    lorafmt_executor executor; /**< the caller's threads instead; NULL = own */
    void *executor_ctx;
    lorafmt_cpu cpu;
} lorafmt_workspace_options;

/** Room to work in. One call at a time. Takes 2 · max_tokens · max_rank floats, and 0.8 MiB for each thread. */
typedef struct lorafmt_workspace lorafmt_workspace;

/**
 * @param out  to be freed with lorafmt_workspace_free(); NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (options); NO_MEMORY, also when threads cannot be started
 */
LORAFMT_API lorafmt_status lorafmt_workspace_new(const lorafmt_workspace_options *options, lorafmt_workspace **out,
                                                 lorafmt_error *err);
LORAFMT_API void lorafmt_workspace_free(lorafmt_workspace *workspace);

/**
 * Add to each token what its adapter does. Tokens without adapter, and those whose adapter has no updates here, are left alone to
 * the bit, as is everything when scale is 0 or rank is.
 *
 * @param workspace  large enough for the batch; nobody else may use it meanwhile
 * @param batch      read; its y is changed
 *
 * @return LORAFMT_OK; MISUSE (a batch too large for the workspace, an adapter that is not there or is for another layer, a dtype, a
 *         stride less than a row, an executor that did not run every item). On failure y is as it was, but for the last of these.
 *
 * The floating-point environment of each thread is set for the call and restored.
 */
LORAFMT_API lorafmt_status lorafmt_forward(lorafmt_workspace *workspace, const lorafmt_batch *batch, lorafmt_error *err);

/**
 * Can all that the stack does be done unmerged? That is low-rank updates of linear layers in f32; with DoRA as far as the view is
 * prepared.
 *
 * @return LORAFMT_OK; UNSUPPORTED, naming the first tensor that cannot and why: it is replaced, new, added to as a whole, an
 *         embedding, a convolution, of experts, tied, or computed in f64; MISUSE (DoRA that was not prepared, check_only)
 */
LORAFMT_API lorafmt_status lorafmt_view_check_unmerged(const lorafmt_view *view, lorafmt_error *err);

/**
 * The low-rank updates of a tensor, in the order of the stack: those that contribute (spec 7.2). 0 for a tensor that is not touched.
 *
 * @param view  lorafmt_view_check_unmerged() is LORAFMT_OK; it and the sources of its adapters must outlive the update
 * @param i     [0, lorafmt_view_n_updates())
 */
LORAFMT_API size_t lorafmt_view_n_updates(const lorafmt_view *view, size_t tensor);
LORAFMT_API lorafmt_update lorafmt_view_get_update(const lorafmt_view *view, size_t tensor, size_t i);

#ifdef __cplusplus
}
#endif

#endif
