/* SPDX-License-Identifier: MIT */
/* Blocks of rows with AVX2, FMA and F16C, and what is done to whole panels besides. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include "lib/kernels/x86/strip_avx2.h"

#define CAN_STREAM 0
#define TILE_ROWS 6 // by one panel: twelve sums, a panel in two registers and a factor are all but one of the registers
#define TILE_PANELS 1

#define ADD_PANELS lf_change_add_panels_avx2

#include "lib/kernels/merge_impl.h"

TARGET void lf_merge_block_avx2(const lf_block *b, lf_tally *tally)
{
    merge_block(b, tally);
}

TARGET void lf_widen_rows_avx2(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                               size_t row_step, size_t group_step)
{
    widen_rows(from, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
