/* SPDX-License-Identifier: MIT */
/* A sketch against all singular values; patterns of names; models that are in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/algebra/decompose.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/names.h"
#include "lib/algebra/rank.h"
#include "lorakit/extract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of OpenBLAS, when that is what LAPACK is. */
#pragma weak openblas_set_num_threads
void openblas_set_num_threads(int n);

enum { ROWS = 600, COLS = 700, PLANTED = 20 };

/* Planted values of 300 to 120 in noise whose largest is about 51. */
static float *planted(size_t n_rows, size_t n_cols)
{
    float *d = malloc(n_rows * n_cols * sizeof *d), *left = malloc(n_rows * PLANTED * sizeof *left),
          *right = malloc(n_cols * PLANTED * sizeof *right);

    assert_true(d && left && right);
    lk_gaussian(1, 0, d, n_rows * n_cols);
    lk_gaussian(2, 0, left, n_rows * PLANTED);
    lk_gaussian(3, 0, right, n_cols * PLANTED);
    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = 0; k < PLANTED; k++) {
            const double value = 300 * pow(0.4, (double)k / (PLANTED - 1)) / sqrt((double)n_rows * (double)n_cols);
            for (size_t j = 0; j < n_cols; j++)
                d[i * n_cols + j] += (float)value * left[i * PLANTED + k] * right[j * PLANTED + k];
        }
    free(left);
    free(right);
    return d;
}

static lk_decomposition exact_of(const float *d, size_t n_rows, size_t n_cols)
{
    double *wide = lk_matrix_new(n_rows, n_cols);
    lk_decomposition out;

    assert_non_null(wide);
    for (size_t i = 0; i < n_rows * n_cols; i++)
        wide[i] = d[i];
    assert_int_equal(lk_decompose_exact(wide, n_rows, n_cols, &out, NULL), LORAFMT_OK);
    free(wide);
    return out;
}

/* The Frobenius norm of d - left right'. */
static double distance(const float *d, const lk_thin *thin)
{
    double sum = 0;

    for (size_t i = 0; i < thin->n_rows; i++)
        for (size_t j = 0; j < thin->n_cols; j++) {
            double x = d[i * thin->n_cols + j];
            for (size_t k = 0; k < thin->rank; k++)
                x -= thin->left[k * thin->n_rows + i] * thin->right[k * thin->n_cols + j];
            sum += x * x;
        }
    return sqrt(sum);
}

static void check_against(const float *d, const lk_decomposition *found, const lk_decomposition *exact)
{
    const double best = lk_decomposition_left_out(exact, PLANTED), left_out = lk_decomposition_left_out(found, PLANTED);
    lk_thin thin;

    for (size_t k = 0; k < PLANTED; k++)
        assert_true(fabs(found->s[k] / exact->s[k] - 1) < 1e-3);
    assert_true(left_out >= best * (1 - 1e-6) && left_out <= best * 1.01);
    assert_int_equal(lk_decomposition_split(found, PLANTED, &thin, NULL), LORAFMT_OK);
    assert_true(fabs(distance(d, &thin) / left_out - 1) < 1e-6); // what is reported is so
    lk_thin_free(&thin);
}

static void test_sketch_against_all_values(void **state)
{
    const size_t shapes[][2] = {{ROWS, COLS}, {COLS, ROWS}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const lk_sketch_options options = {.width = PLANTED + LK_OVERSAMPLING,
                                           .n_powers = LK_N_POWERS,
                                           .seed = i,
                                           .n_threads = 2};
        float *d = planted(shapes[i][0], shapes[i][1]);
        lk_decomposition exact = exact_of(d, shapes[i][0], shapes[i][1]), found;
        assert_int_equal(lk_decompose_sketch(d, shapes[i][0], shapes[i][1], &options, &found, NULL), LORAFMT_OK);
        check_against(d, &found, &exact);
        lk_decomposition_free(&exact);
        lk_decomposition_free(&found);
        free(d);
    }
}

static void test_a_sketch_does_not_depend_on_threads(void **state)
{
    float *d = planted(ROWS, COLS);
    lk_thin thin[2];
    double rest[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const lk_sketch_options options = {.width = 30, .n_powers = 1, .n_threads = 1 + 2 * i};
        assert_int_equal(lk_sketch(d, ROWS, COLS, &options, &thin[i], &rest[i], NULL), LORAFMT_OK);
    }
    assert_memory_equal(thin[0].left, thin[1].left, (size_t)ROWS * 30 * sizeof(double));
    assert_memory_equal(thin[0].right, thin[1].right, (size_t)COLS * 30 * sizeof(double));
    assert_memory_equal(&rest[0], &rest[1], sizeof rest[0]);
    lk_thin_free(&thin[0]);
    lk_thin_free(&thin[1]);
    free(d);
}

