/* SPDX-License-Identifier: MIT */
/*
 * Batches of tokens, each with an adapter of its own, against the formulas of lorafmt/forward.h written out here: to the bit, and
 * within the bound that they state of the sum in binary64. Gradients against finite differences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/kernels/kernels.h"
#include "lib/view/view.h"
#include "lorafmt/train.h"
#include "tests/adapters.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_TOKENS = 300, MAX_ADAPTERS = 40, MAX_UPDATES = 3 };

static uint64_t seed;

static double draw(void) // in [-1, 1)
{
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)(int64_t)(z ^ z >> 31) * 0x1p-63;
}

static size_t size_of(lorafmt_dtype dtype)
{
    return lorafmt_dtype_bits(dtype) / 8;
}

static void put(lorafmt_dtype dtype, void *data, size_t i, float x)
{
    lf_tally tally = {0};

    lf_narrow_f32(lf_real_of(dtype), &x, (uint8_t *)data + i * size_of(dtype), 1, &tally);
}

static float get(lorafmt_dtype dtype, const void *data, size_t i)
{
    float x;

    lf_widen_f32(lf_real_of(dtype), (const uint8_t *)data + i * size_of(dtype), &x, 1);
    return x;
}

/* n numbers, after `before` bytes that move them out of line. */
static void *numbers(lorafmt_dtype dtype, size_t n, size_t before)
{
    uint8_t *data = malloc(before + n * size_of(dtype) + 1);

    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        put(dtype, data + before, i, (float)draw());
    return data;
}

/* --- a layer, adapters for it, and tokens --- */

typedef struct some_batch {
    lorafmt_batch b;
    lorafmt_updates layer[MAX_ADAPTERS];
    lorafmt_update updates[MAX_ADAPTERS][MAX_UPDATES];
    void *owned[MAX_ADAPTERS * MAX_UPDATES * 3];
    size_t n_owned;
    uint32_t adapters[MAX_TOKENS];
    void *x, *y, *before; // before: y as it was
} some_batch;

static void *own(some_batch *s, void *data)
{
    s->owned[s->n_owned++] = data;
    return data;
}

static void batch_init(some_batch *s, size_t in, size_t out, size_t n_tokens, lorafmt_dtype dtype)
{
    memset(s, 0, sizeof *s);
    s->b = (lorafmt_batch){.n_tokens = n_tokens,
                           .in = in,
                           .out = out,
                           .x_stride = (in + 3) * size_of(dtype),
                           .x_dtype = dtype,
                           .y_stride = (out + 5) * size_of(dtype),
                           .y_dtype = dtype,
                           .adapters = s->adapters,
                           .layer = s->layer};
    s->b.x = s->x = numbers(dtype, n_tokens * (in + 3), 0);
    s->b.y = s->y = numbers(dtype, n_tokens * (out + 5), 0);
    s->before = malloc(n_tokens * s->b.y_stride + 1);
    assert_non_null(s->before);
    memcpy(s->before, s->y, n_tokens * s->b.y_stride);
}

/* One more update of an adapter. */
static lorafmt_update *add_update(some_batch *s, size_t adapter, uint32_t rank, lorafmt_dtype dtype, float scale)
{
    lorafmt_updates *layer = &s->layer[adapter];
    lorafmt_update *u = &s->updates[adapter][layer->n++];

    if (adapter >= s->b.n_adapters)
        s->b.n_adapters = adapter + 1;
    layer->updates = s->updates[adapter];
    *u = (lorafmt_update){.in = s->b.in,
                          .out = s->b.out,
                          .a = (uint8_t *)own(s, numbers(dtype, rank * s->b.in, 1)) + 1, // not aligned
                          .b = (uint8_t *)own(s, numbers(dtype, s->b.out * rank, 1)) + 1,
                          .a_dtype = dtype,
                          .b_dtype = dtype,
                          .rank = rank,
                          .scale = scale};
    return u;
}

static void batch_free(some_batch *s)
{
    for (size_t i = 0; i < s->n_owned; i++)
        free(s->owned[i]);
    free(s->x);
    free(s->y);
    free(s->before);
}

static void run_as(const some_batch *s, const lorafmt_workspace_options *more)
{
    lorafmt_workspace_options options = more ? *more : (lorafmt_workspace_options){.n_threads = 1};
    lorafmt_workspace *ws;
    lorafmt_error err;

    options.struct_size = sizeof options;
    options.max_tokens = MAX_TOKENS;
    options.max_rank = 1000;
    if (lorafmt_workspace_new(&options, &ws, &err) || lorafmt_forward(ws, &s->b, &err))
        fail_msg("%s: %s", err.field, err.text);
    lorafmt_workspace_free(ws);
}

