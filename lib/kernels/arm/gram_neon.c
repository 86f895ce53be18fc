/* SPDX-License-Identifier: MIT */
#include "lib/kernels/kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define EACH_ROW(X) X(0) X(1) X(2) X(3)
#define EACH(X) EACH_PAIR(X, 0) EACH_PAIR(X, 1) EACH_PAIR(X, 2) EACH_PAIR(X, 3)
#define EACH_PAIR(X, p) X(p, 0) X(p, 1) X(p, 2) X(p, 3)

#define ZERO(p, q) float64x2_t sum##p##q = vdupq_n_f64(0);
#define GET(q) const float64x2_t x##q = vld1q_f64(right + 2 * (q));
#define ADD(p, q) sum##p##q = vaddq_f64(sum##p##q, vmulq_n_f64(x##q, left[p]));
#define PUT(p, q) vst1q_f64(gram + (p)*stride + 2 * (q), vaddq_f64(vld1q_f64(gram + (p)*stride + 2 * (q)), sum##p##q));

/* 4 x 8: the sums stay in sixteen registers. Products are rounded, as the definition has it, so no fused multiply-add. */
static void block(double *gram, size_t stride, const double *left, const double *right, size_t n)
{
    EACH(ZERO)
    for (; n; n--, left += stride, right += stride) {
        EACH_ROW(GET)
        EACH(ADD)
    }
    EACH(PUT)
}

void lf_gram_f64_neon(double *gram, const double *x, size_t n, size_t stride)
{
    for (size_t p = 0; p < stride; p += LF_GRAM_ROWS)
        for (size_t q = p - p % LF_GRAM_COLS; q < stride; q += LF_GRAM_COLS)
            block(gram + p * stride + q, stride, x + p, x + q, n);
}

#else

typedef int lf_arm_only; // a translation unit may not be empty

#endif
