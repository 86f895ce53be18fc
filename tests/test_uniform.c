/* SPDX-License-Identifier: MIT */
/* One rank and one scale for all sites: what is bit for bit the same, and what folding costs where it cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorafmt/view.h"
#include "lorakit/uniform.h"
#include "tests/adapters.h"

#include <float.h>
#include <math.h>

enum { IN = 5, OUT = 4, MOST_RANK = 8, MOST_SITES = 4 };

static float numbers_a[MOST_RANK * IN], numbers_b[OUT * MOST_RANK];
static const char *const names[MOST_SITES] = {"a.weight", "b.weight", "c.weight", "d.weight"};

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < MOST_RANK * IN; i++)
        numbers_a[i] = sinf((float)i + 1);
    for (size_t i = 0; i < OUT * MOST_RANK; i++)
        numbers_b[i] = cosf((float)i + 1);
    return 0;
}

typedef struct made {
    lorafmt_factor factors[MOST_SITES][2];
    lorafmt_site sites[MOST_SITES];
    lorafmt_adapter adapter;
} made;

static void make(made *m, size_t n, const uint32_t *ranks, const double *scales)
{
    for (size_t i = 0; i < n; i++) {
        m->sites[i] = test_low_rank(names[i], LORAFMT_KIND_LINEAR, ranks[i], IN, OUT, numbers_a, numbers_b, m->factors[i]);
        m->sites[i].scale = scales[i];
        m->sites[i].scaling = LORAFMT_SCALING_EXPLICIT;
    }
    m->adapter = test_adapter("x", m->sites, n);
}

/* Row by row of a base whose elements are +0 and -0 by turns, and 1/3: signs and last bits show everything. */
static void merge(const lorafmt_adapter *adapter, float out[MOST_SITES][OUT * IN])
{
    lorafmt_base_tensor tensors[MOST_SITES];
    const lorafmt_stack_entry entry = {.adapter = adapter, .weight = 1};
    lorafmt_base base = {.struct_size = sizeof base, .n_tensors = adapter->n_sites, .tensors = tensors};
    lorafmt_view *view;
    float row[OUT * IN];

    for (size_t i = 0; i < OUT * IN; i++)
        row[i] = i % 3 == 0 ? 0.0f : i % 3 == 1 ? -0.0f : 1.0f / 3.0f;
    for (size_t i = 0; i < adapter->n_sites; i++)
        tensors[i] = (lorafmt_base_tensor){adapter->sites[i].target, LORAFMT_F32, 2, {OUT, IN}, sizeof row};
    assert_int_equal(lorafmt_bind(&base, &entry, 1, NULL, &view, NULL), LORAFMT_OK);
    for (size_t i = 0; i < adapter->n_sites; i++)
        assert_int_equal(lorafmt_view_evaluate(view, i, 0, OUT, row, IN * sizeof *row, out[i], IN * sizeof *row, NULL, NULL),
                         LORAFMT_OK);
    lorafmt_view_free(view);
}

static void assert_uniform(const lorafmt_adapter *adapter, const lorakit_uniformed *said)
{
    assert_true(said->alpha / said->rank == said->scale);
    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        assert_int_equal(site->rank, said->rank);
        assert_true(site->alpha == said->alpha && site->scale == said->scale);
        assert_int_equal(site->scaling, LORAFMT_SCALING_ALPHA_R);
        assert_int_equal(site->factors[0].tensor.shape[0], said->rank);
        assert_int_equal(site->factors[1].tensor.shape[1], said->rank);
    }
}

static void test_padding_and_powers_of_two_change_no_bit(void **state)
{
    static const uint32_t ranks[] = {2, 4, 3};
    static const double scales[] = {0.7, 0.7, 1.4};
    float before[MOST_SITES][OUT * IN], after[MOST_SITES][OUT * IN];
    lorakit_uniformed said;
    lorakit_adapter *result;
    made m;

    (void)state;
    make(&m, 3, ranks, scales);
    assert_int_equal(lorakit_uniform(&m.adapter, &said, &result, NULL), LORAFMT_OK);
    assert_uniform(lorakit_adapter_get(result), &said);
    assert_int_equal(said.rank, 4);
    assert_true(said.scale == 0.7);
    assert_int_equal(said.n_padded, 2);
    assert_int_equal(said.n_folded, 1);
    assert_true(said.rounding == 0);
    merge(&m.adapter, before);
    merge(lorakit_adapter_get(result), after);
    assert_memory_equal(before, after, 3 * sizeof *before);
    lorakit_adapter_free(result);
}

