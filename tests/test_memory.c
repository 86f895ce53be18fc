/* SPDX-License-Identifier: MIT */
/*
 * Memory that lib/ does not get: each request fails in turn, of the heap, of an arena and of cJSON, in whatever a user can ask for.
 * The status is NO_MEMORY, nothing is kept, what comes out is NULL, and outputs are whole or absent.
 *
 * usage: test_memory BASE ADAPTER [BASE ADAPTER...]
 */
#include "format/base/error.h"
#include "lorafmt/lorafmt.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"
#include "tests/temporary_directory.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
int __wrap_fsync(int fd);
int __wrap_sync_file_range(int fd, off_t at, off_t size, unsigned flags);

/* The test need not wait for the disk. */
int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

int __wrap_sync_file_range(int fd, off_t at, off_t size, unsigned flags)
{
    (void)fd, (void)at, (void)size, (void)flags;
    return 0;
}
// NOLINTEND(bugprone-reserved-identifier)

static char **pairs; // base, adapter, as absolute paths
static int n_pairs;

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* One after the other, until one fails. */
#define THEN(call) st = st ? st : (call)

/* --- adapters and bases as others made them --- */

typedef struct subject {
    lorafmt_model *model;
    lorafmt_source *source;
} subject;

static lorafmt_status open_subject(subject *s, char *const *pair, lorafmt_error *err)
{
    lorafmt_source_options options = {.struct_size = sizeof options, .n_threads = 1};
    lorafmt_status st = lorafmt_model_open(pair[0], &s->model, err);

    assert_int_equal(s->model != NULL, st == LORAFMT_OK);
    if (st)
        return st;
    options.base = lorafmt_model_base(s->model);
    st = lorafmt_source_open(pair[1], &options, &s->source, err);
    assert_int_equal(s->source != NULL, st == LORAFMT_OK);
    return st;
}

static void close_subject(subject *s)
{
    lorafmt_source_free(s->source);
    lorafmt_model_free(s->model);
}

static lorafmt_status open_pair(const void *pair, lorafmt_error *err)
{
    subject s = {0};
    const lorafmt_status st = open_subject(&s, pair, err);

    close_subject(&s);
    return st;
}

static lorafmt_status bind(const subject *s, lorafmt_view **out, lorafmt_error *err)
{
    const lorafmt_rename rename = {"", ""};
    const lorafmt_entry_options own = {.renames = &rename, .n_renames = 1};
    const lorafmt_bind_options options = {.struct_size = sizeof options, .entries = &own};
    const lorafmt_stack_entry entry = {lorafmt_source_adapter(s->source, 0), 1};
    const lorafmt_status st = lorafmt_bind(lorafmt_model_base(s->model), &entry, 1, &options, out, err);

    assert_int_equal(*out != NULL, st == LORAFMT_OK);
    return st;
}

static lorafmt_status pack_as(const subject *s, lorafmt_dtype dtype, const char *out, lorafmt_error *err)
{
    static const lorafmt_metadata note = {"note", "packed", 0};
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .name = "other",
                                          .dtype = dtype,
                                          .codec = LORAFMT_CODEC_SPLIT,
                                          .base = s->model,
                                          .metadata = &note,
                                          .n_metadata = 1};
    const lorafmt_adapter *adapter = lorafmt_source_adapter(s->source, 0);
    const lorafmt_status st = lorafmt_pack(&adapter, 1, out, &options, err);

    assert_int_equal(exists(out), st == LORAFMT_OK);
    return st;
}

static lorafmt_status pack(const void *ctx, lorafmt_error *err)
{
    const lorafmt_status st = pack_as(ctx, LORAFMT_F16, "packed.lora", err);

    remove("packed.lora");
    return st;
}

/* "made.lora", as PEFT would have it. */
static lorafmt_status unpack(const void *unused, lorafmt_error *err)
{
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_status st = lorafmt_source_open("made.lora", NULL, &source, err);

    (void)unused;
    THEN(lorafmt_verify(source, &result, err));
    THEN(lorafmt_unpack(lorafmt_source_adapter(source, 0), "peft", false, err));
    assert_int_equal(exists("peft"), st == LORAFMT_OK);
    nftw("peft", remove_one, 8, FTW_DEPTH | FTW_PHYS);
    lorafmt_source_free(source);
    return st;
}

