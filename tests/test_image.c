/* SPDX-License-Identifier: MIT */
/*
 * The files of an image, read in any way, are those that merging writes; and what another dtype makes of them.
 *
 * usage: test_image BASE ADAPTER [BASE ADAPTER...]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/foreign/safetensors.h"
#include "lib/io/io.h"
#include "lorafmt/image.h"
#include "tests/temporary_directory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_FILE (64u << 20)
#define N_READERS 4
#define N_READS 60

static char **pairs; // base, adapter, as absolute paths
static int n_pairs;

/* A base with one adapter on it. */
typedef struct subject {
    lorafmt_model *model;
    lorafmt_source *source;
    lorafmt_view *view;
    lorafmt_image *image;
} subject;

static void bind_subject(subject *s, int pair)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .base = lorafmt_model_base(s->model)};
    lorafmt_stack_entry entry = {.weight = 1};
    lorafmt_error err;

    if (lorafmt_source_open(pairs[2 * pair + 1], &options, &s->source, &err))
        fail_msg("%s: %s", pairs[2 * pair + 1], err.text);
    entry.adapter = lorafmt_source_adapter(s->source, 0);
    if (lorafmt_bind(lorafmt_model_base(s->model), &entry, 1, NULL, &s->view, &err))
        fail_msg("%s: %s", pairs[2 * pair + 1], err.text);
}

static void open_subject(subject *s, int pair, lorafmt_dtype dtype)
{
    const lorafmt_image_options options = {.struct_size = sizeof options, .dtype = dtype};
    lorafmt_error err;

    *s = (subject){0};
    assert_int_equal(lorafmt_model_open(pairs[2 * pair], &s->model, NULL), LORAFMT_OK);
    bind_subject(s, pair);
    if (lorafmt_image_open(s->model, s->view, &options, &s->image, &err))
        fail_msg("%s: %s", pairs[2 * pair], err.text);
}

static void close_subject(subject *s)
{
    lorafmt_image_free(s->image);
    lorafmt_view_free(s->view);
    lorafmt_source_free(s->source);
    lorafmt_model_free(s->model);
}

/* Merged into "out" with a view of its own, so that nothing is prepared in the image's. */
static void merge(int pair, lorafmt_dtype dtype)
{
    const lorafmt_merge_options options = {.struct_size = sizeof options, .dtype = dtype, .force = true};
    lorafmt_merge_result result;
    lorafmt_error err;
    subject s = {0};

    assert_int_equal(lorafmt_model_open(pairs[2 * pair], &s.model, NULL), LORAFMT_OK);
    bind_subject(&s, pair);
    if (lorafmt_merge(s.model, s.view, "out", &options, NULL, NULL, &result, &err))
        fail_msg("%s: %s", pairs[2 * pair], err.text);
    close_subject(&s);
}

static char *load(const char *name, size_t *size)
{
    char path[600], *text;

    snprintf(path, sizeof path, "out/%s", name);
    assert_int_equal(lf_file_load(path, MOST_FILE, &text, size, NULL), LORAFMT_OK);
    return text;
}

typedef struct reader {
    pthread_t thread;
    lorafmt_image *image;
    size_t file;
    const char *expected;
    size_t size;
    unsigned seed;
    bool equal;
} reader;

/* Backwards in odd steps, then ranges of any size anywhere. */
static void *read_wildly(void *ctx)
{
    reader *r = ctx;
    char *buffer = malloc(r->size ? r->size : 1);
    lorafmt_reader *memory = lorafmt_reader_new();
    lorafmt_error err;

    r->equal = true;
    for (size_t end = r->size; end;) {
        const size_t step = 1 + (size_t)rand_r(&r->seed) % (r->size / 8 + 3), n = end < step ? end : step;
        r->equal &=
            !lorafmt_image_read(r->image, r->file, end - n, buffer, n, memory, &err) && !memcmp(buffer, r->expected + end - n, n);
        end -= n;
    }
    for (int i = 0; i < N_READS && r->size; i++) {
        const size_t at = (size_t)rand_r(&r->seed) % r->size, most = r->size - at;
        const size_t n = 1 + (size_t)rand_r(&r->seed) % (i % 2 ? most : most < 9 ? most : 9);
        r->equal &= !lorafmt_image_read(r->image, r->file, at, buffer, n, i % 3 ? memory : NULL, &err) &&
                    !memcmp(buffer, r->expected + at, n);
    }
    free(buffer);
    lorafmt_reader_free(memory);
    return NULL;
}

