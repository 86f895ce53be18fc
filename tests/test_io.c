/* SPDX-License-Identifier: MIT */
/* Each test runs in an empty directory of its own. */
#include "lib/io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/temporary_directory.h"

static void make_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
}

static void check_file(const char *path, const char *text)
{
    size_t size;
    char *is;

    assert_int_equal(lf_file_load(path, 1 << 20, &is, &size, NULL), LORAFMT_OK);
    assert_string_equal(is, text);
    assert_int_equal(size, strlen(text));
    free(is);
}

/* The names in a directory, with spaces between. */
static void check_list(const char *path, const char *expected)
{
    char text[1024] = "", **names;
    size_t n;

    assert_int_equal(lf_directory_list(path, &names, &n, NULL), LORAFMT_OK);
    for (size_t i = 0; i < n; i++) {
        strcat(text, i ? " " : "");
        strcat(text, names[i]);
    }
    lf_names_free(names, n);
    assert_string_equal(text, expected);
}

static void test_open(void **state)
{
    lorafmt_error err;
    uint64_t size;
    int fd;

    (void)state;
    make_file("f", "hello");
    assert_int_equal(mkdir("d", 0777), 0);
    assert_int_equal(mkfifo("p", 0666), 0);
    assert_int_equal(symlink("f", "l"), 0);
    assert_int_equal(lf_file_open("l", &fd, &size, &err), LORAFMT_OK);
    assert_int_equal(size, 5);
    close(fd);
    assert_int_equal(lf_file_open("d", &fd, &size, &err), LORAFMT_NOT_LORAFMT);
    assert_string_equal(err.text, "a directory, must be a regular file");
    assert_string_equal(err.file, "d");
    assert_int_equal(fd, -1);
    assert_int_equal(lf_file_open("p", &fd, NULL, &err), LORAFMT_NOT_LORAFMT); // and does not wait for a writer
    assert_string_equal(err.text, "a FIFO, must be a regular file");
    assert_int_equal(lf_file_open("/dev/null", &fd, NULL, &err), LORAFMT_NOT_LORAFMT);
    assert_int_equal(lf_file_open("none", &fd, &size, &err), LORAFMT_NOT_FOUND);
    assert_int_equal(err.os_error, ENOENT);
    assert_int_equal(size, 0);
}

static void test_read_and_write(void **state)
{
    char bytes[8] = "";
    lorafmt_error err;
    int fd;

    (void)state;
    fd = open("f", O_RDWR | O_CREAT, 0666);
    assert_int_equal(lf_file_write(fd, "f", 4, "efgh", 4, &err), LORAFMT_OK);
    assert_int_equal(lf_file_write(fd, "f", 0, "abcd", 4, &err), LORAFMT_OK);
    assert_int_equal(lf_file_read(fd, "f", 2, bytes, 4, &err), LORAFMT_OK);
    assert_string_equal(bytes, "cdef");
    assert_int_equal(lf_file_read(fd, "f", 8, bytes, 0, &err), LORAFMT_OK);
    assert_int_equal(lf_file_read(fd, "f", 6, bytes, 4, &err), LORAFMT_CORRUPT);
    assert_int_equal(err.offset, 8);
    assert_string_equal(err.file, "f");
    assert_non_null(strstr(err.text, "truncated while being read: 2 bytes are missing"));
    close(fd);
    assert_int_equal(lf_file_read(fd, "f", 0, bytes, 4, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EBADF);
}

static void test_full_disk(void **state)
{
    const int fd = open("/dev/full", O_WRONLY);
    lorafmt_error err;

    (void)state;
    if (fd < 0)
        skip();
    assert_int_equal(lf_file_write(fd, "out.lora", 64, "abcd", 4, &err), LORAFMT_IO);
    close(fd);
    assert_int_equal(err.os_error, ENOSPC);
    assert_string_equal(err.file, "out.lora");
    assert_non_null(strstr(err.text, "writing 4 bytes at 64: "));
}

static void test_load(void **state)
{
    lorafmt_error err;
    size_t size;
    char *text;

    (void)state;
    make_file("f", "hello");
    make_file("empty", "");
    check_file("f", "hello");
    check_file("empty", "");
    assert_int_equal(lf_file_load("f", 5, &text, &size, NULL), LORAFMT_OK);
    free(text);
    assert_int_equal(lf_file_load("f", 4, &text, &size, &err), LORAFMT_LIMIT);
    assert_string_equal(err.text, "a file of 5 bytes, at most 4 are read");
    assert_string_equal(err.file, "f");
    assert_null(text);
    assert_int_equal(lf_file_load("none", 4, &text, &size, NULL), LORAFMT_NOT_FOUND);
}

static void test_map(void **state)
{
    lf_map map;

    (void)state;
    make_file("f", "hello");
    make_file("empty", "");
    assert_int_equal(lf_map_open("f", false, UINT64_MAX, &map, NULL), LORAFMT_OK);
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.bytes, "hello", 5);
    lf_map_close(&map);
    lf_map_close(&map);
    assert_int_equal(lf_map_open("f", true, UINT64_MAX, &map, NULL), LORAFMT_OK);
    assert_int_equal(truncate("f", 0), 0);
    assert_memory_equal(map.bytes, "hello", 5); // a mapping of the file would be SIGBUS
    lf_map_close(&map);
    assert_int_equal(lf_map_open("empty", false, UINT64_MAX, &map, NULL), LORAFMT_OK);
    assert_null(map.bytes);
    lf_map_close(&map);
    assert_int_equal(lf_map_open(".", false, UINT64_MAX, &map, NULL), LORAFMT_NOT_LORAFMT);
    assert_null(map.bytes);
}

