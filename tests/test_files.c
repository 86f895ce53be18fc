/* SPDX-License-Identifier: MIT */
/* The contracts of lorafmt/files.h that the command cannot break. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/digest.h"
#include "lib/io/io.h"
#include "lorafmt/image.h"
#include "tests/adapters.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const float ones[6] = {1, 1, 1, 1, 1, 1};

/* A base of one tensor w.weight [2, 3], opened. */
static lorafmt_model *make_base(const char *path)
{
    static const char header[] = "{\"w.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}";
    const uint64_t size = sizeof header - 1;
    FILE *f = fopen(path, "wb");
    lorafmt_model *model;

    assert_non_null(f);
    assert_int_equal(fwrite(&size, 1, 8, f), 8);
    assert_int_equal(fwrite(header, 1, size, f), size);
    assert_int_equal(fwrite(ones, 1, 24, f), 24);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(lorafmt_model_open(path, &model, NULL), LORAFMT_OK);
    return model;
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
    lorafmt_stack_entry entry;

    assert_int_equal(enter_directory(&t->folder), 0);
    t->site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, ones, ones, t->f);
    t->adapter = test_adapter("x", &t->site, 1);
    t->model = make_base("base");
    entry = (lorafmt_stack_entry){&t->adapter, 1};
    assert_int_equal(lorafmt_bind(lorafmt_model_base(t->model), &entry, 1, NULL, &t->view, NULL), LORAFMT_OK);
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

