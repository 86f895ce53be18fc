/* SPDX-License-Identifier: MIT */
/* The loops of the merge arithmetic against what IEEE 754 says, computed another way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/kernels/fpenv.h"
#include "lib/kernels/kernels.h"
#include "lib/kernels/real.h"

#include <math.h>
#include <string.h>

static uint16_t narrow_one(lf_real to, double x)
{
    lf_tally tally = {0};
    uint16_t out;
    lf_narrow_f64(to, &x, &out, 1, &tally);
    return out;
}

static double value_of(lf_real type, uint16_t bits)
{
    double x;
    lf_widen_f64(type, &bits, &x, 1);
    return x;
}

/* The definition: among the two neighbours of x in the type, the nearer, or the one with an even last bit. */
static void check_nearest(lf_real type, double x)
{
    const uint16_t infinity = type == LF_REAL_F16 ? 0x7c00 : 0x7f80;
    const uint16_t got = narrow_one(type, x), sign = signbit(x) ? 0x8000 : 0;
    uint16_t low = 0, high = infinity;
    // overflow rounds as if the exponent went on: infinity stands where the next power of two would be
    const double top = type == LF_REAL_F16 ? 0x1p16 : 0x1p128;
    double below, above, magnitude = fabs(x);

    while (high - low > 1) { // the bit patterns of positive numbers are in their order
        const uint16_t middle = (uint16_t)((low + high) / 2);
        if (value_of(type, middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    below = value_of(type, low);
    above = high == infinity ? top : value_of(type, high);
    if (magnitude >= top)
        assert_int_equal(got, sign | infinity);
    else if (magnitude - below < above - magnitude)
        assert_int_equal(got, sign | low);
    else if (magnitude - below > above - magnitude)
        assert_int_equal(got, sign | high);
    else
        assert_int_equal(got, sign | (low & 1 ? high : low));
}

static uint64_t random_bits(uint64_t *state) // splitmix64
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void test_every_16_bit_value_survives(void **state)
{
    const lf_real types[] = {LF_REAL_F16, LF_REAL_BF16};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (uint32_t i = 0; i < 65536; i++) {
            const uint16_t bits = (uint16_t)i;
            const double x = value_of(types[t], bits);
            if (isnan(x))
                assert_int_equal(narrow_one(types[t], x), types[t] == LF_REAL_F16 ? 0x7e00 : 0x7fc0);
            else
                assert_int_equal(narrow_one(types[t], x), bits);
        }
}

static void test_f16_values(void **state)
{
    // IEEE 754 binary16: (-1)^s 2^(e-15) (1 + m/1024), subnormals 2^-24 m
    (void)state;
    assert_true(value_of(LF_REAL_F16, 0x3c00) == 1.0);
    assert_true(value_of(LF_REAL_F16, 0x0001) == 0x1p-24);
    assert_true(value_of(LF_REAL_F16, 0x83ff) == -1023 * 0x1p-24);
    assert_true(value_of(LF_REAL_F16, 0x7bff) == 65504.0);
    assert_true(isinf(value_of(LF_REAL_F16, 0xfc00)));
    assert_true(value_of(LF_REAL_BF16, 0x4049) == 3.140625);
}

static void test_narrowing_is_to_nearest_even(void **state)
{
    const lf_real types[] = {LF_REAL_F16, LF_REAL_BF16};
    uint64_t seed = 1;
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (uint32_t i = 0; i < 0x7f80; i += 7) { // around values, and exactly on the middles between them
            const double x = value_of(types[t], (uint16_t)i), y = value_of(types[t], (uint16_t)(i + 1));
            if (!isfinite(x) || !isfinite(y))
                continue;
            check_nearest(types[t], x);
            check_nearest(types[t], (x + y) / 2);
            check_nearest(types[t], nextafter((x + y) / 2, INFINITY));
            check_nearest(types[t], -nextafter((x + y) / 2, 0));
        }
    for (size_t i = 0; i < 200000; i++) {
        const uint64_t bits = random_bits(&seed);
        double x;
        float f;
        memcpy(&x, &bits, sizeof x);
        memcpy(&f, &bits, sizeof f);
        for (size_t t = 0; t < 2; t++) {
            if (isfinite(x))
                check_nearest(types[t], x);
            if (isfinite(f))
                check_nearest(types[t], (double)f);
        }
    }
}

static void test_f32_and_f64_round_alike(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (size_t i = 0; i < 200000; i++) {
        const uint32_t bits = (uint32_t)random_bits(&seed);
        const lf_real types[] = {LF_REAL_F16, LF_REAL_BF16};
        float f;
        double x;
        memcpy(&f, &bits, sizeof f);
        x = (double)f;
        for (size_t t = 0; t < 2; t++) {
            lf_tally a = {0}, b = {0};
            uint16_t from_f32, from_f64;
            lf_narrow_f32(types[t], &f, &from_f32, 1, &a);
            lf_narrow_f64(types[t], &x, &from_f64, 1, &b);
            assert_int_equal(from_f32, from_f64);
            assert_int_equal(a.n_nan, b.n_nan);
            assert_int_equal(a.n_inf, b.n_inf);
        }
    }
}

static void test_nan_is_canonical_and_counted(void **state)
{
    const uint32_t payload = 0xffc12345, wanted = 0x7fc00000;
    const double infinity = INFINITY;
    lf_tally tally = {0};
    uint32_t out;
    float x;
    (void)state;
    memcpy(&x, &payload, sizeof x);
    lf_narrow_f32(LF_REAL_F32, &x, &out, 1, &tally);
    assert_int_equal(out, wanted);
    lf_narrow_f64(LF_REAL_F32, &infinity, &out, 1, &tally);
    assert_int_equal(out, 0x7f800000);
    assert_int_equal(tally.n_nan, 1);
    assert_int_equal(tally.n_inf, 1);
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static const float special[] = {0.0f, -0.0f, 0x1p-149f, 0x1p-126f, 0x1p127f, INFINITY, -INFINITY, NAN};

/* Mostly in (-4, 12), one in 50 special. */
static float draw(uint64_t *seed)
{
    const uint64_t bits = random_bits(seed);
    return bits % 50 == 0 ? special[random_bits(seed) % 8] : (float)random_bits(seed) * 0x1p-60f - 4;
}

/* A right factor in panels, whose elements right(p, j) are drawn; what fills up the last panel is zero. */
static void draw_panels(uint64_t *seed, size_t rank, size_t n, float *panels)
{
    memset(panels, 0, lf_panels_size(rank, n) * sizeof *panels);
    for (size_t p = 0; p < rank; p++)
        for (size_t j = 0; j < n; j++)
            panels[lf_panel_at(rank, j) + p * LF_PANEL] = draw(seed);
}

/* The definition. */
static float updated(const lf_update *u, size_t row, size_t j, float acc)
{
    float delta = 0;

    for (size_t p = 0; p < u->rank; p++)
        delta = fmaf(u->left[row * u->rank + p], u->panels[j / 16 * 16 * u->rank + p * 16 + j % 16], delta);
    return fmaf(u->scale, delta, acc);
}

#if defined(__x86_64__)
lf_merge_block lf_merge_block_avx512_emulated;
lf_widen_rows lf_widen_rows_avx512_emulated;
lf_widen_panels lf_widen_panels_avx512_emulated;
lf_add_dots lf_add_dots_avx512_emulated;
lf_fold lf_fold_avx512_emulated;
#endif

/* Every level of this CPU, from scalar on, each with those below it; and one that is emulated. */
static bool next_level(unsigned *level, lf_kernels *kernels)
{
    static const unsigned levels[] = {0, LF_CPU_FMA, LF_CPU_FMA | LF_CPU_AVX512, LF_CPU_NEON};
    enum { N_LEVELS = sizeof levels / sizeof *levels };

    while (*level < N_LEVELS) {
        const unsigned flags = levels[(*level)++];
        lf_kernels_init(kernels, flags);
        if (!(flags & ~lf_cpu_flags()))
            return true;
    }
#if defined(__x86_64__)
    lf_kernels_init(kernels, lf_cpu_flags());
    kernels->merge_block = lf_merge_block_avx512_emulated;
    kernels->widen_rows = lf_widen_rows_avx512_emulated;
    kernels->widen_panels = lf_widen_panels_avx512_emulated;
    kernels->add_dots = lf_add_dots_avx512_emulated;
    kernels->fold = lf_fold_avx512_emulated;
    return (*level)++ == N_LEVELS && (lf_cpu_flags() & LF_CPU_FMA);
#else
    return false;
#endif
}

/* Against the definition, element by element: tails, misaligned columns, special values, guards. */
static void test_multiplying_gives_the_same_bytes(void **state)
{
    enum { RANK = 5, N = 2 * 64 + 9 };
    static float left[RANK], panels[(N + 16) * RANK], out[N + 1], wanted[N + 1];
    unsigned level = 0;
    uint64_t seed = 3;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t rank = 0; rank <= RANK; rank++)
            for (size_t n = 0; n <= N; n++) {
                for (size_t i = 0; i < RANK; i++)
                    left[i] = draw(&seed);
                draw_panels(&seed, rank, n, panels);
                for (size_t j = 0; j <= N; j++) {
                    wanted[j] = out[j] = draw(&seed);
                    for (size_t p = 0; p < rank && j < n; p++)
                        wanted[j] = fmaf(left[p], panels[j / 16 * 16 * rank + p * 16 + j % 16], wanted[j]);
                }
                kernels.multiply_f32(out, n, left, panels, rank);
                for (size_t j = 0; j <= N; j++) // what is behind n stays; a NaN is a NaN: the narrowing makes it canonical
                    assert_true(bits_of(out[j]) == bits_of(wanted[j]) || (isnan(out[j]) && isnan(wanted[j])));
            }
}

static void test_adding_scaled_gives_the_same_bytes(void **state)
{
    enum { N = 41 };
    unsigned level = 0;
    uint64_t seed = 4;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t n = 0; n <= N; n++) {
            float x[N + 1], d[N + 1], wanted[N + 1];
            double wide_x[N + 1], wide_d[N + 1], wide_wanted[N + 1];
            for (size_t j = 0; j <= N; j++) {
                wanted[j] = x[j] = draw(&seed);
                wide_wanted[j] = wide_x[j] = (double)x[j];
                wide_d[j] = (double)(d[j] = draw(&seed));
                if (j < n) {
                    wanted[j] = fmaf(0.3f, d[j], x[j]);
                    wide_wanted[j] = fma(0.3, wide_d[j], wide_x[j]);
                }
            }
            kernels.add_scaled_f32(x, n, d, 0.3f);
            kernels.add_scaled_f64(wide_x, n, wide_d, 0.3);
            for (size_t j = 0; j <= N; j++) {
                assert_true(bits_of(x[j]) == bits_of(wanted[j]) || (isnan(x[j]) && isnan(wanted[j])));
                assert_true(wide_x[j] == wide_wanted[j] || (isnan(wide_x[j]) && isnan(wide_wanted[j])));
            }
        }
}

static const lf_real real_types[] = {LF_REAL_F32, LF_REAL_F16, LF_REAL_BF16};

/* Bytes that are numbers of a type, out of line. */
static void fill(lf_real type, uint8_t *data, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        const float x = draw(seed);
        lf_tally unused = {0};
        lf_narrow_f32(type, &x, data + i * lf_real_size(type), 1, &unused);
    }
}

static float element_of(lf_real type, const uint8_t *data, size_t i)
{
    float x;

    lf_widen_f32(type, data + i * lf_real_size(type), &x, 1);
    return x;
}

/* Two panels of n columns, from rows that are `apart` elements apart. */
static void check_turning(const lf_kernels *kernels, lf_real type, size_t n, size_t apart, uint64_t *seed)
{
    enum { MOST = 70, N_ROWS = 2 * LF_PANEL };
    uint8_t data[1 + N_ROWS * (MOST + 1) * sizeof(float)];
    float panels[(2 * MOST + 1) * LF_PANEL];
    const size_t step = n + apart;

    fill(type, data + 1, N_ROWS * step, seed);
    for (size_t k = 0; k < LF_PANEL; k++)
        panels[2 * n * LF_PANEL + k] = 5;
    kernels->widen_panels(type, data + 1, step * lf_real_size(type), n, 2, panels);
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < N_ROWS; i++) {
            const float wanted = element_of(type, data + 1, i * step + p), got = panels[lf_panel_at(n, i) + p * LF_PANEL];
            assert_true(bits_of(got) == bits_of(wanted) || isnan(wanted));
        }
    for (size_t k = 0; k < LF_PANEL; k++)
        assert_true(panels[2 * n * LF_PANEL + k] == 5);
}