/* Columns that depend on each other, and none at all. */
static void test_matrices_of_low_rank_and_zero(void **state)
{
    const lk_sketch_options options = {.width = 30, .n_powers = 2, .n_threads = 2};
    const lorakit_rank rule = {LORAKIT_LOSSLESS, 0, PLANTED};
    float *d = calloc((size_t)ROWS * COLS, sizeof *d);
    lk_decomposition found;
    size_t rank;

    (void)state;
    assert_non_null(d);
    for (size_t n_filled = 0; n_filled < 3; n_filled++) {
        assert_int_equal(lk_decompose_sketch(d, ROWS, COLS, &options, &found, NULL), LORAFMT_OK);
        assert_true(lk_decomposition_rank(&found, &rule, &rank));
        assert_int_equal(rank, n_filled ? n_filled : 1);
        assert_true(lk_decomposition_left_out(&found, rank) <= 1e-5);
        lk_decomposition_free(&found);
        for (size_t j = 0; j < COLS; j++)
            d[n_filled * COLS + j] = n_filled ? (float)(j % 7) : 1;
    }
    free(d);
}

static void test_numbers_are_normal(void **state)
{
    static float x[100000], part[10];
    double sum = 0, square = 0;

    (void)state;
    lk_gaussian(42, 0, x, 100000);
    for (size_t i = 0; i < 100000; i++) {
        assert_true(isfinite(x[i]));
        sum += x[i];
        square += (double)x[i] * (double)x[i];
    }
    assert_true(fabs(sum / 1e5) < 0.02 && fabs(square / 1e5 - 1) < 0.02);
    lk_gaussian(42, 5000, part, 10);
    assert_memory_equal(part, x + 5000, sizeof part);
}

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool takes;
    } cases[] = {
        {"q_proj", "model.layers.0.self_attn.q_proj.weight", true},
        {"q_proj.weight", "model.layers.0.self_attn.q_proj.weight", true},
        {"proj", "model.layers.0.self_attn.q_proj.weight", false},
        {"q_proj", "model.q_proj.inner.weight", false},
        {"*_proj", "model.layers.0.self_attn.q_proj.weight", true},
        {"layers.1.*", "model.layers.1.mlp.up_proj.weight", true},
        {"layers.1.*", "model.layers.11.mlp.up_proj.weight", false},
        {"*.1.*up*", "model.layers.1.mlp.up_proj.weight", true},
        {"*", "weight", true},
        {"weight", "weight", true},
        {"", "weight", false},
        {"all-linear", "model.layers.0.self_attn.q_proj.weight", true},
        {"all-linear", "lm_head.weight", false},
        {"all-linear", "transformer.wpe.weight", false},
        {"all-linear", "model.layers.0.self_attn.q_proj.bias", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (lk_target_takes(cases[i].pattern, cases[i].name) != cases[i].takes)
            fail_msg("%s, %s", cases[i].pattern, cases[i].name);
}

/* --- the function of the library --- */

static lorafmt_status read_memory(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    (void)tensor;
    (void)err;
    memcpy(dst, (const uint8_t *)ctx + offset, size);
    return LORAFMT_OK;
}

static lorafmt_base model_of(double *data, const lorafmt_base_tensor *tensor)
{
    return (
        lorafmt_base){.struct_size = sizeof(lorafmt_base), .n_tensors = 1, .tensors = tensor, .read = read_memory, .ctx = data};
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)done;
    (void)total;
    return false;
}

