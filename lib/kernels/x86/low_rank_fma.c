/* SPDX-License-Identifier: MIT */
#include "lib/kernels/low_rank.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))

/* 64 columns at once: their sums stay in eight registers over the whole rank. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define ZERO(k) __m256 delta##k = _mm256_setzero_ps();
#define ADD(k) delta##k = _mm256_fmadd_ps(factor, _mm256_loadu_ps(row + 8 * k), delta##k);
#define PUT(k) _mm256_storeu_ps(acc + 8 * k, _mm256_fmadd_ps(factor, delta##k, _mm256_loadu_ps(acc + 8 * k)));

TARGET static void block_64(float *acc, const float *left, const float *right, size_t stride, size_t rank, float scale)
{
    __m256 factor;

    EACH(ZERO)
    for (size_t p = 0; p < rank; p++) {
        const float *row = right + p * stride;
        factor = _mm256_set1_ps(left[p]);
        EACH(ADD)
    }
    factor = _mm256_set1_ps(scale);
    EACH(PUT)
}

TARGET static void block_8(float *acc, const float *left, const float *right, size_t stride, size_t rank, float scale)
{
    __m256 delta = _mm256_setzero_ps();

    for (size_t p = 0; p < rank; p++)
        delta = _mm256_fmadd_ps(_mm256_set1_ps(left[p]), _mm256_loadu_ps(right + p * stride), delta);
    _mm256_storeu_ps(acc, _mm256_fmadd_ps(_mm256_set1_ps(scale), delta, _mm256_loadu_ps(acc)));
}

TARGET static void low_rank_f32_fma(float *acc, size_t n, const float *left, const float *right, size_t stride, size_t rank,
                                    float scale)
{
    size_t j = 0;

    for (; j + 64 <= n; j += 64)
        block_64(acc + j, left, right + j, stride, rank, scale);
    for (; j + 8 <= n; j += 8)
        block_8(acc + j, left, right + j, stride, rank, scale);
    for (; j < n; j++) {
        float delta = 0;
        for (size_t p = 0; p < rank; p++)
            delta = __builtin_fmaf(left[p], right[p * stride + j], delta);
        acc[j] = __builtin_fmaf(scale, delta, acc[j]);
    }
}

TARGET static void low_rank_f64_fma(double *acc, size_t n, const double *left, const double *right, size_t stride, size_t rank,
                                    double scale)
{
    for (size_t j = 0; j < n; j++) {
        double delta = 0;
        for (size_t p = 0; p < rank; p++)
            delta = __builtin_fma(left[p], right[p * stride + j], delta);
        acc[j] = __builtin_fma(scale, delta, acc[j]);
    }
}

void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags)
{
    if (cpu_flags & LF_CPU_FMA) {
        kernels->low_rank_f32 = low_rank_f32_fma;
        kernels->low_rank_f64 = low_rank_f64_fma;
        kernels->gram_f64 = lf_gram_f64_avx2;
    }
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