static void test_copy(void **state)
{
    const int src = open("a", O_RDWR | O_CREAT, 0666), dst = open("b", O_RDWR | O_CREAT, 0666);
    static char block[3 << 20], got[3 << 20];
    lorafmt_error err;

    (void)state;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 31 >> 3);
    assert_int_equal(lf_file_write(src, "a", 0, block, sizeof block, NULL), LORAFMT_OK);
    assert_int_equal(lf_file_copy(src, "a", 5, dst, "b", 3, sizeof block - 5, &err), LORAFMT_OK);
    assert_int_equal(lf_file_read(dst, "b", 3, got, sizeof got - 5, NULL), LORAFMT_OK);
    assert_memory_equal(got, block + 5, sizeof block - 5);
    assert_int_equal(lf_file_copy(src, "a", 0, dst, "b", 0, 0, &err), LORAFMT_OK);
    assert_int_equal(lf_file_copy(src, "a", 10, dst, "b", 0, sizeof block, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.file, "a");
    assert_int_equal(err.offset, sizeof block);
    close(src);
    close(dst);
}

/* copy_file_range() does not copy onto the same bytes, nor from or to everything: then it is read and written. */
static void test_copy_without_the_kernel(void **state)
{
    const int fd = open("a", O_RDWR | O_CREAT, 0666);
    lorafmt_error err;
    int full;

    (void)state;
    assert_int_equal(lf_file_write(fd, "a", 0, "abcdefgh", 8, NULL), LORAFMT_OK);
    assert_int_equal(lf_file_copy(fd, "a", 0, fd, "a", 2, 6, NULL), LORAFMT_OK); // overlapping: EINVAL
    check_file("a", "ababcdef");
    full = open("/dev/full", O_WRONLY);
    if (full >= 0) {
        assert_int_equal(lf_file_copy(fd, "a", 0, full, "full", 0, 8, &err), LORAFMT_IO);
        assert_int_equal(err.os_error, ENOSPC);
        assert_string_equal(err.file, "full");
        close(full);
    }
    close(fd);
}

static void test_reserve(void **state)
{
    const int fd = open("f", O_RDWR | O_CREAT, 0666);
    lorafmt_error err;
    struct stat st;
    int pipes[2];

    (void)state;
    assert_int_equal(lf_file_reserve(fd, "f", 0, &err), LORAFMT_OK);
    assert_int_equal(lf_file_reserve(fd, "f", 100000, &err), LORAFMT_OK);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size == 100000 || st.st_size == 0);
    assert_int_equal(lf_file_reserve(fd, "f", UINT64_C(1) << 62, &err), LORAFMT_IO); // EFBIG or ENOSPC
    assert_string_equal(err.file, "f");
    close(fd);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(lf_file_reserve(pipes[1], "p", 10, &err), LORAFMT_OK); // not supported, not an error
    close(pipes[0]);
    close(pipes[1]);
}

