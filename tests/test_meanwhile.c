/* SPDX-License-Identifier: MIT */
/*
 * Living files, and what others do to them meanwhile. The linker leads the library's calls to the system here (--wrap): before one
 * that is chosen something else is done, and it may fail.
 */
#include "tests/container_files.h"

#include "lib/io/io.h"
#include "lorafmt/generations.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <time.h>

#define FILE_NAME "f.lora"
#define OTHER_NAME "other.lora"

/* --- the calls --- */

typedef enum call { NONE, FLOCK, FSYNC, PREAD, PWRITE, NANOSLEEP } call;

/* What happens at call number `at` of a kind, counted from 1. */
static struct {
    call kind;
    int at, n;
    void (*meanwhile)(void); // before it, or NULL
    int error;               // then it fails, or 0
    bool dead;               // and with it the disk
} plan;

static bool disk_is_dead;

static void do_at(call kind, int at, void (*meanwhile)(void))
{
    plan.kind = kind;
    plan.at = at;
    plan.n = 0;
    plan.meanwhile = meanwhile;
    plan.error = 0;
    plan.dead = false;
}

static void fail_at(call kind, int at, void (*meanwhile)(void), bool dead)
{
    do_at(kind, at, meanwhile);
    plan.error = EIO;
    plan.dead = dead;
}

static bool fails(call kind)
{
    void (*meanwhile)(void) = plan.meanwhile;

    if ((kind == FSYNC || kind == PWRITE) && disk_is_dead)
        return errno = EIO, true;
    if (kind != plan.kind || ++plan.n != plan.at)
        return false;
    plan.kind = NONE;
    if (meanwhile)
        meanwhile();
    disk_is_dead = plan.dead;
    errno = plan.error;
    return plan.error != 0;
}

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
ssize_t __real_pread64(int fd, void *dst, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *dst, size_t size, off_t offset);
ssize_t __real_pwrite64(int fd, const void *src, size_t size, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *src, size_t size, off_t offset);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);

int __wrap_flock(int fd, int how)
{
    return fails(FLOCK) ? -1 : __real_flock(fd, how);
}

int __wrap_fsync(int fd)
{
    return fails(FSYNC) ? -1 : __real_fsync(fd);
}

ssize_t __wrap_pread64(int fd, void *dst, size_t size, off_t offset)
{
    return fails(PREAD) ? -1 : __real_pread64(fd, dst, size, offset);
}

ssize_t __wrap_pwrite64(int fd, const void *src, size_t size, off_t offset)
{
    return fails(PWRITE) ? -1 : __real_pwrite64(fd, src, size, offset);
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void)time, (void)left;
    return fails(NANOSLEEP) ? -1 : 0;
}
// NOLINTEND(bugprone-reserved-identifier)

/* --- files --- */

static void ok(lorafmt_status st, const lorafmt_error *err)
{
    if (st != LORAFMT_OK)
        fail_msg("%s %s: %s", lorafmt_status_name(st), err->field, err->text);
}

static const lorafmt_pack_options force = {.struct_size = sizeof force, .force = true};

static lorafmt_status add_second(lorafmt_error *err)
{
    return lorafmt_add(FILE_NAME, sample_adapters + 1, 1, &force, NULL, err);
}

/* A file with the first adapter, and then a generation that has the second one too. */
static void begin(bool with_second)
{
    lorafmt_error err;

    plan.kind = NONE;
    disk_is_dead = false;
    ok(lorafmt_pack(sample_adapters, 1, FILE_NAME, &force, &err), &err);
    if (with_second)
        ok(add_second(&err), &err);
}

static file load(const char *path)
{
    char *bytes;
    lorafmt_error err;
    file f = {0};

    ok(lf_file_load(path, 1 << 24, &bytes, &f.size, &err), &err);
    f.bytes = (uint8_t *)bytes;
    return f;
}

