/* SPDX-License-Identifier: MIT */
/* The two decoders of zlib streams: whatever the bytes are, both accept them with the same result, or both refuse them. */
#include "format/container/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { MAX_N = 200000, MAX_SIZE = MAX_N + 1000, FOREIGN = 0xa5 };

typedef struct stream {
    uint8_t *bytes; // exactly size of them, so that a sanitizer sees reading past the end
    size_t size;
} stream;

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* What planes hold: few values, most of them near the middle; or one only; or anything. */
static uint8_t few(uint32_t *state)
{
    uint8_t x = 118;

    while (x > 60 && next_random(state) % 2)
        x--;
    return x;
}

static uint8_t one(uint32_t *state)
{
    (void)state;
    return 0;
}

static uint8_t any(uint32_t *state)
{
    return (uint8_t)next_random(state);
}

/* Codes of up to 15 bits, longer than the table has. */
static uint8_t steep(uint32_t *state)
{
    uint8_t x = 0;

    while (x < 30 && next_random(state) % 4 == 0)
        x++;
    return x;
}

static uint8_t (*const kinds[])(uint32_t *) = {few, one, any, steep};

static void make_data(uint8_t *data, size_t n, size_t kind)
{
    uint32_t state = (uint32_t)n;

    for (size_t i = 0; i < n; i++)
        data[i] = kinds[kind](&state);
}

static stream make_stream(const uint8_t *data, size_t n, int level, int strategy)
{
    uint8_t *room = malloc(2 * MAX_SIZE);
    z_stream z = {0};
    stream s;

    assert_non_null(room);
    assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, 15, 9, strategy), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)n;
    z.next_out = room;
    z.avail_out = 2 * MAX_SIZE;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    s = (stream){malloc(z.total_out), z.total_out};
    assert_non_null(s.bytes);
    memcpy(s.bytes, room, s.size);
    deflateEnd(&z);
    free(room);
    return s;
}

/* Both decoders of one stream. The result, and the bytes if it is good. */
static lf_inflate_result both(const stream *s, size_t n, uint8_t *out)
{
    uint8_t *fast = malloc(n), *exact = malloc(n);
    lf_inflate_result result;

    assert_true(fast && exact);
    memset(fast, FOREIGN, n);
    result = lf_inflate_zlib(s->bytes, s->size, exact, n);
    assert_int_equal(lf_inflate_fast(s->bytes, s->size, fast, n), result);
    if (result == LF_INFLATE_OK) {
        assert_memory_equal(fast, exact, n);
        memcpy(out, exact, n);
    }
    free(fast);
    free(exact);
    return result;
}

static const struct {
    int level, strategy;
} ways[] = {{6, Z_HUFFMAN_ONLY}, {6, Z_RLE}, {6, Z_FIXED}, {0, Z_DEFAULT_STRATEGY}, {9, Z_DEFAULT_STRATEGY}};

static void test_good(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 31, 32, 33, 511, 512, 513, 5000, 32766, 32767, 32768, 65535, MAX_N};
    uint8_t *data = malloc(MAX_N), *out = malloc(MAX_N);
    (void)state;

    for (size_t k = 0; k < COUNT(kinds); k++)
        for (size_t i = 0; i < COUNT(sizes); i++)
            for (size_t w = 0; w < COUNT(ways); w++) {
                stream s;
                make_data(data, sizes[i], k);
                s = make_stream(data, sizes[i], ways[w].level, ways[w].strategy);
                assert_int_equal(both(&s, sizes[i], out), LF_INFLATE_OK);
                assert_memory_equal(out, data, sizes[i]);
                // What splitting writes is not left to zlib.
                if (ways[w].strategy == Z_HUFFMAN_ONLY || ways[w].level == 0)
                    assert_true(lf_inflate_literals(s.bytes, s.size, out, sizes[i]));
                assert_int_equal(both(&s, sizes[i] + 1, out), LF_INFLATE_BAD);
                if (sizes[i] > 1)
                    assert_int_equal(both(&s, sizes[i] - 1, out), LF_INFLATE_BAD);
                free(s.bytes);
            }
    free(data);
    free(out);
}

static stream cut(const stream *s, size_t size)
{
    stream copy = {malloc(size ? size : 1), size};

    assert_non_null(copy.bytes);
    memset(copy.bytes, 0, size);
    memcpy(copy.bytes, s->bytes, size < s->size ? size : s->size);
    return copy;
}

static void set_sum(const stream *s, const uint8_t *out, size_t n)
{
    const uint32_t sum = (uint32_t)adler32(1, out, (uInt)n);

    for (unsigned b = 0; b < 4; b++)
        s->bytes[s->size - 1 - b] = (uint8_t)(sum >> (8 * b));
}

