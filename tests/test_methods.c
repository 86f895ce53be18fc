/* SPDX-License-Identifier: MIT */
/* Every method to compose by, against what lorakit/compose.h says of it, word by word in dense matrices. */
#include "lib/algebra/elements.h"
#include "lorakit/compose.h"
#include "tests/adapters.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { OUT = 4, IN = 5, RANK = 4, N_A = RANK * IN, N_B = OUT * RANK, N = OUT * IN, N_TERMS = 3 };

static const double weights[N_TERMS] = {0.75, 1.5, 0.5}, scales[N_TERMS] = {2, 0.5, 1};
static float a[N_TERMS][N_A], b[N_TERMS][N_B];

static int set_up(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TERMS; t++) {
        for (size_t i = 0; i < N_A; i++)
            a[t][i] = sinf((float)(i * (t + 2) + 1));
        for (size_t i = 0; i < N_B; i++)
            b[t][i] = cosf((float)(i * (t + 3) + 2));
    }
    return 0;
}

/* --- the definition --- */

typedef struct method {
    lorakit_method method;
    bool factors; /* on A and B apart */
    lk_sparsity sparsity;
    bool elect, peft;
} method;

static const method methods[] = {
    {LORAKIT_SVD, false, LK_DENSE, false, false},
    {LORAKIT_MAGNITUDE_PRUNE_SVD, false, LK_LARGEST, false, false},
    {LORAKIT_DARE_LINEAR_SVD, false, LK_DRAWN, false, false},
    {LORAKIT_TIES_SVD, false, LK_LARGEST, true, false},
    {LORAKIT_DARE_TIES_SVD, false, LK_DRAWN, true, false},
    {LORAKIT_PEFT_LINEAR, true, LK_DENSE, false, true},
    {LORAKIT_PEFT_MAGNITUDE_PRUNE, true, LK_LARGEST, false, true},
    {LORAKIT_PEFT_DARE_LINEAR, true, LK_DRAWN, false, true},
    {LORAKIT_PEFT_TIES, true, LK_LARGEST, true, true},
    {LORAKIT_PEFT_DARE_TIES, true, LK_DRAWN, true, true},
    {LORAKIT_PEFT_SVD, false, LK_DENSE, false, true},
    {LORAKIT_PEFT_MAGNITUDE_PRUNE_SVD, false, LK_LARGEST, false, true},
    {LORAKIT_PEFT_DARE_LINEAR_SVD, false, LK_DRAWN, false, true},
    {LORAKIT_PEFT_TIES_SVD, false, LK_LARGEST, true, true},
    {LORAKIT_PEFT_DARE_TIES_SVD, false, LK_DRAWN, true, true},
};

static bool is_drawn(size_t term, unsigned role, size_t i)
{
    return (7 * i + 3 * term + role) % 5 != 0;
}

/* How many magnitudes come before that of x[i], largest first. */
static size_t place_of(const double *x, size_t n, size_t i)
{
    size_t place = 0;

    for (size_t j = 0; j < n; j++)
        place += fabs(x[j]) > fabs(x[i]) || (fabs(x[j]) == fabs(x[i]) && j < i);
    return place;
}

static void make_sparse(lk_sparsity sparsity, double density, size_t term, unsigned role, size_t n, const double *x, double *out)
{
    for (size_t i = 0; i < n; i++)
        if (sparsity == LK_LARGEST)
            out[i] = place_of(x, n, i) < (size_t)(density * (double)n) ? x[i] : 0;
        else if (sparsity == LK_DRAWN && density < 1)
            out[i] = is_drawn(term, role, i) ? x[i] / density : 0;
        else
            out[i] = x[i];
}

static double one_of_all(bool elect, bool by_frequency, size_t n, double x[N_TERMS][N], const double *w, size_t i)
{
    double votes = 0, sum = 0;
    size_t n_kept = 0;

    for (size_t t = 0; t < n; t++)
        votes += by_frequency ? (x[t][i] > 0) - (x[t][i] < 0) : x[t][i];
    for (size_t t = 0; t < n; t++)
        if (!elect || (votes < 0 ? x[t][i] < 0 : x[t][i] > 0)) {
            sum += w[t] * x[t][i];
            n_kept++;
        }
    return elect && n_kept ? sum / (double)n_kept : sum;
}

