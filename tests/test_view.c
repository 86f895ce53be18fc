/* SPDX-License-Identifier: MIT */
/* Binding and evaluating: which tensor, does it fit, and what comes out. Expected numbers are worked out in the comments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/digest.h"
#include "format/base/error.h"
#include "lorafmt/view.h"
#include "tests/adapters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A base of up to 8 F32 tensors that lie in memory. */
typedef struct memory_base {
    lorafmt_base base;
    lorafmt_base_tensor tensors[8];
    const void *data[8];
} memory_base;

static lorafmt_status read_memory(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const memory_base *m = ctx;
    (void)err;
    memcpy(dst, (const uint8_t *)m->data[tensor] + offset, size);
    return LORAFMT_OK;
}

static void base_init(memory_base *m)
{
    memset(m, 0, sizeof *m);
    m->base = (lorafmt_base){.struct_size = sizeof m->base, .tensors = m->tensors, .read = read_memory, .ctx = m};
}

static void base_add(memory_base *m, const char *name, lorafmt_dtype dtype, uint64_t rows, uint64_t cols, const void *data)
{
    const lorafmt_tensor t = test_tensor(dtype, rows, cols, data);
    lorafmt_base_tensor *b = &m->tensors[m->base.n_tensors];
    *b = (lorafmt_base_tensor){.name = name, .dtype = dtype, .n_dims = t.n_dims, .size = t.size};
    memcpy(b->shape, t.shape, sizeof t.shape);
    m->data[m->base.n_tensors++] = data;
}

static const float ones[64] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                               1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const float zeros[64];

/* A tensor of ones with a shape of up to 5 dimensions that ends at 0. */
static lorafmt_tensor shaped(const uint64_t *shape)
{
    lorafmt_tensor t = {.dtype = LORAFMT_F32, .data = ones};
    for (; t.n_dims < 5 && shape[t.n_dims]; t.n_dims++)
        t.shape[t.n_dims] = shape[t.n_dims];
    lf_tensor_measure(t.dtype, t.n_dims, t.shape, &t.size);
    return t;
}

static lorafmt_status bind_one(const memory_base *m, const lorafmt_adapter *a, const lorafmt_bind_options *o, lorafmt_view **view,
                               lorafmt_error *err)
{
    const lorafmt_stack_entry entry = {a, 1.0};
    memset(err, 0, sizeof *err);
    return lorafmt_bind(&m->base, &entry, 1, o, view, err);
}

/* W = 0 [2x3], A = [1 2 3], B = [10; 20]: W + BA = [10 20 30; 20 40 60]. */
static void test_linear_in_both_orientations(void **state)
{
    const float a[] = {1, 2, 3}, b[] = {10, 20};
    const float out_in[] = {10, 20, 30, 20, 40, 60}, in_out[] = {10, 20, 20, 40, 30, 60};
    float dst[6];
    (void)state;
    for (int transposed = 0; transposed < 2; transposed++) {
        memory_base m;
        lorafmt_factor f[2];
        lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, a, b, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        lorafmt_view *view;
        lorafmt_error err;
        site.orientation = transposed ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
        base_init(&m);
        base_add(&m, "w.weight", LORAFMT_F32, transposed ? 3 : 2, transposed ? 2 : 3, zeros);
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_view_evaluate(view, 0, 0, transposed ? 3 : 2, zeros, transposed ? 8 : 12, dst,
                                               transposed ? 8 : 12, NULL, &err),
                         LORAFMT_OK);
        assert_memory_equal(dst, transposed ? in_out : out_in, sizeof dst);
        lorafmt_view_free(view);
        site.orientation = transposed ? LORAFMT_OUT_IN : LORAFMT_IN_OUT; // the other one does not fit, and is not guessed
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
        assert_null(view);
        assert_non_null(strstr(err.text, "transposed it would fit"));
        site.orientation = LORAFMT_BY_SHAPE;
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
        lorafmt_view_free(view);
    }
}

static void test_square_by_shape_is_refused(void **state)
{
    memory_base m;
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, ones, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_bind_options o = {.struct_size = sizeof o, .has_orientation = true, .orientation = LORAFMT_OUT_IN};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    site.orientation = LORAFMT_BY_SHAPE;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 2, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "square"));
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
}

/* Embedding: W [3 x 2] += (B A)^T with A [1 x 3], B [2 x 1]. */
static void test_embedding(void **state)
{
    const float a[] = {1, 2, 3}, b[] = {10, 20}, wanted[] = {11, 21, 21, 41, 31, 61};
    memory_base m;
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("e.weight", LORAFMT_KIND_EMBEDDING, 1, 3, 2, a, b, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    float w[6] = {1, 1, 1, 1, 1, 1};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "e.weight", LORAFMT_F32, 3, 2, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 3, w, 8, w, 8, NULL, &err), LORAFMT_OK); // in place
    assert_memory_equal(w, wanted, sizeof w);
    lorafmt_view_free(view);
}

