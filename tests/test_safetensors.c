/* SPDX-License-Identifier: MIT */
#include "format/base/bytes.h"
#include "format/foreign/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What open does with a whole file in memory, whose header is in a block of exactly its size. */
static lorafmt_status open_bytes(const uint8_t *file, size_t size, lf_safetensors **out, lorafmt_error *err)
{
    const size_t head = size < LF_SAFETENSORS_HEAD ? size : LF_SAFETENSORS_HEAD;
    uint64_t header_size;
    uint8_t *header;
    lorafmt_status st;

    *out = NULL;
    st = lf_safetensors_header_size(file, head, size, &header_size, err);
    if (st != LORAFMT_OK)
        return st;
    header = malloc(header_size);
    assert_non_null(header);
    memcpy(header, file + 8, header_size);
    st = lf_safetensors_parse(header, header_size, size, out, err);
    free(header);
    return st;
}

typedef struct header_case {
    const char *header; /* the JSON */
    size_t data_size;   /* bytes after it */
    lorafmt_status status;
    uint64_t offset; /* in the file; 8 for the header's first byte */
    const char *field;
    const char *says; /* part of the message */
} header_case;

#define ENTRY(dtype, shape, begin, end) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"
#define F32_AT(begin, end) ENTRY("F32", "[1]", begin, end)

