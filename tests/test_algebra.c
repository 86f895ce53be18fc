/* SPDX-License-Identifier: MIT */
/*
 * Algebra in rank space against the same things done plainly: matrices formed in full, their singular values by Jacobi's rotations,
 * methods element by element as they are defined.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorakit/lorakit.h"
#include "tests/adapters.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { MOST = 48, N_NUMBERS = 65536 };

static float numbers[N_NUMBERS];

/* --- memory that is counted --- */

static _Atomic size_t largest;

static void count(size_t size)
{
    size_t before = largest;

    while (before < size && !atomic_compare_exchange_weak(&largest, &before, size))
        continue;
}

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
    count(size);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    count(n * size);
    return __real_calloc(n, size);
}
// NOLINTEND(bugprone-reserved-identifier)

/* --- the plain way --- */

typedef struct matrix {
    size_t n_rows, n_cols;
    double x[MOST][MOST];
} matrix;

/* scale B A of an F32 site. */
static matrix delta_of(const lorafmt_site *site)
{
    const lorafmt_tensor *a = &site->factors[0].tensor, *b = &site->factors[1].tensor;
    const float *x = a->data, *y = b->data;
    matrix m = {(size_t)b->shape[0], (size_t)a->shape[1], {{0}}};

    assert_true(a->dtype == LORAFMT_F32 && b->dtype == LORAFMT_F32);
    for (size_t i = 0; i < m.n_rows; i++)
        for (size_t j = 0; j < m.n_cols; j++) {
            for (size_t r = 0; r < site->rank; r++)
                m.x[i][j] += (double)y[i * site->rank + r] * (double)x[r * m.n_cols + j];
            m.x[i][j] *= site->scale;
        }
    return m;
}

static matrix add(double a, const matrix *x, double b, const matrix *y)
{
    matrix m = *x;

    for (size_t i = 0; i < m.n_rows; i++)
        for (size_t j = 0; j < m.n_cols; j++)
            m.x[i][j] = a * x->x[i][j] + b * y->x[i][j];
    return m;
}

static double norm_of(const matrix *m)
{
    double sum = 0;

    for (size_t i = 0; i < m->n_rows; i++)
        for (size_t j = 0; j < m->n_cols; j++)
            sum += m->x[i][j] * m->x[i][j];
    return sqrt(sum);
}

static double dot(const matrix *m, size_t p, size_t q)
{
    double sum = 0;

    for (size_t i = 0; i < m->n_rows; i++)
        sum += m->x[i][p] * m->x[i][q];
    return sum;
}

/* One-sided Jacobi: rotate columns until all are orthogonal; their lengths are the singular values. */
static void rotate(matrix *m, size_t p, size_t q)
{
    const double a = dot(m, p, p), b = dot(m, q, q), c = dot(m, p, q);
    const double zeta = (b - a) / (2 * c), t = (zeta >= 0 ? 1 : -1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    const double cosine = 1 / sqrt(1 + t * t), sine = cosine * t;

    if (fabs(c) <= 1e-17 * sqrt(a * b) || c == 0)
        return;
    for (size_t i = 0; i < m->n_rows; i++) {
        const double x = m->x[i][p], y = m->x[i][q];
        m->x[i][p] = cosine * x - sine * y;
        m->x[i][q] = sine * x + cosine * y;
    }
}

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x > y ? -1 : x < y;
}

static void singular_values(matrix m, double out[MOST])
{
    memset(out, 0, MOST * sizeof *out);
    for (int sweep = 0; sweep < 30; sweep++)
        for (size_t p = 0; p < m.n_cols; p++)
            for (size_t q = p + 1; q < m.n_cols; q++)
                rotate(&m, p, q);
    for (size_t j = 0; j < m.n_cols; j++)
        out[j] = sqrt(dot(&m, j, j));
    qsort(out, m.n_cols, sizeof *out, descending);
}

static double tail(const double *s, size_t k)
{
    double sum = 0;

    for (size_t i = k; i < MOST; i++)
        sum += s[i] * s[i];
    return sqrt(sum);
}

static void assert_near(double found, double wanted, double allowed)
{
    if (!(fabs(found - wanted) <= allowed))
        fail_msg("%.17g, not %.17g to %g", found, wanted, allowed);
}

static void assert_same(const matrix *found, const matrix *wanted, double allowed)
{
    const matrix difference = add(1, found, -1, wanted);

    assert_int_equal(found->n_rows, wanted->n_rows);
    assert_int_equal(found->n_cols, wanted->n_cols);
    assert_near(norm_of(&difference), 0, allowed * norm_of(wanted));
}

