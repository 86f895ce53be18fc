/* SPDX-License-Identifier: MIT */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))

/* Four panels at once: their sums stay in eight registers over the whole rank. */
#define EACH(X) X(0, 0) X(0, 1) X(1, 0) X(1, 1) X(2, 0) X(2, 1) X(3, 0) X(3, 1)
#define GET(panel, half) __m256 delta##panel##half = _mm256_loadu_ps(delta + (panel)*LF_PANEL + 8 * (half));
#define ADD(panel, half)                                                                                                         \
    delta##panel##half = _mm256_fmadd_ps(factor, _mm256_loadu_ps(row + (panel)*LF_PANEL * rank + 8 * (half)), delta##panel##half);
#define PUT(panel, half) _mm256_storeu_ps(delta + (panel)*LF_PANEL + 8 * (half), delta##panel##half);

TARGET static void four_panels(float *delta, const float *left, const float *panels, size_t rank)
{
    EACH(GET)
    for (size_t p = 0; p < rank; p++) {
        const float *row = panels + p * LF_PANEL;
        const __m256 factor = _mm256_set1_ps(left[p]);
        EACH(ADD)
    }
    EACH(PUT)
}

TARGET static void half_panel(float *delta, const float *left, const float *panel, size_t rank)
{
    __m256 sum = _mm256_loadu_ps(delta);

    for (size_t p = 0; p < rank; p++)
        sum = _mm256_fmadd_ps(_mm256_set1_ps(left[p]), _mm256_loadu_ps(panel + p * LF_PANEL), sum);
    _mm256_storeu_ps(delta, sum);
}

TARGET void lf_multiply_f32_fma(float *delta, size_t n, const float *left, const float *panels, size_t rank)
{
    size_t j = 0;

    for (; j + 4 * LF_PANEL <= n; j += 4 * LF_PANEL)
        four_panels(delta + j, left, panels + lf_panel_at(rank, j), rank);
    for (; j + 8 <= n; j += 8)
        half_panel(delta + j, left, panels + lf_panel_at(rank, j), rank);
    for (; j < n; j++) {
        const float *right = panels + lf_panel_at(rank, j);
        for (size_t p = 0; p < rank; p++)
            delta[j] = __builtin_fmaf(left[p], right[p * LF_PANEL], delta[j]);
    }
}

/* Sixteen columns stay in registers, so that there is something to do while a product is under way. */
TARGET void lf_multiply_f64_fma(double *delta, size_t n, const double *left, const double *right, size_t stride, size_t rank)
{
    size_t j = 0;

    for (; j + 16 <= n; j += 16) {
        __m256d a = _mm256_loadu_pd(delta + j), b = _mm256_loadu_pd(delta + j + 4);
        __m256d c = _mm256_loadu_pd(delta + j + 8), d = _mm256_loadu_pd(delta + j + 12);
        for (size_t p = 0; p < rank; p++) {
            const double *row = right + p * stride + j;
            const __m256d factor = _mm256_set1_pd(left[p]);
            a = _mm256_fmadd_pd(factor, _mm256_loadu_pd(row), a);
            b = _mm256_fmadd_pd(factor, _mm256_loadu_pd(row + 4), b);
            c = _mm256_fmadd_pd(factor, _mm256_loadu_pd(row + 8), c);
            d = _mm256_fmadd_pd(factor, _mm256_loadu_pd(row + 12), d);
        }
        _mm256_storeu_pd(delta + j, a);
        _mm256_storeu_pd(delta + j + 4, b);
        _mm256_storeu_pd(delta + j + 8, c);
        _mm256_storeu_pd(delta + j + 12, d);
    }
    for (; j < n; j++)
        for (size_t p = 0; p < rank; p++)
            delta[j] = __builtin_fma(left[p], right[p * stride + j], delta[j]);
}

/* The compiler makes vectors of these. */
TARGET void lf_add_scaled_f32_fma(float *x, size_t n, const float *d, float scale)
{
    for (size_t j = 0; j < n; j++)
        x[j] = __builtin_fmaf(scale, d[j], x[j]);
}

TARGET void lf_add_scaled_f64_fma(double *x, size_t n, const double *d, double scale)
{
    for (size_t j = 0; j < n; j++)
        x[j] = __builtin_fma(scale, d[j], x[j]);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
