/* SPDX-License-Identifier: MIT */
/* Evaluating kinds other than plain matrices, against the formulas of spec 7 written out here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorafmt/view.h"
#include "tests/adapters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_ELEMENTS 4096

/* A base of one tensor in memory. */
typedef struct one_tensor {
    lorafmt_base base;
    lorafmt_base_tensor tensor;
    const uint8_t *data;
} one_tensor;

static lorafmt_status read_one(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const one_tensor *t = ctx;
    (void)tensor, (void)err;
    memcpy(dst, t->data + offset, size);
    return LORAFMT_OK;
}

static void one_tensor_init(one_tensor *t, lorafmt_dtype dtype, uint32_t n_dims, const uint64_t *shape, const void *data)
{
    *t = (one_tensor){.tensor = {.name = "w", .dtype = dtype, .n_dims = n_dims}, .data = data};
    memcpy(t->tensor.shape, shape, n_dims * sizeof *shape);
    assert_true(lf_tensor_measure(dtype, n_dims, shape, &t->tensor.size));
    t->base = (lorafmt_base){.struct_size = sizeof t->base, .n_tensors = 1, .tensors = &t->tensor, .read = read_one, .ctx = t};
}

static lorafmt_tensor tensor_of(lorafmt_dtype dtype, uint32_t n_dims, const uint64_t *shape, const void *data)
{
    lorafmt_tensor t = {.dtype = dtype, .n_dims = n_dims, .data = data};
    memcpy(t.shape, shape, n_dims * sizeof *shape);
    assert_true(lf_tensor_measure(dtype, n_dims, shape, &t.size));
    return t;
}

#define SHAPE(...) ((const uint64_t[]){__VA_ARGS__})

/* Numbers in -1 .. 1 that all come from one seed. */
static void draw(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = (float)(int32_t)seed / 2147483648.0f;
    }
}

static void evaluate_all(lorafmt_view *view, const one_tensor *t, void *dst)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(view, 0);
    lorafmt_error err;
    uint64_t row = 0;

    if (info->needs_prepare)
        assert_int_equal(lorafmt_view_evaluate(view, 0, 0, 1, t->data, 0, dst, 0, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_prepare(view, 0, &err), LORAFMT_OK);
    for (uint64_t step = 1; row < info->n_rows; row += step, step = step % 3 + 1) { // in pieces, of which none is the whole
        const uint64_t n = info->n_rows - row < step ? info->n_rows - row : step, at = row * info->row_size;
        assert_int_equal(lorafmt_view_evaluate(view, 0, row, n, t->data + at, (size_t)info->row_size, (uint8_t *)dst + at,
                                               (size_t)info->row_size, NULL, &err),
                         LORAFMT_OK);
    }
}

static void merge(const one_tensor *t, const lorafmt_site *sites, size_t n, void *dst)
{
    const lorafmt_adapter adapter = test_adapter("x", sites, n);
    const lorafmt_stack_entry entry = {&adapter, 1.0};
    lorafmt_view *view;
    lorafmt_error err = {0};

    if (lorafmt_bind(&t->base, &entry, 1, NULL, &view, &err))
        fail_msg("%s: %s", err.field, err.text);
    evaluate_all(view, t, dst);
    lorafmt_view_free(view);
}

static void refuse(const one_tensor *t, const lorafmt_stack_entry *stack, size_t n, lorafmt_status status, const char *text)
{
    lorafmt_view *view;
    lorafmt_error err = {0};

    assert_int_equal(lorafmt_bind(&t->base, stack, n, NULL, &view, &err), status);
    if (!strstr(err.text, text))
        fail_msg("'%s' does not say '%s'", err.text, text);
}

static lorafmt_site low_rank(unsigned kind, unsigned orientation, uint32_t rank, double scale, lorafmt_factor *f, uint32_t n)
{
    return (lorafmt_site){.target = "w",
                          .kind = (uint16_t)kind,
                          .orientation = (uint8_t)orientation,
                          .scaling = LORAFMT_SCALING_EXPLICIT,
                          .rank = rank,
                          .scale = scale,
                          .n_factors = n,
                          .factors = f};
}