/* --- adapters --- */

typedef struct made {
    lorafmt_factor factors[4][2];
    lorafmt_site sites[4];
    lorafmt_adapter adapter;
} made;

static lorafmt_site linear(const char *target, uint32_t rank, uint64_t in, uint64_t out, double scale, size_t at,
                           lorafmt_factor f[2])
{
    lorafmt_site site = test_low_rank(target, LORAFMT_KIND_LINEAR, rank, in, out, numbers + at, numbers + at + 10000, f);

    site.alpha = scale * rank;
    site.scale = scale;
    return site;
}

/* a, b, c of several shapes and ranks; `at` chooses the numbers. */
static made make(const char *name, size_t at)
{
    made m = {.adapter = {.name = name}};

    m.sites[0] = linear("a.weight", 4, 20, 30, 2, at, m.factors[0]);
    m.sites[1] = linear("b.mlp.weight", 4, 40, 24, 0.5, at + 100, m.factors[1]);
    m.sites[2] = linear("c.weight", 12, 9, 10, -1.5, at + 200, m.factors[2]); // a rank above both dimensions
    return m;
}

static const lorafmt_adapter *adapter_of(made *m)
{
    for (size_t i = 0; i < 3; i++)
        m->sites[i].factors = m->factors[i];
    m->adapter = test_adapter(m->adapter.name, m->sites, 3);
    return &m->adapter;
}

static int fill_numbers(void **state)
{
    uint64_t x = 1;

    (void)state;
    for (size_t i = 0; i < N_NUMBERS; i++) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        numbers[i] = (float)((double)(x >> 40) / (1 << 24) - 0.5);
    }
    return 0;
}

/* --- spectra --- */

static void check_spectrum(const lorafmt_site *site)
{
    const matrix m = delta_of(site);
    lorakit_spectrum s;
    double wanted[MOST];

    singular_values(m, wanted);
    assert_int_equal(lorakit_spectrum_compute(site, 0, &s, NULL), LORAFMT_OK);
    for (size_t i = 0; i < s.n; i++)
        assert_near(s.values[i], wanted[i], 1e-13 * wanted[0]);
    assert_near(s.norm, norm_of(&m), 1e-13 * s.norm);
    assert_near(tail(wanted, s.n), 0, 1e-12 * wanted[0]);
    assert_near(lorakit_spectrum_energy(&s, 2), 1 - pow(tail(wanted, 2) / s.norm, 2), 1e-12);
    lorakit_spectrum_clear(&s);
}

static void test_spectra(void **state)
{
    made m = make("x", 0);
    const lorafmt_adapter *a = adapter_of(&m);

    (void)state;
    for (size_t i = 0; i < a->n_sites; i++)
        check_spectrum(&a->sites[i]);
}

/* Columns of B that depend on each other, nearly do, or are nothing. */
static void test_dependent_columns(void **state)
{
    static float b[30][4];
    made m = make("x", 0);
    lorakit_spectrum s;

    (void)state;
    adapter_of(&m);
    for (size_t i = 0; i < 30; i++) {
        b[i][0] = numbers[i + 500];
        b[i][1] = numbers[i + 700];
        b[i][2] = numbers[i + 600];
        b[i][3] = i == 3 ? b[i][2] + 1e-5F : b[i][2]; // what a Gram matrix no longer tells well
    }
    m.factors[0][1].tensor.data = b;
    check_spectrum(&m.sites[0]);
    for (size_t i = 0; i < 30; i++)
        b[i][1] = 2 * b[i][0];
    check_spectrum(&m.sites[0]);
    assert_int_equal(lorakit_spectrum_compute(&m.sites[0], 0, &s, NULL), LORAFMT_OK);
    assert_int_equal(s.true_rank, 3);
    lorakit_spectrum_clear(&s);
    for (size_t i = 0; i < 30; i++)
        b[i][1] = b[i][3] = 0;
    check_spectrum(&m.sites[0]);
    memset(b, 0, sizeof b);
    assert_int_equal(lorakit_spectrum_compute(&m.sites[0], 0, &s, NULL), LORAFMT_OK);
    assert_true(s.true_rank == 0 && s.norm == 0 && s.effective_rank == 0 && s.stable_rank == 0);
    lorakit_spectrum_clear(&s);
    b[7][2] = NAN;
    assert_int_equal(lorakit_spectrum_compute(&m.sites[0], 0, &s, NULL), LORAFMT_CORRUPT);
}

