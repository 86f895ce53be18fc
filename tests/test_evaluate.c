/* SPDX-License-Identifier: MIT */
/* Evaluating drawn tensors, any rows of them, on every level of this CPU, against the definition of spec 7.1, element by element. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/kernels/fpenv.h"
#include "lib/kernels/real.h"
#include "lib/view/evaluate.h"
#include "tests/adapters.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_ROWS = 90, MAX_COLS = 700, MAX_RANK = 1100, MAX_ADAPTERS = 3, N_CASES = 120 };

static uint64_t draw_bits(uint64_t *state) // splitmix64
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t draw_below(uint64_t *seed, size_t n)
{
    return (size_t)(draw_bits(seed) % n);
}

static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_F16, LORAFMT_BF16, LORAFMT_F64};

/* An array of numbers in (-1, 1), of a drawn dtype. */
typedef struct array {
    lorafmt_dtype dtype;
    uint8_t *data;
} array;

static array draw_array(uint64_t *seed, size_t n_dtypes, size_t n)
{
    array a = {.dtype = dtypes[draw_below(seed, n_dtypes)]};
    const lf_real real = lf_real_of(a.dtype);
    lf_tally unused = {0};

    a.data = malloc(n * lf_real_size(real) + 1);
    assert_non_null(a.data);
    for (size_t i = 0; i < n; i++) {
        const double x = (double)(int64_t)draw_bits(seed) * 0x1p-63;
        lf_narrow_f64(real, &x, a.data + i * lf_real_size(real), 1, &unused);
    }
    return a;
}

static double get(const array *a, size_t i)
{
    double x;
    lf_widen_f64(lf_real_of(a->dtype), a->data + i * lf_real_size(lf_real_of(a->dtype)), &x, 1);
    return x;
}

/* One tensor and what is added to it. */
typedef struct drawn {
    size_t n_rows, n_cols, n_experts, n_adapters;
    bool in_out, f64;
    array w, a[MAX_ADAPTERS], b[MAX_ADAPTERS];
    uint32_t rank[MAX_ADAPTERS];
    lorafmt_base base;
    lorafmt_base_tensor tensor;
    lorafmt_factor factors[MAX_ADAPTERS][2];
    lorafmt_site sites[MAX_ADAPTERS];
    lorafmt_adapter adapters[MAX_ADAPTERS];
    lorafmt_stack_entry stack[MAX_ADAPTERS];
    array out; // what is wanted, and what is asked for
    uint8_t *made;
} drawn;

/* The logical matrices are out x in for each expert; in_out stores them transposed. */
static void draw_case(uint64_t *seed, drawn *d)
{
    const size_t n_dtypes = draw_below(seed, 4) ? 3 : 4;

    memset(d, 0, sizeof *d);
    d->n_experts = draw_below(seed, 3) ? 1 : 3;
    d->n_rows = 1 + draw_below(seed, MAX_ROWS);
    d->n_cols = 1 + draw_below(seed, draw_below(seed, 2) ? MAX_COLS : 40);
    d->in_out = draw_below(seed, 2);
    d->n_adapters = 1 + draw_below(seed, MAX_ADAPTERS);
    d->w = draw_array(seed, n_dtypes, d->n_experts * d->n_rows * d->n_cols);
    d->f64 = d->w.dtype == LORAFMT_F64;
    d->tensor = (lorafmt_base_tensor){.name = "w.weight", .dtype = d->w.dtype, .n_dims = 2, .shape = {d->n_rows, d->n_cols}};
    if (d->n_experts > 1)
        d->tensor = (lorafmt_base_tensor){.name = "w.weight",
                                          .dtype = d->w.dtype,
                                          .n_dims = 3,
                                          .shape = {d->n_experts, d->n_rows, d->n_cols}};
    lf_tensor_measure(d->tensor.dtype, d->tensor.n_dims, d->tensor.shape, &d->tensor.size);
    d->base = (lorafmt_base){.struct_size = sizeof d->base, .n_tensors = 1, .tensors = &d->tensor};
    for (size_t k = 0; k < d->n_adapters; k++) {
        const size_t n_out = d->in_out ? d->n_cols : d->n_rows, n_in = d->in_out ? d->n_rows : d->n_cols;
        const uint32_t rank = 1 + (uint32_t)draw_below(seed, draw_below(seed, 40) ? 20 : MAX_RANK);
        d->rank[k] = rank;
        d->a[k] = draw_array(seed, n_dtypes, d->n_experts * rank * n_in);
        d->b[k] = draw_array(seed, n_dtypes, d->n_experts * rank * n_out);
        d->f64 = d->f64 || d->a[k].dtype == LORAFMT_F64 || d->b[k].dtype == LORAFMT_F64;
        d->sites[k] = test_low_rank("w.weight", d->n_experts > 1 ? LORAFMT_KIND_EXPERTS : LORAFMT_KIND_LINEAR, rank, n_in, n_out,
                                    NULL, NULL, d->factors[k]);
        d->sites[k].orientation = d->in_out ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
        d->sites[k].scale = 0.37 * (double)(k + 1);
        d->factors[k][0].tensor = test_tensor(d->a[k].dtype, d->n_experts * rank, n_in, d->a[k].data);
        d->factors[k][1].tensor = test_tensor(d->b[k].dtype, d->n_experts * n_out, rank, d->b[k].data);
        d->adapters[k] = test_adapter("x", &d->sites[k], 1);
        d->stack[k] = (lorafmt_stack_entry){&d->adapters[k], 1.5};
    }
    d->out.dtype = draw_below(seed, 2) ? d->w.dtype : dtypes[draw_below(seed, 3)];
    d->out.data = malloc(d->n_experts * d->n_rows * d->n_cols * 8);
    d->made = malloc(d->n_experts * d->n_rows * d->n_cols * 8);
    assert_true(d->out.data && d->made);
}

