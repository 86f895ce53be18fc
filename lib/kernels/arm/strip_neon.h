/* SPDX-License-Identifier: MIT */
/*
 * A strip, LF_PANEL numbers in f32, and what is done with it, with NEON as every AArch64 has it. What lies in the control register
 * does not matter but for what lf_fpenv sets: conversions to and from f16 know no FZ16, and AHP, which would change what is
 * infinite, is off. A NaN that comes of an operation is made canonical like any other.
 */
#ifndef LF_KERNELS_ARM_STRIP_NEON_H
#define LF_KERNELS_ARM_STRIP_NEON_H

#include "lib/kernels/strip.h"

#include <arm_neon.h>

#define TARGET
#define INLINE static inline __attribute__((always_inline))

typedef float32x4_t vec;
typedef struct strip {
    float32x4_t a, b, c, d;
} strip;
typedef uint32x4_t flags;

INLINE vec vec_set(float x)
{
    return vdupq_n_f32(x);
}

INLINE strip strip_zero(void)
{
    const float32x4_t zero = vdupq_n_f32(0);

    return (strip){zero, zero, zero, zero};
}

INLINE strip strip_load(const float *src)
{
    return (strip){vld1q_f32(src), vld1q_f32(src + 4), vld1q_f32(src + 8), vld1q_f32(src + 12)};
}

INLINE void strip_store(float *dst, strip x)
{
    vst1q_f32(dst, x.a);
    vst1q_f32(dst + 4, x.b);
    vst1q_f32(dst + 8, x.c);
    vst1q_f32(dst + 12, x.d);
}

INLINE strip strip_keep(strip x)
{
    return x;
}

INLINE strip strip_fma(vec a, strip b, strip c)
{
    return (strip){vfmaq_f32(c.a, a, b.a), vfmaq_f32(c.b, a, b.b), vfmaq_f32(c.c, a, b.c), vfmaq_f32(c.d, a, b.d)};
}

/* Four columns; elements in memory need not be aligned, so they are read and written as bytes. */
INLINE float32x4_t f32_at(const uint8_t *src)
{
    return vreinterpretq_f32_u8(vld1q_u8(src));
}

INLINE float32x4_t low_of(lf_real from, uint16x8_t x)
{
    if (from == LF_REAL_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(x)));
    return vreinterpretq_f32_u16(vzip1q_u16(vdupq_n_u16(0), x));
}

INLINE float32x4_t high_of(lf_real from, uint16x8_t x)
{
    if (from == LF_REAL_F16)
        return vcvt_high_f32_f16(vreinterpretq_f16_u16(x));
    return vreinterpretq_f32_u16(vzip2q_u16(vdupq_n_u16(0), x));
}

INLINE strip strip_widen(lf_real from, const uint8_t *src)
{
    if (from == LF_REAL_F32)
        return (strip){f32_at(src), f32_at(src + 16), f32_at(src + 32), f32_at(src + 48)};
    {
        const uint16x8_t low = vreinterpretq_u16_u8(vld1q_u8(src)), high = vreinterpretq_u16_u8(vld1q_u8(src + 16));
        return (strip){low_of(from, low), high_of(from, low), low_of(from, high), high_of(from, high)};
    }
}

INLINE strip strip_fma_each(strip a, strip b, strip c)
{
    return (strip){vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b), vfmaq_f32(c.c, a.c, b.c), vfmaq_f32(c.d, a.d, b.d)};
}

INLINE float strip_fold(strip x)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));

    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

INLINE strip strip_even(strip a, strip b)
{
    return (strip){vuzp1q_f32(a.a, a.b), vuzp1q_f32(a.c, a.d), vuzp1q_f32(b.a, b.b), vuzp1q_f32(b.c, b.d)};
}

INLINE strip strip_odd(strip a, strip b)
{
    return (strip){vuzp2q_f32(a.a, a.b), vuzp2q_f32(a.c, a.d), vuzp2q_f32(b.a, b.b), vuzp2q_f32(b.c, b.d)};
}

INLINE float32x4_t widen_half(lf_real from, float32x4_t pairs, bool high)
{
    const uint32x4_t u = vreinterpretq_u32_f32(pairs);

    if (from == LF_REAL_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(high ? vshrq_n_u32(u, 16) : u)));
    return vreinterpretq_f32_u32(high ? vandq_u32(u, vdupq_n_u32(0xffff0000)) : vshlq_n_u32(u, 16));
}

INLINE strip strip_widen_half(lf_real from, strip pairs, bool high)
{
    return (strip){widen_half(from, pairs.a, high), widen_half(from, pairs.b, high), widen_half(from, pairs.c, high),
                   widen_half(from, pairs.d, high)};
}

INLINE float32x4_t canonical(float32x4_t x)
{
    return vbslq_f32(vceqq_f32(x, x), x, vreinterpretq_f32_u32(vdupq_n_u32(0x7fc00000)));
}

/* What is to be added to the bits, so that their upper half is rounded to nearest even. */
INLINE uint32x4_t bf16_half(uint32x4_t u)
{
    return vaddq_u32(vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
}

INLINE uint16x8_t narrow(lf_real to, float32x4_t low, float32x4_t high)
{
    if (to == LF_REAL_F16)
        return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high));
    {
        const uint32x4_t a = vreinterpretq_u32_f32(low), b = vreinterpretq_u32_f32(high);
        return vaddhn_high_u32(vaddhn_u32(a, bf16_half(a)), b, bf16_half(b));
    }
}

INLINE flags special_f32(float32x4_t x)
{
    return vcgeq_u32(vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffff)), vdupq_n_u32(0x7f800000));
}

INLINE flags special_u16(lf_real to, uint16x8_t x)
{
    const uint16x8_t infinity = vdupq_n_u16(to == LF_REAL_F16 ? 0x7c00 : 0x7f80);

    return vreinterpretq_u32_u16(vcgeq_u16(vandq_u16(x, vdupq_n_u16(0x7fff)), infinity));
}

INLINE flags strip_narrow(lf_real to, strip x, uint8_t *dst, bool stream)
{
    const float32x4_t a = canonical(x.a), b = canonical(x.b), c = canonical(x.c), d = canonical(x.d);

    (void)stream;
    if (to == LF_REAL_F32) {
        vst1q_u8(dst, vreinterpretq_u8_f32(a));
        vst1q_u8(dst + 16, vreinterpretq_u8_f32(b));
        vst1q_u8(dst + 32, vreinterpretq_u8_f32(c));
        vst1q_u8(dst + 48, vreinterpretq_u8_f32(d));
        return vorrq_u32(vorrq_u32(special_f32(a), special_f32(b)), vorrq_u32(special_f32(c), special_f32(d)));
    }
    {
        const uint16x8_t low = narrow(to, a, b), high = narrow(to, c, d);
        vst1q_u8(dst, vreinterpretq_u8_u16(low));
        vst1q_u8(dst + 16, vreinterpretq_u8_u16(high));
        return vorrq_u32(special_u16(to, low), special_u16(to, high));
    }
}

INLINE flags flags_none(void)
{
    return vdupq_n_u32(0);
}

INLINE flags flags_or(flags a, flags b)
{
    return vorrq_u32(a, b);
}

INLINE bool flags_any(flags x)
{
    return vmaxvq_u32(x) != 0;
}

#endif