static const header_case cases[] = {
    {"{}", 0, LORAFMT_OK, 0, "", ""},
    {"{}      ", 0, LORAFMT_OK, 0, "", ""},
    {"{\"a\":" F32_AT(0, 4) "}", 4, LORAFMT_OK, 0, "", ""},
    {"{\"a\":" ENTRY("F32", "[]", 0, 4) "}", 4, LORAFMT_OK, 0, "", ""},
    {"{\"a\":" ENTRY("F32", "[0,7]", 0, 0) "}", 0, LORAFMT_OK, 0, "", ""},
    {"{\"b\":" F32_AT(4, 8) ",\"e\":" ENTRY("F32", "[0]", 4, 4) ",\"a\":" F32_AT(0, 4) "}", 8, LORAFMT_OK, 0, "", ""},
    {"{\"a\":" ENTRY("F6_E2M3", "[4]", 0, 3) "}", 3, LORAFMT_OK, 0, "", ""},
    {"{\"__metadata__\":{},\"a\":" F32_AT(0, 4) "}", 4, LORAFMT_OK, 0, "", ""},
    {"{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1]", 0, 4) "}", 4, LORAFMT_OK, 0, "", ""},

    {"{\"a\":1", 0, LORAFMT_CORRUPT, 14, "", "the text ends"},
    {"{} {}", 0, LORAFMT_CORRUPT, 11, "", "expected the end"},
    {"{\"a\":" F32_AT(0, 4) ",\"a\":" F32_AT(4, 8) "}", 8, LORAFMT_CORRUPT, 62, "a", "twice"},
    {"{\"a\":[]}", 0, LORAFMT_CORRUPT, 9, "a", "must be an object"},
    {"{\"\":" F32_AT(0, 4) "}", 4, LORAFMT_CORRUPT, 9, "", "a tensor name must have 1 .. 1024 bytes"},
    {"{\"a\\n\":" F32_AT(0, 4) "}", 4, LORAFMT_CORRUPT, 9, "a\n", "no control characters"},
    {"{\"a\":{}}", 0, LORAFMT_CORRUPT, 9, "a", "dtype is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,0]}}", 0, LORAFMT_CORRUPT, 9, "a", "shape is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0]}}", 0, LORAFMT_CORRUPT, 9, "a", "data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}", 0, LORAFMT_CORRUPT, 9, "a",
     "unknown member \"x\", allowed are"},
    {"{\"a\":{\"Dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, LORAFMT_CORRUPT, 9, "a", "unknown member \"Dtype\""},
    {"{\"a\":{\"dtype\":7,\"shape\":[0],\"data_offsets\":[0,0]}}", 0, LORAFMT_CORRUPT, 9, "a", "dtype must be a string"},
    {"{\"b\":" F32_AT(0, 4) ",\"a\":" ENTRY("F31", "[1]", 4, 8) "}", 8, LORAFMT_UNSUPPORTED, 62, "a",
     "dtype \"F31\" is not known"},
    {"{\"a\":" ENTRY("f32", "[1]", 0, 4) "}", 4, LORAFMT_UNSUPPORTED, 9, "a", "dtype \"f32\" is not known"},
    {"{\"a\":" ENTRY("F32", "1", 0, 4) "}", 4, LORAFMT_CORRUPT, 9, "a", "shape must be an array of numbers"},
    {"{\"a\":" ENTRY("F32", "[\"1\"]", 0, 4) "}", 4, LORAFMT_CORRUPT, 9, "a", "shape must be an array of numbers"},
    {"{\"a\":" ENTRY("F32", "[null]", 0, 4) "}", 4, LORAFMT_CORRUPT, 9, "a", "shape must be an array of numbers"},
    {"{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, LORAFMT_LIMIT, 9, "a", "shape has more than 8 numbers"},
    {"{\"a\":" ENTRY("F32", "[-1]", 0, 4) "}", 4, LORAFMT_CORRUPT, 37, "", "number -1"},
    {"{\"a\":" ENTRY("F32", "[1.0]", 0, 4) "}", 4, LORAFMT_CORRUPT, 37, "", "number 1.0"},
    {"{\"a\":" ENTRY("F32", "[9007199254740993]", 0, 4) "}", 4, LORAFMT_LIMIT, 37, "", "at most 2^53"},
    {"{\"a\":" ENTRY("F32", "[8,32]", 0, 512) "}", 512, LORAFMT_CORRUPT, 9, "a",
     "shape [8, 32] of F32 needs 1024 bytes, data_offsets give 512"},
    {"{\"a\":" ENTRY("F32", "[4294967296,4294967296]", 0, 0) "}", 0, LORAFMT_CORRUPT, 9, "a", "beyond 2^46 bytes"},
    {"{\"a\":" ENTRY("F32", "[4611686018427387,4096]", 0, 0) "}", 0, LORAFMT_CORRUPT, 9, "a", "beyond 2^46 bytes"},
    {"{\"a\":" ENTRY("F4", "[3]", 0, 1) "}", 1, LORAFMT_CORRUPT, 9, "a", "no whole number of bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]}}", 4, LORAFMT_CORRUPT, 9, "a", "has 1 numbers, must have 2"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, LORAFMT_LIMIT, 9, "a", "more than 2 numbers"},
    {"{\"a\":" F32_AT(4, 0) "}", 4, LORAFMT_CORRUPT, 9, "a", "end at 0, before they begin at 4"},
    {"{\"__metadata__\":[]}", 0, LORAFMT_CORRUPT, 9, "__metadata__", "must be an object of strings"},
    {"{\"__metadata__\":null}", 0, LORAFMT_CORRUPT, 9, "__metadata__", "must be an object of strings"},
    {"{\"__metadata__\":{\"r\":8}}", 0, LORAFMT_CORRUPT, 9, "__metadata__", "\"r\" must be a string"},

    /* the layout: data begin at 62 with one tensor */
    {"{\"a\":" F32_AT(4, 8) "}", 8, LORAFMT_CORRUPT, 62, "a", "the 4 bytes before it belong to no tensor"},
    {"{\"a\":" F32_AT(0, 4) ",\"b\":" F32_AT(8, 12) "}", 12, LORAFMT_CORRUPT, 120, "b", "the 4 bytes before it"},
    {"{\"a\":" F32_AT(0, 4) ",\"b\":" F32_AT(2, 6) "}", 6, LORAFMT_CORRUPT, 117, "b", "overlaps \"a\" by 2 bytes"},
    {"{\"a\":" F32_AT(0, 4) ",\"b\":" F32_AT(0, 4) "}", 4, LORAFMT_CORRUPT, 115, "b", "overlaps \"a\" by 4 bytes"},
    {"{\"a\":" F32_AT(0, 4) ",\"e\":" ENTRY("F32", "[0]", 2, 2) "}", 4, LORAFMT_CORRUPT, 117, "e", "overlaps \"a\" by 2 bytes"},
    {"{\"a\":" F32_AT(0, 4) "}", 3, LORAFMT_CORRUPT, 65, "a", "its data end at 66, the file at 65: it was cut short"},
    {"{\"a\":" F32_AT(0, 4) "}", 0, LORAFMT_CORRUPT, 62, "a", "it was cut short"},
    {"{\"a\":" F32_AT(0, 4) "}", 6, LORAFMT_CORRUPT, 66, "", "the last 2 bytes of the file belong to no tensor"},
    {"{}", 1, LORAFMT_CORRUPT, 10, "", "the last 1 bytes"},
};

