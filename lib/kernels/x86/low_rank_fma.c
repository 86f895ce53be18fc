/* SPDX-License-Identifier: MIT */
#include "lib/kernels/low_rank.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>

#define TARGET __attribute__((target("avx2,fma")))

/* Four panels at once: their sums stay in eight registers over the whole rank. */
#define EACH(X) X(0, 0) X(0, 1) X(1, 0) X(1, 1) X(2, 0) X(2, 1) X(3, 0) X(3, 1)
#define ZERO(panel, half) __m256 delta##panel##half = _mm256_setzero_ps();
#define ADD(panel, half)                                                                                                         \
    delta##panel##half = _mm256_fmadd_ps(factor, _mm256_loadu_ps(row + (panel)*LF_PANEL * rank + 8 * (half)), delta##panel##half);
#define PUT(panel, half) put(acc + (panel)*LF_PANEL + 8 * (half), factor, delta##panel##half);

TARGET static inline void put(float *acc, __m256 scale, __m256 delta)
{
    _mm256_storeu_ps(acc, _mm256_fmadd_ps(scale, delta, _mm256_loadu_ps(acc)));
}

TARGET static void four_panels(float *acc, const float *left, const float *panels, size_t rank, float scale)
{
    __m256 factor;

    EACH(ZERO)
    for (size_t p = 0; p < rank; p++) {
        const float *row = panels + p * LF_PANEL;
        factor = _mm256_set1_ps(left[p]);
        EACH(ADD)
    }
    factor = _mm256_set1_ps(scale);
    EACH(PUT)
}

TARGET static void half_panel(float *acc, const float *left, const float *panel, size_t rank, float scale)
{
    __m256 delta = _mm256_setzero_ps();

    for (size_t p = 0; p < rank; p++)
        delta = _mm256_fmadd_ps(_mm256_set1_ps(left[p]), _mm256_loadu_ps(panel + p * LF_PANEL), delta);
    put(acc, _mm256_set1_ps(scale), delta);
}

TARGET static void low_rank_f32_fma(float *acc, size_t n, const float *left, const float *panels, size_t rank, float scale)
{
    size_t j = 0;

    for (; j + 4 * LF_PANEL <= n; j += 4 * LF_PANEL)
        four_panels(acc + j, left, panels + lf_panel_at(rank, j), rank, scale);
    for (; j + 8 <= n; j += 8)
        half_panel(acc + j, left, panels + lf_panel_at(rank, j), rank, scale);
    for (; j < n; j++) {
        const float *right = panels + lf_panel_at(rank, j);
        float delta = 0;
        for (size_t p = 0; p < rank; p++)
            delta = __builtin_fmaf(left[p], right[p * LF_PANEL], delta);
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

/* Not every compiler's __builtin_cpu_supports() knows F16C. AVX2 says that the system keeps the registers. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

unsigned lf_cpu_flags_x86(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() ? LF_CPU_FMA : 0;
}

void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags)
{
    if (cpu_flags & LF_CPU_FMA) {
        kernels->low_rank_f32 = low_rank_f32_fma;
        kernels->low_rank_f64 = low_rank_f64_fma;
        kernels->merge_block = lf_merge_block_avx2;
        kernels->gram_f64 = lf_gram_f64_avx2;
    }
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
