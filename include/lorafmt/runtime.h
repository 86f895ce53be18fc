/* SPDX-License-Identifier: MIT */
/**
 * Adapters inside a running loader: its weights stay where it has them, and are switched from one stack of adapters to another
 * while it runs. Nothing is ever subtracted: a switch computes every tensor that the old or the new stack touches from the
 * pristine base, so after any number of switches the bytes are those of a fresh load, and the empty stack gives the base back.
 *
 *     pristine base (a mapping, or a copy) ──┐
 *                                            ├─ lorafmt_runtime_swap() ─▶ live weights, which the loader computes with
 *     stack of adapters ─────────────────────┘
 *
 * Describe tensors as the adapters know them, and say of each where it lies. That covers layouts of every kind: a fused qkv or
 * gate_up is three or two tensors that lie in one buffer, each with its place and the buffer's stride; a rank of a tensor-parallel
 * model holds some rows or some columns of a tensor, and gives their range.
 */
#ifndef LORAFMT_RUNTIME_H
#define LORAFMT_RUNTIME_H

#include "lorafmt/error.h"
#include "lorafmt/view.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The most sets of live weights. */
#define LORAFMT_MAX_SETS 2

/**
 * Where a tensor lies, or the part of it that is held here: rows [row, row + n_rows) and of each the columns [col, col + n_cols). A
 * tensor of two and more dimensions has shape[0] rows, kernels and experts flattened into the columns; any other has one. Rows are
 * contiguous; strides are bytes from one to the next. A rank whose share of a tensor is empty leaves the tensor out of its base.
 */
typedef struct lorafmt_place {
    uint64_t row, n_rows; /**< n_rows 0 = all, then row is 0 */
    uint64_t col, n_cols; /**< n_cols 0 = all, then col is 0 */

    /** Never written; must stay as it is as long as the runtime lives; need not be aligned. */
    const void *pristine;
    size_t pristine_stride; /**< 0 = rows follow one another */

    /**
     * As many as n_sets. All NULL when the loader computes with the pristine bytes themselves: then no adapter may touch the
     * tensor. Tensors may lie beside each other in one allocation, but not overlap. Need not be aligned; rows at multiples of 64
     * bytes are written fastest.
     */
    void *live[LORAFMT_MAX_SETS];
    size_t live_stride;       /**< 0 = rows follow one another */
    lorafmt_dtype live_dtype; /**< 0 = the tensor's; else both must be F64, F32, F16 or BF16, and live is rounded once */
} lorafmt_place;

/**
 * Run work(ctx, i) for every i in [0, n), each once, on whatever threads and in whatever order, and return when all have returned.
 * Never called from two threads at a time for one runtime.
 */
typedef void (*lorafmt_executor)(void *executor_ctx, size_t n, void (*work)(void *ctx, size_t i), void *ctx);

typedef struct lorafmt_runtime_options {
    size_t struct_size; /**< sizeof(lorafmt_runtime_options) */
    /**
     * 1: one set of live weights; a switch waits until nobody reads, and readers wait while it writes.
     * 2: two sets, of which one is read while the other is written; readers never wait. Takes the memory twice.
     * 0 = 1.
     */
    unsigned n_sets;
    bool is_loaded;    /**< every live buffer holds its pristine bytes already: do not copy them */
    bool load_by_swap; /**< leave live buffers as they are, until the first switch writes all of a set: loading with adapters then
                            takes one pass. Nobody may read before that. */
    unsigned n_threads;        /**< own threads, started for each switch; 0 = one per CPU */
    lorafmt_executor executor; /**< the caller's threads instead; NULL = own */
    void *executor_ctx;
} lorafmt_runtime_options;

/**
 * A loaded model. lorafmt_runtime_swap() may be called from several threads, which take turns; lorafmt_runtime_read_begin() and
 * _end() from any number at any time.
 */
typedef struct lorafmt_runtime lorafmt_runtime;

