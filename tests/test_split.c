/* SPDX-License-Identifier: MIT */
/* Codec split, which the encoder does not write: one F32 tensor of two blocks. */
#include "tests/container_files.h"

#include <zlib.h>

#define N_SPLIT 300000
#define SPLIT_BLOCK_LOG2 18

static size_t split_stream(const uint8_t *data, size_t first, size_t n, uint8_t *out, size_t capacity)
{
    uint8_t *top = malloc(n);
    uLongf size = capacity;

    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = lf_load_u32le(data + 4 * (first + i));
        top[i] = (uint8_t)((bits << 1 | bits >> 31) >> 24);
    }
    assert_int_equal(compress2(out, &size, top, n, 6), Z_OK);
    free(top);
    return size;
}

static file split_encode(const uint8_t *data)
{
    const size_t block = 1u << SPLIT_BLOCK_LOG2, capacity = 2 * block;
    uint8_t *streams = malloc(capacity), *bytes = malloc(N_SPLIT), head[24] = {0};
    const size_t first = split_stream(data, 0, block, streams, capacity);
    const size_t both = first + split_stream(data, block, N_SPLIT - block, streams + first, capacity - first);
    file f = {0};

    lf_store_u32le(head, SPLIT_BLOCK_LOG2);
    lf_store_u64le(head + 8, first);
    lf_store_u64le(head + 16, both);
    file_append(&f, head, sizeof head);
    file_append(&f, streams, both);
    for (unsigned plane = 1; plane < 4; plane++) {
        for (size_t i = 0; i < N_SPLIT; i++) {
            const uint32_t bits = lf_load_u32le(data + 4 * i);
            bytes[i] = (uint8_t)((bits << 1 | bits >> 31) >> (24 - 8 * plane));
        }
        file_append(&f, bytes, N_SPLIT);
    }
    free(bytes);
    free(streams);
    return f;
}

/* A file whose only tensor is `data`, raw, and then the same with other stored bytes. */
static file split_file(const uint8_t *data, const file *stored)
{
    const lorafmt_factor factor = {LORAFMT_ROLE_VALUE,
                                   {.dtype = LORAFMT_F32, .n_dims = 1, .shape = {N_SPLIT}, .size = 4 * N_SPLIT, .data = data}};
    const lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_SAVED, .scale = 1, .n_factors = 1, .factors = &factor};
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_adapter *const adapters[] = {&adapter};
    file f = encode(adapters, 1, 6);

    f.size = (size_t)lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET);
    file_append(&f, stored->bytes, stored->size);
    lf_store_u64le(tensor_record(&f, 0) + LF_TENSOR_STORED_SIZE, stored->size);
    tensor_record(&f, 0)[LF_TENSOR_CODEC] = LF_CODEC_SPLIT;
    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_FILE_END, f.size);
    reseal(&f, 0);
    return f;
}

static void test_split(void **state)
{
    static const struct {
        size_t at;
        uint64_t value;
        unsigned size;
        size_t reported; // in the stored bytes
    } cases[] = {{0, 17, 4, 0},  {0, 31, 4, 0},         {0, 30, 4, 8},        {4, 1, 1, 4},  {8, 0, 8, 8},
                 {16, 1, 8, 16}, {8, UINT64_MAX, 8, 8}, {16, 1 << 20, 8, 16}, {24, 0, 1, 24}};
    uint8_t *data = calloc(N_SPLIT, 4), *decoded = malloc(4 * N_SPLIT);
    lf_tensor_record t;
    lf_container *c;
    file stored, f;
    (void)state;

    for (size_t i = 0; i < N_SPLIT; i++)
        lf_store_u32le(data + 4 * i, (uint32_t)(i * 2654435761u) & 0x83ffffffu);
    stored = split_encode(data);
    f = split_file(data, &stored);
    assert_ok(&f);
    c = open_ok(&f);
    assert_int_equal(lf_container_tensor(c, 0, &t, NULL), LORAFMT_OK);
    assert_int_equal(t.codec, LF_CODEC_SPLIT);
    assert_null(t.tensor.data);
    assert_int_equal(lf_container_decode_tensor(c, 0, decoded, NULL), LORAFMT_OK);
    assert_memory_equal(decoded, data, 4 * N_SPLIT);
    lf_container_free(c);

    for (size_t i = 0; i < COUNT(cases); i++) {
        file bad = file_copy(&f);
        store(bad.bytes + t.offset + cases[i].at, cases[i].size, cases[i].value);
        assert_fails(&bad, LORAFMT_CORRUPT, "tensor[0]", t.offset + cases[i].reported);
        free(bad.bytes);
    }
    for (size_t i = 0; i < stored.size; i += 9973) { // streams and planes alike: the digest sees what the decoder does not
        f.bytes[t.offset + i] ^= 0x10;
        assert_int_equal(examine(&f, 0, NULL, NULL), LORAFMT_CORRUPT);
        f.bytes[t.offset + i] ^= 0x10;
    }
    free(f.bytes);
    free(stored.bytes);
    free(decoded);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
