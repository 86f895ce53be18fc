/* SPDX-License-Identifier: MIT */
/*
 * Live weights: after any switches they are what lorafmt_view_evaluate() makes of the base, however they lie, and a switch that
 * fails leaves them alone. With a number of seconds on the command line, readers and a writer go on for as long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/digest.h"
#include "lorafmt/runtime.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { Q, K, NORM, EXPERTS, FIXED, N_TENSORS };
enum { COLS = 40, Q_ROWS = 24, K_ROWS = 16, N_EXPERTS = 3, EXPERT_ROWS = 8, EXPERT_COLS = 12, RANK = 3, MAX_SIZE = 4096 };
enum { X, Y, Z, N_ADAPTERS, TOO_WIDE = N_ADAPTERS, NEW, ON_FIXED, N_ALL };

static const lorafmt_base_tensor tensors[N_TENSORS] = {
    {"q.weight", LORAFMT_BF16, 2, {Q_ROWS, COLS}, 2 * Q_ROWS *COLS},
    {"k.weight", LORAFMT_BF16, 2, {K_ROWS, COLS}, 2 * K_ROWS *COLS},
    {"norm.weight", LORAFMT_F32, 1, {COLS}, 4 * COLS},
    {"experts", LORAFMT_F32, 3, {N_EXPERTS, EXPERT_ROWS, EXPERT_COLS}, 4 * N_EXPERTS *EXPERT_ROWS *EXPERT_COLS},
    {"fixed.weight", LORAFMT_F16, 2, {10, 10}, 200},
};
static const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = N_TENSORS, .tensors = tensors};

static uint8_t pristine[N_TENSORS][MAX_SIZE];
static float numbers[4096];
static lorafmt_adapter adapters[N_ALL];

/* --- adapters --- */

static lorafmt_factor factors[16][3];
static lorafmt_site sites[N_ALL][2];

static lorafmt_site low_rank(const char *target, unsigned kind, uint64_t in, uint64_t out, lorafmt_factor f[2])
{
    return test_low_rank(target, kind, RANK, in, out, numbers + 7 * out, numbers + 300, f);
}

static void make_adapters(void)
{
    const lorafmt_tensor more = test_tensor(LORAFMT_F32, COLS, 0, numbers + 100);

    sites[X][0] = low_rank("k.weight", LORAFMT_KIND_LINEAR, COLS, K_ROWS, factors[0]);
    sites[X][1] = low_rank("q.weight", LORAFMT_KIND_LINEAR, COLS, Q_ROWS, factors[1]);
    sites[Y][0] = test_whole("norm.weight", LORAFMT_KIND_ADDITIVE, more, factors[2]);
    sites[Y][1] = low_rank("q.weight", LORAFMT_KIND_LINEAR, COLS, Q_ROWS, factors[3]);
    factors[3][2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, Q_ROWS, 0, numbers + 500)};
    sites[Y][1].n_factors = 3;
    sites[Z][0] = low_rank("experts", LORAFMT_KIND_EXPERTS, EXPERT_COLS, EXPERT_ROWS, factors[4]);
    factors[4][0].tensor = test_tensor(LORAFMT_F32, N_EXPERTS * RANK, EXPERT_COLS, numbers + 600);
    factors[4][1].tensor = test_tensor(LORAFMT_F32, N_EXPERTS * EXPERT_ROWS, RANK, numbers + 900);
    sites[TOO_WIDE][0] = low_rank("k.weight", LORAFMT_KIND_LINEAR, COLS + 1, K_ROWS, factors[5]);
    sites[TOO_WIDE][1] = low_rank("other.weight", LORAFMT_KIND_LINEAR, COLS, K_ROWS, factors[6]);
    sites[NEW][0] = sites[X][0];
    sites[NEW][1] = test_whole("score.bias", LORAFMT_KIND_SAVED, more, factors[7]);
    sites[ON_FIXED][0] = low_rank("fixed.weight", LORAFMT_KIND_LINEAR, 10, 10, factors[8]);
    for (int i = 0; i < N_ALL; i++)
        adapters[i] = test_adapter("a", sites[i], i == Z || i == ON_FIXED ? 1 : 2);
}

