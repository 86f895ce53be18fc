/* SPDX-License-Identifier: MIT */
#ifndef LF_VIEW_EVALUATE_H
#define LF_VIEW_EVALUATE_H

#include "lib/kernels/low_rank.h"
#include "lib/kernels/real.h"
#include "lorafmt/tensor.h"

/*
 * Elements [first, first + n) of a replacement in the dtype it will have, n <= LF_TILE. Copied when the dtypes are equal, else
 * both are real and each element is rounded once (spec 7.3).
 */
void lf_value_convert(const lorafmt_tensor *value, lorafmt_dtype to, uint64_t first, size_t n, void *dst, lf_tally *tally);

#endif