/* Any split into rows gives the same bytes, also under a hostile rounding mode: 700 columns cross a tile. */
static void test_splits_and_environment_do_not_matter(void **state)
{
    enum { ROWS = 5, COLS = 700, RANK = 3 };
    static float w[ROWS * COLS], a[RANK * COLS], b[ROWS * RANK], whole[ROWS * COLS], parts[ROWS * COLS], wanted[ROWS * COLS];
    memory_base m;
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, RANK, COLS, ROWS, a, b, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_stack_entry entry = {&adapter, 0.7};
    lorafmt_view *view;
    lorafmt_error err;
    uint32_t seed = 1;
    (void)state;
    for (size_t i = 0; i < ROWS * COLS; i++)
        w[i] = (float)(int32_t)(seed = seed * 1664525 + 1013904223) * 0x1p-31f;
    for (size_t i = 0; i < RANK * COLS; i++)
        a[i] = (float)(int32_t)(seed = seed * 1664525 + 1013904223) * 0x1p-31f;
    for (size_t i = 0; i < ROWS * RANK; i++)
        b[i] = (float)(int32_t)(seed = seed * 1664525 + 1013904223) * 0x1p-31f;
    site.scale = site.alpha = 1.0 / 3.0;
    site.scaling = LORAFMT_SCALING_EXPLICIT;
    for (size_t i = 0; i < ROWS; i++) // spec 7.1, word for word
        for (size_t j = 0; j < COLS; j++) {
            float delta = 0;
            for (size_t p = 0; p < RANK; p++)
                delta = fmaf(b[i * RANK + p], a[p * COLS + j], delta);
            wanted[i * COLS + j] = fmaf((float)(0.7 * (1.0 / 3.0)), delta, w[i * COLS + j]);
        }
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, ROWS, COLS, w);
    assert_int_equal(lorafmt_bind(&m.base, &entry, 1, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, ROWS, w, sizeof w / ROWS, whole, sizeof w / ROWS, NULL, &err), LORAFMT_OK);
    assert_memory_equal(whole, wanted, sizeof whole);
    for (uint64_t i = 0; i < ROWS; i++)
        assert_int_equal(lorafmt_view_evaluate(view, 0, i, 1, w + i * COLS, 4, parts + i * COLS, 4, NULL, &err), LORAFMT_OK);
    assert_memory_equal(parts, wanted, sizeof parts);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 4, 2, w, 4, parts, 4, NULL, &err), LORAFMT_MISUSE);
    lorafmt_view_free(view);
}

/*
 * 1 + 2^-8 in BF16 is halfway between 1 and 1 + 2^-7: ties to even gives 1. Two such terms before the one rounding give 1 +
 * 2^-7.
 */
static void test_one_rounding_for_a_stack(void **state)
{
    const uint16_t one = 0x3f80;
    const float a = 0x1p-8f;
    memory_base m;
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 1, 1, &a, ones, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    const lorafmt_stack_entry stack[] = {{&adapter, 1.0}, {&adapter, 1.0}};
    lorafmt_view *view;
    lorafmt_error err;
    uint16_t out;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_BF16, 1, 1, &one);
    for (size_t n = 1; n <= 2; n++) {
        assert_int_equal(lorafmt_bind(&m.base, stack, n, NULL, &view, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, &one, 2, &out, 2, NULL, &err), LORAFMT_OK);
        assert_int_equal(out, n == 1 ? 0x3f80 : 0x3f81);
        lorafmt_view_free(view);
    }
}

/* spec 7.1: an F64 factor makes a BF16 tensor work in binary64. 2^-50 decides a tie that F32 would not see. */
static void test_f64_factor_decides_a_tie(void **state)
{
    const uint16_t one = 0x3f80;
    const double a = 0x1p-8 + 0x1p-50;
    memory_base m;
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 1, 1, ones, ones, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_view *view;
    lorafmt_error err;
    uint16_t out;
    (void)state;
    f[0].tensor = test_tensor(LORAFMT_F64, 1, 1, &a);
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_BF16, 1, 1, &one);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, &one, 2, &out, 2, NULL, &err), LORAFMT_OK);
    assert_int_equal(out, 0x3f81);
    lorafmt_view_free(view);
}

/* spec 7.2: a zero factor or scale leaves every byte, NaN payloads and negative zeros too. */
static void test_nothing_contributed_is_a_copy(void **state)
{
    const uint32_t w[] = {0xffc12345, 0x80000000, 0x7f800001, 1};
    const float minus_zero[] = {-0.0f, 0.0f};
    uint32_t out[4];
    (void)state;
    for (int zero_scale = 0; zero_scale < 2; zero_scale++) {
        memory_base m;
        lorafmt_factor f[2];
        lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, zero_scale ? ones : minus_zero, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        lorafmt_view *view;
        lorafmt_error err;
        if (zero_scale)
            site.alpha = site.scale = 0;
        base_init(&m);
        base_add(&m, "w.weight", LORAFMT_F32, 2, 2, w);
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
        assert_false(lorafmt_view_get_tensor(view, 0)->touched);
        assert_int_equal(lorafmt_view_get_site(view, 0)->effect, LORAFMT_EFFECT_NOTHING);
        assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 2, w, 8, out, 8, NULL, &err), LORAFMT_OK);
        assert_memory_equal(out, w, sizeof w);
        lorafmt_view_free(view);
    }
}

static void test_nan_and_infinity_are_counted(void **state)
{
    const uint16_t w[] = {0x7e01, 0x7bff}; // F16: a NaN with payload; 65504, to which 1000 is added
    const float thousand = 1000;
    uint16_t out[2];
    memory_base m;
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 1, ones, &thousand, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_counts counts = {0};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F16, 1, 2, w);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, w, 4, out, 4, &counts, &err), LORAFMT_OK);
    assert_int_equal(out[0], 0x7e00);
    assert_int_equal(out[1], 0x7c00);
    assert_int_equal(counts.n_nan, 1);
    assert_int_equal(counts.n_inf, 1);
    lorafmt_view_free(view);
}

static void count_report(void *ctx, const char *adapter, const char *target, const char *text)
{
    (void)adapter, (void)target, (void)text;
    ++*(size_t *)ctx;
}

/* What does not fit is refused, each with its place. */
static void test_refusals(void **state)
{
    static const struct {
        const char *target;
        uint64_t rows, cols; // of the base's w.weight
        lorafmt_dtype dtype;
        const char *quantization;
        lorafmt_status status;
        const char *text;
    } table[] = {
        {"w.weight", 2, 3, LORAFMT_F32, NULL, LORAFMT_OK, ""},
        {"w.weight", 2, 4, LORAFMT_F32, NULL, LORAFMT_MISMATCH, "the base has [2, 4], the adapter needs [2, 3]"},
        {"v.weight", 2, 3, LORAFMT_F32, NULL, LORAFMT_MISMATCH, "the base has no such tensor"},
        {"w.weight", 2, 3, LORAFMT_I8, NULL, LORAFMT_UNSUPPORTED, "the base has I8"},
        {"w.weight", 2, 3, LORAFMT_F8_E4M3, NULL, LORAFMT_UNSUPPORTED, "the base has F8_E4M3"},
        {"w.weight", 2, 3, LORAFMT_F32, "gptq", LORAFMT_UNSUPPORTED, "quantised (gptq)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        memory_base m;
        lorafmt_factor f[2];
        const lorafmt_site site = test_low_rank(table[i].target, LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        size_t n_reports = 0;
        const lorafmt_bind_options o = {.struct_size = sizeof o, .report = count_report, .report_ctx = &n_reports};
        lorafmt_view *view;
        lorafmt_error err;
        base_init(&m);
        m.base.quantization = table[i].quantization;
        base_add(&m, "w.weight", table[i].dtype, table[i].rows, table[i].cols, ones);
        assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), table[i].status);
        assert_int_equal(n_reports, table[i].status != LORAFMT_OK);
        if (table[i].status) {
            assert_null(view);
            assert_string_equal(err.field, table[i].target);
            assert_non_null(strstr(err.text, table[i].text));
        }
        lorafmt_view_free(view);
    }
}