static void check_file(lorafmt_image *image, size_t i, const char *base)
{
    const lorafmt_image_file *file = lorafmt_image_get_file(image, i);
    reader readers[N_READERS];
    size_t size;
    char *expected = load(file->name, &size);

    if (size != file->size)
        fail_msg("%s: %s has %zu bytes, the image says %zu", base, file->name, size, (size_t)file->size);
    for (unsigned t = 0; t < N_READERS; t++) {
        readers[t] = (reader){.image = image, .file = i, .expected = expected, .size = size, .seed = t + 1};
        assert_int_equal(pthread_create(&readers[t].thread, NULL, read_wildly, &readers[t]), 0);
    }
    for (unsigned t = 0; t < N_READERS; t++) {
        pthread_join(readers[t].thread, NULL);
        if (!readers[t].equal)
            fail_msg("%s: %s is not what merging writes", base, file->name);
    }
    free(expected);
}

/* The same file written alone. */
static void check_written(lorafmt_image *image, size_t i)
{
    const lorafmt_image_write_options force = {.struct_size = sizeof force, .force = true};
    const lorafmt_image_file *file = lorafmt_image_get_file(image, i);
    size_t size, n;
    char *expected = load(file->name, &size), *found;
    lorafmt_error err;

    assert_int_equal(lorafmt_image_write(image, i, "alone", &force, NULL, &err), LORAFMT_OK);
    assert_int_equal(lf_file_load("alone", MOST_FILE, &found, &n, NULL), LORAFMT_OK);
    assert_int_equal(n, size);
    assert_memory_equal(found, expected, n);
    free(expected);
    free(found);
    assert_int_equal(lorafmt_image_write(image, i, "alone", NULL, NULL, &err), LORAFMT_IO); // it is there
}

static void test_files_are_those_of_merge(void **state)
{
    static const lorafmt_dtype dtypes[] = {0, LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16};

    (void)state;
    for (int pair = 0; pair < n_pairs; pair++)
        for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
            char **names;
            size_t n_names;
            subject s;
            merge(pair, dtypes[d]);
            open_subject(&s, pair, dtypes[d]);
            assert_int_equal(lf_directory_list("out", &names, &n_names, NULL), LORAFMT_OK);
            assert_int_equal(lorafmt_image_n_files(s.image), n_names);
            for (size_t i = 0; i < n_names; i++) {
                assert_string_equal(lorafmt_image_get_file(s.image, i)->name, names[i]);
                check_file(s.image, i, pairs[2 * pair]);
                check_written(s.image, i);
            }
            lf_names_free(names, n_names);
            close_subject(&s);
        }
}

static const lf_safetensors_tensor *find(const lf_safetensors *table, const char *name)
{
    for (size_t i = 0; i < table->n_tensors; i++)
        if (!strcmp(table->tensors[i].name, name))
            return &table->tensors[i];
    fail_msg("no %s", name);
    return NULL;
}

static lf_safetensors *parse(const char *bytes, size_t size)
{
    lf_safetensors *table;
    uint64_t header_size;

    assert_int_equal(lf_safetensors_header_size((const uint8_t *)bytes, size < 64 ? size : 64, size, &header_size, NULL),
                     LORAFMT_OK);
    assert_int_equal(lf_safetensors_parse((const uint8_t *)bytes + 8, header_size, size, &table, NULL), LORAFMT_OK);
    return table;
}

