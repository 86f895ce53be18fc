/* SPDX-License-Identifier: MIT */
/* Dot products, and rows turned over, with AVX2, FMA and F16C. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include "lib/kernels/x86/strip_avx2.h"

#define DOT_ROWS 2 // by three tokens: twelve sums in as many registers
#define DOT_TOKENS 3

#include "lib/kernels/forward_impl.h"

TARGET void lf_add_dots_avx2(const lf_dots *d)
{
    add_dots(d);
}

TARGET void lf_fold_avx2(const float *sums, size_t n, float *out)
{
    fold_each(sums, n, out);
}

TARGET void lf_widen_panels_avx2(lf_real from, const void *src, size_t src_stride, size_t n, size_t n_panels, float *panels)
{
    widen_panels(from, src, src_stride, n, n_panels, panels);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
