/* SPDX-License-Identifier: MIT */
#include "lib/algebra/numbers.h"

#include "lib/kernels/real.h"

static lf_real real_of(lorafmt_dtype dtype)
{
    return dtype == LORAFMT_F64   ? LF_REAL_F64
           : dtype == LORAFMT_F32 ? LF_REAL_F32
           : dtype == LORAFMT_F16 ? LF_REAL_F16
                                  : LF_REAL_BF16;
}

void lk_widen(lorafmt_dtype dtype, const void *src, double *dst, size_t n)
{
    lf_widen_f64(real_of(dtype), src, dst, n);
}

bool lk_narrow(lorafmt_dtype dtype, const double *src, void *dst, size_t n)
{
    lf_tally tally = {0};

    lf_narrow_f64(real_of(dtype), src, dst, n, &tally);
    return tally.n_inf == 0;
}
