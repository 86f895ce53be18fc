/* SPDX-License-Identifier: MIT */
/* Blocks of rows with AVX-512. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include "lib/kernels/x86/strip_avx512.h"

#define CAN_STREAM 1
#define TILE_ROWS 6 // by four panels: 24 sums, four panels and a factor are all but three of the registers
#define TILE_PANELS 4

#define ADD_PANELS lf_change_add_panels_avx512

#include "lib/kernels/merge_impl.h"

TARGET void lf_merge_block_avx512(const lf_block *b, lf_tally *tally)
{
    if (!is_streamed(b)) {
        merge_block(b, tally);
        return;
    }
    stream_block(b, tally);
    _mm_sfence(); // what a lock guards has to be there when it is given back
}

TARGET void lf_widen_rows_avx512(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                                 size_t row_step, size_t group_step)
{
    widen_rows(from, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