static int make_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    for (size_t t = 0; t < N_TENSORS; t++)
        for (size_t i = 0; i < tensors[t].size; i += 2) {
            const uint16_t upper = (uint16_t)(0x3c00 + rand() % 256);
            memcpy(pristine[t] + i, &upper, 2);
        }
    make_adapters();
    return 0;
}

static lorafmt_status read_pristine(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    (void)ctx, (void)err;
    memcpy(dst, pristine[tensor] + offset, size);
    return LORAFMT_OK;
}

/* The whole tensors of a fresh load, in a dtype. */
static void load(const lorafmt_stack_entry *stack, size_t n_stack, lorafmt_dtype dtype, uint8_t out[N_TENSORS][MAX_SIZE])
{
    lorafmt_base readable = base;
    lorafmt_view *view;

    memcpy(out, pristine, sizeof pristine);
    if (n_stack == 0)
        return;
    readable.read = read_pristine;
    assert_int_equal(lorafmt_bind(&readable, stack, n_stack, NULL, &view, NULL), LORAFMT_OK);
    for (size_t t = 0; t < N_TENSORS; t++) {
        const lorafmt_view_tensor *info = lorafmt_view_get_tensor(view, t);
        const lorafmt_dtype to = dtype ? dtype : info->dtype;
        const size_t n_cols = (size_t)info->row_size * 8 / lorafmt_dtype_bits(info->dtype);
        const lorafmt_rows rows =
            {pristine[t], (size_t)info->row_size, info->dtype, out[t], n_cols * lorafmt_dtype_bits(to) / 8, to, 0, 0};
        assert_int_equal(lorafmt_view_prepare(view, t, NULL), LORAFMT_OK);
        assert_int_equal(lorafmt_view_evaluate_as(view, t, 0, info->n_rows, &rows, NULL, NULL), LORAFMT_OK);
    }
    lorafmt_view_free(view);
}

/* --- a model whose tensors each have buffers of their own --- */

typedef struct model {
    lorafmt_runtime *runtime;
    lorafmt_place places[N_TENSORS];
    uint8_t live[LORAFMT_MAX_SETS][N_TENSORS][MAX_SIZE];
    lorafmt_dtype dtype; /* of live weights, or 0 */
} model;

static model one;

static void model_init(unsigned n_sets, lorafmt_dtype dtype, lorafmt_executor executor)
{
    const lorafmt_runtime_options options = {.struct_size = sizeof options,
                                             .n_sets = n_sets,
                                             .n_threads = 2,
                                             .executor = executor,
                                             .executor_ctx = &one};

    memset(&one, 0xee, sizeof one);
    one.dtype = dtype;
    for (size_t t = 0; t < N_TENSORS; t++) {
        one.places[t] = (lorafmt_place){.pristine = pristine[t], .live_dtype = dtype};
        for (unsigned s = 0; s < n_sets; s++)
            one.places[t].live[s] = t == FIXED ? NULL : one.live[s][t];
    }
    assert_int_equal(lorafmt_runtime_new(&base, one.places, &options, &one.runtime, NULL), LORAFMT_OK);
}

static void assert_live(const lorafmt_stack_entry *stack, size_t n_stack)
{
    static uint8_t wanted[N_TENSORS][MAX_SIZE];
    const unsigned set = lorafmt_runtime_read_begin(one.runtime);

    load(stack, n_stack, one.dtype, wanted);
    for (size_t t = 0; t < N_TENSORS; t++)
        if (one.places[t].live[0] && (n_stack || !one.dtype)) {
            const size_t unit = one.dtype ? lorafmt_dtype_bits(one.dtype) / 8 : 1, own = lorafmt_dtype_bits(tensors[t].dtype) / 8;
            assert_memory_equal(one.live[set][t], wanted[t], one.dtype ? tensors[t].size / own * unit : tensors[t].size);
        }
    lorafmt_runtime_read_end(one.runtime, set);
}

static lorafmt_stack_entry entry(int adapter, double weight)
{
    return (lorafmt_stack_entry){&adapters[adapter], weight};
}

