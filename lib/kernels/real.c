/* SPDX-License-Identifier: MIT */
#include "lib/kernels/real.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Elements are little-endian in memory, whatever the machine is: what lies there to what is meant, and back. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define IS_BIG_ENDIAN true
#define LITTLE_U16(x) __builtin_bswap16(x)
#define LITTLE_U32(x) __builtin_bswap32(x)
#define LITTLE_U64(x) __builtin_bswap64(x)
#else
#define IS_BIG_ENDIAN false
#define LITTLE_U16(x) (x)
#define LITTLE_U32(x) (x)
#define LITTLE_U64(x) (x)
#endif

/* Elements that lf_widen_f64() takes through float at once. */
#define WIDEN_BLOCK 64

static uint32_t bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint64_t bits_of_f64(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double f64_of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static float f32_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, mantissa = h & 0x3ff;

    if (exponent == 0x1f)
        return f32_of_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) {
        const float magnitude = (float)mantissa * 0x1p-24f; // exact: 10 bits and a power of two
        return sign ? -magnitude : magnitude;
    }
    return f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static uint16_t bf16_of_f32(float x)
{
    const uint32_t u = bits_of_f32(x);

    if ((u & 0x7fffffff) > 0x7f800000)
        return 0x7fc0;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t f16_of_f32(float x)
{
    const uint32_t u = bits_of_f32(x), magnitude = u & 0x7fffffff, sign = u >> 16 & 0x8000;

    if (magnitude > 0x7f800000)
        return 0x7e00;
    if (magnitude >= 0x47800000) // 2^16 and above
        return (uint16_t)(sign | 0x7c00);
    if (magnitude >= 0x38800000) { // 2^-14 and above: normal; a carry may go up to infinity
        const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
    }
    if (magnitude < 0x33000000) // below 2^-25, half of the smallest subnormal
        return (uint16_t)sign;
    {
        const uint32_t shift = 126 - (magnitude >> 23); // 14 .. 24: to units of 2^-24
        const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
        const uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
        return (uint16_t)(sign | (kept + (rest > half || (rest == half && (kept & 1)))));
    }
}

/*
 * Round to odd: the float next to x towards zero, with its last bit set when it is not exact. Rounding the result
 * again to a type of at least two bits less gives the same as rounding x once (Boldo and Melquiond, 2008).
 */
static float f32_to_odd(double x)
{
    float f = (float)x;

    if (isnan(x) || (double)f == x)
        return f;
    if (fabs((double)f) > fabs(x))
        f = f32_of_bits(bits_of_f32(f) - 1);
    return f32_of_bits(bits_of_f32(f) | 1);
}

static float canonical_f32(float x)
{
    return isnan(x) ? f32_of_bits(0x7fc00000) : x;
}

static double canonical_f64(double x)
{
    return isnan(x) ? f64_of_bits(UINT64_C(0x7ff8000000000000)) : x;
}

static uint16_t load_u16(const void *p, size_t i)
{
    uint16_t u;
    memcpy(&u, (const uint8_t *)p + 2 * i, sizeof u);
    return LITTLE_U16(u);
}

static void store_u16(void *p, size_t i, uint16_t u)
{
    u = LITTLE_U16(u);
    memcpy((uint8_t *)p + 2 * i, &u, sizeof u);
}

static uint32_t load_u32(const void *p, size_t i)
{
    uint32_t u;
    memcpy(&u, (const uint8_t *)p + 4 * i, sizeof u);
    return LITTLE_U32(u);
}

static void store_u32(void *p, size_t i, uint32_t u)
{
    u = LITTLE_U32(u);
    memcpy((uint8_t *)p + 4 * i, &u, sizeof u);
}

static uint64_t load_u64(const void *p, size_t i)
{
    uint64_t u;
    memcpy(&u, (const uint8_t *)p + 8 * i, sizeof u);
    return LITTLE_U64(u);
}

static void store_u64(void *p, size_t i, uint64_t u)
{
    u = LITTLE_U64(u);
    memcpy((uint8_t *)p + 8 * i, &u, sizeof u);
}

void lf_widen_f32(lf_real from, const void *src, float *dst, size_t n)
{
    switch (from) {
    case LF_REAL_F32:
        memcpy(dst, src, n * sizeof *dst);
        for (size_t i = 0; IS_BIG_ENDIAN && i < n; i++)
            dst[i] = f32_of_bits(load_u32(src, i));
        break;
    case LF_REAL_F16:
        for (size_t i = 0; i < n; i++)
            dst[i] = f32_of_f16(load_u16(src, i));
        break;
    case LF_REAL_BF16:
        for (size_t i = 0; i < n; i++)
            dst[i] = f32_of_bits((uint32_t)load_u16(src, i) << 16);
        break;
    case LF_REAL_F64:
        for (size_t i = 0; i < n; i++)
            dst[i] = (float)f64_of_bits(load_u64(src, i));
        break;
    }
}

void lf_widen_f64(lf_real from, const void *src, double *dst, size_t n)
{
    if (from == LF_REAL_F64) {
        memcpy(dst, src, n * sizeof *dst);
        for (size_t i = 0; IS_BIG_ENDIAN && i < n; i++)
            dst[i] = f64_of_bits(load_u64(src, i));
        return;
    }
    for (size_t done = 0; done < n;) {
        float x[WIDEN_BLOCK];
        const size_t block = n - done < WIDEN_BLOCK ? n - done : WIDEN_BLOCK;
        lf_widen_f32(from, (const uint8_t *)src + done * lf_real_size(from), x, block);
        for (size_t i = 0; i < block; i++)
            dst[done + i] = (double)x[i];
        done += block;
    }
}

static void tally_f64(lf_tally *tally, double x)
{
    tally->n_nan += isnan(x) != 0;
    tally->n_inf += isinf(x) != 0;
}

/* Counts a 16-bit result by its bits: an exponent of all ones is infinite without a mantissa, else NaN. */
static void tally_u16(lf_tally *tally, uint16_t bits, uint16_t infinity)
{
    const uint16_t magnitude = bits & 0x7fff;

    tally->n_nan += magnitude > infinity;
    tally->n_inf += magnitude == infinity;
}

static void narrow_f32_to_f32(const float *src, void *dst, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < n; i++) {
        const float out = canonical_f32(src[i]);
        store_u32(dst, i, bits_of_f32(out));
        tally_f64(tally, (double)out);
    }
}