/* A tensor beside the weight, or in its place, shows that it is quantised (spec 7.5). */
static void test_quantised_siblings(void **state)
{
    static const char *const names[][2] = {{"q.weight", "q.weight_scale_inv"}, {"q.weight", "q.SCB"}, {"q.qweight", "q.qzeros"}};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        memory_base m;
        lorafmt_factor f[2];
        const lorafmt_site site = test_low_rank("q.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        lorafmt_view *view;
        lorafmt_error err;
        base_init(&m);
        base_add(&m, names[i][0], LORAFMT_BF16, 2, 3, ones);
        base_add(&m, names[i][1], LORAFMT_F32, 2, 0, ones);
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_UNSUPPORTED);
        assert_non_null(strstr(err.text, "quantised"));
    }
}

static void test_parts_that_wait_are_refused_by_name(void **state)
{
    static const struct {
        unsigned kind, role;
        const char *text;
    } table[] = {
        {LORAFMT_KIND_CONV2D, LORAFMT_ROLE_MID, "Tucker"},
        {77, LORAFMT_ROLE_B, "newer format"},
        {LORAFMT_KIND_LINEAR, 20, "newer format"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        memory_base m;
        lorafmt_factor f[2];
        lorafmt_site site = test_low_rank("w.weight", table[i].kind, 1, 3, 2, ones, ones, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        lorafmt_view *view;
        lorafmt_error err;
        f[1].role = (uint16_t)table[i].role;
        base_init(&m);
        base_add(&m, "w.weight", LORAFMT_F32, 2, 3, ones);
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_UNSUPPORTED);
        assert_non_null(strstr(err.text, table[i].text));
    }
}

/* spec 8.3: the shape that the base must have, whatever is asked of the view. */
static void test_every_kind_is_held_against_its_base(void **state)
{
    static const struct {
        unsigned kind, orientation;
        uint64_t a[6], b[6], value[3], base[6]; // shapes, ended by 0
        bool fits;
    } table[] = {
        {LORAFMT_KIND_CONV1D, 0, {2, 3, 5}, {4, 2, 1}, {0}, {4, 3, 5}, true},
        {LORAFMT_KIND_CONV1D, 0, {2, 3, 5}, {4, 2, 1}, {0}, {4, 5, 3}, false},
        {LORAFMT_KIND_CONV2D, 0, {2, 3, 5, 1}, {4, 2, 1, 1}, {0}, {4, 3, 5, 1}, true},
        {LORAFMT_KIND_CONV2D, 0, {2, 3, 1, 1}, {4, 2, 1, 1}, {0}, {4, 3}, false},
        {LORAFMT_KIND_EXPERTS, LORAFMT_OUT_IN, {6, 5}, {12, 2}, {0}, {3, 4, 5}, true},
        {LORAFMT_KIND_EXPERTS, LORAFMT_IN_OUT, {6, 5}, {12, 2}, {0}, {3, 4, 5}, false},
        {LORAFMT_KIND_EXPERTS, LORAFMT_IN_OUT, {6, 5}, {12, 2}, {0}, {3, 5, 4}, true},
        {LORAFMT_KIND_EXPERTS, LORAFMT_OUT_IN, {6, 5}, {12, 2}, {0}, {2, 4, 5}, false},
        {LORAFMT_KIND_ADDITIVE, 0, {0}, {0}, {4}, {4}, true},
        {LORAFMT_KIND_ADDITIVE, 0, {0}, {0}, {4}, {5}, false},
        {LORAFMT_KIND_ROWS, 0, {0}, {0}, {2, 3}, {8, 3}, true}, // rows 1 and 7
        {LORAFMT_KIND_ROWS, 0, {0}, {0}, {2, 3}, {7, 3}, false},
        {LORAFMT_KIND_ROWS, 0, {0}, {0}, {2, 3}, {8, 4}, false},
    };
    static const int64_t rows[] = {1, 7};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const bool low_rank = table[i].a[0] != 0, has_rows = table[i].kind == LORAFMT_KIND_ROWS;
        const lorafmt_bind_options check = {.struct_size = sizeof check, .check_only = true};
        memory_base m;
        lorafmt_factor f[2] = {{low_rank ? LORAFMT_ROLE_A : LORAFMT_ROLE_VALUE, shaped(low_rank ? table[i].a : table[i].value)},
                               {LORAFMT_ROLE_B, shaped(table[i].b)}};
        lorafmt_site site = {.target = "w", .kind = (uint16_t)table[i].kind, .scale = 1, .n_factors = 1, .factors = f};
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        const lorafmt_tensor there = shaped(table[i].base);
        lorafmt_view *view;
        lorafmt_error err;
        if (low_rank)
            site.rank = 2, site.alpha = 2, site.scaling = LORAFMT_SCALING_ALPHA_R;
        if (has_rows)
            f[1] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, test_tensor(LORAFMT_I64, 2, 0, rows)};
        site.n_factors = low_rank || has_rows ? 2 : 1;
        site.orientation = (uint8_t)table[i].orientation;
        base_init(&m);
        base_add(&m, "w", LORAFMT_F32, 1, 0, ones);
        m.tensors[0].n_dims = there.n_dims;
        m.tensors[0].size = there.size;
        memcpy(m.tensors[0].shape, there.shape, sizeof there.shape);
        if (bind_one(&m, &adapter, &check, &view, &err) != (table[i].fits ? LORAFMT_OK : LORAFMT_MISMATCH))
            fail_msg("case %zu: %s", i, err.text);
        if (table[i].fits) {
            assert_int_not_equal(lorafmt_view_get_site(view, 0)->effect, LORAFMT_EFFECT_NOTHING);
            assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 0, NULL, 0, NULL, 0, NULL, &err), LORAFMT_MISUSE);
            lorafmt_view_free(view);
        }
    }
}

