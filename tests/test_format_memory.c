/* SPDX-License-Identifier: MIT */
/*
 * Memory that format/ does not get: each request fails in turn, whether of the heap or of an arena. The status is NO_MEMORY, nothing
 * is kept, and what comes out is NULL.
 */
#include "format/base/error.h"
#include "format/container/internal.h"
#include "format/foreign/json.h"
#include "format/foreign/safetensors.h"
#include "format/foreign/shard_index.h"
#include "tests/container_files.h"
#include "tests/failing_allocations.h"

#include <zlib.h>

/* zlib's own memory, which it asks for where it begins. */
#define WRAP_INIT(name, parameters, arguments)                                                                                   \
    int __real_##name parameters;                                                                                                \
    int __wrap_##name parameters;                                                                                                \
    int __wrap_##name parameters                                                                                                 \
    {                                                                                                                            \
        return is_refused() ? Z_MEM_ERROR : __real_##name arguments;                                                             \
    }

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
WRAP_INIT(inflateInit_, (z_stream * z, const char *version, int size), (z, version, size))
WRAP_INIT(deflateInit2_, (z_stream * z, int level, int method, int bits, int memory, int strategy, const char *version, int size),
          (z, level, method, bits, memory, strategy, version, size))
// NOLINTEND(bugprone-reserved-identifier)

static void run_without_memory(operation *run, const void *ctx)
{
    assert_int_equal(refuse_each(run, ctx), 0);
}

/* --- containers --- */

/* Numbers whose exponents are few, so that splitting them is worth it. */
static uint8_t weights[1 << 16];

static const lorafmt_factor large_factor = {LORAFMT_ROLE_VALUE, TENSOR(LORAFMT_F32, 1, sizeof weights / 4, 0, weights)};
static const lorafmt_site large_site = {.target = "w",
                                        .kind = LORAFMT_KIND_SAVED,
                                        .scale = 1,
                                        .n_factors = 1,
                                        .factors = &large_factor};
static const lorafmt_adapter large_adapter = {.name = "large",
                                              .base_name = "",
                                              .base_revision = "",
                                              .n_sites = 1,
                                              .sites = &large_site};
static const lorafmt_adapter *const adapters[] = {&first_adapter, &large_adapter, &second_adapter};

static lorafmt_status to_nowhere(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    (void)ctx, (void)data, (void)size, (void)err;
    return LORAFMT_OK;
}

static lorafmt_status encode_as(lorafmt_codec codec, lf_sink sink, void *ctx, lorafmt_error *err)
{
    uint64_t size = 1;
    const lorafmt_status st = lf_container_encode(adapters, COUNT(adapters), 6, codec, sink, ctx, &size, err);

    assert_true(st == LORAFMT_OK || size == 0);
    return st;
}

static lorafmt_status encode_raw(const void *ctx, lorafmt_error *err)
{
    (void)ctx;
    return encode_as(LORAFMT_CODEC_RAW, to_nowhere, NULL, err);
}

static lorafmt_status encode_split(const void *ctx, lorafmt_error *err)
{
    (void)ctx;
    return encode_as(LORAFMT_CODEC_SPLIT, to_nowhere, NULL, err);
}

static lorafmt_status open_and_check(const void *ctx, lorafmt_error *err)
{
    const file *f = ctx;
    lf_container *c;
    lorafmt_status st = lf_container_open(f->bytes, f->size, 0, &c, err);

    assert_true((st == LORAFMT_OK) == (c != NULL));
    if (st == LORAFMT_OK)
        st = lf_container_check(c, NULL, err);
    lf_container_free(c);
    return st;
}

static lorafmt_status open_earlier(const void *ctx, lorafmt_error *err)
{
    const file *f = ctx;
    lf_container *c, *earlier = NULL;
    lorafmt_status st = lf_container_open(f->bytes, f->size, 0, &c, err);

    if (st == LORAFMT_OK)
        st = lf_container_open_earlier(c, 0, &earlier, err);
    assert_true((st == LORAFMT_OK) == (earlier != NULL));
    lf_container_free(earlier);
    lf_container_free(c);
    return st;
}

static lorafmt_status read_all_adapters(const void *ctx, lorafmt_error *err)
{
    const file *f = ctx;
    lf_arena arena = {0};
    lf_adapter_list list;
    lf_container *c;
    lorafmt_status st = lf_container_open(f->bytes, f->size, 0, &c, err);

    if (st == LORAFMT_OK)
        st = lf_container_read_all(c, 1, &arena, &list, err);
    lf_arena_free(&arena);
    lf_container_free(c);
    return st;
}

static void test_container(void **state)
{
    file raw = {0}, split = {0}, appended = appended_file();

    (void)state;
    for (size_t i = 3; i < sizeof weights; i += 4)
        weights[i] = 0x3f;
    assert_int_equal(encode_as(LORAFMT_CODEC_RAW, to_file, &raw, NULL), LORAFMT_OK);
    assert_int_equal(encode_as(LORAFMT_CODEC_SPLIT, to_file, &split, NULL), LORAFMT_OK);
    assert_true(split.size < raw.size);
    run_without_memory(encode_raw, NULL);
    run_without_memory(encode_split, NULL);
    run_without_memory(open_and_check, &raw);
    run_without_memory(open_and_check, &split);
    run_without_memory(read_all_adapters, &raw);
    run_without_memory(open_earlier, &appended);
    free(appended.bytes);
    free(raw.bytes);
    free(split.bytes);
}

