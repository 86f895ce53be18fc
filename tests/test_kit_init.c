/* SPDX-License-Identifier: MIT */
/* New adapters by the library: what a program can get wrong, and memory, reads and patience that end at every place they can. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorakit/init.h"
#include "tests/failing_allocations.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 6, COLS = 10, VOCAB = 7 };

static float weights[ROWS * COLS];

static const lorafmt_base_tensor tensors[] = {
    {"a.weight", LORAFMT_F32, 2, {ROWS, COLS}, sizeof weights},
    {"b.weight", LORAFMT_F32, 2, {ROWS, COLS}, sizeof weights},
    {"embed_tokens.weight", LORAFMT_BF16, 2, {VOCAB, COLS}, 2 * VOCAB *COLS},
};

static const char *const both[] = {"a", "b"}, *const all[] = {"all-linear", "embed_tokens"};

static lorafmt_status read_weights(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    (void)ctx;
    (void)tensor;
    (void)err;
    memcpy(dst, (const uint8_t *)weights + offset, size);
    return LORAFMT_OK;
}

static lorafmt_status fail_to_read(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    (void)ctx;
    (void)offset;
    memset(dst, 0, size);
    memset(err, 0, sizeof *err);
    err->status = LORAFMT_IO;
    return tensor == 1 ? LORAFMT_IO : LORAFMT_OK;
}

static const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 3, .tensors = tensors, .read = read_weights};

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS * COLS; i++)
        weights[i] = sinf((float)(i * i)); // of full rank
    return 0;
}

/* --- tests --- */

static lorakit_init_options options_of(lorakit_init_method method)
{
    const bool random = method == LORAKIT_INIT_GAUSSIAN || method == LORAKIT_INIT_KAIMING;

    return (lorakit_init_options){.struct_size = sizeof(lorakit_init_options),
                                  .targets = random ? all : both,
                                  .n_targets = 2,
                                  .method = method,
                                  .rank = 3,
                                  .n_threads = 1};
}

/* The status, with the field and the beginning of the text. */
static void refused(const lorafmt_base *of, const lorakit_init_options *o, lorafmt_status status, const char *field,
                    const char *text)
{
    lorakit_adapter *made = NULL;
    lorafmt_error err = {0};

    assert_int_equal(lorakit_init(of, o, &made, &err), status);
    assert_null(made);
    assert_int_equal(err.status, status);
    assert_string_equal(err.field, field);
    assert_memory_equal(err.text, text, strlen(text));
    assert_int_equal(lorakit_init(of, o, &made, NULL), status);
}

static void test_every_method(void **state)
{
    static const char *const names[] = {"gaussian", "kaiming", "pissa", "olora"};

    (void)state;
    for (lorakit_init_method method = LORAKIT_INIT_GAUSSIAN; method <= LORAKIT_INIT_OLORA; method++) {
        const lorakit_init_options o = options_of(method);
        const size_t n = method <= LORAKIT_INIT_KAIMING ? 3 : 2;
        lorakit_init_size size;
        lorakit_adapter *made;
        const lorafmt_adapter *adapter;
        assert_string_equal(lorakit_init_method_name(method), names[method]);
        assert_int_equal(lorakit_init_measure(&base, &o, &size, NULL), LORAFMT_OK);
        assert_int_equal(size.n_linear, 2);
        assert_int_equal(size.n_embedding, n - 2);
        assert_int_equal(size.n_parameters, 3 * (2 * (ROWS + COLS) + (n - 2) * (VOCAB + COLS)));
        assert_int_equal(size.n_bytes, 4 * size.n_parameters);
        assert_int_equal(size.n_base_parameters, 2 * ROWS * COLS + VOCAB * COLS);
        assert_int_equal(lorakit_init(&base, &o, &made, NULL), LORAFMT_OK);
        adapter = lorakit_adapter_get(made);
        assert_string_equal(adapter->name, "adapter");
        assert_int_equal(adapter->n_sites, n);
        assert_true(adapter->sites[0].alpha == 3 && adapter->sites[0].scale == 1);
        lorakit_adapter_free(made);
    }
    assert_string_equal(lorakit_init_method_name((lorakit_init_method)9), "unknown");
}

