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

void lk_widen_f32(lorafmt_dtype dtype, const void *src, float *dst, size_t n)
{
    lf_widen_f32(real_of(dtype), src, dst, n);
}

bool lk_narrow(lorafmt_dtype dtype, const double *src, void *dst, size_t n)
{
    lf_tally tally = {0};

    lf_narrow_f64(real_of(dtype), src, dst, n, &tally);
    return tally.n_inf == 0;
}

/* Sums that do not wait for each other. */
#define LANES 16

static double add_lanes(const double *lane)
{
    double sum = 0;

    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

double lk_square_sum(const double *x, size_t n)
{
    double lane[LANES] = {0};
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += x[i + k] * x[i + k];
    for (size_t k = 0; i + k < n; k++)
        lane[k] += x[i + k] * x[i + k];
    return add_lanes(lane);
}

double lk_square_sum_f32(const float *x, size_t n)
{
    double lane[LANES] = {0};
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += (double)x[i + k] * (double)x[i + k];
    for (size_t k = 0; i + k < n; k++)
        lane[k] += (double)x[i + k] * (double)x[i + k];
    return add_lanes(lane);
}
