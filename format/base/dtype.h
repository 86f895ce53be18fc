/* SPDX-License-Identifier: MIT */
/* Sizes of tensors, and the classes of dtypes that other rooms ask for. */
#ifndef LF_BASE_DTYPE_H
#define LF_BASE_DTYPE_H

#include "lorafmt/tensor.h"

#include <stdbool.h>

/* Limits of spec 4.6. */
#define LF_MAX_DIM (UINT64_C(1) << 48)
#define LF_MAX_TENSOR_SIZE (UINT64_C(1) << 46)

/*
 * Bytes of a tensor. false when the product overflows, is beyond LF_MAX_TENSOR_SIZE, is no whole number of bytes,
 * n_dims is above LORAFMT_MAX_DIMS, or dtype is none. A dimension of 0 gives 0 bytes.
 */
bool lf_tensor_measure(lorafmt_dtype dtype, uint32_t n_dims, const uint64_t *shape, uint64_t *n_bytes);

/* Are both of one dtype and one shape? */
bool lf_tensor_same_type(const lorafmt_tensor *a, const lorafmt_tensor *b);

/* F32, F16, BF16, F64: what the merge arithmetic takes. */
bool lf_dtype_is_real(lorafmt_dtype dtype);

/* Is every element +0 or -0? false for dtypes that are not real. */
bool lf_all_zero_elements(const lorafmt_tensor *tensor);

/* NaN and infinite elements; 0 for dtypes that are not real. */
uint64_t lf_count_nonfinite(const lorafmt_tensor *tensor);

/* "[8, 768]" into buf, for messages. Returns buf. */
#define LF_SHAPE_TEXT 192
const char *lf_shape_text(uint32_t n_dims, const uint64_t *shape, char buf[LF_SHAPE_TEXT]);

#endif