/* DoRA knows no weight but 1. */
static size_t draw_stack(lorafmt_stack_entry stack[N_ADAPTERS])
{
    size_t n = 0;

    for (int i = 0; i < N_ADAPTERS; i++)
        if (rand() % 2)
            stack[n++] = entry(i, i == Y ? 1 : (double)rand() / RAND_MAX);
    return n;
}

static void backwards(void *ctx, size_t n, void (*work)(void *ctx, size_t i), void *work_ctx)
{
    assert_ptr_equal(ctx, &one);
    while (n--)
        work(work_ctx, n);
}

static void test_any_switches_are_a_fresh_load(void **state)
{
    static const lorafmt_dtype dtypes[] = {0, LORAFMT_F32, LORAFMT_BF16};
    lorafmt_stack_entry stack[N_ADAPTERS];
    lorafmt_swap_result result;

    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        model_init(1 + round % 2, dtypes[round % 3], round % 4 == 3 ? backwards : NULL);
        assert_live(NULL, 0);
        for (uint64_t i = 1; i <= 25; i++) {
            const size_t n = draw_stack(stack);
            assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, n, NULL, &result, NULL, NULL), LORAFMT_OK);
            assert_live(stack, n);
            assert_int_equal(lorafmt_runtime_generation(one.runtime), i);
            assert_int_equal(result.n_bound, result.n_sites);
        }
        lorafmt_runtime_free(one.runtime);
    }
}

static void test_what_a_switch_says(void **state)
{
    const lorafmt_stack_entry x = entry(X, 1), y = entry(Y, 1);
    lorafmt_swap_result r;
    lorafmt_view *view;

    (void)state;
    model_init(1, 0, NULL);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, &x, 1, NULL, &r, &view, NULL), LORAFMT_OK);
    assert_true(r.n_sites == 2 && r.n_bound == 2 && r.n_computed == 2 && r.n_restored == 0);
    assert_int_equal(r.n_bytes, tensors[Q].size + tensors[K].size);
    assert_int_equal(lorafmt_view_get_site(view, 0)->tensor, K);
    lorafmt_view_free(view);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, &y, 1, NULL, &r, NULL, NULL), LORAFMT_OK);
    assert_true(r.n_computed == 2 && r.n_restored == 1);
    assert_int_equal(r.n_bytes, tensors[Q].size + tensors[K].size + tensors[NORM].size);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, NULL, 0, NULL, &r, &view, NULL), LORAFMT_OK);
    assert_true(r.n_sites == 0 && r.n_computed == 0 && r.n_restored == 2 && !view);
    lorafmt_runtime_free(one.runtime);
}

/* --- other layouts --- */

/* q and k lie in one buffer, q's rows above k's, beside columns of somebody else. */
static void test_fused(void **state)
{
    enum { STRIDE = 2 * COLS + 14 };
    static uint8_t fused[(Q_ROWS + K_ROWS) * STRIDE], wanted[N_TENSORS][MAX_SIZE];
    const lorafmt_stack_entry stack[] = {entry(X, 0.5), entry(Y, 1)};

    (void)state;
    model_init(1, 0, NULL);
    lorafmt_runtime_free(one.runtime);
    memset(fused, 0x77, sizeof fused);
    one.places[Q].live[0] = fused;
    one.places[K].live[0] = fused + Q_ROWS * STRIDE;
    one.places[Q].live_stride = one.places[K].live_stride = STRIDE;
    assert_int_equal(lorafmt_runtime_new(&base, one.places, NULL, &one.runtime, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 2, NULL, NULL, NULL, NULL), LORAFMT_OK);
    load(stack, 2, 0, wanted);
    for (size_t i = 0; i < Q_ROWS + K_ROWS; i++) {
        const uint8_t *row = i < Q_ROWS ? wanted[Q] + i * 2 * COLS : wanted[K] + (i - Q_ROWS) * 2 * COLS;
        assert_memory_equal(fused + i * STRIDE, row, 2 * COLS);
        for (size_t j = 2 * COLS; j < STRIDE; j++)
            assert_int_equal(fused[i * STRIDE + j], 0x77);
    }
    lorafmt_runtime_free(one.runtime);
}

