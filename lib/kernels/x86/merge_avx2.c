/* SPDX-License-Identifier: MIT */
/* Blocks of rows with AVX2, FMA and F16C, and what is done to whole panels besides. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define CAN_STREAM 0
#define TILE_ROWS 6 // by one panel: twelve sums, a panel in two registers and a factor are all but one of the registers
#define TILE_PANELS 1
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

#define ADD_PANELS lf_change_add_panels_avx2

#include "lib/kernels/merge_impl.h"

TARGET void lf_merge_block_avx2(const lf_block *b, lf_tally *tally)
{
    merge_block(b, tally);
}

TARGET void lf_widen_rows_avx2(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                               size_t row_step, size_t group_step)
{
    widen_rows(from, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
