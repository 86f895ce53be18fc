/* SPDX-License-Identifier: MIT */
/**
 * A merged model as a view: a pure function of (base tensor rows, stack of adapters), evaluated for any rows of any tensor.
 *
 *     base description ──┐
 *                        ├─ lorafmt_bind() ─▶ view ─▶ lorafmt_view_evaluate() rows [i, j) of tensor t
 *     stack of adapters ─┘
 *
 * Exact bytes: spec 7.
 */
#ifndef LORAFMT_VIEW_H
#define LORAFMT_VIEW_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"
#include "lorafmt/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A tensor of the base: no data. */
typedef struct lorafmt_base_tensor {
    const char *name;
    lorafmt_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[LORAFMT_MAX_DIMS];
    uint64_t size; /**< bytes */
} lorafmt_base_tensor;

typedef enum lorafmt_tied {
    LORAFMT_TIED_UNKNOWN = 0, /**< a missing head is taken to be tied to the only embedding */
    LORAFMT_TIED_YES,
    LORAFMT_TIED_NO,
} lorafmt_tied;

/** What bind needs to know of a base, wherever it is. */
typedef struct lorafmt_base {
    size_t struct_size; /**< sizeof(lorafmt_base) */
    size_t n_tensors;
    const lorafmt_base_tensor *tensors; /**< any order; the index is the caller's name for a tensor */

    /**
     * Read bytes [offset, offset + size) of a tensor. Used by bind to compare digests and replacements, and by
     * lorafmt_view_prepare(); may be NULL, then an adapter that carries digests of its base is refused, and DoRA cannot be
     * prepared. Called from as many threads at a time as the caller prepares tensors in. On failure it should fill *err.
     */
    lorafmt_status (*read)(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err);
    void *ctx;

    lorafmt_tied tied;        /**< tie_word_embeddings of the base's config */
    uint64_t vocab_size;      /**< of the base's config; 0 = unknown, then no embedding may change its number of rows */
    const char *quantization; /**< why nothing can be added to this base (its quantization method), or NULL */
} lorafmt_base;

/**
 * The structure fingerprint of spec 6.2, from names, dtypes and shapes alone. NO_MEMORY, or MISUSE for a name that is there
 * twice.
 */
LORAFMT_API lorafmt_status lorafmt_base_structure(const lorafmt_base *base, uint8_t out[32], lorafmt_error *err);

/** One layer of a stack. */
typedef struct lorafmt_stack_entry {
    const lorafmt_adapter *adapter; /**< borrowed; its source must outlive the view */
    double weight;                  /**< finite; multiplied into the scale */
} lorafmt_stack_entry;

/** How a site found its tensor. */
typedef enum lorafmt_match {
    LORAFMT_MATCH_NONE = 0, /**< nowhere; only with allow_unmatched */
    LORAFMT_MATCH_EXACT,
    LORAFMT_MATCH_MAP,    /**< through the caller's map */
    LORAFMT_MATCH_BRIDGE, /**< through the view's bridge */
    LORAFMT_MATCH_TIED,   /**< a head that the base does not store, or the other way round */
    LORAFMT_MATCH_NEW,    /**< a saved tensor that the base does not have */
} lorafmt_match;

/** "exact" and so on; "unknown" for other numbers. Never NULL. */
LORAFMT_API const char *lorafmt_match_name(lorafmt_match match);

/** What a site does to its tensor. */
typedef enum lorafmt_effect {
    LORAFMT_EFFECT_NOTHING = 0, /**< scale 0 or a zero factor (spec 7.2), or a saved head that is the embedding */
    LORAFMT_EFFECT_LOW_RANK,
    LORAFMT_EFFECT_REPLACED,
    LORAFMT_EFFECT_NEW,      /**< a new tensor */
    LORAFMT_EFFECT_ROWS,     /**< some rows are replaced */
    LORAFMT_EFFECT_ADDITIVE, /**< a tensor of the same shape is added */
} lorafmt_effect;

/** "low-rank" and so on; "unknown" for other numbers. Never NULL. */
LORAFMT_API const char *lorafmt_effect_name(lorafmt_effect effect);

/** Replace a prefix of target names, at whole components; the longest matching prefix wins. */
typedef struct lorafmt_rename {
    const char *from; /**< "" puts `to` in front of every name */
    const char *to;   /**< "" removes the prefix */
} lorafmt_rename;

/** Which instructions to compute with. The result does not depend on it. */
typedef enum lorafmt_cpu {
    LORAFMT_CPU_BEST = 0, /**< the best of those below that this CPU has */
    LORAFMT_CPU_SCALAR,
    LORAFMT_CPU_AVX2,   /**< with FMA and F16C */
    LORAFMT_CPU_AVX512, /**< F, BW, DQ and VL */
    LORAFMT_CPU_NEON,
} lorafmt_cpu;

/** What is special about an entry of the stack. */
typedef struct lorafmt_entry_options {
    const lorafmt_rename *renames; /**< of its targets alone, in place of those of lorafmt_bind_options; all must fit one */
    size_t n_renames;              /**< 0 = as the other entries */
    const double *weights;         /**< finite, one for each site of its adapter, in place of its weight; NULL = that for all */
} lorafmt_entry_options;

