/* SPDX-License-Identifier: MIT */
/**
 * From files to files: pack adapters into a `.lora`, unpack one to a PEFT directory, merge a view into a new model, hold a model
 * against a view.
 * Every output is written beside its target, synced, and renamed into place: it is whole or absent.
 */
#ifndef LORAFMT_FILES_H
#define LORAFMT_FILES_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"
#include "lorafmt/model.h"
#include "lorafmt/view.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Called now and then by long work, from one thread at a time.
 *
 * @param done, total  bytes of output; those that are read again for digests count twice; both 0 while it is not known how many
 *                     there will be
 * @return false to stop: the function removes what it wrote and returns LORAFMT_CANCELLED
 */
typedef bool (*lorafmt_progress)(void *ctx, uint64_t done, uint64_t total);

typedef struct lorafmt_pack_options {
    size_t struct_size;        /**< sizeof(lorafmt_pack_options) */
    const char *name;          /**< name for the adapter, only with one; NULL keeps its own */
    lorafmt_dtype dtype;       /**< convert float tensors to F32, BF16 or F16, rounding to nearest even; 0 keeps them */
    lorafmt_codec codec;       /**< SPLIT: store each tensor that gets smaller by it so; else RAW, which is used where it lies */
    uint32_t align;            /**< 64, 4096 or 65536 bytes; 0 = 64 */
    const lorafmt_model *base; /**< record this base's structure and the digests of the tensors that change; NULL = do not */
    bool headers_only;         /**< with base: do not read its data, and record no digests */
    const lorafmt_metadata *metadata; /**< added to every adapter, replacing entries of the same key */
    size_t n_metadata;
    bool force; /**< replace an existing file */
    lorafmt_progress progress;
    void *progress_ctx;
} lorafmt_pack_options;

/**
 * Write adapters into one `.lora` file. The same adapters and options give the same bytes, with codec split given the same zlib.
 *
 * @return LORAFMT_OK; MISUSE (two adapters of one name, a bad name or option); CORRUPT (bad metadata);
 *         MISMATCH, UNSUPPORTED (base does not fit); LIMIT (a value is not finite in the asked dtype); NOT_FOUND (the
 *         directory of path); IO (os_error EEXIST when path exists); NO_MEMORY; CANCELLED
 */
LORAFMT_API lorafmt_status lorafmt_pack(const lorafmt_adapter *const *adapters, size_t n_adapters, const char *path,
                                        const lorafmt_pack_options *options, lorafmt_error *err);

/**
 * Write an adapter as a PEFT directory: adapter_config.json and adapter_model.safetensors. Tensors are bit-identical; a
 * config that came from PEFT is written as it was when it still says the truth about every site.
 *
 * @return LORAFMT_OK; UNSUPPORTED for what PEFT cannot say; MISUSE (path is a file, or with force a directory that holds
 *         anything else); NOT_FOUND (the directory of path); IO (os_error EEXIST when path exists); NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_unpack(const lorafmt_adapter *adapter, const char *path, bool force, lorafmt_error *err);

typedef struct lorafmt_merge_options {
    size_t struct_size; /**< sizeof(lorafmt_merge_options) */
    unsigned n_threads; /**< 0 = one per CPU; the result does not depend on it */
    bool force;         /**< replace an existing output */
    /**
     * F32, F16 or BF16: round the numbers of all tensors of F64, F32, F16 and BF16 to it, once, and say so in config.json; 0 keeps
     * the base's.
     */
    lorafmt_dtype dtype;
    lorafmt_progress progress;
    void *progress_ctx;

    /**
     * Arrays of the caller's with an element for each tensor of the view, filled when merging succeeds; NULL saves the work.
     *
     * changes  what merging did to each computed tensor, zero for the others. The same for any n_threads. Not with dtype.
     * digests  SHA-256 of each tensor, changed or not, read back from the output before that is put in place.
     */
    lorafmt_change *changes;
    uint8_t (*digests)[32];
} lorafmt_merge_options;

