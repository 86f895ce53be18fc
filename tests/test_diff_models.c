/* SPDX-License-Identifier: MIT */
/* What tells models apart: exact figures of tensors in memory. */
#include "lorakit/diff.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("%.17g, not %.17g", found, expected);
}

static lorafmt_status read_memory(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const void *const *data = ctx;

    (void)err;
    if (!data[tensor])
        return LORAFMT_IO;
    memcpy(dst, (const char *)data[tensor] + offset, size);
    return LORAFMT_OK;
}

static lorafmt_base_tensor tensor_of(const char *name, lorafmt_dtype dtype, uint64_t n)
{
    const lorafmt_tensor t = test_tensor(dtype, n, 0, NULL);
    lorafmt_base_tensor b = {.name = name, .dtype = dtype, .n_dims = 1, .size = t.size};

    b.shape[0] = n;
    return b;
}

static lorafmt_base model_of(const lorafmt_base_tensor *tensors, size_t n, const void **data)
{
    return (
        lorafmt_base){.struct_size = sizeof(lorafmt_base), .n_tensors = n, .tensors = tensors, .read = read_memory, .ctx = data};
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)done;
    (void)total;
    return false;
}

static void compares_models(void **unused)
{
    enum { LARGE = 5000000 }; // more than a piece
    float *large = test_malloc(LARGE * sizeof *large), *other = test_malloc(LARGE * sizeof *other);
    const float special[4] = {NAN, INFINITY, 1, 2}, changed[4] = {NAN, 1, 1, -2};
    const uint16_t half[2] = {0x3f80, 0x4000};
    const float same_as_half[2] = {1, 2};
    const lorafmt_base_tensor b[] = {tensor_of("z", LORAFMT_F32, LARGE), tensor_of("a", LORAFMT_F32, 4),
                                     tensor_of("gone", LORAFMT_U8, 1), tensor_of("h", LORAFMT_BF16, 2),
                                     tensor_of("s", LORAFMT_U8, 2)},
                              t[] = {tensor_of("a", LORAFMT_F32, 4), tensor_of("h", LORAFMT_F32, 2),
                                     tensor_of("new", LORAFMT_U8, 1), tensor_of("s", LORAFMT_U8, 3),
                                     tensor_of("z", LORAFMT_F32, LARGE)};
    const void *b_data[] = {large, special, half, half, half}, *t_data[] = {changed, same_as_half, half, half, other};
    const lorafmt_base base = model_of(b, 5, b_data), tuned = model_of(t, 5, t_data);
    lorakit_diff_options options = {.struct_size = sizeof options, .n_threads = 2};
    const lorakit_model_totals *totals;
    const lorakit_tensor_diff *d;
    lorakit_model_diff *diff;

    (void)unused;
    for (size_t i = 0; i < LARGE; i++)
        large[i] = other[i] = 0.5f;
    other[0] = 3.5f;
    other[LARGE - 1] = -1.5f;
    assert_int_equal(lorakit_diff_models(&base, &tuned, &options, &diff, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_model_diff_n_tensors(diff), 6);
    d = lorakit_model_diff_get_tensor(diff, 0);
    assert_string_equal(d->name, "a");
    assert_true(d->n_elements == 4 && d->n_differing == 2 && d->n_nan_base == 1 && d->n_inf_base == 1 && d->n_nan_tuned == 1);
    assert_true(d->norm_base == sqrt(5) && d->norm_difference == 4 && d->max_difference == 4);
    assert_int_equal(lorakit_model_diff_get_tensor(diff, 1)->state, LORAKIT_DIFF_ONLY_X);
    d = lorakit_model_diff_get_tensor(diff, 2);
    assert_true(d->state == LORAKIT_DIFF_COMPARED && d->n_differing == 0 && d->norm_difference == 0);
    assert_int_equal(lorakit_model_diff_get_tensor(diff, 3)->state, LORAKIT_DIFF_ONLY_Y);
    assert_int_equal(lorakit_model_diff_get_tensor(diff, 4)->state, LORAKIT_DIFF_OTHER_SHAPE);
    d = lorakit_model_diff_get_tensor(diff, 5);
    assert_true(d->n_differing == 2 && d->max_difference == 3); // each in a piece of its own
    near(d->norm_difference, sqrt(13), 1e-15);
    near(d->norm_base, sqrt(0.25 * LARGE), 1e-9);
    totals = lorakit_model_diff_get_totals(diff);
    assert_true(!totals->equal && totals->n_compared == 3 && totals->n_equal == 0 && totals->n_others == 1);
    near(totals->norm_difference, sqrt(29), 1e-14);
    lorakit_model_diff_free(diff);
    assert_int_equal(lorakit_diff_models(&base, &base, NULL, &diff, NULL), LORAFMT_OK);
    assert_true(lorakit_model_diff_get_totals(diff)->equal);
    lorakit_model_diff_free(diff);
    options.progress = stop;
    assert_int_equal(lorakit_diff_models(&base, &tuned, &options, &diff, NULL), LORAFMT_CANCELLED);
    t_data[1] = NULL;
    assert_int_equal(lorakit_diff_models(&base, &tuned, NULL, &diff, NULL), LORAFMT_IO);
    assert_null(diff);
    test_free(large);
    test_free(other);
}

static lorafmt_status diff_without_memory(const void *model, lorafmt_error *err)
{
    const lorakit_diff_options options = {.struct_size = sizeof options, .n_threads = 1};
    lorakit_model_diff *diff;
    const lorafmt_status st = lorakit_diff_models(model, model, &options, &diff, err);

    assert_int_equal(diff != NULL, st == LORAFMT_OK);
    lorakit_model_diff_free(diff);
    return st;
}

static void every_allocation_may_fail(void **unused)
{
    const float a[2] = {1, 2};
    const void *data[] = {a};
    const lorafmt_base_tensor tensor = tensor_of("a", LORAFMT_F32, 2);
    const lorafmt_base model = model_of(&tensor, 1, data);

    (void)unused;
    assert_int_equal(refuse_each(diff_without_memory, &model), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_models),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
