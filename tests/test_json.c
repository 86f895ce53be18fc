/* SPDX-License-Identifier: MIT */
#include "format/foreign/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NUL_TEXT(s) s, sizeof(s) - 1

typedef struct refusal {
    const char *text;
    size_t size;
    unsigned flags;
    lorafmt_status status;
    uint64_t offset;
    const char *says; /* part of the message */
} refusal;

static const refusal refusals[] = {
    {NUL_TEXT(""), 0, LORAFMT_CORRUPT, 0, "the text ends, expected a value"},
    {NUL_TEXT("  "), 0, LORAFMT_CORRUPT, 2, "the text ends"},
    {NUL_TEXT("\xef\xbb\xbf{}"), 0, LORAFMT_CORRUPT, 0, "found byte 0xef"},
    {NUL_TEXT("{} x"), 0, LORAFMT_CORRUPT, 3, "found 'x', expected the end of the text"},
    {NUL_TEXT("{}\0"), 0, LORAFMT_CORRUPT, 2, "found byte 0x00"},
    {NUL_TEXT("\v1"), 0, LORAFMT_CORRUPT, 0, "found byte 0x0b"},
    {NUL_TEXT("[1,]"), 0, LORAFMT_CORRUPT, 3, "found ']', expected a value"},
    {NUL_TEXT("[1 2]"), 0, LORAFMT_CORRUPT, 3, "expected ',' or ']'"},
    {NUL_TEXT("[1"), 0, LORAFMT_CORRUPT, 2, "the text ends, expected ',' or ']'"},
    {NUL_TEXT("{\"a\":1,}"), 0, LORAFMT_CORRUPT, 7, "expected a key in quotes"},
    {NUL_TEXT("{a:1}"), 0, LORAFMT_CORRUPT, 1, "expected a key in quotes"},
    {NUL_TEXT("{\"a\" 1}"), 0, LORAFMT_CORRUPT, 5, "expected ':'"},
    {NUL_TEXT("{\"a\":1]"), 0, LORAFMT_CORRUPT, 6, "found ']', expected ',' or '}'"},
    {NUL_TEXT("tru"), 0, LORAFMT_CORRUPT, 0, "found 't', expected a value"},
    {NUL_TEXT("truex"), 0, LORAFMT_CORRUPT, 4, "expected the end"},
    {NUL_TEXT("True"), 0, LORAFMT_CORRUPT, 0, "found 'T'"},
    {NUL_TEXT("[NaN]"), 0, LORAFMT_CORRUPT, 1, "NaN is not a number JSON can hold"},
    {NUL_TEXT("[Infinity]"), 0, LORAFMT_CORRUPT, 1, "Infinity is not a number JSON can hold"},
    {NUL_TEXT("[-Infinity]"), 0, LORAFMT_CORRUPT, 1, "-Infinity is not a number JSON can hold"},
    {NUL_TEXT("-"), 0, LORAFMT_CORRUPT, 1, "expected a digit"},
    {NUL_TEXT("+1"), 0, LORAFMT_CORRUPT, 0, "expected a value"},
    {NUL_TEXT("01"), 0, LORAFMT_CORRUPT, 1, "expected the end"},
    {NUL_TEXT("1."), 0, LORAFMT_CORRUPT, 2, "expected a digit"},
    {NUL_TEXT(".5"), 0, LORAFMT_CORRUPT, 0, "expected a value"},
    {NUL_TEXT("1e"), 0, LORAFMT_CORRUPT, 2, "expected a digit"},
    {NUL_TEXT("1e+-1"), 0, LORAFMT_CORRUPT, 3, "expected a digit"},
    {NUL_TEXT("0x10"), 0, LORAFMT_CORRUPT, 1, "expected the end"},
    {NUL_TEXT("1000000000000000000000000000000000000000000000000000000000000000"), 0, LORAFMT_LIMIT, 0, "64 characters"},
    {NUL_TEXT("\"abc"), 0, LORAFMT_CORRUPT, 4, "ends inside a string"},
    {NUL_TEXT("\"a\nb\""), 0, LORAFMT_CORRUPT, 2, "control character 0x0a"},
    {NUL_TEXT("\"a\0b\""), 0, LORAFMT_CORRUPT, 2, "control character 0x00"},
    {NUL_TEXT("\"\\x\""), 0, LORAFMT_CORRUPT, 1, "a backslash must be followed"},
    {NUL_TEXT("\"\\\0\""), 0, LORAFMT_CORRUPT, 1, "a backslash must be followed"},
    {NUL_TEXT("\"\\"), 0, LORAFMT_CORRUPT, 1, "a backslash must be followed"},
    {NUL_TEXT("\"\\u12g4\""), 0, LORAFMT_CORRUPT, 1, "four hex digits"},
    {NUL_TEXT("\"\\u12"), 0, LORAFMT_CORRUPT, 1, "four hex digits"},
    {NUL_TEXT("\"\\u0000\""), 0, LORAFMT_CORRUPT, 1, "\\u0000 is not allowed"},
    {NUL_TEXT("\"\\ud800\""), 0, LORAFMT_CORRUPT, 1, "\\ud800 is half of a surrogate pair"},
    {NUL_TEXT("\"\\udc00\\ud800\""), 0, LORAFMT_CORRUPT, 1, "\\udc00 is half"},
    {NUL_TEXT("\"\\ud800\\u0041\""), 0, LORAFMT_CORRUPT, 1, "\\ud800 is half"},
    {NUL_TEXT("\"\\uD800\\uE000\""), 0, LORAFMT_CORRUPT, 1, "\\ud800 is half"},
    {NUL_TEXT("\"\\ud800 \\udc00\""), 0, LORAFMT_CORRUPT, 1, "\\ud800 is half"},
    {NUL_TEXT("\"\\ud800\\ndc00\""), 0, LORAFMT_CORRUPT, 1, "\\ud800 is half"},
    {NUL_TEXT("\"\\u00G0\""), 0, LORAFMT_CORRUPT, 1, "four hex digits"},
    {NUL_TEXT("\"\\u00 0\""), 0, LORAFMT_CORRUPT, 1, "four hex digits"},
    {NUL_TEXT("\"\x80\""), 0, LORAFMT_CORRUPT, 1, "byte 0x80 does not begin"},
    {NUL_TEXT("\"\xc0\x80\""), 0, LORAFMT_CORRUPT, 1, "byte 0xc0"},
    {NUL_TEXT("\"a\xed\xa0\x80\""), 0, LORAFMT_CORRUPT, 2, "byte 0xed"},
    {NUL_TEXT("\"\xf4\x90\x80\x80\""), 0, LORAFMT_CORRUPT, 1, "byte 0xf4"},
    {NUL_TEXT("\"\xe2\x82\""), 0, LORAFMT_CORRUPT, 1, "byte 0xe2"},
    {NUL_TEXT("\"\xff\""), 0, LORAFMT_CORRUPT, 1, "byte 0xff"},
    {NUL_TEXT("{\"a\":1,\"b\":2,\"a\":3}"), 0, LORAFMT_CORRUPT, 13, "twice"},
    {NUL_TEXT("{\"a\":1,\"\\u0061\":3}"), 0, LORAFMT_CORRUPT, 7, "twice"},
    {NUL_TEXT("[{\"a\":1},{\"x\":{\"y\":1,\"y\":2}}]"), 0, LORAFMT_CORRUPT, 21, "twice"},
    {NUL_TEXT("{\"\":1,\"\":2}"), 0, LORAFMT_CORRUPT, 6, "twice"},
    {NUL_TEXT("[1.0]"), LF_JSON_WHOLE_NUMBERS, LORAFMT_CORRUPT, 1, "number 1.0, must be a whole number"},
    {NUL_TEXT("[-1]"), LF_JSON_WHOLE_NUMBERS, LORAFMT_CORRUPT, 1, "number -1, must be"},
    {NUL_TEXT("[1e2]"), LF_JSON_WHOLE_NUMBERS, LORAFMT_CORRUPT, 1, "number 1e2, must be"},
    {NUL_TEXT("[9007199254740993]"), LF_JSON_WHOLE_NUMBERS, LORAFMT_LIMIT, 1, "at most 2^53"},
    {NUL_TEXT("[18446744073709551616]"), LF_JSON_WHOLE_NUMBERS, LORAFMT_LIMIT, 1, "at most 2^53"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const refusal *r = &refusals[i];
        char *exact = malloc(r->size ? r->size : 1); // not NUL-terminated, so that a sanitizer sees a byte too far
        cJSON *root;
        lorafmt_error err = {0};
        lorafmt_status st;
        assert_non_null(exact);
        memcpy(exact, r->text, r->size);
        st = lf_json_parse(exact, r->size, r->flags, &root, &err);
        if (st != r->status || err.offset != r->offset || !strstr(err.text, r->says))
            fail_msg("%s: %s at %llu: %s", r->text, lorafmt_status_name(st), (unsigned long long)err.offset, err.text);
        assert_null(root);
        assert_int_equal(lf_json_parse(exact, r->size, r->flags, &root, NULL), r->status);
        free(exact);
    }
}