typedef struct lorafmt_merge_result {
    uint64_t n_bytes; /**< written */
    size_t n_changed; /**< tensors computed or replaced */
    size_t n_new;     /**< tensors added */
    size_t n_copied;  /**< tensors copied byte for byte */
    lorafmt_counts counts;
} lorafmt_merge_result;

/**
 * Write the merged model. Shard names, tensor order, safetensors metadata and side files are kept; config.json and the shard
 * index change where they must.
 *
 * @param model  the model whose lorafmt_model_base() the view was bound to
 * @param view   prepared here, as far as it was not
 * @param path   a directory when the model is one, else a file
 * @param report called with the name and reason of each file of the base that was not carried over; may be NULL
 *
 * @return LORAFMT_OK; MISUSE (another base, a bad option); MISMATCH (a single file whose config would have to change);
 *         CORRUPT (the base was changed meanwhile); NOT_FOUND (the directory of path); IO (os_error EEXIST when path exists
 *         and force is not set); NO_MEMORY; CANCELLED
 */
LORAFMT_API lorafmt_status lorafmt_merge(lorafmt_model *model, lorafmt_view *view, const char *path,
                                         const lorafmt_merge_options *options,
                                         void (*report)(void *ctx, const char *file, const char *why), void *report_ctx,
                                         lorafmt_merge_result *out, lorafmt_error *err);

/** An element of a model that is not what its view says. */
typedef struct lorafmt_difference {
    size_t tensor;                 /**< of the view; SIZE_MAX when there is no difference */
    uint64_t row, col;             /**< rows as in lorafmt_view_tensor.n_rows, so 0 for less than 2 dimensions */
    size_t size;                   /**< bytes of the element; 1 for those smaller than a byte, then col is the first in it */
    uint8_t found[8], expected[8]; /**< these bytes, little-endian */
    double found_number, expected_number; /**< the same, of F32, F16, BF16 and F64; else NaN */
} lorafmt_difference;

typedef struct lorafmt_compare_options {
    size_t struct_size; /**< sizeof(lorafmt_compare_options) */
    unsigned n_threads; /**< 0 = one per CPU; the result does not depend on it */
    lorafmt_progress progress;
    void *progress_ctx;

    /** As in lorafmt_merge_options: what merging does, to the bit, and the digests of the tensors that are there. */
    lorafmt_change *changes;
    uint8_t (*digests)[32];
} lorafmt_compare_options;

typedef struct lorafmt_compare_result {
    uint64_t n_bytes;         /**< of the files that hold tensors */
    size_t n_tensors;         /**< compared */
    size_t n_differing;       /**< tensors of which any byte differs */
    lorafmt_difference first; /**< in the order of files and of tensors in them */
    lorafmt_counts counts;    /**< as in lorafmt_merge_result */
} lorafmt_compare_result;

/**
 * Hold a model against a view: compute everything again and compare it, byte for byte, with what is there. Takes the memory of a
 * merge, twice. Side files (config.json, the shard index beyond where tensors are) are not compared.
 *
 * @param base    the model whose lorafmt_model_base() the view was bound to
 * @param view    prepared here, as far as it was not
 * @param merged  what lorafmt_merge() may have written
 *
 * @return LORAFMT_OK, also when tensors differ, which *out says; MISMATCH (other files, tensors, shapes, metadata or header
 *         bytes: then no data is compared from there on); MISUSE (another base, a bad option); CORRUPT (a file was truncated
 *         meanwhile); IO; NO_MEMORY; CANCELLED. On failure *out is zero.
 */
LORAFMT_API lorafmt_status lorafmt_compare(const lorafmt_model *base, lorafmt_view *view, const lorafmt_model *merged,
                                           const lorafmt_compare_options *options, lorafmt_compare_result *out,
                                           lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