/* Rows of every length: those that share strips, those that fill them, and what is left over; side by side and apart. */
static void test_turning_rows_over_puts_every_element_in_its_place(void **state)
{
    unsigned level = 0;
    uint64_t seed = 9;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t t = 0; t < 3; t++)
            for (size_t n = 0; n <= 70; n++)
                for (size_t apart = 0; apart < 2; apart++)
                    check_turning(&kernels, real_types[t], n, apart, &seed);
}

/* All tiles and what is left over of them; sums go on from what is there, or begin. */
static void check_dots(const lf_kernels *kernels, lf_real a_type, lf_real x_type, size_t n_a, size_t n_x, uint64_t *seed)
{
    enum { MOST_A = 11, MOST_X = 5, N = 48, STEP = N + 3 };
    uint8_t a[1 + MOST_A * STEP * sizeof(float)], rows[MOST_X][1 + N * sizeof(float)];
    float sums[MOST_X * MOST_A * LF_PANEL], wanted[MOST_X * MOST_A * LF_PANEL];
    const void *x[MOST_X];
    const size_t n = 16 * (n_x % 4);
    const lf_dots dots = {.a_type = a_type,
                          .x_type = x_type,
                          .a = a + 1,
                          .a_stride = STEP * lf_real_size(a_type),
                          .n_a = n_a,
                          .x = x,
                          .n_x = n_x,
                          .n = n,
                          .goes_on = n_a % 2,
                          .sums = sums};

    fill(a_type, a + 1, MOST_A * STEP, seed);
    for (size_t i = 0; i < n_x; i++) {
        x[i] = rows[i] + 1;
        fill(x_type, rows[i] + 1, N, seed);
    }
    for (size_t i = 0; i < n_x * n_a * LF_PANEL; i++) {
        sums[i] = draw(seed);
        wanted[i] = dots.goes_on ? sums[i] : 0;
    }
    for (size_t i = 0; i < n_x; i++)
        for (size_t p = 0; p < n_a; p++)
            for (size_t j = 0; j < n; j++) {
                float *sum = &wanted[(i * n_a + p) * LF_PANEL + j % LF_PANEL];
                *sum = fmaf(element_of(a_type, a + 1, p * STEP + j), element_of(x_type, rows[i] + 1, j), *sum);
            }
    kernels->add_dots(&dots);
    for (size_t i = 0; i < n_x * n_a * LF_PANEL; i++)
        assert_true(bits_of(sums[i]) == bits_of(wanted[i]) || (isnan(sums[i]) && isnan(wanted[i])));
}