/* --- what must come out --- */

static float dot_in_stripes(const lorafmt_update *u, size_t p, const some_batch *s, size_t t)
{
    const uint8_t *x = (const uint8_t *)s->x + t * s->b.x_stride;
    float sums[16] = {0};

    for (size_t j = 0; j < s->b.in; j++)
        sums[j % 16] = fmaf(get(u->a_dtype, u->a, p * s->b.in + j), get(s->b.x_dtype, x, j), sums[j % 16]);
    for (size_t half = 8; half; half /= 2)
        for (size_t k = 0; k < half; k++)
            sums[k] += sums[k + half];
    return sums[0];
}

/* y of a token as lorafmt/forward.h has it; also in binary64, and how far the two may be apart but for the rounding at the end. */
static void expect_token(const some_batch *s, size_t t, float *y, double *exact, double *bound)
{
    const lorafmt_updates *layer = s->adapters[t] == LORAFMT_NO_ADAPTER ? &(lorafmt_updates){0} : &s->layer[s->adapters[t]];
    const uint8_t *before = (const uint8_t *)s->before + t * s->b.y_stride;

    for (size_t i = 0; i < s->b.out; i++) {
        exact[i] = y[i] = get(s->b.y_dtype, before, i);
        bound[i] = 0;
    }
    for (size_t k = 0; k < layer->n; k++) {
        const lorafmt_update *u = &layer->updates[k];
        float *h = calloc(u->rank + 1, sizeof *h);
        double *sum = calloc(u->rank + 1, sizeof *sum), *size = calloc(u->rank + 1, sizeof *size);
        const double n = ceil((double)s->b.in / 16) + u->rank + 7, unit = n * 0x1p-24 / (1 - n * 0x1p-24);
        assert_true(h && sum && size);
        for (size_t p = 0; p < u->rank; p++) {
            h[p] = dot_in_stripes(u, p, s, t);
            for (size_t j = 0; j < s->b.in; j++) {
                const double product = (double)get(u->a_dtype, u->a, p * s->b.in + j) *
                                       get(s->b.x_dtype, (const uint8_t *)s->x + t * s->b.x_stride, j);
                sum[p] += product;
                size[p] += fabs(product);
            }
        }
        for (size_t i = 0; i < s->b.out; i++) {
            float d = 0;
            for (size_t p = 0; p < u->rank; p++) {
                const float b = get(u->b_dtype, u->b, i * u->rank + p);
                d = fmaf(b, h[p], d);
                exact[i] += (double)u->scale * b * sum[p];
                bound[i] += unit * fabs((double)u->scale * b) * size[p];
            }
            if (u->scale != 0 && u->rank)
                y[i] = fmaf(u->scale, d, y[i]);
            if (u->factors) {
                y[i] *= u->factors[i];
                exact[i] *= u->factors[i];
                bound[i] = bound[i] * fabs((double)u->factors[i]) + 0x1p-24 * fabs(exact[i]);
            }
            bound[i] += 0x1p-24 * fabs(exact[i]); // the rounding of fma
        }
        free(h);
        free(sum);
        free(size);
    }
}

static void check_batch(const some_batch *s)
{
    const size_t out = s->b.out, unit = size_of(s->b.y_dtype);
    const double last = s->b.y_dtype == LORAFMT_F32 ? 0 : s->b.y_dtype == LORAFMT_F16 ? 0x1p-11 : 0x1p-8;
    uint8_t *bytes = malloc(out * unit + 1);
    float *y = malloc((out + 1) * sizeof *y);
    double *exact = malloc((out + 1) * sizeof *exact), *bound = malloc((out + 1) * sizeof *bound);

    assert_true(bytes && y && exact && bound);
    for (size_t t = 0; t < s->b.n_tokens; t++) {
        const uint8_t *got = (const uint8_t *)s->y + t * s->b.y_stride;
        expect_token(s, t, y, exact, bound);
        for (size_t i = 0; i < out; i++) {
            const double x = get(s->b.y_dtype, got, i);
            put(s->b.y_dtype, bytes, i, y[i]);
            assert_true(fabs(x - exact[i]) <= 1.001 * bound[i] + last * fabs(exact[i]) + 0x1p-24);
        }
        assert_memory_equal(got, bytes, out * unit);
        assert_memory_equal(got + out * unit, (const uint8_t *)s->before + t * s->b.y_stride + out * unit,
                            5 * unit); // between rows
    }
    free(bytes);
    free(y);
    free(exact);
    free(bound);
}

/* --- tests --- */

static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16};

