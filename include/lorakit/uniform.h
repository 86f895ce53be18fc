/* SPDX-License-Identifier: MIT */
/** One rank and one scale for a whole adapter, as loaders need that read one of each and nothing about single layers. */
#ifndef LORAKIT_UNIFORM_H
#define LORAKIT_UNIFORM_H

#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorakit_uniformed {
    uint32_t rank;   /**< of every low-rank site; 0 = there is none */
    double alpha;    /**< alpha / rank is the scale, to the last bit */
    double scale;    /**< of every low-rank site, without the doubling of an attention's output projection (spec 4.4) */
    size_t n_padded; /**< sites that had a lower rank */
    size_t n_folded; /**< sites that had another scale, which is in B now */
    double rounding; /**< the most that folding changed any B, relative to its norm (Frobenius); 0 = not a bit */
} lorakit_uniformed;

/**
 * The same updates with one rank and one scale, under the rule alpha / rank. Factors are padded with zeros, so signed that they add
 * nothing to any number, a negative zero among them. The scale is the one that most sites have; the others go into B, in its own
 * dtype where that loses nothing, else in F32 (F64 if it was that). The rank is the largest; where no
 * alpha gives the scale at that, the next with fewer binary digits, at last a power of two. Sites that are not low-rank are taken over.
 *
 * @param adapter  must outlive the result; every site is known, with a finite scale
 * @param said     may be NULL; zero on failure
 * @param out      to be freed with lorakit_adapter_free(); NULL on failure
 *
 * @return LORAFMT_OK; UNSUPPORTED (a site of a newer format, a Tucker core); LIMIT (a number of B, or a rank, becomes too large);
 *         NO_MEMORY
 */
LORAKIT_API lorafmt_status lorakit_uniform(const lorafmt_adapter *adapter, lorakit_uniformed *said, lorakit_adapter **out,
                                           lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