static void test_dots_give_the_same_bytes(void **state)
{
    unsigned level = 0;
    uint64_t seed = 11;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t types = 0; types < 9; types++)
            for (size_t n_a = 0; n_a <= 11; n_a++)
                for (size_t n_x = 0; n_x <= 5; n_x++)
                    check_dots(&kernels, real_types[types / 3], real_types[types % 3], n_a, n_x, &seed);
}

static void test_folding_adds_in_one_order(void **state)
{
    unsigned level = 0;
    uint64_t seed = 12;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (int round = 0; round < 1000; round++) {
            float s[2 * LF_PANEL], out[3] = {0, 0, 5};
            for (size_t k = 0; k < 2 * LF_PANEL; k++)
                s[k] = draw(&seed);
            kernels.fold(s, 2, out);
            assert_true(out[2] == 5);
            for (size_t i = 0; i < 2; i++) {
                const float *k = s + i * LF_PANEL;
                const float a = (k[0] + k[8]) + (k[4] + k[12]), b = (k[1] + k[9]) + (k[5] + k[13]);
                const float c = (k[2] + k[10]) + (k[6] + k[14]), d = (k[3] + k[11]) + (k[7] + k[15]);
                const float wanted = (a + c) + (b + d);
                assert_true(bits_of(out[i]) == bits_of(wanted) || (isnan(out[i]) && isnan(wanted)));
            }
        }
}