/* Every size of a tile and what is left over of it, ranks that differ, rank 0, scale 0, an adapter that nobody names, tokens without. */
static void test_a_mixed_batch(void **state)
{
    static const struct {
        size_t in, out, n_tokens;
    } sizes[] = {{1, 1, 1}, {16, 16, 3}, {40, 70, 30}, {33, 17, 9}, {300, 530, 20}, {0, 5, 3}, {1100, 3, 70}};
    (void)state;

    for (size_t d = 0; d < 9; d++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            some_batch s;
            seed = 10 * d + i;
            batch_init(&s, sizes[i].in, sizes[i].out, sizes[i].n_tokens, dtypes[d % 3]);
            for (size_t a = 0; a < 8; a++)
                add_update(&s, a, (uint32_t[]){8, 5, 16, 0, 32, 1, 4, 12}[a], dtypes[d / 3], a == 6 ? 0 : 1.5f - (float)a);
            add_update(&s, 2, 7, dtypes[d % 3], 0.25f); // a stack
            s.b.n_adapters = 9;                         // one without updates
            for (size_t t = 0; t < s.b.n_tokens; t++) {
                const size_t which = (size_t)((draw() + 1) * 5);
                s.adapters[t] = which == 9 || which == 1 ? LORAFMT_NO_ADAPTER : (uint32_t)which;
            }
            run_as(&s, NULL);
            check_batch(&s);
            batch_free(&s);
        }
}

static void test_one_adapter_for_all_and_one_for_each(void **state)
{
    (void)state;
    for (int each = 0; each < 2; each++) {
        some_batch s;
        seed = 7;
        batch_init(&s, 64, 100, 40, LORAFMT_BF16);
        for (size_t t = 0; t < 40; t++) {
            if (t == 0 || each)
                add_update(&s, t, 8, LORAFMT_BF16, 2);
            s.adapters[t] = each ? (uint32_t)(39 - t) : 0;
        }
        if (!each)
            s.b.adapters = NULL;
        run_as(&s, NULL);
        check_batch(&s);
        batch_free(&s);
    }
}

/* Of more tokens, ranks and columns than are done at once; tokens of two adapters take turns in runs of 1 to 9. */
static void test_large_groups_and_ranks(void **state)
{
    static const struct {
        size_t in, out, n_tokens;
        uint32_t rank;
    } cases[] = {{48, 90, MAX_TOKENS, 4}, {48, 90, 70, 70}, {48, 90, 5, 600}, {48, 90, 66, 513}, {2100, 700, 150, 20}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t taking_turns = 0; taking_turns < 2; taking_turns++) {
            some_batch s;
            seed = i;
            batch_init(&s, cases[i].in, cases[i].out, cases[i].n_tokens, dtypes[taking_turns]);
            add_update(&s, 0, cases[i].rank, LORAFMT_BF16, 0.5f);
            add_update(&s, 1, cases[i].rank, LORAFMT_F16, -0.5f);
            for (size_t t = 0, run = 0; t < cases[i].n_tokens; run++)
                for (size_t k = 0; k <= run % 9 && t < cases[i].n_tokens; k++)
                    s.adapters[t++] = taking_turns ? run % 2 : 0;
            run_as(&s, NULL);
            check_batch(&s);
            batch_free(&s);
        }
}

/* DoRA in a stack: what is before it is multiplied too. */
static void test_dora(void **state)
{
    for (size_t d = 0; d < 3; d++) {
        some_batch s;
        seed = 3 + d;
        batch_init(&s, 40, 300, 80, dtypes[d]);
        add_update(&s, 0, 4, LORAFMT_F32, 1.5f);
        add_update(&s, 0, 8, dtypes[d], -2)->factors = own(&s, numbers(LORAFMT_F32, 300, 0));
        add_update(&s, 0, 3, LORAFMT_F32, 0.5f);
        add_update(&s, 1, 0, LORAFMT_F32, 0)->factors = own(&s, numbers(LORAFMT_F32, 300, 0));
        for (size_t t = 0; t < 80; t++)
            s.adapters[t] = t % 3 == 2 ? LORAFMT_NO_ADAPTER : (uint32_t)t % 3;
        run_as(&s, NULL);
        check_batch(&s);
        batch_free(&s);
    }
    (void)state;
}

static void run_in_reverse(void *ctx, size_t n, void (*work)(void *ctx, size_t i), void *work_ctx)
{
    *(size_t *)ctx += n;
    while (n--)
        work(work_ctx, n);
}