static void test_paths(void **state)
{
    static const struct {
        const char *path, *base;
    } bases[] = {{"a", "a"}, {"a/b", "b"}, {"a/b//", "b"}, {"/", ""},
                 {"", ""},   {"/x", "x"},  {"a/..", ".."}, {"abcdefgh", "abcdefg"}};
    static const struct {
        const char *directory, *name, *path;
    } joins[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}};

    (void)state;
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        char base[8];
        lf_path_base_name(bases[i].path, base, sizeof base);
        assert_string_equal(base, bases[i].base);
    }
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        char *path = lf_path_join(joins[i].directory, joins[i].name);
        assert_string_equal(path, joins[i].path);
        free(path);
    }
}

static void test_path_types(void **state)
{
    (void)state;
    make_file("f", "");
    assert_int_equal(symlink("f", "l"), 0);
    assert_int_equal(symlink("none", "dangling"), 0);
    assert_int_equal(mkfifo("p", 0666), 0);
    assert_int_equal(lf_path_type_of("."), LF_PATH_DIRECTORY);
    assert_int_equal(lf_path_type_of("f"), LF_PATH_FILE);
    assert_int_equal(lf_path_type_of("l"), LF_PATH_FILE);
    assert_int_equal(lf_path_type_of("p"), LF_PATH_OTHER);
    assert_int_equal(lf_path_type_of("none"), LF_PATH_NONE);
    assert_int_equal(lf_path_type_of("dangling"), LF_PATH_NONE);
    check_list(".", "dangling f l p");
}

static void test_list(void **state)
{
    char **names;
    size_t n;

    (void)state;
    assert_int_equal(mkdir("d", 0777), 0);
    check_list("d", "");
    make_file("d/b", "");
    make_file("d/a", "");
    make_file("d/.hidden", "");
    make_file("d/\xc3\xa9", "");
    check_list("d", ".hidden a b \xc3\xa9");
    assert_int_equal(lf_directory_list("none", &names, &n, NULL), LORAFMT_NOT_FOUND);
    assert_null(names);
}

