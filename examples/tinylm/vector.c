/* SPDX-License-Identifier: MIT */
#include "vector.h"

#include <math.h>
#include <string.h>

/* A compiler must not reorder a sum of floats: so many sums are added up side by side. */
#define LANES 16

/* Compiled for wider vectors as well, to be chosen when the program starts. The sums are the same: nothing is fused or reordered. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

static float widen_one(uint16_t bf16)
{
    const uint32_t bits = (uint32_t)bf16 << 16;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

void widen(float *restrict out, const uint16_t *restrict bf16, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = widen_one(bf16[i]);
}

WIDE float dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += a[i + k] * b[i + k];
    for (size_t k = 0; i + k < n; k++)
        lanes[k] += a[i + k] * b[i + k];
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t k = 0; k < half; k++)
            lanes[k] += lanes[half + k];
    return lanes[0];
}

WIDE void add_scaled(float *restrict y, float factor, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

void add(float *out, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

void softmax(float *x, size_t n)
{
    float most = x[0], sum = 0;

    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - most);
        sum += x[i];
    }
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

static float rms_scale(const float *x, float eps, size_t n)
{
    return 1 / sqrtf(dot(x, x, n) / (float)n + eps);
}

void rms_norm(float *restrict y, const float *restrict x, const float *restrict weight, float eps, size_t n)
{
    const float scale = rms_scale(x, eps, n);

    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * weight[i];
}

void swiglu(float *restrict out, const float *restrict gate, const float *restrict up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

void rotate(float *head, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cos[i] - b * sin[i];
        head[half + i] = b * cos[i] + a * sin[i];
    }
}

/* --- backwards --- */

void softmax_back(float *restrict g, const float *restrict p, size_t n)
{
    const float mean = dot(g, p, n);

    for (size_t i = 0; i < n; i++)
        g[i] = p[i] * (g[i] - mean);
}

void rms_norm_back(float *restrict dx, const float *restrict g, const float *restrict x, const float *restrict weight, float eps,
                   size_t n)
{
    const float scale = rms_scale(x, eps, n);
    float along = 0;

    for (size_t i = 0; i < n; i++)
        along += g[i] * weight[i] * x[i];
    along *= scale * scale / (float)n;
    for (size_t i = 0; i < n; i++)
        dx[i] += scale * (g[i] * weight[i] - along * x[i]);
}

void swiglu_back(float *restrict dgate, float *restrict dup, const float *restrict g, const float *restrict gate,
                 const float *restrict up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float sigmoid = 1 / (1 + expf(-gate[i])), silu = gate[i] * sigmoid;
        dgate[i] = g[i] * up[i] * (sigmoid + silu * (1 - sigmoid));
        dup[i] = g[i] * silu;
    }
}

void rotate_back(float *head, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cos[i] + b * sin[i];
        head[half + i] = b * cos[i] - a * sin[i];
    }
}
