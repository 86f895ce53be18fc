/* SPDX-License-Identifier: MIT */
/*
 * Blocks of rows with AVX2, FMA and F16C. A tile of six rows by one panel has its twelve sums in registers over the whole rank;
 * the base is touched once before and once after. Tiles follow each other along the rows.
 */
#include "lib/kernels/low_rank.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))

#define ROWS 6
#define AHEAD 512 // bytes of a row between what is read and what is fetched

/* A row of a tile. */
typedef struct pair {
    __m256 low, high;
} pair;

INLINE pair widen(lf_real from, const uint8_t *src)
{
    if (from == LF_REAL_F32)
        return (pair){_mm256_loadu_ps((const float *)(const void *)src),
                      _mm256_loadu_ps((const float *)(const void *)(src + 32))};
    {
        const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)src);
        const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(src + 16));
        if (from == LF_REAL_F16)
            return (pair){_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
        return (pair){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(low), 16)),
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

/* Write a row of a tile; lanes of the result are not zero where it is NaN or infinite. */
INLINE __m256i narrow(lf_real to, pair x, uint8_t *dst)
{
    const __m256 low = canonical(x.low), high = canonical(x.high);
    __m256i u;

    if (to == LF_REAL_F32) {
        const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), largest = _mm256_set1_epi32(0x7f7fffff);
        _mm256_storeu_ps((float *)(void *)dst, low);
        _mm256_storeu_ps((float *)(void *)(dst + 32), high);
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

/* The sums of a tile, for one update. */
INLINE void multiply(const lf_update *u, const float *left, const float *panel, size_t n_rows, pair delta[ROWS])
{
    for (size_t i = 0; i < n_rows; i++)
        delta[i] = (pair){_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t p = 0; p < u->rank; p++) {
        const __m256 low = _mm256_loadu_ps(panel + p * LF_PANEL), high = _mm256_loadu_ps(panel + p * LF_PANEL + 8);
        for (size_t i = 0; i < n_rows; i++) {
            const __m256 factor = _mm256_broadcast_ss(left + i * u->rank + p);
            delta[i].low = _mm256_fmadd_ps(factor, low, delta[i].low);
            delta[i].high = _mm256_fmadd_ps(factor, high, delta[i].high);
        }
    }
}

/* n_rows rows from `row` on, of the panel at column j, whose elements are at src and dst. */
INLINE __m256i tile(const lf_block *b, lf_real from, lf_real to, size_t row, size_t n_rows, size_t j, const uint8_t *src,
                    size_t src_stride, uint8_t *dst, size_t dst_stride)
{
    __m256i special = _mm256_setzero_si256();
    pair acc[ROWS], delta[ROWS];

    for (size_t k = 0; k < b->n_updates; k++) {
        const lf_update *u = &b->updates[k];
        const __m256 scale = _mm256_set1_ps(u->scale);
        multiply(u, u->left + row * u->rank, u->panels + lf_panel_at(u->rank, j), n_rows, delta);
        for (size_t i = 0; i < n_rows; i++) {
            const pair before = k ? acc[i] : widen(from, src + i * src_stride);
            const pair after = {_mm256_fmadd_ps(scale, delta[i].low, before.low),
                                _mm256_fmadd_ps(scale, delta[i].high, before.high)};
            if (k + 1 < b->n_updates)
                acc[i] = after;
            else
                special = _mm256_or_si256(special, narrow(to, after, dst + i * dst_stride));
        }
    }
    return special;
}

static void count(lf_real to, const uint8_t *dst, size_t dst_stride, size_t n_rows, size_t n, lf_tally *tally)
{
    for (size_t i = 0; i < n_rows; i++)
        lf_tally_add(to, dst + i * dst_stride, n, tally);
}

/* The columns after the last whole panel go through a buffer. */
INLINE void last_tile(const lf_block *b, lf_real from, lf_real to, size_t row, size_t n_rows, size_t j, const uint8_t *src,
                      uint8_t *dst, lf_tally *tally)
{
    const size_t n = b->n_cols - j, unit = lf_real_size(from), to_unit = lf_real_size(to);
    uint8_t buffer[ROWS][LF_PANEL * sizeof(float)] = {{0}};

    for (size_t i = 0; i < n_rows; i++)
        memcpy(buffer[i], src + i * b->src_stride, n * unit);
    tile(b, from, to, row, n_rows, j, buffer[0], sizeof buffer[0], buffer[0], sizeof buffer[0]);
    for (size_t i = 0; i < n_rows; i++)
        memcpy(dst + i * b->dst_stride, buffer[i], n * to_unit);
    count(to, buffer[0], sizeof buffer[0], n_rows, n, tally);
}

INLINE void rows(const lf_block *b, lf_real from, lf_real to, size_t row, size_t n_rows, lf_tally *tally)
{
    const size_t unit = lf_real_size(from), to_unit = lf_real_size(to);
    const uint8_t *src = (const uint8_t *)b->src + row * b->src_stride;
    uint8_t *dst = (uint8_t *)b->dst + row * b->dst_stride;
    size_t j = 0;

    for (; j + LF_PANEL <= b->n_cols; j += LF_PANEL, src += LF_PANEL * unit, dst += LF_PANEL * to_unit) {
        __m256i special;
        for (size_t i = 0; i < n_rows; i++)
            _mm_prefetch((const char *)src + i * b->src_stride + AHEAD, _MM_HINT_T0);
        special = tile(b, from, to, row, n_rows, j, src, b->src_stride, dst, b->dst_stride);
        if (!_mm256_testz_si256(special, special))
            count(to, dst, b->dst_stride, n_rows, LF_PANEL, tally);
    }
    if (j < b->n_cols)
        last_tile(b, from, to, row, n_rows, j, src, dst, tally);
}

/* With types and numbers of rows that the compiler knows. */
INLINE void block(const lf_block *b, lf_real from, lf_real to, lf_tally *tally)
{
    size_t row = 0;

    for (; row + ROWS <= b->n_rows; row += ROWS)
        rows(b, from, to, row, ROWS, tally);
    for (; row + 2 <= b->n_rows; row += 2)
        rows(b, from, to, row, 2, tally);
    if (row < b->n_rows)
        rows(b, from, to, row, 1, tally);
}

TARGET static void block_f32(const lf_block *b, lf_tally *tally)
{
    block(b, LF_REAL_F32, LF_REAL_F32, tally);
}

TARGET static void block_f16(const lf_block *b, lf_tally *tally)
{
    block(b, LF_REAL_F16, LF_REAL_F16, tally);
}

TARGET static void block_bf16(const lf_block *b, lf_tally *tally)
{
    block(b, LF_REAL_BF16, LF_REAL_BF16, tally);
}

TARGET static void block_any(const lf_block *b, lf_tally *tally)
{
    block(b, b->from, b->to, tally);
}

TARGET void lf_merge_block_avx2(const lf_block *b, lf_tally *tally)
{
    if (b->from != b->to)
        block_any(b, tally);
    else if (b->from == LF_REAL_F32)
        block_f32(b, tally);
    else if (b->from == LF_REAL_F16)
        block_f16(b, tally);
    else
        block_bf16(b, tally);
}

#else

typedef int lf_x86_only; // a translation unit may not be empty

#endif