/* A rank holds some rows of q, some columns of k and some experts; its pristine bytes are a copy of those alone. */
static void hold_part(unsigned rank, unsigned n_ranks, lorafmt_place places[N_TENSORS], uint8_t own[N_TENSORS][MAX_SIZE])
{
    const size_t row = Q_ROWS * rank / n_ranks, col = COLS * rank / n_ranks, n_cols = COLS * (rank + 1) / n_ranks - col;
    const size_t expert = N_EXPERTS * rank / n_ranks, size = 4UL * EXPERT_ROWS * EXPERT_COLS;

    places[Q].row = row;
    places[Q].n_rows = Q_ROWS * (rank + 1) / n_ranks - row;
    memcpy(own[Q], pristine[Q] + row * 2 * COLS, places[Q].n_rows * 2 * COLS);
    places[K].col = col;
    places[K].n_cols = n_cols;
    for (size_t i = 0; i < K_ROWS; i++)
        memcpy(own[K] + i * 2 * n_cols, pristine[K] + (i * COLS + col) * 2, 2 * n_cols);
    places[EXPERTS].row = expert;
    places[EXPERTS].n_rows = N_EXPERTS * (rank + 1) / n_ranks - expert;
    memcpy(own[EXPERTS], pristine[EXPERTS] + expert * size, places[EXPERTS].n_rows * size);
    for (size_t t = Q; t <= EXPERTS; t++)
        places[t].pristine = t == NORM ? pristine[NORM] : own[t];
}

/* What a rank has is that part of the whole. */
static void assert_part(const lorafmt_place places[N_TENSORS], uint8_t wanted[N_TENSORS][MAX_SIZE])
{
    const lorafmt_place *q = &places[Q], *k = &places[K], *e = &places[EXPERTS];
    const size_t size = 4UL * EXPERT_ROWS * EXPERT_COLS;

    assert_memory_equal(q->live[0], wanted[Q] + q->row * 2 * COLS, q->n_rows * 2 * COLS);
    for (size_t i = 0; i < K_ROWS; i++)
        assert_memory_equal((uint8_t *)k->live[0] + i * 2 * k->n_cols, wanted[K] + (i * COLS + k->col) * 2, 2 * k->n_cols);
    assert_memory_equal(e->live[0], wanted[EXPERTS] + e->row * size, e->n_rows * size);
}

static void test_ranks(void **state)
{
    const lorafmt_stack_entry stack[] = {entry(X, -2), entry(Y, 1), entry(Z, 1)};
    static uint8_t wanted[N_TENSORS][MAX_SIZE], own[N_TENSORS][MAX_SIZE];
    lorafmt_base readable = base;

    (void)state;
    readable.read = read_pristine; // of the whole, which DoRA needs
    load(stack, 3, 0, wanted);
    for (unsigned n_ranks = 1; n_ranks <= N_EXPERTS; n_ranks++)
        for (unsigned rank = 0; rank < n_ranks; rank++) {
            model_init(1, 0, NULL);
            lorafmt_runtime_free(one.runtime);
            hold_part(rank, n_ranks, one.places, own);
            assert_int_equal(lorafmt_runtime_new(&readable, one.places, NULL, &one.runtime, NULL), LORAFMT_OK);
            assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 3, NULL, NULL, NULL, NULL), LORAFMT_OK);
            assert_part(one.places, wanted);
            assert_int_equal(lorafmt_runtime_swap(one.runtime, NULL, 0, NULL, NULL, NULL, NULL), LORAFMT_OK);
            assert_part(one.places, pristine);
            lorafmt_runtime_free(one.runtime);
        }
}

/* The factors of DoRA, that somebody who has the whole tensor computed. */
typedef struct handed {
    float factors[Q_ROWS];
    size_t size;
} handed;

static lorafmt_status take_factors(void *ctx, lorafmt_view *view, size_t tensor, lorafmt_error *err)
{
    const handed *h = ctx;

    assert_int_equal(tensor, Q); // which alone has a DoRA site
    return lorafmt_view_set_factors(view, tensor, h->factors, h->size, err);
}