static void free_case(drawn *d)
{
    for (size_t k = 0; k < d->n_adapters; k++) {
        free(d->a[k].data);
        free(d->b[k].data);
    }
    free(d->w.data);
    free(d->out.data);
    free(d->made);
}

/* Factor p of what adapter k adds at (row, col) of an expert's stored matrix: that of the row, and that of the column. */
static double left(const drawn *d, size_t k, size_t expert, size_t row, size_t p)
{
    const size_t rank = d->rank[k];
    return d->in_out ? get(&d->a[k], (expert * rank + p) * d->n_rows + row)
                     : get(&d->b[k], (expert * d->n_rows + row) * rank + p);
}

static double right(const drawn *d, size_t k, size_t expert, size_t p, size_t col)
{
    const size_t rank = d->rank[k];
    return d->in_out ? get(&d->b[k], (expert * d->n_cols + col) * rank + p)
                     : get(&d->a[k], (expert * rank + p) * d->n_cols + col);
}

static double defined_f64(const drawn *d, size_t expert, size_t row, size_t col)
{
    double x = get(&d->w, (expert * d->n_rows + row) * d->n_cols + col);
    for (size_t k = 0; k < d->n_adapters; k++) {
        double delta = 0;
        for (size_t p = 0; p < d->rank[k]; p++)
            delta = fma(left(d, k, expert, row, p), right(d, k, expert, p, col), delta);
        x = fma(1.5 * d->sites[k].scale, delta, x);
    }
    return x;
}

static float defined_f32(const drawn *d, size_t expert, size_t row, size_t col)
{
    float x = (float)get(&d->w, (expert * d->n_rows + row) * d->n_cols + col);
    for (size_t k = 0; k < d->n_adapters; k++) {
        float delta = 0;
        for (size_t p = 0; p < d->rank[k]; p++)
            delta = fmaf((float)left(d, k, expert, row, p), (float)right(d, k, expert, p, col), delta);
        x = fmaf((float)(1.5 * d->sites[k].scale), delta, x);
    }
    return x;
}