/* A bridge is taken when exactly one finds every site; a map comes first; both are in the receipt. */
static void test_bridges(void **state)
{
    memory_base m;
    lorafmt_factor f[3][2];
    const lorafmt_site sites[] = {
        test_low_rank("transformer.h.0.w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[0]),
        test_low_rank("transformer.h.1.w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1]),
    };
    const lorafmt_adapter adapter = test_adapter("x", sites, 2);
    const lorafmt_rename rename = {"transformer", ""};
    lorafmt_bind_options o = {.struct_size = sizeof o};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "h.0.w.weight", LORAFMT_F32, 2, 3, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH); // h.1 is not there
    o.allow_unmatched = true;
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_MISMATCH); // no bridge finds all: nothing matches
    base_add(&m, "h.1.w.weight", LORAFMT_F32, 2, 3, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_site(view, 1)->match, LORAFMT_MATCH_BRIDGE);
    assert_string_equal(lorafmt_match_name(lorafmt_view_get_site(view, 1)->match), "bridge");
    assert_string_equal(lorafmt_effect_name(lorafmt_view_get_site(view, 1)->effect), "low-rank");
    assert_string_equal(lorafmt_effect_name(99), "unknown");
    assert_int_equal(lorafmt_view_get_site(view, 1)->tensor, 1);
    assert_non_null(strstr(lorafmt_view_bridge(view, 0), "transformer."));
    lorafmt_view_free(view);
    o.renames = &rename;
    o.n_renames = 1;
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_site(view, 0)->match, LORAFMT_MATCH_MAP);
    assert_null(lorafmt_view_bridge(view, 0));
    lorafmt_view_free(view);
    base_add(&m, "model.transformer.h.0.w.weight", LORAFMT_F32, 2, 3, ones);
    base_add(&m, "model.transformer.h.1.w.weight", LORAFMT_F32, 2, 3, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH); // two bridges
    assert_non_null(strstr(err.text, "names fit the base both as"));
}

static void test_unmatched_can_be_allowed_but_not_all(void **state)
{
    memory_base m;
    lorafmt_factor f[2][2];
    const lorafmt_site sites[] = {test_low_rank("v.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[0]),
                                  test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 2), none = test_adapter("x", sites, 1);
    const lorafmt_bind_options o = {.struct_size = sizeof o, .allow_unmatched = true};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 3, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_site(view, 0)->match, LORAFMT_MATCH_NONE);
    lorafmt_view_free(view);
    assert_int_equal(bind_one(&m, &none, &o, &view, &err), LORAFMT_MISMATCH);
}

/* Replacing: rounded once to the base's dtype, with low rank on top; twice is refused, weighted is refused, late is refused. */
static void test_replacements(void **state)
{
    const uint16_t w[] = {0x3f80, 0x3f80}; // BF16
    const float value[] = {3, 1 + 0x1p-8f}, other[] = {3, 2}, a[] = {1, 1};
    uint16_t out[2];
    memory_base m;
    lorafmt_factor f[4][2];
    const lorafmt_site both[] = {
        test_whole("w.weight", LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 1, 2, value), f[0]),
        test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 1, a, ones, f[1]),
    };
    const lorafmt_site different = test_whole("w.weight", LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 1, 2, other), f[2]);
    const lorafmt_adapter first = test_adapter("first", both, 2), low_rank = test_adapter("low-rank", &both[1], 1);
    const lorafmt_adapter second = test_adapter("second", &different, 1);
    const lorafmt_stack_entry twice[] = {{&first, 1}, {&second, 1}}, late[] = {{&low_rank, 1}, {&second, 1}};
    const lorafmt_stack_entry same[] = {{&second, 1}, {&second, 1}}, weighted[] = {{&second, 0.5}};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_BF16, 1, 2, w);
    assert_int_equal(bind_one(&m, &first, NULL, &view, &err), LORAFMT_OK);
    assert_false(lorafmt_view_get_tensor(view, 0)->reads_base);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, NULL, 0, out, 4, NULL, &err), LORAFMT_OK);
    assert_int_equal(out[0], 0x4080); // 3 + 1
    assert_int_equal(out[1], 0x4000); // 1 + 2^-8 rounds to 1 first, then + 1
    lorafmt_view_free(view);
    assert_int_equal(lorafmt_bind(&m.base, twice, 2, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "replaced twice"));
    assert_int_equal(lorafmt_bind(&m.base, same, 2, NULL, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
    assert_int_equal(lorafmt_bind(&m.base, late, 2, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "put it first"));
    assert_int_equal(lorafmt_bind(&m.base, weighted, 1, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "only weight 1"));
}

/* A saved tensor that the base lacks is added, in the dtype the base's tensors share; a replacement must be there. */
static void test_saved_tensors_may_be_new(void **state)
{
    const uint16_t w[6] = {0};
    const float score[] = {1, 2};
    uint16_t out[2];
    memory_base m;
    lorafmt_factor f[2][2];
    lorafmt_site sites[] = {
        test_whole("score.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 1, 2, score), f[0]),
        test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1]),
    };
    const lorafmt_adapter adapter = test_adapter("x", sites, 2), only_saved = test_adapter("y", sites, 1);
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_BF16, 2, 3, w);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_n_tensors(view), 2);
    assert_string_equal(lorafmt_view_get_tensor(view, 1)->name, "score.weight");
    assert_int_equal(lorafmt_view_get_tensor(view, 1)->dtype, LORAFMT_BF16);
    assert_int_equal(lorafmt_view_get_site(view, 0)->match, LORAFMT_MATCH_NEW);
    assert_int_equal(lorafmt_view_evaluate(view, 1, 0, 1, NULL, 0, out, 4, NULL, &err), LORAFMT_OK);
    assert_int_equal(out[0], 0x3f80);
    assert_int_equal(out[1], 0x4000);
    assert_false(lorafmt_view_unties(view));
    lorafmt_view_free(view);
    assert_int_equal(bind_one(&m, &only_saved, NULL, &view, &err), LORAFMT_MISMATCH); // nothing shows that this is the right base
    sites[0].kind = LORAFMT_KIND_REPLACEMENT;
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
}

