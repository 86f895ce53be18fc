/* SPDX-License-Identifier: MIT */
/* What all rooms need of text, dtypes and errors. */
#include "format/base/arena.h"
#include "format/base/arith.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Unicode 15, table 3-7: the first and the last of each row, and what lies just outside. */
static void test_utf8(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"\x01\x7f", true},
        {"\x80", false},
        {"\xbf", false},
        {"\xc1\xbf", false},
        {"\xc2\x80", true},
        {"\xdf\xbf", true},
        {"\xdf\x7f", false},
        {"\xdf\xc0", false},
        {"\xdf", false},
        {"\xe0\x9f\xbf", false},
        {"\xe0\xa0\x80", true},
        {"\xec\xbf\xbf", true},
        {"\xed\x9f\xbf", true},
        {"\xed\xa0\x80", false},
        {"\xee\x80\x80", true},
        {"\xef\xbf\xbf", true},
        {"\xef\xbf", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf0\x90\x80\x80", true},
        {"\xf3\xbf\xbf\xbf", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"a\xf0\x90\x80\x80z", true},
        {"a\xf0\x90\x80", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        if (lf_utf8_valid(cases[i].text, strlen(cases[i].text)) != cases[i].valid)
            fail_msg("case %zu", i);
    assert_false(lf_utf8_valid("a\0b", 3));
}

/* A byte that no name may have is found wherever it is, and however long what is around it is. */
static void test_names(void **state)
{
    static const char bad[] = {0, 1, 0x1f, 0x7f, '\x80', '\xff'};
    char name[LF_MAX_NAME + 1];

    (void)state;
    memset(name, 'n', sizeof name);
    assert_true(lf_name_valid(name, LF_MAX_NAME));
    assert_false(lf_name_valid(name, LF_MAX_NAME + 1));
    for (size_t n = 1; n < 26; n++)
        for (size_t at = 0; at < n; at++) {
            for (size_t b = 0; b < sizeof bad; b++) {
                name[at] = bad[b];
                assert_false(lf_name_valid(name, n));
            }
            name[at] = ' ';
            assert_true(lf_name_valid(name, n));
            name[at] = 'n';
        }
    assert_true(lf_name_valid("model.d\xc3\xa9j\xc3\xa0.weight", 18));
}

static void test_adapter_names(void **state)
{
    static const char *const good[] = {"a", "...", ".a", "two words", "\xc3\xa9"};
    static const char *const bad[] = {"", ".", "..", "a/b", "a\\b", "a#b", "a=1", "a\n", "\x7f", "\xc3"};
    char longest[LF_MAX_ADAPTER_NAME + 2] = "";

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(lf_adapter_name_valid(good[i]));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(lf_adapter_name_valid(bad[i]));
    memset(longest, 'a', LF_MAX_ADAPTER_NAME + 1);
    assert_false(lf_adapter_name_valid(longest));
    longest[LF_MAX_ADAPTER_NAME] = '\0';
    assert_true(lf_adapter_name_valid(longest));
}

static void test_globs(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"[a-c]x", "bx", true},       {"[a-c]x", "dx", false},       {"[!a-c]x", "dx", true},  {"[^a-c]x", "bx", false},
        {"[]]", "]", true},           {"[a-]", "-", true},           {"[a-]", "b", false},     {"[a", "[a", true},
        {"[a-", "[a-", true},         {"[\\]a]", "]", true},         {"[\\a-\\c]", "b", true}, {"[\\", "[\\", true},
        {"\\*", "*", true},           {"\\*", "x", false},           {"a\\", "a\\", true},     {"a?c", "abc", true},
        {"*.q*", "l.0.q_proj", true}, {"*.q*", "l.0.k_proj", false}, {"a**", "a", true},       {"a", "ab", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        if (lf_glob_matches(cases[i].pattern, cases[i].text, strlen(cases[i].text)) != cases[i].matches)
            fail_msg("%s on %s", cases[i].pattern, cases[i].text);
}

static void test_tensor_sizes(void **state)
{
    static const struct {
        lorafmt_dtype dtype;
        uint32_t n_dims;
        uint64_t shape[LORAFMT_MAX_DIMS + 1];
        bool fits;
        uint64_t size;
    } cases[] = {
        {LORAFMT_F32, 0, {0}, true, 4},
        {LORAFMT_BF16, 2, {3, 5}, true, 30},
        {LORAFMT_F32, 2, {UINT64_C(1) << 32, 0}, true, 0},
        {LORAFMT_U8, 1, {UINT64_C(1) << 46}, true, UINT64_C(1) << 46},
        {LORAFMT_U8, 1, {(UINT64_C(1) << 46) + 1}, false, 0},
        {LORAFMT_U8, 2, {UINT64_C(1) << 32, UINT64_C(1) << 32}, false, 0},
        {LORAFMT_U8, 1, {UINT64_C(1) << 61}, false, 0}, // bits do not fit
        {LORAFMT_F32, LORAFMT_MAX_DIMS, {1, 1, 1, 1, 1, 1, 1, 1}, true, 4},
        {LORAFMT_F32, LORAFMT_MAX_DIMS + 1, {1, 1, 1, 1, 1, 1, 1, 1, 1}, false, 0},
        {(lorafmt_dtype)99, 1, {1}, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t size = 0;
        if (lf_tensor_measure(cases[i].dtype, cases[i].n_dims, cases[i].shape, &size) != cases[i].fits || size != cases[i].size)
            fail_msg("case %zu", i);
    }
    assert_null(lorafmt_dtype_name((lorafmt_dtype)99));
}

static void test_statuses(void **state)
{
    (void)state;
    for (int status = LORAFMT_OK; status <= LORAFMT_UNTRUSTED; status++)
        assert_string_not_equal(lorafmt_status_name((lorafmt_status)status), "UNKNOWN");
    assert_string_equal(lorafmt_status_name(LORAFMT_UNTRUSTED), "UNTRUSTED");
    assert_string_equal(lorafmt_status_name((lorafmt_status)(LORAFMT_UNTRUSTED + 1)), "UNKNOWN");
}

/* Everything that an error may have, each alone and all together; what a terminal would act on becomes '?'. */
static void test_formatted(void **state)
{
    static const struct {
        const char *file, *field;
        uint64_t offset;
        const char *text, *formatted;
    } cases[] = {
        {"", "", LORAFMT_NO_OFFSET, "wrong", "wrong"},
        {"f.lora", "", LORAFMT_NO_OFFSET, "wrong", "f.lora: wrong"},
        {"", "site[0]", LORAFMT_NO_OFFSET, "wrong", "site[0]: wrong"},
        {"", "", 16, "wrong", "offset 0x10: wrong"},
        {"f\n.lora", "s\x1b[0m\x7f", 16, "wr\rong", "f?.lora: s?[0m? at 0x10: wr?ong"},
    };
    char text[64], cut[8];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        lorafmt_error err = {0};
        assert_int_equal(lf_fail(&err, LORAFMT_CORRUPT, cases[i].offset, cases[i].field, "%s", cases[i].text), LORAFMT_CORRUPT);
        lf_error_set_file(&err, cases[i].file);
        lf_error_set_file(&err, cases[i].file[0] ? "another" : "");
        assert_int_equal(lorafmt_error_format(&err, text, sizeof text), strlen(cases[i].formatted));
        assert_string_equal(text, cases[i].formatted);
        assert_true(lorafmt_error_format(&err, cut, sizeof cut) < sizeof cut);
        assert_memory_equal(cut, cases[i].formatted, strlen(cut));
        cut[0] = 'x';
        assert_int_equal(lorafmt_error_format(&err, cut, 0), 0);
        assert_int_equal(cut[0], 'x');
    }
}

/* What does not fit is cut where a character ends. */
static void test_cut(void **state)
{
    static const struct {
        const char *last; // of a text that is one byte too long
        size_t n_left;    // bytes of it
    } cases[] = {
        {"ab", 1},
        {"\xc3\xa9", 0},
        {"\xe2\x82\xac", 0},
        {"\xf0\x9f\x98\x80", 0},
        {"\xc3\xa9z", 2},
        {"\xe2\x82\xacz", 3},
        {"\xf0\x9f\x98\x80z", 4},
        {"\xa9z", 1}, // what is no UTF-8 is left as it is
        {"\x80\x80\x80\x80z", 4},
    };
    char text[sizeof((lorafmt_error *)NULL)->text + 1];
    const size_t size = sizeof text - 1;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const size_t n = strlen(cases[i].last);
        lorafmt_error err;
        memset(text, 'x', size - n);
        memcpy(text + size - n, cases[i].last, n + 1);
        lf_fail(&err, LORAFMT_CORRUPT, 0, NULL, "%s", text);
        assert_int_equal(strlen(err.text), size - n + cases[i].n_left);
        assert_memory_equal(err.text, text, size - n + cases[i].n_left);
        lf_fail(&err, LORAFMT_CORRUPT, 0, text + size - sizeof err.field, "wrong");
        assert_int_equal(strlen(err.field), sizeof err.field - n + cases[i].n_left);
    }
}