static void test_view_of_another_base(void **state)
{
    fixture *t = *state;
    lorafmt_model *other = make_base("other");
    lorafmt_merge_result result;

    assert_int_equal(lorafmt_merge(other, t->view, "out", NULL, NULL, NULL, &result, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_merge(t->model, t->view, "out", NULL, NULL, NULL, &result, NULL), LORAFMT_OK);
    assert_int_equal(result.n_changed, 1);
    lorafmt_model_free(other);
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    return false;
}

static void test_cancelled(void **state)
{
    fixture *t = *state;
    const lorafmt_merge_options options = {.struct_size = sizeof options, .progress = stop};
    lorafmt_merge_result result;
    char **names;
    size_t n_names;

    assert_int_equal(lorafmt_merge(t->model, t->view, "out", &options, NULL, NULL, &result, NULL), LORAFMT_CANCELLED);
    assert_int_equal(lf_directory_list(".", &names, &n_names, NULL), LORAFMT_OK);
    assert_int_equal(n_names, 1); // the base alone
    lf_names_free(names, n_names);
}

/* 1 + 1 = 2 in every element, which is a whole binade further: 2^23 steps. */
static void test_what_merging_did(void **state)
{
    static const float twos[6] = {2, 2, 2, 2, 2, 2};
    fixture *t = *state;
    lorafmt_change change = {.n_elements = 99}; // what was there is overwritten
    uint8_t digest[1][32], expected[32];
    const lorafmt_merge_options options = {.struct_size = sizeof options, .changes = &change, .digests = digest};
    lorafmt_merge_result result;

    assert_int_equal(lorafmt_merge(t->model, t->view, "out", &options, NULL, NULL, &result, NULL), LORAFMT_OK);
    assert_int_equal(change.n_elements, 6);
    assert_int_equal(change.n_unchanged, 0);
    assert_int_equal(change.n_nan + change.n_inf, 0);
    assert_int_equal(change.max_ulp, 1 << 23);
    assert_true(change.sum_asked == 6 && change.sum_realised == 6 && change.sum_along == 6);
    lf_sha256_of(twos, sizeof twos, expected);
    assert_memory_equal(digest[0], expected, 32);
}

/* Reading a base for its digests may take longer than anything else that packing does. */
static void test_cancelled_while_reading_a_base(void **state)
{
    fixture *t = *state;
    const lorafmt_adapter *adapters[] = {&t->adapter};
    const lorafmt_pack_options options = {.struct_size = sizeof options, .base = t->model, .progress = stop};

    assert_int_equal(lorafmt_pack(adapters, 1, "out", &options, NULL), LORAFMT_CANCELLED);
}

static void test_options_of_another_version(void **state)
{
    fixture *t = *state;
    const lorafmt_adapter *adapters[] = {&t->adapter};
    const lorafmt_merge_options merge = {.struct_size = 1};
    const lorafmt_pack_options pack = {.struct_size = 1}, align = {.struct_size = sizeof align, .align = 100},
                               codec = {.struct_size = sizeof codec, .codec = (lorafmt_codec)2};
    lorafmt_merge_result result;

    assert_int_equal(lorafmt_merge(t->model, t->view, "out", &merge, NULL, NULL, &result, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_pack(adapters, 1, "out", &pack, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_pack(adapters, 1, "out", &align, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_pack(adapters, 1, "out", &codec, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_pack(adapters, 0, "out", NULL, NULL), LORAFMT_MISUSE);
}

static void test_wrong_options_of_pack(void **state)
{
    fixture *t = *state;
    const lorafmt_adapter *adapters[] = {&t->adapter, &t->adapter};
    static const struct {
        lorafmt_pack_options options;
        size_t n;
        const char *says;
    } table[] = {
        {{.struct_size = sizeof(lorafmt_pack_options), .name = "y"}, 2, "a name is for one adapter, here are 2"},
        {{.struct_size = sizeof(lorafmt_pack_options), .name = "a/b"}, 1, "an adapter name must be 1..255 bytes"},
        {{.struct_size = sizeof(lorafmt_pack_options), .dtype = LORAFMT_F64}, 1, "dtype must be F32, BF16 or F16"},
        {{.struct_size = sizeof(lorafmt_pack_options), .dtype = LORAFMT_I8}, 1, "dtype must be F32, BF16 or F16"},
        {{.struct_size = sizeof(lorafmt_pack_options), .align = 128}, 1, "align 128, must be 64, 4096 or 65536"},
        {{.struct_size = sizeof(lorafmt_pack_options)}, 2, "two adapters of this name"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        lorafmt_error err = {0};
        if (lorafmt_pack(adapters, table[i].n, "out", &table[i].options, &err) == LORAFMT_OK || !strstr(err.text, table[i].says))
            fail_msg("'%s', not '%s'", err.text, table[i].says);
        assert_int_equal(access("out", F_OK), -1);
    }
}

static void put_file(const char *path)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
}

/* What is replaced as a whole must be an adapter and nothing else. */
static void test_unpacking_over_something(void **state)
{
    fixture *t = *state;
    lorafmt_error err;

    assert_int_equal(lorafmt_unpack(&t->adapter, "peft", true, &err), LORAFMT_OK); // where nothing is
    assert_int_equal(lorafmt_unpack(&t->adapter, "peft", false, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    assert_int_equal(lorafmt_unpack(&t->adapter, "peft", true, &err), LORAFMT_OK);
    put_file("peft/tokenizer.json");
    assert_int_equal(lorafmt_unpack(&t->adapter, "peft", true, &err), LORAFMT_MISUSE);
    assert_string_equal(err.file, "peft");
    assert_string_equal(err.text, "will not be replaced: it holds \"tokenizer.json\", which is no part of an adapter");
    put_file("file");
    assert_int_equal(lorafmt_unpack(&t->adapter, "file", false, &err), LORAFMT_IO);
    assert_int_equal(lorafmt_unpack(&t->adapter, "nowhere/peft", false, &err), LORAFMT_NOT_FOUND);
}

/* A view that was only checked, or that a single file cannot be: no image. */
static void test_wrong_views(void **state)
{
    fixture *t = *state;
    const lorafmt_bind_options check_only = {.struct_size = sizeof check_only, .check_only = true};
    const lorafmt_image_options old = {.struct_size = 1};
    const lorafmt_image_write_options older = {.struct_size = 1};
    const lorafmt_stack_entry entry = {&t->adapter, 1};
    lorafmt_image *image;
    lorafmt_view *view;
    lorafmt_error err;

    assert_int_equal(lorafmt_bind(lorafmt_model_base(t->model), &entry, 1, &check_only, &view, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_image_open(t->model, view, NULL, &image, &err), LORAFMT_MISUSE);
    assert_null(image);
    assert_int_equal(lorafmt_image_open(t->model, t->view, &old, &image, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_image_open(t->model, t->view, NULL, &image, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_image_write(image, 0, "out", &older, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_image_write(image, 9, "out", NULL, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(access("out", F_OK), -1);
    assert_int_equal(lorafmt_image_write(image, 0, "out", NULL, NULL, &err), LORAFMT_OK);
    lorafmt_image_free(image);
    lorafmt_view_free(view);
}

/* 70000 is finite in F32 and infinite in F16: refused, not written as infinity. */
static void test_values_too_large_for_a_dtype(void **state)
{
    static const float large[] = {1, 70000, 1};
    fixture *t = *state;
    const lorafmt_adapter *adapters[] = {&t->adapter};
    lorafmt_pack_options options = {.struct_size = sizeof options, .dtype = LORAFMT_F16};
    lorafmt_error err;

    t->f[0].tensor.data = large;
    assert_int_equal(lorafmt_pack(adapters, 1, "out", &options, &err), LORAFMT_LIMIT);
    assert_string_equal(err.field, "w.weight");
    options.dtype = LORAFMT_BF16;
    assert_int_equal(lorafmt_pack(adapters, 1, "out", &options, &err), LORAFMT_OK);
}

/* Of a file whose other adapter is damaged, one can still be read. */
static void test_one_adapter_of_a_file(void **state)
{
    static const float other[6] = {1, 2, 3, 4, 5, 6};
    fixture *t = *state;
    lorafmt_factor f[2];
    lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, other, ones, f);
    const lorafmt_adapter second = test_adapter("y", &site, 1), *adapters[] = {&t->adapter, &second};
    lorafmt_source_options options = {.struct_size = sizeof options, .adapter = "x"};
    lorafmt_source *source;
    lorafmt_error err;
    FILE *file;

    assert_int_equal(lorafmt_pack(adapters, 2, "out", NULL, &err), LORAFMT_OK);
    assert_non_null(file = fopen("out", "r+b"));
    assert_int_equal(fseek(file, -1, SEEK_END), 0); // in y's A, the last tensor
    assert_int_equal(fputc(99, file), 99);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(lorafmt_source_open("out", NULL, &source, &err), LORAFMT_CORRUPT);
    assert_int_equal(lorafmt_source_open("out", &options, &source, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_source_n_adapters(source), 1);
    assert_string_equal(lorafmt_source_adapter(source, 0)->name, "x");
    assert_memory_equal(lorafmt_source_adapter(source, 0)->sites[0].factors[0].tensor.data, ones, 12);
    lorafmt_source_free(source);
    options.adapter = "y";
    assert_int_equal(lorafmt_source_open("out", &options, &source, &err), LORAFMT_CORRUPT);
    options.adapter = "z";
    assert_int_equal(lorafmt_source_open("out", &options, &source, &err), LORAFMT_NOT_FOUND);
    assert_string_equal(err.text, "no adapter 'z' in it; there is x, y");
}

/* A PEFT file has no sharing: what takes 16 MiB here would take 1.1 GB there. */
static void test_unpacking_what_is_shared_much(void **state)
{
    enum { N = 70, IN = 1 << 22 };
    static char names[N][16];
    float *large = calloc(IN, sizeof *large);
    lorafmt_factor f[2];
    lorafmt_site sites[N];
    lorafmt_adapter adapter = test_adapter("x", sites, N);
    lorafmt_error err;

    (void)state;
    assert_non_null(large);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%02d.w.weight", i);
        sites[i] = test_low_rank(names[i], LORAFMT_KIND_LINEAR, 1, IN, 2, large, ones, f);
    }
    assert_int_equal(lorafmt_unpack(&adapter, "out", false, &err), LORAFMT_LIMIT);
    assert_non_null(strstr(err.text, "70 times as large"));
    free(large);
}

/* The bytes of a file in memory of just that size. */
static void *bytes_of(const char *path, size_t *size)
{
    char *text, *exact;

    assert_int_equal(lf_file_load(path, 1 << 20, &text, size, NULL), LORAFMT_OK);
    exact = malloc(*size);
    memcpy(exact, text, *size);
    free(text);
    return exact;
}

static void assert_same_adapter(const fixture *t, const lorafmt_source *source)
{
    uint8_t id[32], wanted[32];

    assert_int_equal(lorafmt_source_n_adapters(source), 1);
    assert_int_equal(lorafmt_source_adapter(source, 0)->n_sites, 1);
    assert_float_equal(lorafmt_source_adapter(source, 0)->sites[0].scale, 1, 0);
    lorafmt_adapter_id(lorafmt_source_adapter(source, 0), id);
    lorafmt_adapter_id(&t->adapter, wanted);
    assert_memory_equal(id, wanted, 32);
}

/* A .lora and a PEFT directory, opened as bytes and as a descriptor. */
static void test_open_memory_and_fd(void **state)
{
    const fixture *t = *state;
    const lorafmt_adapter *adapter = &t->adapter;
    lorafmt_source *source;
    lorafmt_memory memory = {.name = "x"};
    lorafmt_error err;
    size_t size;
    void *lora, *tensors, *config;
    int fd;

    assert_int_equal(lorafmt_pack(&adapter, 1, "x.lora", NULL, NULL), LORAFMT_OK);
    memory.bytes = lora = bytes_of("x.lora", &size);
    memory.size = size;
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_source_get_kind(source), LORAFMT_SOURCE_LORA);
    assert_same_adapter(t, source);
    lorafmt_source_free(source);
    memory.size--;
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.file, "x");
    assert_null(source);
    memory.name = NULL; // which was named nothing
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.file, "adapter");
    memory.name = "x";

    assert_int_equal(lf_file_open("x.lora", &fd, NULL, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_source_open_fd(fd, "x", NULL, &source, NULL), LORAFMT_OK);
    close(fd);
    assert_same_adapter(t, source);
    lorafmt_source_free(source);
    assert_int_equal(lorafmt_source_open_fd(-1, "x", NULL, &source, &err), LORAFMT_IO);

    assert_int_equal(lorafmt_unpack(adapter, "peft", false, NULL), LORAFMT_OK);
    memory.bytes = tensors = bytes_of("peft/adapter_model.safetensors", &size);
    memory.size = size;
    memory.config = config = bytes_of("peft/adapter_config.json", &memory.config_size);
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_source_get_kind(source), LORAFMT_SOURCE_PEFT);
    assert_string_equal(lorafmt_source_adapter(source, 0)->name, "x");
    lorafmt_source_free(source);
    memory.config = NULL;
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, &err), LORAFMT_UNSUPPORTED);
    memory.bytes = NULL;
    assert_int_equal(lorafmt_source_open_memory(&memory, NULL, &source, &err), LORAFMT_MISUSE);
    free(lora);
    free(tensors);
    free(config);
}

/* Where a mapped model has its tensors is what reading them gives. */
static void test_map_model(void **state)
{
    const fixture *t = *state;

    assert_null(lorafmt_model_data(t->model, 0));
    assert_int_equal(lorafmt_model_map(t->model, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_model_map(t->model, NULL), LORAFMT_OK);
    assert_memory_equal(lorafmt_model_data(t->model, 0), ones, 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_view_of_another_base, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_merging_did, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancelled_while_reading_a_base, setup, teardown),
        cmocka_unit_test_setup_teardown(test_options_of_another_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_options_of_pack, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_views, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unpacking_over_something, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_too_large_for_a_dtype, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_adapter_of_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unpacking_what_is_shared_much, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_memory_and_fd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_map_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