static void test_extracting_from_memory(void **state)
{
    const lorafmt_base_tensor tensor = {"a.weight", LORAFMT_F64, 2, {2, 3}, 6 * sizeof(double)};
    double before[6] = {1, 2, 3, 4, 5, 6}, after[6] = {2, 3, 4, 6, 7, 8}; // the difference is (1, 2)' (1, 1, 1)
    const lorafmt_base base = model_of(before, &tensor), tuned = model_of(after, &tensor);
    lorakit_extract_options o = {.struct_size = sizeof o, .rank = {.most = 2}, .dtype = LORAFMT_F64};
    lorakit_extracted found[1];
    lorakit_adapter *out;
    lorafmt_error err;
    const double *a, *b;

    (void)state;
    assert_int_equal(lorakit_extract(&base, &tuned, &o, found, &out, &err), LORAFMT_OK);
    assert_int_equal(found[0].rank, 1); // of the two that it might have
    assert_true(fabs(found[0].norm - sqrt(15)) < 1e-14 && found[0].truncated < 1e-14 && found[0].rounded == 0);
    a = lorakit_adapter_get(out)->sites[0].factors[0].tensor.data;
    b = lorakit_adapter_get(out)->sites[0].factors[1].tensor.data;
    for (size_t i = 0; i < 6; i++)
        assert_true(fabs(a[i % 3] * b[i / 3] - (after[i] - before[i])) < 1e-14);
    lorakit_adapter_free(out);

    o.progress = stop;
    assert_int_equal(lorakit_extract(&base, &tuned, &o, NULL, &out, &err), LORAFMT_CANCELLED);
    assert_null(out);
}

/* What is no real number is compared byte by byte, and can only be replaced. */
static void test_tensors_of_other_dtypes(void **state)
{
    static const struct {
        lorafmt_base_tensor tensor;
        size_t changed; // byte of the tuned tensor; past the end: none
        lorakit_outcome outcome;
    } table[] = {
        {{"steps", LORAFMT_I64, 1, {6}, 48}, 47, LORAKIT_REPLACED},
        {{"steps", LORAFMT_I64, 1, {6}, 48}, 0, LORAKIT_REPLACED},
        {{"packed", LORAFMT_F4, 2, {3, 4}, 6}, 5, LORAKIT_REPLACED},
        {{"packed", LORAFMT_F4, 2, {3, 4}, 6}, 6, LORAKIT_UNCHANGED},
    };
    const lorakit_extract_options o = {.struct_size = sizeof o, .rank = {.most = 2}, .others = LORAKIT_OTHERS_REPLACE};
    const double zeros[6] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        double before[6] = {0}, after[6] = {0};
        const lorafmt_base base = model_of(before, &table[i].tensor), tuned = model_of(after, &table[i].tensor);
        lorakit_extracted found[1];
        lorakit_adapter *out;
        ((uint8_t *)after)[table[i].changed] ^= 1;
        if (table[i].outcome == LORAKIT_UNCHANGED) {
            assert_int_equal(lorakit_extract(&base, &tuned, &o, found, &out, NULL), LORAFMT_MISMATCH);
            continue;
        }
        assert_int_equal(lorakit_extract(&base, &tuned, &o, found, &out, NULL), LORAFMT_OK);
        assert_int_equal(found[0].outcome, table[i].outcome);
        assert_memory_equal(lorakit_adapter_get(out)->sites[0].factors[0].tensor.data, after, table[i].tensor.size);
        assert_memory_equal(before, zeros, sizeof before);
        lorakit_adapter_free(out);
    }
}

static void test_differences_that_are_no_numbers(void **state)
{
    static const struct {
        double number;
        lorafmt_status status;
        const char *says;
    } table[] = {{NAN, LORAFMT_CORRUPT, "tuned - base is NaN or infinite, first at [1, 2]"},
                 {-INFINITY, LORAFMT_CORRUPT, "tuned - base is NaN or infinite, first at [1, 2]"},
                 {1e200, LORAFMT_LIMIT, "the difference is too large: its squares overflow"}};
    const lorafmt_base_tensor tensor = {"a.weight", LORAFMT_F64, 2, {2, 3}, 6 * sizeof(double)};
    const lorakit_extract_options o = {.struct_size = sizeof o, .rank = {.most = 2}};

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        double before[6] = {0}, after[6] = {0, 1, 2, 3, 4, table[i].number};
        const lorafmt_base base = model_of(before, &tensor), tuned = model_of(after, &tensor);
        lorakit_adapter *out;
        lorafmt_error err;
        assert_int_equal(lorakit_extract(&base, &tuned, &o, NULL, &out, &err), table[i].status);
        assert_string_equal(err.field, "a.weight");
        assert_string_equal(err.text, table[i].says);
        assert_null(out);
    }
}

/* --- a model that cannot be read at some time --- */

static unsigned n_reads_left;

