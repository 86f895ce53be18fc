/* SPDX-License-Identifier: MIT */
/**
 * What tells two adapters apart, or two stacks of them, or two models.
 *
 * Adapters are compared by what they add, dX and dY, and not by their factors, of which many pairs say the same. Norms are of
 * Frobenius. An update is written B A with outputs as rows, of an embedding too: its columns are what it can write, its rows what
 * it looks at.
 */
#ifndef LORAKIT_DIFF_H
#define LORAKIT_DIFF_H

#include "lorafmt/view.h"
#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What could be done with a site or a tensor. X is the first of two, in models the base. */
typedef enum lorakit_diff_state {
    LORAKIT_DIFF_COMPARED = 1,
    LORAKIT_DIFF_ONLY_X,
    LORAKIT_DIFF_ONLY_Y,
    LORAKIT_DIFF_OTHER_KIND,   /**< low-rank in both, as linear and conv1d */
    LORAKIT_DIFF_OTHER_SHAPE,  /**< or, of replaced rows, other rows */
    LORAKIT_DIFF_OTHER_DTYPE,  /**< and one of them not F64, F32, F16 or BF16: those are compared as numbers */
    LORAKIT_DIFF_NOT_COMPARED, /**< replaced by several adapters of one stack or under a weight; or opaque, see below */
} lorakit_diff_state;

/** "compared", "only-x" and so on; "unknown" for other numbers. Never NULL. */
LORAKIT_API const char *lorakit_diff_state_name(lorakit_diff_state state);

typedef enum lorakit_sameness {
    LORAKIT_DIFFERENT = 0,
    LORAKIT_SAME_FUNCTION, /**< factors differ, and what they add does not by more than their dtype's rounding */
    LORAKIT_SAME_BYTES,    /**< of factors, and the same scales and weights */
} lorakit_sameness;

/** "different", "same-function", "same-bytes"; "unknown" for other numbers. Never NULL. */
LORAKIT_API const char *lorakit_sameness_name(lorakit_sameness sameness);

/**
 * What two stacks do to one target in one way: all low-rank sites on it, added up; or what replaces it; or its replaced rows; or
 * what is added element by element. Sites of other row or column ranges are other records. Of opaque sites, those of a newer
 * format or with a Tucker core, only the bytes are compared: when they are the same, that is all that is known. What is not known
 * is NaN, for numbers.
 */
typedef struct lorakit_site_diff {
    const char *target;
    lorakit_diff_state state;
    lorakit_sameness same;       /**< LORAKIT_DIFFERENT unless compared */
    const lorafmt_site *x, *y;   /**< the first of each stack; NULL = none */
    size_t n_sites_x, n_sites_y; /**< of the stacks, that are added up here */
    uint64_t rank_x, rank_y;     /**< their ranks added up; 0 unless low-rank */
    double factor_x, factor_y;   /**< scale times weight; NaN without one, and where several are added up */
    double norm_x, norm_y;       /**< of dX and dY; of what is replaced, of the new values. NaN of OTHER_DTYPE and NOT_COMPARED */
    double norm_difference;      /**< of dX - dY; NaN unless compared */
    double rounding;             /**< least norm_difference that is more than rounding, see below; NaN unless compared */
    double cosine;               /**< <dX, dY> / (norm_x norm_y), to 1e-9; NaN for a zero update */
    size_t true_rank_x, true_rank_y;           /**< singular values above rounding errors; the most of any expert */
    double effective_rank_x, effective_rank_y; /**< as in lorakit_spectrum; the mean of experts; NaN unless low-rank */
    /**
     * Principal angles between what dX and dY can write, and between what they look at: n_angles cosines of each, descending,
     * which is the lesser true rank; of experts, those of all of them. An overlap is the mean of their squares, from 0
     * (orthogonal) to 1 (the smaller space lies in the other).
     */
    size_t n_angles;
    const double *column_cosines, *row_cosines;
    double column_overlap, row_overlap;
    bool has_magnitude_x, has_magnitude_y; /**< DoRA: then norms are of the low-rank part, which is not all that it changes */
    double magnitude_difference;           /**< norm of m_x - m_y over the larger of theirs; NaN unless both have just one */
    uint64_t n_elements, n_differing;      /**< compared element by element, for kinds that are not low-rank; else 0 */
} lorakit_site_diff;

/** Sums over low-rank and additive sites that were compared, or that only one stack has: roots of sums of squares. */
typedef struct lorakit_diff_totals {
    lorakit_sameness same; /**< of everything; a site that only one has, and that adds nothing, makes no other function */
    size_t n_compared, n_same_bytes, n_same_function; /**< the last two are of the first */
    size_t n_only_x, n_only_y;
    size_t n_others; /**< in both and not compared */
    double norm_x, norm_y, norm_difference;
    double cosine; /**< NaN when one of them adds nothing */
} lorakit_diff_totals;

