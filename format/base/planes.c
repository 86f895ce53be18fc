/* SPDX-License-Identifier: MIT */
#include "format/base/planes.h"

#include <string.h>

void lf_plane_take(uint8_t *dst, const uint8_t *elements, size_t n, unsigned width, unsigned plane)
{
    // the bits of a byte move up by one, and the next lower byte's highest comes in; below the lowest is the highest of all
    const uint8_t *byte = elements + width - 1 - plane, *below = plane == width - 1 ? elements + width - 1 : byte - 1;

    for (size_t k = 0; k < n; k++)
        dst[k] = (uint8_t)(byte[k * width] << 1 | below[k * width] >> 7);
}

/* Elements [first, n): the definition. */
static inline void join_scalar(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t stride, size_t first, size_t n,
                               const unsigned width)
{
    for (size_t k = first; k < n; k++) {
        uint64_t rotated = top[k], x;
        for (unsigned plane = 0; plane < width - 1; plane++)
            rotated = rotated << 8 | others[plane * stride + k];
        x = rotated >> 1 | (rotated & 1) << (8 * width - 1);
        for (unsigned b = 0; b < width; b++)
            dst[k * width + b] = (uint8_t)(x >> (8 * b));
    }
}

/*
 * Sixteen elements at once in vectors of the compiler, which become instructions that every x86-64 and AArch64 has. Lanes are
 * joined from bytes in memory order, so this is for little-endian machines.
 */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

enum { STEP = 16 };

typedef uint8_t bytes __attribute__((vector_size(16)));
typedef uint16_t halves __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

/* Lanes of a and b in turn, a's first: of the lower and of the upper half of both. */
#define LOWER_BYTES(a, b) (halves) SHUFFLE(bytes, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define UPPER_BYTES(a, b) (halves) SHUFFLE(bytes, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LOWER_HALVES(a, b) (words) SHUFFLE(halves, a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define UPPER_HALVES(a, b) (words) SHUFFLE(halves, a, b, 4, 12, 5, 13, 6, 14, 7, 15)

static inline bytes load(const uint8_t *p)
{
    bytes x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void put_halves(uint8_t *dst, halves rotated)
{
    const halves x = rotated >> 1 | rotated << 15;
    memcpy(dst, &x, sizeof x);
}

static inline void put_words(uint8_t *dst, words rotated)
{
    const words x = rotated >> 1 | rotated << 31;
    memcpy(dst, &x, sizeof x);
}

static size_t join_2(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t n)
{
    size_t k = 0;

    for (; n - k >= STEP; k += STEP) {
        const bytes high = load(top + k), low = load(others + k);
        put_halves(dst + 2 * k, LOWER_BYTES(low, high));
        put_halves(dst + 2 * k + 16, UPPER_BYTES(low, high));
    }
    return k;
}

static size_t join_4(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t stride, size_t n)
{
    size_t k = 0;

    for (; n - k >= STEP; k += STEP) {
        const bytes p0 = load(top + k), p1 = load(others + k), p2 = load(others + stride + k), p3 = load(others + 2 * stride + k);
        const halves low = LOWER_BYTES(p3, p2), high = LOWER_BYTES(p1, p0);
        const halves low8 = UPPER_BYTES(p3, p2), high8 = UPPER_BYTES(p1, p0); // of elements 8 to 15
        put_words(dst + 4 * k, LOWER_HALVES(low, high));
        put_words(dst + 4 * k + 16, UPPER_HALVES(low, high));
        put_words(dst + 4 * k + 32, LOWER_HALVES(low8, high8));
        put_words(dst + 4 * k + 48, UPPER_HALVES(low8, high8));
    }
    return k;
}

#else

static size_t join_2(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t n)
{
    (void)dst, (void)top, (void)others, (void)n;
    return 0;
}

static size_t join_4(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t stride, size_t n)
{
    (void)dst, (void)top, (void)others, (void)stride, (void)n;
    return 0;
}

#endif

void lf_planes_join(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t stride, size_t n, unsigned width)
{
    if (width == 2)
        join_scalar(dst, top, others, stride, join_2(dst, top, others, n), n, 2);
    else if (width == 4)
        join_scalar(dst, top, others, stride, join_4(dst, top, others, stride, n), n, 4);
    else
        join_scalar(dst, top, others, stride, 0, n, 8);
}
