/* SPDX-License-Identifier: MIT */
/** New adapters for a base: which tensors, how many parameters, and what they start with. */
#ifndef LORAKIT_INIT_H
#define LORAKIT_INIT_H

#include "lorafmt/view.h"
#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What A and B are at the start. Of an embedding it is B that has the numbers and A that is zero, as in PEFT, and they are
 * standard normal whatever the rank.
 *
 * The first two leave the base as it is, since one factor is zero. Their numbers depend on the seed, the name of the tensor and
 * the place in the factor and on nothing else: on no other target, no thread, and, taking + - * / sqrt of binary64 alone, on
 * no machine. Number i of a factor is output i of SplitMix64 for a key mixed of seed and name; its upper 52 bits, and a half, are
 * u in (0, 1); from that follow (2 u - 1) / sqrt(in), or the quantile of the normal distribution at u (Wichura's AS 241) / rank,
 * each rounded once to the dtype.
 *
 * The others decompose the weights: the adapter is not zero, and belongs to a residual base which is the base with the adapter
 * merged in at weight -1. They are for linear targets, whose weights are read whole: out x in numbers of f64, and their
 * decomposition, for each thread. As all that LAPACK computes they are the same everywhere to rounding, not to the bit.
 */
typedef enum lorakit_init_method {
    LORAKIT_INIT_GAUSSIAN = 0, /**< A normal with deviation 1 / rank, as PEFT's "gaussian" */
    LORAKIT_INIT_KAIMING,      /**< A uniform in +-1 / sqrt(in), as PEFT's default, torch's kaiming_uniform_ with a = sqrt(5) */
    LORAKIT_INIT_PISSA, /**< with W = U S V' and scale s: B = U_r sqrt(S_r / s), A = sqrt(S_r / s) V_r' (arXiv:2404.02948) */
    LORAKIT_INIT_OLORA, /**< with W = Q R: B = the first columns of Q, A = the first rows of R (arXiv:2406.01775) */
} lorakit_init_method;

/** "gaussian" and so on; "unknown" for other numbers. Never NULL. */
LORAKIT_API const char *lorakit_init_method_name(lorakit_init_method method);

/**
 * A target or an exclusion is a name of modules, which are the tensors NAME.weight: one equal to it, or ending with a dot and it,
 * as lists in PEFT's target_modules; with *, ? or [...], as in lorakit_weight, the whole name. The target
 * "all-linear" is every matrix but embeddings, norms, and output heads.
 *
 * Matrices are linear, unless the last part of the name says that it is an embedding: wte, wpe, emb, shared, embed, embed_in,
 * tok_embeddings, relative_attention_bias, embed_tokens... and embed_positions..., and what ends in embedding, embeddings, _emb.
 * A head is called lm_head, embed_out, output_layer, output, score or classifier; or has the shape of an embedding and no number
 * in its name.
 */
typedef struct lorakit_init_options {
    size_t struct_size;         /**< sizeof(lorakit_init_options) */
    const char *const *targets; /**< n_targets >= 1 */
    size_t n_targets;
    const char *const *excludes; /**< taken from these */
    size_t n_excludes;
    lorafmt_orientation orientation; /**< how the base stores linear layers: OUT_IN, or IN_OUT as GPT-2 does */
    lorakit_init_method method;
    uint64_t seed;
    uint32_t rank;       /**< 1 .. 2^20 */
    bool has_alpha;      /**< else alpha is the rank, and the scale of a new adapter does not depend on it: 1, without rslora */
    double alpha;        /**< finite; of pissa above 0 */
    bool use_rslora;     /**< scale = alpha / sqrt(rank) */
    lorafmt_dtype dtype; /**< of the factors: F32, BF16, F16 or F64; 0 = F32 */
    const char *name;    /**< of the adapter; NULL = "adapter" */
    unsigned n_threads;  /**< 0 = one per CPU */
    lorakit_progress progress;
    void *progress_ctx;
} lorakit_init_options;

/** How large a new adapter is. */
typedef struct lorakit_init_size {
    size_t n_linear, n_embedding; /**< targets */
    uint64_t n_parameters;        /**< of all factors */
    uint64_t n_bytes;             /**< the same */
    uint64_t n_base_parameters;   /**< elements of all tensors of the base */
} lorakit_init_size;

/**
 * What lorakit_init() with these options comes to. No weights are read and nothing is decomposed.
 *
 * @return LORAFMT_OK; NOT_FOUND (a target or exclusion that matches nothing; the text names near ones); UNSUPPORTED (a quantised
 *         base, a target that is no matrix of F32, F16, BF16 or F64); MISUSE (options; a rank that a decomposition has not);
 *         LIMIT; NO_MEMORY. On failure *out is zero.
 */
LORAKIT_API lorafmt_status lorakit_init_measure(const lorafmt_base *base, const lorakit_init_options *options,
                                                lorakit_init_size *out, lorafmt_error *err);

/**
 * A new adapter. Its sites have the base's names, and it binds to the base; it does not record its structure or digests
 * (lorafmt_pack_options.base).
 *
 * @param base  for pissa and olora with a read callback, called from as many threads as there are; must outlive the result
 * @param out   to be freed with lorakit_adapter_free(); NULL on failure
 *
 * @return as lorakit_init_measure(); CORRUPT (weights that are NaN or infinite); LIMIT (a number too large for the dtype);
 *         CANCELLED; whatever the read callback returns
 */
LORAKIT_API lorafmt_status lorakit_init(const lorafmt_base *base, const lorakit_init_options *options, lorakit_adapter **out,
                                        lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