/* A factor of any type, as it is and transposed: parts of it in panels and in rows. */
static void test_packing_puts_every_element_in_its_place(void **state)
{
    enum { ROWS = 7, COLS = 150 };
    unsigned level = 0;
    uint64_t seed = 6;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t t = 0; t < 6; t++) {
            const lf_real type = real_types[t / 2];
            const bool transposed = t % 2;
            uint8_t data[ROWS * COLS * sizeof(float)];
            const lf_matrix m = {type, data, transposed ? ROWS : COLS, transposed};
            fill(type, data, ROWS * COLS, &seed);
            for (size_t n = 1; n + 3 <= COLS; n += 12) {
                enum { FIRST = 2, N_ROWS = 4, COL = 3 };
                float panels[N_ROWS * (COLS + LF_PANEL)], rows[N_ROWS * COLS];
                double wide[N_ROWS * COLS];
                lf_pack_panels(&kernels, &m, FIRST, N_ROWS, COL, n, panels);
                lf_pack_rows_f32(&kernels, &m, FIRST, N_ROWS, COL, n, rows);
                lf_pack_rows_f64(&m, FIRST, N_ROWS, COL, n, wide);
                for (size_t i = 0; i < N_ROWS; i++)
                    for (size_t j = 0; j < (n + 15) / 16 * 16; j++) {
                        const size_t at = transposed ? (COL + j) * ROWS + FIRST + i : (FIRST + i) * COLS + COL + j;
                        float x = 0;
                        if (j < n)
                            lf_widen_f32(type, data + at * lf_real_size(type), &x, 1);
                        assert_int_equal(bits_of(panels[j / 16 * 16 * N_ROWS + i * 16 + j % 16]), bits_of(x));
                        if (j < n) {
                            assert_int_equal(bits_of(rows[i * n + j]), bits_of(x));
                            assert_true(wide[i * n + j] == (double)x || isnan(x));
                        }
                    }
            }
        }
}