static void test_file_output(void **state)
{
    const mode_t old_mask = umask(027);
    lf_output *out;
    struct stat st;

    (void)state;
    assert_int_equal(lf_output_begin_file("out", false, &out, NULL), LORAFMT_OK);
    assert_string_equal(lf_output_path(out), "out");
    assert_int_equal(lf_file_write(lf_output_fd(out), "out", 0, "whole", 5, NULL), LORAFMT_OK);
    assert_int_equal(lf_path_type_of("out"), LF_PATH_NONE); // nothing is seen before the end
    assert_int_equal(lf_output_commit(out, NULL), LORAFMT_OK);
    umask(old_mask);
    check_list(".", "out");
    check_file("out", "whole");
    assert_int_equal(stat("out", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void test_file_output_is_not_replaced(void **state)
{
    lorafmt_error err;
    lf_output *out;

    (void)state;
    make_file("out", "old");
    assert_int_equal(lf_output_begin_file("out", false, &out, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    assert_string_equal(err.file, "out");
    assert_null(out);
    check_list(".", "out");
    assert_int_equal(lf_output_begin_file("late", false, &out, &err), LORAFMT_OK);
    make_file("late", "somebody else's");
    assert_int_equal(lf_output_commit(out, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    check_file("late", "somebody else's");
    check_list(".", "late out");
}

static void test_file_output_replaces(void **state)
{
    lf_output *out;
    struct stat st;

    (void)state;
    make_file("old", "old");
    assert_int_equal(symlink("old", "out"), 0);
    assert_int_equal(lf_output_begin_file("out", true, &out, NULL), LORAFMT_OK);
    assert_int_equal(lf_file_write(lf_output_fd(out), "out", 0, "new", 3, NULL), LORAFMT_OK);
    check_file("out", "old");
    assert_int_equal(lf_output_commit(out, NULL), LORAFMT_OK);
    check_file("out", "new");
    check_file("old", "old"); // the link was replaced, not what it led to
    assert_int_equal(lstat("out", &st), 0);
    assert_true(S_ISREG(st.st_mode));
    check_list(".", "old out");
}

static void test_abort(void **state)
{
    lf_output *out;
    int fd;

    (void)state;
    lf_output_abort(NULL);
    make_file("f", "old");
    assert_int_equal(lf_output_begin_file("f", true, &out, NULL), LORAFMT_OK);
    lf_output_abort(out);
    assert_int_equal(lf_output_begin_directory("d", false, &out, NULL), LORAFMT_OK);
    assert_int_equal(lf_output_create(out, "a", &fd, NULL), LORAFMT_OK);
    assert_int_equal(lf_output_close(out, "a", fd, LORAFMT_OK, NULL), LORAFMT_OK);
    lf_output_abort(out);
    check_list(".", "f");
    check_file("f", "old");
}

static void test_directory_output(void **state)
{
    const mode_t old_mask = umask(027);
    lorafmt_error err;
    lf_output *out;
    struct stat st;
    int fd, again;

    (void)state;
    assert_int_equal(lf_output_begin_directory("out//", false, &out, NULL), LORAFMT_OK);
    assert_string_equal(lf_output_path(out), "out");
    assert_int_equal(lf_output_create(out, "a", &fd, NULL), LORAFMT_OK);
    assert_int_equal(lf_file_write(fd, "out/a", 0, "text", 4, NULL), LORAFMT_OK);
    assert_int_equal(lf_output_create(out, "a", &again, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    assert_string_equal(err.file, "out/a");
    assert_int_equal(lf_output_close(out, "a", fd, LORAFMT_OK, NULL), LORAFMT_OK);
    assert_int_equal(lf_output_close(out, "a", -1, LORAFMT_OK, &err), LORAFMT_IO);
    assert_string_equal(err.file, "out/a");
    for (size_t i = 0; i < 5; i++) {
        static const char *const bad[] = {"", ".", "..", "../x", "d/x"};
        assert_int_equal(lf_output_create(out, bad[i], &fd, &err), LORAFMT_MISUSE);
        assert_int_equal(fd, -1);
    }
    assert_int_equal(lf_output_commit(out, NULL), LORAFMT_OK);
    umask(old_mask);
    check_list(".", "out");
    check_file("out/a", "text");
    assert_int_equal(stat("out", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
    assert_int_equal(stat("out/a", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

/* A directory within, as another writer leaves it, comes and goes with the output. */
static void test_directories_in_a_directory_output(void **state)
{
    for (int commits = 0; commits < 2; commits++) {
        lf_output *out, *inner;
        char *path;
        int fd;

        (void)state;
        assert_int_equal(lf_output_begin_directory("./out", false, &out, NULL), LORAFMT_OK);
        path = lf_output_member(out, "in");
        assert_non_null(path);
        assert_int_equal(lf_output_begin_directory(path, false, &inner, NULL), LORAFMT_OK);
        assert_int_equal(lf_output_create(inner, "a", &fd, NULL), LORAFMT_OK);
        assert_int_equal(lf_output_close(inner, "a", fd, LORAFMT_OK, NULL), LORAFMT_OK);
        assert_int_equal(lf_output_commit(inner, NULL), LORAFMT_OK);
        free(path);
        if (commits)
            assert_int_equal(lf_output_commit(out, NULL), LORAFMT_OK);
        else
            lf_output_abort(out);
        check_list(".", commits ? "out" : "");
    }
    check_list("out/in", "a");
}

static void test_directory_output_is_not_replaced(void **state)
{
    lorafmt_error err;
    lf_output *out;

    (void)state;
    assert_int_equal(mkdir("out", 0777), 0); // even an empty one, which rename() would take
    assert_int_equal(lf_output_begin_directory("out", false, &out, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    assert_int_equal(lf_output_begin_directory("late", false, &out, &err), LORAFMT_OK);
    assert_int_equal(mkdir("late", 0777), 0);
    assert_int_equal(lf_output_commit(out, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    check_list(".", "late out");
}

static void test_directory_output_replaces(void **state)
{
    lorafmt_error err;
    lf_output *out;
    int fd;

    (void)state;
    assert_int_equal(mkdir("out", 0777), 0);
    make_file("out/old", "");
    make_file("kept", "kept");
    assert_int_equal(symlink("../kept", "out/link"), 0);
    assert_int_equal(lf_output_begin_directory("out", true, &out, &err), LORAFMT_OK);
    assert_int_equal(lf_output_create(out, "new", &fd, NULL), LORAFMT_OK);
    assert_int_equal(lf_output_close(out, "new", fd, LORAFMT_OK, NULL), LORAFMT_OK);
    check_list("out", "link old");
    assert_int_equal(lf_output_commit(out, &err), LORAFMT_OK);
    check_list("out", "new");
    check_list(".", "kept out");
    check_file("kept", "kept");
}

/* A directory that holds a directory is a tree that somebody may have named by mistake. */
static void test_tree_is_not_replaced(void **state)
{
    lorafmt_error err;
    lf_output *out;

    (void)state;
    assert_int_equal(mkdir("out", 0777), 0);
    make_file("out/f", "");
    assert_int_equal(lf_output_begin_directory("out", true, &out, NULL), LORAFMT_OK);
    assert_int_equal(mkdir("out/sub", 0777), 0); // after begin had looked
    assert_int_equal(lf_output_commit(out, &err), LORAFMT_MISUSE);
    assert_non_null(strstr(err.text, "it holds \"sub\""));
    check_list(".", "out");
    check_list("out", "f sub");
    assert_int_equal(lf_output_begin_directory("out", true, &out, &err), LORAFMT_MISUSE);
    assert_non_null(strstr(err.text, "it holds \"sub\""));
    assert_string_equal(err.file, "out");
    check_list(".", "out");
}

typedef struct bad_target {
    const char *path;
    bool is_directory;
    lorafmt_status status;
    const char *says;
} bad_target;

static const bad_target bad_targets[] = {
    {"", true, LORAFMT_MISUSE, "must end in a name"},
    {"", false, LORAFMT_MISUSE, "must end in a name"},
    {"/", true, LORAFMT_MISUSE, "must end in a name"},
    {".", true, LORAFMT_MISUSE, "must end in a name"},
    {".", false, LORAFMT_MISUSE, "must end in a name"},
    {"./", true, LORAFMT_MISUSE, "must end in a name"},
    {"d/..", true, LORAFMT_MISUSE, "must end in a name"},
    {"new/", false, LORAFMT_MISUSE, "ends in a slash"},
    {"none/new", false, LORAFMT_NOT_FOUND, "cannot open the directory to write in"},
    {"f/new", true, LORAFMT_NOT_FOUND, "cannot open the directory to write in"},
    {"d", false, LORAFMT_MISUSE, "is no regular file"},
    {"p", false, LORAFMT_MISUSE, "is no regular file"},
    {"/dev/null", false, LORAFMT_MISUSE, "is no regular file"},
    {"link-to-d", false, LORAFMT_MISUSE, "is a link to a directory"},
    {"f", true, LORAFMT_MISUSE, "is no directory"},
    {"link-to-d", true, LORAFMT_MISUSE, "is no directory"},
};

static void test_bad_targets(void **state)
{
    (void)state;
    make_file("f", "");
    assert_int_equal(mkdir("d", 0777), 0);
    assert_int_equal(symlink("d", "link-to-d"), 0);
    assert_int_equal(mkfifo("p", 0666), 0);
    for (size_t i = 0; i < sizeof bad_targets / sizeof bad_targets[0]; i++) {
        const bad_target *t = &bad_targets[i];
        lorafmt_error err = {0};
        lf_output *out;
        const lorafmt_status st = t->is_directory ? lf_output_begin_directory(t->path, true, &out, &err)
                                                  : lf_output_begin_file(t->path, true, &out, &err);
        if (st != t->status || !strstr(err.text, t->says))
            fail_msg("%s: %s: %s", t->path, lorafmt_status_name(st), err.text);
        assert_null(out);
    }
    check_list(".", "d f link-to-d p");
}

static void test_long_name(void **state)
{
    char name[256];
    lf_output *out;

    (void)state;
    memset(name, 'n', 255);
    name[255] = '\0';
    assert_int_equal(lf_output_begin_file(name, false, &out, NULL), LORAFMT_OK);
    assert_int_equal(lf_output_commit(out, NULL), LORAFMT_OK);
    check_list(".", name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_open),
        IN_DIRECTORY(test_read_and_write),
        IN_DIRECTORY(test_full_disk),
        IN_DIRECTORY(test_load),
        IN_DIRECTORY(test_map),
        IN_DIRECTORY(test_copy),
        IN_DIRECTORY(test_copy_without_the_kernel),
        IN_DIRECTORY(test_reserve),
        IN_DIRECTORY(test_paths),
        IN_DIRECTORY(test_path_types),
        IN_DIRECTORY(test_list),
        IN_DIRECTORY(test_file_output),
        IN_DIRECTORY(test_file_output_is_not_replaced),
        IN_DIRECTORY(test_file_output_replaces),
        IN_DIRECTORY(test_abort),
        IN_DIRECTORY(test_directory_output),
        IN_DIRECTORY(test_directories_in_a_directory_output),
        IN_DIRECTORY(test_directory_output_is_not_replaced),
        IN_DIRECTORY(test_directory_output_replaces),
        IN_DIRECTORY(test_tree_is_not_replaced),
        IN_DIRECTORY(test_bad_targets),
        IN_DIRECTORY(test_long_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
