/* SPDX-License-Identifier: MIT */
/* Items on several threads, and the tensors of a container loaded by them: the same for any number of threads. */
#include "format/base/error.h"
#include "lib/front/load.h"
#include "lib/threads/parallel.h"
#include "tests/container_files.h"

#include <stdatomic.h>

static const unsigned n_threads[] = {1, 2, 3, 16};

/* --- items --- */

enum { N_ITEMS = 1000, SCRATCH = 64 };

typedef struct items {
    atomic_uint runs[N_ITEMS];
    size_t bad[2]; // items that fail, SIZE_MAX for none
} items;

static lorafmt_status run_item(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    items *s = ctx;

    memset(scratch, (int)i, SCRATCH);
    atomic_fetch_add(&s->runs[i], 1);
    for (volatile unsigned spin = 0; i == s->bad[0] && spin < 100000; spin++) // the lowest failure comes late
        ;
    if (i == s->bad[0] || i == s->bad[1])
        return lf_fail(err, LORAFMT_CORRUPT, i, NULL, "item %zu", i);
    return LORAFMT_OK;
}

static void test_items(void **state)
{
    (void)state;

    for (size_t t = 0; t < COUNT(n_threads); t++)
        for (size_t n = 0; n <= N_ITEMS; n = 10 * n + 1) {
            items s = {.bad = {SIZE_MAX, SIZE_MAX}};
            assert_int_equal(lf_parallel(n, n_threads[t], SCRATCH, run_item, &s, NULL), LORAFMT_OK);
            for (size_t i = 0; i < N_ITEMS; i++)
                assert_int_equal(s.runs[i], i < n);
        }
    assert_int_equal(lf_n_threads(5), 5);
    assert_true(lf_n_threads(0) >= 1);
}

static void test_failure(void **state)
{
    (void)state;

    for (size_t t = 0; t < COUNT(n_threads); t++)
        for (size_t bad = 0; bad < 300; bad += 50) {
            items s = {.bad = {bad, bad + 1}};
            lorafmt_error err = {0};
            assert_int_equal(lf_parallel(N_ITEMS, n_threads[t], SCRATCH, run_item, &s, &err), LORAFMT_CORRUPT);
            assert_int_equal(err.offset, bad);
            for (size_t i = 0; i < N_ITEMS; i++)
                assert_true(s.runs[i] <= 1 && (s.runs[i] == 1 || i > bad));
            assert_int_equal(lf_parallel(N_ITEMS, n_threads[t], SCRATCH, run_item, &s, NULL), LORAFMT_CORRUPT);
        }
}

/* --- tensors --- */

/* Enough bytes for several threads: tensors of three blocks of F32. */
enum { N_TENSORS = 8, N_ELEMENTS = 600000 };

static uint8_t *data[N_TENSORS];

static int make_data(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TENSORS; i++) {
        data[i] = malloc(N_ELEMENTS * 4);
        assert_non_null(data[i]);
        for (size_t k = 0; k < N_ELEMENTS; k++)
            lf_store_u32le(data[i] + 4 * k, (uint32_t)((k + 7 * i) * 2654435761u & 0x807fffff) | 0x3c000000);
    }
    return 0;
}

static int free_data(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TENSORS; i++)
        free(data[i]);
    return 0;
}

static file make_file(lorafmt_codec codec)
{
    lorafmt_factor factors[N_TENSORS];
    lorafmt_site sites[N_TENSORS];
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = N_TENSORS, .sites = sites};
    const lorafmt_adapter *const adapters[] = {&adapter};
    char targets[N_TENSORS][2];
    uint64_t size;
    file f = {0};

    for (size_t i = 0; i < N_TENSORS; i++) {
        targets[i][0] = (char)('a' + i);
        targets[i][1] = '\0';
        factors[i] =
            (lorafmt_factor){LORAFMT_ROLE_VALUE,
                             {.dtype = LORAFMT_F32, .n_dims = 1, .shape = {N_ELEMENTS}, .size = N_ELEMENTS * 4, .data = data[i]}};
        sites[i] =
            (lorafmt_site){.target = targets[i], .kind = LORAFMT_KIND_SAVED, .scale = 1, .n_factors = 1, .factors = &factors[i]};
    }
    assert_int_equal(lf_container_encode(adapters, 1, 6, codec, to_file, &f, &size, NULL), LORAFMT_OK);
    return f;
}

static lorafmt_status load(const file *f, unsigned threads, lorafmt_error *err)
{
    lf_container *c = open_ok(f);
    lf_arena arena = {0};
    const void **loaded;
    const lorafmt_status status = lf_tensors_load(c, NULL, false, threads, &arena, &loaded, err);

    for (size_t i = 0; i < N_TENSORS && status == LORAFMT_OK; i++)
        assert_memory_equal(loaded[i], data[i], N_ELEMENTS * 4);
    lf_arena_free(&arena);
    lf_container_free(c);
    return status;
}

static void test_load(void **state)
{
    static const lorafmt_codec codecs[] = {LORAFMT_CODEC_RAW, LORAFMT_CODEC_SPLIT};
    lorafmt_error err;
    (void)state;

    for (size_t k = 0; k < COUNT(codecs); k++) {
        file f = make_file(codecs[k]);
        for (size_t t = 0; t < COUNT(n_threads); t++)
            assert_int_equal(load(&f, n_threads[t], &err), LORAFMT_OK);
        free(f.bytes);
    }
}

/* Planes of tensors 2 and 5, which only a digest protects, and then the stream of tensor 6, which is found first. */
static void test_load_damaged(void **state)
{
    file f = make_file(LORAFMT_CODEC_SPLIT);
    (void)state;

    for (size_t i = 2; i <= 5; i += 3) {
        const uint8_t *record = tensor_record(&f, i);
        f.bytes[lf_load_u64le(record + LF_TENSOR_OFFSET) + lf_load_u64le(record + LF_TENSOR_STORED_SIZE) - 1] ^= 1;
    }
    for (size_t t = 0; t < COUNT(n_threads); t++) {
        lorafmt_error err = {0};
        assert_int_equal(load(&f, n_threads[t], &err), LORAFMT_CORRUPT);
        assert_string_equal(err.field, "tensor[2].sha256");
    }
    f.bytes[lf_load_u64le(tensor_record(&f, 6) + LF_TENSOR_OFFSET) + 100] ^= 1;
    for (size_t t = 0; t < COUNT(n_threads); t++) {
        lorafmt_error err = {0};
        assert_int_equal(load(&f, n_threads[t], &err), LORAFMT_CORRUPT);
        assert_string_equal(err.field, "tensor[6]");
    }
    free(f.bytes);
}

/* All records name the bytes of the first tensor: not a file's worth of bytes is decoded for each. */
static void test_load_overlapping(void **state)
{
    file f = make_file(LORAFMT_CODEC_RAW);
    lorafmt_error err = {0};
    (void)state;

    f.size = (size_t)lf_load_u64le(tensor_record(&f, 1) + LF_TENSOR_OFFSET);
    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_FILE_END, f.size);
    for (size_t i = 1; i < N_TENSORS; i++)
        memcpy(tensor_record(&f, i) + LF_TENSOR_OFFSET, tensor_record(&f, 0) + LF_TENSOR_OFFSET, 8);
    reseal(&f, 0);
    assert_int_equal(load(&f, 1, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.field, "tensors");
    free(f.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),        cmocka_unit_test(test_failure),          cmocka_unit_test(test_load),
        cmocka_unit_test(test_load_damaged), cmocka_unit_test(test_load_overlapping),
    };

    return cmocka_run_group_tests(tests, make_data, free_data);
}