/* Equal values: as many effective and stable ones as there are. */
static void test_effective_rank(void **state)
{
    static const float unit[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("a", LORAFMT_KIND_LINEAR, 4, 4, 4, unit[0], unit[0], f);
    lorakit_spectrum s;

    (void)state;
    assert_int_equal(lorakit_spectrum_compute(&site, 0, &s, NULL), LORAFMT_OK);
    assert_near(s.effective_rank, 4, 1e-12);
    assert_near(s.stable_rank, 4, 1e-12);
    assert_int_equal(s.true_rank, 4);
    lorakit_spectrum_clear(&s);
}

/* --- rules --- */

static void test_rules(void **state)
{
    double values[] = {8, 4, 2, 1};
    const lorakit_spectrum s = {.n = 4, .values = values, .norm = sqrt(85), .true_rank = 4};
    const struct {
        lorakit_rank rule;
        uint32_t rank;
    } cases[] = {
        {{LORAKIT_LOSSLESS, 0, 0}, 4},        {{LORAKIT_LOSSLESS, 0, 3}, 3},
        {{LORAKIT_FIXED, 0, 2}, 2},           {{LORAKIT_FIXED, 0, 9}, 4}, // of 4 in all
        {{LORAKIT_ENERGY, 64.0 / 85, 0}, 1},  {{LORAKIT_ENERGY, 64.5 / 85, 0}, 2},
        {{LORAKIT_ENERGY, 1, 0}, 4},          {{LORAKIT_ENERGY, 1, 2}, 2},
        {{LORAKIT_MAX_ERROR, 0.999, 0}, 1},   {{LORAKIT_MAX_ERROR, 0.2426, 0}, 2}, // sqrt(5 / 85) is 0.24254
        {{LORAKIT_MAX_ERROR, 0.2425, 0}, 3},  {{LORAKIT_MAX_ERROR, 0, 0}, 4},
        {{LORAKIT_SV_RATIO, 3, 0}, 3},                                       // 8 and 4 are above 8 / 3: index 2
        {{LORAKIT_SV_RATIO, 1, 0}, 2},                                       // none is above: index 0, kept at 1
        {{LORAKIT_SV_RATIO, 100, 0}, 4},                                     // all: index 4, kept at 3
        {{LORAKIT_SV_CUMULATIVE, 0.5, 0}, 2},                                // 8 of 15 is enough: place 0, index 1
        {{LORAKIT_SV_CUMULATIVE, 0.8, 0}, 3},                                // 12 of 15: place 1, index 2
        {{LORAKIT_SV_FRO, 0.5, 0}, 2},        {{LORAKIT_SV_FRO, 0.9, 2}, 2}, // 0.81 of 85 takes 8 and 4: index 2
    };
    uint32_t rank;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(lorakit_spectrum_rank(&s, &cases[i].rule, &rank, NULL), LORAFMT_OK);
        if (rank != cases[i].rank)
            fail_msg("rule %d of %g: rank %u, not %u", (int)cases[i].rule.rule, cases[i].rule.value, rank, cases[i].rank);
    }
    assert_int_equal(lorakit_spectrum_rank(&s, &(lorakit_rank){LORAKIT_ENERGY, 1.1, 0}, &rank, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorakit_spectrum_rank(&s, &(lorakit_rank){LORAKIT_MAX_ERROR, 1, 0}, &rank, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorakit_spectrum_rank(&s, &(lorakit_rank){LORAKIT_ENERGY, NAN, 0}, &rank, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorakit_spectrum_rank(&s, &(lorakit_rank){(lorakit_rule)99, 0, 0}, &rank, NULL), LORAFMT_MISUSE);
}

/* --- resize --- */

/* What is lost is what is said, and no more than the values that are left out. */
static void check_resized(const lorafmt_site *before, const lorafmt_site *after, const lorakit_resized *said)
{
    const matrix was = delta_of(before), is = delta_of(after), lost = add(1, &was, -1, &is);
    double s[MOST];

    singular_values(was, s);
    assert_int_equal(after->rank, said->rank);
    assert_true(after->scale == before->scale && after->scaling == before->scaling);
    assert_near(said->norm, norm_of(&was), 1e-12 * said->norm);
    assert_near(said->truncated, tail(s, said->rank), 1e-12 * said->norm);
    assert_near(norm_of(&lost), hypot(said->truncated, said->rounded), 1e-6 * said->norm);
    assert_true(said->rounded <= 1e-6 * said->norm);
}

static void test_resize(void **state)
{
    static const lorakit_rank rules[] = {{LORAKIT_LOSSLESS, 0, 1},
                                         {LORAKIT_LOSSLESS, 0, 3},
                                         {LORAKIT_ENERGY, 0.9, 0},
                                         {LORAKIT_MAX_ERROR, 0.3, 0},
                                         {LORAKIT_SV_FRO, 0.8, 0}};
    made m = make("x", 0);
    const lorafmt_adapter *a = adapter_of(&m);
    lorakit_resized said[3];
    lorakit_adapter *r;

    (void)state;
    for (size_t k = 0; k < sizeof rules / sizeof rules[0]; k++) {
        const lorakit_resize_options options = {.struct_size = sizeof options, .rank = rules[k], .name = "small"};
        assert_int_equal(lorakit_resize(a, &options, said, &r, NULL), LORAFMT_OK);
        assert_string_equal(lorakit_adapter_get(r)->name, "small");
        for (size_t i = 0; i < 3; i++)
            check_resized(&a->sites[i], &lorakit_adapter_get(r)->sites[i], &said[i]);
        lorakit_adapter_free(r);
    }
}

/* Without a rule factors stay, bit for bit, but where the rank is above what there can be. */
static void test_resize_loses_nothing(void **state)
{
    made m = make("x", 0);
    const lorafmt_adapter *a = adapter_of(&m);
    lorakit_resized said[3];
    const lorafmt_site *after;
    lorakit_adapter *r;

    (void)state;
    assert_int_equal(lorakit_resize(a, NULL, said, &r, NULL), LORAFMT_OK);
    after = lorakit_adapter_get(r)->sites;
    for (size_t i = 0; i < 2; i++)
        for (unsigned f = 0; f < 2; f++)
            assert_memory_equal(after[i].factors[f].tensor.data, a->sites[i].factors[f].tensor.data,
                                a->sites[i].factors[f].tensor.size);
    assert_true(said[0].truncated == 0 && said[0].rounded == 0 && said[0].rank == 4);
    assert_int_equal(said[2].rank, 9);
    check_resized(&a->sites[2], &after[2], &said[2]);
    lorakit_adapter_free(r);
}

/* Filled up with zeros, where a matrix can have so many. */
static void test_fixed_rank(void **state)
{
    made m = make("x", 0);
    const lorafmt_adapter *a = adapter_of(&m);
    lorakit_resize_options options = {.struct_size = sizeof options, .rank = {LORAKIT_FIXED, 0, 15}};
    lorakit_resized said[3];
    lorafmt_error err;
    lorakit_adapter *r;

    (void)state;
    assert_int_equal(lorakit_resize(a, &options, said, &r, NULL), LORAFMT_OK);
    assert_true(said[0].rank == 15 && said[1].rank == 15 && said[2].rank == 9);
    for (size_t i = 0; i < 3; i++)
        check_resized(&a->sites[i], &lorakit_adapter_get(r)->sites[i], &said[i]);
    lorakit_adapter_free(r);
    options.rank.most = 25;
    assert_int_equal(lorakit_resize(a, &options, said, &r, &err), LORAFMT_MISUSE);
    assert_string_equal(err.text, "25, no matrix that is changed can have more than 24");
}

/* A budget is kept, and no other choice of as many bytes of equal sites keeps more. */
static void test_budget(void **state)
{
    made m = make("x", 0);
    const lorafmt_adapter *a;
    lorakit_resize_options options = {.struct_size = sizeof options};
    lorakit_resized said[3];
    double s[2][MOST];
    lorakit_adapter *r;

    (void)state;
    m.sites[1] = linear("b.weight", 4, 20, 30, 0.9, 4000, m.factors[1]);
    adapter_of(&m);
    m.adapter.n_sites = 2;
    a = &m.adapter;
    for (size_t i = 0; i < 2; i++)
        singular_values(delta_of(&a->sites[i]), s[i]);
    for (size_t ranks = 2; ranks <= 8; ranks++) {
        options.budget = ranks * 50 * 4 + 7;
        assert_int_equal(lorakit_resize(a, &options, said, &r, NULL), LORAFMT_OK);
        assert_int_equal(said[0].rank + said[1].rank, ranks);
        for (size_t k = 1; k < ranks; k++)
            if (k <= 4 && ranks - k <= 4)
                assert_true(hypot(said[0].truncated, said[1].truncated) <= hypot(tail(s[0], k), tail(s[1], ranks - k)) + 1e-12);
        lorakit_adapter_free(r);
    }
    options.budget = 50 * 4;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, NULL), LORAFMT_MISUSE);
    options.rank.most = 3;
    options.budget = 10000;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, NULL), LORAFMT_MISUSE);
}

