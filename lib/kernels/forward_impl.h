/* SPDX-License-Identifier: MIT */
/*
 * Dot products by tiles of rows whose sums stay in registers, and a factor's rows turned over into a panel, for every level.
 *
 * The file that includes this has included a level's strip (strip.h), and gives DOT_ROWS, a power of two up to 8, and DOT_TOKENS,
 * the largest tile.
 */
#include <string.h>

/* --- dot products --- */

INLINE void dots_tile(lf_real type, const lf_dots *d, size_t p, size_t t, size_t n_rows, size_t n_tokens)
{
    const uint8_t *a = (const uint8_t *)d->a + p * d->a_stride;
    float *sums = d->sums + (t * d->n_a + p) * LF_PANEL;
    strip s[DOT_TOKENS][DOT_ROWS];

    UNROLL
    for (size_t k = 0; k < n_tokens; k++) {
        UNROLL
        for (size_t i = 0; i < n_rows; i++)
            s[k][i] = strip_load(sums + (k * d->n_a + i) * LF_PANEL);
    }
    for (size_t j = 0; j < d->n; j += LF_PANEL) {
        strip x[DOT_TOKENS];
        UNROLL
        for (size_t k = 0; k < n_tokens; k++)
            x[k] = strip_load(d->x[t + k] + j);
        UNROLL
        for (size_t i = 0; i < n_rows; i++) {
            const strip left = strip_widen(type, a + i * d->a_stride + j * lf_real_size(type));
            UNROLL
            for (size_t k = 0; k < n_tokens; k++)
                s[k][i] = strip_fma_each(left, x[k], s[k][i]);
        }
    }
    UNROLL
    for (size_t k = 0; k < n_tokens; k++) {
        UNROLL
        for (size_t i = 0; i < n_rows; i++)
            strip_store(sums + (k * d->n_a + i) * LF_PANEL, s[k][i]);
    }
}

INLINE void dots_rows(lf_real type, const lf_dots *d, size_t p, size_t n_rows)
{
    size_t t = 0;

    for (; t + DOT_TOKENS <= d->n_x; t += DOT_TOKENS)
        dots_tile(type, d, p, t, n_rows, DOT_TOKENS);
    for (; t < d->n_x; t++)
        dots_tile(type, d, p, t, n_rows, 1);
}

INLINE void dots(lf_real type, const lf_dots *d)
{
    size_t p = 0;

    for (; p + DOT_ROWS <= d->n_a; p += DOT_ROWS)
        dots_rows(type, d, p, DOT_ROWS);
    if (DOT_ROWS > 4 && p + 4 <= d->n_a) {
        dots_rows(type, d, p, 4);
        p += 4;
    }
    if (DOT_ROWS > 2 && p + 2 <= d->n_a) {
        dots_rows(type, d, p, 2);
        p += 2;
    }
    if (p < d->n_a)
        dots_rows(type, d, p, 1);
}

/* What the compiler makes one kernel of: a type that is known. */
TARGET static void dots_f32(const lf_dots *d)
{
    dots(LF_REAL_F32, d);
}

TARGET static void dots_f16(const lf_dots *d)
{
    dots(LF_REAL_F16, d);
}

TARGET static void dots_bf16(const lf_dots *d)
{
    dots(LF_REAL_BF16, d);
}

INLINE void add_dots(const lf_dots *d)
{
    (d->type == LF_REAL_F32 ? dots_f32 : d->type == LF_REAL_F16 ? dots_f16 : dots_bf16)(d);
}

INLINE void fold_each(const float *sums, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = strip_fold(strip_load(sums + i * LF_PANEL));
}

/* --- turning over --- */

/*
 * 16 rows of n_words words, a power of two, that follow one another in as many strips, become n_words strips of 16: each time the
 * even ones of all and then the odd ones, which takes the lowest bit of a word's place to the top.
 */
