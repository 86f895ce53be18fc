/* SPDX-License-Identifier: MIT */
#include "format/foreign/shard_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct refusal {
    const char *text;
    lorafmt_status status;
    uint64_t offset;
    const char *field;
    const char *says; /* part of the message */
} refusal;

#define MAP_TO(file) "{\"weight_map\":{\"a\":\"" file "\"}}"

static const refusal refusals[] = {
    {"", LORAFMT_CORRUPT, 0, "", "the text ends"},
    {"[]", LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "must be an object"},
    {"[{\"weight_map\":{\"a\":\"m.safetensors\"}}]", LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "must be an object"},
    {"{}", LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "must be an object"},
    {"{\"Weight_map\":{\"a\":\"m.safetensors\"}}", LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "must be an object"},
    {"{\"weight_map\":[]}", LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "must be an object"},
    {"{\"weight_map\":{}}", LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "at least one tensor"},
    {"{\"weight_map\":{\"a\":1}}", LORAFMT_CORRUPT, 15, "a", "must be the name of a file"},
    {"{\"weight_map\":{\"\":\"m.safetensors\"}}", LORAFMT_CORRUPT, 15, "", "1 .. 1024 bytes"},
    {"{\"weight_map\":{\"a\\tb\":\"m.safetensors\"}}", LORAFMT_CORRUPT, 15, "a\tb", "no control characters"},
    {"{\"weight_map\":{\"a\":\"m.safetensors\",\"a\":\"n.safetensors\"}}", LORAFMT_CORRUPT, 35, "a", "twice"},
    {"{\"x\":{\"y\":1},\"weight_map\":{\"b\":\"m.safetensors\",\"a\":\"\"}}", LORAFMT_CORRUPT, 47, "a", "must be a plain name"},
    {MAP_TO("m.bin"), LORAFMT_CORRUPT, 15, "a", "file \"m.bin\", must be a plain name that ends in .safetensors"},
    {MAP_TO(".safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
    {MAP_TO("/etc/m.safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
    {MAP_TO("../m.safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
    {MAP_TO("..\\\\m.safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
    {MAP_TO("d/m.safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
    {MAP_TO("m..safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
    {MAP_TO("m\\n.safetensors"), LORAFMT_CORRUPT, 15, "a", "must be a plain name"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const refusal *r = &refusals[i];
        lf_shard_index *index;
        lorafmt_error err = {0};
        const lorafmt_status st = lf_shard_index_parse(r->text, strlen(r->text), &index, &err);
        if (st != r->status || err.offset != r->offset || strcmp(err.field, r->field) != 0 || !strstr(err.text, r->says))
            fail_msg("%s: %s, %s at %lld: %s", r->text, lorafmt_status_name(st), err.field, (long long)err.offset, err.text);
        assert_null(index);
        assert_int_equal(lf_shard_index_parse(r->text, strlen(r->text), &index, NULL), r->status);
    }
    lf_shard_index_free(NULL);
}

static const char whole[] = "{\n"
                            "  \"metadata\": {\n"
                            "    \"total_size\": 24\n"
                            "  },\n"
                            "  \"weight_map\": {\n"
                            "    \"lm_head.weight\": \"model-00002-of-00002.safetensors\",\n"
                            "    \"b\": \"model-00001-of-00002.safetensors\",\n"
                            "    \"a\": \"model-00002-of-00002.safetensors\"\n"
                            "  }\n"
                            "}\n";

static void test_parsed(void **state)
{
    lf_shard_index *index;

    (void)state;
    assert_int_equal(lf_shard_index_parse(whole, strlen(whole), &index, NULL), LORAFMT_OK);
    assert_int_equal(index->n_entries, 3);
    assert_string_equal(index->entries[0].tensor, "a");
    assert_string_equal(index->entries[0].file, "model-00002-of-00002.safetensors");
    assert_string_equal(index->entries[1].tensor, "b");
    assert_string_equal(index->entries[1].file, "model-00001-of-00002.safetensors");
    assert_string_equal(index->entries[2].tensor, "lm_head.weight");
    assert_int_equal(index->n_files, 2);
    assert_string_equal(index->files[0], "model-00001-of-00002.safetensors");
    assert_string_equal(index->files[1], "model-00002-of-00002.safetensors");
    lf_shard_index_free(index);
}

static void test_extended(void **state)
{
    static const lf_shard_entry added[] = {{"new \"one\"", "model-00002-of-00002.safetensors"}, {"z", "z.safetensors"}};
    static const char expected[] = "{\n"
                                   "  \"metadata\": {\n"
                                   "    \"total_size\": 18446744073709551615\n"
                                   "  },\n"
                                   "  \"weight_map\": {\n"
                                   "    \"lm_head.weight\": \"model-00002-of-00002.safetensors\",\n"
                                   "    \"b\": \"model-00001-of-00002.safetensors\",\n"
                                   "    \"a\": \"model-00002-of-00002.safetensors\",\n"
                                   "    \"new \\\"one\\\"\": \"model-00002-of-00002.safetensors\",\n"
                                   "    \"z\": \"z.safetensors\"\n"
                                   "  }\n"
                                   "}\n";
    size_t size;
    char *out;

    (void)state;
    assert_int_equal(lf_shard_index_extend(whole, strlen(whole), added, 2, UINT64_MAX, &out, &size, NULL), LORAFMT_OK);
    assert_string_equal(out, expected);
    assert_int_equal(size, strlen(expected));
    free(out);
}

static void test_extend_keeps_the_rest(void **state)
{
    static const char text[] = "{\"metadata\":{\"total_parameters\":7},\"weight_map\":{\"a\":\"m.safetensors\"}, \"x\":[ ]}";
    static const lf_shard_entry added = {"b", "m.safetensors"};
    size_t size;
    char *out;

    (void)state;
    assert_int_equal(lf_shard_index_extend(text, strlen(text), NULL, 0, 5, &out, &size, NULL), LORAFMT_OK);
    assert_string_equal(out, text); // no total_size, so none is set
    free(out);
    assert_int_equal(lf_shard_index_extend(text, strlen(text), &added, 1, 5, &out, &size, NULL), LORAFMT_OK);
    assert_string_equal(out, "{\"metadata\":{\"total_parameters\":7},\"weight_map\":{\"a\":\"m.safetensors\","
                             "\"b\": \"m.safetensors\"}, \"x\":[ ]}");
    free(out);
}

static void test_extend_refuses(void **state)
{
    static const lf_shard_entry known = {"a", "m.safetensors"}, outside = {"c", "../m.safetensors"};
    static const lf_shard_entry twice[] = {{"c", "m.safetensors"}, {"c", "m.safetensors"}};
    lorafmt_error err;
    size_t size;
    char *out;

    (void)state;
    assert_int_equal(lf_shard_index_extend(whole, strlen(whole), &known, 1, 0, &out, &size, &err), LORAFMT_MISUSE);
    assert_null(out);
    assert_int_equal(err.status, LORAFMT_MISUSE);
    assert_int_equal(lf_shard_index_extend(whole, strlen(whole), &outside, 1, 0, &out, &size, NULL), LORAFMT_MISUSE);
    assert_int_equal(lf_shard_index_extend(whole, strlen(whole), twice, 2, 0, &out, &size, NULL), LORAFMT_MISUSE);
    assert_int_equal(lf_shard_index_extend("{}", 2, NULL, 0, 0, &out, &size, NULL), LORAFMT_CORRUPT);
    assert_null(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_parsed),
        cmocka_unit_test(test_extended),       cmocka_unit_test(test_extend_keeps_the_rest),
        cmocka_unit_test(test_extend_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