/* Another dtype rounds once: what F64 keeps of W + dW in F32 is rounded to bf16, untouched tensors and all. */
static void test_dtype_rounds_once(void **state)
{
    size_t n_wide, n_narrow;
    char *wide, *narrow;
    lf_safetensors *from, *to;

    (void)state;
    merge(0, LORAFMT_F32);
    wide = load("model.safetensors", &n_wide);
    merge(0, LORAFMT_BF16);
    narrow = load("model.safetensors", &n_narrow);
    from = parse(wide, n_wide);
    to = parse(narrow, n_narrow);
    assert_int_equal(from->n_tensors, to->n_tensors);
    for (size_t i = 0; i < from->n_tensors; i++) {
        const lf_safetensors_tensor *a = &from->tensors[i], *b = find(to, a->name);
        assert_int_equal(a->dtype, LORAFMT_F32);
        assert_int_equal(b->dtype, LORAFMT_BF16);
        assert_int_equal(a->size, 2 * b->size);
        for (size_t k = 0; k < b->size / 2; k++) {
            uint32_t bits;
            uint16_t found;
            memcpy(&bits, wide + a->offset + 4 * k, sizeof bits);
            memcpy(&found, narrow + b->offset + 2 * k, sizeof found);
            assert_int_equal(found, (bits + 0x7fff + (bits >> 16 & 1)) >> 16); // nearest even of a finite number
        }
    }
    lf_safetensors_free(from);
    lf_safetensors_free(to);
    free(wide);
    free(narrow);
}

static void test_refusals(void **state)
{
    const lorafmt_image_options wrong = {.struct_size = sizeof wrong, .dtype = LORAFMT_F64};
    lorafmt_merge_options merging = {.struct_size = sizeof merging, .dtype = LORAFMT_F16};
    lorafmt_merge_result result;
    lorafmt_change change;
    lorafmt_image *image;
    lorafmt_error err;
    uint64_t size;
    char byte;
    subject s;

    (void)state;
    open_subject(&s, 0, 0);
    size = lorafmt_image_get_file(s.image, 0)->size;
    assert_int_equal(lorafmt_image_read(s.image, 0, size, &byte, 0, NULL, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_image_read(s.image, 0, size, &byte, 1, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_image_read(s.image, 0, UINT64_MAX, &byte, 2, NULL, &err), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_image_read(s.image, 99, 0, &byte, 0, NULL, &err), LORAFMT_MISUSE);
    assert_null(lorafmt_image_get_file(s.image, 99));
    assert_int_equal(lorafmt_image_open(s.model, s.view, &wrong, &image, &err), LORAFMT_MISUSE);
    merging.changes = &change;
    assert_int_equal(lorafmt_merge(s.model, s.view, "never", &merging, NULL, NULL, &result, &err), LORAFMT_MISUSE);
    close_subject(&s);
}

static void copy_base(const char *to)
{
    char command[1200];

    snprintf(command, sizeof command, "rm -rf %s && cp -rL '%s' %s && chmod -R u+w %s", to, pairs[0], to, to);
    assert_int_equal(system(command), 0);
}

/* A base that changes is an error; one that is replaced stays what it was. */
static void test_a_base_that_changes(void **state)
{
    char *first = pairs[0], copy[] = "base", byte;
    lorafmt_error err;
    subject s;

    (void)state;
    copy_base("base");
    pairs[0] = copy;
    open_subject(&s, 0, 0);
    pairs[0] = first;
    copy_base("other");
    for (size_t i = 0; i < lorafmt_image_n_files(s.image); i++) {
        const lorafmt_image_file *file = lorafmt_image_get_file(s.image, i);
        char path[600], other[600];
        snprintf(path, sizeof path, "base/%s", file->name);
        snprintf(other, sizeof other, "other/%s", file->name);
        assert_int_equal(link(path, "kept"), 0);
        assert_int_equal(rename(other, path), 0);
        assert_int_equal(lorafmt_image_read(s.image, i, file->size - 1, &byte, 1, NULL, &err), LORAFMT_OK);
        assert_int_equal(truncate("kept", (off_t)file->size / 2), 0);
        assert_int_equal(lorafmt_image_read(s.image, i, file->size - 1, &byte, 1, NULL, &err), LORAFMT_CORRUPT);
        assert_int_equal(lorafmt_image_read(s.image, i, 0, &byte, 1, NULL, &err), LORAFMT_CORRUPT);
        assert_int_equal(unlink("kept"), 0);
    }
    close_subject(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_are_those_of_merge),
        cmocka_unit_test(test_dtype_rounds_once),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_a_base_that_changes),
    };
    void *folder;
    int failed;

    pairs = argv + 1;
    n_pairs = (argc - 1) / 2;
    if (!n_pairs || enter_directory(&folder))
        return 2;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    return leave_directory(&folder) || failed;
}