static void narrow_f32_to_f16(const float *src, void *dst, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t out = f16_of_f32(src[i]);
        store_u16(dst, i, out);
        tally_u16(tally, out, 0x7c00);
    }
}

static void narrow_f32_to_bf16(const float *src, void *dst, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t out = bf16_of_f32(src[i]);
        store_u16(dst, i, out);
        tally_u16(tally, out, 0x7f80);
    }
}

static void narrow_f64_to_f64(const double *src, void *dst, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < n; i++) {
        const double out = canonical_f64(src[i]);
        store_u64(dst, i, bits_of_f64(out));
        tally_f64(tally, out);
    }
}

void lf_narrow_f32(lf_real to, const float *src, void *dst, size_t n, lf_tally *tally)
{
    switch (to) {
    case LF_REAL_F32:
        narrow_f32_to_f32(src, dst, n, tally);
        break;
    case LF_REAL_F16:
        narrow_f32_to_f16(src, dst, n, tally);
        break;
    case LF_REAL_BF16:
        narrow_f32_to_bf16(src, dst, n, tally);
        break;
    case LF_REAL_F64:
        for (size_t i = 0; i < n; i++) {
            const double wide = (double)src[i];
            narrow_f64_to_f64(&wide, (uint8_t *)dst + 8 * i, 1, tally);
        }
        break;
    }
}

void lf_narrow_f64(lf_real to, const double *src, void *dst, size_t n, lf_tally *tally)
{
    if (to == LF_REAL_F64) {
        narrow_f64_to_f64(src, dst, n, tally);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const float out = to == LF_REAL_F32 ? (float)src[i] : f32_to_odd(src[i]);
        lf_narrow_f32(to, &out, (uint8_t *)dst + i * lf_real_size(to), 1, tally);
    }
}

void lf_tally_add(lf_real type, const void *data, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < n; i++) {
        double x;
        lf_widen_f64(type, (const uint8_t *)data + i * lf_real_size(type), &x, 1);
        tally_f64(tally, x);
    }
}

/* Steps from 0 to a number of its type, below it negative. */
static int64_t steps_to(lf_real type, const uint8_t *element)
{
    const size_t unit = lf_real_size(type);
    const uint64_t sign = UINT64_C(1) << (8 * unit - 1);
    const uint64_t bits = unit == 8 ? load_u64(element, 0) : unit == 4 ? load_u32(element, 0) : load_u16(element, 0);

    return bits & sign ? -(int64_t)(bits ^ sign) : (int64_t)bits;
}

static uint64_t steps_between(lf_real type, const uint8_t *a, const uint8_t *b)
{
    const int64_t from = steps_to(type, a), to = steps_to(type, b);

    return from < to ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to;
}

static void add_change(lf_real from, const uint8_t *base, double asked, lf_real to, const uint8_t *result, lf_change *change)
{
    double before, after, realised;

    lf_widen_f64(from, base, &before, 1);
    lf_widen_f64(to, result, &after, 1);
    realised = after - before;
    if (from == to)
        change->n_unchanged += memcmp(base, result, lf_real_size(to)) == 0;
    if (!isfinite(asked) || !isfinite(realised))
        return;
    change->sum_asked += asked * asked;
    change->sum_realised += realised * realised;
    change->sum_along += asked * realised;
    if (from == to && steps_between(to, base, result) > change->max_ulp)
        change->max_ulp = steps_between(to, base, result);
}

void lf_change_add_f32(lf_real from, const void *base, const float *x, lf_real to, const void *result, size_t n,
                       lf_change *change)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *element = (const uint8_t *)base + i * lf_real_size(from);
        float before;
        lf_widen_f32(from, element, &before, 1);
        add_change(from, element, (double)(x[i] - before), to, (const uint8_t *)result + i * lf_real_size(to), change);
    }
}

void lf_change_add_f64(lf_real from, const void *base, const double *x, lf_real to, const void *result, size_t n,
                       lf_change *change)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *element = (const uint8_t *)base + i * lf_real_size(from);
        double before;
        lf_widen_f64(from, element, &before, 1);
        add_change(from, element, x[i] - before, to, (const uint8_t *)result + i * lf_real_size(to), change);
    }
}