static lorafmt_status take_nothing(void *ctx, lorafmt_view *view, size_t tensor, lorafmt_error *err)
{
    (void)ctx, (void)view, (void)tensor, (void)err;
    return LORAFMT_OK;
}

static void compute_factors(const lorafmt_stack_entry *stack, size_t n_stack, handed *out)
{
    lorafmt_base readable = base;
    lorafmt_view *view;

    readable.read = read_pristine;
    assert_int_equal(lorafmt_bind(&readable, stack, n_stack, NULL, &view, NULL), LORAFMT_OK);
    out->size = lorafmt_view_factors_size(view, Q);
    assert_int_equal(out->size, sizeof out->factors);
    assert_int_equal(lorafmt_view_factors_size(view, K), 0);
    assert_int_equal(lorafmt_view_get_factors(view, Q, out->factors, out->size, NULL), LORAFMT_MISUSE); // not prepared
    assert_int_equal(lorafmt_view_prepare(view, Q, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_factors(view, Q, out->factors, out->size, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_view_get_factors(view, Q, out->factors, out->size - 1, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_view_set_factors(view, N_TENSORS, out->factors, 0, NULL), LORAFMT_MISUSE);
    lorafmt_view_free(view);
}

/* A rank that cannot read the whole tensor gets its factors from one that can. */
static void test_ranks_that_hand_on_factors(void **state)
{
    const lorafmt_stack_entry stack[] = {entry(X, -2), entry(Y, 1)};
    static uint8_t wanted[N_TENSORS][MAX_SIZE], own[N_TENSORS][MAX_SIZE];
    handed h;
    lorafmt_swap_options options = {.struct_size = sizeof options, .prepare = take_factors, .prepare_ctx = &h};
    lorafmt_error err;

    (void)state;
    load(stack, 2, 0, wanted);
    compute_factors(stack, 2, &h);
    model_init(1, 0, NULL);
    lorafmt_runtime_free(one.runtime);
    hold_part(1, 2, one.places, own);
    assert_int_equal(lorafmt_runtime_new(&base, one.places, NULL, &one.runtime, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 2, NULL, NULL, NULL, NULL), LORAFMT_UNSUPPORTED);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 2, &options, NULL, NULL, NULL), LORAFMT_OK);
    assert_part(one.places, wanted);
    h.size -= 4;
    assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 2, &options, NULL, NULL, &err), LORAFMT_MISUSE);
    assert_string_equal(err.text, "92 bytes of factors, must be 96 for this stack");
    options.prepare = take_nothing;
    assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 2, &options, NULL, NULL, &err), LORAFMT_MISUSE);
    assert_string_equal(err.field, "q.weight");
    assert_part(one.places, wanted);
    lorafmt_runtime_free(one.runtime);
}

/* Loading with adapters at once, in either set, is loading and then switching. */
static void test_load_by_swap(void **state)
{
    const lorafmt_stack_entry stack[] = {entry(X, 1), entry(Z, 1)};

    (void)state;
    for (unsigned n_sets = 1; n_sets <= 2; n_sets++) {
        const lorafmt_runtime_options options = {.struct_size = sizeof options, .n_sets = n_sets, .load_by_swap = true};
        model_init(n_sets, 0, NULL);
        lorafmt_runtime_free(one.runtime);
        memset(one.live, 0xdd, sizeof one.live);
        assert_int_equal(lorafmt_runtime_new(&base, one.places, &options, &one.runtime, NULL), LORAFMT_OK);
        assert_int_equal(one.live[0][Q][0], 0xdd);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, 2 - i, NULL, NULL, NULL, NULL), LORAFMT_OK);
            assert_live(stack, 2 - i);
        }
        lorafmt_runtime_free(one.runtime);
    }
}