static bool never(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    return done == 0 || total == 0;
}

static void test_resize_refusals(void **state)
{
    made m = make("x", 0);
    const lorafmt_adapter *a = adapter_of(&m);
    lorakit_resize_options options = {.struct_size = sizeof options, .progress = never};
    static float large[80];
    lorakit_adapter *r;
    lorafmt_error err;

    (void)state;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, NULL), LORAFMT_CANCELLED);
    options.progress = NULL;
    options.dtype = LORAFMT_I8;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, NULL), LORAFMT_MISUSE);
    options.dtype = LORAFMT_F16;
    for (size_t i = 0; i < 80; i++)
        large[i] = 1e30F * numbers[i];
    m.factors[0][0].tensor.data = large;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, &err), LORAFMT_LIMIT);
    assert_string_equal(err.field, "a.weight");
    large[3] = INFINITY;
    options.dtype = 0;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, &err), LORAFMT_CORRUPT);
    memset(large, 0, sizeof large);
    m.adapter.n_sites = 1;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, &err), LORAFMT_UNSUPPORTED);
    assert_string_equal(err.field, "x");
    m.adapter.n_sites = 3;
    m.sites[1].kind = 99;
    assert_int_equal(lorakit_resize(a, &options, NULL, &r, &err), LORAFMT_UNSUPPORTED);
    assert_string_equal(err.field, "b.mlp.weight");
    assert_null(r);
}