/* Whatever CPU, threads and executor. */
static void test_nothing_else_changes_a_bit(void **state)
{
    size_t n_items = 0;
    const lorafmt_workspace_options ways[] = {
        {.n_threads = 1, .cpu = LORAFMT_CPU_SCALAR},
        {.n_threads = 1, .cpu = LORAFMT_CPU_AVX2},
        {.n_threads = 1, .cpu = LORAFMT_CPU_AVX512},
        {.n_threads = 1, .cpu = LORAFMT_CPU_NEON},
        {.n_threads = 4},
        {.n_threads = 3, .executor = run_in_reverse, .executor_ctx = &n_items},
    };
    (void)state;

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        some_batch s;
        lf_kernels unused;
        if (lf_choose_kernels(ways[i].cpu, &unused, NULL) != LORAFMT_OK)
            continue;
        seed = 1;
        batch_init(&s, 700, 1300, 60, LORAFMT_F16);
        for (size_t a = 0; a < 5; a++)
            add_update(&s, a, 8 + 12 * (uint32_t)a, dtypes[a % 3], 1);
        for (size_t t = 0; t < 60; t++)
            s.adapters[t] = t < 30 ? 0 : (uint32_t)t % 5;
        run_as(&s, &ways[i]);
        check_batch(&s);
        batch_free(&s);
    }
    assert_int_equal(n_items, 6); // thrice for each half
}

static void run_one(void *ctx, size_t n, void (*work)(void *ctx, size_t i), void *work_ctx)
{
    (void)ctx, (void)n;
    work(work_ctx, 0);
}

static void refuse(lorafmt_workspace *ws, const some_batch *s, const char *text)
{
    lorafmt_error err;
    char all[512];

    assert_int_equal(lorafmt_forward(ws, &s->b, &err), LORAFMT_MISUSE);
    lorafmt_error_format(&err, all, sizeof all);
    if (!strstr(all, text))
        fail_msg("'%s' does not say '%s'", all, text);
    assert_memory_equal(s->y, s->before, 4 * 17 * sizeof(float));
}

static void test_what_is_refused(void **state)
{
    lorafmt_workspace_options options = {.struct_size = sizeof options, .max_tokens = 4, .max_rank = 8, .n_threads = 1};
    lorafmt_workspace *ws;
    lorafmt_error err;
    some_batch s;
    (void)state;

    assert_int_equal(lorafmt_workspace_new(NULL, &ws, &err), LORAFMT_MISUSE);
    options.max_rank = 0;
    assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_MISUSE);
    assert_null(ws);
    options.max_rank = 8;
    options.cpu = (lorafmt_cpu)9;
    assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_MISUSE);
    options.cpu = LORAFMT_CPU_BEST;
    assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_OK);
    batch_init(&s, 10, 12, 4, LORAFMT_F32);
    add_update(&s, 0, 8, LORAFMT_F32, 1);
    s.b.n_tokens = 5;
    refuse(ws, &s, "n_tokens: 5, the workspace is for 4");
    s.b.n_tokens = 4;
    s.adapters[2] = 1;
    refuse(ws, &s, "token 2 names adapter 1, there are 1");
    s.adapters[2] = 0;
    s.updates[0][0].rank = 9;
    refuse(ws, &s, "adapter 0 has rank 9, the workspace is for 8");
    s.updates[0][0].rank = 1u << 31; // twice that is 0 in 32 bits
    s.updates[0][1] = s.updates[0][0];
    s.layer[0].n = 2;
    refuse(ws, &s, "adapter 0 has rank 4294967296, the workspace is for 8");
    s.layer[0].n = 1;
    s.updates[0][0].rank = 8;
    s.b.n_adapters = 5;
    refuse(ws, &s, "n_adapters: 5, the workspace is for 4");
    s.b.n_adapters = 1;
    s.updates[0][0].b_dtype = LORAFMT_F64;
    refuse(ws, &s, "must be F32, F16 or BF16");
    s.updates[0][0].b_dtype = LORAFMT_F32;
    s.updates[0][0].out = 13;
    refuse(ws, &s, "adapter 0 is for 10 inputs and 13 outputs, the batch has 10 and 12");
    s.updates[0][0].out = 12;
    s.b.x_dtype = LORAFMT_I8;
    refuse(ws, &s, "x: dtype");
    s.b.x_dtype = LORAFMT_F32;
    s.b.y_stride = 47;
    refuse(ws, &s, "y: stride 47, must be whole elements and at least 48 bytes");
    s.b.y_stride = 17 * sizeof(float);
    s.b.x = (const uint8_t *)s.x + 2;
    refuse(ws, &s, "x: is not aligned");
    s.b.x = s.x;
    assert_int_equal(lorafmt_forward(ws, &s.b, &err), LORAFMT_OK);
    check_batch(&s);
    lorafmt_workspace_free(ws);
    batch_free(&s);

    batch_init(&s, 5000, 5000, 4, LORAFMT_F32);
    add_update(&s, 0, 8, LORAFMT_F32, 1);
    options.n_threads = 2;
    options.executor = run_one;
    assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_forward(ws, &s.b, &err), LORAFMT_MISUSE);
    assert_string_equal(err.text, "it ran 1 of 2 items");
    lorafmt_workspace_free(ws);
    batch_free(&s);
}

