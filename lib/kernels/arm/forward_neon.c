/* SPDX-License-Identifier: MIT */
/* Dot products, and rows turned over, with NEON. */
#include "lib/kernels/kernels.h"

#if defined(__aarch64__)

#include "lib/kernels/arm/strip_neon.h"

#define DOT_ROWS 2 // by two tokens: sixteen sums, eight registers of x and four of a row
#define DOT_TOKENS 2

#include "lib/kernels/forward_impl.h"

TARGET void lf_add_dots_neon(const lf_dots *d)
{
    add_dots(d);
}

TARGET void lf_fold_neon(const float *sums, size_t n, float *out)
{
    fold_each(sums, n, out);
}

TARGET void lf_widen_panels_neon(lf_real from, const void *src, size_t src_stride, size_t n, size_t n_panels, float *panels)
{
    widen_panels(from, src, src_stride, n, n_panels, panels);
}

#else

typedef int lf_arm_only; // a translation unit may not be empty

#endif
