/* SPDX-License-Identifier: MIT */
/** An adapter out of two models: what tuning changed, as low-rank updates. */
#ifndef LORAKIT_EXTRACT_H
#define LORAKIT_EXTRACT_H

#include "lorakit/adapter.h"

#include "lorafmt/view.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What becomes of a tensor that changed and cannot be a low-rank update, or is not to be one: it is no matrix, no pattern takes
 * it, its elements are not real; an embedding or head that got more rows; a tensor that only one of the models has.
 */
typedef enum lorakit_others {
    LORAKIT_OTHERS_REFUSE = 0, /**< the extraction fails, having named all of them */
    LORAKIT_OTHERS_ADDITIVE,   /**< the difference is a site of its own, in F32 (F64 if either is); what grew is saved whole */
    LORAKIT_OTHERS_REPLACE,    /**< the tuned tensor is the site: replacement, or saved for what grew or is new */
    LORAKIT_OTHERS_SKIP,       /**< it stays as in the base, and is reported */
} lorakit_others;

typedef struct lorakit_extract_options {
    size_t struct_size; /**< sizeof(lorakit_extract_options) */
    /**
     * For each matrix: ENERGY or MAX_ERROR, or LOSSLESS with a `most`, which gives that rank, less only where the difference has
     * less. kohya's rules need all singular values and are MISUSE.
     */
    lorakit_rank rank;
    /**
     * Which matrices become low-rank: names, or patterns with *, ? and [...], held against the tensor's name and what follows
     * each dot in it, with and without its last component ("q_proj", "layers.0.*"); "all-linear" is every .weight but embeddings and
     * the head. NULL = all that changed. A pattern that takes no tensor is NOT_FOUND.
     */
    const char *const *targets;
    size_t n_targets;
    lorakit_others others;
    lorafmt_orientation orientation; /**< how both models store linear layers: OUT_IN or IN_OUT; embeddings and heads are known */
    lorafmt_dtype dtype;             /**< of the factors: F32, BF16, F16 or F64; 0 = F32 */
    bool exact;                      /**< never sketch; then memory is 4 x that of the largest matrix in F64 */
    unsigned n_powers;               /**< of the sketch: products with D and D' beyond the first; 0 = 2 */
    uint64_t seed;                   /**< of the sketch; the same seed gives the same adapter with any n_threads */
    const char *name;                /**< of the result; NULL = "extracted" */
    unsigned n_threads;              /**< 0 = one per CPU */

    /** Called for each tensor that is refused, before failing with a summary, and for each that is left out; may be NULL. */
    void (*report)(void *ctx, const char *tensor, bool refused, const char *text);
    void *report_ctx;
    lorakit_progress progress;
    void *progress_ctx;
} lorakit_extract_options;

typedef enum lorakit_outcome {
    LORAKIT_UNCHANGED = 0,
    LORAKIT_LOW_RANK,
    LORAKIT_ADDITIVE,
    LORAKIT_REPLACED,
    LORAKIT_SAVED, /**< new, or grown */
    LORAKIT_SKIPPED,
} lorakit_outcome;

/** What became of a tensor of the tuned model. Norms are of Frobenius; those of tensors that come whole are 0. */
typedef struct lorakit_extracted {
    lorakit_outcome outcome;
    bool exact;       /**< low-rank: by all singular values, not by a sketch */
    uint32_t rank;    /**< low-rank: of the update; else 0 */
    double norm;      /**< of the difference */
    double truncated; /**< of what the rank leaves out, from the elements themselves */
    double rounded;   /**< of what the dtype of the factors costs besides */
} lorakit_extracted;

/**
 * tuned - base, from the widened elements and never in the dtype they are stored in, as an adapter: for each matrix that changed
 * a linear or embedding site of scale 1, whose factors share the singular values evenly. Tensors whose elements are all equal
 * are left out.
 *
 * Small matrices (a side of at most 512), and those of which a rule wants more than a half of the singular values, are
 * decomposed by LAPACK in f64; else the large singular values are found by a randomized sketch, which holds the difference in
 * f32, where each element is rounded once. One large matrix is worked on at a time: beside the result and thin matrices, memory
 * is that of the largest in f32; four times that in f64 where all singular values are needed.
 *
 * @param base, tuned  with read callbacks, called from several threads; names of their tensors are unique
 * @param options      must be given, since the rule must
 * @param tensors      n_tensors of `tuned`, filled; may be NULL
 * @param out          to be freed with lorakit_adapter_free(), independent of both models; NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (options; no read callback); NOT_FOUND (a pattern takes nothing); UNSUPPORTED (a quantised model; a
 *         tensor that `others` decides about and that is refused); MISMATCH (tensors of other shapes; no tensor differs, or none
 *         is left); CORRUPT (a difference is NaN or infinite); LIMIT (numbers too large for the dtype; all singular values of a
 *         matrix beyond 20000 x 20000); NO_MEMORY; CANCELLED; what the read callbacks return
 */
LORAKIT_API lorafmt_status lorakit_extract(const lorafmt_base *base, const lorafmt_base *tuned,
                                           const lorakit_extract_options *options, lorakit_extracted *tensors,
                                           lorakit_adapter **out, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
