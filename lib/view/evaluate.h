/* SPDX-License-Identifier: MIT */
#ifndef LF_VIEW_EVALUATE_H
#define LF_VIEW_EVALUATE_H

#include "lib/view/view.h"

/*
 * Elements [first, first + n) of a replacement in the dtype it will have, n <= LF_TILE. Copied when the dtypes are equal, else
 * both are real and each element is rounded once (spec 7.3).
 */
void lf_value_convert(const lorafmt_tensor *value, lorafmt_dtype to, uint64_t first, size_t n, void *dst, lf_tally *tally);

/* A tile in the working type of its tensor. */
typedef union lf_acc {
    double f64[LF_TILE];
    float f32[LF_TILE];
} lf_acc;

/* The steps of evaluating elements [col, col + n) of one row, n <= LF_TILE. src points at the row of the base, if that is read. */
void lf_widen_start(const lf_plan *plan, uint64_t row, size_t col, size_t n, const uint8_t *src, lf_acc *acc);
void lf_add_term(const lf_kernels *kernels, const lf_plan *plan, const lf_term *term, uint64_t row, size_t col, size_t n,
                 lf_acc *acc);
void lf_apply_dora(const lf_plan *plan, const lf_dora *dora, uint64_t row, size_t col, size_t n, lf_acc *acc);

#endif
