/* SPDX-License-Identifier: MIT */
/* The definition, in scalar C. */
#include "lib/kernels/kernels.h"

/* One block of the matrix, whose sums stay in registers over all n rows. */
static void block(double *gram, size_t stride, const double *left, const double *right, size_t n)
{
    double sums[LF_GRAM_ROWS][LF_GRAM_COLS] = {{0}};

    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < LF_GRAM_ROWS; p++)
            for (size_t q = 0; q < LF_GRAM_COLS; q++)
                sums[p][q] += left[i * stride + p] * right[i * stride + q];
    for (size_t p = 0; p < LF_GRAM_ROWS; p++)
        for (size_t q = 0; q < LF_GRAM_COLS; q++)
            gram[p * stride + q] += sums[p][q];
}

void lf_gram_f64_scalar(double *gram, const double *x, size_t n, size_t stride)
{
    for (size_t p = 0; p < stride; p += LF_GRAM_ROWS)
        for (size_t q = p - p % LF_GRAM_COLS; q < stride; q += LF_GRAM_COLS)
            block(gram + p * stride + q, stride, x + p, x + q, n);
}