static void combine(const method *m, double density, bool by_frequency, unsigned role, size_t n, double x[N_TERMS][N],
                    const double *w, double *out)
{
    double sparse[N_TERMS][N];

    for (size_t t = 0; t < N_TERMS; t++)
        make_sparse(m->sparsity, density, t, role, n, x[t], sparse[t]);
    for (size_t i = 0; i < n; i++)
        out[i] = one_of_all(m->elect, by_frequency, N_TERMS, sparse, w, i);
}

static void multiply(const double *left, const double *right, double scale, double *out)
{
    for (size_t i = 0; i < OUT; i++)
        for (size_t j = 0; j < IN; j++) {
            out[i * IN + j] = 0;
            for (size_t p = 0; p < RANK; p++)
                out[i * IN + j] += scale * left[i * RANK + p] * right[p * IN + j];
        }
}

static void expect(const method *m, double density, bool by_frequency, double *out)
{
    double x_a[N_TERMS][N], x_b[N_TERMS][N], x[N_TERMS][N], w[N_TERMS], left[N], right[N];

    for (size_t t = 0; t < N_TERMS; t++) {
        for (size_t i = 0; i < N_A; i++)
            x_a[t][i] = (double)a[t][i];
        for (size_t i = 0; i < N_B; i++)
            x_b[t][i] = (double)b[t][i];
        multiply(x_b[t], x_a[t], scales[t], x[t]);
        w[t] = m->factors ? sqrt(weights[t] * scales[t]) : m->peft ? weights[t] * scales[t] : weights[t];
    }
    if (!m->factors) {
        combine(m, density, by_frequency, 0, N, x, w, out);
        return;
    }
    combine(m, density, by_frequency, LORAFMT_ROLE_A, N_A, x_a, w, right);
    combine(m, density, by_frequency, LORAFMT_ROLE_B, N_B, x_b, w, left);
    multiply(left, right, 1, out);
}

/* --- what the library makes --- */

static void draw(void *ctx, size_t term, const char *target, unsigned role, size_t n, uint8_t *kept)
{
    (void)ctx;
    assert_string_equal(target, "w.weight");
    for (size_t i = 0; i < n; i++)
        kept[i] = is_drawn(term, role, i);
}

static lorafmt_status compose(const lorakit_compose_options *options, lorakit_adapter **out, lorafmt_error *err)
{
    lorafmt_factor factors[N_TERMS][2];
    lorafmt_site sites[N_TERMS];
    lorafmt_adapter adapters[N_TERMS];
    lorakit_term terms[N_TERMS];

    for (size_t t = 0; t < N_TERMS; t++) {
        sites[t] = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, RANK, IN, OUT, a[t], b[t], factors[t]);
        sites[t].scale = scales[t];
        sites[t].scaling = LORAFMT_SCALING_EXPLICIT;
        adapters[t] = test_adapter("x", &sites[t], 1);
        terms[t] = (lorakit_term){&adapters[t], weights[t]};
    }
    return lorakit_compose(terms, N_TERMS, options, out, NULL, NULL, err);
}