static const char *const accepted[] = {
    "null",
    " true ",
    "false",
    "0",
    "-0",
    "-0.5e-3",
    "1E+2",
    "\"\"",
    "[]",
    "{}",
    "[ ]",
    "{ }",
    "\t[1 , 2]\r\n",
    "{\"a\":{\"a\":[{\"a\":1}]}}",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\uFFFF\\ud83d\\ude00\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"",
    "100000000000000000000000000000000000000000000000000000000000000",
};

static void test_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        lorafmt_error err = {0};
        cJSON *root;
        if (lf_json_parse(accepted[i], strlen(accepted[i]), 0, &root, &err) != LORAFMT_OK)
            fail_msg("%s: %s", accepted[i], err.text);
        cJSON_Delete(root);
    }
}

static void test_whole_numbers_are_exact(void **state)
{
    static const char text[] = "[0, 9007199254740992, 9007199254740991]";
    cJSON *root;

    (void)state;
    assert_int_equal(lf_json_parse(text, strlen(text), LF_JSON_WHOLE_NUMBERS, &root, NULL), LORAFMT_OK);
    assert_true((uint64_t)cJSON_GetArrayItem(root, 1)->valuedouble == UINT64_C(9007199254740992));
    assert_true((uint64_t)cJSON_GetArrayItem(root, 2)->valuedouble == UINT64_C(9007199254740991));
    cJSON_Delete(root);
}