/* --- compose --- */

typedef struct composed {
    lorakit_adapter *adapter;
    const lorafmt_site *sites;
    lorakit_composed *said;
    size_t n;
} composed;

static composed compose(const lorakit_term *terms, size_t n, const lorakit_compose_options *options)
{
    composed c;

    assert_int_equal(lorakit_compose(terms, n, options, &c.adapter, &c.said, &c.n, NULL), LORAFMT_OK);
    c.sites = lorakit_adapter_get(c.adapter)->sites;
    assert_int_equal(c.n, lorakit_adapter_get(c.adapter)->n_sites);
    return c;
}

static void discard(composed *c)
{
    lorakit_adapter_free(c->adapter);
    free(c->said);
}

static matrix sum_of(const lorafmt_site *x, double a, const lorafmt_site *y, double b)
{
    const matrix dx = delta_of(x), dy = delta_of(y);

    return add(a, &dx, b, &dy);
}

static void test_sum(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 0.7}, {adapter_of(&y), -1.3}};
    composed c;

    (void)state;
    y.sites[0] = linear("a.weight", 3, 20, 30, 0.25, 3000, y.factors[0]); // another rank and scale
    c = compose(terms, 2, NULL);
    assert_int_equal(c.n, 3);
    for (size_t i = 0; i < 3; i++) {
        const matrix found = delta_of(&c.sites[i]), wanted = sum_of(&x.sites[i], 0.7, &y.sites[i], -1.3);
        assert_same(&found, &wanted, 2e-7);
        assert_string_equal(c.said[i].target, c.sites[i].target);
    }
    assert_int_equal(c.sites[0].rank, 7);
    assert_int_equal(c.sites[2].rank, 9); // of 24 in a matrix of 10 x 9
    discard(&c);
}

/* Shared directions are counted once, whether they are the same factors or others. */
static void test_sum_has_the_true_rank(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 1}, {adapter_of(&y), 0.5}, {adapter_of(&x), -0.25}};
    const lorakit_term nothing[] = {{adapter_of(&x), 1}, {adapter_of(&x), -1}};
    const lorafmt_adapter only_b = test_adapter("b", &x.sites[1], 1);
    const lorakit_term terms_but_one[] = {{adapter_of(&x), 1}, {adapter_of(&x), -1}, {&only_b, 0.5}};
    matrix found, wanted;
    lorakit_adapter *r;
    lorafmt_error err;
    composed c;

    (void)state;
    c = compose(terms, 3, NULL);
    assert_int_equal(c.sites[0].rank, 8);
    assert_int_equal(c.said[0].rank_sum, 12);
    found = delta_of(&c.sites[0]);
    wanted = sum_of(&x.sites[0], 0.75, &y.sites[0], 0.5);
    assert_same(&found, &wanted, 2e-7);
    discard(&c);
    c = compose(terms_but_one, 3, NULL);
    found = delta_of(&c.sites[0]);
    assert_int_equal(c.sites[0].rank, 1);
    assert_true(norm_of(&found) == 0 && c.said[0].norm == 0 && c.said[1].norm > 0);
    discard(&c);
    assert_int_equal(lorakit_compose(nothing, 2, NULL, &r, NULL, NULL, &err), LORAFMT_UNSUPPORTED);
    assert_string_equal(err.text, "every update comes out as zero: there is nothing to write");
}