static void test_all_continued(void **state)
{
    char text[2 * sizeof((lorafmt_error *)NULL)->field];
    lorafmt_error err;

    (void)state;
    memset(text, 0x80, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lf_fail(&err, LORAFMT_CORRUPT, 0, text, "wrong");
    assert_int_equal(strlen(err.field), sizeof err.field - 1);
}

static void test_products(void **state)
{
    static const struct {
        uint64_t a, b;
        bool fits;
    } cases[] = {{UINT32_MAX, UINT32_MAX, true},
                 {0, UINT64_MAX, true},
                 {UINT64_MAX, 0, true},
                 {UINT64_MAX, 1, true},
                 {UINT64_C(1) << 32, UINT32_MAX, true},
                 {UINT64_C(1) << 32, UINT64_C(1) << 32, false},
                 {UINT64_MAX, 2, false},
                 {3, UINT64_MAX / 3 + 1, false}};
    uint64_t product;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(lf_mul_u64(cases[i].a, cases[i].b, &product), cases[i].fits);
        if (cases[i].fits && cases[i].a)
            assert_int_equal(product / cases[i].a, cases[i].b);
    }
}

static void test_without_an_error(void **state)
{
    (void)state;
    assert_int_equal(lf_fail(NULL, LORAFMT_LIMIT, 0, "field", "text"), LORAFMT_LIMIT);
    assert_int_equal(lf_hint(NULL, LORAFMT_MISUSE, LORAFMT_HINT_NONE), LORAFMT_MISUSE);
    assert_int_equal(lf_no_memory(NULL), LORAFMT_NO_MEMORY);
    lf_error_set_file(NULL, "file");
}