/* Wherever the sink stops, encoding stops with what it says. */
static lorafmt_status until_full(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    size_t *left = ctx;

    (void)data, (void)size;
    if (*left == 0)
        return lf_fail(err, LORAFMT_IO, LORAFMT_NO_OFFSET, NULL, "full");
    --*left;
    return LORAFMT_OK;
}

static void check_full_sink(lorafmt_codec codec)
{
    for (size_t room = 0;; room++) {
        size_t left = room;
        lorafmt_error err = {0};
        const lorafmt_status st = encode_as(codec, until_full, &left, &err);
        assert_int_equal(left, 0);
        if (st == LORAFMT_OK) {
            assert_true(room > 3 + SAMPLE_TENSORS + 1); // header, roots, index, tensors
            break;
        }
        assert_int_equal(err.status, LORAFMT_IO);
        assert_string_equal(err.text, "full");
    }
}

static void test_full_sink(void **state)
{
    (void)state;
    check_full_sink(LORAFMT_CODEC_RAW);
    check_full_sink(LORAFMT_CODEC_SPLIT);
}

/* --- JSON and what is made of it --- */

static lorafmt_status parse_json(const void *ctx, lorafmt_error *err)
{
    static const char text[] = "{\"a\":[NaN,{\"x\":1,\"y\":2}],\"b\":{\"one\":1,\"two\":2,\"three\":3}}";
    cJSON *root;
    const lorafmt_status st = lf_json_parse(text, sizeof text - 1, LF_JSON_NONFINITE, &root, err);

    (void)ctx;
    assert_true((st == LORAFMT_OK) == (root != NULL));
    cJSON_Delete(root);
    return st;
}

static lorafmt_status set_member(const char *path, lorafmt_error *err)
{
    static const char text[] = "{\"a\": 1, \"b\": {\"c\": 2}}";
    size_t size;
    char *out;
    const lorafmt_status st = lf_json_set_member(text, sizeof text - 1, path, "[true]", &out, &size, err);

    assert_true((st == LORAFMT_OK) == (out != NULL));
    free(out);
    return st;
}

static lorafmt_status set_known(const void *ctx, lorafmt_error *err)
{
    (void)ctx;
    return set_member("a", err);
}

static lorafmt_status set_new(const void *ctx, lorafmt_error *err)
{
    (void)ctx;
    return set_member("z", err);
}

static lorafmt_status set_inner(const void *ctx, lorafmt_error *err)
{
    (void)ctx;
    return set_member("b.c", err);
}

static lorafmt_status set_new_inner(const void *ctx, lorafmt_error *err)
{
    (void)ctx;
    return set_member("z.c", err);
}

static lorafmt_status extend_index(const void *ctx, lorafmt_error *err)
{
    static const char text[] =
        "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"n.safetensors\"}}";
    static const lf_shard_entry added = {"c", "n.safetensors"};
    size_t size;
    char *out;
    const lorafmt_status st = lf_shard_index_extend(text, sizeof text - 1, &added, 1, 2, &out, &size, err);

    (void)ctx;
    assert_true((st == LORAFMT_OK) == (out != NULL));
    free(out);
    return st;
}

static void test_json(void **state)
{
    static operation *const operations[] = {parse_json, set_known, set_new, set_inner, set_new_inner, extend_index};

    (void)state;
    for (size_t i = 0; i < COUNT(operations); i++)
        run_without_memory(operations[i], NULL);
}

static lorafmt_status encode_header(const void *ctx, lorafmt_error *err)
{
    lf_safetensors_tensor t = {.name = "t", .dtype = LORAFMT_F32, .n_dims = 1, .shape = {3}, .size = 12};
    const lf_safetensors_pair metadata[] = {{"format", "pt"}, {"note", "two\nlines"}};
    uint8_t *out;
    size_t size;
    const lorafmt_status st = lf_safetensors_encode_header(&t, 1, metadata, COUNT(metadata), &out, &size, err);

    (void)ctx;
    assert_true((st == LORAFMT_OK) == (out != NULL));
    free(out);
    return st;
}

static lorafmt_status parse_header(const void *ctx, lorafmt_error *err)
{
    static const char text[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    const size_t size = sizeof text - 1;
    lf_safetensors *table;
    const lorafmt_status st = lf_safetensors_parse((const uint8_t *)text, size, 8 + size + 4, &table, err);

    (void)ctx;
    assert_true((st == LORAFMT_OK) == (table != NULL));
    lf_safetensors_free(table);
    return st;
}

static void test_safetensors(void **state)
{
    (void)state;
    run_without_memory(encode_header, NULL);
    run_without_memory(parse_header, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_container),
        cmocka_unit_test(test_full_sink),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_safetensors),
    };

    cJSON_InitHooks(&(cJSON_Hooks){__wrap_malloc, __wrap_free});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
