/* SPDX-License-Identifier: MIT */
/* Dot products, and rows turned over, with AVX-512. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include "lib/kernels/x86/strip_avx512.h"

#define DOT_ROWS 8 // by three tokens: 24 sums, three of x and one of a row
#define DOT_TOKENS 3

#include "lib/kernels/forward_impl.h"

TARGET void lf_add_dots_avx512(const lf_dots *d)
{
    add_dots(d);
}

TARGET void lf_fold_avx512(const float *sums, size_t n, float *out)
{
    fold_each(sums, n, out);
}

TARGET void lf_widen_panels_avx512(lf_real from, const void *src, size_t src_stride, size_t n, size_t n_panels, float *panels)
{
    widen_panels(from, src, src_stride, n, n_panels, panels);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