/* Sizes that no memory has are refused before anything is asked for. */
static void test_too_much(void **state)
{
    lf_arena arena = {0};

    (void)state;
    assert_null(lf_arena_alloc(&arena, SIZE_MAX / 2, 3));
    assert_null(lf_arena_alloc(&arena, 2, SIZE_MAX / 2));
    assert_null(lf_arena_strndup(&arena, "", SIZE_MAX));
    assert_null(arena.head);
    assert_non_null(lf_arena_alloc(&arena, SIZE_MAX, 0));
    lf_arena_free(&arena);
}

/* Every pattern of 8 and of 16 bits: how many are no finite numbers, by IEEE 754 and the OCP 8-bit formats. */
static void test_nonfinite(void **state)
{
    static const struct {
        lorafmt_dtype dtype;
        size_t unit;
        unsigned n;
    } cases[] = {
        {LORAFMT_F8_E5M2, 1, 2 * 4}, {LORAFMT_F8_E4M3, 1, 2}, {LORAFMT_F8_E8M0, 1, 1}, {LORAFMT_F8_E4M3FNUZ, 1, 1},
        {LORAFMT_F8_E5M2FNUZ, 1, 1}, {LORAFMT_I8, 1, 0},      {LORAFMT_U8, 1, 0},      {LORAFMT_F16, 2, 2 * 1024},
        {LORAFMT_BF16, 2, 2 * 128},  {LORAFMT_U16, 2, 0},
    };
    static const uint8_t complex_inf[] = {0, 0, 0x80, 0x3f, 0, 0, 0x80, 0xff, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0}; // 1 - inf i, NaN
    static uint8_t all[2 << 16];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const size_t n = (size_t)1 << 8 * cases[i].unit;
        const lorafmt_tensor t = {.dtype = cases[i].dtype, .n_dims = 1, .shape = {n}, .size = n * cases[i].unit, .data = all};
        for (size_t k = 0; k < n; k++)
            for (size_t b = 0; b < cases[i].unit; b++)
                all[k * cases[i].unit + b] = (uint8_t)(k >> 8 * b);
        if (lf_count_nonfinite(&t) != cases[i].n)
            fail_msg("dtype %d: %u", (int)cases[i].dtype, (unsigned)lf_count_nonfinite(&t));
    }
    assert_int_equal(lf_count_nonfinite(
                         &(lorafmt_tensor){.dtype = LORAFMT_C64, .n_dims = 1, .shape = {2}, .size = 16, .data = complex_inf}),
                     2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_adapter_names),
        cmocka_unit_test(test_globs),
        cmocka_unit_test(test_tensor_sizes),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_formatted),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_all_continued),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_without_an_error),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_nonfinite),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
