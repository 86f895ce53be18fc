/* SPDX-License-Identifier: MIT */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))

#define EACH_ROW(X) X(0) X(1) X(2) X(3)
#define ZERO(p) __m256d low##p = _mm256_setzero_pd(), high##p = low##p;
#define ADD(p)                                                                                                                   \
    factor = _mm256_set1_pd(left[p]);                                                                                            \
    low##p = _mm256_add_pd(low##p, _mm256_mul_pd(factor, low));                                                                  \
    high##p = _mm256_add_pd(high##p, _mm256_mul_pd(factor, high));
#define PUT(p)                                                                                                                   \
    _mm256_storeu_pd(gram + p * stride, _mm256_add_pd(_mm256_loadu_pd(gram + p * stride), low##p));                              \
    _mm256_storeu_pd(gram + p * stride + 4, _mm256_add_pd(_mm256_loadu_pd(gram + p * stride + 4), high##p));

/* 4 x 8: the sums stay in eight registers. Products are rounded, as the definition has it, so no fused multiply-add. */
TARGET static void block(double *gram, size_t stride, const double *left, const double *right, size_t n)
{
    EACH_ROW(ZERO)
    for (; n; n--, left += stride, right += stride) {
        const __m256d low = _mm256_loadu_pd(right), high = _mm256_loadu_pd(right + 4);
        __m256d factor;
        EACH_ROW(ADD)
    }
    EACH_ROW(PUT)
}

TARGET void lf_gram_f64_avx2(double *gram, const double *x, size_t n, size_t stride)
{
    for (size_t p = 0; p < stride; p += LF_GRAM_ROWS)
        for (size_t q = p - p % LF_GRAM_COLS; q < stride; q += LF_GRAM_COLS)
            block(gram + p * stride + q, stride, x + p, x + q, n);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