/* Everything, as the definition has it; and what that did. */
static void work_out(drawn *d, lf_change *change)
{
    const lf_real from = lf_real_of(d->w.dtype), to = lf_real_of(d->out.dtype);
    lf_tally unused = {0};

    memset(change, 0, sizeof *change);
    for (size_t i = 0; i < d->n_experts * d->n_rows * d->n_cols; i++) {
        const size_t expert = i / (d->n_rows * d->n_cols), row = i / d->n_cols % d->n_rows, col = i % d->n_cols;
        const uint8_t *base = d->w.data + i * lf_real_size(from);
        uint8_t *out = d->out.data + i * lf_real_size(to);
        if (d->f64) {
            const double x = defined_f64(d, expert, row, col);
            lf_narrow_f64(to, &x, out, 1, &unused);
            lf_change_add_f64(from, base, &x, to, out, 1, change);
        } else {
            const float x = defined_f32(d, expert, row, col);
            lf_narrow_f32(to, &x, out, 1, &unused);
            lf_change_add_f32(from, base, &x, to, out, 1, change);
        }
    }
}

/* Row ranges of drawn lengths, of which single rows are evaluated in two parts. */
static void evaluate(uint64_t *seed, drawn *d, const lorafmt_view *view, lorafmt_change *change)
{
    const size_t from_unit = lf_real_size(lf_real_of(d->w.dtype)), to_unit = lf_real_size(lf_real_of(d->out.dtype));
    const size_t from_stride = d->n_cols * from_unit, to_stride = d->n_cols * to_unit, all = d->n_experts * d->n_rows;
    lf_tally tally = {0};
    lorafmt_error err;

    for (size_t row = 0, n; row < all; row += n) {
        lorafmt_rows rows =
            {d->w.data + row * from_stride, from_stride, d->w.dtype, d->made + row * to_stride, to_stride, d->out.dtype, 0, 0};
        lf_region part = {row, 1, 0, draw_below(seed, d->n_cols + 1)};
        n = 1 + draw_below(seed, all - row);
        if (n == 1) {
            assert_int_equal(lf_view_evaluate(view, 0, &part, &rows, NULL, &tally, change, &err), LORAFMT_OK);
            rows.src = d->w.data + row * from_stride + part.n_cols * from_unit;
            rows.dst = d->made + row * to_stride + part.n_cols * to_unit;
            part.col = part.n_cols;
            part.n_cols = d->n_cols - part.col;
            assert_int_equal(lf_view_evaluate(view, 0, &part, &rows, NULL, &tally, change, &err), LORAFMT_OK);
        } else if (change) {
            assert_int_equal(lorafmt_view_measure(view, 0, row, n, rows.src, from_stride, rows.dst, to_stride, change, &err),
                             LORAFMT_OK);
        } else {
            assert_int_equal(lorafmt_view_evaluate_as(view, 0, row, n, &rows, NULL, &err), LORAFMT_OK);
        }
    }
    assert_memory_equal(d->made, d->out.data, all * to_stride);
}

static void check_change(const lorafmt_change *got, const lf_change *wanted, size_t n)
{
    assert_int_equal(got->n_elements, n);
    assert_int_equal(got->n_unchanged, wanted->n_unchanged);
    assert_int_equal(got->max_ulp, wanted->max_ulp);
    assert_true(fabs(got->sum_asked - wanted->sum_asked) <= 1e-6 * wanted->sum_asked);
    assert_true(fabs(got->sum_realised - wanted->sum_realised) <= 1e-6 * wanted->sum_realised);
    assert_true(fabs(got->sum_along - wanted->sum_along) <= 1e-6 * sqrt(wanted->sum_asked * wanted->sum_realised));
}

static void test_any_rows_of_any_tensor(void **state)
{
    static const lorafmt_cpu levels[] = {LORAFMT_CPU_BEST, LORAFMT_CPU_SCALAR, LORAFMT_CPU_AVX2, LORAFMT_CPU_AVX512,
                                         LORAFMT_CPU_NEON};
    uint64_t seed = 1;
    size_t n_done = 0;
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        lf_change change;
        drawn d;
        draw_case(&seed, &d);
        work_out(&d, &change);
        for (size_t level = 0; level < sizeof levels / sizeof *levels; level++) {
            const lorafmt_bind_options options = {.struct_size = sizeof options, .cpu = levels[level]};
            lorafmt_change measured = {0};
            lorafmt_view *view;
            lorafmt_error err;
            const lorafmt_status status = lorafmt_bind(&d.base, d.stack, d.n_adapters, &options, &view, &err);
            if (status == LORAFMT_MISUSE && level > 1) // not of this CPU
                continue;
            assert_int_equal(status, LORAFMT_OK);
            evaluate(&seed, &d, view, NULL);
            if (d.out.dtype == d.w.dtype) {
                evaluate(&seed, &d, view, &measured);
                check_change(&measured, &change, d.n_experts * d.n_rows * d.n_cols);
            }
            lorafmt_view_free(view);
            n_done++;
        }
        free_case(&d);
    }
    assert_true(n_done >= 2 * N_CASES);
}

