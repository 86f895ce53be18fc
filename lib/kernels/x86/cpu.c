/* SPDX-License-Identifier: MIT */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>

/* Not every compiler's __builtin_cpu_supports() knows F16C. AVX2 says that the system keeps the registers. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

unsigned lf_cpu_flags_x86(void)
{
    unsigned flags = 0;

    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        flags |= LF_CPU_FMA;
    if (flags && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        flags |= LF_CPU_AVX512;
    return flags;
}

void lf_kernels_init_x86(lf_kernels *kernels, unsigned cpu_flags)
{
    if (!(cpu_flags & LF_CPU_FMA))
        return;
    kernels->merge_block = lf_merge_block_avx2;
    kernels->multiply_f32 = lf_multiply_f32_fma;
    kernels->multiply_f64 = lf_multiply_f64_fma;
    kernels->add_scaled_f32 = lf_add_scaled_f32_fma;
    kernels->add_scaled_f64 = lf_add_scaled_f64_fma;
    kernels->widen_rows = lf_widen_rows_avx2;
    kernels->widen_panels = lf_widen_panels_avx2;
    kernels->add_dots = lf_add_dots_avx2;
    kernels->fold = lf_fold_avx2;
    kernels->gram_f64 = lf_gram_f64_avx2;
    if (cpu_flags & LF_CPU_AVX512) {
        kernels->merge_block = lf_merge_block_avx512;
        kernels->widen_rows = lf_widen_rows_avx512;
        kernels->widen_panels = lf_widen_panels_avx512;
        kernels->add_dots = lf_add_dots_avx512;
        kernels->fold = lf_fold_avx512;
    }
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
