/* SPDX-License-Identifier: MIT */
/**
 * From files to files: pack adapters into a `.lora`, unpack one to a PEFT directory, merge a view into a new model.
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
 * @param done, total  bytes of output; both 0 while it is not known how many there will be
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
    lorafmt_progress progress;
    void *progress_ctx;
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
LORAFMT_API lorafmt_status lorafmt_merge(const lorafmt_model *model, lorafmt_view *view, const char *path,
                                         const lorafmt_merge_options *options,
                                         void (*report)(void *ctx, const char *file, const char *why), void *report_ctx,
                                         lorafmt_merge_result *out, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
