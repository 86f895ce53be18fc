/* SPDX-License-Identifier: MIT */
/**
 * liblorakit: algebra of adapters. What it computes are adapters as lorafmt/adapter.h describes them, to be given to lorafmt_bind(),
 * lorafmt_pack() or any function that takes one.
 *
 * An update s B A is worked on as what it is, a matrix of low rank: in f64, by QR of the tall factors and a singular value
 * decomposition of a core as small as the rank. No out x in matrix is ever formed unless a function says so.
 *
 * Numbers are those of LAPACK: to rounding the same everywhere, but not to the bit, since libraries of LAPACK differ. Every function
 * may run concurrently with every other. Those that take n_threads work on as many sites at once; a LAPACK with threads of its own
 * is best kept to one (openblas_set_num_threads(1)).
 */
#ifndef LORAKIT_ADAPTER_H
#define LORAKIT_ADAPTER_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LORAKIT_API LORAFMT_API

/** An adapter that was computed, with memory of its own but for names, metadata and factors it has from its parents unchanged. */
typedef struct lorakit_adapter lorakit_adapter;

/** Borrowed; parents must live as long. */
LORAKIT_API const lorafmt_adapter *lorakit_adapter_get(const lorakit_adapter *adapter);
LORAKIT_API void lorakit_adapter_free(lorakit_adapter *adapter);

/**
 * Called now and then by long work, from one thread at a time.
 *
 * @param done, total  sites, or bytes of a model that were read
 * @return false to stop with LORAFMT_CANCELLED
 */
typedef bool (*lorakit_progress)(void *ctx, uint64_t done, uint64_t total);

/** How to choose the rank of an approximation from the singular values S, descending, of the matrix without its scale. */
typedef enum lorakit_rule {
    LORAKIT_LOSSLESS = 0, /**< all but those that are rounding errors; value is 0 */
    LORAKIT_FIXED,        /**< `most`, filled up with zeros, but no more than min(out, in); value is 0 */
    LORAKIT_ENERGY,       /**< the least that keeps the share `value` of the sum of squares, in (0, 1] */
    LORAKIT_MAX_ERROR,    /**< the least whose relative error in the Frobenius norm is at most `value`, in [0, 1) */
    /**
     * kohya's resize methods, one more than the names say, as there: with S of all min(out, in) values, p = value > 0, an index kept
     * in [1, min(out, in) - 1] and a rank of index + 1; 1 when S[0] <= 1e-6.
     */
    LORAKIT_SV_RATIO,      /**< index: values above S[0] / p */
    LORAKIT_SV_CUMULATIVE, /**< index: where the running sum reaches the share p, plus 1 */
    LORAKIT_SV_FRO,        /**< index: where the running sum of squares reaches the share p * p, plus 1 */
} lorakit_rule;

typedef struct lorakit_rank {
    lorakit_rule rule;
    double value;
    uint32_t most; /**< no rank is larger; 0 = no limit */
} lorakit_rank;

#ifdef __cplusplus
}
#endif

#endif
