/* SPDX-License-Identifier: MIT */
/* Holding a model against a view: what differs is found, and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/digest.h"
#include "lorafmt/files.h"
#include "tests/adapters.h"
#include "tests/temporary_directory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A base of a [3] U8, z [N] F32 and w.weight [2, 3] F32, in this order. The first two are copied by one task of 4 MiB and what is
 * left, and since the one ends after 3 bytes, an element of the other lies in both.
 */
#define N 1048581u
#define Z_ELEMENT ((1u << 20) - 1)
static const float ones[6] = {1, 1, 1, 1, 1, 1};
static const char metadata[] = "\"__metadata__\":{\"format\":\"pt\"},";

static void write_base(const char *path, const char *before, const char *z_name)
{
    const uint32_t end = 3 + 4 * N;
    float *z = calloc(N, sizeof *z);
    char header[512];
    uint64_t size;
    FILE *f = fopen(path, "wb");

    assert_true(f && z);
    size = (uint64_t)snprintf(header, sizeof header,
                              "{%s\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                              "\"%s\":{\"dtype\":\"F32\",\"shape\":[%u],\"data_offsets\":[3,%u]},"
                              "\"w.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[%u,%u]}}",
                              before, z_name, N, end, end, end + 24);
    assert_int_equal(fwrite(&size, 1, 8, f), 8);
    assert_int_equal(fwrite(header, 1, size, f), size);
    assert_int_equal(fwrite("abc", 1, 3, f), 3);
    assert_int_equal(fwrite(z, sizeof *z, N, f), N);
    assert_int_equal(fwrite(ones, 1, 24, f), 24);
    assert_int_equal(fclose(f), 0);
    free(z);
}