/* Powers of two, and one alone, leave the factors' bits as they are. */
static void test_sum_keeps_bits(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 2}, {adapter_of(&y), -0.5}}, one[] = {{adapter_of(&x), 3}};
    composed c;

    (void)state;
    c = compose(terms, 2, NULL);
    assert_memory_equal(c.sites[0].factors[0].tensor.data, x.factors[0][0].tensor.data, x.factors[0][0].tensor.size);
    assert_true(c.said[0].rounded == 0);
    discard(&c);
    c = compose(one, 1, NULL);
    assert_true(c.sites[0].factors == x.factors[0]);
    assert_true(c.sites[0].scale == 6 && c.sites[0].alpha == 24);
    discard(&c);
}

static void test_weights(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 1}, {adapter_of(&y), 1}};
    lorakit_weight weights[] = {{1, "*", 0}, {1, "b.*", 2}, {0, "c", -1}};
    const lorakit_compose_options options = {.struct_size = sizeof options, .weights = weights, .n_weights = 3};
    const double wanted[3][2] = {{1, 0}, {1, 2}, {-1, 0}};
    lorakit_adapter *r;
    lorafmt_error err;
    composed c;

    (void)state;
    c = compose(terms, 2, &options);
    for (size_t i = 0; i < 3; i++) {
        const matrix found = delta_of(&c.sites[i]), sum = sum_of(&x.sites[i], wanted[i][0], &y.sites[i], wanted[i][1]);
        assert_same(&found, &sum, 2e-7);
    }
    discard(&c);
    weights[1].pattern = "d.*";
    assert_int_equal(lorakit_compose(terms, 2, &options, &r, NULL, NULL, &err), LORAFMT_MISUSE);
    assert_string_equal(err.field, "d.*");
}

static void test_svd(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 1}, {adapter_of(&y), 0.5}};
    const lorakit_compose_options options = {.struct_size = sizeof options, .method = LORAKIT_SVD, .rank = {.most = 5}};
    composed c;

    (void)state;
    c = compose(terms, 2, &options);
    for (size_t i = 0; i < 3; i++) {
        const matrix found = delta_of(&c.sites[i]), sum = sum_of(&x.sites[i], 1, &y.sites[i], 0.5),
                     lost = add(1, &sum, -1, &found);
        double s[MOST];
        singular_values(sum, s);
        assert_int_equal(c.sites[i].rank, 5);
        assert_near(norm_of(&lost), tail(s, 5), 1e-6 * norm_of(&sum));
        assert_near(c.said[i].truncated, tail(s, 5), 1e-12 * norm_of(&sum));
    }
    discard(&c);
}

/* Every third element of term 0, every second of others. */
static void draw_some(void *ctx, size_t term, const char *target, unsigned role, size_t n, uint8_t *kept)
{
    (void)ctx, (void)target, (void)role;
    for (size_t i = 0; i < n; i++)
        kept[i] = i % (term ? 2 : 3) == 0;
}

/* DARE and TIES as they are defined, on two updates, at full rank. */
static void test_dare_ties(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 0.6}, {adapter_of(&y), -0.8}};
    const lorakit_compose_options options = {.struct_size = sizeof options,
                                             .method = LORAKIT_DARE_TIES_SVD,
                                             .rank = {.rule = LORAKIT_ENERGY, .value = 1},
                                             .density = 0.5,
                                             .draw = draw_some};
    matrix d[2], wanted = {30, 20, {{0}}}, found;
    composed c;

    (void)state;
    d[0] = delta_of(&x.sites[0]);
    d[1] = delta_of(&y.sites[0]);
    for (size_t i = 0; i < 30; i++)
        for (size_t j = 0; j < 20; j++) {
            const double a = (i * 20 + j) % 3 == 0 ? 2 * d[0].x[i][j] : 0, b = (i * 20 + j) % 2 == 0 ? 2 * d[1].x[i][j] : 0;
            const double sign = a + b < 0 ? -1 : 1;
            const bool with_a = a * sign > 0, with_b = b * sign > 0;
            wanted.x[i][j] = with_a || with_b ? ((with_a ? 0.6 * a : 0) + (with_b ? -0.8 * b : 0)) / (with_a + with_b) : 0;
        }
    c = compose(terms, 2, &options);
    found = delta_of(&c.sites[0]);
    assert_same(&found, &wanted, 1e-6);
    discard(&c);
}

