/* SPDX-License-Identifier: MIT */
/*
 * The AVX-512 instructions of lib/kernels/x86/, lane by lane, so that they can be tested on a CPU that has none: what uses them is
 * compiled once more with this header in front. Needs AVX2, FMA and F16C.
 */
#ifndef LF_TESTS_AVX512_EMULATED_H
#define LF_TESTS_AVX512_EMULATED_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define target(isa) target("avx2,fma,f16c") // of the attributes that follow
#define always_inline unused                // this need not be fast, but compiled fast
#define UNROLL
#define KEEP(x) (void)0
#define lf_merge_block_avx512 lf_merge_block_avx512_emulated
#define lf_widen_rows_avx512 lf_widen_rows_avx512_emulated
#define lf_widen_panels_avx512 lf_widen_panels_avx512_emulated
#define lf_add_dots_avx512 lf_add_dots_avx512_emulated
#define lf_fold_avx512 lf_fold_avx512_emulated
#define lf_change_add_panels_avx512 lf_change_add_panels_avx2 // which needs none of these instructions
#define EMULATED __attribute__((target("avx2,fma,f16c"), unused)) static inline

typedef union emulated {
    float f[16];
    uint32_t u[16];
    int32_t i[16];
    __m256i half[2];
    __m256 floats[2];
} emulated;

/* A result r, made lane by lane. */
#define LANES(expression)                                                                                                        \
    emulated r;                                                                                                                  \
    for (int k = 0; k < 16; k++)                                                                                                 \
        expression;                                                                                                              \
    return r

/* A mask with a bit for each lane where the condition holds. */
#define MASK(condition)                                                                                                          \
    uint16_t mask = 0;                                                                                                           \
    for (int k = 0; k < 16; k++)                                                                                                 \
        mask = (uint16_t)(mask | (condition ? 1u << k : 0));                                                                     \
    return mask

EMULATED emulated emulated_set1_ps(float x)
{
    LANES(r.f[k] = x);
}
EMULATED emulated emulated_set1_epi32(int x)
{
    LANES(r.i[k] = x);
}
EMULATED emulated emulated_fmadd_ps(emulated a, emulated b, emulated c)
{
    LANES(r.f[k] = fmaf(a.f[k], b.f[k], c.f[k]));
}
EMULATED emulated emulated_slli_epi32(emulated a, unsigned n)
{
    LANES(r.u[k] = a.u[k] << n);
}
EMULATED emulated emulated_srli_epi32(emulated a, unsigned n)
{
    LANES(r.u[k] = a.u[k] >> n);
}
EMULATED emulated emulated_add_epi32(emulated a, emulated b)
{
    LANES(r.u[k] = a.u[k] + b.u[k]);
}
EMULATED emulated emulated_and_si512(emulated a, emulated b)
{
    LANES(r.u[k] = a.u[k] & b.u[k]);
}
EMULATED emulated emulated_replace_nan(emulated a, emulated b)
{
    LANES(r.u[k] = isnan(b.f[k]) ? a.u[k] : b.u[k]);
}
EMULATED uint16_t emulated_nan_or_infinite(emulated a)
{
    MASK(!isfinite(a.f[k]));
}
EMULATED emulated emulated_permutex2var_ps(emulated a, emulated at, emulated b)
{
    LANES(r.u[k] = at.u[k] & 16 ? b.u[at.u[k] & 15] : a.u[at.u[k] & 15]);
}
EMULATED emulated emulated_same(emulated a)
{
    return a;
}

EMULATED emulated emulated_loadu_ps(const void *p)
{
    emulated r;
    memcpy(&r, p, sizeof r);
    return r;
}

EMULATED void emulated_storeu_ps(void *p, emulated x)
{
    memcpy(p, &x, sizeof x);
}

EMULATED emulated emulated_cvtepu16_epi32(__m256i x)
{
    uint16_t h[16];
    memcpy(h, &x, sizeof h);
    {
        LANES(r.u[k] = h[k]);
    }
}

EMULATED __m256i emulated_cvtepi32_epi16(emulated x)
{
    uint16_t h[16];
    __m256i r;
    for (int k = 0; k < 16; k++)
        h[k] = (uint16_t)x.u[k];
    memcpy(&r, h, sizeof r);
    return r;
}

EMULATED uint16_t emulated_cmpgt_epi16_mask(__m256i a, __m256i b)
{
    int16_t x[16], y[16];
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    MASK((x[k] > y[k]));
}

EMULATED emulated emulated_cvtph_ps(__m256i x)
{
    emulated r;
    r.floats[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(x));
    r.floats[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1));
    return r;
}

EMULATED __m256i emulated_to_nearest_ph(emulated x)
{
    return _mm256_set_m128i(_mm256_cvtps_ph(x.floats[1], _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(x.floats[0], _MM_FROUND_TO_NEAREST_INT));
}

/* Any of these may be a macro already. */
#define __m512 emulated
#define __m512i emulated
#undef _mm512_set1_ps
#define _mm512_set1_ps emulated_set1_ps
#undef _mm512_setzero_ps
#define _mm512_setzero_ps() emulated_set1_ps(0)
#undef _mm512_set1_epi32
#define _mm512_set1_epi32 emulated_set1_epi32
#undef _mm512_loadu_ps
#define _mm512_loadu_ps emulated_loadu_ps
#undef _mm512_storeu_ps
#define _mm512_storeu_ps emulated_storeu_ps
#undef _mm512_stream_ps
#define _mm512_stream_ps emulated_storeu_ps
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps emulated_fmadd_ps
#undef _mm512_castps_si512
#define _mm512_castps_si512 emulated_same
#undef _mm512_castsi512_ps
#define _mm512_castsi512_ps emulated_same
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 emulated_slli_epi32
#undef _mm512_srli_epi32
#define _mm512_srli_epi32 emulated_srli_epi32
#undef _mm512_add_epi32
#define _mm512_add_epi32 emulated_add_epi32
#undef _mm512_and_si512
#define _mm512_and_si512 emulated_and_si512
#undef _mm512_fixupimm_ps
#define _mm512_fixupimm_ps(a, b, table, flags) emulated_replace_nan(a, b) // the only table there is: REPLACE_NAN
#undef _mm512_fpclass_ps_mask
#define _mm512_fpclass_ps_mask(x, kinds) emulated_nan_or_infinite(x) // the only kinds there are: NAN_OR_INFINITE
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#undef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#undef _mm256_cmpgt_epi16_mask
#define _mm256_cmpgt_epi16_mask emulated_cmpgt_epi16_mask
#undef _mm512_permutex2var_ps
#define _mm512_permutex2var_ps emulated_permutex2var_ps
#undef _mm512_setr_epi32
#define _mm512_setr_epi32(...) ((emulated){.i = {__VA_ARGS__}})
#undef _mm512_castps512_ps256
#define _mm512_castps512_ps256(x) ((x).floats[0])
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(x, half) ((x).floats[half])
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps emulated_cvtph_ps
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(x, how) emulated_to_nearest_ph(x)

#endif