typedef struct lorafmt_bind_options {
    size_t struct_size; /**< sizeof(lorafmt_bind_options) */
    const lorafmt_rename *renames;
    size_t n_renames;
    const lorafmt_entry_options *entries; /**< n_stack of them, or NULL: nothing special */
    bool allow_unmatched; /**< leave out sites that find no tensor, but not all of an adapter; they are in the receipt */
    bool any_base;        /**< do not compare base_structure and base_sha256 */
    bool check_only;      /**< find out whether all fits, parts too that cannot be merged yet; the view does not evaluate */
    bool has_orientation; /**< take linear sites as `orientation`, whatever the adapter says */
    lorafmt_orientation orientation;
    lorafmt_cpu cpu;

    /** Called for each thing that does not fit, before bind fails with a summary; may be NULL. */
    void (*report)(void *ctx, const char *adapter, const char *target, const char *text);
    void *report_ctx;
} lorafmt_bind_options;

/** One site of one adapter of the stack, and what became of it: an entry of the receipt. */
typedef struct lorafmt_bound_site {
    size_t entry; /**< index into the stack */
    const lorafmt_site *site;
    double weight; /**< of its entry, or its own */
    lorafmt_match match;
    lorafmt_effect effect;
    size_t tensor; /**< view tensor, or SIZE_MAX for LORAFMT_MATCH_NONE */
} lorafmt_bound_site;

/** A tensor of the merged model. */
typedef struct lorafmt_view_tensor {
    const char *name;
    lorafmt_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[LORAFMT_MAX_DIMS]; /**< may have other rows than the base's when an embedding grew */
    uint64_t size;                    /**< bytes */
    uint64_t n_rows;                  /**< shape[0] for 2 or more dimensions, else 1; of experts, shape[0] x shape[1] */
    uint64_t row_size;                /**< bytes of one row */
    bool touched;                     /**< false: every byte is the base's */
    bool reads_base;                  /**< evaluate looks at the base's rows; false for a replaced or new tensor */
    bool needs_prepare;               /**< lorafmt_view_prepare() comes before evaluate: it has a DoRA site */
} lorafmt_view_tensor;

/** Elements of computed tensors that came out as NaN or infinite. */
typedef struct lorafmt_counts {
    uint64_t n_nan;
    uint64_t n_inf;
} lorafmt_counts;

/**
 * What evaluating did to elements of a tensor. Let d be what the adapters add, in the working type and before it is rounded to the
 * tensor's dtype, and r = result - base what came of it. Sums are over the elements whose d and r are finite; those of two row
 * ranges may be added. The counts are exact; the sums are good to about 1e-6 (sum_along: of the root of the product of the other
 * two), and their last digits depend on the CPU and on how rows are split.
 */
typedef struct lorafmt_change {
    uint64_t n_elements;
    uint64_t n_unchanged;  /**< the result has the bits of the base */
    uint64_t n_nan, n_inf; /**< in the result */
    uint64_t max_ulp;      /**< largest distance between base and result, in steps from one number of the dtype to the next */
    double sum_asked;      /**< of d squared: the square of the Frobenius norm of what was asked for */
    double sum_realised;   /**< of r squared */
    double sum_along;      /**< of d times r; divided by sum_asked it is the part of what was asked for that was realised */
} lorafmt_change;

/** Immutable after bind; usable by many threads. */
typedef struct lorafmt_view lorafmt_view;

/**
 * Resolve every site of every adapter to a tensor of the base, check that all fits, drop what contributes nothing.
 *
 * @param base     borrowed until the view is freed
 * @param stack    n_stack adapters in the order they are added; the array is copied. None gives the base itself.
 * @param options  may be NULL
 * @param out      a view to be freed with lorafmt_view_free(); NULL on failure
 *
 * @return LORAFMT_OK; MISMATCH when anything does not fit; UNSUPPORTED for a kind that cannot be merged or a quantised base;
 *         MISUSE (options; a cpu that this one is not); whatever the read callback returns; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_bind(const lorafmt_base *base, const lorafmt_stack_entry *stack, size_t n_stack,
                                        const lorafmt_bind_options *options, lorafmt_view **out, lorafmt_error *err);
LORAFMT_API void lorafmt_view_free(lorafmt_view *view);

/** Tensors of the merged model: those of the base under their indices, then the new ones. */
LORAFMT_API size_t lorafmt_view_n_tensors(const lorafmt_view *view);
LORAFMT_API const lorafmt_view_tensor *lorafmt_view_get_tensor(const lorafmt_view *view, size_t tensor);

/** The receipt: every site of every adapter, in stack and table order. */
LORAFMT_API size_t lorafmt_view_n_sites(const lorafmt_view *view);
LORAFMT_API const lorafmt_bound_site *lorafmt_view_get_site(const lorafmt_view *view, size_t i);

