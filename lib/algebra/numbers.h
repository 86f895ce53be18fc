/* SPDX-License-Identifier: MIT */
/* Elements of tensors to and from f64. Callers hold an lf_fpenv. */
#ifndef LK_NUMBERS_H
#define LK_NUMBERS_H

#include "lorafmt/tensor.h"

/* n elements of F64, F32, F16 or BF16. */
void lk_widen(lorafmt_dtype dtype, const void *src, double *dst, size_t n);

void lk_widen_f32(lorafmt_dtype dtype, const void *src, float *dst, size_t n); /* F64 is rounded */

/* The same to one of them, each rounded once; false when one that was finite is not any more. */
bool lk_narrow(lorafmt_dtype dtype, const double *src, void *dst, size_t n);

/* The sum of the squares, in f64 and in an order of its own. */
double lk_square_sum(const double *x, size_t n);
double lk_square_sum_f32(const float *x, size_t n);

#endif