/* A head that the base does not store is the embedding, unless the config says that it is not tied. */
static void test_tied_heads(void **state)
{
    const float embedding[] = {1, 2, 3, 4}, other[] = {1, 2, 3, 5};
    memory_base m;
    lorafmt_factor f[3][2];
    const lorafmt_site low_rank = test_low_rank("lm_head.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, ones, f[0]);
    lorafmt_site saved[] = {test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, other), f[1]),
                            test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, ones, f[2])};
    const lorafmt_adapter on_head = test_adapter("x", &low_rank, 1), saves_head = test_adapter("y", saved, 2);
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "model.embed_tokens.weight", LORAFMT_F32, 2, 2, embedding);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 2, ones);
    assert_int_equal(bind_one(&m, &on_head, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_site(view, 0)->match, LORAFMT_MATCH_TIED);
    assert_true(lorafmt_view_get_tensor(view, 0)->touched);
    lorafmt_view_free(view);
    m.base.tied = LORAFMT_TIED_NO;
    assert_int_equal(bind_one(&m, &on_head, NULL, &view, &err), LORAFMT_MISMATCH);
    m.base.tied = LORAFMT_TIED_YES;
    assert_int_equal(bind_one(&m, &saves_head, NULL, &view, &err), LORAFMT_OK); // differs from the embedding: comes untied
    assert_true(lorafmt_view_unties(view));
    assert_int_equal(lorafmt_view_n_tensors(view), 3);
    lorafmt_view_free(view);
    f[1][0].tensor = test_tensor(LORAFMT_F32, 2, 2, embedding);
    assert_int_equal(bind_one(&m, &saves_head, NULL, &view, &err), LORAFMT_OK); // is the embedding: stays tied
    assert_false(lorafmt_view_unties(view));
    assert_int_equal(lorafmt_view_n_tensors(view), 2);
    lorafmt_view_free(view);
}

static void test_grown_vocabulary(void **state)
{
    memory_base m;
    lorafmt_factor f[2][2];
    const lorafmt_site sites[] = {
        test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 3, 2, ones), f[0]),
        test_whole("model.embed_tokens.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 3, 2, ones), f[1]),
    };
    const lorafmt_adapter both = test_adapter("x", sites, 2), one = test_adapter("x", &sites[1], 1);
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "lm_head.weight", LORAFMT_F32, 2, 2, ones);
    base_add(&m, "model.embed_tokens.weight", LORAFMT_F32, 2, 2, ones);
    assert_int_equal(bind_one(&m, &both, NULL, &view, &err), LORAFMT_MISMATCH); // without a vocab_size rows may not change
    m.base.vocab_size = 2;
    assert_int_equal(bind_one(&m, &both, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_vocab_size(view), 3);
    assert_int_equal(lorafmt_view_get_tensor(view, 0)->size, 24);
    lorafmt_view_free(view);
    assert_int_equal(bind_one(&m, &one, NULL, &view, &err), LORAFMT_MISMATCH); // the head keeps 2 rows
    assert_non_null(strstr(err.text, "gets 3 rows, but lm_head.weight has 2"));
}

/* Two sites of one adapter on one tensor are a mistake in the names, unless the base ties what they name. */
static void test_two_sites_on_one_tensor(void **state)
{
    memory_base m;
    lorafmt_factor f[2][2];
    const lorafmt_site sites[] = {test_low_rank("layers.0.q.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[0]),
                                  test_low_rank("model.layers.0.q.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 2);
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "model.layers.0.q.weight", LORAFMT_F32, 2, 3, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "is the same tensor of the base as layers.0.q.weight"));
}

/* A tied head between two mapped sites must not hide that those two are on one tensor. */
static void test_a_tie_hides_nothing(void **state)
{
    memory_base m;
    lorafmt_factor f[3][2];
    const lorafmt_site sites[] = {test_low_rank("a.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[0]),
                                  test_low_rank("lm_head.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1]),
                                  test_low_rank("z.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[2])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 3), tied = test_adapter("y", sites, 2);
    const lorafmt_rename renames[] = {{"a", "model.embed_tokens"}, {"z", "model.embed_tokens"}};
    lorafmt_bind_options o = {.struct_size = sizeof o, .renames = renames, .n_renames = 2};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "model.embed_tokens.weight", LORAFMT_F32, 2, 3, ones);
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_MISMATCH);
    assert_string_equal(err.field, "z.weight");
    o.n_renames = 1;
    assert_int_equal(bind_one(&m, &tied, &o, &view, &err), LORAFMT_OK); // embedding and head, which the base ties
    lorafmt_view_free(view);
}

/* Of several equal replacements the last must come before what is added, or it would undo that. */
static void test_a_repeated_replacement_comes_first_too(void **state)
{
    static const float value[] = {3, 4};
    memory_base m;
    lorafmt_factor f[2][2];
    const lorafmt_site whole = test_whole("w.weight", LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 1, 2, value), f[0]);
    const lorafmt_site low_rank = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 1, ones, ones, f[1]);
    const lorafmt_adapter r = test_adapter("r", &whole, 1), l = test_adapter("l", &low_rank, 1);
    const lorafmt_stack_entry first[] = {{&r, 1}, {&r, 1}, {&l, 1}}, late[] = {{&r, 1}, {&l, 1}, {&r, 1}};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 1, 2, ones);
    assert_int_equal(lorafmt_bind(&m.base, first, 3, NULL, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
    assert_int_equal(lorafmt_bind(&m.base, late, 3, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "put it first"));
}

/* A scale is rounded to the working type: 1e39 is infinite in F32 and not in F64. */
static void test_scales_of_the_working_type(void **state)
{
    static const double w = 1;
    memory_base m;
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 1, 1, ones, ones, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    site.alpha = site.scale = 1e39;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 1, 1, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F64, 1, 1, &w);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
}

/* What looks new must not stand beside the tensor that was meant. */
static void test_names_that_only_look_new(void **state)
{
    static const char *const names[] = {"model.layrs.0.norm.weight", "model.norm.weight", "head.weight"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        memory_base m;
        lorafmt_factor f[2][2];
        lorafmt_site sites[] = {test_whole(names[i], LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 3, 0, ones), f[0]),
                                test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1])};
        const lorafmt_adapter adapter = test_adapter("x", sites, 2);
        lorafmt_view *view;
        lorafmt_error err;
        base_init(&m);
        base_add(&m, "w.weight", LORAFMT_F32, 2, 3, ones);
        base_add(&m, "model.layers.0.norm.weight", LORAFMT_F32, 3, 0, ones);
        base_add(&m, "language_model.head.weight", LORAFMT_F32, 3, 0, ones);
        assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
        assert_string_equal(err.field, names[i]);
    }
}