/* Before there was a limit of our own, cJSON's 1000 levels of recursion were what stood between a text and the stack. */
static void test_depth(void **state)
{
    char text[2 * LF_JSON_MAX_DEPTH + 2];
    lorafmt_error err;
    cJSON *root;

    (void)state;
    memset(text, '[', LF_JSON_MAX_DEPTH + 1);
    memset(text + LF_JSON_MAX_DEPTH + 1, ']', LF_JSON_MAX_DEPTH + 1);
    assert_int_equal(lf_json_parse(text, sizeof text, 0, &root, &err), LORAFMT_LIMIT);
    assert_int_equal(err.offset, LF_JSON_MAX_DEPTH);
    assert_int_equal(lf_json_parse(text + 1, sizeof text - 2, 0, &root, &err), LORAFMT_OK);
    cJSON_Delete(root);
}

static void test_number_of_values(void **state)
{
    const size_t n = 1 << 20; // 2^19 values
    char *text = malloc(n);
    lorafmt_error err;
    cJSON *root;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? '0' : ',';
    text[0] = '[';
    text[n - 1] = ' ';
    text[n - 2] = ']';
    assert_int_equal(lf_json_parse(text, n, 0, &root, &err), LORAFMT_LIMIT);
    assert_non_null(
        strstr(err.text, "more than 60074 values, the most that are read of these 1048576 bytes")); // 2^14 + 2^20 / 24
    assert_int_equal(err.offset, 2 * 60074 - 1);                                                    // the array is a value, too
    memset(text + err.offset, ' ', n - err.offset);
    text[n - 1] = ']';
    text[err.offset - 1] = ' '; // the comma
    assert_int_equal(lf_json_parse(text, n, 0, &root, &err), LORAFMT_OK);
    cJSON_Delete(root);
    free(text);
}

