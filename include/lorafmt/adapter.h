/* SPDX-License-Identifier: MIT */
/**
 * Adapters: what a `.lora` file, a PEFT directory or a safetensors file says about how a base model changes.
 *
 * A *source* is an opened input and owns the bytes; an *adapter* is borrowed from it. Everything reached
 * from an adapter was checked when the source was opened (spec 4), the digests of tensor data too unless that is deferred. All functions on const
 * handles may run concurrently.
 */
#ifndef LORAFMT_ADAPTER_H
#define LORAFMT_ADAPTER_H

#include "lorafmt/error.h"
#include "lorafmt/tensor.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/** spec 4.4: what a site does to its target. Numbers above the last are kinds of a newer format. */
typedef enum lorafmt_kind {
    LORAFMT_KIND_REPLACEMENT = 1,
    LORAFMT_KIND_SAVED,
    LORAFMT_KIND_ROWS,
    LORAFMT_KIND_ADDITIVE,
    LORAFMT_KIND_LINEAR,
    LORAFMT_KIND_EMBEDDING,
    LORAFMT_KIND_CONV1D,
    LORAFMT_KIND_CONV2D,
    LORAFMT_KIND_CONV3D,
    LORAFMT_KIND_EXPERTS,
} lorafmt_kind;

/** spec 4.4: how the base stores a linear layer. */
typedef enum lorafmt_orientation {
    LORAFMT_OUT_IN = 0,
    LORAFMT_IN_OUT = 1,   /**< transposed, as GPT-2's Conv1D; PEFT's fan_in_fan_out */
    LORAFMT_BY_SHAPE = 2, /**< whichever fits at bind; a square matrix is refused */
} lorafmt_orientation;

/** spec 4.4: how the scale follows from alpha and rank. */
typedef enum lorafmt_scaling {
    LORAFMT_SCALING_NONE = 0,
    LORAFMT_SCALING_ALPHA_R = 1,
    LORAFMT_SCALING_ALPHA_SQRT_R = 2, /**< rsLoRA, arXiv:2312.03732 */
    LORAFMT_SCALING_EXPLICIT = 3,
} lorafmt_scaling;

/** spec 4.5 */
typedef enum lorafmt_role {
    LORAFMT_ROLE_A = 1,
    LORAFMT_ROLE_B,
    LORAFMT_ROLE_MID,
    LORAFMT_ROLE_MAGNITUDE,
    LORAFMT_ROLE_VALUE,
    LORAFMT_ROLE_ROW_INDEX,
} lorafmt_role;

enum {
    LORAFMT_SITE_ROW_RANGE = 1u << 0,
    LORAFMT_SITE_COL_RANGE = 1u << 1,
    LORAFMT_SITE_BASE_SHA256 = 1u << 2,
    LORAFMT_SITE_DOUBLED = 1u << 3,
};

enum { LORAFMT_METADATA_SEMANTIC = 1u << 0 };

typedef struct lorafmt_factor {
    uint16_t role; /**< lorafmt_role, or a number of a newer format */
    lorafmt_tensor tensor;
} lorafmt_factor;

/** How one tensor of the base changes: spec 4.4, field by field. */
typedef struct lorafmt_site {
    const char *target;
    uint16_t kind;       /**< lorafmt_kind, or a number of a newer format */
    uint8_t orientation; /**< lorafmt_orientation */
    uint8_t scaling;     /**< lorafmt_scaling */
    uint32_t rank;       /**< 0 for kinds without */
    uint32_t flags;      /**< LORAFMT_SITE_* */
    double alpha;
    double scale; /**< what the update is multiplied with; no unit */
    uint64_t row_begin, row_end, col_begin, col_end;
    uint8_t base_sha256[32]; /**< zero without LORAFMT_SITE_BASE_SHA256 */
    uint32_t n_factors;
    const lorafmt_factor *factors; /**< ascending roles */
} lorafmt_site;

