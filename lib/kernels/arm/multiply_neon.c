/* SPDX-License-Identifier: MIT */
#include "lib/kernels/kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

/* Two panels, or sixteen columns in f64, stay in eight registers: there is something to do while a product is under way. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

#define GET(i) float32x4_t sum##i = vld1q_f32(delta + 4 * (i));
#define ADD(i) sum##i = vfmaq_f32(sum##i, factor, vld1q_f32(row + (i) / 4 * LF_PANEL * rank + 4 * ((i) % 4)));
#define PUT(i) vst1q_f32(delta + 4 * (i), sum##i);

static void two_panels(float *delta, const float *left, const float *panels, size_t rank)
{
    EACH(GET)
    for (size_t p = 0; p < rank; p++) {
        const float *row = panels + p * LF_PANEL;
        const float32x4_t factor = vdupq_n_f32(left[p]);
        EACH(ADD)
    }
    EACH(PUT)
}

#undef GET
#undef ADD
#undef PUT

static void quarter_panel(float *delta, const float *left, const float *panel, size_t rank)
{
    float32x4_t sum = vld1q_f32(delta);

    for (size_t p = 0; p < rank; p++)
        sum = vfmaq_f32(sum, vdupq_n_f32(left[p]), vld1q_f32(panel + p * LF_PANEL));
    vst1q_f32(delta, sum);
}

void lf_multiply_f32_neon(float *delta, size_t n, const float *left, const float *panels, size_t rank)
{
    size_t j = 0;

    for (; j + 2 * LF_PANEL <= n; j += 2 * LF_PANEL)
        two_panels(delta + j, left, panels + lf_panel_at(rank, j), rank);
    for (; j + 4 <= n; j += 4)
        quarter_panel(delta + j, left, panels + lf_panel_at(rank, j), rank);
    for (; j < n; j++) {
        const float *right = panels + lf_panel_at(rank, j);
        for (size_t p = 0; p < rank; p++)
            delta[j] = __builtin_fmaf(left[p], right[p * LF_PANEL], delta[j]);
    }
}

#define GET(i) float64x2_t sum##i = vld1q_f64(delta + 2 * (i));
#define ADD(i) sum##i = vfmaq_f64(sum##i, factor, vld1q_f64(row + 2 * (i)));
#define PUT(i) vst1q_f64(delta + 2 * (i), sum##i);

static void sixteen_columns(double *delta, const double *left, const double *right, size_t stride, size_t rank)
{
    EACH(GET)
    for (size_t p = 0; p < rank; p++) {
        const double *row = right + p * stride;
        const float64x2_t factor = vdupq_n_f64(left[p]);
        EACH(ADD)
    }
    EACH(PUT)
}

void lf_multiply_f64_neon(double *delta, size_t n, const double *left, const double *right, size_t stride, size_t rank)
{
    size_t j = 0;

    for (; j + 16 <= n; j += 16)
        sixteen_columns(delta + j, left, right + j, stride, rank);
    for (; j < n; j++)
        for (size_t p = 0; p < rank; p++)
            delta[j] = __builtin_fma(left[p], right[p * stride + j], delta[j]);
}

#else

typedef int lf_arm_only; // a translation unit may not be empty

#endif
