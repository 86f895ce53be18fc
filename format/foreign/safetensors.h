/* SPDX-License-Identifier: MIT */
/*
 * safetensors: u64 header size, JSON header, tensor data (the format's README). Bytes <-> checked tables; no paths, no meaning.
 */
#ifndef LF_FOREIGN_SAFETENSORS_H
#define LF_FOREIGN_SAFETENSORS_H

#include "format/base/arena.h"
#include "lorafmt/error.h"
#include "lorafmt/tensor.h"

#include <stddef.h>
#include <stdint.h>

/* Largest JSON header that the format allows. */
#define LF_SAFETENSORS_MAX_HEADER UINT64_C(100000000)

/* Largest end of data_offsets: what every reader of JSON numbers still holds exactly. */
#define LF_SAFETENSORS_MAX_DATA (UINT64_C(1) << 53)

typedef struct lf_safetensors_tensor {
    const char *name;
    lorafmt_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[LORAFMT_MAX_DIMS];
    uint64_t offset; /* in the file */
    uint64_t size;
    uint64_t key_offset; /* where its entry of the header begins in the file */
} lf_safetensors_tensor;

typedef struct lf_safetensors_pair {
    const char *key, *value;
} lf_safetensors_pair;

typedef struct lf_safetensors {
    uint64_t data_offset; /* 8 + header size */
    uint64_t file_size;
    size_t n_tensors;
    lf_safetensors_tensor *tensors; /* in ascending order of offset, then size, then name */
    size_t n_metadata;
    lf_safetensors_pair *metadata; /* of __metadata__, in the file's order */
    lf_arena arena;                /* owns all of it */
} lf_safetensors;

/*
 * From the first bytes of a file (at least min(16, file_size), better LF_SAFETENSORS_HEAD), the size of its JSON header:
 * NOT_LORAFMT when it is something else, CORRUPT when 8 + size is beyond the file, LIMIT beyond LF_SAFETENSORS_MAX_HEADER.
 */
#define LF_SAFETENSORS_HEAD 512
lorafmt_status lf_safetensors_header_size(const uint8_t *head, size_t head_size, uint64_t file_size, uint64_t *out,
                                          lorafmt_error *err);

/*
 * Parse the JSON header (header_size bytes that follow the first 8) of a file of file_size bytes. Enforced, each refusal
 * naming the tensor: known dtype, at most 8 dimensions, shape x dtype = size of data_offsets, offsets in the file, no hole,
 * no overlap, the last byte used is the file's last, metadata is strings only, no unknown member of a tensor entry.
 * Dimensions of 0 are allowed here. Offsets in errors are in the file: of the tensor's key in the header, or of the data that
 * are wrong. *out is freed with lf_safetensors_free().
 */
lorafmt_status lf_safetensors_parse(const uint8_t *header, uint64_t header_size, uint64_t file_size, lf_safetensors **out,
                                    lorafmt_error *err);
void lf_safetensors_free(lf_safetensors *table);

/* The value of a metadata key, or NULL. */
const char *lf_safetensors_metadata(const lf_safetensors *table, const char *key);

/*
 * The first 8 bytes and the JSON header for tensors that lie one after another in the order given (their offset is set here),
 * padded with spaces to a multiple of 8. *out is malloc()ed.
 */
lorafmt_status lf_safetensors_encode_header(lf_safetensors_tensor *tensors, size_t n_tensors, const lf_safetensors_pair *metadata,
                                            size_t n_metadata, uint8_t **out, size_t *out_size, lorafmt_error *err);

#endif