/* Into the file that is there, whoever has it open. */
static void save(const file *f)
{
    FILE *to = fopen(FILE_NAME, "wb");

    assert_non_null(to);
    assert_int_equal(fwrite(f->bytes, 1, f->size, to), f->size);
    assert_int_equal(fclose(to), 0);
}

/* How many adapters the file at a path has, all of which is verified. */
static size_t count(const char *path)
{
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_error err = {0};
    size_t n;

    ok(lorafmt_source_open(path, NULL, &source, &err), &err);
    ok(lorafmt_verify(source, &result, &err), &err);
    n = lorafmt_source_n_adapters(source);
    lorafmt_source_free(source);
    return n;
}

/* --- a root that does not come to the disk --- */

static lorafmt_source *reader;

static void open_reader(void)
{
    lorafmt_error err;

    ok(lorafmt_source_open(FILE_NAME, NULL, &reader, &err), &err);
}

/* Data is synced first, then the slot: whoever saw the new generation in between reads it to its end. */
static void test_reader_of_what_was_taken_back(void **unused)
{
    lorafmt_verify_result result;
    lorafmt_error err;

    (void)unused;
    begin(false);
    fail_at(FSYNC, 2, open_reader, false);
    assert_int_equal(add_second(&err), LORAFMT_IO);
    assert_non_null(strstr(err.text, "syncing to disk"));
    assert_int_equal(lorafmt_source_n_adapters(reader), 2);
    ok(lorafmt_verify(reader, &result, &err), &err);
    lorafmt_source_free(reader);
    assert_int_equal(count(FILE_NAME), 1);
    ok(add_second(&err), &err);
    assert_int_equal(count(FILE_NAME), 2);
}

static void test_root_that_cannot_be_taken_back(void **unused)
{
    lorafmt_error err;

    (void)unused;
    begin(false);
    fail_at(FSYNC, 2, NULL, true);
    assert_int_equal(add_second(&err), LORAFMT_IO);
    assert_non_null(strstr(err.text, "generation 2 may be written, but is not known to be on the disk"));
    assert_int_equal(err.os_error, EIO);
    assert_int_equal(count(FILE_NAME), 2);
}

/* --- another writer --- */

/* As `pack --force` does. */
static void replace(void)
{
    assert_int_equal(rename(OTHER_NAME, FILE_NAME), 0);
}

static void begin_with_other(bool with_second)
{
    lorafmt_error err;

    begin(with_second);
    ok(lorafmt_pack(sample_adapters, 2, OTHER_NAME, &force, &err), &err);
}

/* The file that came meanwhile is as it was. */
static void assert_is_other(const file *other)
{
    file f = load(FILE_NAME);

    assert_int_equal(f.size, other->size);
    assert_memory_equal(f.bytes, other->bytes, f.size);
    free(f.bytes);
}

static void test_replaced_before_the_lock(void **unused)
{
    lorafmt_error err;
    file other;

    (void)unused;
    begin_with_other(false);
    other = load(OTHER_NAME);
    do_at(FLOCK, 1, replace);
    assert_int_equal(add_second(&err), LORAFMT_IO);
    assert_int_equal(err.os_error, EWOULDBLOCK);
    assert_non_null(strstr(err.text, "try again"));
    assert_is_other(&other);
    free(other.bytes);
}

static void add_first_again(void)
{
    const lorafmt_pack_options named = {.struct_size = sizeof named, .name = "again"};
    lorafmt_error err;

    ok(lorafmt_add(FILE_NAME, sample_adapters, 1, &named, NULL, &err), &err);
}

/* A writer that was done just before this one has the lock has made the file longer. */
static void test_appended_before_the_lock(void **unused)
{
    lorafmt_append_result result;
    lorafmt_error err;

    (void)unused;
    begin(false);
    do_at(FLOCK, 1, add_first_again);
    ok(lorafmt_add(FILE_NAME, sample_adapters + 1, 1, NULL, &result, &err), &err);
    assert_int_equal(result.generation, 3);
    assert_int_equal(count(FILE_NAME), 3);
}