/* In the order of names. */
static void test_digest(void **state)
{
    static const int by_name[] = {EXPERTS, FIXED, K, NORM, Q};
    uint8_t all[32], each[N_TENSORS][32], wanted[32];
    lf_sha256 sha256;

    (void)state;
    model_init(1, 0, NULL);
    assert_int_equal(lorafmt_runtime_digest(one.runtime, all, each, NULL), LORAFMT_OK);
    lf_sha256_init(&sha256);
    for (size_t i = 0; i < N_TENSORS; i++)
        lf_sha256_update(&sha256, pristine[by_name[i]], tensors[by_name[i]].size);
    lf_sha256_final(&sha256, wanted);
    assert_memory_equal(all, wanted, 32);
    lf_sha256_of(pristine[NORM], tensors[NORM].size, wanted);
    assert_memory_equal(each[NORM], wanted, 32);
    lorafmt_runtime_free(one.runtime);
}

/* --- what fails --- */

static bool no(void *ctx)
{
    (void)ctx;
    return false;
}

static void count(void *ctx, const char *adapter, const char *target, const char *text)
{
    (void)adapter, (void)target, (void)text;
    ++*(int *)ctx;
}

static void test_a_switch_that_fails_changes_nothing(void **state)
{
    static const struct {
        int adapter;
        lorafmt_status status;
        const char *field;
    } cases[] = {{TOO_WIDE, LORAFMT_MISMATCH, "other.weight"},
                 {NEW, LORAFMT_UNSUPPORTED, "score.bias"},
                 {ON_FIXED, LORAFMT_UNSUPPORTED, "fixed.weight"}};
    const lorafmt_stack_entry before[] = {entry(X, 1), entry(Z, 1)};
    lorafmt_swap_options options = {.struct_size = sizeof options, .go_on = no};
    lorafmt_error err;

    (void)state;
    model_init(1, 0, NULL);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, before, 2, NULL, NULL, NULL, NULL), LORAFMT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lorafmt_stack_entry bad = entry(cases[i].adapter, 1);
        assert_int_equal(lorafmt_runtime_swap(one.runtime, &bad, 1, NULL, NULL, NULL, &err), cases[i].status);
        assert_string_equal(err.field, cases[i].field);
        assert_live(before, 2);
    }
    assert_int_equal(lorafmt_runtime_swap(one.runtime, NULL, 0, &options, NULL, NULL, &err), LORAFMT_CANCELLED);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, before, 1, &options, NULL, NULL, &err), LORAFMT_CANCELLED);
    assert_live(before, 2);
    lorafmt_runtime_free(one.runtime);
}

static bool until_none_is_left(void *ctx)
{
    int *left = ctx;

    return (*left)-- > 0;
}

/* A reader that does not end keeps a switch waiting for as long as the caller wants, and nothing happens meanwhile. */
static void test_waiting_for_readers_can_be_stopped(void **state)
{
    const lorafmt_stack_entry x = entry(X, 1);
    int left = N_TENSORS + 3; // it is asked for each tensor before it waits
    const lorafmt_swap_options options = {.struct_size = sizeof options, .go_on = until_none_is_left, .go_on_ctx = &left};
    unsigned set;

    (void)state;
    model_init(1, 0, NULL);
    set = lorafmt_runtime_read_begin(one.runtime);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, &x, 1, &options, NULL, NULL, NULL), LORAFMT_CANCELLED);
    assert_int_equal(left, -1);
    lorafmt_runtime_read_end(one.runtime, set);
    assert_live(NULL, 0);
    left = INT_MAX;
    assert_int_equal(lorafmt_runtime_swap(one.runtime, &x, 1, &options, NULL, NULL, NULL), LORAFMT_OK);
    assert_live(&x, 1);
    lorafmt_runtime_free(one.runtime);
}

static void test_all_offenders_are_listed(void **state)
{
    const lorafmt_stack_entry bad = entry(TOO_WIDE, 1);
    int n = 0;
    const lorafmt_bind_options bind = {.struct_size = sizeof bind, .report = count, .report_ctx = &n, .allow_unmatched = true};
    const lorafmt_swap_options options = {.struct_size = sizeof options, .bind = &bind};
    lorafmt_error err;

    (void)state;
    model_init(2, 0, NULL);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, &bad, 1, &options, NULL, NULL, &err), LORAFMT_MISMATCH);
    assert_string_equal(err.field, "k.weight");
    assert_int_equal(n, 1);
    lorafmt_runtime_free(one.runtime);
}

