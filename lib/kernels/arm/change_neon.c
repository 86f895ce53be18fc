/* SPDX-License-Identifier: MIT */
/* What rounding did to whole panels, with NEON. */
#include "lib/kernels/kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define TARGET
#define INLINE static inline __attribute__((always_inline))

#include "lib/kernels/change_impl.h"

/* Four elements of eight. */
typedef struct sums {
    float32x4_t asked, realised, along;
    uint32x4_t any; // a bit that is set in some d
} sums;

/* In lanes of the type's width. */
typedef struct steps {
    uint16x8_t most, n_same;
    uint32x4_t most_f32, n_same_f32;
} steps;

typedef struct pair {
    float32x4_t low, high;
} pair;

INLINE pair widen(lf_real type, const uint8_t *src)
{
    const uint8x16_t x = vld1q_u8(src);

    if (type == LF_REAL_F32)
        return (pair){vreinterpretq_f32_u8(x), vreinterpretq_f32_u8(vld1q_u8(src + 16))};
    if (type == LF_REAL_F16)
        return (pair){vcvt_f32_f16(vreinterpret_f16_u8(vget_low_u8(x))), vcvt_high_f32_f16(vreinterpretq_f16_u8(x))};
    {
        const uint16x8_t zero = vdupq_n_u16(0), u = vreinterpretq_u16_u8(x);
        return (pair){vreinterpretq_f32_u16(vzip1q_u16(zero, u)), vreinterpretq_f32_u16(vzip2q_u16(zero, u))};
    }
}

/* Sign and magnitude to a number whose order and distances are those of the elements. */
INLINE int16x8_t order16(uint16x8_t x)
{
    const int16x8_t sign = vshrq_n_s16(vreinterpretq_s16_u16(x), 15);

    return vsubq_s16(veorq_s16(vreinterpretq_s16_u16(vandq_u16(x, vdupq_n_u16(0x7fff))), sign), sign);
}

INLINE int32x4_t order32(uint32x4_t x)
{
    const int32x4_t sign = vshrq_n_s32(vreinterpretq_s32_u32(x), 31);

    return vsubq_s32(veorq_s32(vreinterpretq_s32_u32(vandq_u32(x, vdupq_n_u32(0x7fffffff))), sign), sign);
}

/* 16 bytes of elements: how far they went, and how many stayed. */
INLINE void add_steps(lf_real type, const uint8_t *base, const uint8_t *result, steps *s)
{
    const uint8x16_t from = vld1q_u8(base), to = vld1q_u8(result);

    if (type == LF_REAL_F32) {
        const uint32x4_t a = vreinterpretq_u32_u8(from), b = vreinterpretq_u32_u8(to);
        s->most_f32 = vmaxq_u32(s->most_f32, vreinterpretq_u32_s32(vabdq_s32(order32(a), order32(b))));
        s->n_same_f32 = vsubq_u32(s->n_same_f32, vceqq_u32(a, b));
    } else {
        const uint16x8_t a = vreinterpretq_u16_u8(from), b = vreinterpretq_u16_u8(to);
        s->most = vmaxq_u16(s->most, vreinterpretq_u16_s16(vabdq_s16(order16(a), order16(b))));
        s->n_same = vsubq_u16(s->n_same, vceqq_u16(a, b));
    }
}

INLINE void add_squares(float32x4_t before, float32x4_t x, float32x4_t after, sums *s)
{
    const float32x4_t d = vsubq_f32(x, before), r = vsubq_f32(after, before);

    s->asked = vfmaq_f32(s->asked, d, d);
    s->realised = vfmaq_f32(s->realised, r, r);
    s->along = vfmaq_f32(s->along, d, r);
    s->any = vorrq_u32(s->any, vreinterpretq_u32_f32(vaddq_f32(d, d))); // doubled, so that -0 is no bit
}

INLINE double total(float32x4_t low, float32x4_t high)
{
    const float64x2_t a = vaddq_f64(vcvt_f64_f32(vget_low_f32(low)), vcvt_high_f64_f32(low));
    const float64x2_t b = vaddq_f64(vcvt_f64_f32(vget_low_f32(high)), vcvt_high_f64_f32(high));

    return vaddvq_f64(vaddq_f64(a, b));
}

INLINE void look(lf_real type, const lf_panels *t, uint64_t so_far, tile *out)
{
    const size_t unit = lf_real_size(type);
    const float32x4_t zero = vdupq_n_f32(0);
    sums low = {zero, zero, zero, vdupq_n_u32(0)}, high = low;
    steps went = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u32(0), vdupq_n_u32(0)};

    (void)so_far;
    for (size_t i = 0; i < t->n_rows; i++) {
        const uint8_t *base = t->base + i * t->base_stride, *result = t->result + i * t->result_stride;
        const float *x = t->x + i * t->x_stride;
        for (size_t j = 0; j < t->n_cols; j += 8) {
            const pair before = widen(type, base + j * unit), after = widen(type, result + j * unit);
            add_squares(before.low, vld1q_f32(x + j), after.low, &low);
            add_squares(before.high, vld1q_f32(x + j + 4), after.high, &high);
        }
        for (size_t at = 0; at < t->n_cols * unit; at += 16)
            add_steps(type, base + at, result + at, &went);
    }
    *out = (tile){.asked = total(low.asked, high.asked),
                  .realised = total(low.realised, high.realised),
                  .along = total(low.along, high.along),
                  .n_same = type == LF_REAL_F32 ? vaddvq_u32(went.n_same_f32) : vaddvq_u16(went.n_same),
                  .most = type == LF_REAL_F32 ? vmaxvq_u32(went.most_f32) : vmaxvq_u16(went.most),
                  .any = vmaxvq_u32(vorrq_u32(low.any, high.any)) != 0};
}

void lf_change_add_panels_neon(lf_real type, const lf_panels *t, lf_change *change)
{
    add_panels(type, t, change);
}

#else

typedef int lf_arm_only; // a translation unit may not be empty

#endif