/* One expert after the other, in both orientations, whatever rows are asked for: acc = fma(s, Σ fma(B, A), W). */
static void test_experts(void **state)
{
    enum { E = 3, OUT = 4, IN = 5, R = 2 };
    float w[E * OUT * IN], a[E * R * IN], b[E * OUT * R], got[E * OUT * IN];
    lorafmt_factor f[2] = {{LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 2, SHAPE(E * R, IN), a)},
                           {LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 2, SHAPE(E * OUT, R), b)}};
    (void)state;

    draw(w, E * OUT * IN, 1);
    draw(a, E * R * IN, 2);
    draw(b, E * OUT * R, 3);
    for (int swapped = 0; swapped < 2; swapped++) {
        const lorafmt_site site = low_rank(LORAFMT_KIND_EXPERTS, swapped ? LORAFMT_IN_OUT : LORAFMT_OUT_IN, R, 0.75, f, 2);
        one_tensor t;
        one_tensor_init(&t, LORAFMT_F32, 3, swapped ? SHAPE(E, IN, OUT) : SHAPE(E, OUT, IN), w);
        merge(&t, &site, 1, got);
        for (size_t e = 0; e < E; e++)
            for (size_t o = 0; o < OUT; o++)
                for (size_t i = 0; i < IN; i++) {
                    const size_t at = swapped ? (e * IN + i) * OUT + o : (e * OUT + o) * IN + i;
                    float delta = 0;
                    for (size_t r = 0; r < R; r++)
                        delta = fmaf(b[(e * OUT + o) * R + r], a[(e * R + r) * IN + i], delta);
                    assert_true(got[at] == fmaf(0.75f, delta, w[at]));
                }
    }
}

/* Rows of a tensor are not the same to both, so no stack can have them; found by fuzzing. */
static void test_no_tensor_is_experts_and_a_kernel(void **state)
{
    static const float ones[24] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    lorafmt_factor f[2][2] = {{{LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 2, SHAPE(3, 2), ones)},
                               {LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 2, SHAPE(12, 1), ones)}},
                              {{LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 3, SHAPE(1, 4, 2), ones)},
                               {LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 3, SHAPE(3, 1, 1), ones)}}};
    const lorafmt_site sites[] = {low_rank(LORAFMT_KIND_EXPERTS, LORAFMT_OUT_IN, 1, 1, f[0], 2),
                                  low_rank(LORAFMT_KIND_CONV1D, LORAFMT_OUT_IN, 1, 1, f[1], 2)};
    const lorafmt_adapter experts = test_adapter("x", &sites[0], 1), kernel = test_adapter("y", &sites[1], 1);
    one_tensor t;
    (void)state;

    one_tensor_init(&t, LORAFMT_F32, 3, SHAPE(3, 4, 2), ones);
    refuse(&t, (const lorafmt_stack_entry[]){{&experts, 1}, {&kernel, 1}}, 2, LORAFMT_MISMATCH,
           "is conv1d here and experts to another adapter");
    refuse(&t, (const lorafmt_stack_entry[]){{&kernel, 1}, {&experts, 1}}, 2, LORAFMT_MISMATCH,
           "is experts here and conv1d to another adapter");
}

static void test_additive(void **state)
{
    float w[6], x[6], got[6];
    lorafmt_factor f[1] = {{LORAFMT_ROLE_VALUE, tensor_of(LORAFMT_F32, 1, SHAPE(6), x)}};
    lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_ADDITIVE, .scaling = LORAFMT_SCALING_EXPLICIT, .scale = 2.5};
    one_tensor t;
    (void)state;

    draw(w, 6, 4);
    draw(x, 6, 5);
    site.n_factors = 1;
    site.factors = f;
    one_tensor_init(&t, LORAFMT_F32, 1, SHAPE(6), w);
    merge(&t, &site, 1, got);
    for (size_t i = 0; i < 6; i++)
        assert_true(got[i] == fmaf(2.5f, x[i], w[i]));
    memset(x, 0, sizeof x);
    x[3] = -0.0f; // still nothing: the bytes of the base, its negative zeros too
    w[2] = -0.0f;
    merge(&t, &site, 1, got);
    assert_memory_equal(got, w, sizeof w);
}

