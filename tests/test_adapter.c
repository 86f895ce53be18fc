/* SPDX-License-Identifier: MIT */
/* spec 4.3 to 4.7: each rule about what an adapter says is broken once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/adapter/adapter.h"
#include "tests/adapters.h"

#include <math.h>

static const float data[16];

/* A good adapter of two sites, to be broken. */
typedef struct sample {
    lorafmt_factor f[2][3];
    lorafmt_site sites[2];
    lorafmt_metadata metadata[2];
    lorafmt_adapter adapter;
} sample;

static void make(sample *s)
{
    memset(s, 0, sizeof *s);
    s->sites[0] = test_whole("a.bias", LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 4, 0, data), s->f[0]);
    s->sites[1] = test_low_rank("a.weight", LORAFMT_KIND_LINEAR, 2, 3, 4, data, data, s->f[1]);
    s->metadata[0] = (lorafmt_metadata){.key = "author", .value = "A. U. Thor"};
    s->metadata[1] = (lorafmt_metadata){.key = "licence", .value = "CC0"};
    s->adapter = test_adapter("x", s->sites, 2);
    s->adapter.metadata = s->metadata;
    s->adapter.n_metadata = 2;
}

static void break_name(sample *s)
{
    s->adapter.name = "a/b";
}
static void break_name_dots(sample *s)
{
    s->adapter.name = "..";
}
static void break_name_empty(sample *s)
{
    s->adapter.name = "";
}
static void break_name_hash(sample *s)
{
    s->adapter.name = "a#b";
}
static void break_base_name(sample *s)
{
    s->adapter.base_name = "line\nbreak";
}
static void break_empty(sample *s)
{
    s->adapter.n_sites = 0;
}
static void break_target(sample *s)
{
    s->sites[0].target = "";
}
static void break_target_utf8(sample *s)
{
    s->sites[0].target = "\xff";
}
static void break_kind(sample *s)
{
    s->sites[0].kind = 0;
}
static void break_order(sample *s)
{
    s->sites[0].target = "b";
}
static void break_twice(sample *s)
{
    s->sites[0] = s->sites[1];
}
static void break_rank(sample *s)
{
    s->sites[1].rank = 0;
}
static void break_rank_large(sample *s)
{
    s->sites[1].rank = (1u << 20) + 1;
}
static void break_rank_of_whole(sample *s)
{
    s->sites[0].rank = 1;
}
static void break_alpha(sample *s)
{
    s->sites[1].alpha = NAN;
}
static void break_scale(sample *s)
{
    s->sites[1].scale = INFINITY;
}
static void break_scale_rule(sample *s)
{
    s->sites[1].scale = 1.5;
}
static void break_scale_of_whole(sample *s)
{
    s->sites[0].scale = 2;
}
static void break_scaling_none(sample *s)
{
    s->sites[1].scaling = LORAFMT_SCALING_NONE;
}
static void break_scaling_of_whole(sample *s)
{
    s->sites[0].scaling = LORAFMT_SCALING_EXPLICIT;
}
static void break_orientation(sample *s)
{
    s->sites[0].orientation = LORAFMT_IN_OUT;
}
static void break_no_factor(sample *s)
{
    s->sites[0].n_factors = 0;
}
static void break_no_b(sample *s)
{
    s->sites[1].n_factors = 1;
}
static void break_role_order(sample *s)
{
    s->f[1][0].role = LORAFMT_ROLE_B;
}
static void break_role_of_kind(sample *s)
{
    s->f[1][1].role = LORAFMT_ROLE_VALUE;
}
static void break_a_rank(sample *s)
{
    s->f[1][0].tensor = test_tensor(LORAFMT_F32, 3, 3, data);
}
static void break_b_rank(sample *s)
{
    s->f[1][1].tensor = test_tensor(LORAFMT_F32, 4, 1, data);
}
static void break_a_dims(sample *s)
{
    s->f[1][0].tensor = test_tensor(LORAFMT_F32, 2, 0, data);
}
static void break_a_dtype(sample *s)
{
    s->f[1][0].tensor = test_tensor(LORAFMT_I8, 2, 3, data);
}
static void break_a_empty(sample *s)
{
    s->f[1][0].tensor = (lorafmt_tensor){.dtype = LORAFMT_F32, .n_dims = 1, .data = data};
}
static void break_size(sample *s)
{
    s->f[1][0].tensor.size--;
}
static void break_magnitude(sample *s)
{
    s->f[1][2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 3, 0, data)};
    s->sites[1].n_factors = 3;
}
static void break_doubled(sample *s)
{
    s->sites[0].flags = LORAFMT_SITE_DOUBLED;
}
static void break_range_of_whole(sample *s)
{
    s->sites[0].flags = LORAFMT_SITE_ROW_RANGE;
    s->sites[0].row_end = 4;
}
static void break_row_range(sample *s)
{
    s->sites[1].flags = LORAFMT_SITE_ROW_RANGE;
    s->sites[1].row_end = 5;
}
static void break_col_range(sample *s)
{
    s->sites[1].flags = LORAFMT_SITE_COL_RANGE;
    s->sites[1].col_end = 5;
}
static void make_rows(sample *s, const int64_t *index)
{
    s->sites[0].kind = LORAFMT_KIND_ROWS;
    s->f[0][0].tensor = test_tensor(LORAFMT_F32, 2, 3, data);
    s->f[0][1] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, test_tensor(LORAFMT_I64, 2, 0, index)};
    s->sites[0].n_factors = 2;
}
static void break_row_index_equal(sample *s)
{
    static const int64_t index[] = {4, 4};
    make_rows(s, index);
}
static void break_row_index_negative(sample *s)
{
    static const int64_t index[] = {-1, 4};
    make_rows(s, index);
}
static void break_row_index_count(sample *s)
{
    static const int64_t index[] = {1, 4};
    make_rows(s, index);
    s->f[0][0].tensor = test_tensor(LORAFMT_F32, 3, 3, data);
}
static void break_metadata_order(sample *s)
{
    s->metadata[0].key = "z";
}
static void break_metadata_twice(sample *s)
{
    s->metadata[0].key = "licence";
}
static void break_metadata_value(sample *s)
{
    s->metadata[0].value = "\xed\xa0\x80";
} // a surrogate