enum { MAX_ROWS = 15, MAX_COLS = 150, MAX_RANK = 19, MAX_UPDATES = 3, GAP = 5 }; // bytes between rows

/* A block of drawn shape, types and elements. Rows are not aligned. */
typedef struct drawn {
    lf_update updates[MAX_UPDATES];
    lf_block block;
    float left[MAX_UPDATES][MAX_ROWS * MAX_RANK], panels[MAX_UPDATES][(MAX_COLS + LF_PANEL) * MAX_RANK];
    uint8_t src[MAX_ROWS * (MAX_COLS * 4 + GAP) + 1], dst[MAX_ROWS * (MAX_COLS * 4 + GAP) + 1];
    uint8_t wanted[MAX_ROWS * (MAX_COLS * 4 + GAP) + 1];
    _Alignas(64) uint8_t aligned[MAX_ROWS * (MAX_COLS * 4 + 64)]; // rows that are, too
    lf_change change;
} drawn;

static void draw_block(uint64_t *seed, drawn *d)
{
    lf_block *b = &d->block;

    *b = (lf_block){.from = (lf_real)(random_bits(seed) % 3),
                    .to = (lf_real)(random_bits(seed) % 3),
                    .src = d->src + 1,
                    .dst = d->dst + 1,
                    .n_rows = random_bits(seed) % (MAX_ROWS + 1),
                    .n_cols = random_bits(seed) % (MAX_COLS + 1),
                    .updates = d->updates,
                    .n_updates = 1 + random_bits(seed) % MAX_UPDATES};
    b->src_stride = b->n_cols * lf_real_size(b->from) + GAP;
    b->dst_stride = b->n_cols * lf_real_size(b->to) + GAP;
    for (size_t k = 0; k < b->n_updates; k++) {
        const size_t rank = random_bits(seed) % (MAX_RANK + 1);
        for (size_t i = 0; i < b->n_rows * rank; i++)
            d->left[k][i] = draw(seed);
        draw_panels(seed, rank, b->n_cols, d->panels[k]);
        d->updates[k] = (lf_update){d->left[k], d->panels[k], rank, draw(seed)};
    }
    for (size_t i = 0; i < sizeof d->src; i++) {
        d->src[i] = (uint8_t)random_bits(seed);
        d->dst[i] = d->wanted[i] = (uint8_t)random_bits(seed);
    }
}

