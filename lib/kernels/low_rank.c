/* SPDX-License-Identifier: MIT */
/* The definition, in scalar C, and the choice of a level. */
#include "lib/kernels/low_rank.h"

#include <math.h>

static void low_rank_f32(float *acc, size_t n, const float *left, const float *right, size_t stride, size_t rank, float scale)
{
    float delta[LF_TILE] = {0};

    for (size_t p = 0; p < rank; p++)
        for (size_t j = 0; j < n; j++)
            delta[j] = fmaf(left[p], right[p * stride + j], delta[j]);
    for (size_t j = 0; j < n; j++)
        acc[j] = fmaf(scale, delta[j], acc[j]);
}

static void low_rank_f64(double *acc, size_t n, const double *left, const double *right, size_t stride, size_t rank, double scale)
{
    double delta[LF_TILE] = {0};

    for (size_t p = 0; p < rank; p++)
        for (size_t j = 0; j < n; j++)
            delta[j] = fma(left[p], right[p * stride + j], delta[j]);
    for (size_t j = 0; j < n; j++)
        acc[j] = fma(scale, delta[j], acc[j]);
}

unsigned lf_cpu_flags(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? LF_CPU_FMA : 0;
#else
    return 0;
#endif
}

void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags)
{
    kernels->low_rank_f32 = low_rank_f32;
    kernels->low_rank_f64 = low_rank_f64;
    kernels->gram_f64 = lf_gram_f64_scalar;
#if defined(__x86_64__)
    lf_kernels_init_x86(kernels, cpu_flags);
#else
    (void)cpu_flags;
#endif
}
