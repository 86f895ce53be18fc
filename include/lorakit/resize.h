/* SPDX-License-Identifier: MIT */
/** Another rank for the updates of an adapter: the best approximation there is. */
#ifndef LORAKIT_RESIZE_H
#define LORAKIT_RESIZE_H

#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorakit_resize_options {
    size_t struct_size; /**< sizeof(lorakit_resize_options) */
    lorakit_rank rank;  /**< for each site; of a site of experts, the largest that any of them needs */
    /**
     * Bytes of all A and B together, instead of a rule: each next singular value goes where it keeps the most of the sum of squares
     * for its bytes, over the whole adapter, every site having at least rank 1. 0 = no budget. MISUSE with a rule other than LOSSLESS.
     */
    uint64_t budget;
    lorafmt_dtype dtype; /**< of new factors: F32, BF16, F16 or F64; 0 = each as it was, the wider one of A and B */
    const char *name;    /**< of the result; NULL = the adapter's */
    unsigned n_threads;  /**< 0 = one per CPU */
    lorakit_progress progress;
    void *progress_ctx;
} lorakit_resize_options;

/** What became of a site. Norms are of Frobenius and of the update with its scale. */
typedef struct lorakit_resized {
    uint32_t rank;    /**< the new one; 0 = not a low-rank site, and taken over as it is */
    double norm;      /**< of the update before */
    double truncated; /**< of what a smaller rank leaves out */
    double rounded;   /**< of what the factors' dtype costs besides */
} lorakit_resized;

/**
 * Every low-rank site with its scale and scaling rule, and new factors that share the singular values evenly; those whose rank stays
 * are kept, and at most rounded to another dtype. A magnitude (DoRA) is kept: outputs keep their norms, and what is said of errors is about the low-rank part. Other sites are taken over.
 *
 * @param adapter  must outlive the result
 * @param options  may be NULL: lossless
 * @param sites    n_sites of the adapter, filled; may be NULL
 * @param out      to be freed with lorakit_adapter_free(); NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (options; a budget below what rank 1 takes); CORRUPT (NaN or infinite factors); LIMIT (a number too
 *         large for the dtype); UNSUPPORTED (a site of a newer format, a Tucker core; every update is zero); NO_MEMORY; CANCELLED
 */
LORAKIT_API lorafmt_status lorakit_resize(const lorafmt_adapter *adapter, const lorakit_resize_options *options,
                                          lorakit_resized *sites, lorakit_adapter **out, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
