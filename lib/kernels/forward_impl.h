/* SPDX-License-Identifier: MIT */
/*
 * Dot products by tiles of rows whose sums stay in registers, and a factor's rows turned over into a panel, for every level.
 *
 * The file that includes this has included a level's strip (strip.h), and gives DOT_ROWS, a power of two up to 8, and DOT_TOKENS,
 * the largest tile.
 */
#include <string.h>

/* --- dot products --- */

INLINE void dots_tile(lf_real a_type, lf_real x_type, const lf_dots *d, size_t p, size_t t, size_t n_rows, size_t n_tokens)
{
    const uint8_t *a = (const uint8_t *)d->a + p * d->a_stride;
    float *sums = d->sums + (t * d->n_a + p) * LF_PANEL;
    strip s[DOT_TOKENS][DOT_ROWS];

    UNROLL
    for (size_t k = 0; k < n_tokens; k++) {
        UNROLL
        for (size_t i = 0; i < n_rows; i++)
            s[k][i] = d->goes_on ? strip_load(sums + (k * d->n_a + i) * LF_PANEL) : strip_zero();
    }
    for (size_t j = 0; j < d->n; j += LF_PANEL) {
        strip x[DOT_TOKENS];
        UNROLL
        for (size_t k = 0; k < n_tokens; k++)
            x[k] = strip_widen(x_type, (const uint8_t *)d->x[t + k] + j * lf_real_size(x_type));
        UNROLL
        for (size_t i = 0; i < n_rows; i++) {
            const strip left = strip_keep(strip_widen(a_type, a + i * d->a_stride + j * lf_real_size(a_type)));
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

INLINE void dots_tokens(lf_real a_type, lf_real x_type, const lf_dots *d, size_t t, size_t n_tokens)
{
    size_t p = 0;

    for (; p + DOT_ROWS <= d->n_a; p += DOT_ROWS)
        dots_tile(a_type, x_type, d, p, t, DOT_ROWS, n_tokens);
    if (DOT_ROWS > 4 && p + 4 <= d->n_a) {
        dots_tile(a_type, x_type, d, p, t, 4, n_tokens);
        p += 4;
    }
    if (DOT_ROWS > 2 && p + 2 <= d->n_a) {
        dots_tile(a_type, x_type, d, p, t, 2, n_tokens);
        p += 2;
    }
    if (p < d->n_a)
        dots_tile(a_type, x_type, d, p, t, 1, n_tokens);
}

INLINE void dots(lf_real a_type, lf_real x_type, const lf_dots *d)
{
    const size_t step = ahead_step(&d->ahead, d->n_x / DOT_TOKENS);
    size_t t = 0;

    for (; t + DOT_TOKENS <= d->n_x; t += DOT_TOKENS) {
        fetch_ahead(&d->ahead, t / DOT_TOKENS * step, step);
        dots_tokens(a_type, x_type, d, t, DOT_TOKENS);
    }
    for (; t < d->n_x; t++)
        dots_tokens(a_type, x_type, d, t, 1);
}

/* What the compiler makes one kernel of: types that are known. */
#define DOTS_OF(name, a_type, x_type)                                                                                            \
    TARGET static void name(const lf_dots *d)                                                                                    \
    {                                                                                                                            \
        dots(a_type, x_type, d);                                                                                                 \
    }

DOTS_OF(dots_f32_f32, LF_REAL_F32, LF_REAL_F32)
DOTS_OF(dots_f32_f16, LF_REAL_F32, LF_REAL_F16)
DOTS_OF(dots_f32_bf16, LF_REAL_F32, LF_REAL_BF16)
DOTS_OF(dots_f16_f32, LF_REAL_F16, LF_REAL_F32)
DOTS_OF(dots_f16_f16, LF_REAL_F16, LF_REAL_F16)
DOTS_OF(dots_f16_bf16, LF_REAL_F16, LF_REAL_BF16)
DOTS_OF(dots_bf16_f32, LF_REAL_BF16, LF_REAL_F32)
DOTS_OF(dots_bf16_f16, LF_REAL_BF16, LF_REAL_F16)
DOTS_OF(dots_bf16_bf16, LF_REAL_BF16, LF_REAL_BF16)

INLINE void add_dots(const lf_dots *d)
{
    static lf_add_dots *const dots_of[3][3] =
        {[LF_REAL_F32] = {[LF_REAL_F32] = dots_f32_f32, [LF_REAL_F16] = dots_f32_f16, [LF_REAL_BF16] = dots_f32_bf16},
         [LF_REAL_F16] = {[LF_REAL_F32] = dots_f16_f32, [LF_REAL_F16] = dots_f16_f16, [LF_REAL_BF16] = dots_f16_bf16},
         [LF_REAL_BF16] = {[LF_REAL_F32] = dots_bf16_f32, [LF_REAL_F16] = dots_bf16_f16, [LF_REAL_BF16] = dots_bf16_bf16}};

    dots_of[d->a_type][d->x_type](d);
}

INLINE void fold_each(const float *sums, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = strip_fold(strip_load(sums + i * LF_PANEL));
}

/* --- turning over --- */

/* Bytes after what is read that are fetched meanwhile, into a second-level cache and then into the first: more than the CPU does. */
#define FETCH_FAR 4096
#define FETCH_NEAR 2048

/*
 * 16 rows of n_words words, a power of two, `step` bytes from strip to strip of them, become n_words strips of 16, widened: each
 * time the even ones of all and then the odd ones, which takes the lowest bit of a word's place to the top.
 */
INLINE void turn(lf_real from, const uint8_t *src, size_t step, size_t n_words, float *panel)
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
    for (size_t i = 0; i < n_words; i++) {
        if (from == LF_REAL_F32) {
            strip_store(panel + i * LF_PANEL, v[i]);
        } else {
            strip_store(panel + 2 * i * LF_PANEL, strip_widen_half(from, v[i], false));
            strip_store(panel + (2 * i + 1) * LF_PANEL, strip_widen_half(from, v[i], true));
        }
    }
}

/* What does not fill a strip goes through buffers. */
INLINE void turn_part(lf_real from, const uint8_t *src, size_t step, size_t n, float *panel)
{
    uint8_t rows[LF_PANEL][STRIP_SIZE] = {{0}};
    float wide[2 * LF_PANEL * LF_PANEL];

    for (size_t i = 0; i < LF_PANEL; i++)
        memcpy(rows[i], src + i * step, n * lf_real_size(from));
    turn(from, rows[0], STRIP_SIZE, LF_PANEL, wide);
    memcpy(panel, wide, n * LF_PANEL * sizeof *panel);
}

/* Whole rows that follow one another are several in a strip when they are short; otherwise it is strip by strip. */
INLINE void widen_panel(lf_real from, const uint8_t *src, size_t step, size_t n, float *panel)
{
    const size_t size = n * lf_real_size(from), most = STRIP_SIZE / lf_real_size(from);
    size_t done = 0;

    if (step == size && size == 8 * sizeof(float))
        turn(from, src, STRIP_SIZE, 8, panel);
    else if (step == size && size == 4 * sizeof(float))
        turn(from, src, STRIP_SIZE, 4, panel);
    else {
        for (; done + most <= n; done += most)
            turn(from, src + done * lf_real_size(from), step, LF_PANEL, panel + done * LF_PANEL);
        if (done < n)
            turn_part(from, src + done * lf_real_size(from), step, n - done, panel + done * LF_PANEL);
    }
}

INLINE void widen_panels_of(lf_real from, const uint8_t *src, size_t step, size_t n, size_t n_panels, float *panels)
{
    // only whole rows are followed by what is next
    const size_t n_fetched = step == n * lf_real_size(from) ? LF_PANEL * step : 0;

    for (size_t k = 0; k < n_panels; k++, src += LF_PANEL * step, panels += LF_PANEL * n) {
        for (size_t i = 0; i < n_fetched; i += CACHE_LINE) {
            __builtin_prefetch(src + FETCH_FAR + i, 0, 2);
            __builtin_prefetch(src + FETCH_NEAR + i);
        }
        widen_panel(from, src, step, n, panels);
    }
}

TARGET static void widen_panels_f32(const uint8_t *src, size_t step, size_t n, size_t n_panels, float *panels)
{
    widen_panels_of(LF_REAL_F32, src, step, n, n_panels, panels);
}

TARGET static void widen_panels_f16(const uint8_t *src, size_t step, size_t n, size_t n_panels, float *panels)
{
    widen_panels_of(LF_REAL_F16, src, step, n, n_panels, panels);
}

TARGET static void widen_panels_bf16(const uint8_t *src, size_t step, size_t n, size_t n_panels, float *panels)
{
    widen_panels_of(LF_REAL_BF16, src, step, n, n_panels, panels);
}

INLINE void widen_panels(lf_real from, const uint8_t *src, size_t step, size_t n, size_t n_panels, float *panels)
{
    (from == LF_REAL_F32   ? widen_panels_f32
     : from == LF_REAL_F16 ? widen_panels_f16
                           : widen_panels_bf16)(src, step, n, n_panels, panels);
}
