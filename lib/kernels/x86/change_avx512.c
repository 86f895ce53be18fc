/* SPDX-License-Identifier: MIT */
/* What rounding did to whole panels, with AVX-512. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))

#include "lib/kernels/change_impl.h"

typedef struct sums {
    __m512 asked, realised, along;
    __mmask16 any;
    __m256i most16; // steps, in lanes of the type's width
    __m512i most32;
    uint64_t n_same;
} sums;

INLINE __m512 widen(lf_real type, const uint8_t *src)
{
    if (type == LF_REAL_F32)
        return _mm512_loadu_ps((const float *)(const void *)src);
    {
        const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)src);
        if (type == LF_REAL_F16)
            return _mm512_cvtph_ps(half);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
}

/* Sign and magnitude to a number whose order and distances are those of the elements. */
INLINE __m256i order16(__m256i x)
{
    return _mm256_sign_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7fff)), x);
}

INLINE __m512i order32(__m512i x)
{
    const __m512i magnitude = _mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff));

    return _mm512_mask_sub_epi32(magnitude, _mm512_movepi32_mask(x), _mm512_setzero_si512(), magnitude);
}

/* A panel of a row: how far it went, and how much of it stayed. It is read as it was written, or it would come from the cache. */
INLINE void add_steps(lf_real type, const uint8_t *base, const uint8_t *result, sums *s)
{
    if (type == LF_REAL_F32) {
        const __m512i from = _mm512_loadu_si512(base), to = _mm512_loadu_si512(result), a = order32(from), b = order32(to);
        s->most32 = _mm512_max_epu32(s->most32, _mm512_sub_epi32(_mm512_max_epi32(a, b), _mm512_min_epi32(a, b)));
        s->n_same += (unsigned)_mm_popcnt_u32(_mm512_cmpeq_epi32_mask(from, to));
    } else {
        const __m256i from = _mm256_loadu_si256((const __m256i *)(const void *)base);
        const __m256i to = _mm256_loadu_si256((const __m256i *)(const void *)result), a = order16(from), b = order16(to);
        s->most16 = _mm256_max_epu16(s->most16, _mm256_sub_epi16(_mm256_max_epi16(a, b), _mm256_min_epi16(a, b)));
        s->n_same += (unsigned)_mm_popcnt_u32(_mm256_cmpeq_epi16_mask(from, to));
    }
}

/* A panel of a row. */
INLINE void add_squares(__m512 before, __m512 x, __m512 after, sums *s)
{
    const __m512 d = _mm512_sub_ps(x, before), r = _mm512_sub_ps(after, before);

    s->asked = _mm512_fmadd_ps(d, d, s->asked);
    s->realised = _mm512_fmadd_ps(r, r, s->realised);
    s->along = _mm512_fmadd_ps(d, r, s->along);
    s->any |= _mm512_cmp_ps_mask(d, _mm512_setzero_ps(), _CMP_NEQ_UQ);
}

INLINE double total(__m512 x)
{
    return _mm512_reduce_add_pd(
        _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))));
}

/* The largest steps, or 0 when they are no more than so_far, which is nearly always. */
INLINE uint64_t most(lf_real type, const sums *s, uint64_t so_far)
{
    const __m512i steps = type == LF_REAL_F32 ? s->most32 : _mm512_cvtepu16_epi32(s->most16);

    if (!_mm512_cmpgt_epu32_mask(steps, _mm512_set1_epi32((int)(uint32_t)so_far)))
        return 0;
    return _mm512_reduce_max_epu32(steps);
}

INLINE void look(lf_real type, const lf_panels *t, uint64_t so_far, tile *out)
{
    const size_t unit = lf_real_size(type);
    sums s = {0};

    for (size_t i = 0; i < t->n_rows; i++) {
        const uint8_t *base = t->base + i * t->base_stride, *result = t->result + i * t->result_stride;
        const float *x = t->x + i * t->x_stride;
        for (size_t j = 0; j < t->n_cols; j += LF_PANEL) {
            add_squares(widen(type, base + j * unit), _mm512_loadu_ps(x + j), widen(type, result + j * unit), &s);
            add_steps(type, base + j * unit, result + j * unit, &s);
        }
    }
    *out = (tile){.asked = total(s.asked),
                  .realised = total(s.realised),
                  .along = total(s.along),
                  .n_same = s.n_same,
                  .most = most(type, &s, so_far),
                  .any = s.any != 0};
}

TARGET void lf_change_add_panels_avx512(lf_real type, const lf_panels *t, lf_change *change)
{
    add_panels(type, t, change);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