/* What must come of it, one element after the other. */
static void work_out(const drawn *d, uint8_t *out, lf_tally *tally, lf_change *change)
{
    const lf_block *b = &d->block;

    for (size_t row = 0; row < b->n_rows; row++)
        for (size_t j = 0; j < b->n_cols; j++) {
            const uint8_t *src = (const uint8_t *)b->src + row * b->src_stride + j * lf_real_size(b->from);
            uint8_t *dst = out + row * b->dst_stride + j * lf_real_size(b->to);
            float acc;
            lf_widen_f32(b->from, src, &acc, 1);
            for (size_t k = 0; k < b->n_updates; k++)
                acc = updated(&b->updates[k], row, j, acc);
            lf_narrow_f32(b->to, &acc, dst, 1, tally);
            lf_change_add_f32(b->from, src, &acc, b->to, dst, 1, change);
        }
}

static void assert_same_change(const lf_change *got, const lf_change *wanted)
{
    assert_int_equal(got->n_unchanged, wanted->n_unchanged);
    assert_int_equal(got->max_ulp, wanted->max_ulp);
    assert_true(fabs(got->sum_asked - wanted->sum_asked) <= 1e-6 * wanted->sum_asked);
    assert_true(fabs(got->sum_realised - wanted->sum_realised) <= 1e-6 * wanted->sum_realised);
    assert_true(fabs(got->sum_along - wanted->sum_along) <= 1e-6 * sqrt(wanted->sum_asked * wanted->sum_realised));
}

/* The same past the cache, where rows are aligned: what is between them stays. */
static void check_streamed(const lf_kernels *kernels, drawn *d)
{
    const lf_block *b = &d->block;
    const size_t size = b->n_cols * lf_real_size(b->to), stride = (size + 63) / 64 * 64;
    lf_block streamed = *b;
    lf_tally tally = {0};

    memset(d->aligned, 0x5a, sizeof d->aligned);
    streamed.dst = d->aligned;
    streamed.dst_stride = stride;
    streamed.streamed = true;
    kernels->merge_block(&streamed, &tally);
    for (size_t row = 0; row < b->n_rows; row++) {
        assert_memory_equal(d->aligned + row * stride, d->wanted + 1 + row * b->dst_stride, size);
        for (size_t i = size; i < stride; i++)
            assert_int_equal(d->aligned[row * stride + i], 0x5a);
    }
}

/* From src to dst, then in place; measured when change is there. */
static void check_block(const lf_kernels *kernels, drawn *d, lf_change *change, uint64_t *n_special)
{
    lf_tally wanted = {0}, tally = {0};
    lf_change wanted_change = {0};

    work_out(d, d->wanted + 1, &wanted, &wanted_change);
    d->block.change = change;
    kernels->merge_block(&d->block, &tally);
    assert_memory_equal(d->dst, d->wanted, sizeof d->dst);
    assert_int_equal(tally.n_nan, wanted.n_nan);
    assert_int_equal(tally.n_inf, wanted.n_inf);
    *n_special += tally.n_nan && tally.n_inf;
    if (change)
        assert_same_change(change, &wanted_change);
    else
        check_streamed(kernels, d);
    if (d->block.from != d->block.to)
        return;
    d->block.dst = d->src + 1;
    kernels->merge_block(&d->block, &tally);
    for (size_t row = 0; row < d->block.n_rows; row++)
        assert_memory_equal(d->src + 1 + row * d->block.src_stride, d->wanted + 1 + row * d->block.src_stride,
                            d->block.src_stride - GAP);
}

static void test_blocks_of_every_level_have_the_same_bytes(void **state)
{
    static drawn d;
    uint64_t seed = 11, n_special = 0;
    unsigned level = 0;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t i = 0; i < 3000; i++) {
            lf_change change = {0};
            draw_block(&seed, &d);
            check_block(&kernels, &d, i % 2 ? &change : NULL, &n_special);
        }
    assert_true(n_special > 1000);
}

static void test_multiplying_in_f64(void **state)
{
    enum { RANK = 3, N = 37 };
    double left[RANK], right[RANK * N], from[N], out[N];
    unsigned level = 0;
    uint64_t seed = 5;
    lf_kernels kernels;
    (void)state;
    for (size_t i = 0; i < RANK; i++)
        left[i] = (double)random_bits(&seed) * 0x1p-60 - 4;
    for (size_t i = 0; i < RANK * N; i++)
        right[i] = (double)random_bits(&seed) * 0x1p-60 - 4;
    for (size_t j = 0; j < N; j++)
        from[j] = (double)random_bits(&seed) * 0x1p-60;
    while (next_level(&level, &kernels)) {
        memcpy(out, from, sizeof out);
        kernels.multiply_f64(out, N, left, right, N, RANK);
        for (size_t j = 0; j < N; j++) {
            double delta = from[j];
            for (size_t p = 0; p < RANK; p++)
                delta = fma(left[p], right[p * N + j], delta);
            assert_true(out[j] == delta);
        }
    }
}

