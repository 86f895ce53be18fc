/* SPDX-License-Identifier: MIT */
/*
 * Codec split (spec 5): what the encoder writes comes back bit for bit. And files that it does not write: one tensor, raw from
 * the encoder, then stored in the other way by a plain encoder of the test's own.
 */
#include "tests/container_files.h"

#include <zlib.h>

/* Two blocks of the least size, the second one short. */
#define BLOCK_LOG2 18
#define BLOCK (UINT64_C(1) << BLOCK_LOG2)
#define N_ELEMENTS 300000

typedef struct element_type {
    lorafmt_dtype dtype;
    unsigned width;
} element_type;

static const element_type types[] = {{LORAFMT_F16, 2}, {LORAFMT_BF16, 2}, {LORAFMT_F32, 4}, {LORAFMT_F64, 8}};

/* Values whose exponents are of few kinds, and whose signs differ. */
static uint8_t *make_data(const element_type *type)
{
    uint8_t *data = calloc(N_ELEMENTS, type->width);

    assert_non_null(data);
    for (size_t i = 0; i < N_ELEMENTS; i++) {
        store(data + i * type->width, type->width, i * UINT64_C(0x9e3779b97f4a7c15));
        data[(i + 1) * type->width - 1] &= 0x83;
    }
    return data;
}

/* Byte `plane` of the rotated element, 0 being the topmost. */
static uint8_t rotated_byte(const uint8_t *element, unsigned width, unsigned plane)
{
    const uint8_t byte = element[width - 1 - plane];
    const uint8_t below = plane == width - 1 ? element[width - 1] : element[width - 2 - plane];
    return (uint8_t)(byte << 1 | below >> 7);
}

static void append_plane(file *f, const uint8_t *data, const element_type *type, unsigned plane, size_t first, size_t n)
{
    const size_t begin = f->size;

    file_pad_to(f, begin + n);
    for (size_t i = 0; i < n; i++)
        f->bytes[begin + i] = rotated_byte(data + (first + i) * type->width, type->width, plane);
}

static void append_stream(file *f, const uint8_t *data, const element_type *type, size_t first, size_t n)
{
    uLongf size = compressBound(n);
    uint8_t *stream = malloc(size);
    file top = {0};

    append_plane(&top, data, type, 0, first, n);
    assert_int_equal(compress2(stream, &size, top.bytes, n, 6), Z_OK);
    file_append(f, stream, size);
    free(stream);
    free(top.bytes);
}

/* The stored bytes, with that many elements in the first stream. */
static file split(const uint8_t *data, const element_type *type, size_t n_first)
{
    file f = {0}, streams = {0};

    append_stream(&streams, data, type, 0, n_first);
    file_pad_to(&f, 24);
    lf_store_u32le(f.bytes, BLOCK_LOG2);
    lf_store_u64le(f.bytes + 8, streams.size);
    append_stream(&streams, data, type, BLOCK, N_ELEMENTS - BLOCK);
    lf_store_u64le(f.bytes + 16, streams.size);
    file_append(&f, streams.bytes, streams.size);
    for (unsigned plane = 1; plane < type->width; plane++)
        append_plane(&f, data, type, plane, 0, N_ELEMENTS);
    free(streams.bytes);
    return f;
}

/* A file whose only tensor is `data`; stored is NULL for raw. */
static file make_file(const uint8_t *data, const element_type *type, const file *stored)
{
    const lorafmt_factor factor =
        {LORAFMT_ROLE_VALUE,
         {.dtype = type->dtype, .n_dims = 1, .shape = {N_ELEMENTS}, .size = N_ELEMENTS * type->width, .data = data}};
    const lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_SAVED, .scale = 1, .n_factors = 1, .factors = &factor};
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_adapter *const adapters[] = {&adapter};
    file f = encode(adapters, 1, 6);

    if (stored) {
        f.size = (size_t)lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET);
        file_append(&f, stored->bytes, stored->size);
        lf_store_u64le(tensor_record(&f, 0) + LF_TENSOR_STORED_SIZE, stored->size);
        tensor_record(&f, 0)[LF_TENSOR_CODEC] = LORAFMT_CODEC_SPLIT;
        lf_store_u64le(slot_of(&f, 0) + LF_ROOT_FILE_END, f.size);
        reseal(&f, 0);
    }
    return f;
}