static lorafmt_status make_runtime(const void *unused, lorafmt_error *err)
{
    lorafmt_runtime *rt;
    const lorafmt_status st = lorafmt_runtime_new(&base, one.places, NULL, &rt, err);

    (void)unused;
    assert_int_equal(rt != NULL, st == LORAFMT_OK);
    lorafmt_runtime_free(rt);
    return st;
}

static lorafmt_status digest(const void *unused, lorafmt_error *err)
{
    uint8_t all[32], each[N_TENSORS][32];

    (void)unused;
    return lorafmt_runtime_digest(one.runtime, all, each, err);
}

static lorafmt_status swap_failing_at(long at, const lorafmt_stack_entry *stack, size_t n_stack)
{
    lorafmt_status st;

    n_calls = 0;
    fail_at = at;
    st = lorafmt_runtime_swap(one.runtime, stack, n_stack, NULL, NULL, NULL, NULL);
    fail_at = -1;
    return st;
}

/* Wherever memory runs out, what is live stays, and the next switch works. */
static void test_memory(void **state)
{
    const lorafmt_stack_entry before = entry(X, 1), after[] = {entry(Y, 1), entry(Z, 0.5)};
    lorafmt_status st;

    (void)state;
    for (unsigned n_sets = 1; n_sets <= 2; n_sets++) {
        model_init(n_sets, 0, NULL);
        refuse_each(make_runtime, NULL); // a thread may do the work of another
        refuse_each(digest, NULL);
        assert_int_equal(lorafmt_runtime_swap(one.runtime, &before, 1, NULL, NULL, NULL, NULL), LORAFMT_OK);
        for (long at = 0; (st = swap_failing_at(at, after, 2)); at++) {
            assert_int_equal(st, LORAFMT_NO_MEMORY);
            assert_live(&before, 1);
        }
        assert_live(after, 2);
        lorafmt_runtime_free(one.runtime);
    }
}

static void test_bad_places(void **state)
{
    lorafmt_place good[N_TENSORS], bad[N_TENSORS];
    static uint8_t live[MAX_SIZE];
    lorafmt_runtime *rt;
    lorafmt_error err;

    (void)state;
    model_init(1, 0, NULL);
    lorafmt_runtime_free(one.runtime);
    memcpy(good, one.places, sizeof good);
#define REFUSED(change)                                                                                                          \
    memcpy(bad, good, sizeof bad);                                                                                               \
    change;                                                                                                                      \
    assert_int_equal(lorafmt_runtime_new(&base, bad, NULL, &rt, &err), LORAFMT_MISUSE);                                          \
    assert_string_equal(err.field, "q.weight");                                                                                  \
    assert_null(rt)
    REFUSED(bad[Q].row = 1);
    REFUSED((bad[Q].row = Q_ROWS, bad[Q].n_rows = 1));
    REFUSED((bad[Q].row = UINT64_MAX, bad[Q].n_rows = 2));
    REFUSED((bad[Q].col = 2, bad[Q].n_cols = COLS - 1));
    REFUSED(bad[Q].pristine = NULL);
    REFUSED(bad[Q].pristine = bad[Q].live[0]);
    REFUSED(bad[Q].live_stride = 2 * COLS - 1);
    REFUSED(bad[Q].pristine_stride = 1);
    REFUSED(bad[Q].live_dtype = LORAFMT_I8);
    REFUSED((bad[Q].live[1] = live, bad[Q].live[0] = NULL, bad[Q].pristine = NULL));
#undef REFUSED
}

static void assert_no_runtime(const lorafmt_base *of, const lorafmt_place *places, const lorafmt_runtime_options *o)
{
    lorafmt_runtime *rt;
    lorafmt_error err;

    assert_int_equal(lorafmt_runtime_new(of, places, o, &rt, &err), LORAFMT_MISUSE);
    assert_null(rt);
    assert_true(err.text[0]);
}