/* --- of a view --- */

enum { IN = 37, OUT = 21, RANK = 5, N_ROUNDINGS = IN / 16 + 2 * RANK + 16 };

static lorafmt_status read_weights(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    (void)tensor, (void)err;
    memcpy(dst, (const uint8_t *)ctx + offset, size);
    return LORAFMT_OK;
}

/* What merging in F32 makes of a weight, times x; and how far unmerged may be from it. */
static void check_like_merged(const lorafmt_view *view, const float *w, bool swapped, const lorafmt_update *u, const float *x,
                              const float *y)
{
    const size_t row_size = (swapped ? OUT : IN) * sizeof(float);
    float merged[IN * OUT];

    assert_int_equal(lorafmt_view_evaluate(view, 0, 0, swapped ? IN : OUT, w, row_size, merged, row_size, NULL, NULL),
                     LORAFMT_OK);
    for (size_t i = 0; i < OUT; i++) {
        const double factor = u->factors ? fabs((double)u->factors[i]) : 1;
        double expected = 0, size = 0;
        for (size_t j = 0; j < IN; j++) {
            const size_t at = swapped ? j * OUT + i : i * IN + j;
            double update = 0;
            for (size_t p = 0; p < RANK; p++)
                update += fabs((double)((const float *)u->a)[p * IN + j] * ((const float *)u->b)[i * RANK + p]);
            expected += (double)merged[at] * x[j];
            size += factor * (fabs((double)w[at]) + fabs((double)u->scale) * update) * fabs((double)x[j]);
        }
        assert_true(fabs(y[i] - expected) <= N_ROUNDINGS * 0x1p-24 * size);
    }
}