typedef struct lorafmt_metadata {
    const char *key;
    const char *value;
    uint32_t flags; /**< LORAFMT_METADATA_* */
} lorafmt_metadata;

enum { LORAFMT_SIGNATURE_ED25519 = 1 };

/** spec 4.10: somebody's word for an adapter id. lorafmt_signature_is_genuine() (lorafmt/origin.h) looks whether it is genuine. */
typedef struct lorafmt_signature {
    uint32_t algorithm; /**< LORAFMT_SIGNATURE_ED25519, or a number of a newer format, which proves nothing */
    uint8_t public_key[32];
    uint8_t signature[64];
} lorafmt_signature;

/** One adapter: spec 4.3. Sites are in the order of spec 4.4, metadata by key. */
typedef struct lorafmt_adapter {
    const char *name;
    const char *base_name;     /**< "" = unknown */
    const char *base_revision; /**< "" = unknown */
    bool has_base_structure;
    uint8_t base_structure[32]; /**< spec 6.2 */
    bool has_id;
    uint8_t id[32]; /**< spec 6.1, as a .lora file states it; lorafmt_adapter_id() has it for any adapter */
    size_t n_sites;
    const lorafmt_site *sites;
    size_t n_metadata;
    const lorafmt_metadata *metadata;
    size_t n_signatures;
    const lorafmt_signature *signatures; /**< of id, in ascending order of public_key */
} lorafmt_adapter;

/** The identity of spec 6.1: as stated by the `.lora`, else computed, which hashes all tensor data. */
LORAFMT_API void lorafmt_adapter_id(const lorafmt_adapter *adapter, uint8_t out[32]);

/** The factor of that role, or NULL. */
LORAFMT_API const lorafmt_factor *lorafmt_site_factor(const lorafmt_site *site, unsigned role);

/**
 * The Frobenius norm of what a site adds to its target, |s| * ||B A||, without forming it. With a magnitude (DoRA) that is the
 * low-rank part alone; what the magnitude does depends on the base.
 *
 * @param norm_out  computed in binary64, the same on every machine: its square is within (in + out + rank^2) * 2^-52 *
 *                  (|s| * ||A|| * ||B||)^2 of the true one; NaN or infinite when an element is, and infinite when squares of F64
 *                  elements overflow
 *
 * @return LORAFMT_OK; UNSUPPORTED when it is not known: replacement, saved and rows (it depends on the base), a Tucker core, values
 *         that are not real, kinds and roles of a newer format; NO_MEMORY. On failure *norm_out is 0.
 */
LORAFMT_API lorafmt_status lorafmt_site_norm(const lorafmt_site *site, double *norm_out, lorafmt_error *err);

/** "linear" and so on, as in spec 4.4 and 4.5; "unknown" for numbers of a newer format. Never NULL. */
LORAFMT_API const char *lorafmt_kind_name(unsigned kind);
LORAFMT_API const char *lorafmt_role_name(unsigned role);
LORAFMT_API const char *lorafmt_orientation_name(unsigned orientation);
LORAFMT_API const char *lorafmt_scaling_name(unsigned scaling);

/** What kind of input a source is. */
typedef enum lorafmt_source_kind {
    LORAFMT_SOURCE_LORA = 1,
    LORAFMT_SOURCE_PEFT,        /**< adapter_config.json and adapter_model.safetensors */
    LORAFMT_SOURCE_SAFETENSORS, /**< a bare safetensors file whose scale is known */
} lorafmt_source_kind;

/** An opened input. */
typedef struct lorafmt_source lorafmt_source;

struct lorafmt_base;   /* lorafmt/view.h */
struct lorafmt_policy; /* lorafmt/origin.h */
struct lorafmt_limits; /* lorafmt/limits.h */

