/* SPDX-License-Identifier: MIT */
/* A strip, LF_PANEL numbers in f32, and what is done with it, with AVX-512. */
#ifndef LF_KERNELS_X86_STRIP_AVX512_H
#define LF_KERNELS_X86_STRIP_AVX512_H

#include "lib/kernels/strip.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE TARGET static inline __attribute__((always_inline))

#ifndef KEEP
#define KEEP(x) __asm__("" : "+v"(x))
#endif

typedef __m512 vec;
typedef __m512 strip;
typedef unsigned flags; // a bit for each column, of any row

INLINE vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}

INLINE strip strip_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE strip strip_load(const float *src)
{
    return _mm512_loadu_ps(src);
}

INLINE void strip_store(float *dst, strip x)
{
    _mm512_storeu_ps(dst, x);
}

INLINE strip strip_keep(strip x)
{
    KEEP(x);
    return x;
}

INLINE strip strip_fma(vec a, strip b, strip c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE strip strip_widen(lf_real from, const uint8_t *src)
{
    if (from == LF_REAL_F32)
        return strip_load((const float *)(const void *)src);
    {
        const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)src);
        if (from == LF_REAL_F16)
            return _mm512_cvtph_ps(half);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
}

INLINE strip strip_fma_each(strip a, strip b, strip c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE float strip_fold(strip x)
{
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE strip strip_even(strip a, strip b)
{
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
}

INLINE strip strip_odd(strip a, strip b)
{
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
}

INLINE strip strip_widen_half(lf_real from, strip pairs, bool high)
{
    const __m512i u = _mm512_castps_si512(pairs);

    if (from == LF_REAL_F16)
        return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(high ? _mm512_srli_epi32(u, 16) : u));
    return _mm512_castsi512_ps(high ? _mm512_and_si512(u, _mm512_set1_epi32((int)0xffff0000)) : _mm512_slli_epi32(u, 16));
}

/* Not VCVTNEPS2BF16, which flushes subnormals. */
INLINE __m256i bf16_of(__m512 x)
{
    const __m512i u = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));

    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd)), 16));
}

/* What VFIXUPIMM does with each kind of number it tells apart, a digit each: with a NaN, quiet or not, 0, with others 1, as they are. */
#define REPLACE_NAN 0x11111100

/* The kinds VFPCLASS tells apart: quiet NaN, infinities, signalling NaN. */
#define NAN_OR_INFINITE (0x01 | 0x08 | 0x10 | 0x80)

INLINE flags strip_narrow(lf_real to, strip x, uint8_t *dst, bool stream)
{
    const __m512 quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
    const __m512 canonical = _mm512_fixupimm_ps(quiet, x, _mm512_set1_epi32(REPLACE_NAN), 0);
    __m256i u;

    if (to == LF_REAL_F32) {
        if (stream)
            _mm512_stream_ps((float *)(void *)dst, canonical);
        else
            strip_store((float *)(void *)dst, canonical);
        return _mm512_fpclass_ps_mask(x, NAN_OR_INFINITE);
    }
    u = to == LF_REAL_F16 ? _mm512_cvtps_ph(canonical, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) : bf16_of(canonical);
    if (stream)
        _mm256_stream_si256((__m256i *)(void *)dst, u);
    else
        _mm256_storeu_si256((__m256i *)(void *)dst, u);
    return _mm256_cmpgt_epi16_mask(_mm256_and_si256(u, _mm256_set1_epi16(0x7fff)),
                                   _mm256_set1_epi16(to == LF_REAL_F16 ? 0x7bff : 0x7f7f));
}

INLINE flags flags_none(void)
{
    return 0;
}

INLINE flags flags_or(flags a, flags b)
{
    return a | b;
}

INLINE bool flags_any(flags x)
{
    return x != 0;
}

#endif
