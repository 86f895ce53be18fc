/* SPDX-License-Identifier: MIT */
/* The norm of a site against that of B A, which is formed here in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/kernels/fpenv.h"
#include "lib/kernels/kernels.h"
#include "lib/kernels/real.h"
#include "tests/adapters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_F16, LORAFMT_BF16, LORAFMT_F64};

/* An element that all four dtypes hold exactly: a multiple of 1/64, at most 2. */
static double element(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (double)(int)(*state >> 33 & 0xff) / 64 - 2;
}

static void store(lorafmt_dtype dtype, double x, uint8_t *to)
{
    static const lf_real reals[] =
        {[LORAFMT_F32] = LF_REAL_F32, [LORAFMT_F16] = LF_REAL_F16, [LORAFMT_BF16] = LF_REAL_BF16, [LORAFMT_F64] = LF_REAL_F64};
    lf_tally tally = {0};

    lf_narrow_f64(reals[dtype], &x, to, 1, &tally);
}

/* A tensor of n drawn elements in a shape, and the elements. */
static lorafmt_tensor draw(lorafmt_dtype dtype, uint32_t n_dims, const uint64_t *shape, uint64_t *state, double **elements)
{
    lorafmt_tensor t = {.dtype = dtype, .n_dims = n_dims};
    const size_t unit = lorafmt_dtype_bits(dtype) / 8;
    uint8_t *data;

    memcpy(t.shape, shape, n_dims * sizeof *shape);
    assert_true(lf_tensor_measure(dtype, n_dims, shape, &t.size));
    data = malloc(t.size);
    *elements = malloc(t.size / unit * sizeof **elements);
    for (size_t i = 0; i < t.size / unit; i++) {
        (*elements)[i] = element(state);
        store(dtype, (*elements)[i], data + i * unit);
    }
    t.data = data;
    return t;
}

/* The plain way: every row of every B A, squared and added. */
static double formed(const double *a, const double *b, size_t n_experts, size_t rank, size_t in, size_t out)
{
    double *row = malloc(in * sizeof *row);
    long double sum = 0;

    for (size_t i = 0; i < n_experts * out; i++) {
        memset(row, 0, in * sizeof *row);
        for (size_t p = 0; p < rank; p++)
            for (size_t j = 0; j < in; j++)
                row[j] += b[i * rank + p] * a[(i / out * rank + p) * in + j];
        for (size_t j = 0; j < in; j++)
            sum += (long double)row[j] * (long double)row[j];
    }
    free(row);
    return (double)sqrtl(sum);
}

static double norm_of(const lorafmt_site *site)
{
    lorafmt_error err;
    double norm = -1;

    assert_int_equal(lorafmt_site_norm(site, &norm, &err), LORAFMT_OK);
    return norm;
}

typedef struct shape_case {
    unsigned kind;
    uint32_t rank, n_dims;
    uint64_t a[5], b[5];
    size_t n_experts;
} shape_case;

static const shape_case shape_cases[] = {
    {LORAFMT_KIND_LINEAR, 1, 2, {1, 1}, {1, 1}, 1},
    {LORAFMT_KIND_LINEAR, 4, 2, {4, 37}, {29, 4}, 1},
    {LORAFMT_KIND_LINEAR, 16, 2, {16, 600}, {130, 16}, 1},      // several panels
    {LORAFMT_KIND_LINEAR, 9, 2, {9, 1031}, {1033, 9}, 1},       // ragged in every way
    {LORAFMT_KIND_LINEAR, 520, 2, {520, 1100}, {1050, 520}, 1}, // a row of the panel is larger than a panel
    {LORAFMT_KIND_LINEAR, 12, 2, {12, 5}, {7, 12}, 1},          // more rank than the matrix can have
    {LORAFMT_KIND_LINEAR, 40, 2, {40, 700}, {3, 40}, 1},        // and only on one side
    {LORAFMT_KIND_LINEAR, 110, 2, {110, 70}, {40, 110}, 1},     // by blocks, ragged in every way
    {LORAFMT_KIND_EMBEDDING, 3, 2, {3, 300}, {20, 3}, 1},
    {LORAFMT_KIND_CONV1D, 4, 3, {4, 6, 5}, {24, 4, 1}, 1},
    {LORAFMT_KIND_CONV2D, 4, 4, {4, 6, 3, 3}, {24, 4, 1, 1}, 1},
    {LORAFMT_KIND_CONV3D, 2, 5, {2, 3, 2, 3, 2}, {9, 2, 1, 1, 1}, 1},
    {LORAFMT_KIND_EXPERTS, 4, 2, {12, 50}, {90, 4}, 3},
    {LORAFMT_KIND_EXPERTS, 6, 2, {12, 4}, {10, 6}, 2},
};

static void check_shape(const shape_case *c, lorafmt_dtype a_dtype, lorafmt_dtype b_dtype)
{
    uint64_t state = 7;
    double *a, *b, wanted;
    const lorafmt_factor factors[] = {{LORAFMT_ROLE_A, draw(a_dtype, c->n_dims, c->a, &state, &a)},
                                      {LORAFMT_ROLE_B, draw(b_dtype, c->n_dims, c->b, &state, &b)}};
    const lorafmt_site site = {.target = "w",
                               .kind = (uint16_t)c->kind,
                               .rank = c->rank,
                               .scaling = LORAFMT_SCALING_EXPLICIT,
                               .scale = -1.5,
                               .n_factors = 2,
                               .factors = factors};
    size_t in = 1;

    for (uint32_t i = 1; i < c->n_dims; i++)
        in *= c->a[i];
    wanted = 1.5 * formed(a, b, c->n_experts, c->rank, in, c->b[0] / c->n_experts);
    assert_true(fabs(norm_of(&site) - wanted) <= 1e-11 * wanted);
    for (size_t i = 0; i < 2; i++)
        free((void *)(uintptr_t)factors[i].tensor.data);
    free(a);
    free(b);
}