/* Change one byte; its place is counted from the end of the file, where w.weight is. */
static void flip(const char *path, long from_end)
{
    FILE *f = fopen(path, "r+b");
    int byte;

    assert_non_null(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    byte = fgetc(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    assert_int_equal(fputc(byte ^ 0x40, f), byte ^ 0x40);
    assert_int_equal(fclose(f), 0);
}

typedef struct fixture {
    void *folder;
    lorafmt_factor f[2];
    lorafmt_site site;
    lorafmt_adapter adapter;
    lorafmt_model *model;
    lorafmt_view *view;
} fixture;

static int setup(void **state)
{
    fixture *t = calloc(1, sizeof *t);
    lorafmt_merge_result result;
    lorafmt_stack_entry entry;

    assert_int_equal(enter_directory(&t->folder), 0);
    t->site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, t->f);
    t->adapter = test_adapter("x", &t->site, 1);
    entry = (lorafmt_stack_entry){&t->adapter, 1};
    write_base("base", metadata, "z");
    assert_int_equal(lorafmt_model_open("base", &t->model, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_bind(lorafmt_model_base(t->model), &entry, 1, NULL, &t->view, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_merge(t->model, t->view, "out", NULL, NULL, NULL, &result, NULL), LORAFMT_OK);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    fixture *t = *state;

    lorafmt_view_free(t->view);
    lorafmt_model_free(t->model);
    assert_int_equal(leave_directory(&t->folder), 0);
    free(t);
    return 0;
}

static lorafmt_status compare(const fixture *t, const char *path, const lorafmt_compare_options *options,
                              lorafmt_compare_result *out, lorafmt_error *err)
{
    lorafmt_model *merged;
    lorafmt_status st;

    assert_int_equal(lorafmt_model_open(path, &merged, NULL), LORAFMT_OK);
    st = lorafmt_compare(t->model, t->view, merged, options, out, err);
    lorafmt_model_free(merged);
    return st;
}

static size_t tensor_of(const fixture *t, const char *name)
{
    size_t i = 0;

    while (strcmp(lorafmt_view_get_tensor(t->view, i)->name, name) != 0)
        i++;
    return i;
}

static void test_what_merging_wrote(void **state)
{
    static const float twos[6] = {2, 2, 2, 2, 2, 2};
    fixture *t = *state;
    lorafmt_change changes[3];
    uint8_t digests[3][32], expected[32];
    const lorafmt_compare_options options = {.struct_size = sizeof options, .changes = changes, .digests = digests};
    const size_t w = tensor_of(t, "w.weight"), a = tensor_of(t, "a");
    lorafmt_compare_result result;

    assert_int_equal(compare(t, "out", &options, &result, NULL), LORAFMT_OK);
    assert_int_equal(result.n_tensors, 3);
    assert_int_equal(result.n_differing, 0);
    assert_true(result.first.tensor == SIZE_MAX);
    assert_int_equal(changes[w].max_ulp, 1 << 23);
    assert_int_equal(changes[w].n_elements, 6);
    assert_int_equal(changes[a].n_elements, 0);
    lf_sha256_of(twos, sizeof twos, expected);
    assert_memory_equal(digests[w], expected, 32);
    lf_sha256_of("abc", 3, expected);
    assert_memory_equal(digests[a], expected, 32);
}

static void test_a_computed_element(void **state)
{
    fixture *t = *state;
    lorafmt_compare_result result;

    flip("out", 5); // w.weight[1, 1], whose 40000000 becomes 00000000
    assert_int_equal(compare(t, "out", NULL, &result, NULL), LORAFMT_OK);
    assert_int_equal(result.n_differing, 1);
    assert_int_equal(result.first.tensor, tensor_of(t, "w.weight"));
    assert_int_equal(result.first.row, 1);
    assert_int_equal(result.first.col, 1);
    assert_int_equal(result.first.size, 4);
    assert_memory_equal(result.first.found, "\0\0\0\0", 4);
    assert_memory_equal(result.first.expected, "\0\0\0\x40", 4);
    assert_true(result.first.found_number == 0 && result.first.expected_number == 2);
}

/* Its bytes are in two tasks. */
static void test_a_copied_element(void **state)
{
    const lorafmt_compare_options options = {.struct_size = sizeof options, .n_threads = 3};
    fixture *t = *state;
    lorafmt_compare_result result;

    flip("out", 24 + 4l * (N - Z_ELEMENT) - 3); // its last byte
    flip("out", 24 + 4l * (N - Z_ELEMENT - 2)); // and one behind it
    flip("out", 1);
    assert_int_equal(compare(t, "out", &options, &result, NULL), LORAFMT_OK);
    assert_int_equal(result.n_differing, 2);
    assert_int_equal(result.first.tensor, tensor_of(t, "z"));
    assert_int_equal(result.first.row, 0);
    assert_int_equal(result.first.col, Z_ELEMENT);
    assert_memory_equal(result.first.found, "\0\0\0\x40", 4);
    assert_true(result.first.found_number == 2 && result.first.expected_number == 0);
}

/* A dtype that is not real has bytes and no number. */
static void test_an_element_of_one_byte(void **state)
{
    fixture *t = *state;
    lorafmt_compare_result result;

    flip("out", 24 + 4l * N + 2); // a[1]
    assert_int_equal(compare(t, "out", NULL, &result, NULL), LORAFMT_OK);
    assert_int_equal(result.first.tensor, tensor_of(t, "a"));
    assert_int_equal(result.first.col, 1);
    assert_int_equal(result.first.size, 1);
    assert_int_equal(result.first.found[0], 'b' ^ 0x40);
    assert_int_equal(result.first.expected[0], 'b');
    assert_true(isnan(result.first.found_number));
}

static void test_other_headers(void **state)
{
    static const struct {
        const char *before, *z, *field, *text;
    } cases[] = {
        {"", "z", "__metadata__", "format of the base is missing"},
        {"\"__metadata__\":{\"format\":\"tf\"},", "z", "format", "tf, must be pt"},
        {"\"__metadata__\":{\"format\":\"pt\",\"x\":\"\"},", "z", "__metadata__", "2 entries, must be the 1 of the base"},
        {"\"__metadata__\":{\"format\":\"pt\"} ,", "z", "header", "says the same in other bytes than merging writes"},
        {metadata, "y", "y", "is here, must be z"},
    };
    fixture *t = *state;
    lorafmt_compare_result result;
    lorafmt_error err;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_base("other", cases[i].before, cases[i].z);
        assert_int_equal(compare(t, "other", NULL, &result, &err), LORAFMT_MISMATCH);
        assert_string_equal(err.file, "other");
        assert_string_equal(err.field, cases[i].field);
        assert_string_equal(err.text, cases[i].text);
        assert_int_equal(result.n_bytes, 0);
    }
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(total == 3 + 4 * (uint64_t)N + 24 || (done == 0 && total == 0)); // not known yet
    return total == 0;
}

static void test_contract(void **state)
{
    const lorafmt_compare_options wrong = {.struct_size = 1}, stopped = {.struct_size = sizeof stopped, .progress = stop};
    fixture *t = *state;
    lorafmt_compare_result result;
    lorafmt_model *other;

    assert_int_equal(compare(t, "out", &wrong, &result, NULL), LORAFMT_MISUSE);
    assert_int_equal(compare(t, "out", &stopped, &result, NULL), LORAFMT_CANCELLED);
    assert_int_equal(result.n_differing, 0);
    assert_int_equal(lorafmt_model_open("base", &other, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_compare(other, t->view, other, NULL, &result, NULL), LORAFMT_MISUSE);
    lorafmt_model_free(other);
    assert_int_equal(truncate("out", 100), 0);
    assert_int_equal(lorafmt_model_open("out", &other, NULL), LORAFMT_CORRUPT);
    assert_null(other);
}

/* The file ends while it is compared. */
static void test_truncated_meanwhile(void **state)
{
    fixture *t = *state;
    lorafmt_compare_result result;
    lorafmt_model *merged, *base = t->model;
    lorafmt_error err;

    assert_int_equal(lorafmt_model_open("out", &merged, NULL), LORAFMT_OK);
    assert_int_equal(truncate("out", 3 + 4l * N), 0);
    assert_int_equal(lorafmt_compare(base, t->view, merged, NULL, &result, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.file, "out");
    assert_int_equal(result.n_tensors, 0);
    lorafmt_model_free(merged);
}

#define IN_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FIXTURE(test_what_merging_wrote),     IN_FIXTURE(test_a_computed_element), IN_FIXTURE(test_a_copied_element),
        IN_FIXTURE(test_an_element_of_one_byte), IN_FIXTURE(test_other_headers),      IN_FIXTURE(test_contract),
        IN_FIXTURE(test_truncated_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