/** The bridge in words ("the adapter's transformer.* is * in the base"), or NULL when none was needed. */
LORAFMT_API const char *lorafmt_view_bridge(const lorafmt_view *view, size_t entry);

/** true when a head that was tied to the embedding is now a tensor of its own: tie_word_embeddings must become false. */
LORAFMT_API bool lorafmt_view_unties(const lorafmt_view *view);

/** The new vocab_size when embeddings have other rows than before, else 0. */
LORAFMT_API uint64_t lorafmt_view_vocab_size(const lorafmt_view *view);

/**
 * Compute what every output of a tensor is multiplied with (DoRA, spec 7.4) from the whole pristine tensor, which is read through
 * the base's read callback, once for each DoRA site on it. Nothing is done for a tensor without needs_prepare.
 *
 * @param view    changed: nobody may evaluate this tensor meanwhile. Several tensors may be prepared at the same time, if the
 *                read callback allows it.
 * @return LORAFMT_OK; MISUSE (no such tensor, no read callback, check_only); whatever the callback returns; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_view_prepare(lorafmt_view *view, size_t tensor, lorafmt_error *err);

/**
 * What lorafmt_view_prepare() computes, to be kept or handed to another rank, which then need not read the whole tensor: for each
 * DoRA site on it, in the order of the stack, a factor for each output of the whole tensor, in the machine's own f32, or f64 where
 * the tensor is computed in that. They are those of this base and this stack, weights among it, and of nothing else.
 *
 * @param size  bytes of dst or src; must be lorafmt_view_factors_size(), which is 0 without needs_prepare
 *
 * @return LORAFMT_OK, from set with the tensor prepared, of which the view then has a copy; MISUSE (no such tensor, another size,
 *         get of a tensor that was not prepared). On failure nothing is changed.
 */
LORAFMT_API size_t lorafmt_view_factors_size(const lorafmt_view *view, size_t tensor);
LORAFMT_API lorafmt_status lorafmt_view_get_factors(const lorafmt_view *view, size_t tensor, void *dst, size_t size,
                                                    lorafmt_error *err);
LORAFMT_API lorafmt_status lorafmt_view_set_factors(lorafmt_view *view, size_t tensor, const void *src, size_t size,
                                                    lorafmt_error *err);

/**
 * Evaluate rows [row, row + n_rows) of a tensor: dst = round(src + Σ s_k B_k A_k). Does not allocate, but needs 320 KiB of stack;
 * re-entrant. Factors are converted anew for each call: many rows at a time cost less than few.
 *
 * @param view        not modified, may be used by many threads
 * @param tensor      index of the view's tensor
 * @param row         first row, in [0, n_rows of the tensor)
 * @param n_rows      rows to evaluate; row + n_rows <= rows of the tensor
 * @param src         the same rows of the base, row-major, src_stride bytes apart; ignored (may be NULL) without reads_base
 * @param dst         result rows, dtype of the view's tensor, dst_stride bytes apart; may equal src when the strides are equal
 * @param counts      added to; may be NULL
 *
 * @return LORAFMT_OK; MISUSE if the range is outside the tensor, it was not prepared, or the view was bound with check_only. On
 *         failure dst is unchanged.
 *
 * An untouched tensor is copied. The floating-point environment of the calling thread is set for the call and restored.
 */
LORAFMT_API lorafmt_status lorafmt_view_evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows,
                                                 const void *src, size_t src_stride, void *dst, size_t dst_stride,
                                                 lorafmt_counts *counts, lorafmt_error *err);

/** Rows of a base and of a result in dtypes of their own; strides in bytes. */
typedef struct lorafmt_rows {
    const void *src;
    size_t src_stride;
    lorafmt_dtype src_dtype; /**< widened exactly */
    void *dst;
    size_t dst_stride;
    lorafmt_dtype dst_dtype; /**< rounded to once, to nearest even */
    size_t col, n_cols;      /**< only these columns of the rows, which src and dst hold; n_cols 0 = all, then col is 0 */
} lorafmt_rows;

/**
 * lorafmt_view_evaluate() with rows of other dtypes than the tensor's, or with some of their columns: the same numbers before the
 * one rounding, if src holds the same numbers. dst may equal src when dtypes and strides are equal.
 *
 * @return besides, MISUSE for another dtype where it or the tensor's own is none of F64, F32, F16 and BF16, and for base rows of F64
 *         of a tensor that is computed in f32, because neither it nor its factors were F64 when it was bound; and for columns that
 *         the tensor has not, or that are less than bytes
 */
LORAFMT_API lorafmt_status lorafmt_view_evaluate_as(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows,
                                                    const lorafmt_rows *rows, lorafmt_counts *counts, lorafmt_error *err);

/**
 * The same bytes as lorafmt_view_evaluate(), and what that did.
 *
 * @param change  added to; of a tensor without reads_base only n_elements, n_nan and n_inf are
 */
LORAFMT_API lorafmt_status lorafmt_view_measure(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows,
                                                const void *src, size_t src_stride, void *dst, size_t dst_stride,
                                                lorafmt_change *change, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