typedef struct lorafmt_source_options {
    size_t struct_size; /**< sizeof(lorafmt_source_options) */
    bool has_alpha;     /**< alpha below is given: needed for a bare safetensors file that does not say it */
    double alpha;
    bool use_rslora; /**< with has_alpha: scale = alpha / sqrt(r) */
    /**
     * Names and shapes of the base, its data is not read; needed only for a PEFT adapter with target_parameters (experts), which
     * does not say by itself what its tensors are for. Borrowed for the call.
     */
    const struct lorafmt_base *base;
    bool has_orientation; /**< take experts that are square in the base, whose shape does not tell, as `orientation` */
    lorafmt_orientation orientation;
    unsigned n_threads;  /**< at most so many to decode and check the tensors of a large `.lora`; 0 = one per CPU */
    const char *adapter; /**< of a `.lora`, read the adapter of that name and no tensors but its own; NULL = all */
    /**
     * Do not read the data of raw tensors now to compare it with their digests, so that of a large `.lora` no more is ever read than
     * what is used: a rank that holds a part of each tensor reads the part of each factor that it needs. The index is checked, what
     * is compressed is decoded and checked. lorafmt_verify() checks all, once for all who use the file.
     */
    bool defer_digests;
    /**
     * Read files into memory of the process rather than map them: then they may be truncated and overwritten while the source is
     * open.
     */
    bool in_memory;
    /** Open what these people signed and nothing else; not with defer_digests. Borrowed for the call. NULL = anything. */
    const struct lorafmt_policy *policy;
    /** Smaller limits than those that hold by themselves (lorafmt/limits.h). Borrowed for the call. NULL = those. */
    const struct lorafmt_limits *limits;
    /**
     * Take nothing on trust: in_memory, and before anything is used what lorafmt_verify() checks of the whole file; elements that are
     * not finite are UNSUPPORTED. Not with defer_digests.
     */
    bool paranoid;
} lorafmt_source_options;

/** The facts of a `.lora` file that are about the file and not about an adapter. */
typedef struct lorafmt_container_info {
    unsigned version_major, version_minor;
    uint64_t generation;
    uint64_t file_end;
    uint64_t index_size;
    uint32_t align; /**< bytes */
    size_t n_tensors;
    size_t n_signatures;
    size_t n_ignored_sections; /**< of a newer format */
    uint64_t saved;            /**< bytes of the file that compressing tensors saves; 0 when all are raw */
    bool recovered;            /**< a root slot was damaged and the other one was used: spec 3 */
    uint8_t index_sha256[32];  /**< root digest */
} lorafmt_container_info;

/**
 * Open a `.lora` file, a PEFT directory, or a safetensors file that lies beside its adapter_config.json, says its
 * alpha in its metadata, or is given one by the options.
 *
 * @param path     a file or directory; symbolic links are followed
 * @param options  may be NULL
 * @param out      a source to be freed with lorafmt_source_free(); NULL on failure
 *
 * @return LORAFMT_OK; NOT_LORAFMT, UNSUPPORTED, CORRUPT, LIMIT for what is in the file; UNTRUSTED (the policy); NOT_FOUND, IO,
 *         NO_MEMORY, MISUSE
 *
 * A source that is not in_memory must not be truncated while open; replacing it by renaming is fine.
 */
LORAFMT_API lorafmt_status lorafmt_source_open(const char *path, const lorafmt_source_options *options, lorafmt_source **out,
                                               lorafmt_error *err);

/**
 * The bytes that a source takes as long as it is open, which its index or sizes of files tell, before any data is read: of a `.lora`
 * the index and each tensor once, where it lies in the mapping or, if it is compressed, decoded in memory; with in_memory, a policy
 * or paranoid the whole file and what is decoded. Of any other, its files. Records of sites, some hundred bytes each, are not in it.
 *
 * @param options  as for lorafmt_source_open(); may be NULL
 *
 * @return LORAFMT_OK; NOT_FOUND, IO; CORRUPT, UNSUPPORTED, LIMIT for an index; NO_MEMORY, MISUSE. On failure *size_out is 0. What else
 *         is wrong with it, opening says.
 */