/* A damaged stream, as it is; and with a checksum that is right for what the fast decoder would make of it. */
static void check_damaged(const stream *s, size_t n)
{
    uint8_t *out = calloc(n, 1);

    assert_non_null(out);
    both(s, n, out);
    memset(out, 0, n);
    if (s->size >= 4 && !lf_inflate_literals(s->bytes, s->size, out, n)) {
        set_sum(s, out, n);
        both(s, n, out);
    }
    free(out);
}

static void test_cut(void **state)
{
    enum { N = 700 };
    uint8_t data[N];
    (void)state;

    for (size_t k = 0; k < COUNT(kinds); k++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            stream s;
            make_data(data, N, k);
            s = make_stream(data, N, ways[w].level, ways[w].strategy);
            for (size_t size = 0; size <= s.size + 2; size++) {
                stream shorter = cut(&s, size);
                check_damaged(&shorter, N);
                free(shorter.bytes);
            }
            free(s.bytes);
        }
}

/* Every bit of the first bytes, where the codes are described, and some of the others. */
static void test_flipped(void **state)
{
    enum { N = 3000, HEAD = 120 };
    uint8_t data[N];
    uint32_t seed = 1;
    (void)state;

    for (size_t k = 0; k < COUNT(kinds); k++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            stream s;
            make_data(data, N, k);
            s = make_stream(data, N, ways[w].level, ways[w].strategy);
            for (size_t i = 0; i < 8 * HEAD + 500; i++) {
                const size_t bit = i < 8 * HEAD ? i : next_random(&seed);
                stream bad = cut(&s, s.size);
                bad.bytes[bit / 8 % s.size] ^= (uint8_t)(1u << (bit % 8));
                check_damaged(&bad, N);
                free(bad.bytes);
            }
            free(s.bytes);
        }
}

/* Streams that only a person writes, some of which other decoders let pass. */
static void test_odd(void **state)
{
    enum { MOST = 259 };
    static const struct {
        lf_inflate_result result;
        size_t n, size;
        uint8_t bytes[24];
    } cases[] = {
        // "a" in fixed codes, with an empty block before it, and stored
        {LF_INFLATE_OK, 1, 9, {0x78, 0x9c, 0x4b, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_OK, 1, 14, {0x78, 0x9c, 0, 0, 0, 0xff, 0xff, 0x4b, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_OK, 1, 12, {0x78, 0x9c, 0x01, 0x01, 0x00, 0xfe, 0xff, 0x61, 0x00, 0x62, 0x00, 0x62}},
        // "a" in codes of its own: with 30 codes for distances, of no bits, and with 31, which there are not
        {LF_INFLATE_OK, 1, 21, {0x78, 0x9c, 0x05, 0xfd, 0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0x20,
                                0x6c, 0xed, 0xff, 0x89, 0x9e, 0x08, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_BAD, 1, 21, {0x78, 0x9c, 0x05, 0xfe, 0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0x20,
                                 0x6c, 0xed, 0xff, 0x89, 0xa6, 0x08, 0x00, 0x62, 0x00, 0x62}},
        // symbol 286, as if it were a match of 258 bytes
        {LF_INFLATE_BAD, 259, 10, {0x78, 0x9c, 0x4b, 0x1c, 0x03, 0x00, 0xd9, 0xa8, 0x62, 0x24}},
        // the two lengths of a stored block, block type 3
        {LF_INFLATE_BAD, 1, 12, {0x78, 0x9c, 0x01, 0x01, 0x00, 0xfe, 0xfe, 0x61, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_BAD, 1, 9, {0x78, 0x9c, 0x4f, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62}},
        // a preset dictionary, a window of 64 KiB, another check of the header, a byte too many
        {LF_INFLATE_BAD, 1, 13, {0x78, 0xbb, 0, 0, 0, 1, 0x4b, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_BAD, 1, 9, {0x88, 0x1c, 0x4b, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_BAD, 1, 9, {0x78, 0x9d, 0x4b, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62}},
        {LF_INFLATE_BAD, 1, 10, {0x78, 0x9c, 0x4b, 0x04, 0x00, 0x00, 0x62, 0x00, 0x62, 0x00}},
        {LF_INFLATE_BAD, 1, 1, {0x78}},
        {LF_INFLATE_BAD, 1, 2, {0x78, 0x9c}},
    };
    uint8_t out[MOST];
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        const stream whole = {(uint8_t *)(uintptr_t)cases[i].bytes, cases[i].size};
        stream s = cut(&whole, whole.size);
        assert_int_equal(both(&s, cases[i].n, out), cases[i].result);
        free(s.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_odd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