INLINE void turn(strip *v, size_t n_words)
{
    strip w[LF_PANEL];

    UNROLL
    for (size_t left = n_words; left > 1; left /= 2) {
        UNROLL
        for (size_t i = 0; i < n_words / 2; i++) {
            w[i] = strip_even(v[2 * i], v[2 * i + 1]);
            w[n_words / 2 + i] = strip_odd(v[2 * i], v[2 * i + 1]);
        }
        UNROLL
        for (size_t i = 0; i < n_words; i++)
            v[i] = w[i];
    }
}

/* n numbers of each row, of n_words words or fewer, as strips of words whose rows are `step` bytes apart. */
INLINE void turn_words(lf_real from, const uint8_t *src, size_t step, size_t n_words, size_t n, float *panel)
{
    strip v[LF_PANEL];

    UNROLL
    for (size_t i = 0; i < n_words; i++)
        v[i] = strip_load((const float *)(const void *)(src + i * step));
    turn(v, n_words);
    for (size_t p = 0; p < n; p++, panel += LF_PANEL)
        strip_store(panel, from == LF_REAL_F32 ? v[p] : strip_widen_half(from, v[p / 2], p % 2));
}

/* Whole rows that follow one another. */
INLINE void turn_short(lf_real from, const uint8_t *src, size_t n, float *panel)
{
    const size_t n_words = n * lf_real_size(from) / 4;

    if (n_words == 8)
        turn_words(from, src, STRIP_SIZE, 8, n, panel);
    else if (n_words == 4)
        turn_words(from, src, STRIP_SIZE, 4, n, panel);
    else if (n_words == 2)
        turn_words(from, src, STRIP_SIZE, 2, n, panel);
    else
        turn_words(from, src, STRIP_SIZE, 1, n, panel);
}

/* What does not fill a strip goes through a buffer. */
INLINE void turn_part(lf_real from, const uint8_t *src, size_t src_stride, size_t n, float *panel)
{
    uint8_t buffer[LF_PANEL][STRIP_SIZE];

    memset(buffer, 0, sizeof buffer);
    for (size_t i = 0; i < LF_PANEL; i++)
        memcpy(buffer[i], src + i * src_stride, n * lf_real_size(from));
    turn_words(from, buffer[0], STRIP_SIZE, LF_PANEL, n, panel);
}

INLINE bool is_short(lf_real from, size_t src_stride, size_t n)
{
    const size_t size = n * lf_real_size(from);

    return size == src_stride && (size == 4 || size == 8 || size == 16 || size == 32);
}

INLINE void widen_panel_of(lf_real from, const uint8_t *src, size_t src_stride, size_t n, float *panel)
{
    const size_t whole = STRIP_SIZE / lf_real_size(from);

    if (is_short(from, src_stride, n)) {
        turn_short(from, src, n, panel);
        return;
    }
    for (; n >= whole; n -= whole, src += STRIP_SIZE, panel += whole * LF_PANEL)
        turn_words(from, src, src_stride, LF_PANEL, whole, panel);
    if (n)
        turn_part(from, src, src_stride, n, panel);
}

TARGET static void panel_f32(const void *src, size_t src_stride, size_t n, float *panel)
{
    widen_panel_of(LF_REAL_F32, src, src_stride, n, panel);
}

TARGET static void panel_f16(const void *src, size_t src_stride, size_t n, float *panel)
{
    widen_panel_of(LF_REAL_F16, src, src_stride, n, panel);
}

TARGET static void panel_bf16(const void *src, size_t src_stride, size_t n, float *panel)
{
    widen_panel_of(LF_REAL_BF16, src, src_stride, n, panel);
}

INLINE void widen_panel(lf_real from, const void *src, size_t src_stride, size_t n, float *panel)
{
    (from == LF_REAL_F32 ? panel_f32 : from == LF_REAL_F16 ? panel_f16 : panel_bf16)(src, src_stride, n, panel);
}