/* PEFT's linear has products of one adapter's B with the other's A. */
static void test_peft_linear(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 0.5}, {adapter_of(&y), -1}};
    const lorakit_compose_options options = {.struct_size = sizeof options, .method = LORAKIT_PEFT_LINEAR};
    const double p = sqrt(0.5 * 2), q = sqrt(1 * 2); // roots of |w s|
    const float *ax = x.factors[0][0].tensor.data, *bx = x.factors[0][1].tensor.data, *ay = y.factors[0][0].tensor.data,
                *by = y.factors[0][1].tensor.data;
    matrix wanted = {30, 20, {{0}}}, found;
    composed c;

    (void)state;
    for (size_t i = 0; i < 30; i++)
        for (size_t j = 0; j < 20; j++)
            for (size_t r = 0; r < 4; r++)
                wanted.x[i][j] += (p * (double)bx[i * 4 + r] + q * (double)by[i * 4 + r]) *
                                  (p * (double)ax[r * 20 + j] - q * (double)ay[r * 20 + j]);
    c = compose(terms, 2, &options);
    found = delta_of(&c.sites[0]);
    assert_same(&found, &wanted, 1e-6);
    discard(&c);
}

/* The same seed draws the same, another one does not. */
static void test_seeds(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    const lorakit_term terms[] = {{adapter_of(&x), 1}, {adapter_of(&y), 1}};
    lorakit_compose_options options = {.struct_size = sizeof options, .method = LORAKIT_PEFT_DARE_LINEAR, .density = 0.5};
    uint8_t ids[3][32];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        composed c;
        options.seed = i / 2;
        c = compose(terms, 2, &options);
        lorafmt_adapter_id(lorakit_adapter_get(c.adapter), ids[i]);
        discard(&c);
    }
    assert_memory_equal(ids[0], ids[1], 32);
    assert_memory_not_equal(ids[0], ids[2], 32);
}

/* Additive sites have an exact sum; what replaces a tensor has none. */
static void test_whole_tensors(void **state)
{
    static float v[2][3] = {{1, 2, 3}, {10, 20, -40}};
    lorafmt_factor f[2][1];
    lorafmt_site sites[2];
    lorafmt_adapter adapters[2];
    lorakit_term terms[] = {{&adapters[0], 2}, {&adapters[1], 0.5}};
    lorakit_adapter *r;
    lorafmt_error err;
    composed c;

    (void)state;
    for (int i = 0; i < 2; i++) {
        sites[i] = test_whole("n.bias", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 3, 0, v[i]), f[i]);
        adapters[i] = test_adapter(i ? "y" : "x", &sites[i], 1);
    }
    c = compose(terms, 2, NULL);
    assert_memory_equal(c.sites[0].factors[0].tensor.data, ((float[]){7, 14, -14}), 12);
    discard(&c);
    for (int i = 0; i < 2; i++)
        sites[i].kind = LORAFMT_KIND_SAVED;
    terms[0].weight = terms[1].weight = 1;
    assert_int_equal(lorakit_compose(terms, 2, NULL, &r, NULL, NULL, &err), LORAFMT_UNSUPPORTED);
    assert_string_equal(err.field, "n.bias");
    terms[1].weight = 0;
    c = compose(terms, 2, NULL);
    assert_true(c.sites[0].factors == f[0]);
    discard(&c);
}

static void test_dora(void **state)
{
    static float magnitude[30];
    lorafmt_factor f[3];
    made x = make("x", 0), y = make("y", 7000);
    lorakit_term terms[] = {{adapter_of(&x), 1}, {adapter_of(&y), 1}};
    lorakit_adapter *r;
    lorafmt_error err;
    composed c;

    (void)state;
    memcpy(f, x.factors[0], sizeof x.factors[0]);
    f[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 30, 0, magnitude)};
    x.sites[0].factors = f;
    x.sites[0].n_factors = 3;
    assert_int_equal(lorakit_compose(terms, 2, NULL, &r, NULL, NULL, &err), LORAFMT_UNSUPPORTED);
    assert_string_equal(err.field, "a.weight");
    terms[1].weight = 0; // alone it is what it is
    c = compose(terms, 2, NULL);
    assert_int_equal(c.sites[0].n_factors, 3);
    discard(&c);
}

