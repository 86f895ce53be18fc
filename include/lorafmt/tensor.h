/* SPDX-License-Identifier: MIT */
/** Element types and tensors: a shape, a type and bytes. */
#ifndef LORAFMT_TENSOR_H
#define LORAFMT_TENSOR_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LORAFMT_MAX_DIMS 8

/** Numbers and names of spec 4.6.1, which are those of safetensors. */
typedef enum lorafmt_dtype {
    LORAFMT_BOOL = 1,
    LORAFMT_F4,
    LORAFMT_F6_E2M3,
    LORAFMT_F6_E3M2,
    LORAFMT_U8,
    LORAFMT_I8,
    LORAFMT_F8_E5M2,
    LORAFMT_F8_E4M3,
    LORAFMT_F8_E8M0,
    LORAFMT_I16,
    LORAFMT_U16,
    LORAFMT_F16,
    LORAFMT_BF16,
    LORAFMT_I32,
    LORAFMT_U32,
    LORAFMT_F32,
    LORAFMT_C64,
    LORAFMT_F64,
    LORAFMT_I64,
    LORAFMT_U64,
    LORAFMT_F8_E4M3FNUZ,
    LORAFMT_F8_E5M2FNUZ,
} lorafmt_dtype;

/** Numbers of spec 5: how the bytes of a tensor are stored. */
typedef enum lorafmt_codec {
    LORAFMT_CODEC_RAW = 0,   /**< as they are, so that they can be used where they lie */
    LORAFMT_CODEC_SPLIT = 1, /**< smaller by a third (BF16) or a sixth (F32, F16): exponents compressed, the rest as it is */
} lorafmt_codec;

/** "BF16" and so on; NULL for a number that is no dtype. */
LORAFMT_API const char *lorafmt_dtype_name(lorafmt_dtype dtype);

/** Bits of one element; 0 for a number that is no dtype. */
LORAFMT_API unsigned lorafmt_dtype_bits(lorafmt_dtype dtype);

/** The dtype of that name (as lorafmt_dtype_name() spells it), or 0. */
LORAFMT_API lorafmt_dtype lorafmt_dtype_from_name(const char *name);

/**
 * A tensor: row-major, slowest dimension first, little-endian, not necessarily aligned.
 * The bytes are borrowed from what the tensor came from.
 */
typedef struct lorafmt_tensor {
    lorafmt_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[LORAFMT_MAX_DIMS]; /**< unused dimensions are 0 */
    uint64_t size;                    /**< bytes of data */
    const void *data;                 /**< size bytes */
} lorafmt_tensor;

/** What the elements of an F32, F16, BF16 or F64 tensor are; of other dtypes nothing is said. */
typedef struct lorafmt_elements {
    uint64_t n_nonfinite; /**< NaN and infinite ones */
    bool all_zero;        /**< every one is +0 or -0 */
} lorafmt_elements;

/** Look at all elements of a tensor. */
LORAFMT_API void lorafmt_tensor_elements(const lorafmt_tensor *tensor, lorafmt_elements *out);

#ifdef __cplusplus
}
#endif

#endif
