/* SPDX-License-Identifier: MIT */
/* A strip, LF_PANEL numbers in f32, and what is done with it, with AVX2, FMA and F16C. */
#ifndef LF_KERNELS_X86_STRIP_AVX2_H
#define LF_KERNELS_X86_STRIP_AVX2_H

#include "lib/kernels/strip.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

typedef __m256 vec;
typedef struct strip {
    __m256 low, high;
} strip;
typedef __m256i flags;

INLINE vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}

INLINE strip strip_zero(void)
{
    return (strip){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE strip strip_load(const float *src)
{
    return (strip){_mm256_loadu_ps(src), _mm256_loadu_ps(src + 8)};
}

INLINE void strip_store(float *dst, strip x)
{
    _mm256_storeu_ps(dst, x.low);
    _mm256_storeu_ps(dst + 8, x.high);
}

INLINE strip strip_keep(strip x)
{
    __asm__("" : "+x"(x.low), "+x"(x.high));
    return x;
}

INLINE strip strip_fma(vec a, strip b, strip c)
{
    return (strip){_mm256_fmadd_ps(a, b.low, c.low), _mm256_fmadd_ps(a, b.high, c.high)};
}

INLINE strip strip_widen(lf_real from, const uint8_t *src)
{
    if (from == LF_REAL_F32)
        return strip_load((const float *)(const void *)src);
    {
        const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)src);
        const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(src + 16));
        if (from == LF_REAL_F16)
            return (strip){_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
        return (strip){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(low), 16)),
                       _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16))};
    }
}

INLINE strip strip_fma_each(strip a, strip b, strip c)
{
    return (strip){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

INLINE float strip_fold(strip x)
{
    const __m256 eight = _mm256_add_ps(x.low, x.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Of each half of a strip the words that both halves have in front, then the others' ones, are two and two in the wrong order. */
INLINE __m256 in_order(__m256 x)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
}

INLINE strip strip_even(strip a, strip b)
{
    return (strip){in_order(_mm256_shuffle_ps(a.low, a.high, 0x88)), in_order(_mm256_shuffle_ps(b.low, b.high, 0x88))};
}

INLINE strip strip_odd(strip a, strip b)
{
    return (strip){in_order(_mm256_shuffle_ps(a.low, a.high, 0xdd)), in_order(_mm256_shuffle_ps(b.low, b.high, 0xdd))};
}

INLINE __m256 widen_half(lf_real from, __m256i pairs, bool high)
{
    if (from == LF_REAL_F16) {
        const __m256i half = high ? _mm256_srli_epi32(pairs, 16) : _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff));
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(half, half), 0xd8);
        return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
    }
    return _mm256_castsi256_ps(high ? _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)) : _mm256_slli_epi32(pairs, 16));
}

INLINE strip strip_widen_half(lf_real from, strip pairs, bool high)
{
    return (strip){widen_half(from, _mm256_castps_si256(pairs.low), high),
                   widen_half(from, _mm256_castps_si256(pairs.high), high)};
}

INLINE __m256 canonical(__m256 x)
{
    const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));

    return _mm256_blendv_ps(x, quiet, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

INLINE __m256i bf16_of(__m256 x)
{
    const __m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));

    return _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd)), 16);
}

INLINE flags strip_narrow(lf_real to, strip x, uint8_t *dst, bool stream)
{
    const __m256 low = canonical(x.low), high = canonical(x.high);
    __m256i u;

    (void)stream;
    if (to == LF_REAL_F32) {
        const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), largest = _mm256_set1_epi32(0x7f7fffff);
        strip_store((float *)(void *)dst, (strip){low, high});
        return _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_and_si256(_mm256_castps_si256(low), magnitude), largest),
                               _mm256_cmpgt_epi32(_mm256_and_si256(_mm256_castps_si256(high), magnitude), largest));
    }
    if (to == LF_REAL_F16)
        u = _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT), _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    else
        u = _mm256_permute4x64_epi64(_mm256_packus_epi32(bf16_of(low), bf16_of(high)), 0xd8);
    _mm256_storeu_si256((__m256i *)(void *)dst, u);
    return _mm256_cmpgt_epi16(_mm256_and_si256(u, _mm256_set1_epi16(0x7fff)),
                              _mm256_set1_epi16(to == LF_REAL_F16 ? 0x7bff : 0x7f7f));
}

INLINE flags flags_none(void)
{
    return _mm256_setzero_si256();
}

INLINE flags flags_or(flags a, flags b)
{
    return _mm256_or_si256(a, b);
}

INLINE bool flags_any(flags x)
{
    return !_mm256_testz_si256(x, x);
}

#endif