/* Rows are replaced first; a low-rank update then starts from them. */
static void test_rows(void **state)
{
    static const int64_t numbers[] = {1, 3};
    float w[5 * 3], value[2 * 3], a[5], b[3], got[5 * 3];
    lorafmt_factor rows[2] = {{LORAFMT_ROLE_VALUE, tensor_of(LORAFMT_F32, 2, SHAPE(2, 3), value)},
                              {LORAFMT_ROLE_ROW_INDEX, tensor_of(LORAFMT_I64, 1, SHAPE(2), numbers)}};
    lorafmt_factor f[2] = {{LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 2, SHAPE(1, 5), a)},
                           {LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 2, SHAPE(3, 1), b)}};
    const lorafmt_site sites[] = {
        {.target = "w", .kind = LORAFMT_KIND_ROWS, .scale = 1, .n_factors = 2, .factors = rows},
        low_rank(LORAFMT_KIND_EMBEDDING, LORAFMT_OUT_IN, 1, 0.5, f, 2),
    };
    one_tensor t;
    (void)state;

    draw(w, 5 * 3, 6);
    draw(value, 2 * 3, 7);
    draw(a, 5, 8);
    draw(b, 3, 9);
    one_tensor_init(&t, LORAFMT_F32, 2, SHAPE(5, 3), w);
    for (size_t n = 1; n <= 2; n++) {
        merge(&t, sites, n, got);
        for (size_t row = 0; row < 5; row++)
            for (size_t d = 0; d < 3; d++) {
                const float start = row == 1 ? value[d] : row == 3 ? value[3 + d] : w[row * 3 + d];
                assert_true(got[row * 3 + d] == (n == 1 ? start : fmaf(0.5f, fmaf(b[d], a[row], 0), start)));
            }
    }
}

/* Rows in another dtype are rounded once, to the base's. */
static void test_rows_take_the_dtype_of_the_base(void **state)
{
    static const int64_t numbers[] = {1};
    static const uint16_t w[] = {0x3f80, 0x3f80, 0x3f80, 0x3f80}; // BF16 ones
    static const float value[] = {1.00390625f, -2.0f};            // halfway between two BF16: to the even one
    static const uint16_t wanted[] = {0x3f80, 0x3f80, 0x3f80, 0xc000};
    const lorafmt_factor rows[2] = {{LORAFMT_ROLE_VALUE, tensor_of(LORAFMT_F32, 2, SHAPE(1, 2), value)},
                                    {LORAFMT_ROLE_ROW_INDEX, tensor_of(LORAFMT_I64, 1, SHAPE(1), numbers)}};
    const lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_ROWS, .scale = 1, .n_factors = 2, .factors = rows};
    uint16_t got[4];
    one_tensor t;
    (void)state;

    one_tensor_init(&t, LORAFMT_BF16, 2, SHAPE(2, 2), w);
    merge(&t, &site, 1, got);
    assert_memory_equal(got, wanted, sizeof got);
}

/* --- DoRA --- */

/* sqrt of the sum of squares of x[0], x[step] ..., as spec 7.4 adds them. */
static double striped_norm(const float *x, size_t n, size_t step)
{
    double s[16] = {0};

    for (size_t i = 0; i < n; i++)
        s[i % 16] += (double)x[i * step] * (double)x[i * step];
    for (size_t half = 8; half; half /= 2) // ((0+8)+(4+12)) + ((2+10)+(6+14)) and so on is this tree
        for (size_t i = 0; i < half; i++)
            s[i] = s[i] + s[i + half];
    return sqrt(s[0]);
}