/* The caller's map is never overruled, and one that fits nothing is a mistake. */
static void test_maps_are_obeyed(void **state)
{
    memory_base m;
    lorafmt_factor f[2][2];
    const lorafmt_site sites[] = {test_whole("score.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 3, 0, ones), f[0]),
                                  test_low_rank("layers.0.q.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f[1])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 2);
    lorafmt_rename rename = {"layers", "nowhere"};
    const lorafmt_bind_options o = {.struct_size = sizeof o, .renames = &rename, .n_renames = 1};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "model.layers.0.q.weight", LORAFMT_F32, 2, 3, ones); // a bridge would find it
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_MISMATCH);
    rename = (lorafmt_rename){"scores", "classifier"};
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "fits no target"));
    rename = (lorafmt_rename){"score", "classifier"};
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_OK);
    assert_string_equal(lorafmt_view_get_tensor(view, 1)->name, "classifier.weight");
    lorafmt_view_free(view);
}

/* Two adapters with one name for two tensors: their own maps tell them apart, and each site has a weight of its own. */
static void test_entries_have_maps_and_weights(void **state)
{
    const float a[] = {1, 2}, b[] = {1, 1};
    const float wanted[2][4] = {{2, 4, 2, 4}, {-1, -2, -1, -2}};
    const lorafmt_rename to_x = {"m", "x"}, to_y = {"m", "y"}, astray = {"n", "y"};
    const double weights[] = {0.25, 2}, infinite[] = {1, (double)INFINITY};
    lorafmt_factor f[2], g[2];
    const lorafmt_site sites[] = {test_low_rank("k.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, a, b, f),
                                  test_low_rank("m.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, a, b, g)};
    const lorafmt_adapter two = test_adapter("two", sites, 2), one = test_adapter("one", sites + 1, 1);
    const lorafmt_stack_entry stack[] = {{&two, 7}, {&one, -1}};
    lorafmt_entry_options entries[] = {{&to_x, 1, weights}, {&to_y, 1, NULL}};
    const lorafmt_bind_options o = {.struct_size = sizeof o, .entries = entries};
    memory_base m;
    lorafmt_view *view;
    lorafmt_error err;
    float dst[4];

    (void)state;
    base_init(&m);
    base_add(&m, "k.weight", LORAFMT_F32, 2, 2, zeros);
    base_add(&m, "x.weight", LORAFMT_F32, 2, 2, zeros);
    base_add(&m, "y.weight", LORAFMT_F32, 2, 2, zeros);
    assert_int_equal(lorafmt_bind(&m.base, stack, 2, &o, &view, &err), LORAFMT_OK);
    assert_true(lorafmt_view_get_site(view, 0)->weight == 0.25 && lorafmt_view_get_site(view, 2)->weight == -1);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(lorafmt_view_evaluate(view, i + 1, 0, 2, zeros, 8, dst, 8, NULL, &err), LORAFMT_OK);
        assert_memory_equal(dst, wanted[i], sizeof dst);
    }
    lorafmt_view_free(view);
    entries[1].renames = &astray;
    assert_int_equal(lorafmt_bind(&m.base, stack, 2, &o, &view, &err), LORAFMT_MISMATCH);
    entries[1].renames = &to_y;
    entries[0].weights = infinite;
    assert_int_equal(lorafmt_bind(&m.base, stack, 2, &o, &view, &err), LORAFMT_MISUSE);
    assert_string_equal(err.field, "m.weight");
}

static void test_no_adapter_is_the_base(void **state)
{
    const float odd[] = {-0.0f, 1e-45f};
    memory_base m;
    lorafmt_view *view;
    lorafmt_error err;
    float dst[2];

    (void)state;
    base_init(&m);
    base_add(&m, "x", LORAFMT_F32, 1, 2, odd);
    assert_int_equal(lorafmt_bind(&m.base, NULL, 0, NULL, &view, &err), LORAFMT_OK);
    assert_false(lorafmt_view_get_tensor(view, 0)->touched);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, odd, 8, dst, 8, NULL, &err), LORAFMT_OK);
    assert_memory_equal(dst, odd, sizeof dst);
    lorafmt_view_free(view);
}

static void test_saved_heads_of_a_tied_base(void **state)
{
    static const float embedding[] = {1, 2, 3, 4}, other[] = {1, 2, 3, 5};
    memory_base m;
    lorafmt_factor f[4][2];
    const lorafmt_site low_rank = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, ones, f[0]);
    lorafmt_site equal[] = {test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, embedding), f[1]),
                            low_rank};
    lorafmt_site differs[] = {test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, other), f[2]),
                              low_rank};
    lorafmt_site larger[] = {test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 3, 2, ones), f[3]),
                             low_rank};
    const lorafmt_adapter a = test_adapter("a", equal, 2), b = test_adapter("b", differs, 2), c = test_adapter("c", larger, 2);
    const lorafmt_stack_entry both[] = {{&a, 1}, {&b, 1}}, weighted[] = {{&a, 0.5}};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "model.embed_tokens.weight", LORAFMT_F32, 2, 2, embedding);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 2, ones);
    assert_int_equal(lorafmt_bind(&m.base, both, 2, NULL, &view, &err), LORAFMT_MISMATCH); // not quietly the second
    assert_non_null(strstr(err.text, "replaced twice"));
    assert_int_equal(lorafmt_bind(&m.base, weighted, 1, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_int_equal(bind_one(&m, &c, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "a head of [3, 2] cannot follow an embedding of [2, 2]"));
}

/* "tied" and both stored: a loader would take one of the two. */
static void test_ambiguous_tie(void **state)
{
    memory_base m;
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("lm_head.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, ones, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "model.embed_tokens.weight", LORAFMT_F32, 2, 2, ones);
    base_add(&m, "lm_head.weight", LORAFMT_F32, 2, 2, ones);
    m.base.tied = LORAFMT_TIED_YES;
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "stores both"));
    m.base.tied = LORAFMT_TIED_UNKNOWN;
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
}