static void assert_decodes(const file *f, const element_type *type, const uint8_t *data, int codec)
{
    const size_t size = N_ELEMENTS * type->width;
    uint8_t *decoded = malloc(size);
    lf_container *c = open_ok(f);
    lf_tensor_record t;

    assert_int_equal(lf_container_tensor(c, 0, &t, NULL), LORAFMT_OK);
    assert_int_equal(t.codec, codec);
    assert_int_equal(t.tensor.data != NULL, codec == LORAFMT_CODEC_RAW);
    assert_int_equal(lf_container_decode_tensor(c, 0, decoded, NULL), LORAFMT_OK);
    assert_memory_equal(decoded, data, size);
    lf_container_free(c);
    free(decoded);
    assert_ok(f);
}

static void test_decode(void **state)
{
    (void)state;

    for (size_t i = 0; i < COUNT(types); i++) {
        uint8_t *data = make_data(&types[i]);
        file stored = split(data, &types[i], BLOCK);
        file f = make_file(data, &types[i], &stored), raw = make_file(data, &types[i], NULL);
        assert_true(f.size < raw.size);
        assert_decodes(&f, &types[i], data, LORAFMT_CODEC_SPLIT);
        assert_decodes(&raw, &types[i], data, LORAFMT_CODEC_RAW);
        free(raw.bytes);
        free(f.bytes);
        free(stored.bytes);
        free(data);
    }
}

#define SOMEWHERE UINT64_MAX         // in the stored bytes
#define STORED_SIZE (UINT64_MAX - 1) // the field of the record

static void assert_split_fails(const file *f, uint64_t at)
{
    lorafmt_error err = {0};

    assert_int_equal(examine(f, 0, NULL, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.field, at == STORED_SIZE ? "tensor[0].stored_size" : "tensor[0]");
    if (at == STORED_SIZE)
        assert_int_equal(err.offset, (uint64_t)(tensor_record(f, 0) - f->bytes) + LF_TENSOR_STORED_SIZE);
    else if (at != SOMEWHERE)
        assert_int_equal(err.offset, lf_load_u64le(tensor_record(f, 0) + LF_TENSOR_OFFSET) + at);
}

static void test_bad_parts(void **state)
{
    static const struct {
        size_t at;
        unsigned size;
        uint64_t value;
        uint64_t reported; // in the stored bytes
    } cases[] = {{0, 4, 17, 0},
                 {0, 4, 31, 0},
                 {0, 4, 30, 0},
                 {4, 1, 1, 4},
                 {8, 8, 0, 8},
                 {16, 8, 1, 16},
                 {8, 8, UINT64_MAX, STORED_SIZE},
                 {16, 8, 1 << 20, STORED_SIZE},
                 {24, 1, 0, 24}};
    uint8_t *data = make_data(&types[0]);
    file stored = split(data, &types[0], BLOCK), f = make_file(data, &types[0], &stored);
    const uint64_t offset = lf_load_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET);
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        file bad = file_copy(&f);
        store(bad.bytes + offset + cases[i].at, cases[i].size, cases[i].value);
        assert_split_fails(&bad, cases[i].reported);
        free(bad.bytes);
    }
    for (size_t i = 0; i < stored.size; i += 9973) { // streams and planes alike: the digest sees what the decoder does not
        f.bytes[offset + i] ^= 0x10;
        assert_int_equal(examine(&f, 0, NULL, NULL), LORAFMT_CORRUPT);
        f.bytes[offset + i] ^= 0x10;
    }
    lf_store_u64le(tensor_record(&f, 0) + LF_TENSOR_STORED_SIZE, N_ELEMENTS - 1); // less than the one plane that is raw
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[0].stored_size",
                 (uint64_t)(tensor_record(&f, 0) - f.bytes) + LF_TENSOR_STORED_SIZE);
    free(f.bytes);
    free(stored.bytes);
    free(data);
}

/* The parts fit, but a stream is of another length than its block, or the planes are cut. */
static void test_wrong_lengths(void **state)
{
    static const size_t n_first[] = {BLOCK - 1, BLOCK + 1, 1, 2 * BLOCK};
    uint8_t *data = make_data(&types[0]);
    file stored, f;
    (void)state;

    for (size_t i = 0; i < COUNT(n_first); i++) {
        stored = split(data, &types[0], n_first[i] < N_ELEMENTS ? n_first[i] : N_ELEMENTS);
        f = make_file(data, &types[0], &stored);
        assert_split_fails(&f, SOMEWHERE);
        free(f.bytes);
        free(stored.bytes);
    }
    stored = split(data, &types[0], BLOCK);
    stored.size = N_ELEMENTS + 8; // the ends, but no streams
    f = make_file(data, &types[0], &stored);
    assert_split_fails(&f, STORED_SIZE);
    free(f.bytes);
    free(stored.bytes);
    free(data);
}