static void test_dora(void **state)
{
    enum { OUT = 37, IN = 53, R = 3 };
    static float w[OUT * IN], a[R * IN], b[OUT * R], m[OUT], v[OUT * IN], got[OUT * IN];
    lorafmt_factor f[3] = {{LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 2, SHAPE(R, IN), a)},
                           {LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 2, SHAPE(OUT, R), b)},
                           {LORAFMT_ROLE_MAGNITUDE, tensor_of(LORAFMT_F32, 1, SHAPE(OUT), m)}};
    (void)state;

    draw(w, OUT * IN, 10);
    draw(a, R * IN, 11);
    draw(m, OUT, 13);
    for (int swapped = 0; swapped < 2; swapped++) {
        const lorafmt_site site = low_rank(LORAFMT_KIND_LINEAR, swapped ? LORAFMT_IN_OUT : LORAFMT_OUT_IN, R, 1.5, f, 3);
        one_tensor t;
        one_tensor_init(&t, LORAFMT_F32, 2, swapped ? SHAPE(IN, OUT) : SHAPE(OUT, IN), w);
        for (int zero_b = 0; zero_b < 2; zero_b++) { // a zero B is not the identity here
            draw(b, OUT * R, 12);
            if (zero_b)
                memset(b, 0, sizeof b);
            merge(&t, &site, 1, got);
            for (size_t o = 0; o < OUT; o++)
                for (size_t i = 0; i < IN; i++) {
                    const size_t at = swapped ? i * OUT + o : o * IN + i;
                    float delta = 0;
                    for (size_t r = 0; r < R; r++)
                        delta = fmaf(b[o * R + r], a[r * IN + i], delta);
                    v[at] = fmaf(1.5f, delta, w[at]);
                }
            for (size_t o = 0; o < OUT; o++) {
                const size_t step = swapped ? OUT : 1, first = swapped ? o : o * IN;
                const float factor = m[o] / (float)striped_norm(v + first, IN, step);
                for (size_t i = 0; i < IN; i++)
                    assert_true(got[first + i * step] == factor * v[first + i * step]);
            }
        }
    }
}

/* The second one sees what the first one made. */
static void test_two_doras(void **state)
{
    enum { OUT = 2, IN = 3 };
    static const float w[OUT * IN] = {1, 2, 2, 0, 3, 4}, ones[3] = {1, 1, 1}, zeros[2] = {0}, m1[2] = {6, 10}, m2[2] = {3, 1};
    lorafmt_factor f[2][3];
    lorafmt_site sites[2];
    lorafmt_adapter adapters[2];
    lorafmt_stack_entry stack[2];
    float got[OUT * IN];
    lorafmt_view *view;
    lorafmt_error err;
    one_tensor t;
    (void)state;

    one_tensor_init(&t, LORAFMT_F32, 2, SHAPE(OUT, IN), w);
    for (size_t k = 0; k < 2; k++) {
        f[k][0] = (lorafmt_factor){LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 2, SHAPE(1, IN), ones)};
        f[k][1] = (lorafmt_factor){LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 2, SHAPE(OUT, 1), zeros)};
        f[k][2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, tensor_of(LORAFMT_F32, 1, SHAPE(OUT), k ? m2 : m1)};
        sites[k] = low_rank(LORAFMT_KIND_LINEAR, LORAFMT_OUT_IN, 1, 1.0, f[k], 3);
        adapters[k] = test_adapter(k ? "b" : "a", &sites[k], 1);
        stack[k] = (lorafmt_stack_entry){&adapters[k], 1.0};
    }
    assert_int_equal(lorafmt_bind(&t.base, stack, 2, NULL, &view, &err), LORAFMT_OK);
    evaluate_all(view, &t, got);
    lorafmt_view_free(view);
    // rows of norm 3 and 5 become 6 and 10 long, and then 3 and 1
    for (size_t i = 0; i < OUT * IN; i++)
        assert_true(fabsf(got[i] - w[i] * (i < IN ? 1.0f : 0.2f)) < 1e-6f);
    stack[1].weight = 0.5;
    refuse(&t, stack, 2, LORAFMT_MISMATCH, "DoRA cannot be weighted");
}