static void test_bad_arguments(void **state)
{
    static const lorafmt_runtime_options old = {.struct_size = 1}, sets = {.struct_size = sizeof sets, .n_sets = 3},
                                         twice = {.struct_size = sizeof twice, .is_loaded = true, .load_by_swap = true};
    static const lorafmt_bind_options check_only = {.struct_size = sizeof check_only, .check_only = true};
    const lorafmt_swap_options before = {.struct_size = 1}, checks = {.struct_size = sizeof checks, .bind = &check_only};
    lorafmt_base_tensor bad[N_TENSORS];
    lorafmt_base other = base;

    (void)state;
    model_init(1, 0, NULL);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, NULL, 0, &before, NULL, NULL, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_runtime_swap(one.runtime, NULL, 0, &checks, NULL, NULL, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_runtime_generation(one.runtime), 0);
    lorafmt_runtime_free(one.runtime);
    assert_no_runtime(NULL, one.places, NULL);
    assert_no_runtime(&base, NULL, NULL);
    assert_no_runtime(&base, one.places, &old);
    assert_no_runtime(&base, one.places, &sets);
    assert_no_runtime(&base, one.places, &twice);
    other.struct_size = 1;
    assert_no_runtime(&other, one.places, NULL);
    other = base;
    other.tensors = NULL;
    assert_no_runtime(&other, one.places, NULL);
    memcpy(bad, tensors, sizeof bad);
    other.tensors = bad;
    bad[Q].size++;
    assert_no_runtime(&other, one.places, NULL);
    bad[Q].size--;
    bad[Q].name = NULL;
    assert_no_runtime(&other, one.places, NULL);
}

/* --- readers while a writer switches --- */

static double seconds = 0.5;
static atomic_bool stop;
static uint8_t states[3][N_TENSORS][MAX_SIZE]; // base, X, X and Y

static bool is_state(unsigned set, size_t i)
{
    return memcmp(one.live[set][Q], states[i][Q], tensors[Q].size) == 0 &&
           memcmp(one.live[set][K], states[i][K], tensors[K].size) == 0 &&
           memcmp(one.live[set][NORM], states[i][NORM], tensors[NORM].size) == 0;
}

static void *read_on(void *arg)
{
    size_t *n_mixed = arg;

    while (!stop) {
        const unsigned set = lorafmt_runtime_read_begin(one.runtime);
        *n_mixed += !is_state(set, 0) && !is_state(set, 1) && !is_state(set, 2);
        lorafmt_runtime_read_end(one.runtime, set);
    }
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_readers_see_no_mixture(void **state)
{
    const lorafmt_stack_entry stack[] = {entry(X, 1), entry(Y, 1)};
    pthread_t readers[3];
    size_t n_mixed[3] = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        load(stack, i, 0, states[i]);
    for (unsigned n_sets = 1; n_sets <= 2; n_sets++) {
        const double end = now() + seconds / 2;
        model_init(n_sets, 0, NULL);
        stop = false;
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(pthread_create(&readers[i], NULL, read_on, &n_mixed[i]), 0);
        while (now() < end)
            assert_int_equal(lorafmt_runtime_swap(one.runtime, stack, (size_t)rand() % 3, NULL, NULL, NULL, NULL), LORAFMT_OK);
        stop = true;
        for (size_t i = 0; i < 3; i++)
            pthread_join(readers[i], NULL);
        assert_true(lorafmt_runtime_generation(one.runtime) > 0);
        lorafmt_runtime_free(one.runtime);
    }
    assert_int_equal(n_mixed[0] + n_mixed[1] + n_mixed[2], 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_switches_are_a_fresh_load),
        cmocka_unit_test(test_what_a_switch_says),
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_ranks_that_hand_on_factors),
        cmocka_unit_test(test_load_by_swap),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_a_switch_that_fails_changes_nothing),
        cmocka_unit_test(test_waiting_for_readers_can_be_stopped),
        cmocka_unit_test(test_all_offenders_are_listed),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_bad_places),
        cmocka_unit_test(test_readers_see_no_mixture),
    };

    if (argc > 1)
        seconds = strtod(argv[1], NULL);
    return cmocka_run_group_tests(tests, make_all, NULL);
}