/**
 * Take over live weights and fill them with the base.
 *
 * @param base     tensors as the adapters know them; copied, but for names, `quantization` and ctx, which must outlive the runtime.
 *                 `read` may be NULL: then tensors that are held whole are read where they are pristine, and of others digests
 *                 cannot be compared nor DoRA be prepared.
 * @param places   one for each tensor of the base; copied
 * @param options  may be NULL
 * @param out      to be freed with lorafmt_runtime_free(), which leaves the live bytes as they are; NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (a range outside its tensor, a stride less than a row, a missing buffer, bad options); NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_runtime_new(const lorafmt_base *base, const lorafmt_place *places,
                                               const lorafmt_runtime_options *options, lorafmt_runtime **out, lorafmt_error *err);
LORAFMT_API void lorafmt_runtime_free(lorafmt_runtime *runtime);

/** What a switch did. */
typedef struct lorafmt_swap_result {
    size_t n_sites;        /**< of all adapters of the new stack */
    size_t n_bound;        /**< of those, the ones that found their tensor */
    size_t n_computed;     /**< tensors of the new stack */
    size_t n_restored;     /**< tensors that are the base's again */
    uint64_t n_bytes;      /**< of live weights written */
    lorafmt_counts counts; /**< in what was computed */
} lorafmt_swap_result;

typedef struct lorafmt_swap_options {
    size_t struct_size;               /**< sizeof(lorafmt_swap_options) */
    const lorafmt_bind_options *bind; /**< may be NULL; not check_only */
    /**
     * Called now and then from one thread at a time, while it can still be stopped: before anything live is written, and fifty
     * times a second while readers are waited for.
     * @return false to stop with LORAFMT_CANCELLED
     */
    bool (*go_on)(void *ctx);
    void *go_on_ctx;
    /**
     * Called in place of lorafmt_view_prepare() for each tensor of the stack that needs_prepare, from as many threads as there are:
     * to give it factors that are known (lorafmt_view_set_factors()), of another rank or of an earlier switch, or to prepare it and
     * keep them. It has to leave the tensor prepared. NULL = prepare all.
     */
    lorafmt_status (*prepare)(void *ctx, lorafmt_view *view, size_t tensor, lorafmt_error *err);
    void *prepare_ctx;
} lorafmt_swap_options;

/**
 * Switch to another stack. All that can fail is done first: binding with all its checks, preparing DoRA, memory. Then the tensors
 * that the stack in the written set or the new one touches are written, in parallel, and readers get them all at once. With one
 * set, the calling thread must not be a reader.
 *
 * @param stack    n_stack adapters in the order they are added; 0 = the base. Borrowed for the call: what is live does not need them.
 * @param options  may be NULL
 * @param result   may be NULL; zero on failure
 * @param view     the bound view, with which site went where, to be freed with lorafmt_view_free(); NULL for the base and on
 *                 failure;
 *                 may be NULL. To be freed before the runtime, the adapters and what the options name.
 *
 * @return LORAFMT_OK; what lorafmt_bind() and lorafmt_view_prepare() or the callback return; UNSUPPORTED (a new tensor, a vocabulary that grows, a
 *         tensor without live weights); CANCELLED; NO_MEMORY. On failure every live byte is as it was.
 */
LORAFMT_API lorafmt_status lorafmt_runtime_swap(lorafmt_runtime *runtime, const lorafmt_stack_entry *stack, size_t n_stack,
                                                const lorafmt_swap_options *options, lorafmt_swap_result *result,
                                                lorafmt_view **view, lorafmt_error *err);

/**
 * Read live weights: between begin and end no byte of the set changes, and all of it is of one stack. May be nested, but with one set
 * not across a waiting switch: a thread that reads and begins again waits for a switch that waits for it.
 *
 * @return the set to read, [0, n_sets), and to give to lorafmt_runtime_read_end()
 */
LORAFMT_API unsigned lorafmt_runtime_read_begin(lorafmt_runtime *runtime);
LORAFMT_API void lorafmt_runtime_read_end(lorafmt_runtime *runtime, unsigned set);

/** The number of switches so far, one that loaded among them. */
LORAFMT_API uint64_t lorafmt_runtime_generation(lorafmt_runtime *runtime);

/**
 * SHA-256 of what is live, or pristine where nothing is: the held rows of each tensor one after the other.
 *
 * @param all   of all tensors, in ascending order of name; of a model held whole it is that of a merged one. NULL = not wanted.
 * @param each  of each tensor, in the order of the base; NULL = not wanted
 *
 * The calling thread is a reader meanwhile, so it must not be one already (lorafmt_runtime_read_begin()).
 *
 * @return LORAFMT_OK; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_runtime_digest(lorafmt_runtime *runtime, uint8_t all[32], uint8_t (*each)[32],
                                                  lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