/* A replacement must not undo what an earlier adapter did, and rows cannot be halved. */
static void test_rows_in_a_stack(void **state)
{
    static const int64_t numbers[] = {0};
    static const float w[4] = {1, 2, 3, 4}, value[2] = {5, 6}, other[2] = {5, 7}, ones[2] = {1, 1};
    lorafmt_factor rows[2][2], f[2] = {{LORAFMT_ROLE_A, tensor_of(LORAFMT_F32, 2, SHAPE(1, 2), ones)},
                                       {LORAFMT_ROLE_B, tensor_of(LORAFMT_F32, 2, SHAPE(2, 1), ones)}};
    lorafmt_site sites[3] = {{0}};
    lorafmt_adapter adapters[3];
    lorafmt_stack_entry stack[3];
    one_tensor t;
    (void)state;

    one_tensor_init(&t, LORAFMT_F32, 2, SHAPE(2, 2), w);
    for (size_t k = 0; k < 3; k++) {
        if (k < 2) {
            rows[k][0] = (lorafmt_factor){LORAFMT_ROLE_VALUE, tensor_of(LORAFMT_F32, 2, SHAPE(1, 2), k ? other : value)};
            rows[k][1] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, tensor_of(LORAFMT_I64, 1, SHAPE(1), numbers)};
            sites[k] = (lorafmt_site){.target = "w", .kind = LORAFMT_KIND_ROWS, .scale = 1, .n_factors = 2, .factors = rows[k]};
        } else
            sites[k] = low_rank(LORAFMT_KIND_LINEAR, LORAFMT_OUT_IN, 1, 1.0, f, 2);
        adapters[k] = test_adapter(k == 0 ? "a" : k == 1 ? "b" : "c", &sites[k], 1);
        stack[k] = (lorafmt_stack_entry){&adapters[k], 1.0};
    }
    refuse(&t, stack, 2, LORAFMT_MISMATCH, "rows are replaced twice");
    stack[1] = stack[0];
    stack[0] = stack[2];
    refuse(&t, stack, 2, LORAFMT_MISMATCH, "later in the stack, replaces this tensor; put it first");
    stack[1].weight = 0.5;
    refuse(&t, stack + 1, 1, LORAFMT_MISMATCH, "cannot be weighted");
}

/* --- what does not fit --- */

static const int64_t first_rows[] = {0, 2}, other_rows[] = {1, 2}, far_rows[] = {1, 3};

static lorafmt_tensor tensor_up_to(lorafmt_dtype dtype, const uint64_t shape[3])
{
    static const float data[64];
    uint32_t n_dims = 0;

    while (n_dims < 3 && shape[n_dims])
        n_dims++;
    return tensor_of(dtype, n_dims, shape, data);
}

typedef struct misfit {
    lorafmt_dtype base_dtype;
    uint64_t base_shape[3];
    unsigned kind;
    lorafmt_dtype dtype;
    uint64_t shape[3];
    const int64_t *rows;
    double weight;
    lorafmt_status status;
    const char *says;
} misfit;

static const misfit misfits[] = {
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 2}, first_rows, 1, LORAFMT_OK, ""},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F16, {2, 2}, first_rows, 1, LORAFMT_OK, ""},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 3}, first_rows, 1, LORAFMT_MISMATCH, "rows do not fit"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 2, 1}, first_rows, 1, LORAFMT_MISMATCH, "rows do not fit"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 2}, far_rows, 1, LORAFMT_MISMATCH, "rows do not fit"},
    {LORAFMT_F32, {3}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2}, first_rows, 1, LORAFMT_UNSUPPORTED, "rows of one element"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 2}, first_rows, 2, LORAFMT_MISMATCH, "cannot be weighted with 2"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_I8, {2, 2}, first_rows, 1, LORAFMT_MISMATCH, "the adapter's rows are I8"},
    {LORAFMT_I8, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_I8, {2, 2}, first_rows, 1, LORAFMT_UNSUPPORTED, "the base has I8"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_F32, {3, 2}, NULL, 1, LORAFMT_OK, ""},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_F32, {2, 3}, NULL, 1, LORAFMT_MISMATCH, "the base has [3, 2]"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_F32, {6}, NULL, 1, LORAFMT_MISMATCH, "adds [6] of F32"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_I8, {3, 2}, NULL, 1, LORAFMT_MISMATCH, "adds [3, 2] of I8"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_F32, {3, 2}, NULL, 1e300, LORAFMT_MISMATCH, "beyond what F32 holds"},
    {LORAFMT_I8, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_F32, {3, 2}, NULL, 1, LORAFMT_UNSUPPORTED, "the base has I8"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_BF16, {3, 2}, NULL, 1, LORAFMT_OK, ""},
    {LORAFMT_I8, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_I8, {3, 2}, NULL, 1, LORAFMT_OK, ""},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_F32, {3}, NULL, 1, LORAFMT_MISMATCH, "replaces it by [3]"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_F32, {3, 3}, NULL, 1, LORAFMT_MISMATCH, "replaces it by [3, 3]"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_I8, {3, 2}, NULL, 1, LORAFMT_MISMATCH, "replaces it by I8"},
    {LORAFMT_I8, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_F32, {3, 2}, NULL, 1, LORAFMT_MISMATCH, "replaces it by F32"},
    {LORAFMT_F4, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_F4, {3, 2}, NULL, 1, LORAFMT_UNSUPPORTED, "replacing a tensor of F4"},
    {LORAFMT_F32, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_F32, {3, 2}, NULL, 2, LORAFMT_MISMATCH, "cannot be weighted"},
};