/* A product of small numbers may be -0 where all that is padded is +0: the sum would lose its sign. */
static void test_padding_keeps_negative_zeros(void **state)
{
    static const float small_a[IN] = {1e-30f, 1e-30f, 1e-30f, 1e-30f, 1e-30f},
                       small_b[OUT] = {-1e-30f, -1e-30f, -1e-30f, -1e-30f};
    static const uint32_t ranks[] = {1, 2};
    static const double scales[] = {1, 1};
    float before[MOST_SITES][OUT * IN], after[MOST_SITES][OUT * IN];
    lorakit_adapter *result;
    made m;

    (void)state;
    make(&m, 2, ranks, scales);
    m.factors[0][0].tensor.data = small_a;
    m.factors[0][1].tensor.data = small_b;
    assert_int_equal(lorakit_uniform(&m.adapter, NULL, &result, NULL), LORAFMT_OK);
    merge(&m.adapter, before);
    merge(lorakit_adapter_get(result), after);
    assert_memory_equal(before, after, 2 * sizeof *before);
    lorakit_adapter_free(result);
}

/* B in BF16 times 0.75 is exact in F32 and not in BF16; times a third it is exact in neither, and the error is said. */
static void test_folding_widens_and_says_what_it_costs(void **state)
{
    static const uint32_t ranks[] = {2, 2, 2, 2};
    static const double scales[] = {1, 1, 0.75, 1.0 / 3.0};
    uint16_t b[OUT * 2];
    lorakit_uniformed said;
    lorakit_adapter *result;
    const lorafmt_site *sites;
    made m;

    (void)state;
    make(&m, 4, ranks, scales);
    for (size_t i = 0; i < OUT * 2; i++)
        b[i] = (uint16_t)(0x3f81 + 2 * i); // 8 significant bits
    for (size_t i = 0; i < 4; i++)
        m.factors[i][1].tensor = test_tensor(LORAFMT_BF16, OUT, 2, b);
    assert_int_equal(lorakit_uniform(&m.adapter, &said, &result, NULL), LORAFMT_OK);
    sites = lorakit_adapter_get(result)->sites;
    assert_uniform(lorakit_adapter_get(result), &said);
    assert_int_equal(sites[0].factors[1].tensor.dtype, LORAFMT_BF16);
    assert_ptr_equal(sites[0].factors[1].tensor.data, b);
    assert_int_equal(sites[2].factors[1].tensor.dtype, LORAFMT_F32);
    assert_int_equal(sites[3].factors[1].tensor.dtype, LORAFMT_F32);
    assert_true(((const float *)sites[2].factors[1].tensor.data)[0] == 0.75f * (1 + 1.0f / 128));
    assert_true(said.rounding > 0 && said.rounding <= 0x1p-24);
    lorakit_adapter_free(result);
}

/* No double divided by 3 is this number; divided by 4 there is one. */
static void test_a_rank_without_an_alpha_grows(void **state)
{
    static const uint32_t rank = 3;
    const double scale = 2 - 2 * DBL_EPSILON;
    float before[MOST_SITES][OUT * IN], after[MOST_SITES][OUT * IN];
    lorakit_uniformed said;
    lorakit_adapter *result;
    made m;

    (void)state;
    assert_false(nextafter(3 * scale, 0) / 3 == scale || 3 * scale / 3 == scale || nextafter(3 * scale, INFINITY) / 3 == scale);
    make(&m, 1, &rank, &scale);
    assert_int_equal(lorakit_uniform(&m.adapter, &said, &result, NULL), LORAFMT_OK);
    assert_uniform(lorakit_adapter_get(result), &said);
    assert_int_equal(said.rank, 4);
    merge(&m.adapter, before);
    merge(lorakit_adapter_get(result), after);
    assert_memory_equal(before, after, sizeof *before);
    lorakit_adapter_free(result);
}