static void test_packed_elements(void **state)
{
    memory_base m;
    lorafmt_factor f[2][2];
    const lorafmt_site sites[] = {test_whole("f4", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F4, 2, 4, ones), f[0]),
                                  test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 2, 2, ones, ones, f[1])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 2), other = test_adapter("y", &sites[1], 1);
    uint8_t out[3] = {0};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "f4", LORAFMT_F4, 2, 3, "abc"); // rows of a byte and a half
    base_add(&m, "w.weight", LORAFMT_F32, 2, 2, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    m.tensors[0].shape[1] = 4;
    m.tensors[0].size = 4;
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_UNSUPPORTED);
    m.tensors[0].shape[1] = 3;
    m.tensors[0].size = 3;
    assert_int_equal(bind_one(&m, &other, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_tensor(view, 0)->row_size, 3);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, "abc", 3, out, 3, NULL, &err), LORAFMT_OK);
    assert_memory_equal(out, "abc", 3);
    lorafmt_view_free(view);
}

static void test_identity_of_the_base(void **state)
{
    memory_base m;
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f);
    lorafmt_adapter adapter = test_adapter("x", &site, 1);
    lorafmt_bind_options o = {.struct_size = sizeof o};
    lorafmt_view *view;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 3, ones);
    site.flags = LORAFMT_SITE_BASE_SHA256;
    lf_sha256_of(ones, 24, site.base_sha256);
    adapter.has_base_structure = true;
    assert_int_equal(lorafmt_base_structure(&m.base, adapter.base_structure, &err), LORAFMT_OK);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
    m.data[0] = zeros;
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_string_equal(err.field, "w.weight");
    o.any_base = true;
    assert_int_equal(bind_one(&m, &adapter, &o, &view, &err), LORAFMT_OK);
    lorafmt_view_free(view);
    m.data[0] = ones;
    base_add(&m, "extra", LORAFMT_F32, 1, 0, ones);
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_MISMATCH);
    assert_non_null(strstr(err.text, "other tensor names"));
}

/* spec 6.2, put together by hand for two tensors, given in the other order. */
static void test_structure(void **state)
{
    static const uint8_t bytes[] = "lora base structure v1\0"
                                   "\2\0\0\0\0\0\0\0"
                                   "\1\0\0\0a\3\0\0\0F32\1\0\0\0\4\0\0\0\0\0\0\0"
                                   "\3\0\0\0b.c\4\0\0\0BF16\2\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0";
    uint8_t wanted[32], got[32];
    memory_base m;
    lorafmt_error err;
    (void)state;
    base_init(&m);
    base_add(&m, "b.c", LORAFMT_BF16, 2, 3, ones);
    base_add(&m, "a", LORAFMT_F32, 4, 0, ones);
    lf_sha256_of(bytes, sizeof bytes, wanted);
    assert_int_equal(lorafmt_base_structure(&m.base, got, &err), LORAFMT_OK);
    assert_memory_equal(got, wanted, sizeof got);
    base_add(&m, "a", LORAFMT_F32, 4, 0, ones);
    assert_int_equal(lorafmt_base_structure(&m.base, got, &err), LORAFMT_MISUSE);
}

static void assert_misused(const lorafmt_base *base, const lorafmt_stack_entry *stack, size_t n, const lorafmt_bind_options *o)
{
    lorafmt_view *view = NULL;
    lorafmt_error err;

    assert_int_equal(lorafmt_bind(base, stack, n, o, &view, &err), LORAFMT_MISUSE);
    assert_null(view);
    assert_true(err.text[0]);
}

static void test_wrong_arguments_of_bind(void **state)
{
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f);
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    const lorafmt_stack_entry good = {&adapter, 1}, none = {NULL, 1}, heavy = {&adapter, INFINITY}, nan = {&adapter, NAN};
    const lorafmt_bind_options old = {.struct_size = 8},
                               sideways = {.struct_size = sizeof sideways,
                                           .has_orientation = true,
                                           .orientation = (lorafmt_orientation)3},
                               no_cpu = {.struct_size = sizeof no_cpu, .cpu = (lorafmt_cpu)99};
    memory_base m;

    (void)state;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 3, zeros);
    assert_misused(NULL, &good, 1, NULL);
    assert_misused(&m.base, NULL, 1, NULL);
    assert_misused(&m.base, &none, 1, NULL);
    assert_misused(&m.base, &heavy, 1, NULL);
    assert_misused(&m.base, &nan, 1, NULL);
    assert_misused(&m.base, &good, 1, &old);
    assert_misused(&m.base, &good, 1, &sideways);
    assert_misused(&m.base, &good, 1, &no_cpu);
    m.base.struct_size--;
    assert_misused(&m.base, &good, 1, NULL);
    m.base.struct_size++;
    m.tensors[0].size++;
    assert_misused(&m.base, &good, 1, NULL);
    m.tensors[0].size--;
    m.tensors[0].n_dims = LORAFMT_MAX_DIMS + 1;
    assert_misused(&m.base, &good, 1, NULL);
}

