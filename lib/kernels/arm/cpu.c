/* SPDX-License-Identifier: MIT */
#include "lib/kernels/kernels.h"

#if defined(__aarch64__)

/* Every AArch64 that runs Linux has it. */
unsigned lf_cpu_flags_arm(void)
{
    return LF_CPU_NEON;
}

/* Adding scaled rows is what compilers make of the definition. */
void lf_kernels_init_arm(lf_kernels *kernels, unsigned cpu_flags)
{
    if (!(cpu_flags & LF_CPU_NEON))
        return;
    kernels->merge_block = lf_merge_block_neon;
    kernels->multiply_f32 = lf_multiply_f32_neon;
    kernels->multiply_f64 = lf_multiply_f64_neon;
    kernels->widen_rows = lf_widen_rows_neon;
    kernels->widen_panels = lf_widen_panels_neon;
    kernels->add_dots = lf_add_dots_neon;
    kernels->fold = lf_fold_neon;
    kernels->gram_f64 = lf_gram_f64_neon;
}

#else

typedef int lf_arm_only; // a translation unit may not be empty

#endif