static void test_zero_scales_and_doubling(void **state)
{
    static const uint32_t ranks[] = {2, 2, 2};
    static const double scales[] = {0, 0, 1.5};
    float before[MOST_SITES][OUT * IN], after[MOST_SITES][OUT * IN];
    lorakit_uniformed said;
    lorakit_adapter *result;
    made m;

    (void)state;
    make(&m, 3, ranks, scales);
    assert_int_equal(lorakit_uniform(&m.adapter, &said, &result, NULL), LORAFMT_OK);
    assert_true(said.scale == 1.5 && said.rounding == 0);
    merge(&m.adapter, before);
    merge(lorakit_adapter_get(result), after);
    assert_memory_equal(before, after, 3 * sizeof *before);
    lorakit_adapter_free(result);

    m.sites[0].scale = m.sites[1].scale = 0.5;
    m.sites[2].scale = 1;
    m.sites[2].flags = LORAFMT_SITE_DOUBLED;
    assert_int_equal(lorakit_uniform(&m.adapter, &said, &result, NULL), LORAFMT_OK);
    assert_true(said.scale == 0.5 && said.n_folded == 0);
    assert_true(lorakit_adapter_get(result)->sites[2].scale == 1);
    lorakit_adapter_free(result);
}

/* Of each expert its own rows of A grow; B has the rank in its columns. */
static void test_experts_are_padded_one_by_one(void **state)
{
    static const uint32_t ranks[] = {2, 3};
    static const double scales[] = {1, 1};
    const lorafmt_tensor *a;
    lorakit_adapter *result;
    made m;

    (void)state;
    make(&m, 2, ranks, scales);
    m.sites[0].kind = LORAFMT_KIND_EXPERTS;
    m.factors[0][0].tensor = test_tensor(LORAFMT_F32, 2 * 2, IN, numbers_a);
    m.factors[0][1].tensor = test_tensor(LORAFMT_F32, 2 * 2, 2, numbers_b);
    assert_int_equal(lorakit_uniform(&m.adapter, NULL, &result, NULL), LORAFMT_OK);
    a = &lorakit_adapter_get(result)->sites[0].factors[0].tensor;
    assert_int_equal(a->shape[0], 6);
    assert_memory_equal(a->data, numbers_a, 2 * IN * sizeof *numbers_a);
    assert_memory_equal((const float *)a->data + 3 * IN, numbers_a + 2 * IN, 2 * IN * sizeof *numbers_a);
    assert_true(((const float *)a->data)[2 * IN] == 0 && ((const float *)a->data)[5 * IN] == 0);
    lorakit_adapter_free(result);
}

static void test_what_is_refused(void **state)
{
    static const uint32_t ranks[] = {1, 1u << 20};
    static const double scales[] = {1, 1};
    static const double huge_scales[] = {1e-300, 1e-300, 1e300};
    static const uint32_t ones[] = {1, 1, 1};
    lorakit_adapter *result;
    lorafmt_error err;
    made m;

    (void)state;
    make(&m, 2, ranks, scales);
    m.factors[0][0].tensor.size = UINT64_C(1) << 24; // as if it had so many columns
    assert_int_equal(lorakit_uniform(&m.adapter, NULL, &result, &err), LORAFMT_LIMIT);
    assert_null(result);
    make(&m, 3, ones, huge_scales);
    assert_int_equal(lorakit_uniform(&m.adapter, NULL, &result, &err), LORAFMT_LIMIT);
    assert_string_equal(err.field, "c.weight");
    make(&m, 1, ones, scales);
    m.sites[0].kind = 99;
    assert_int_equal(lorakit_uniform(&m.adapter, NULL, &result, &err), LORAFMT_UNSUPPORTED);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_padding_and_powers_of_two_change_no_bit),
        cmocka_unit_test(test_padding_keeps_negative_zeros),
        cmocka_unit_test(test_folding_widens_and_says_what_it_costs),
        cmocka_unit_test(test_a_rank_without_an_alpha_grows),
        cmocka_unit_test(test_zero_scales_and_doubling),
        cmocka_unit_test(test_experts_are_padded_one_by_one),
        cmocka_unit_test(test_what_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