/* The second site as a convolution [4, 3, 3] with its kernel in mid; good. */
static void make_conv(sample *s)
{
    s->sites[1].kind = LORAFMT_KIND_CONV1D;
    s->sites[1].n_factors = 3;
    s->f[1][0] = (lorafmt_factor){LORAFMT_ROLE_A, {LORAFMT_F32, 3, {2, 3, 1}, 24, data}};
    s->f[1][1] = (lorafmt_factor){LORAFMT_ROLE_B, {LORAFMT_F32, 3, {4, 2, 1}, 32, data}};
    s->f[1][2] = (lorafmt_factor){LORAFMT_ROLE_MID, {LORAFMT_F32, 3, {2, 2, 3}, 48, data}};
}

static const int64_t two_rows[] = {1, 3};

static void break_revision(sample *s)
{
    s->adapter.base_revision = "line\nbreak";
}
static void break_scaling_unknown(sample *s)
{
    s->sites[1].scaling = LORAFMT_SCALING_EXPLICIT + 1;
}
static void break_scaling_of_additive(sample *s)
{
    s->sites[0].kind = LORAFMT_KIND_ADDITIVE;
    s->sites[0].scaling = LORAFMT_SCALING_ALPHA_R;
}
static void break_no_a(sample *s)
{
    s->sites[1].n_factors = 1;
    s->f[1][0].role = LORAFMT_ROLE_B;
    s->f[1][0].tensor = s->f[1][1].tensor;
}
static void break_a_huge(sample *s)
{
    s->f[1][0].tensor.shape[1] = (UINT64_C(1) << 48) + 1;
}
static void break_a_nine_dims(sample *s)
{
    s->f[1][0].tensor.n_dims = LORAFMT_MAX_DIMS + 1;
    for (int i = 0; i < LORAFMT_MAX_DIMS; i++)
        s->f[1][0].tensor.shape[i] = 1;
}
static void break_mid_dims(sample *s)
{
    make_conv(s);
    s->f[1][2].tensor = test_tensor(LORAFMT_F32, 2, 2, data);
}
static void break_mid_rows(sample *s)
{
    make_conv(s);
    s->f[1][2].tensor.shape[0] = 1;
    s->f[1][2].tensor.size /= 2;
}
static void break_mid_cols(sample *s)
{
    make_conv(s);
    s->f[1][2].tensor.shape[1] = 1;
    s->f[1][2].tensor.size /= 2;
}
static void break_mid_dtype(sample *s)
{
    make_conv(s);
    s->f[1][2].tensor.dtype = LORAFMT_I32;
}
static void break_kernel_beside_mid(sample *s)
{
    make_conv(s);
    s->f[1][0].tensor.shape[2] = 3;
    s->f[1][0].tensor.shape[1] = 1;
}
static void break_no_value(sample *s)
{
    s->f[0][0].role = LORAFMT_ROLE_ROW_INDEX;
    s->sites[0].kind = LORAFMT_KIND_ROWS;
}
static void break_row_index_shape(sample *s)
{
    make_rows(s, two_rows);
    s->f[0][1].tensor = (lorafmt_tensor){LORAFMT_I64, 2, {1, 2}, 16, two_rows};
}
static void break_row_index_of_scalar(sample *s)
{
    make_rows(s, two_rows);
    s->f[0][0].tensor = (lorafmt_tensor){LORAFMT_F32, 0, {0}, 4, data};
}
static void break_row_index_large(sample *s)
{
    static const int64_t index[] = {1, INT64_MIN};
    make_rows(s, index);
}
static void break_metadata_key(sample *s)
{
    s->metadata[0].key = "";
}
static void break_metadata_key_utf8(sample *s)
{
    s->metadata[0].key = "\xff";
}
static void break_metadata_long(sample *s)
{
    static char text[(1 << 20) + 2];
    memset(text, 'x', sizeof text - 1);
    s->metadata[0].value = text;
}

