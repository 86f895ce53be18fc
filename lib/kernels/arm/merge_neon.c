/* SPDX-License-Identifier: MIT */
/* Blocks of rows with NEON, and what is done to whole panels besides. */
#include "lib/kernels/kernels.h"

#if defined(__aarch64__)

#include "lib/kernels/arm/strip_neon.h"

#define CAN_STREAM 0
#define TILE_ROWS 6 // by one panel: 24 sums, a panel in four registers and a factor are 29 of 32
#define TILE_PANELS 1

#define ADD_PANELS lf_change_add_panels_neon

#include "lib/kernels/merge_impl.h"

void lf_merge_block_neon(const lf_block *b, lf_tally *tally)
{
    merge_block(b, tally);
}

void lf_widen_rows_neon(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                        size_t row_step, size_t group_step)
{
    widen_rows(from, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
}

#else

typedef int lf_arm_only; // a translation unit may not be empty

#endif