/* The rank is that of the matrices, so that nothing is lost but by rounding. */
static void check(const method *m, double density, bool by_frequency)
{
    const lorakit_compose_options options = {.struct_size = sizeof options,
                                             .method = m->method,
                                             .density = m->sparsity == LK_DENSE ? 0 : density,
                                             .by_frequency = by_frequency,
                                             .draw = draw};
    double wanted[N], left[N] = {0}, right[N] = {0}, got[N];
    const lorafmt_site *site;
    lorakit_adapter *result;
    lorafmt_error err = {0};

    if (compose(&options, &result, &err) != LORAFMT_OK)
        fail_msg("%s: %s", lorakit_method_name(m->method), err.text);
    site = lorakit_adapter_get(result)->sites;
    assert_true(site->rank <= RANK);
    for (size_t p = 0; p < site->rank; p++) {
        for (size_t j = 0; j < IN; j++)
            right[p * IN + j] = (double)((const float *)site->factors[0].tensor.data)[p * IN + j];
        for (size_t i = 0; i < OUT; i++)
            left[i * RANK + p] = (double)((const float *)site->factors[1].tensor.data)[i * site->rank + p];
    }
    multiply(left, right, site->scale, got);
    expect(m, density, by_frequency, wanted);
    for (size_t i = 0; i < N; i++)
        if (fabs(got[i] - wanted[i]) > 1e-5)
            fail_msg("%s, density %g: element %zu is %g, must be %g", lorakit_method_name(m->method), density, i, got[i],
                     wanted[i]);
    lorakit_adapter_free(result);
}

static void test_methods(void **state)
{
    static const double densities[] = {1, 0.7, 0.35};

    (void)state;
    for (size_t k = 0; k < sizeof methods / sizeof methods[0]; k++)
        for (size_t d = 0; d < sizeof densities / sizeof densities[0]; d++)
            for (unsigned by_frequency = 0; by_frequency <= methods[k].elect; by_frequency++)
                check(&methods[k], densities[d], by_frequency != 0);
}

/* PEFT's svd_clamp: no factor has a number beyond that quantile, and some would have. */
static void test_clamp(void **state)
{
    lorakit_compose_options options = {.struct_size = sizeof options, .method = LORAKIT_PEFT_SVD, .clamp = 1};
    double most[2] = {0};
    lorakit_adapter *result;

    (void)state;
    for (size_t k = 0; k < 2; k++, options.clamp = 0.7) {
        assert_int_equal(compose(&options, &result, NULL), LORAFMT_OK);
        for (size_t f = 0; f < 2; f++) {
            const lorafmt_tensor *t = &lorakit_adapter_get(result)->sites[0].factors[f].tensor;
            for (size_t i = 0; i < t->size / sizeof(float); i++)
                most[k] = fmax(most[k], fabs((double)((const float *)t->data)[i]));
        }
        lorakit_adapter_free(result);
    }
    assert_true(most[1] < 0.9 * most[0]);
}

/* --- what is refused or left out --- */