static void test_compose_refusals(void **state)
{
    made x = make("x", 0), y = make("y", 7000);
    lorakit_term terms[] = {{adapter_of(&x), 1}, {adapter_of(&y), 1}};
    lorakit_compose_options options = {.struct_size = sizeof options};
    lorakit_adapter *r;
    lorafmt_error err;
    composed c;

    (void)state;
    x.adapter.base_name = "org/model-a";
    y.adapter.base_name = "model-b";
    assert_int_equal(lorakit_compose(terms, 2, &options, &r, NULL, NULL, &err), LORAFMT_MISMATCH);
    assert_int_equal(err.hint, LORAFMT_HINT_ANY_BASE);
    options.any_base = true;
    c = compose(terms, 2, &options);
    discard(&c);
    options.any_base = false;
    y.adapter.base_name = "/models/model-a"; // the same, elsewhere
    c = compose(terms, 2, &options);
    discard(&c);
    options.density = 0.5;
    assert_int_equal(lorakit_compose(terms, 2, &options, &r, NULL, NULL, &err), LORAFMT_MISUSE);
    options = (lorakit_compose_options){.struct_size = sizeof options, .method = LORAKIT_TIES_SVD, .density = 1.5};
    assert_int_equal(lorakit_compose(terms, 2, &options, &r, NULL, NULL, &err), LORAFMT_MISUSE);
    options = (lorakit_compose_options){.struct_size = sizeof options, .method = LORAKIT_PEFT_LINEAR};
    y.sites[0] = linear("a.weight", 3, 20, 30, 1, 0, y.factors[0]);
    assert_int_equal(lorakit_compose(terms, 2, &options, &r, NULL, NULL, &err), LORAFMT_UNSUPPORTED);
    y.sites[0] = linear("a.weight", 4, 21, 30, 1, 0, y.factors[0]);
    assert_int_equal(lorakit_compose(terms, 2, NULL, &r, NULL, NULL, &err), LORAFMT_MISMATCH);
    terms[0].weight = terms[1].weight = 0;
    assert_int_equal(lorakit_compose(terms, 2, NULL, &r, NULL, NULL, &err), LORAFMT_MISUSE);
    terms[0].weight = INFINITY;
    assert_int_equal(lorakit_compose(terms, 2, NULL, &r, NULL, NULL, &err), LORAFMT_MISUSE);
    assert_null(r);
}

/* --- memory --- */

/* Nothing as large as the matrix is ever asked for. */
static void test_no_full_matrix(void **state)
{
    enum { OUT = 900, IN = 1100, R = 6 };
    lorafmt_factor f[2][2];
    lorafmt_site sites[2];
    lorafmt_adapter adapters[2];
    const lorakit_term terms[] = {{&adapters[0], 1}, {&adapters[1], 0.5}};
    const lorakit_compose_options options = {.struct_size = sizeof options, .method = LORAKIT_SVD, .rank = {.most = R}};
    const lorakit_resize_options half = {.struct_size = sizeof half, .rank = {.most = R / 2}};
    lorakit_adapter *r;
    composed c;

    (void)state;
    for (int i = 0; i < 2; i++) {
        sites[i] =
            test_low_rank("a.weight", LORAFMT_KIND_LINEAR, R, IN, OUT, numbers + 20000 * i, numbers + 20000 * i + 7000, f[i]);
        adapters[i] = test_adapter("x", &sites[i], 1);
    }
    largest = 0;
    c = compose(terms, 2, &options);
    discard(&c);
    c = compose(terms, 2, NULL);
    discard(&c);
    assert_int_equal(lorakit_resize(&adapters[0], &half, NULL, &r, NULL), LORAFMT_OK);
    lorakit_adapter_free(r);
    assert_true(largest > 0 && largest <= sizeof(double) * IN * 4 * R); // twice the thin matrix of both
    assert_true(largest < sizeof(float) * OUT * IN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spectra),
        cmocka_unit_test(test_dependent_columns),
        cmocka_unit_test(test_effective_rank),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_resize_loses_nothing),
        cmocka_unit_test(test_fixed_rank),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_resize_refusals),
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_sum_has_the_true_rank),
        cmocka_unit_test(test_sum_keeps_bits),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_svd),
        cmocka_unit_test(test_dare_ties),
        cmocka_unit_test(test_peft_linear),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_whole_tensors),
        cmocka_unit_test(test_dora),
        cmocka_unit_test(test_compose_refusals),
        cmocka_unit_test(test_no_full_matrix),
    };
    return cmocka_run_group_tests(tests, fill_numbers, NULL);
}