/* From an adapter to its updates, whichever way the base stores the layer, with DoRA and without. */
static void test_unmerged_is_what_merging_gives(void **state)
{
    for (int way = 0; way < 4; way++) {
        const bool swapped = way & 1, dora = way & 2;
        float *w = numbers(LORAFMT_F32, IN * OUT, 0), *a = numbers(LORAFMT_F32, RANK * IN, 0),
              *b = numbers(LORAFMT_F32, OUT * RANK, 0);
        float *x = numbers(LORAFMT_F32, IN, 0), *magnitude = numbers(LORAFMT_F32, OUT, 0), y[OUT];
        const lorafmt_base_tensor tensor = {"w",
                                            LORAFMT_F32,
                                            2,
                                            {swapped ? IN : OUT, swapped ? OUT : IN},
                                            sizeof(float) * IN * OUT};
        const lorafmt_base base = {.struct_size = sizeof base,
                                   .n_tensors = 1,
                                   .tensors = &tensor,
                                   .read = read_weights,
                                   .ctx = w};
        const lorafmt_workspace_options options = {.struct_size = sizeof options,
                                                   .max_tokens = 1,
                                                   .max_rank = RANK,
                                                   .n_threads = 1};
        lorafmt_factor f[3];
        lorafmt_site site = test_low_rank("w", LORAFMT_KIND_LINEAR, RANK, IN, OUT, a, b, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        const lorafmt_stack_entry entry = {&adapter, dora ? 1 : 0.5};
        lorafmt_workspace *ws;
        lorafmt_update u;
        lorafmt_view *view;
        lorafmt_error err;

        site.orientation = swapped ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
        site.scale = 3;
        f[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, OUT, 0, magnitude)};
        site.n_factors = dora ? 3 : 2;
        assert_int_equal(lorafmt_bind(&base, &entry, 1, NULL, &view, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_view_check_unmerged(view, &err), dora ? LORAFMT_MISUSE : LORAFMT_OK); // not prepared
        assert_int_equal(lorafmt_view_prepare(view, 0, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_view_check_unmerged(view, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_view_n_updates(view, 0), 1);
        assert_int_equal(lorafmt_view_n_updates(view, 1), 0);
        u = lorafmt_view_get_update(view, 0, 0);
        assert_true(u.in == IN && u.out == OUT && u.rank == RANK && u.scale == (dora ? 3 : 1.5f) && !u.factors == !dora);
        for (size_t i = 0; i < OUT; i++) {
            double sum = 0;
            for (size_t j = 0; j < IN; j++)
                sum += (double)w[swapped ? j * OUT + i : i * IN + j] * x[j];
            y[i] = (float)sum;
        }
        assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_forward(ws,
                                         &(lorafmt_batch){1, IN, OUT, x, 0, LORAFMT_F32, y, 0, LORAFMT_F32, NULL,
                                                          &(lorafmt_updates){&u, 1}, 1},
                                         &err),
                         LORAFMT_OK);
        check_like_merged(view, w, swapped, &u, x, y);
        lorafmt_workspace_free(ws);
        lorafmt_view_free(view);
        free(w), free(a), free(b), free(x), free(magnitude);
    }
    (void)state;
}

static const float ones[8 * 8] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static void refuse_view(lorafmt_base_tensor tensor, const lorafmt_site *site, bool check_only, lorafmt_status status,
                        const char *text)
{
    const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 1, .tensors = &tensor};
    const lorafmt_adapter adapter = test_adapter("x", site, 1);
    const lorafmt_stack_entry entry = {&adapter, 1};
    const lorafmt_bind_options options = {.struct_size = sizeof options, .check_only = check_only};
    lorafmt_view *view;
    lorafmt_error err;

    if (lorafmt_bind(&base, &entry, 1, &options, &view, &err))
        fail_msg("%s: %s", err.field, err.text);
    assert_int_equal(lorafmt_view_check_unmerged(view, &err), status);
    if (!strstr(err.text, text))
        fail_msg("'%s' does not say '%s'", err.text, text);
    lorafmt_view_free(view);
}

static void test_what_cannot_be_unmerged(void **state)
{
    static const int64_t row = 1;
    const lorafmt_base_tensor square = {"w", LORAFMT_F32, 2, {4, 4}, 64}, cube = {"w", LORAFMT_F32, 3, {2, 2, 4}, 64};
    const lorafmt_base_tensor wide = {"w", LORAFMT_F64, 2, {4, 4}, 128},
                              embedding = {"model.embed_tokens.weight", LORAFMT_F32, 2, {4, 4}, 64};
    const lorafmt_tensor value = test_tensor(LORAFMT_F32, 4, 4, ones), some = test_tensor(LORAFMT_F32, 1, 4, ones);
    lorafmt_factor f[2];
    lorafmt_site site;
    (void)state;

    site = test_whole("w", LORAFMT_KIND_REPLACEMENT, value, f);
    refuse_view(square, &site, false, LORAFMT_UNSUPPORTED, "is replaced or new; only low-rank updates of linear layers in f32");
    site = test_whole("w", LORAFMT_KIND_ADDITIVE, value, f);
    site.scaling = LORAFMT_SCALING_EXPLICIT;
    refuse_view(square, &site, false, LORAFMT_UNSUPPORTED, "is added to as a whole");
    site = test_whole("w", LORAFMT_KIND_ROWS, some, f);
    f[1] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, test_tensor(LORAFMT_I64, 1, 0, &row)};
    site.n_factors = 2;
    refuse_view(square, &site, false, LORAFMT_UNSUPPORTED, "has rows that are replaced");
    site = test_low_rank("w", LORAFMT_KIND_EMBEDDING, 1, 4, 4, ones, ones, f);
    refuse_view(square, &site, false, LORAFMT_UNSUPPORTED, "is an embedding");
    site = test_low_rank("w", LORAFMT_KIND_EXPERTS, 1, 4, 4, ones, ones, f);
    f[0].tensor = test_tensor(LORAFMT_F32, 2, 4, ones);
    f[1].tensor = test_tensor(LORAFMT_F32, 4, 1, ones);
    refuse_view(cube, &site, false, LORAFMT_UNSUPPORTED, "is of experts");
    site = test_low_rank("w", LORAFMT_KIND_CONV1D, 1, 2, 2, ones, ones, f);
    f[0].tensor = (lorafmt_tensor){LORAFMT_F32, 3, {1, 2, 4}, 32, ones};
    f[1].tensor = (lorafmt_tensor){LORAFMT_F32, 3, {2, 1, 1}, 8, ones};
    refuse_view(cube, &site, false, LORAFMT_UNSUPPORTED, "is a convolution");
    site = test_low_rank("lm_head.weight", LORAFMT_KIND_LINEAR, 1, 4, 4, ones, ones, f);
    refuse_view(embedding, &site, false, LORAFMT_UNSUPPORTED, "is tied to another");
    site = test_low_rank("w", LORAFMT_KIND_LINEAR, 1, 4, 4, ones, ones, f);
    refuse_view(wide, &site, false, LORAFMT_UNSUPPORTED, "is computed in F64");
    refuse_view(square, &site, true, LORAFMT_MISUSE, "check_only");
}

/* --- gradients --- */