/* --- the encoder --- */

typedef void fill(uint8_t *data, size_t n, unsigned width);

/* Of one sign and magnitude, nearly. */
static void fill_smooth(uint8_t *data, size_t n, unsigned width)
{
    for (size_t i = 0; i < n; i++) {
        store(data + i * width, width, (i + 1) * UINT64_C(0x9e3779b97f4a7c15));
        data[(i + 1) * width - 1] = (uint8_t)(0x3c | (data[(i + 1) * width - 1] & 0x81));
    }
}

static void fill_random(uint8_t *data, size_t n, unsigned width)
{
    uint32_t x = 1;

    for (size_t i = 0; i < n * width; i++)
        data[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

static void fill_zeros(uint8_t *data, size_t n, unsigned width)
{
    memset(data, 0, n * width);
}

/* NaNs with payloads, infinities, zeros and the ends of the subnormal range, of either sign, between small numbers. */
static void fill_special(uint8_t *data, size_t n, unsigned width)
{
    static const uint8_t tops[][2] = {{0xff, 0xff}, {0x7f, 0x80}, {0x7c, 0x00}, {0xfc, 0x01}, {0x7f, 0xf0}, {0xff, 0xf8},
                                      {0x80, 0x00}, {0x00, 0x00}, {0x00, 0x01}, {0x80, 0x7f}, {0x00, 0x80}, {0x7f, 0x81}};

    fill_smooth(data, n, width);
    for (size_t i = 0; i < n; i += 1 + i % 50) {
        data[(i + 1) * width - 1] = tops[i % COUNT(tops)][0];
        data[(i + 1) * width - 2] = tops[i % COUNT(tops)][1];
    }
}

static file encode_values(const uint8_t *data, size_t n, const element_type *type, uint32_t align_log2, lorafmt_codec codec)
{
    const lorafmt_factor factor = {LORAFMT_ROLE_VALUE,
                                   {.dtype = type->dtype, .n_dims = 1, .shape = {n}, .size = n * type->width, .data = data}};
    const lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_SAVED, .scale = 1, .n_factors = 1, .factors = &factor};
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_adapter *const adapters[] = {&adapter};
    lorafmt_error err = {0};
    uint64_t size;
    file f = {0};

    if (lf_container_encode(adapters, 1, align_log2, codec, to_file, &f, &size, &err) != LORAFMT_OK)
        fail_msg("%s: %s", err.field, err.text);
    assert_int_equal(size, f.size);
    return f;
}

static lf_tensor_record record_of(const file *f)
{
    lf_container *c = open_ok(f);
    lf_tensor_record t;

    assert_int_equal(lf_container_tensor(c, 0, &t, NULL), LORAFMT_OK);
    lf_container_free(c);
    return t;
}

/* Block by block, the last one first, into memory of exactly its size. */
static void assert_blocks(const file *f, const uint8_t *data, size_t size, size_t block_size)
{
    lf_container *c = open_ok(f);
    lorafmt_error err;
    lf_blocks blocks;

    assert_int_equal(lf_container_blocks(c, 0, &blocks, NULL), LORAFMT_OK);
    assert_int_equal(blocks.size, block_size);
    assert_int_equal(blocks.n, (size + block_size - 1) / block_size);
    for (uint64_t b = blocks.n; b-- > 0;) {
        const size_t begin = (size_t)(b * blocks.size), n = size - begin < blocks.size ? size - begin : (size_t)blocks.size;
        uint8_t *decoded = malloc(n);
        assert_non_null(decoded);
        assert_int_equal(lf_container_decode_block(c, 0, b, decoded, NULL), LORAFMT_OK);
        assert_memory_equal(decoded, data + begin, n);
        free(decoded);
    }
    assert_int_equal(lf_container_decode_block(c, 0, blocks.n, NULL, &err), LORAFMT_MISUSE);
    lf_container_free(c);
}

static void check_round_trip(size_t n, const element_type *type, fill *fill_data, lorafmt_codec wanted)
{
    const size_t size = n * type->width;
    uint8_t *data = malloc(size), *decoded = malloc(size);
    file f, again, raw;
    lf_container *c;
    uint8_t id[2][32];

    assert_true(data && decoded);
    fill_data(data, n, type->width);
    f = encode_values(data, n, type, 6, LORAFMT_CODEC_SPLIT);
    again = encode_values(data, n, type, 6, LORAFMT_CODEC_SPLIT);
    raw = encode_values(data, n, type, 6, LORAFMT_CODEC_RAW);
    assert_ok(&f);
    assert_int_equal(f.size, again.size);
    assert_memory_equal(f.bytes, again.bytes, f.size);
    assert_int_equal(record_of(&f).codec, wanted);
    assert_true(wanted == LORAFMT_CODEC_SPLIT ? f.size < raw.size : f.size == raw.size);
    c = open_ok(&f);
    assert_int_equal(lf_container_decode_tensor(c, 0, decoded, NULL), LORAFMT_OK);
    assert_memory_equal(decoded, data, size);
    lf_container_free(c);
    assert_blocks(&f, data, size, wanted == LORAFMT_CODEC_SPLIT ? BLOCK * type->width : size);
    for (unsigned i = 0; i < 2; i++) {
        const file *one = i ? &raw : &f;
        const uint8_t *index = one->bytes + index_offset(one, 0);
        memcpy(id[i], index + record_offset(index, 2, 0) + LF_ADAPTER_ID, 32);
    }
    assert_memory_equal(id[0], id[1], 32);
    free(f.bytes);
    free(again.bytes);
    free(raw.bytes);
    free(data);
    free(decoded);
}

static void test_round_trip(void **state)
{
    static const size_t sizes[] = {1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 17};
    (void)state;

    for (size_t i = 0; i < COUNT(types); i++)
        for (size_t s = 0; s < COUNT(sizes); s++) {
            check_round_trip(sizes[s], &types[i], fill_smooth, LORAFMT_CODEC_SPLIT);
            check_round_trip(sizes[s], &types[i], fill_special, LORAFMT_CODEC_SPLIT);
            check_round_trip(sizes[s], &types[i], fill_zeros, LORAFMT_CODEC_SPLIT);
            check_round_trip(sizes[s], &types[i], fill_random, LORAFMT_CODEC_RAW);
        }
}

/* What saves no bytes of the file stays raw: small tensors, and larger ones where the alignment is large. */
static void test_not_worth_it(void **state)
{
    (void)state;

    for (size_t i = 0; i < COUNT(types); i++)
        for (size_t n = 1; n < 64 / types[i].width; n++)
            check_round_trip(n, &types[i], fill_zeros, LORAFMT_CODEC_RAW);
    for (size_t n = 1000; n < 2000; n += 100) {
        uint8_t *data = calloc(n, 2);
        file f = encode_values(data, n, &types[0], 12, LORAFMT_CODEC_SPLIT);
        assert_int_equal(record_of(&f).codec, LORAFMT_CODEC_RAW);
        assert_ok(&f);
        free(f.bytes);
        free(data);
    }
}

/* Adapters as they are: many tensors, shared ones, dtypes that cannot be split. */
static void test_sample(void **state)
{
    lorafmt_error err;
    uint64_t size;
    file f = {0}, raw = sample_file();
    (void)state;

    assert_int_equal(lf_container_encode(sample_adapters, COUNT(sample_adapters), 6, LORAFMT_CODEC_SPLIT, to_file, &f, &size,
                                         &err),
                     LORAFMT_OK);
    assert_ok(&f);
    assert_int_equal(f.size, raw.size); // too small, all of them
    assert_memory_equal(f.bytes, raw.bytes, f.size);
    free(f.bytes);
    free(raw.bytes);
}

/* Runs are not left to Huffman codes: of zeros hardly more stays than the planes that are raw. */
static void test_zeros(void **state)
{
    uint8_t *data = calloc(N_ELEMENTS, 2);
    file f = encode_values(data, N_ELEMENTS, &types[1], 6, LORAFMT_CODEC_SPLIT);
    (void)state;

    assert_true(record_of(&f).stored_size < N_ELEMENTS + N_ELEMENTS / 100);
    free(f.bytes);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),     cmocka_unit_test(test_bad_parts),    cmocka_unit_test(test_wrong_lengths),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_not_worth_it), cmocka_unit_test(test_sample),
        cmocka_unit_test(test_zeros),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
