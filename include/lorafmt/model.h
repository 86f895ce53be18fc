/* SPDX-License-Identifier: MIT */
/**
 * A base model on disk as a table of tensors: one safetensors file, a directory with one, or a sharded directory. A Hugging
 * Face cache snapshot, which is a directory of symbolic links, is read like any other directory.
 */
#ifndef LORAFMT_MODEL_H
#define LORAFMT_MODEL_H

#include "lorafmt/error.h"
#include "lorafmt/tensor.h"
#include "lorafmt/view.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorafmt_model lorafmt_model;

/**
 * Open a base and read its headers, not its data.
 *
 * @param path  a .safetensors file, or a directory that holds model.safetensors, a shard index, or one .safetensors
 * @return LORAFMT_OK; NOT_FOUND; NOT_LORAFMT (not a safetensors file, or an adapter); UNSUPPORTED (only pickles or GGUF, shards
 *         without an index, several models, an unknown dtype); CORRUPT; LIMIT; MISUSE (an empty path); IO; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_model_open(const char *path, lorafmt_model **out, lorafmt_error *err);
LORAFMT_API void lorafmt_model_free(lorafmt_model *model);

/** The description that lorafmt_bind() takes; borrowed from the model. Its tensors are in ascending order of name. */
LORAFMT_API const lorafmt_base *lorafmt_model_base(const lorafmt_model *model);

/** A file that the tensors of a base are in; all is the model's. */
typedef struct lorafmt_model_file {
    const char *name; /**< within the directory */
    const char *path;
    int fd; /**< open for reading, wherever it stands: what was opened, also when the path has come to name another file */
} lorafmt_model_file;

/** Those files, in ascending order of name. */
LORAFMT_API size_t lorafmt_model_n_files(const lorafmt_model *model);
LORAFMT_API void lorafmt_model_get_file(const lorafmt_model *model, size_t file, lorafmt_model_file *out);

/**
 * Map the files, so that tensors can be used where they lie. While the model is open they must not be truncated or written to, or the
 * process gets SIGBUS or other numbers; replacing them by renaming is fine. Nobody else may use the model meanwhile.
 *
 * @return LORAFMT_OK, also when they are mapped already; IO
 */
LORAFMT_API lorafmt_status lorafmt_model_map(lorafmt_model *model, lorafmt_error *err);

/** The bytes of tensor i of lorafmt_model_base(), not aligned to anything; NULL when the model is not mapped. */
LORAFMT_API const void *lorafmt_model_data(const lorafmt_model *model, size_t tensor);

#ifdef __cplusplus
}
#endif

#endif
