/* SPDX-License-Identifier: MIT */
/** The singular values of an update: how many directions it really uses. */
#ifndef LORAKIT_SPECTRUM_H
#define LORAKIT_SPECTRUM_H

#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorakit_spectrum {
    size_t n;              /**< singular values: min(rank, out, in) of a site */
    double *values;        /**< of s B A, descending; the spectrum's own */
    double norm;           /**< Frobenius: the root of their sum of squares */
    size_t true_rank;      /**< of them, what is more than rounding errors */
    double effective_rank; /**< exp of the entropy of S / sum S (Roy and Vetterli 2007); 0 for a zero update */
    double stable_rank;    /**< (norm / largest)^2; 0 for a zero update */
} lorakit_spectrum;

/**
 * @param expert  of a site of experts, [0, lorakit_n_experts()); else 0
 * @param out     to be given to lorakit_spectrum_clear(); zero on failure
 *
 * @return LORAFMT_OK; UNSUPPORTED (not a low-rank site, or one of a newer format or with a Tucker core); CORRUPT (NaN or infinite
 *         factors); MISUSE (no such expert); NO_MEMORY
 */
LORAKIT_API lorafmt_status lorakit_spectrum_compute(const lorafmt_site *site, size_t expert, lorakit_spectrum *out,
                                                    lorafmt_error *err);
LORAKIT_API void lorakit_spectrum_clear(lorakit_spectrum *spectrum);

/** Matrices that a site has: its experts, 1 for other low-rank kinds, 0 for a site that is not low-rank. */
LORAKIT_API size_t lorakit_n_experts(const lorafmt_site *site);

/** The share of the sum of squares that the first `rank` values have; 1 for a zero update. */
LORAKIT_API double lorakit_spectrum_energy(const lorakit_spectrum *spectrum, size_t rank);

/** The rank that a rule chooses, at least 1. MISUSE for a value outside its range. */
LORAKIT_API lorafmt_status lorakit_spectrum_rank(const lorakit_spectrum *spectrum, const lorakit_rank *rule, uint32_t *out,
                                                 lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