static lorafmt_site site_of(const misfit *m, lorafmt_factor f[2])
{
    lorafmt_site site = test_whole("w", m->kind, tensor_up_to(m->dtype, m->shape), f);

    if (m->rows) {
        f[1] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, tensor_of(LORAFMT_I64, 1, SHAPE(2), m->rows)};
        site.n_factors = 2;
    }
    return site;
}

static void assert_binds(const lorafmt_base *base, const lorafmt_stack_entry *stack, size_t n, lorafmt_status status,
                         const char *says)
{
    lorafmt_error err = {0};
    lorafmt_view *view;

    if (lorafmt_bind(base, stack, n, NULL, &view, &err) != status || !strstr(err.text, says))
        fail_msg("%s '%s', not %s '%s'", lorafmt_status_name(err.status), err.text, lorafmt_status_name(status), says);
    assert_int_equal(view != NULL, status == LORAFMT_OK);
    lorafmt_view_free(view);
}

static void test_misfits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++) {
        const lorafmt_tensor t = tensor_up_to(misfits[i].base_dtype, misfits[i].base_shape);
        lorafmt_factor f[2];
        const lorafmt_site site = site_of(&misfits[i], f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        const lorafmt_stack_entry entry = {&adapter, misfits[i].weight};
        one_tensor base;
        one_tensor_init(&base, t.dtype, t.n_dims, t.shape, t.data);
        assert_binds(&base.base, &entry, 1, misfits[i].status, misfits[i].says);
    }
}

/* Two adapters for one tensor: what one replaces, the other must not have touched before, nor replace otherwise. */
static void test_what_does_not_go_together(void **state)
{
    static const misfit kinds[] = {
        {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 2}, first_rows, 1, LORAFMT_OK, ""},
        {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ROWS, LORAFMT_F32, {2, 2}, other_rows, 1, LORAFMT_OK, ""},
        {LORAFMT_F32, {3, 2}, LORAFMT_KIND_ADDITIVE, LORAFMT_F32, {3, 2}, NULL, 1, LORAFMT_OK, ""},
        {LORAFMT_F32, {3, 2}, LORAFMT_KIND_REPLACEMENT, LORAFMT_F32, {3, 2}, NULL, 1, LORAFMT_OK, ""},
    };
    static const char later[] = "later in the stack, replaces this tensor; put it first",
                      twice[] = "rows are replaced twice, with different ones (first by adapter x)";
    static const char *const says[4][4] = {
        {"", twice, "", later},
        {twice, "", "", later},
        {later, later, "", later},
        {"", "", "", ""},
    };
    one_tensor base;
    static const float zeros[6];

    (void)state;
    one_tensor_init(&base, LORAFMT_F32, 2, SHAPE(3, 2), zeros);
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 4; k++) {
            lorafmt_factor f[2], g[2];
            const lorafmt_site first = site_of(&kinds[i], f), second = site_of(&kinds[k], g);
            const lorafmt_adapter x = test_adapter("x", &first, 1), y = test_adapter("y", &second, 1);
            const lorafmt_stack_entry stack[] = {{&x, 1}, {&y, 1}};
            assert_binds(&base.base, stack, 2, says[i][k][0] ? LORAFMT_MISMATCH : LORAFMT_OK, says[i][k]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_no_tensor_is_experts_and_a_kernel),
        cmocka_unit_test(test_additive),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rows_take_the_dtype_of_the_base),
        cmocka_unit_test(test_dora),
        cmocka_unit_test(test_two_doras),
        cmocka_unit_test(test_rows_in_a_stack),
        cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_what_does_not_go_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