static lorafmt_status merge_as(const subject *s, lorafmt_dtype dtype, lorafmt_error *err)
{
    const lorafmt_merge_options options = {.struct_size = sizeof options, .n_threads = 1, .dtype = dtype};
    lorafmt_merge_result result;
    lorafmt_view *view;
    lorafmt_status st = bind(s, &view, err);

    THEN(lorafmt_merge(s->model, view, "merged", &options, NULL, NULL, &result, err));
    assert_int_equal(exists("merged"), st == LORAFMT_OK);
    nftw("merged", remove_one, 8, FTW_DEPTH | FTW_PHYS);
    lorafmt_view_free(view);
    return st;
}

static lorafmt_status merge(const void *ctx, lorafmt_error *err)
{
    return merge_as(ctx, 0, err);
}

static lorafmt_status merge_as_f32(const void *ctx, lorafmt_error *err)
{
    return merge_as(ctx, LORAFMT_F32, err);
}

/* The base is not what merging makes of it, and says so. */
static lorafmt_status compare(const void *ctx, lorafmt_error *err)
{
    const lorafmt_compare_options options = {.struct_size = sizeof options, .n_threads = 1};
    const subject *s = ctx;
    lorafmt_compare_result result;
    lorafmt_view *view;
    lorafmt_status st = bind(s, &view, err);

    THEN(lorafmt_compare(s->model, view, s->model, &options, &result, err));
    if (!st)
        assert_true(result.n_differing > 0);
    lorafmt_view_free(view);
    return st;
}

/* All bytes of all files, by a reader that keeps what it reads, and one file written. */
static lorafmt_status read_image(const void *ctx, lorafmt_error *err)
{
    const lorafmt_image_options options = {.struct_size = sizeof options};
    const lorafmt_image_write_options write = {.struct_size = sizeof write, .n_threads = 1};
    const subject *s = ctx;
    lorafmt_reader *reader = lorafmt_reader_new();
    lorafmt_image *image = NULL;
    lorafmt_counts counts;
    lorafmt_view *view;
    const void *bytes;
    lorafmt_status st = bind(s, &view, err);

    THEN(reader ? LORAFMT_OK : lf_no_memory(err));
    THEN(lorafmt_image_open(s->model, view, &options, &image, err));
    for (size_t i = 0; !st && i < lorafmt_image_n_files(image); i++)
        st = lorafmt_reader_read(reader, image, i, 0, (size_t)lorafmt_image_get_file(image, i)->size, &bytes, err);
    THEN(lorafmt_image_write(image, 0, "file", &write, &counts, err));
    assert_int_equal(exists("file"), st == LORAFMT_OK);
    remove("file");
    lorafmt_reader_free(reader);
    lorafmt_image_free(image);
    lorafmt_view_free(view);
    return st;
}

static void refuse_pair(char *const *pair)
{
    subject s = {0};

    assert_int_equal(refuse_each(open_pair, pair), 0);
    assert_int_equal(open_subject(&s, pair, NULL), LORAFMT_OK);
    assert_int_equal(refuse_each(pack, &s), 0);
    assert_int_equal(refuse_each(merge, &s), 0);
    assert_int_equal(pack_as(&s, 0, "made.lora", NULL), LORAFMT_OK);
    assert_int_equal(refuse_each(unpack, NULL), 0);
    assert_int_equal(remove("made.lora"), 0);
    close_subject(&s);
}

static void test_pairs(void **state)
{
    (void)state;
    for (int i = 0; i < n_pairs; i++)
        refuse_pair(pairs + 2 * i);
}

/* What is done with a model in the same way whatever the adapter is like. */
static void test_models(void **state)
{
    subject s = {0};

    (void)state;
    assert_int_equal(open_subject(&s, pairs, NULL), LORAFMT_OK);
    assert_int_equal(refuse_each(merge_as_f32, &s), 0);
    assert_int_equal(refuse_each(compare, &s), 0);
    refuse_each(read_image, &s); // a reader computes again what it could not keep
    close_subject(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_pairs),
        IN_DIRECTORY(test_models),
    };

    if (argc < 3 || argc % 2 == 0)
        return 2;
    pairs = argv + 1;
    n_pairs = (argc - 1) / 2;
    cJSON_InitHooks(&(cJSON_Hooks){__wrap_malloc, __wrap_free});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
