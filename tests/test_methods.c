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
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_clamp),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_quantile),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
