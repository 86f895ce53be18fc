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
 * 16 rows of n_words words, a power of two, `step` bytes from strip to strip of them, become n_words strips of 16: each time the
 * even ones of all and then the odd ones, which takes the lowest bit of a word's place to the top.
 */
INLINE void turn(const uint8_t *src, size_t step, size_t n_words, float *words)
{
    strip v[LF_PANEL], w[LF_PANEL];

    UNROLL
    for (size_t i = 0; i < n_words; i++)
        v[i] = strip_load((const float *)(const void *)(src + i * step));
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
    UNROLL
    for (size_t i = 0; i < n_words; i++)
        strip_store(words + i * LF_PANEL, v[i]);
}

/* Rows that fill strips, one each. */
TARGET static void turn_strips(const uint8_t *src, size_t step, float *words)
{
    turn(src, step, LF_PANEL, words);
}

/* Whole rows that follow one another, several in a strip. */
TARGET static void turn_short(const uint8_t *src, size_t n_words, float *words)
{
    if (n_words == 8)
        turn(src, STRIP_SIZE, 8, words);
    else if (n_words == 4)
        turn(src, STRIP_SIZE, 4, words);
    else if (n_words == 2)
        turn(src, STRIP_SIZE, 2, words);
    else
        turn(src, STRIP_SIZE, 1, words);
}

/* What does not fill a strip goes through a buffer. */
TARGET static void turn_part(const uint8_t *src, size_t step, size_t size, float *words)
{
    uint8_t buffer[LF_PANEL][STRIP_SIZE] = {{0}};

    for (size_t i = 0; i < LF_PANEL; i++)
        memcpy(buffer[i], src + i * step, size);
    turn_strips(buffer[0], STRIP_SIZE, words);
}

/* n columns of words as the numbers they are. */
INLINE void widen_words(lf_real from, const float *words, size_t n, float *panel)
{
    for (size_t p = 0; p < n; p++) {
        const strip x = strip_load(words + p * lf_real_size(from) / sizeof(float) * LF_PANEL);
        strip_store(panel + p * LF_PANEL, from == LF_REAL_F32 ? x : strip_widen_half(from, x, p % 2));
    }
}

static bool is_short(size_t step, size_t size)
{
    return size == step && (size == 4 || size == 8 || size == 16 || size == 32);
}

/* n columns, of which the words fill a strip at most. */
INLINE void widen_columns(lf_real from, const uint8_t *src, size_t step, size_t n, float *panel)
{
    const size_t size = n * lf_real_size(from);
    float words[LF_PANEL * LF_PANEL];

    if (is_short(step, size))
        turn_short(src, size / 4, words);
    else if (size == STRIP_SIZE)
        turn_strips(src, step, words);
    else
        turn_part(src, step, size, words);
    widen_words(from, words, n, panel);
}

INLINE void widen_panel(lf_real from, const uint8_t *src, size_t step, size_t n, float *panel)
{
    const size_t most = STRIP_SIZE / lf_real_size(from);

    for (size_t done = 0; done < n; done += most) {
        const size_t left = n - done < most ? n - done : most;
        const uint8_t *at = src + done * lf_real_size(from);
        if (from == LF_REAL_F32)
            widen_columns(LF_REAL_F32, at, step, left, panel + done * LF_PANEL);
        else if (from == LF_REAL_F16)
            widen_columns(LF_REAL_F16, at, step, left, panel + done * LF_PANEL);
        else
            widen_columns(LF_REAL_BF16, at, step, left, panel + done * LF_PANEL);
    }
}