/* What a host may have set: rounding up, subnormals flushed, and more where there is more. */
#if defined(__SSE__)
#define HOSTILE (0x1f80u | 0x8000u | 0x0040u | 0x4000u) // FTZ, DAZ
static uint64_t get_control(void)
{
    return _mm_getcsr() & ~0x3fu; // without what has happened
}

static void set_control(uint64_t control)
{
    _mm_setcsr((unsigned)control);
}
#elif defined(__aarch64__)
#define HOSTILE (1u << 22 | 1u << 24 | 1u << 19 | 1u << 25 | 1u << 26) // FZ, FZ16, DN, AHP
static uint64_t get_control(void)
{
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}

static void set_control(uint64_t control)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}
#else
#include <fenv.h>
#define HOSTILE FE_UPWARD
static uint64_t get_control(void)
{
    return (uint64_t)fegetround();
}

static void set_control(uint64_t control)
{
    fesetround((int)control);
}
#endif

static void test_environment_is_set_and_restored(void **state)
{
    const uint64_t before = get_control();
    volatile float tiny = 0x1p-149f, one = 1.0f;
    volatile float upward, kept, quotient; // stored before the next change of the environment
    uint64_t after;
    lf_fpenv env;
    (void)state;
    set_control(HOSTILE);
    upward = one / -3.0f;
    env = lf_fpenv_enter();
    kept = tiny * one;
    quotient = one / -3.0f;
    lf_fpenv_leave(env);
    after = get_control();
    set_control(before);
    assert_int_equal(after, HOSTILE);
    assert_true(kept == 0x1p-149f);
    assert_true(quotient == -0x1.555556p-2f);
    assert_true(upward == -0x1.555554p-2f);
}

/* Whatever the host had set: the blocks of above have many elements that are subnormal, rounded, NaN or infinite. */
static void test_blocks_do_not_depend_on_the_host(void **state)
{
    static drawn d;
    const uint64_t before = get_control();
    uint64_t seed = 13;
    unsigned level = 0;
    lf_kernels kernels;
    (void)state;
    while (next_level(&level, &kernels))
        for (size_t i = 0; i < 500; i++) {
            lf_tally wanted = {0}, tally = {0};
            lf_change unused = {0};
            lf_fpenv env;
            draw_block(&seed, &d);
            work_out(&d, d.wanted + 1, &wanted, &unused);
            set_control(HOSTILE);
            env = lf_fpenv_enter();
            kernels.merge_block(&d.block, &tally);
            lf_fpenv_leave(env);
            set_control(before);
            assert_memory_equal(d.dst, d.wanted, sizeof d.dst);
            assert_int_equal(tally.n_nan, wanted.n_nan);
            assert_int_equal(tally.n_inf, wanted.n_inf);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_16_bit_value_survives),
        cmocka_unit_test(test_f16_values),
        cmocka_unit_test(test_narrowing_is_to_nearest_even),
        cmocka_unit_test(test_f32_and_f64_round_alike),
        cmocka_unit_test(test_nan_is_canonical_and_counted),
        cmocka_unit_test(test_multiplying_gives_the_same_bytes),
        cmocka_unit_test(test_adding_scaled_gives_the_same_bytes),
        cmocka_unit_test(test_turning_rows_over_puts_every_element_in_its_place),
        cmocka_unit_test(test_dots_give_the_same_bytes),
        cmocka_unit_test(test_folding_adds_in_one_order),
        cmocka_unit_test(test_packing_puts_every_element_in_its_place),
        cmocka_unit_test(test_blocks_of_every_level_have_the_same_bytes),
        cmocka_unit_test(test_multiplying_in_f64),
        cmocka_unit_test(test_environment_is_set_and_restored),
        cmocka_unit_test(test_blocks_do_not_depend_on_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