static void test_wrong_arguments_of_a_view(void **state)
{
    const lorafmt_bind_options check_only = {.struct_size = sizeof check_only, .check_only = true};
    lorafmt_factor f[3], g[2];
    lorafmt_site sites[] = {test_low_rank("d.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, f),
                            test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, g)};
    const lorafmt_adapter adapter = test_adapter("x", sites, 2);
    float dst[6];
    const lorafmt_rows some = {ones, 4, LORAFMT_F4, dst, 4, LORAFMT_F4, 0, 1};
    memory_base m;
    lorafmt_view *view;
    lorafmt_error err;

    (void)state;
    f[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 2, 0, ones)};
    sites[0].n_factors = 3;
    base_init(&m);
    base_add(&m, "w.weight", LORAFMT_F32, 2, 3, zeros);
    base_add(&m, "d.weight", LORAFMT_F32, 2, 3, ones);
    base_add(&m, "packed", LORAFMT_F4, 2, 4, ones);
    m.base.read = NULL;
    assert_int_equal(bind_one(&m, &adapter, NULL, &view, &err), LORAFMT_OK);
    assert_null(lorafmt_view_get_tensor(view, 3));
    assert_null(lorafmt_view_get_site(view, 2));
    assert_null(lorafmt_view_bridge(view, 1));
    assert_int_equal(lorafmt_view_factors_size(view, 3), 0);
    assert_int_equal(lorafmt_view_prepare(view, 3, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_prepare(view, 1, &err), LORAFMT_MISUSE); // which cannot be read
    assert_string_equal(err.field, "d.weight");
    assert_int_equal(lorafmt_view_prepare(view, 0, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_factors(view, 3, dst, 0, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_evaluate(view, 3, 0, 1, ones, 12, dst, 12, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_evaluate(view, 1, 0, 1, ones, 12, dst, 12, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, NULL, 12, dst, 12, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 0, NULL, 12, dst, 12, NULL, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_evaluate_as(view, 2, 0, 1, &some, NULL, &err), LORAFMT_MISUSE);
    lorafmt_view_free(view);
    assert_int_equal(bind_one(&m, &adapter, &check_only, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_prepare(view, 0, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, ones, 12, dst, 12, NULL, &err), LORAFMT_MISUSE);
    lorafmt_view_free(view);
}

/* --- a base that cannot be read at some time --- */

static unsigned n_reads_left;

static lorafmt_status read_until(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    if (n_reads_left == 0)
        return lf_fail(err, LORAFMT_IO, LORAFMT_NO_OFFSET, NULL, "no more reads");
    n_reads_left--;
    return read_memory(ctx, tensor, offset, size, dst, err);
}

static lorafmt_status bind_and_prepare(const memory_base *m, const lorafmt_adapter *adapter, lorafmt_error *err)
{
    lorafmt_view *view;
    lorafmt_status st = bind_one(m, adapter, NULL, &view, err);

    for (size_t i = 0; !st && i < m->base.n_tensors; i++)
        st = lorafmt_view_prepare(view, i, err);
    lorafmt_view_free(view);
    return st;
}

/* A digest of the base, a saved head that may be the embedding, a DoRA site: each is read for. */
static void test_reads_that_fail(void **state)
{
    lorafmt_factor d[3], e[1], h[1];
    lorafmt_site sites[] = {test_low_rank("d.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, d),
                            test_whole("embed_tokens.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 3, ones), e),
                            test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 3, zeros), h)};
    const lorafmt_adapter adapter = test_adapter("x", sites, 3);
    memory_base m;
    lorafmt_status st = LORAFMT_IO;
    unsigned n = 0;

    (void)state;
    d[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 2, 0, ones)};
    sites[0].n_factors = 3;
    sites[0].flags = LORAFMT_SITE_BASE_SHA256;
    lf_sha256_of(ones, 24, sites[0].base_sha256);
    base_init(&m);
    base_add(&m, "d.weight", LORAFMT_F32, 2, 3, ones);
    base_add(&m, "embed_tokens.weight", LORAFMT_F32, 2, 3, zeros);
    m.base.tied = LORAFMT_TIED_YES;
    m.base.read = read_until;
    for (; st == LORAFMT_IO; n++) {
        lorafmt_error err;
        n_reads_left = n;
        st = bind_and_prepare(&m, &adapter, &err);
        if (st == LORAFMT_IO)
            assert_string_equal(err.text, "no more reads");
        else if (st)
            fail_msg("%s: %s", err.field, err.text);
    }
    assert_true(n > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_in_both_orientations),
        cmocka_unit_test(test_square_by_shape_is_refused),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_splits_and_environment_do_not_matter),
        cmocka_unit_test(test_one_rounding_for_a_stack),
        cmocka_unit_test(test_f64_factor_decides_a_tie),
        cmocka_unit_test(test_nothing_contributed_is_a_copy),
        cmocka_unit_test(test_nan_and_infinity_are_counted),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_quantised_siblings),
        cmocka_unit_test(test_parts_that_wait_are_refused_by_name),
        cmocka_unit_test(test_every_kind_is_held_against_its_base),
        cmocka_unit_test(test_bridges),
        cmocka_unit_test(test_unmatched_can_be_allowed_but_not_all),
        cmocka_unit_test(test_replacements),
        cmocka_unit_test(test_saved_tensors_may_be_new),
        cmocka_unit_test(test_tied_heads),
        cmocka_unit_test(test_grown_vocabulary),
        cmocka_unit_test(test_two_sites_on_one_tensor),
        cmocka_unit_test(test_a_tie_hides_nothing),
        cmocka_unit_test(test_a_repeated_replacement_comes_first_too),
        cmocka_unit_test(test_scales_of_the_working_type),
        cmocka_unit_test(test_names_that_only_look_new),
        cmocka_unit_test(test_maps_are_obeyed),
        cmocka_unit_test(test_entries_have_maps_and_weights),
        cmocka_unit_test(test_no_adapter_is_the_base),
        cmocka_unit_test(test_saved_heads_of_a_tied_base),
        cmocka_unit_test(test_ambiguous_tie),
        cmocka_unit_test(test_packed_elements),
        cmocka_unit_test(test_identity_of_the_base),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_wrong_arguments_of_bind),
        cmocka_unit_test(test_wrong_arguments_of_a_view),
        cmocka_unit_test(test_reads_that_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