static const struct {
    void (*apply)(sample *s);
    lorafmt_status status;
    const char *field, *text;
} breaks[] = {
    {break_name, LORAFMT_CORRUPT, "a/b", "adapter name"},
    {break_name_dots, LORAFMT_CORRUPT, "..", "adapter name"},
    {break_name_empty, LORAFMT_CORRUPT, "", "adapter name"},
    {break_name_hash, LORAFMT_CORRUPT, "a#b", "adapter name"},
    {break_base_name, LORAFMT_CORRUPT, "x", "control characters"},
    {break_empty, LORAFMT_CORRUPT, "x", "the adapter is empty"},
    {break_target, LORAFMT_CORRUPT, "", "a target must be"},
    {break_target_utf8, LORAFMT_CORRUPT, "\xff", "a target must be"},
    {break_kind, LORAFMT_CORRUPT, "a.bias", "kind 0"},
    {break_order, LORAFMT_CORRUPT, "a.weight", "not unique and in order"},
    {break_twice, LORAFMT_CORRUPT, "a.weight", "not unique and in order"},
    {break_rank, LORAFMT_CORRUPT, "a.weight", "rank 0, must be 1..1048576"},
    {break_rank_large, LORAFMT_CORRUPT, "a.weight", "rank 1048577, must be 1..1048576"},
    {break_rank_of_whole, LORAFMT_CORRUPT, "a.bias", "must be 0"},
    {break_alpha, LORAFMT_CORRUPT, "a.weight", "alpha is nan"},
    {break_scale, LORAFMT_CORRUPT, "a.weight", "scale is inf"},
    {break_scale_rule, LORAFMT_CORRUPT, "a.weight", "scale is 1.5, but alpha/r of alpha 2 and rank 2 gives 1"},
    {break_scale_of_whole, LORAFMT_CORRUPT, "a.bias", "scale is 2"},
    {break_scaling_none, LORAFMT_CORRUPT, "a.weight", "without a scaling rule"},
    {break_scaling_of_whole, LORAFMT_CORRUPT, "a.bias", "a replacement has no scaling"},
    {break_orientation, LORAFMT_CORRUPT, "a.bias", "orientation"},
    {break_no_factor, LORAFMT_CORRUPT, "a.bias", "without factors"},
    {break_no_b, LORAFMT_CORRUPT, "a.weight", "factor B is missing"},
    {break_role_order, LORAFMT_CORRUPT, "a.weight", "ascending order"},
    {break_role_of_kind, LORAFMT_CORRUPT, "a.weight", "factor value in a site of kind linear"},
    {break_a_rank, LORAFMT_CORRUPT, "a.weight", "A is [3, 3], must be [rank, ...] with rank 2"},
    {break_b_rank, LORAFMT_CORRUPT, "a.weight", "B is [4, 1], must be [..., rank] with rank 2"},
    {break_a_dims, LORAFMT_CORRUPT, "a.weight", "A is [2], must be"},
    {break_a_dtype, LORAFMT_UNSUPPORTED, "a.weight", "A is I8"},
    {break_a_empty, LORAFMT_CORRUPT, "a.weight", "a dimension of 0"},
    {break_size, LORAFMT_CORRUPT, "a.weight", "do not fit dtype and shape"},
    {break_magnitude, LORAFMT_CORRUPT, "a.weight", "magnitude has 3 elements, B 4 outputs"},
    {break_doubled, LORAFMT_CORRUPT, "a.bias", "doubled"},
    {break_range_of_whole, LORAFMT_CORRUPT, "a.bias", "not linear"},
    {break_row_range, LORAFMT_CORRUPT, "a.weight", "row range"},
    {break_col_range, LORAFMT_CORRUPT, "a.weight", "column range"},
    {break_row_index_equal, LORAFMT_CORRUPT, "a.bias", "strictly ascending"},
    {break_row_index_negative, LORAFMT_CORRUPT, "a.bias", "strictly ascending"},
    {break_row_index_count, LORAFMT_CORRUPT, "a.bias", "one number per row"},
    {break_metadata_order, LORAFMT_CORRUPT, "licence", "not unique and in order"},
    {break_metadata_twice, LORAFMT_CORRUPT, "licence", "not unique and in order"},
    {break_metadata_value, LORAFMT_CORRUPT, "author", "UTF-8"},
    {break_revision, LORAFMT_CORRUPT, "x", "a base revision must be"},
    {break_scaling_unknown, LORAFMT_CORRUPT, "a.weight", "without a scaling rule"},
    {break_scaling_of_additive, LORAFMT_CORRUPT, "a.bias", "scaling by rank in a site without rank"},
    {break_no_a, LORAFMT_CORRUPT, "a.weight", "factor A is missing"},
    {break_a_huge, LORAFMT_CORRUPT, "a.weight", "must be 1..2^48"},
    {break_a_nine_dims, LORAFMT_CORRUPT, "a.weight", "do not fit dtype and shape"},
    {break_mid_dims, LORAFMT_CORRUPT, "a.weight", "mid is [2, 2], must be [rank, rank, kernel...]"},
    {break_mid_rows, LORAFMT_CORRUPT, "a.weight", "mid is [1, 2, 3], must be [rank, rank, kernel...]"},
    {break_mid_cols, LORAFMT_CORRUPT, "a.weight", "mid is [2, 1, 3], must be [rank, rank, kernel...]"},
    {break_mid_dtype, LORAFMT_UNSUPPORTED, "a.weight", "mid is I32"},
    {break_kernel_beside_mid, LORAFMT_CORRUPT, "a.weight", "A is [2, 1, 3], must be [rank, in, 1...], beside mid,"},
    {break_no_value, LORAFMT_CORRUPT, "a.bias", "factor value is missing"},
    {break_row_index_shape, LORAFMT_CORRUPT, "a.bias", "one number per row"},
    {break_row_index_of_scalar, LORAFMT_CORRUPT, "a.bias", "one number per row"},
    {break_row_index_large, LORAFMT_CORRUPT, "a.bias", "0 or more and strictly ascending"},
    {break_metadata_key, LORAFMT_CORRUPT, "", "a metadata key must be"},
    {break_metadata_key_utf8, LORAFMT_CORRUPT, "\xff", "a metadata key must be"},
    {break_metadata_long, LORAFMT_CORRUPT, "author", "at most 1 MiB"},
};

