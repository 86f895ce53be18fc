/* SPDX-License-Identifier: MIT */
/* Loops over numbers, written so that a compiler makes vector instructions of them. */
#ifndef TINYLM_VECTOR_H
#define TINYLM_VECTOR_H

#include <stddef.h>
#include <stdint.h>

/* bf16 is the upper half of f32. */
void widen(float *restrict out, const uint16_t *restrict bf16, size_t n);

float dot(const float *a, const float *b, size_t n);

/* y += factor * x */
void add_scaled(float *restrict y, float factor, const float *restrict x, size_t n);

/* out = a + b; out may be a */
void add(float *out, const float *a, const float *b, size_t n);

void softmax(float *x, size_t n);

/* y = x / sqrt(mean(x^2) + eps) * weight */
void rms_norm(float *restrict y, const float *restrict x, const float *restrict weight, float eps, size_t n);

/* out = silu(gate) * up */
void swiglu(float *restrict out, const float *restrict gate, const float *restrict up, size_t n);

/* Turn a head: its first half is paired with its second one. */
void rotate(float *head, const float *cos, const float *sin, size_t half);

/*
 * The same backwards: from the gradient of the loss with respect to what came out to that with respect to what went in. x, gate, up
 * are what went in, p what softmax() made.
 */
void softmax_back(float *restrict g, const float *restrict p, size_t n);
void rms_norm_back(float *restrict dx, const float *restrict g, const float *restrict x, const float *restrict weight, float eps,
                   size_t n); /* dx is added to */
void swiglu_back(float *restrict dgate, float *restrict dup, const float *restrict g, const float *restrict gate,
                 const float *restrict up, size_t n);
void rotate_back(float *head, const float *cos, const float *sin, size_t half);

#endif