static lorafmt_status read_until(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    if (n_reads_left == 0) {
        if (err)
            *err = (lorafmt_error){.status = LORAFMT_IO, .text = "no more reads"};
        return LORAFMT_IO;
    }
    n_reads_left--;
    return read_memory(ctx, tensor, offset, size, dst, err);
}

static void check_reads(const lorafmt_base_tensor *tensor, size_t n_rows, size_t n_cols, const lorakit_extract_options *o)
{
    double *before = calloc(n_rows * n_cols, sizeof *before), *after = calloc(n_rows * n_cols, sizeof *after);
    lorafmt_base base = model_of(before, tensor), tuned = model_of(after, tensor);
    lorafmt_status st = LORAFMT_IO;
    unsigned n = 0;

    assert_true(before && after);
    base.read = tuned.read = read_until;
    for (size_t i = 0; i < n_rows * n_cols / 2; i++)
        ((float *)after)[2 * i] = (float)(1 + i % n_cols);
    for (; st == LORAFMT_IO; n++) {
        lorafmt_error err;
        lorakit_adapter *out;
        n_reads_left = n;
        st = lorakit_extract(&base, &tuned, o, NULL, &out, &err);
        if (st == LORAFMT_IO)
            assert_string_equal(err.text, "no more reads");
        assert_int_equal(out != NULL, st == LORAFMT_OK);
        lorakit_adapter_free(out);
    }
    assert_int_equal(st, LORAFMT_OK);
    assert_true(n > 3); // to compare both, and then to use at least one
    free(before);
    free(after);
}

static void test_reads_that_fail(void **state)
{
    const lorafmt_base_tensor matrix = {"a.weight", LORAFMT_F32, 2, {8, 6}, 192},
                              large = {"a.weight", LORAFMT_F32, 2, {ROWS, COLS}, 4 * ROWS * COLS},
                              other = {"a.bias", LORAFMT_F32, 1, {48}, 192};
    lorakit_extract_options o = {.struct_size = sizeof o, .rank = {.most = 2}, .n_threads = 1};

    (void)state;
    check_reads(&matrix, 8, 6, &o);
    check_reads(&large, ROWS, COLS, &o);
    o.others = LORAKIT_OTHERS_ADDITIVE;
    check_reads(&other, 8, 6, &o);
    o.others = LORAKIT_OTHERS_REPLACE;
    check_reads(&other, 8, 6, &o);
}

static void test_bad_options(void **state)
{
    const lorafmt_base_tensor tensor = {"a.weight", LORAFMT_F64, 2, {2, 3}, 6 * sizeof(double)};
    double data[6] = {0};
    lorafmt_base model = model_of(data, &tensor);
    const lorakit_extract_options good = {.struct_size = sizeof good, .rank = {.most = 2}};
    lorakit_extract_options bad[8];
    lorakit_adapter *out;
    lorafmt_error err;

    (void)state;
    for (size_t i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].rank.most = 0;
    bad[1].rank = (lorakit_rank){LORAKIT_ENERGY, 1.5, 0};
    bad[2].rank = (lorakit_rank){LORAKIT_SV_FRO, 0.5, 0};
    bad[3].orientation = LORAFMT_BY_SHAPE;
    bad[4].dtype = LORAFMT_I8;
    bad[5].n_powers = 17;
    bad[6].struct_size = 8;
    bad[7].name = "a/b";
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(lorakit_extract(&model, &model, &bad[i], NULL, &out, &err), LORAFMT_MISUSE);
    assert_int_equal(lorakit_extract(&model, &model, NULL, NULL, &out, &err), LORAFMT_MISUSE);
    assert_int_equal(lorakit_extract(&model, &model, &good, NULL, &out, &err), LORAFMT_MISMATCH);
    assert_string_equal(err.text, "no tensor differs");
    model.read = NULL;
    assert_int_equal(lorakit_extract(&model, &model, &good, NULL, &out, &err), LORAFMT_MISUSE);
    assert_null(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sketch_against_all_values),
        cmocka_unit_test(test_a_sketch_does_not_depend_on_threads),
        cmocka_unit_test(test_matrices_of_low_rank_and_zero),
        cmocka_unit_test(test_numbers_are_normal),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_extracting_from_memory),
        cmocka_unit_test(test_tensors_of_other_dtypes),
        cmocka_unit_test(test_differences_that_are_no_numbers),
        cmocka_unit_test(test_reads_that_fail),
        cmocka_unit_test(test_bad_options),
    };

    if (openblas_set_num_threads) // so that only our own threads are in play
        openblas_set_num_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
