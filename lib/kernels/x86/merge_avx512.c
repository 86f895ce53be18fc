/* SPDX-License-Identifier: MIT */
/* Blocks of rows with AVX-512. */
#include "lib/kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define CAN_STREAM 1
#define TILE_ROWS 6 // by four panels: 24 sums, four panels and a factor are all but three of the registers
#define TILE_PANELS 4

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

/* Not VCVTNEPS2BF16, which flushes subnormals. */
INLINE __m256i bf16_of(__m512 x)
{
    const __m512i u = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));

    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd)), 16));
}

INLINE flags strip_narrow(lf_real to, strip x, uint8_t *dst, bool stream)
{
    const __m512 quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
    const __m512 canonical = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x, quiet);
    __m256i u;

    if (to == LF_REAL_F32) {
        const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(canonical), _mm512_set1_epi32(0x7fffffff));
        if (stream)
            _mm512_stream_ps((float *)(void *)dst, canonical);
        else
            strip_store((float *)(void *)dst, canonical);
        return _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f7fffff));
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

#define ADD_PANELS lf_change_add_panels_avx512

#include "lib/kernels/merge_impl.h"

TARGET void lf_merge_block_avx512(const lf_block *b, lf_tally *tally)
{
    if (!is_streamed(b)) {
        merge_block(b, tally);
        return;
    }
    stream_block(b, tally);
    _mm_sfence(); // what a lock guards has to be there when it is given back
}

TARGET void lf_widen_rows_avx512(lf_real from, const void *src, size_t src_stride, size_t n_rows, size_t n_cols, float *dst,
                                 size_t row_step, size_t group_step)
{
    widen_rows(from, src, src_stride, n_rows, n_cols, dst, row_step, group_step);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