/* One object with many keys, the last of them twice: takes a moment, not a minute. */
static void test_many_keys(void **state)
{
    lf_text_buffer text = {0};
    lorafmt_error err;
    cJSON *root;

    (void)state;
    lf_text_add(&text, "{");
    for (unsigned i = 0; i < 200000; i++)
        lf_text_add(&text, "\"some.long.prefix.%u\":0,", i);
    assert_false(text.failed);
    text.text[text.size - 1] = '}';
    assert_int_equal(lf_json_parse(text.text, text.size, 0, &root, &err), LORAFMT_OK);
    cJSON_Delete(root);
    text.text[text.size - 1] = ',';
    lf_text_add(&text, "\"some.long.prefix.199999\":0}");
    assert_int_equal(lf_json_parse(text.text, text.size, 0, &root, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.field, "some.long.prefix.199999");
    assert_int_equal(err.offset, text.size - strlen("\"some.long.prefix.199999\":0}"));
    lf_text_free(&text);
}

typedef struct edit {
    const char *text, *path, *value;
    lorafmt_status status;
    const char *result;
} edit;

static const edit edits[] = {
    {"{\"a\": 1, \"b\":2}", "a", "[true]", LORAFMT_OK, "{\"a\": [true], \"b\":2}"},
    {" {\n  \"a\": 1\n}\n", "b", "false", LORAFMT_OK, " {\n  \"b\": false,\n  \"a\": 1\n}\n"},
    {"{}", "a", "1", LORAFMT_OK, "{\"a\": 1}"},
    {"{ }", "a", "1", LORAFMT_OK, "{\"a\": 1 }"},
    {"{\"\\u0061\":1}", "a", "2", LORAFMT_OK, "{\"\\u0061\":2}"},
    {"{\"x\":{\"a\":1},\"a\":\"a\"}", "a", "2", LORAFMT_OK, "{\"x\":{\"a\":1},\"a\":2}"},
    {"{\"t\":{\"a\":1,\"b\":{ }}}", "t.b", "2", LORAFMT_OK, "{\"t\":{\"a\":1,\"b\":2}}"},
    {"{\"t\":{\"a\":1}}", "t.b", "2", LORAFMT_OK, "{\"t\":{\"b\": 2,\"a\":1}}"},
    {"{\"a\":1}", "t.b", "2", LORAFMT_OK, "{\"t\": {\"b\": 2},\"a\":1}"},
    {"{\"a\":1}", "q\"", "2", LORAFMT_OK, "{\"q\\\"\": 2,\"a\":1}"},
    {"{\"t\":1}", "t.b", "2", LORAFMT_CORRUPT, NULL},
    {"[1]", "a", "2", LORAFMT_CORRUPT, NULL},
    {"{\"a\":1", "a", "2", LORAFMT_CORRUPT, NULL},
    {"{\"a\":1}", "a", "2,\"b\":3", LORAFMT_MISUSE, NULL},
    {"{\"a\":1}", "a", "", LORAFMT_MISUSE, NULL},
};

static void test_set_member(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        const edit *e = &edits[i];
        lorafmt_error err = {0};
        size_t size;
        char *out;
        const lorafmt_status st = lf_json_set_member(e->text, strlen(e->text), e->path, e->value, &out, &size, &err);
        if (st != e->status)
            fail_msg("%s %s: %s", e->text, e->path, err.text);
        if (e->result) {
            assert_string_equal(out, e->result);
            assert_int_equal(size, strlen(e->result));
        } else {
            assert_null(out);
            assert_int_equal(size, 0);
        }
        free(out);
    }
}

/* Python writes NaN and Infinity into configs (Mamba's time_step_limit); they are read as 0, and kept by an edit. */
static void test_nonfinite_numbers(void **state)
{
    static const char text[] = "{\"limit\": [0.5, Infinity], \"low\": -Infinity, \"n\": NaN, \"vocab_size\": 5}";
    static const char edited[] = "{\"limit\": [0.5, Infinity], \"low\": -Infinity, \"n\": NaN, \"vocab_size\": 7}";
    lorafmt_error err = {0};
    size_t size;
    cJSON *root;
    char *out;

    (void)state;
    assert_int_equal(lf_json_parse(text, strlen(text), 0, &root, &err), LORAFMT_CORRUPT);
    assert_int_equal(lf_json_parse(text, strlen(text), LF_JSON_NONFINITE, &root, &err), LORAFMT_OK);
    assert_true(cJSON_GetObjectItemCaseSensitive(root, "low")->valuedouble == 0);
    assert_true(cJSON_GetObjectItemCaseSensitive(root, "vocab_size")->valuedouble == 5);
    cJSON_Delete(root);
    assert_int_equal(lf_json_set_member(text, strlen(text), "vocab_size", "7", &out, &size, &err), LORAFMT_OK);
    assert_string_equal(out, edited);
    free(out);
}

static void test_text_buffer(void **state)
{
    lf_text_buffer text = {0};
    cJSON *root;

    (void)state;
    lf_text_add_json_string(&text, "a\"b\\c\n\x01\x7f\xc3\xa9/");
    assert_string_equal(text.text, "\"a\\\"b\\\\c\\u000a\\u0001\x7f\xc3\xa9/\"");
    assert_int_equal(lf_json_parse(text.text, text.size, 0, &root, NULL), LORAFMT_OK);
    assert_string_equal(root->valuestring, "a\"b\\c\n\x01\x7f\xc3\xa9/");
    cJSON_Delete(root);
    lf_text_free(&text);
    lf_text_free(&text);
    assert_null(text.text);
    for (int i = 0; i < 1000; i++)
        lf_text_add(&text, "%d,", i);
    assert_int_equal(text.size, 3890);
    assert_int_equal(text.size, strlen(text.text));
    lf_text_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_whole_numbers_are_exact),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_number_of_values),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_set_member),
        cmocka_unit_test(test_nonfinite_numbers),
        cmocka_unit_test(test_text_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