static lorafmt_status check(const lorafmt_adapter *adapter, lorafmt_error *err)
{
    lf_arena arena = {0};
    lf_tensor_map row_indexes = {.arena = &arena};
    const lorafmt_status st = lf_adapter_check(adapter, &row_indexes, NULL, err);

    lf_arena_free(&arena);
    return st;
}

static void test_each_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof breaks / sizeof breaks[0]; i++) {
        lorafmt_error err = {0};
        sample s;
        make(&s);
        assert_int_equal(check(&s.adapter, &err), LORAFMT_OK);
        breaks[i].apply(&s);
        assert_int_equal(check(&s.adapter, &err), breaks[i].status);
        assert_string_equal(err.field, breaks[i].field);
        if (!strstr(err.text, breaks[i].text))
            fail_msg("case %zu: '%s' does not say '%s'", i, err.text, breaks[i].text);
    }
}

/* What is broken above is good before. */
static void test_made_samples(void **state)
{
    lorafmt_error err = {0};
    sample s;

    (void)state;
    make(&s);
    make_conv(&s);
    make_rows(&s, two_rows);
    if (check(&s.adapter, &err))
        fail_msg("%s", err.text);
}

/* Kinds of a newer format pass: they are listed and copied. */
static void test_unknown_kinds_pass(void **state)
{
    lorafmt_error err = {0};
    sample s;
    (void)state;
    make(&s);
    s.f[1][1].role = 40; // LoHa and LoKr are new roles of the kinds there are: no A, no B
    assert_int_equal(check(&s.adapter, &err), LORAFMT_OK);
    s.sites[1].kind = 99;
    assert_int_equal(check(&s.adapter, &err), LORAFMT_OK);
}

static void test_sorting(void **state)
{
    lorafmt_error err = {0};
    sample s;
    lorafmt_site swapped;
    (void)state;
    make(&s);
    swapped = s.sites[0];
    s.sites[0] = s.sites[1];
    s.sites[1] = swapped;
    s.metadata[0].key = "z";
    lf_adapter_sort(s.sites, 2, s.metadata, 2);
    assert_string_equal(s.sites[0].target, "a.bias");
    assert_string_equal(s.metadata[1].key, "z");
    assert_int_equal(check(&s.adapter, &err), LORAFMT_OK);
}

static void test_scale_rules(void **state)
{
    (void)state;
    assert_true(lf_scale_of(LORAFMT_SCALING_ALPHA_R, 16, 8) == 2.0);
    assert_true(lf_scale_of(LORAFMT_SCALING_ALPHA_SQRT_R, 16, 16) == 4.0);
    assert_true(lf_scale_of(LORAFMT_SCALING_ALPHA_SQRT_R, 16, 8) == 16 / sqrt(8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_rule), cmocka_unit_test(test_made_samples), cmocka_unit_test(test_unknown_kinds_pass),
        cmocka_unit_test(test_sorting),   cmocka_unit_test(test_scale_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
