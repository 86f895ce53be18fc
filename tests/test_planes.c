/* SPDX-License-Identifier: MIT */
/* Byte planes: taking them apart and joining them, against the text of spec 5, at every size around the width of a vector. */
#include "format/base/planes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_N = 2 * 16 + 1, MANY = 1000, MAX_WIDTH = 8, MAX_OFFSET = 3, GUARD = 16, GUARD_BYTE = 0xa5 };

static const unsigned widths[] = {2, 4, 8};

static void make_elements(uint8_t *elements, size_t size)
{
    uint32_t x = 1;

    for (size_t i = 0; i < size; i++) {
        x = x * 1664525 + 1013904223;
        elements[i] = (uint8_t)(x >> 24);
    }
}

/* The element as a number, rotated left by one, and of that the byte. */
static uint8_t rotated_byte(const uint8_t *element, unsigned width, unsigned plane)
{
    const unsigned bits = 8 * width;
    uint64_t x = 0;

    for (unsigned b = 0; b < width; b++)
        x |= (uint64_t)element[b] << (8 * b);
    x = x << 1 | x >> (bits - 1);
    return (uint8_t)(x >> (bits - 8 * (plane + 1)));
}

static void assert_guarded(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        assert_int_equal(p[i], GUARD_BYTE);
}

/* Planes of n elements laid out `stride` apart, from and to places that are not aligned. */
static void check(size_t n, unsigned width, size_t stride, size_t offset, bool in_place)
{
    uint8_t elements[MAX_WIDTH * MANY + MAX_OFFSET];
    uint8_t *const planes = malloc(MAX_WIDTH * stride + MAX_OFFSET + GUARD), *const e = elements + offset;
    uint8_t *const room = malloc(2 * GUARD + MAX_WIDTH * MANY + MAX_OFFSET), *const dst = room + GUARD + offset;
    const uint8_t *top;

    assert_true(planes && room);
    make_elements(elements, sizeof elements);
    memset(planes, GUARD_BYTE, MAX_WIDTH * stride + MAX_OFFSET + GUARD);
    memset(room, GUARD_BYTE, 2 * GUARD + MAX_WIDTH * MANY + MAX_OFFSET);
    for (unsigned plane = 0; plane < width; plane++) {
        uint8_t *p = planes + offset + plane * stride;
        lf_plane_take(p, e, n, width, plane);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(p[k], rotated_byte(e + k * width, width, plane));
        assert_guarded(p + n, stride - n);
    }
    top = planes + offset;
    if (in_place) {
        memcpy(dst + (width - 1) * n, top, n);
        top = dst + (width - 1) * n;
    }
    lf_planes_join(dst, top, planes + offset + stride, stride, n, width);
    assert_memory_equal(dst, e, n * width);
    assert_guarded(room, GUARD + offset);
    assert_guarded(dst + n * width, GUARD);
    free(planes);
    free(room);
}

static void test_sizes(void **state)
{
    (void)state;

    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
        for (size_t offset = 0; offset <= MAX_OFFSET; offset++)
            for (unsigned in_place = 0; in_place < 2; in_place++) {
                for (size_t n = 0; n <= MAX_N; n++)
                    check(n, widths[w], n + offset, offset, in_place);
                check(MANY - offset, widths[w], MANY, offset, in_place);
            }
}

/* Bits of numbers that arithmetic would change: each comes back as it was. */
static void test_special_values(void **state)
{
    static const uint32_t values[] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffbfffff,
                                      0x00000001, 0x807fffff, 0x7f7fffff, 0x00800000, 0x3f800000, 0xffffffff, 0x7c01fc01};
    enum { N = sizeof values / sizeof values[0] };
    uint8_t planes[4 * N], joined[4 * N], elements[4 * N];
    (void)state;

    for (size_t k = 0; k < N; k++)
        for (unsigned b = 0; b < 4; b++)
            elements[4 * k + b] = (uint8_t)(values[k] >> (8 * b));
    for (unsigned plane = 0; plane < 4; plane++)
        lf_plane_take(planes + plane * N, elements, N, 4, plane);
    lf_planes_join(joined, planes, planes + N, N, N, 4);
    assert_memory_equal(joined, elements, sizeof elements);
    assert_int_equal(planes[2], 0xff);      // the exponent of infinity is a byte of its own
    assert_int_equal(planes[3 * N + 1], 1); // and the sign the lowest bit of all
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_special_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