static void test_options_refused(void **state)
{
    static const lorakit_weight of_none = {.term = N_TERMS, .pattern = "*", .weight = 1};
    static const struct {
        lorakit_compose_options options;
        const char *field;
    } cases[] = {
        {{.method = (lorakit_method)(LORAKIT_PEFT_DARE_TIES_SVD + 1)}, "method"},
        {{.method = LORAKIT_SUM, .density = 1}, "density"},
        {{.method = LORAKIT_TIES_SVD}, "density"},
        {{.method = LORAKIT_PEFT_TIES, .density = -0.5}, "density"},
        {{.method = LORAKIT_PEFT_DARE_TIES, .density = NAN}, "density"},
        {{.method = LORAKIT_SVD, .clamp = 0.5}, "clamp"},
        {{.method = LORAKIT_PEFT_LINEAR, .clamp = 0.5}, "clamp"},
        {{.method = LORAKIT_PEFT_SVD, .clamp = -0.5}, "clamp"},
        {{.method = LORAKIT_PEFT_SVD, .clamp = 1.5}, "clamp"},
        {{.n_weights = 1, .weights = &of_none}, "weights"},
        {{.dtype = LORAFMT_I64}, "dtype"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lorakit_compose_options options = cases[i].options;
        lorakit_adapter *result;
        lorafmt_error err = {0};
        options.struct_size = sizeof options;
        assert_int_equal(compose(&options, &result, &err), LORAFMT_MISUSE);
        assert_null(result);
        assert_string_equal(err.field, cases[i].field);
    }
}

static const float value[3] = {3e38f, 1, 2}, one_more[4] = {1, 1, 1, 1};
static const uint8_t flags[3] = {1, 0, 1};

static lorafmt_status compose_two(const lorafmt_adapter *x, const lorafmt_adapter *y, const lorakit_compose_options *options,
                                  lorakit_adapter **out, lorafmt_error *err)
{
    const lorakit_term terms[] = {{x, 1}, {y, 1}};

    return lorakit_compose(terms, 2, options, out, NULL, NULL, err);
}

/* Two adapters of one site each. */
static void assert_no_sum(const lorafmt_site *x, const lorafmt_site *y, lorafmt_status status, const char *part)
{
    const lorafmt_adapter first = test_adapter("x", x, 1), second = test_adapter("y", y, 1);
    lorakit_adapter *result;
    lorafmt_error err = {0};

    assert_int_equal(compose_two(&first, &second, NULL, &result, &err), status);
    assert_null(result);
    assert_string_equal(err.field, "w.weight");
    if (!strstr(err.text, part))
        fail_msg("'%s' does not say '%s'", err.text, part);
}

static void test_sites_that_do_not_go_together(void **state)
{
    lorafmt_factor f[6][2];
    const lorafmt_site low_rank = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, RANK, IN, OUT, a[0], b[0], f[0]);
    const lorafmt_site other_shape = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, RANK, OUT, IN, b[0], a[0], f[1]);
    const lorafmt_site saved = test_whole("w.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 3, 0, value), f[2]);
    const lorafmt_site added = test_whole("w.weight", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 3, 0, value), f[3]);
    const lorafmt_site longer = test_whole("w.weight", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 4, 0, one_more), f[4]);
    const lorafmt_site no_real = test_whole("w.weight", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_U8, 3, 0, flags), f[5]);
    lorafmt_site upper = low_rank, lower = low_rank, here = low_rank, there = low_rank;

    (void)state;
    upper.flags = lower.flags = LORAFMT_SITE_ROW_RANGE;
    upper.row_end = lower.row_begin = OUT;
    lower.row_end = 2 * OUT;
    here.flags = there.flags = LORAFMT_SITE_BASE_SHA256;
    there.base_sha256[31] = 1;
    assert_no_sum(&low_rank, &other_shape, LORAFMT_MISMATCH, "'x' and 'y' change it in other shapes");
    assert_no_sum(&added, &longer, LORAFMT_MISMATCH, "'x' and 'y' change it in other shapes");
    assert_no_sum(&added, &no_real, LORAFMT_UNSUPPORTED, "a value of U8, which has no sum");
    assert_no_sum(&added, &added, LORAFMT_LIMIT, "too large for F32"); // 3e38 twice
    assert_no_sum(&saved, &saved, LORAFMT_UNSUPPORTED, "has no sum with others");
    assert_no_sum(&saved, &low_rank, LORAFMT_UNSUPPORTED, "one adapter replaces it, another changes it");
    assert_no_sum(&upper, &lower, LORAFMT_UNSUPPORTED, "adapters change other parts of it");
    assert_no_sum(&here, &there, LORAFMT_MISMATCH, "'x' and 'y' were made for different bases");
}

static void test_other_bases(void **state)
{
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, RANK, IN, OUT, a[0], b[0], f);
    lorafmt_adapter x = test_adapter("x", &site, 1), y = test_adapter("y", &site, 1);
    lorakit_compose_options options = {.struct_size = sizeof options};
    lorafmt_error err = {0};
    lorakit_adapter *result;

    (void)state;
    x.has_base_structure = y.has_base_structure = true;
    x.base_name = "one"; // structures say more than names
    y.base_name = "two";
    assert_int_equal(compose_two(&x, &y, &options, &result, &err), LORAFMT_OK);
    lorakit_adapter_free(result);
    y.base_structure[0] = 1;
    assert_int_equal(compose_two(&x, &y, &options, &result, &err), LORAFMT_MISMATCH);
    assert_string_equal(err.field, "y");
    assert_int_equal(err.hint, LORAFMT_HINT_ANY_BASE);
    options.any_base = true;
    assert_int_equal(compose_two(&x, &y, &options, &result, &err), LORAFMT_OK);
    lorakit_adapter_free(result);
}

static void note(void *ctx, const char *adapter, const char *target, const char *text)
{
    snprintf(ctx, 200, "%s %s %s", adapter, target, text);
}