/* Σ weight · y in binary64, of one adapter of one update, whose numbers are given. */
static double loss(const some_batch *s, const float *a, const float *b, const float *x, const float *weight)
{
    const size_t rank = s->updates[0][0].rank, in = s->b.in, out = s->b.out;
    double sum = 0;

    for (size_t t = 0; t < s->b.n_tokens; t++)
        for (size_t p = 0; p < rank; p++) {
            double h = 0, u = 0;
            for (size_t j = 0; j < in; j++)
                h += (double)a[p * in + j] * x[t * in + j];
            for (size_t i = 0; i < out; i++)
                u += (double)b[i * rank + p] * weight[t * out + i];
            sum += (double)s->updates[0][0].scale * h * u;
        }
    return sum;
}

/* (loss(p + e) - loss(p - e)) / 2e, and how large what is added up in it is. */
static void check_gradient(const some_batch *s, float *a, float *b, float *x, const float *weight, float *numbers_of, size_t n,
                           const float *gradient, float before)
{
    for (size_t i = 0; i < n; i += n / 7 + 1) {
        const float at = numbers_of[i];
        double difference;
        numbers_of[i] = at + 0.25f;
        difference = loss(s, a, b, x, weight);
        numbers_of[i] = at - 0.25f;
        difference -= loss(s, a, b, x, weight);
        numbers_of[i] = at;
        difference /= (double)(at + 0.25f) - (double)(at - 0.25f);
        assert_true(fabs(gradient[i] - before - difference) < 1e-4 * (1 + fabs(difference)));
    }
}

static void test_gradients(void **state)
{
    static const struct {
        size_t in, out, n_tokens;
        uint32_t rank;
    } cases[] = {{20, 30, 5, 4}, {600, 530, 70, 8}, {17, 1100, 3, 3}, {40, 50, 10, 520}};
    (void)state;

    for (size_t c = 0; c < 4; c++) {
        const size_t in = cases[c].in, out = cases[c].out, rank = cases[c].rank, n = cases[c].n_tokens;
        const lorafmt_workspace_options options = {.struct_size = sizeof options,
                                                   .max_tokens = n,
                                                   .max_rank = rank,
                                                   .n_threads = 2};
        float *a = numbers(LORAFMT_F32, rank * in, 0), *b = numbers(LORAFMT_F32, out * rank, 0);
        float *x = numbers(LORAFMT_F32, n * in, 0), *weight = numbers(LORAFMT_F32, n * out, 0);
        float *da = malloc(rank * in * sizeof *da), *db = malloc(out * rank * sizeof *db), *dx = malloc(n * in * sizeof *dx);
        const lorafmt_gradient gradient = {da, db}, *gradients[] = {&gradient};
        lorafmt_workspace *ws;
        lorafmt_error err;
        some_batch s = {0};
        s.updates[0][0] = (lorafmt_update){in, out, a, b, LORAFMT_F32, LORAFMT_F32, (uint32_t)rank, 0.5f, NULL};
        s.layer[0] = (lorafmt_updates){s.updates[0], 1};
        s.b = (lorafmt_batch){n, in, out, x, 0, LORAFMT_F32, weight, 0, LORAFMT_F32, NULL, s.layer, 1};
        assert_true(da && db && dx);
        for (size_t i = 0; i < rank * in; i++)
            da[i] = 1; // what is there stays
        for (size_t i = 0; i < out * rank; i++)
            db[i] = 2;
        for (size_t i = 0; i < n * in; i++)
            dx[i] = 3;
        assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_OK);
        assert_int_equal(lorafmt_backward(ws, &s.b, gradients, dx, 0, &err), LORAFMT_OK);
        check_gradient(&s, a, b, x, weight, a, rank * in, da, 1);
        check_gradient(&s, a, b, x, weight, b, out * rank, db, 2);
        check_gradient(&s, a, b, x, weight, x, n * in, dx, 3);
        lorafmt_workspace_free(ws);
        free(a), free(b), free(x), free(weight), free(da), free(db), free(dx);
    }
}

