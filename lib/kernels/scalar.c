/* SPDX-License-Identifier: MIT */
/* The definitions, in scalar C, and the choice of a level. */
#include "lib/kernels/kernels.h"

#include <math.h>
#include <string.h>

static void multiply_f32(float *delta, size_t n, const float *left, const float *panels, size_t rank)
{
    for (size_t j = 0; j < n; j++) {
        const float *right = panels + lf_panel_at(rank, j);
        for (size_t p = 0; p < rank; p++)
            delta[j] = fmaf(left[p], right[p * LF_PANEL], delta[j]);
    }
}

static void multiply_f64(double *delta, size_t n, const double *left, const double *right, size_t stride, size_t rank)
{
    for (size_t p = 0; p < rank; p++)
        for (size_t j = 0; j < n; j++)
            delta[j] = fma(left[p], right[p * stride + j], delta[j]);
}

static void add_scaled_f32(float *x, size_t n, const float *d, float scale)
{
    for (size_t j = 0; j < n; j++)
        x[j] = fmaf(scale, d[j], x[j]);
}

static void add_scaled_f64(double *x, size_t n, const double *d, double scale)
{
    for (size_t j = 0; j < n; j++)
        x[j] = fma(scale, d[j], x[j]);
}

/* One panel of a row. */
static void merge_panel(const lf_block *b, size_t row, size_t j, size_t n, lf_tally *tally)
{
    const uint8_t *src = (const uint8_t *)b->src + row * b->src_stride + j * lf_real_size(b->from);
    uint8_t *dst = (uint8_t *)b->dst + row * b->dst_stride + j * lf_real_size(b->to), base[LF_PANEL * sizeof(float)];
    float x[LF_PANEL];

    lf_widen_f32(b->from, src, x, n);
    if (b->change)
        memcpy(base, src, n * lf_real_size(b->from));
    for (size_t k = 0; k < b->n_updates; k++) {
        const lf_update *u = &b->updates[k];
        float delta[LF_PANEL] = {0};
        multiply_f32(delta, n, u->left + row * u->rank, u->panels + lf_panel_at(u->rank, j), u->rank);
        add_scaled_f32(x, n, delta, u->scale);
    }
    lf_narrow_f32(b->to, x, dst, n, tally);
    if (b->change)
        lf_change_add_f32(b->from, base, x, b->to, dst, n, b->change);
}

static void merge_block(const lf_block *b, lf_tally *tally)
{
    for (size_t row = 0; row < b->n_rows; row++)
        for (size_t j = 0; j < b->n_cols; j += LF_PANEL)
            merge_panel(b, row, j, b->n_cols - j < LF_PANEL ? b->n_cols - j : LF_PANEL, tally);
}

static void widen_rows(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                       size_t row_step, size_t group_step)
{
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n_cols; j += LF_PANEL)
            lf_widen_f32(from, (const uint8_t *)src + i * src_stride + j * lf_real_size(from),
                         dst + i * row_step + j / LF_PANEL * group_step, n_cols - j < LF_PANEL ? n_cols - j : LF_PANEL);
}

static void widen_panels(lf_real from, const void *src, size_t src_stride, size_t n, size_t n_panels, float *panels)
{
    for (size_t i = 0; i < n_panels * LF_PANEL; i++)
        for (size_t p = 0; p < n; p++)
            lf_widen_f32(from, (const uint8_t *)src + i * src_stride + p * lf_real_size(from),
                         panels + lf_panel_at(n, i) + p * LF_PANEL, 1);
}

static void add_dot(const lf_dots *d, size_t t, size_t p, float *sums)
{
    const uint8_t *row = (const uint8_t *)d->a + p * d->a_stride, *other = d->x[t];

    for (size_t k = 0; !d->goes_on && k < LF_PANEL; k++)
        sums[k] = 0;
    for (size_t j = 0; j < d->n; j += LF_PANEL) {
        float a[LF_PANEL], x[LF_PANEL];
        lf_widen_f32(d->a_type, row + j * lf_real_size(d->a_type), a, LF_PANEL);
        lf_widen_f32(d->x_type, other + j * lf_real_size(d->x_type), x, LF_PANEL);
        for (size_t k = 0; k < LF_PANEL; k++)
            sums[k] = fmaf(a[k], x[k], sums[k]);
    }
}

static void add_dots(const lf_dots *d)
{
    for (size_t t = 0; t < d->n_x; t++)
        for (size_t p = 0; p < d->n_a; p++)
            add_dot(d, t, p, d->sums + (t * d->n_a + p) * LF_PANEL);
}

static void fold(const float *sums, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, sums += LF_PANEL) {
        float s[LF_PANEL];
        memcpy(s, sums, sizeof s);
        for (size_t half = LF_PANEL / 2; half; half /= 2)
            for (size_t k = 0; k < half; k++)
                s[k] += s[k + half];
        out[i] = s[0];
    }
}

unsigned lf_cpu_flags(void)
{
#if defined(__x86_64__)
    return lf_cpu_flags_x86();
#elif defined(__aarch64__)
    return lf_cpu_flags_arm();
#else
    return 0;
#endif
}

void lf_kernels_init(lf_kernels *kernels, unsigned cpu_flags)
{
    kernels->merge_block = merge_block;
    kernels->multiply_f32 = multiply_f32;
    kernels->multiply_f64 = multiply_f64;
    kernels->add_scaled_f32 = add_scaled_f32;
    kernels->add_scaled_f64 = add_scaled_f64;
    kernels->widen_rows = widen_rows;
    kernels->widen_panels = widen_panels;
    kernels->add_dots = add_dots;
    kernels->fold = fold;
    kernels->gram_f64 = lf_gram_f64_scalar;
#if defined(__x86_64__)
    lf_kernels_init_x86(kernels, cpu_flags);
#elif defined(__aarch64__)
    lf_kernels_init_arm(kernels, cpu_flags);
#else
    (void)cpu_flags;
#endif
}