static void test_wrong_options(void **state)
{
    static const char *const empty[] = {""};
    lorakit_init_options o = options_of(LORAKIT_INIT_GAUSSIAN);

    (void)state;
    o.struct_size--;
    refused(&base, &o, LORAFMT_MISUSE, "struct_size", "");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.n_targets = 0;
    refused(&base, &o, LORAFMT_MISUSE, "targets", "none is given");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.excludes = empty;
    o.n_excludes = 1;
    refused(&base, &o, LORAFMT_MISUSE, "excludes", "a name is empty");
    o = options_of((lorakit_init_method)4);
    refused(&base, &o, LORAFMT_MISUSE, "method", "4, must be 0..3");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.rank = 0;
    refused(&base, &o, LORAFMT_MISUSE, "rank", "0, must be 1..1048576");
    o.rank = 1048577;
    refused(&base, &o, LORAFMT_MISUSE, "rank", "1048577, must be 1..1048576");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.orientation = LORAFMT_BY_SHAPE;
    refused(&base, &o, LORAFMT_MISUSE, "orientation", "2, must be out-in or in-out");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.dtype = LORAFMT_I8;
    refused(&base, &o, LORAFMT_MISUSE, "dtype", "I8, must be F32, BF16, F16 or F64");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.has_alpha = true;
    o.alpha = NAN;
    refused(&base, &o, LORAFMT_MISUSE, "alpha", "nan, must be finite");
    o = options_of(LORAKIT_INIT_GAUSSIAN);
    o.name = "a/b";
    refused(&base, &o, LORAFMT_MISUSE, "name", "an adapter name must be 1..255 bytes");
}

static void test_wrong_bases(void **state)
{
    const lorakit_init_options o = options_of(LORAKIT_INIT_OLORA);
    lorafmt_base_tensor odd[] = {tensors[0], tensors[1]};
    lorafmt_base other = base;

    (void)state;
    other.read = NULL;
    refused(&other, &o, LORAFMT_MISUSE, "base", "its weights cannot be read, which olora has to");
    other.read = fail_to_read;
    assert_int_equal(lorakit_init(&other, &o, &(lorakit_adapter *){NULL}, &(lorafmt_error){0}), LORAFMT_IO);
    other = (lorafmt_base){.struct_size = sizeof other, .n_tensors = 2, .tensors = odd, .read = read_weights};
    odd[1].size--;
    refused(&other, &o, LORAFMT_MISUSE, "b.weight", "the base's dtype, shape and size do not agree");
    odd[1] = tensors[0];
    odd[1].shape[1] = UINT64_C(1) << 46;
    odd[1].shape[0] = UINT64_C(1) << 46;
    odd[1].name = "b.weight";
    refused(&other, &o, LORAFMT_MISUSE, "b.weight", "the base's dtype, shape and size do not agree");
    other.struct_size--;
    refused(&other, &o, LORAFMT_MISUSE, "struct_size", "");
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)total;
    return done < 2;
}

static void test_stop(void **state)
{
    lorakit_init_options o = options_of(LORAKIT_INIT_PISSA);

    (void)state;
    o.progress = stop;
    refused(&base, &o, LORAFMT_CANCELLED, "", "stopped");
}

static lorafmt_status init_by(const void *ctx, lorafmt_error *err)
{
    const lorakit_init_options o = options_of(*(const lorakit_init_method *)ctx);
    lorakit_adapter *made;
    const lorafmt_status st = lorakit_init(&base, &o, &made, err);

    assert_int_equal(made != NULL, st == LORAFMT_OK);
    lorakit_adapter_free(made);
    return st;
}

static void test_no_memory(void **state)
{
    (void)state;
    for (lorakit_init_method method = LORAKIT_INIT_GAUSSIAN; method <= LORAKIT_INIT_OLORA; method++)
        assert_int_equal(refuse_each(init_by, &method), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method), cmocka_unit_test(test_wrong_options), cmocka_unit_test(test_wrong_bases),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