/* Each adapter has those of its own tokens, each token its own; whoever is not asked for costs nothing. */
static void test_gradients_of_a_mixed_batch(void **state)
{
    enum { N = 12 };
    const lorafmt_workspace_options options = {.struct_size = sizeof options, .max_tokens = N, .max_rank = 2 * RANK};
    float da[2][RANK * IN] = {{0}}, alone[RANK * IN] = {0}, dx[N * IN] = {0}, dx_alone[N * IN] = {0};
    const lorafmt_gradient first[] = {{da[0], NULL}, {da[1], NULL}}, *gradients[] = {first, NULL};
    const lorafmt_gradient one[] = {{alone, NULL}, {NULL, NULL}}, *gradients_alone[] = {one, NULL};
    lorafmt_workspace *ws;
    lorafmt_error err;
    some_batch s, part;
    (void)state;

    seed = 5;
    batch_init(&s, IN, OUT, N, LORAFMT_BF16);
    add_update(&s, 0, RANK, LORAFMT_BF16, 1);
    add_update(&s, 0, RANK, LORAFMT_F32, 2);
    add_update(&s, 1, RANK, LORAFMT_F16, 3);
    for (size_t t = 0; t < N; t++)
        s.adapters[t] = t % 3 == 2 ? LORAFMT_NO_ADAPTER : (uint32_t)t % 3;
    assert_int_equal(lorafmt_workspace_new(&options, &ws, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_backward(ws, &s.b, gradients, dx, 0, &err), LORAFMT_OK);
    assert_memory_equal(s.y, s.before, N * s.b.y_stride); // only read
    part = s;
    part.b.adapters = part.adapters;
    for (size_t t = 0; t < N; t++) {
        for (size_t j = 0; s.adapters[t] == LORAFMT_NO_ADAPTER && j < IN; j++)
            assert_true(dx[t * IN + j] == 0);
        if (part.adapters[t] == 1)
            part.adapters[t] = LORAFMT_NO_ADAPTER;
    }
    assert_int_equal(lorafmt_backward(ws, &part.b, gradients_alone, dx_alone, IN * sizeof(float), &err), LORAFMT_OK);
    assert_memory_equal(alone, da[0], sizeof alone);
    for (size_t t = 0; t < N; t++)
        if (s.adapters[t] == 0)
            assert_memory_equal(dx + t * IN, dx_alone + t * IN, IN * sizeof(float));
    assert_int_equal(lorafmt_backward(ws, &s.b, NULL, NULL, 0, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_backward(ws, &s.b, NULL, dx, 5, &err), LORAFMT_MISUSE);
    s.updates[1][0].factors = dx;
    assert_int_equal(lorafmt_backward(ws, &s.b, NULL, dx, 0, &err), LORAFMT_UNSUPPORTED);
    lorafmt_workspace_free(ws);
    batch_free(&s);
}

/* --- steps, by the formulas in binary64 --- */

static void test_sgd(void **state)
{
    const lorafmt_sgd how = {.rate = 0.1f, .momentum = 0.9f, .weight_decay = 0.01f}, plain = {.rate = 0.5f};
    float w[] = {1, -2, 3}, velocity[3] = {0}, v[] = {4};
    double exact[] = {1, -2, 3}, speed[3] = {0};
    (void)state;

    for (int step = 0; step < 10; step++) {
        const float gradient[] = {0.5f, (float)step, -1};
        lorafmt_sgd_step(&how, w, gradient, velocity, 3);
        for (size_t i = 0; i < 3; i++) {
            speed[i] = 0.9 * speed[i] + gradient[i] + 0.01 * exact[i];
            exact[i] -= 0.1 * speed[i];
            assert_true(fabs(w[i] - exact[i]) < 1e-5);
        }
    }
    lorafmt_sgd_step(&plain, v, (const float[]){2}, NULL, 1);
    assert_true(v[0] == 3);
}

static void test_adamw(void **state)
{
    const lorafmt_adamw how = {.rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.1f};
    float w[] = {1, -2, 3}, m[3] = {0}, v[3] = {0};
    double exact[] = {1, -2, 3}, mean[3] = {0}, square[3] = {0};
    (void)state;

    for (int step = 1; step <= 50; step++) {
        const float gradient[] = {0.5f, (float)step, -1e-3f};
        lorafmt_adamw_step(&how, (uint64_t)step, w, gradient, m, v, 3);
        for (size_t i = 0; i < 3; i++) {
            mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
            square[i] = 0.999 * square[i] + 0.001 * gradient[i] * gradient[i];
            exact[i] -= 1e-2 * 0.1 * exact[i];
            exact[i] -= 1e-2 * (mean[i] / (1 - pow(0.9, step))) / (sqrt(square[i] / (1 - pow(0.999, step))) + 1e-8);
            assert_true(fabs(w[i] - exact[i]) < 2e-4 * step * 1e-2 + 1e-5);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mixed_batch),
        cmocka_unit_test(test_one_adapter_for_all_and_one_for_each),
        cmocka_unit_test(test_large_groups_and_ranks),
        cmocka_unit_test(test_dora),
        cmocka_unit_test(test_nothing_else_changes_a_bit),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_unmerged_is_what_merging_gives),
        cmocka_unit_test(test_what_cannot_be_unmerged),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_gradients_of_a_mixed_batch),
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_adamw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