typedef struct lorakit_diff_options {
    size_t struct_size; /**< sizeof(lorakit_diff_options) */
    unsigned n_threads; /**< 0 = one per CPU */
    lorakit_progress progress;
    void *progress_ctx;
} lorakit_diff_options;

/** Immutable. */
typedef struct lorakit_diff lorakit_diff;

/**
 * Compare two stacks, each of which may be a single adapter, site by site.
 *
 * The rounding of a site is the root of the sum, over every column p of its factors, of (u_A^2 + u_B^2) (|s| ||b_p|| ||a_p||)^2
 * with the unit roundoff u of the factor's dtype (2^-24 for F32, 2^-8 for BF16): what rounding each number of A and B once may
 * change, if roundings are independent; and what f64 itself leaves.
 *
 * @param x, y     n_x and n_y >= 1 adapters; names and sites are borrowed, and must outlive the result
 * @param options  may be NULL
 * @param out      to be freed with lorakit_diff_free(); NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (options; an empty stack; a weight that is not finite); MISMATCH (updates of one stack that cannot
 *         be added, being of other kinds or shapes); CORRUPT (NaN or infinite values); LIMIT; NO_MEMORY; CANCELLED
 */
LORAKIT_API lorafmt_status lorakit_diff_stacks(const lorafmt_stack_entry *x, size_t n_x, const lorafmt_stack_entry *y, size_t n_y,
                                               const lorakit_diff_options *options, lorakit_diff **out, lorafmt_error *err);
LORAKIT_API void lorakit_diff_free(lorakit_diff *diff);

/** Records, by target. i < n_sites. */
LORAKIT_API size_t lorakit_diff_n_sites(const lorakit_diff *diff);
LORAKIT_API const lorakit_site_diff *lorakit_diff_get_site(const lorakit_diff *diff, size_t i);
LORAKIT_API const lorakit_diff_totals *lorakit_diff_get_totals(const lorakit_diff *diff);

/** A tensor of two models, by name. Sums are over the elements that are finite in both. */
typedef struct lorakit_tensor_diff {
    const char *name;
    lorakit_diff_state state;
    const lorafmt_base_tensor *base, *tuned; /**< NULL = not there */
    uint64_t n_elements;                     /**< that were compared; of a dtype smaller than a byte, bytes */
    uint64_t n_differing;                    /**< of them, in their bits; in their values if the dtypes differ */
    /** NaN unless compared and both F64, F32, F16 or BF16. */
    double norm_base, norm_tuned, norm_difference;
    double max_difference;
    uint64_t n_nan_base, n_inf_base, n_nan_tuned, n_inf_tuned;
} lorakit_tensor_diff;

typedef struct lorakit_model_totals {
    bool equal;                 /**< the same tensors of the same dtypes, shapes and bytes */
    size_t n_compared, n_equal; /**< the second is of the first: the same dtype and bytes */
    size_t n_only_base, n_only_tuned, n_others;
    uint64_t n_elements, n_differing;
    double norm_base, norm_tuned, norm_difference, max_difference; /**< of all tensors of real numbers that were compared */
    uint64_t n_nan_base, n_inf_base, n_nan_tuned, n_inf_tuned;
} lorakit_model_totals;

/** Immutable. */
typedef struct lorakit_model_diff lorakit_model_diff;

/**
 * Compare two models tensor by tensor, reading each once. Takes about 2 MiB for each thread, whatever the size of the models.
 *
 * @param base, tuned  with a read callback, which is called from several threads; borrowed, and must outlive the result
 * @param options      may be NULL; progress is of bytes
 * @param out          to be freed with lorakit_model_diff_free(); NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (options; no read callback; a name that is there twice); whatever a callback returns; NO_MEMORY;
 *         CANCELLED
 */
LORAKIT_API lorafmt_status lorakit_diff_models(const lorafmt_base *base, const lorafmt_base *tuned,
                                               const lorakit_diff_options *options, lorakit_model_diff **out, lorafmt_error *err);
LORAKIT_API void lorakit_model_diff_free(lorakit_model_diff *diff);

/** In ascending order of name. i < n_tensors. */
LORAKIT_API size_t lorakit_model_diff_n_tensors(const lorakit_model_diff *diff);
LORAKIT_API const lorakit_tensor_diff *lorakit_model_diff_get_tensor(const lorakit_model_diff *diff, size_t i);
LORAKIT_API const lorakit_model_totals *lorakit_model_diff_get_totals(const lorakit_model_diff *diff);

#ifdef __cplusplus
}
#endif

#endif