/* What is "the one before" is settled under the lock. */
static void test_appended_before_rolling_back(void **unused)
{
    lorafmt_append_result result;
    lorafmt_error err;

    (void)unused;
    begin(true);
    do_at(FLOCK, 1, add_first_again);
    ok(lorafmt_rollback(FILE_NAME, 0, &result, &err), &err);
    assert_int_equal(result.restored, 2);
    assert_int_equal(result.generation, 4);
    assert_int_equal(count(FILE_NAME), 2);
}

static void test_replaced_while_appending(void **unused)
{
    lorafmt_error err;
    file other;

    (void)unused;
    begin_with_other(false);
    other = load(OTHER_NAME);
    do_at(FSYNC, 1, replace);
    assert_int_equal(add_second(&err), LORAFMT_IO);
    assert_int_equal(err.os_error, EWOULDBLOCK);
    assert_non_null(strstr(err.text, "generation 2 is written, but this path leads to another file"));
    assert_is_other(&other);
    free(other.bytes);
}

static void test_replaced_while_compacting(void **unused)
{
    lorafmt_error err;
    file other;

    (void)unused;
    begin_with_other(true);
    other = load(OTHER_NAME);
    do_at(PWRITE, 1, replace);
    assert_int_equal(lorafmt_compact(FILE_NAME, NULL, NULL, NULL, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EWOULDBLOCK);
    assert_is_other(&other);
    free(other.bytes);
}

/* --- looking again --- */

static file whole;

static void write_whole(void)
{
    save(&whole);
}

/* Half of a root, or a root that leads beyond the end, is what a writer that is at work may show. */
static void test_second_look(void **unused)
{
    file f;

    (void)unused;
    begin(true);
    whole = load(FILE_NAME);
    f = file_copy(&whole);
    slot_of(&f, 1)[LF_ROOT_INDEX_OFFSET] ^= 1;
    save(&f);
    do_at(NANOSLEEP, 1, write_whole);
    assert_int_equal(count(FILE_NAME), 2);
    slot_of(&f, 0)[LF_ROOT_INDEX_OFFSET] ^= 1;
    save(&f);
    do_at(NANOSLEEP, 1, write_whole);
    assert_int_equal(count(FILE_NAME), 2);
    free(f.bytes);
    free(whole.bytes);
}

static size_t size_before;

static void cut(void)
{
    assert_int_equal(truncate(FILE_NAME, (off_t)size_before), 0);
}

/* A writer that gives up takes away what a reader that copies the file is just reading. */
static void test_cut_while_being_read(void **unused)
{
    const lorafmt_source_options in_memory = {.struct_size = sizeof in_memory, .in_memory = true};
    static const uint8_t unfinished[4096] = {1};
    lorafmt_source *source;
    lorafmt_error err = {0};
    file f;

    (void)unused;
    begin(true);
    f = load(FILE_NAME);
    size_before = f.size;
    file_append(&f, unfinished, sizeof unfinished);
    save(&f);
    free(f.bytes);
    do_at(PREAD, 1, cut);
    ok(lorafmt_source_open(FILE_NAME, &in_memory, &source, &err), &err);
    assert_int_equal(plan.kind, NONE);
    lorafmt_source_free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_reader_of_what_was_taken_back), IN_DIRECTORY(test_root_that_cannot_be_taken_back),
        IN_DIRECTORY(test_replaced_before_the_lock),      IN_DIRECTORY(test_appended_before_the_lock),
        IN_DIRECTORY(test_appended_before_rolling_back),  IN_DIRECTORY(test_replaced_while_appending),
        IN_DIRECTORY(test_replaced_while_compacting),     IN_DIRECTORY(test_second_look),
        IN_DIRECTORY(test_cut_while_being_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
