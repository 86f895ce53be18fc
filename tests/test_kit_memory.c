/* SPDX-License-Identifier: MIT */
/* Memory that the algebra of adapters does not get: each request fails in turn, and nothing comes out but NO_MEMORY. */
#include "lorakit/lorakit.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"

#include <math.h>
#include <stdlib.h>

enum { OUT = 6, IN = 5, RANK = 3, N_EXPERTS = 2, N = N_EXPERTS * OUT * RANK };

/* --- two adapters, of everything that is added up --- */

typedef struct made {
    float a[N], b[N];
    lorafmt_factor linear[3], experts[2], bias[1];
    lorafmt_site sites[3];
    lorafmt_adapter adapter;
} made;

static made x, y;

static void make(made *m, float step)
{
    for (size_t i = 0; i < N; i++) {
        m->a[i] = sinf(step * (float)(i + 1));
        m->b[i] = cosf(step * (float)(i + 2));
    }
    m->sites[0] = test_whole("bias", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, OUT, 0, m->b), m->bias);
    m->sites[1] = test_low_rank("experts", LORAFMT_KIND_EXPERTS, RANK, IN, OUT, m->a, m->b, m->experts);
    m->experts[0].tensor = test_tensor(LORAFMT_F32, N_EXPERTS * RANK, IN, m->a);
    m->experts[1].tensor = test_tensor(LORAFMT_F32, N_EXPERTS * OUT, RANK, m->b);
    m->sites[2] = test_low_rank("q.weight", LORAFMT_KIND_LINEAR, RANK, IN, OUT, m->a, m->b, m->linear);
    m->adapter = test_adapter("x", m->sites, 3);
}

static int set_up(void **state)
{
    (void)state;
    make(&x, 0.7f);
    make(&y, 1.1f);
    return 0;
}

/* What was made, or not: it is given back. */
static lorafmt_status done(lorafmt_status st, lorakit_adapter *adapter)
{
    assert_int_equal(adapter != NULL, st == LORAFMT_OK);
    lorakit_adapter_free(adapter);
    return st;
}

/* --- operations --- */

static lorafmt_status compose(const void *ctx, lorafmt_error *err)
{
    static const lorakit_weight weight = {1, "q*", 0.25};
    static const lorakit_term terms[] = {{&x.adapter, 1}, {&y.adapter, -0.5}};
    const lorakit_method method = *(const lorakit_method *)ctx;
    const bool is_sparse =
        method > LORAKIT_SVD && method != LORAKIT_PEFT_CAT && method != LORAKIT_PEFT_LINEAR && method != LORAKIT_PEFT_SVD;
    const lorakit_compose_options options = {.struct_size = sizeof options,
                                             .method = method,
                                             .density = is_sparse ? 0.5 : 0,
                                             .weights = &weight,
                                             .n_weights = 1,
                                             .n_threads = 1};
    lorakit_composed *sites;
    lorakit_adapter *out;
    size_t n;
    const lorafmt_status st = lorakit_compose(terms, 2, &options, &out, &sites, &n, err);

    assert_int_equal(sites != NULL, st == LORAFMT_OK);
    free(sites);
    return done(st, out);
}

static lorafmt_status resize(const void *options, lorafmt_error *err)
{
    lorakit_resized sites[3];
    lorakit_adapter *out;
    const lorafmt_status st = lorakit_resize(&x.adapter, options, sites, &out, err);

    return done(st, out);
}

static lorafmt_status make_uniform(const void *unused, lorafmt_error *err)
{
    lorakit_uniformed said;
    lorakit_adapter *out;
    const lorafmt_status st = lorakit_uniform(&x.adapter, &said, &out, err);

    (void)unused;
    return done(st, out);
}

static lorafmt_status compute_spectrum(const void *unused, lorafmt_error *err)
{
    lorakit_spectrum spectrum;
    const lorafmt_status st = lorakit_spectrum_compute(&x.sites[1], 1, &spectrum, err);

    (void)unused;
    assert_int_equal(spectrum.values != NULL, st == LORAFMT_OK);
    lorakit_spectrum_clear(&spectrum);
    return st;
}

/* --- two models --- */

static lorafmt_status read_numbers(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    (void)tensor, (void)err;
    memcpy(dst, (const uint8_t *)ctx + offset, size);
    return LORAFMT_OK;
}

static lorafmt_status extract(const void *options, lorafmt_error *err)
{
    static const lorafmt_base_tensor tensors[] = {{"bias", LORAFMT_F32, 1, {OUT}, 4 * OUT},
                                                  {"q.weight", LORAFMT_F32, 2, {RANK, OUT}, 4 * RANK * OUT}};
    const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 2, .tensors = tensors, .read = read_numbers, .ctx = x.a},
                       tuned = {.struct_size = sizeof tuned,
                                .n_tensors = 2,
                                .tensors = tensors,
                                .read = read_numbers,
                                .ctx = y.a};
    lorakit_extracted found[2];
    lorakit_adapter *out;
    const lorafmt_status st = lorakit_extract(&base, &tuned, options, found, &out, err);

    return done(st, out);
}

/* --- tests --- */

static void test_methods(void **state)
{
    (void)state;
    for (lorakit_method method = LORAKIT_SUM; method <= LORAKIT_PEFT_DARE_TIES_SVD; method++)
        assert_int_equal(refuse_each(compose, &method), 0);
}

static void test_resize(void **state)
{
    const lorakit_resize_options rank = {.struct_size = sizeof rank, .rank = {.most = 2}, .n_threads = 1},
                                 budget = {.struct_size = sizeof budget, .budget = 400, .n_threads = 1};

    (void)state;
    assert_int_equal(refuse_each(resize, &rank), 0);
    assert_int_equal(refuse_each(resize, &budget), 0);
    assert_int_equal(refuse_each(make_uniform, NULL), 0);
    assert_int_equal(refuse_each(compute_spectrum, NULL), 0);
}

static void test_extract(void **state)
{
    const lorakit_others others[] = {LORAKIT_OTHERS_ADDITIVE, LORAKIT_OTHERS_REPLACE, LORAKIT_OTHERS_SKIP};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const lorakit_extract_options options = {.struct_size = sizeof options,
                                                 .rank = {.most = 2},
                                                 .others = others[i],
                                                 .n_threads = 1};
        assert_int_equal(refuse_each(extract, &options), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_extract),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