/* spec 7.2, 7.3: what is not computed is copied, or converted once. */
static void test_other_dtypes_of_what_is_not_computed(void **state)
{
    const float values[] = {1.00390625f, -3}, base[] = {7, 8}; // 1 + 2^-8: halfway between two bf16, the even one is 1
    const uint16_t rounded[] = {0x3f80, 0xc040};
    const lorafmt_base_tensor tensor = {"w", LORAFMT_F32, 1, {2}, sizeof values};
    const lorafmt_base b = {.struct_size = sizeof b, .n_tensors = 1, .tensors = &tensor};
    uint16_t out[2];
    lorafmt_rows rows = {values, sizeof values, LORAFMT_F32, out, sizeof out, LORAFMT_BF16, 0, 0};
    (void)state;
    for (int replaced = 0; replaced < 2; replaced++) {
        lorafmt_factor f[1];
        lorafmt_site site = test_whole("w", LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 2, 0, values), f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        const lorafmt_stack_entry entry = {&adapter, 1.0};
        lorafmt_view *view;
        lorafmt_error err;
        if (!replaced) {
            site.kind = LORAFMT_KIND_ADDITIVE;
            site.scale = 0;
        }
        assert_int_equal(lorafmt_bind(&b, &entry, 1, NULL, &view, &err), LORAFMT_OK);
        rows.src = replaced ? base : values;
        assert_int_equal(lorafmt_view_evaluate_as(view, 0, 0, 1, &rows, NULL, &err), LORAFMT_OK);
        assert_memory_equal(out, rounded, sizeof out);
        rows.dst_dtype = LORAFMT_I16;
        assert_int_equal(lorafmt_view_evaluate_as(view, 0, 0, 1, &rows, NULL, &err), LORAFMT_MISUSE);
        rows.dst_dtype = LORAFMT_BF16;
        lorafmt_view_free(view);
    }
}

/* One of three rows is replaced: 1 becomes 2, 2 stays. */
static void test_replaced_rows_are_measured(void **state)
{
    const float base[] = {7, 8, 1, 2, 9, 10}, value[] = {2, 2}, wanted[] = {7, 8, 2, 2, 9, 10};
    const uint64_t number = 1;
    const lorafmt_base_tensor tensor = {"w", LORAFMT_F32, 2, {3, 2}, sizeof base};
    const lorafmt_base b = {.struct_size = sizeof b, .n_tensors = 1, .tensors = &tensor};
    lorafmt_factor f[] = {{LORAFMT_ROLE_VALUE, test_tensor(LORAFMT_F32, 1, 2, value)},
                          {LORAFMT_ROLE_ROW_INDEX, test_tensor(LORAFMT_I64, 1, 0, &number)}};
    const lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_ROWS, .scale = 1.0, .n_factors = 2, .factors = f};
    const lorafmt_adapter adapter = test_adapter("x", &site, 1);
    const lorafmt_stack_entry entry = {&adapter, 1.0};
    lorafmt_change change = {0};
    lorafmt_view *view;
    lorafmt_error err;
    float out[6];
    (void)state;
    assert_int_equal(lorafmt_bind(&b, &entry, 1, NULL, &view, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_view_measure(view, 0, 0, 3, base, 8, out, 8, &change, &err), LORAFMT_OK);
    assert_memory_equal(out, wanted, sizeof out);
    assert_int_equal(change.n_elements, 6);
    assert_int_equal(change.n_unchanged, 5);
    assert_int_equal(change.max_ulp, 1 << 23);
    assert_true(change.sum_asked == 1 && change.sum_realised == 1 && change.sum_along == 1);
    lorafmt_view_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_rows_of_any_tensor),
        cmocka_unit_test(test_other_dtypes_of_what_is_not_computed),
        cmocka_unit_test(test_replaced_rows_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