/* PEFT's methods take neither, and say so. */
static void test_left_out(void **state)
{
    char said[200] = "";
    const lorakit_compose_options options = {.struct_size = sizeof options,
                                             .method = LORAKIT_PEFT_LINEAR,
                                             .report = note,
                                             .report_ctx = said};
    lorafmt_factor dora[3], bias[1];
    lorafmt_site sites[2] = {test_whole("a.bias", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 3, 0, value), bias),
                             test_low_rank("w.weight", LORAFMT_KIND_LINEAR, RANK, IN, OUT, a[0], b[0], dora)};
    const lorafmt_adapter x = test_adapter("x", sites, 2), y = test_adapter("y", sites + 1, 1);
    lorakit_adapter *result;

    (void)state;
    assert_int_equal(compose_two(&x, &y, &options, &result, NULL), LORAFMT_OK);
    assert_string_equal(said, "x a.bias is left out, as PEFT does with what is not low-rank");
    assert_int_equal(lorakit_adapter_get(result)->n_sites, 1);
    lorakit_adapter_free(result);
    dora[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, OUT, 0, one_more)};
    sites[1].n_factors = 3;
    assert_int_equal(compose_two(&y, &y, &options, &result, NULL), LORAFMT_OK);
    assert_string_equal(said, "y w.weight its magnitude is left out, as PEFT does");
    assert_int_equal(lorakit_adapter_get(result)->sites[0].n_factors, 2);
    lorakit_adapter_free(result);
}

/* --- element by element --- */

static int descending(const void *x, const void *y)
{
    const double p = *(const double *)x, q = *(const double *)y;
    return (p < q) - (p > q);
}

/* Numbers with repeats, as they come from a few values; and in order, both ways. */
static void make_numbers(double *x, size_t n, unsigned kind)
{
    uint32_t seed = 1;

    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = kind == 0 ? (double)(seed >> 8) - 8e6 : kind == 1 ? (double)(seed >> 30) - 1 : kind == 2 ? (double)i : -(double)i;
    }
}

static void test_largest(void **state)
{
    enum { MOST = 20 };
    const double weight = 1;

    (void)state;
    for (unsigned kind = 0; kind < 4; kind++)
        for (size_t n = 1; n <= MOST; n++)
            for (size_t k = 0; k <= n; k++) {
                const lk_elements how = {.sparsity = LK_LARGEST, .density = ((double)k + 0.5) / (double)n};
                double x[MOST], *terms[] = {x}, before[MOST];
                make_numbers(x, n, kind);
                memcpy(before, x, sizeof x);
                assert_int_equal(lk_combine(&how, terms, &weight, 1, n, NULL, x, NULL), LORAFMT_OK);
                for (size_t i = 0; i < n; i++)
                    assert_true(x[i] == (place_of(before, n, i) < k ? before[i] : 0));
            }
}

static void test_quantile(void **state)
{
    enum { MOST = 31 };

    (void)state;
    for (unsigned kind = 0; kind < 4; kind++)
        for (size_t n = 1; n <= MOST; n++)
            for (unsigned q = 0; q <= 8; q++) {
                const double at = q / 8.0 * (double)(n - 1);
                const size_t low = (size_t)at, high = low + (low + 1 < n);
                double x[MOST], sorted[MOST], got;
                make_numbers(x, n, kind);
                memcpy(sorted, x, sizeof x);
                qsort(sorted, n, sizeof *sorted, descending);
                assert_int_equal(lk_quantile(x, n / 2, x + n / 2, n - n / 2, q / 8.0, &got, NULL), LORAFMT_OK);
                assert_true(got == sorted[n - 1 - low] + (at - (double)low) * (sorted[n - 1 - high] - sorted[n - 1 - low]));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),         cmocka_unit_test(test_clamp),
        cmocka_unit_test(test_options_refused), cmocka_unit_test(test_sites_that_do_not_go_together),
        cmocka_unit_test(test_other_bases),     cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_largest),         cmocka_unit_test(test_quantile),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