LORAFMT_API lorafmt_status lorafmt_source_measure(const char *path, const lorafmt_source_options *options, uint64_t *size_out,
                                                  lorafmt_error *err);

/** An adapter whose bytes are in memory already. Borrowed until the source is freed, and must not change meanwhile. */
typedef struct lorafmt_memory {
    const void *bytes; /**< a whole `.lora`, or a whole safetensors file */
    uint64_t size;
    const char *config; /**< text of the adapter_config.json that goes with a safetensors file, or NULL */
    size_t config_size;
    const char *name; /**< of the adapter, and in messages, where a file would have its own; NULL = "adapter" */
} lorafmt_memory;

/** lorafmt_source_open() of bytes. A `.lora` knows its adapters' names itself. Besides its statuses, MISUSE for no bytes. */
LORAFMT_API lorafmt_status lorafmt_source_open_memory(const lorafmt_memory *memory, const lorafmt_source_options *options,
                                                      lorafmt_source **out, lorafmt_error *err);

/**
 * lorafmt_source_open() of an open regular file that holds a `.lora`, or a safetensors file that says its scale or is given it.
 *
 * @param fd    open for reading; mapped, so it may be closed afterwards. Where it stands does not matter. A file that somebody is
 *              just appending to may look recovered or truncated: unlike lorafmt_source_open() this looks once.
 * @param name  as in lorafmt_memory
 */
LORAFMT_API lorafmt_status lorafmt_source_open_fd(int fd, const char *name, const lorafmt_source_options *options,
                                                  lorafmt_source **out, lorafmt_error *err);

LORAFMT_API void lorafmt_source_free(lorafmt_source *source);

LORAFMT_API lorafmt_source_kind lorafmt_source_get_kind(const lorafmt_source *source);
LORAFMT_API size_t lorafmt_source_n_adapters(const lorafmt_source *source);
LORAFMT_API const lorafmt_adapter *lorafmt_source_adapter(const lorafmt_source *source, size_t i);

/** What was left out or read in a special way (one sentence each, as "left out ..."); i < n_notes. */
LORAFMT_API size_t lorafmt_source_n_notes(const lorafmt_source *source);
LORAFMT_API const char *lorafmt_source_note(const lorafmt_source *source, size_t i);

/** false when the source is not a `.lora` file. */
LORAFMT_API bool lorafmt_source_container(const lorafmt_source *source, lorafmt_container_info *out);

/**
 * Choose one adapter.
 *
 * @param name  NULL for the only one; with several adapters that is MISUSE and the text lists them
 * @return LORAFMT_OK, NOT_FOUND (the text lists the names), MISUSE
 */
LORAFMT_API lorafmt_status lorafmt_source_choose(const lorafmt_source *source, const char *name, const lorafmt_adapter **out,
                                                 lorafmt_error *err);

typedef struct lorafmt_verify_result {
    size_t n_adapters;
    size_t n_sites;
    size_t n_tensors;
    uint64_t n_bytes; /**< of tensor data hashed */
    uint64_t
        n_nonfinite; /**< NaN and infinite elements, a complex one counted by its parts; not an error; lorafmt_tensor_elements() says where */
    bool recovered; /**< nothing is wrong but a root slot that is not in use (spec 3): the status is CORRUPT all the same */
} lorafmt_verify_result;

/**
 * Check all that opening did not. For a `.lora`: every digest again, adapter id, order, padding and the coverage of the
 * file (spec 9); a recovered file is CORRUPT here. For other sources opening has checked all rules; elements are counted.
 *
 * @return LORAFMT_OK; CORRUPT; UNSUPPORTED (a dtype or codec of a newer format); NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_verify(const lorafmt_source *source, lorafmt_verify_result *out, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
