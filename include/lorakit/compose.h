/* SPDX-License-Identifier: MIT */
/** One adapter out of several. */
#ifndef LORAKIT_COMPOSE_H
#define LORAKIT_COMPOSE_H

#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * How the updates D_i = s_i B_i A_i of a target become one; w_i are the weights. Everywhere but in the methods named PEFT, w_i is
 * what D_i is multiplied with, and a target that only some adapters change is a sum over those.
 */
typedef enum lorakit_method {
    /** The sum of w_i D_i, exact: factors side by side, and fewer of them where they share directions. The rule is not used. */
    LORAKIT_SUM = 0,
    /** Its best approximation of the rank that the rule chooses. */
    LORAKIT_SVD,
    /**
     * Element by element on the D_i, then the best approximation of the result. prune keeps the n * density (rounded down) largest
     * magnitudes of each D_i; draw keeps each element with probability density, and divides what it keeps by it; elect keeps what has
     * the elected sign, and divides the sum by how many were kept. These form out x in matrices in f64.
     */
    LORAKIT_MAGNITUDE_PRUNE_SVD, /**< prune, sum of w_i D_i */
    LORAKIT_DARE_LINEAR_SVD,     /**< draw, sum (arXiv:2311.03099) */
    LORAKIT_TIES_SVD,            /**< prune, elect (arXiv:2306.01708) */
    LORAKIT_DARE_TIES_SVD,       /**< draw, elect */
    /**
     * What PEFT's add_weighted_adapter() does under these names (without "PEFT_"), where it differs from the above: the same
     * operations on A and B apart, with the root of |w_i s_i| each, which brings products of one adapter's A with another's B; svd
     * forms with w_i s_i D_i, so that scales enter twice; and a result that is multiplied with the root of its rank when the first
     * adapter has rsLoRA's scale. Magnitudes (DoRA), biases and saved modules of all adapters are left out, and reported.
     */
    LORAKIT_PEFT_CAT,
    LORAKIT_PEFT_LINEAR,
    LORAKIT_PEFT_MAGNITUDE_PRUNE,
    LORAKIT_PEFT_DARE_LINEAR,
    LORAKIT_PEFT_TIES,
    LORAKIT_PEFT_DARE_TIES,
    LORAKIT_PEFT_SVD,
    LORAKIT_PEFT_MAGNITUDE_PRUNE_SVD,
    LORAKIT_PEFT_DARE_LINEAR_SVD,
    LORAKIT_PEFT_TIES_SVD,
    LORAKIT_PEFT_DARE_TIES_SVD,
} lorakit_method;

/** "sum", "ties-svd", "peft-linear" and so on; NULL for a number that is no method. */
LORAKIT_API const char *lorakit_method_name(lorakit_method method);

typedef struct lorakit_term {
    const lorafmt_adapter *adapter; /**< must outlive the result */
    double weight;                  /**< finite; may be negative or 0 */
} lorakit_term;

/** Another weight for some targets of a term. */
typedef struct lorakit_weight {
    size_t term;
    const char *pattern; /**< with * and ? and [...], of the target or of it without ".weight"; the last that matches counts */
    double weight;
} lorakit_weight;

typedef struct lorakit_compose_options {
    size_t struct_size; /**< sizeof(lorakit_compose_options) */
    lorakit_method method;
    lorakit_rank rank; /**< of svd forms; without a rule and a limit: at most the largest rank of all terms, as PEFT */
    double clamp;      /**< of PEFT's svd forms, its svd_clamp: a quantile of all of U S and V, in (0, 1]; 0 = none */
    double density;    /**< of methods that prune or draw, in (0, 1]; 0 for others */
    bool by_frequency; /**< elect by the sum of signs; else by the sum of values. A sum of 0 counts as plus. */
    uint64_t seed;     /**< of what is drawn: a function of it, the term's number, the target and the factor */
    const lorakit_weight *weights;
    size_t n_weights;
    bool any_base; /**< do not compare the bases that the adapters say they are for */
    lorafmt_dtype
        dtype;        /**< of new factors; 0 = that of all factors where it loses nothing, else F32, or F64 when one of them is */
    const char *name; /**< of the result; NULL = the first adapter's */
    unsigned n_threads; /**< 0 = one per CPU */
    lorakit_progress progress;
    void *progress_ctx;

    /** Called for what a PEFT method leaves out; may be NULL. */
    void (*report)(void *ctx, const char *adapter, const char *target, const char *text);
    void *report_ctx;

    /**
     * Called instead of drawing, to repeat what somebody else drew: fill kept[n], row-major, with 0 and 1. role is that of a factor,
     * in its logical shape (spec 4.5), or 0 for D_i, which is out x in. From several threads. NULL = draw.
     */
    void (*draw)(void *ctx, size_t term, const char *target, unsigned role, size_t n, uint8_t *kept);
    void *draw_ctx;
} lorakit_compose_options;

/** What became of a target. Norms are of Frobenius. */
typedef struct lorakit_composed {
    const char *target; /**< of the result's site */
    uint32_t n_terms;   /**< that change it, with a weight other than 0 */
    uint32_t rank_sum;  /**< of their ranks; 0 = not low-rank */
    uint32_t rank;      /**< of the result */
    double norm;        /**< of what was to be approximated */
    double truncated;   /**< of what a smaller rank leaves out */
    double rounded;     /**< of what the factors' dtype costs besides */
} lorakit_composed;

/**
 * @param terms    n_terms >= 1
 * @param options  may be NULL: the exact sum
 * @param out      to be freed with lorakit_adapter_free(); NULL on failure
 * @param sites    *sites [*n_sites], one for each site of the result in its order, to be freed with free(); both may be NULL
 *
 * Of an exact sum: additive sites are summed; a replacement, saved tensor or replaced rows are taken over from the one adapter that
 * has them, with weight 1. DoRA multiplies the base, so that only one adapter with weight 1 may have it on a target, alone.
 *
 * @return LORAFMT_OK; MISUSE (options, a pattern that matches nothing, a weight that is not finite); MISMATCH (adapters for other
 *         bases, other shapes or orientations for a target); UNSUPPORTED (what has no sum, by name); CORRUPT (NaN or infinite
 *         factors); LIMIT (a number too large for the dtype); NO_MEMORY; CANCELLED
 */
LORAKIT_API lorafmt_status lorakit_compose(const lorakit_term *terms, size_t n_terms, const lorakit_compose_options *options,
                                           lorakit_adapter **out, lorakit_composed **sites, size_t *n_sites, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
