/* SPDX-License-Identifier: MIT */
/* Weights as they lie in memory, and what they make of rows of f32. */
#ifndef TINYLM_MATRIX_H
#define TINYLM_MATRIX_H

#include <lorafmt/tensor.h>

typedef struct matrix {
    size_t out, in;      /* row-major; out 1: a vector */
    lorafmt_dtype dtype; /* BF16 or F32 */
    const void *data;
    size_t tensor; /* its index in the base */
} matrix;

/* A row in f32: where it is, or widened into room for `in` numbers. */
const float *matrix_row(const matrix *w, size_t row, float *room);

/* y = x W^T for n rows of x. */
void matrix_multiply(const matrix *w, const float *x, size_t n, float *room, float *y);

#endif