static void test_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const header_case *c = &cases[i];
        const size_t size = 8 + strlen(c->header) + c->data_size;
        uint8_t *file = calloc(1, size);
        lf_safetensors *table;
        lorafmt_error err = {0};
        lorafmt_status st;
        assert_non_null(file);
        lf_store_u64le(file, strlen(c->header));
        memcpy(file + 8, c->header, strlen(c->header));
        st = open_bytes(file, size, &table, &err);
        if (st != c->status || err.offset != c->offset || strcmp(err.field, c->field) != 0 || !strstr(err.text, c->says))
            fail_msg("%s: %s, %s at %llu: %s", c->header, lorafmt_status_name(st), err.field, (unsigned long long)err.offset,
                     err.text);
        assert_true((st == LORAFMT_OK) == (table != NULL));
        lf_safetensors_free(table);
        assert_int_equal(open_bytes(file, size, &table, NULL), c->status);
        lf_safetensors_free(table);
        free(file);
    }
}

typedef struct head_case {
    const char *head;
    size_t size;
    uint64_t file_size;
    lorafmt_status status;
    uint64_t offset;
    const char *says;
} head_case;

#define HEAD(s) s, sizeof(s) - 1

static const head_case heads[] = {
    {HEAD(""), 0, LORAFMT_NOT_LORAFMT, 0, "this is an empty file"},
    {HEAD("version https://git-lfs.github.com/spec/v1\noid sha256:"), 133, LORAFMT_NOT_LORAFMT, 0, "git lfs pull"},
    {HEAD("<!DOCTYPE html>"), 9000, LORAFMT_NOT_LORAFMT, 0, "a web page"},
    {HEAD("\xef\xbb\xbf\r\n  <!doctype HTML>"), 9000, LORAFMT_NOT_LORAFMT, 0, "a web page"},
    {HEAD("\n\n<HTML lang=en>"), 9000, LORAFMT_NOT_LORAFMT, 0, "a web page"},
    {HEAD("<?xml version=\"1.0\"?><Error>"), 9000, LORAFMT_NOT_LORAFMT, 0, "an XML document"},
    {HEAD("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00"), 9000, LORAFMT_NOT_LORAFMT, 0,
     "a PyTorch pickle archive (zip), never opened"},
    {HEAD("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19."), 9000, LORAFMT_NOT_LORAFMT, 0, "a pickle, never opened"},
    {HEAD("\x80\x05\x95\x00\x01\x00\x00\x00\x00\x00\x00"), 9000, LORAFMT_NOT_LORAFMT, 0, "a pickle, never opened"},
    {HEAD("GGUF\x03\x00\x00\x00\x01\x00\x00\x00"), 9000, LORAFMT_NOT_LORAFMT, 0, "a GGUF file"},
    {HEAD("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), 9000, LORAFMT_NOT_LORAFMT, 0, "gzip data"},
    {HEAD("{\"weight_map\": {}}"), 9000, LORAFMT_NOT_LORAFMT, 0, "JSON text"},
    {HEAD("{"), 1, LORAFMT_NOT_LORAFMT, 0, "JSON text"},
    {HEAD("\t{}"), 3, LORAFMT_NOT_LORAFMT, 0, "JSON text"},
    {HEAD("\r\n{\n"), 4, LORAFMT_NOT_LORAFMT, 0, "JSON text"},
    {HEAD("{\t\"weight_map\": {}}"), 9000, LORAFMT_NOT_LORAFMT, 0, "JSON text"},
    {HEAD("{weight_map}"), 12, LORAFMT_NOT_LORAFMT, 8, "byte 0x6d"},
    {HEAD("        "), 8, LORAFMT_CORRUPT, 0, "2314885530818453536 bytes, the file has 0"},
    {HEAD("  {\n  \"weight_map\": {}}"), 9000, LORAFMT_NOT_LORAFMT, 0, "JSON text"},
    {HEAD("Not found"), 9, LORAFMT_NOT_LORAFMT, 8, "byte 0x64 where its JSON header begins with '{'"},
    {HEAD("\x02\x00\x00\x00\x00\x00\x00\x00[]"), 10, LORAFMT_NOT_LORAFMT, 8, "byte 0x5b"},
    {HEAD("\x02\x00\x00"), 3, LORAFMT_CORRUPT, 3, "the file has 3 bytes"},
    {HEAD("\x02\x00\x00\x00\x00\x00\x00\x00"), 8, LORAFMT_CORRUPT, 0, "a header of 2 bytes, the file has 0"},
    {HEAD("\x80\x02\x00\x00\x00\x00\x00\x00"), 8, LORAFMT_CORRUPT, 0, "a header of 640 bytes, the file has 0"},
    {HEAD("\x03\x00\x00\x00\x00\x00\x00\x00{}"), 10, LORAFMT_CORRUPT, 0, "a header of 3 bytes, the file has 2"},
    {HEAD("\xff\xff\xff\xff\xff\xff\xff\xff{}"), 10, LORAFMT_CORRUPT, 0, "18446744073709551615 bytes, the file has 2"},
    {HEAD("\x01\xe1\xf5\x05\x00\x00\x00\x00{}"), UINT64_C(1) << 40, LORAFMT_LIMIT, 0, "100000001 bytes, at most 100000000"},
    {HEAD("\x01\x00\x00\x00\x00\x00\x00\x00{}"), 10, LORAFMT_CORRUPT, 0, "1 bytes, must be at least 2"},
    {HEAD("\x00\x00\x00\x00\x00\x00\x00\x00{}"), 10, LORAFMT_CORRUPT, 0, "0 bytes, must be at least 2"},
    {HEAD("\x02\x00\x00\x00\x00\x00\x00\x00{}"), 10, LORAFMT_OK, 0, ""},
    {HEAD("{\x00\x00\x00\x00\x00\x00\x00{\"a\""), 500, LORAFMT_OK, 0, ""},     /* 123 bytes: not JSON text */
    {HEAD("\x80\x02\x00\x00\x00\x00\x00\x00{\"a\""), 9000, LORAFMT_OK, 0, ""}, /* 640 bytes: not a pickle */
    {HEAD("\x1f\x8b\x01\x00\x00\x00\x00\x00{\"a\""), 1000000, LORAFMT_OK, 0, ""},
};

static void test_head(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        const head_case *c = &heads[i];
        uint8_t *exact = malloc(c->size ? c->size : 1);
        lorafmt_error err = {0};
        uint64_t size = 1;
        lorafmt_status st;
        assert_non_null(exact);
        memcpy(exact, c->head, c->size);
        st = lf_safetensors_header_size(exact, c->size, c->file_size, &size, &err);
        if (st != c->status || err.offset != c->offset || !strstr(err.text, c->says))
            fail_msg("case %zu: %s at %llu: %s", i, lorafmt_status_name(st), (unsigned long long)err.offset, err.text);
        assert_true(st == LORAFMT_OK || size == 0);
        free(exact);
    }
}

/* Two tensors, a zero-sized one and metadata; *header_size without the first 8 bytes. */
static uint8_t *small_file(size_t *size, size_t *header_size)
{
    lf_safetensors_tensor tensors[] = {
        {.name = "b\xc3\xa9.weight", .dtype = LORAFMT_F32, .n_dims = 2, .shape = {2, 3}, .size = 24},
        {.name = "empty", .dtype = LORAFMT_BF16, .n_dims = 1, .shape = {0}, .size = 0},
        {.name = "a\"\\.bias", .dtype = LORAFMT_F16, .n_dims = 1, .shape = {3}, .size = 6},
    };
    const lf_safetensors_pair metadata[] = {{"format", "pt"}, {"note", "two lines"}};
    uint8_t *header, *file;

    assert_int_equal(lf_safetensors_encode_header(tensors, 3, metadata, 2, &header, header_size, NULL), LORAFMT_OK);
    assert_int_equal(*header_size % 8, 0);
    assert_int_equal(tensors[0].offset, *header_size);
    assert_int_equal(tensors[2].offset, *header_size + 24);
    *size = *header_size + 30;
    file = calloc(1, *size);
    assert_non_null(file);
    memcpy(file, header, *header_size);
    free(header);
    *header_size -= 8;
    return file;
}

static void test_round_trip(void **state)
{
    size_t size, header_size, again_size;
    uint8_t *file = small_file(&size, &header_size), *again;
    lf_safetensors *table;

    (void)state;
    assert_int_equal(open_bytes(file, size, &table, NULL), LORAFMT_OK);
    assert_int_equal(table->n_tensors, 3);
    assert_int_equal(table->data_offset, 8 + header_size);
    assert_string_equal(table->tensors[0].name, "b\xc3\xa9.weight");
    assert_string_equal(table->tensors[1].name, "empty");
    assert_string_equal(table->tensors[2].name, "a\"\\.bias");
    assert_int_equal(table->tensors[0].dtype, LORAFMT_F32);
    assert_int_equal(table->tensors[0].shape[1], 3);
    assert_int_equal(table->tensors[0].shape[2], 0);
    assert_int_equal(table->tensors[2].offset, 8 + header_size + 24);
    assert_int_equal(table->tensors[2].size, 6);
    assert_string_equal(lf_safetensors_metadata(table, "note"), "two lines");
    assert_null(lf_safetensors_metadata(table, "alpha"));
    assert_int_equal(lf_safetensors_encode_header(table->tensors, 3, table->metadata, 2, &again, &again_size, NULL), LORAFMT_OK);
    assert_int_equal(again_size, 8 + header_size);
    assert_memory_equal(again, file, again_size);
    free(again);
    lf_safetensors_free(table);
    free(file);
}

/* What a table says, in one form: equal exactly when the tables are. */
static uint8_t *canonical(lf_safetensors *table, size_t *size)
{
    uint8_t *out;

    assert_int_equal(lf_safetensors_encode_header(table->tensors, table->n_tensors, table->metadata, table->n_metadata, &out,
                                                  size, NULL),
                     LORAFMT_OK);
    return out;
}

/* No flipped bit of the header may go unseen: the file is refused, or says something else. */
static void test_bit_flips(void **state)
{
    size_t size, header_size, n_refused = 0;
    uint8_t *file = small_file(&size, &header_size);

    (void)state;
    for (size_t bit = 0; bit < 8 * (8 + header_size); bit++) {
        lf_safetensors *table;
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (open_bytes(file, size, &table, NULL) == LORAFMT_OK) {
            size_t said_size;
            uint8_t *said = canonical(table, &said_size);
            file[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (said_size == 8 + header_size && memcmp(said, file, said_size) == 0)
                fail_msg("bit %zu of byte %zu was not seen", bit % 8, bit / 8);
            free(said);
        } else {
            file[bit / 8] ^= (uint8_t)(1u << bit % 8);
            n_refused++;
        }
        lf_safetensors_free(table);
    }
    assert_true(n_refused > 4 * header_size); // most of what can be flipped is not inside a name
    free(file);
}

static void test_truncations(void **state)
{
    size_t size, header_size;
    uint8_t *file = small_file(&size, &header_size);

    (void)state;
    for (size_t n = 0; n < size; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        lf_safetensors *table;
        assert_non_null(exact);
        memcpy(exact, file, n);
        assert_int_not_equal(open_bytes(exact, n, &table, NULL), LORAFMT_OK);
        assert_null(table);
        free(exact);
    }
    free(file);
}

static void test_encode_refuses(void **state)
{
    lf_safetensors_tensor t = {.name = "t", .dtype = LORAFMT_F32, .n_dims = 1, .shape = {3}, .size = 11};
    uint8_t *out;
    size_t size;

    (void)state;
    assert_int_equal(lf_safetensors_encode_header(&t, 1, NULL, 0, &out, &size, NULL), LORAFMT_MISUSE);
    t.dtype = (lorafmt_dtype)99;
    t.size = 12;
    assert_int_equal(lf_safetensors_encode_header(&t, 1, NULL, 0, &out, &size, NULL), LORAFMT_MISUSE);
    assert_null(out);
    assert_int_equal(lf_safetensors_encode_header(NULL, 0, NULL, 0, &out, &size, NULL), LORAFMT_OK);
    assert_int_equal(size, 16);
    assert_memory_equal(out, "\x08\0\0\0\0\0\0\0{}      ", 16);
    free(out);
}

/* The data of all tensors together end at 2^53 at most, which is 128 of the largest. */
static void test_encode_limit(void **state)
{
    enum { N = 129 };
    lf_safetensors_tensor t[N];
    lorafmt_error err = {0};
    uint8_t *out;
    size_t size;

    (void)state;
    for (size_t i = 0; i < N; i++)
        t[i] = (lf_safetensors_tensor){.name = i == N - 1 ? "last" : "t",
                                       .dtype = LORAFMT_U8,
                                       .n_dims = 1,
                                       .shape = {UINT64_C(1) << 46},
                                       .size = UINT64_C(1) << 46};
    assert_int_equal(lf_safetensors_encode_header(t, N - 1, NULL, 0, &out, &size, NULL), LORAFMT_OK);
    free(out);
    assert_int_equal(lf_safetensors_encode_header(t, N, NULL, 0, &out, &size, &err), LORAFMT_LIMIT);
    assert_null(out);
    assert_string_equal(err.field, "last");
    assert_non_null(strstr(err.text, "beyond 2^53 bytes"));
}

/* A header of a size that lf_safetensors_header_size() did not give, and one that is no object. */
static void test_parse_misused(void **state)
{
    static const struct {
        const char *text;
        uint64_t header_size, file_size;
        lorafmt_status status;
        uint64_t offset;
    } misuses[] = {
        {"{}", LF_SAFETENSORS_MAX_HEADER + 1, UINT64_MAX, LORAFMT_MISUSE, LORAFMT_NO_OFFSET},
        {"{}", 2, 7, LORAFMT_MISUSE, LORAFMT_NO_OFFSET},
        {"{}", 2, 9, LORAFMT_MISUSE, LORAFMT_NO_OFFSET},
        {"", 0, 8, LORAFMT_CORRUPT, 8},
        {"[]", 2, 10, LORAFMT_CORRUPT, 8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        lf_safetensors *table;
        lorafmt_error err = {0};
        assert_int_equal(lf_safetensors_parse((const uint8_t *)misuses[i].text, misuses[i].header_size, misuses[i].file_size,
                                              &table, &err),
                         misuses[i].status);
        assert_null(table);
        assert_int_equal(err.offset, misuses[i].offset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),       cmocka_unit_test(test_head),          cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bit_flips),    cmocka_unit_test(test_truncations),   cmocka_unit_test(test_encode_refuses),
        cmocka_unit_test(test_encode_limit), cmocka_unit_test(test_parse_misused),
    };
    lf_safetensors_free(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