static void test_it_is_the_norm_of_the_product(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shape_cases / sizeof shape_cases[0]; i++)
        check_shape(&shape_cases[i], LORAFMT_F32, LORAFMT_F32);
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 4; b++)
            check_shape(&shape_cases[1], dtypes[a], dtypes[b]);
}

static void test_what_cancels_is_zero_and_not_less(void **state)
{
    enum { IN = 9, OUT = 11 };
    float a[2 * IN], b[OUT * 2];
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w", LORAFMT_KIND_LINEAR, 2, IN, OUT, a, b, f);
    (void)state;
    for (size_t i = 0; i < IN; i++)
        a[i] = a[IN + i] = 0.1F * (float)(i + 1);
    for (size_t i = 0; i < OUT; i++) {
        b[2 * i] = 0.3F * (float)(i + 1);
        b[2 * i + 1] = -b[2 * i];
    }
    // within the promise: sqrt of (in + out + rank^2) * 2^-52 of the factors' norms
    assert_true(norm_of(&site) >= 0 && norm_of(&site) <= 1e-6 * 1.7 * 1.42 * 6.7 * 1.42);
}

static void test_zeros_nan_and_infinity(void **state)
{
    const float a[6] = {1, 2, 3, 4, 5, 6};
    float b[6] = {0, -0.0F, 0, 0, 0, 0};
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w", LORAFMT_KIND_LINEAR, 1, 6, 6, a, b, f);
    (void)state;
    assert_true(norm_of(&site) == 0.0);
    b[5] = INFINITY;
    assert_false(isfinite(norm_of(&site)));
    b[5] = NAN;
    assert_true(isnan(norm_of(&site)));
    site.scale = 0;
    assert_true(isnan(norm_of(&site)));
}

static void test_additive_is_the_norm_of_the_value(void **state)
{
    const float value[2] = {3, 4};
    lorafmt_factor f[1];
    lorafmt_site site = test_whole("b", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 2, 0, value), f);
    (void)state;
    site.scale = -2;
    assert_true(norm_of(&site) == 10.0);
    f[0].tensor.dtype = LORAFMT_I32;
    assert_int_equal(lorafmt_site_norm(&site, &(double){0}, NULL), LORAFMT_UNSUPPORTED);
}

static void check_unknown(lorafmt_site site, const char *text)
{
    lorafmt_error err;
    double norm = 1;

    assert_int_equal(lorafmt_site_norm(&site, &norm, &err), LORAFMT_UNSUPPORTED);
    assert_non_null(strstr(err.text, text));
    assert_string_equal(err.field, site.target);
    assert_true(norm == 0.0);
}

static void test_what_is_not_known_is_said(void **state)
{
    const float data[4] = {1, 2, 3, 4};
    lorafmt_factor f[3];
    lorafmt_site site;
    (void)state;
    check_unknown(test_whole("w", LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 2, 2, data), f), "base");
    check_unknown(test_whole("w", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, data), f), "base");
    check_unknown(test_whole("w", LORAFMT_KIND_ROWS, test_tensor(LORAFMT_F32, 2, 2, data), f), "base");
    check_unknown(test_whole("w", 11, test_tensor(LORAFMT_F32, 2, 2, data), f), "part of a newer format");
    site = test_low_rank("w", LORAFMT_KIND_LINEAR, 1, 4, 4, data, data, f);
    site.n_factors = 3;
    f[2] = (lorafmt_factor){16, test_tensor(LORAFMT_F32, 1, 4, data)};
    check_unknown(site, "part of a newer format");
    f[2].role = LORAFMT_ROLE_MID;
    check_unknown(site, "Tucker");
    f[2].role = LORAFMT_ROLE_MAGNITUDE; // DoRA: that of the low-rank part
    assert_true(fabs(norm_of(&site) - 30) < 1e-12);
}

static void test_every_level_gives_the_same_gram_matrix(void **state)
{
    enum { STRIDE = 24, ROWS = 33 };
    double x[ROWS * STRIDE], scalar[STRIDE * STRIDE] = {0}, best[STRIDE * STRIDE] = {0};
    lf_kernels kernels;
    uint64_t random = 3;
    (void)state;
    lf_kernels_init(&kernels, lf_cpu_flags());
    for (size_t i = 0; i < ROWS * STRIDE; i++)
        x[i] = element(&random) / 3; // products that are rounded
    for (size_t n = 0; n <= ROWS; n++) {
        lf_gram_f64_scalar(scalar, x, n, STRIDE);
        kernels.gram_f64(best, x, n, STRIDE);
        for (size_t p = 0; p < STRIDE; p++)
            assert_memory_equal(scalar + p * STRIDE + p, best + p * STRIDE + p, (STRIDE - p) * sizeof *best);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_the_norm_of_the_product), cmocka_unit_test(test_what_cancels_is_zero_and_not_less),
        cmocka_unit_test(test_zeros_nan_and_infinity),        cmocka_unit_test(test_additive_is_the_norm_of_the_value),
        cmocka_unit_test(test_what_is_not_known_is_said),     cmocka_unit_test(test_every_level_gives_the_same_gram_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
