/* SPDX-License-Identifier: MIT */
/* What rounding did to whole panels, with AVX2. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

#include "lib/kernels/change_impl.h"

typedef struct sums {
    __m256 asked, realised, along;
    __m256i any;     // a bit that is set in some d
    __m256i steps;   // the most, in lanes of the type's width
    unsigned n_same; // bytes
} sums;

INLINE __m256 widen(lf_real type, const uint8_t *src)
{
    if (type == LF_REAL_F32)
        return _mm256_loadu_ps((const float *)(const void *)src);
    {
        const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)src);
        if (type == LF_REAL_F16)
            return _mm256_cvtph_ps(half);
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }
}

/* Sign and magnitude to a number whose order and distances are those of the elements. */
INLINE __m256i steps16(__m256i x)
{
    return _mm256_sign_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7fff)), x);
}

INLINE __m256i steps32(__m256i x)
{
    return _mm256_sign_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0x7fffffff)), x);
}

/* 32 bytes of elements: how far they went, and how many stayed. */
INLINE void add_steps(lf_real type, const uint8_t *base, const uint8_t *result, sums *s)
{
    const __m256i from = _mm256_loadu_si256((const __m256i *)(const void *)base);
    const __m256i to = _mm256_loadu_si256((const __m256i *)(const void *)result);

    if (type == LF_REAL_F32) {
        const __m256i a = steps32(from), b = steps32(to);
        s->steps = _mm256_max_epu32(s->steps, _mm256_sub_epi32(_mm256_max_epi32(a, b), _mm256_min_epi32(a, b)));
        s->n_same += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi32(from, to)));
    } else {
        const __m256i a = steps16(from), b = steps16(to);
        s->steps = _mm256_max_epu16(s->steps, _mm256_sub_epi16(_mm256_max_epi16(a, b), _mm256_min_epi16(a, b)));
        s->n_same += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi16(from, to)));
    }
}

/* Eight elements. */
INLINE void add_squares(lf_real type, const uint8_t *base, const float *x, const uint8_t *result, sums *s)
{
    const __m256 before = widen(type, base), d = _mm256_sub_ps(_mm256_loadu_ps(x), before);
    const __m256 r = _mm256_sub_ps(widen(type, result), before);

    s->asked = _mm256_fmadd_ps(d, d, s->asked);
    s->realised = _mm256_fmadd_ps(r, r, s->realised);
    s->along = _mm256_fmadd_ps(d, r, s->along);
    s->any = _mm256_or_si256(s->any, _mm256_castps_si256(_mm256_add_ps(d, d))); // doubled, so that -0 is no bit
}

INLINE __m256d in_f64(__m256 x)
{
    return _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

/* The totals of two sums. */
INLINE __m128d totals(__m256 a, __m256 b)
{
    const __m256d pairs = _mm256_hadd_pd(in_f64(a), in_f64(b));

    return _mm_add_pd(_mm256_castpd256_pd128(pairs), _mm256_extractf128_pd(pairs, 1));
}

/* Lanes above what is the most so far, which is seldom. */
INLINE bool are_above(lf_real type, __m256i steps, uint64_t most)
{
    const __m256i so_far =
        type == LF_REAL_F32 ? _mm256_set1_epi32((int)(uint32_t)most) : _mm256_set1_epi16((short)(uint16_t)most);
    const __m256i above = type == LF_REAL_F32 ? _mm256_max_epu32(steps, so_far) : _mm256_max_epu16(steps, so_far);
    const __m256i beyond = _mm256_xor_si256(above, so_far);

    return !_mm256_testz_si256(beyond, beyond);
}

TARGET static uint64_t largest(lf_real type, __m256i steps)
{
    uint32_t lanes[8], most = 0;

    _mm256_storeu_si256((__m256i *)(void *)lanes, steps);
    for (size_t i = 0; i < 8; i++) {
        const uint32_t low = type == LF_REAL_F32 ? lanes[i] : lanes[i] & 0xffff, high = type == LF_REAL_F32 ? 0 : lanes[i] >> 16;
        most = low > most ? low : most;
        most = high > most ? high : most;
    }
    return most;
}

INLINE void look(lf_real type, const lf_panels *t, uint64_t so_far, tile *out)
{
    const size_t unit = lf_real_size(type);
    sums s = {0};
    __m128d squares;

    for (size_t i = 0; i < t->n_rows; i++) {
        const uint8_t *base = t->base + i * t->base_stride, *result = t->result + i * t->result_stride;
        const float *x = t->x + i * t->x_stride;
        for (size_t j = 0; j < t->n_cols; j += 8)
            add_squares(type, base + j * unit, x + j, result + j * unit, &s);
        for (size_t at = 0; at < t->n_cols * unit; at += 32)
            add_steps(type, base + at, result + at, &s);
    }
    squares = totals(s.asked, s.realised);
    *out = (tile){.asked = _mm_cvtsd_f64(squares),
                  .realised = _mm_cvtsd_f64(_mm_unpackhi_pd(squares, squares)),
                  .along = _mm_cvtsd_f64(totals(s.along, s.along)),
                  .n_same = s.n_same / unit,
                  .most = are_above(type, s.steps, so_far) ? largest(type, s.steps) : 0,
                  .any = !_mm256_testz_si256(s.any, s.any)};
}

TARGET void lf_change_add_panels_avx2(lf_real type, const lf_panels *t, lf_change *change)
{
    add_panels(type, t, change);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
