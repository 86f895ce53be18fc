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

#ifdef __cplusplus
}
#endif

#endif
