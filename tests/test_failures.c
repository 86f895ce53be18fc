/* SPDX-License-Identifier: MIT */
/*
 * A merge in a world that fails. The linker leads the library's calls for memory and to the system here (--wrap), where one
 * after the other fails, until a merge needs no more of them: whatever fails, the output is whole or absent, nothing else is
 * left behind, and nothing leaks. The same of a file that is changed where it is. Then the base is changed under a merge.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/io/io.h"
#include "lorafmt/generations.h"
#include "tests/adapters.h"
#include "tests/temporary_directory.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- calls that fail --- */

typedef enum call { NONE, MEMORY, SYSTEM } call;

/* What happens at call number `at` of a kind, counted from 1. */
static struct {
    call kind;
    atomic_uint n;
    unsigned at;
    bool for_ever; // from that call on
    bool die;      // instead: it is the last thing that the process does
    int error;
    atomic_bool happened;
    atomic_bool fatal; // it did to a call without which there is no good output
} plan;

/* The disk: what it says is free, what it really gives, and whether it can be asked to keep some. */
static uint64_t n_free = UINT64_MAX, quota = UINT64_MAX;
static bool cannot_reserve;

static bool fails_at_most(call kind, bool for_ever)
{
    unsigned n;

    if (kind != plan.kind)
        return false;
    n = ++plan.n;
    if (n < plan.at || (n > plan.at && !for_ever))
        return false;
    plan.happened = true;
    if (plan.die)
        raise(SIGKILL);
    errno = kind == MEMORY ? ENOMEM : plan.error;
    return true;
}

static bool fails(call kind)
{
    return fails_at_most(kind, plan.for_ever);
}

/* EIO from a call that nothing else can stand in for. */
static bool fails_fatally(void)
{
    const bool failed = fails(SYSTEM);

    if (failed && plan.error == EIO)
        plan.fatal = true;
    return failed;
}

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes

#define WRAP(kind, type, failure, name, parameters, arguments) WRAP_IF(fails(kind), type, failure, name, parameters, arguments)

#define WRAP_IF(fails, type, failure, name, parameters, arguments)                                                               \
    type __real_##name parameters;                                                                                               \
    type __wrap_##name parameters;                                                                                               \
    type __wrap_##name parameters                                                                                                \
    {                                                                                                                            \
        return (fails) ? (failure) : __real_##name arguments;                                                                    \
    }

WRAP(MEMORY, void *, NULL, malloc, (size_t size), (size))
WRAP(MEMORY, void *, NULL, calloc, (size_t n, size_t size), (n, size))
WRAP(MEMORY, void *, NULL, realloc, (void *old, size_t size), (old, size))
WRAP(MEMORY, char *, NULL, strdup, (const char *text), (text))
WRAP(MEMORY, char *, NULL, strndup, (const char *text, size_t size), (text, size))

WRAP_IF(fails_fatally(), ssize_t, -1, pread64, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
WRAP_IF(fails_fatally(), ssize_t, -1, pwrite64, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
WRAP(SYSTEM, ssize_t, -1, copy_file_range, (int in, off_t *from, int out, off_t *to, size_t size, unsigned flags),
     (in, from, out, to, size, flags))
WRAP_IF(fails_fatally(), int, -1, fstat64, (int fd, struct stat *st), (fd, st))
WRAP(SYSTEM, int, -1, fstatat64, (int fd, const char *path, struct stat *st, int flags), (fd, path, st, flags))
WRAP(SYSTEM, int, -1, stat64, (const char *path, struct stat *st), (path, st))
WRAP_IF(fails_fatally(), int, -1, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRAP(SYSTEM, int, -1, linkat, (int d, const char *from, int e, const char *to, int flags), (d, from, e, to, flags))
WRAP_IF(fails_fatally(), int, -1, renameat, (int d, const char *from, int e, const char *to), (d, from, e, to))
WRAP_IF(fails_fatally(), int, -1, renameat2, (int d, const char *from, int e, const char *to, unsigned flags),
        (d, from, e, to, flags))
WRAP(SYSTEM, void *, MAP_FAILED, mmap64, (void *at, size_t size, int access, int flags, int fd, off_t from),
     (at, size, access, flags, fd, from))

WRAP(SYSTEM, int, -1, flock, (int fd, int how), (fd, how))
WRAP(SYSTEM, int, -1, ftruncate64, (int fd, off_t size), (fd, size))
WRAP(SYSTEM, int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(SYSTEM, char *, NULL, realpath, (const char *path, char *resolved), (path, resolved))

/* Without looking into a directory none can be removed again: this fails once. */
WRAP_IF(fails_at_most(SYSTEM, false), DIR *, NULL, opendir, (const char *path), (path))
WRAP_IF(fails_at_most(SYSTEM, false), DIR *, NULL, fdopendir, (int fd), (fd))
WRAP_IF(fails_at_most(SYSTEM, false), struct dirent *, NULL, readdir64, (DIR * dir), (dir))

/* The test need not wait for the disk. */
static int pretend(int fd)
{
    (void)fd;
    return 0;
}
#define __real_fsync pretend
WRAP_IF(fails_fatally(), int, -1, fsync, (int fd), (fd))

static int pretend_range(int fd, off_t at, off_t size, unsigned flags)
{
    (void)fd, (void)at, (void)size, (void)flags;
    return 0;
}
#define __real_sync_file_range pretend_range
WRAP_IF(fails_fatally(), int, -1, sync_file_range, (int fd, off_t at, off_t size, unsigned flags), (fd, at, size, flags))

/* Closing fails when something written before could not be: the descriptor is gone all the same. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    const bool failed = fails(SYSTEM);
    const int error = errno, result = __real_close(fd);

    errno = failed ? error : errno;
    return failed ? -1 : result;
}

/* What cannot be removed is left behind, which is no failure of the merge: this only counts as a moment to die at. */
int __real_unlinkat(int fd, const char *path, int flags);
int __wrap_unlinkat(int fd, const char *path, int flags);
int __wrap_unlinkat(int fd, const char *path, int flags)
{
    if (plan.die)
        fails(SYSTEM);
    return __real_unlinkat(fd, path, flags);
}

int __real_fallocate64(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t size)
{
    if (fails_fatally())
        return -1;
    errno = cannot_reserve ? EOPNOTSUPP : ENOSPC;
    if (cannot_reserve || (uint64_t)size > quota)
        return -1;
    quota -= quota == UINT64_MAX ? 0 : (uint64_t)size;
    return __real_fallocate64(fd, mode, at, size);
}

int __real_fstatvfs64(int fd, struct statvfs *st);
int __wrap_fstatvfs64(int fd, struct statvfs *st);
int __wrap_fstatvfs64(int fd, struct statvfs *st)
{
    const int result = fails(SYSTEM) ? -1 : __real_fstatvfs64(fd, st);

    if (result == 0 && n_free / st->f_frsize < st->f_bfree)
        st->f_bfree = n_free / st->f_frsize;
    return result;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    return fails(SYSTEM) ? -1 : __real_open64(path, flags);
}

int __real_openat64(int fd, const char *path, int flags, ...);
int __wrap_openat64(int fd, const char *path, int flags, ...);
int __wrap_openat64(int fd, const char *path, int flags, ...)
{
    return fails_at_most(SYSTEM, plan.for_ever && !(flags & O_DIRECTORY)) ? -1 : __real_openat64(fd, path, flags, 0666);
}

// NOLINTEND(bugprone-reserved-identifier)

static void arm(call kind, unsigned at, int error, bool for_ever)
{
    plan.kind = kind;
    plan.n = 0;
    plan.at = at;
    plan.error = error;
    plan.for_ever = for_ever;
    plan.happened = plan.fatal = false;
}

static void disarm(void)
{
    plan.kind = NONE;
}

/* --- a model in one file or in shards, and a merge of it --- */

typedef struct setting {
    const char *base, *adapter;
    bool directory, force;
    unsigned n_threads;
} setting;

static const setting settings[] = {
    {"base.safetensors", "plain.lora", false, false, 1},
    {"base.safetensors", "plain.lora", false, true, 1},
    {"base", "untying.lora", true, false, 1},
    {"base", "untying.lora", true, true, 1},
    {"base", "untying.lora", true, true, 3},
};

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors file of small F32 tensors [4, 3]. */
static void write_tensors(const char *path, const char *const *name, size_t n_names)
{
    char header[512];
    size_t n = 0;
    uint64_t size;
    FILE *f = fopen(path, "wb");

    for (size_t i = 0; i < n_names; i++)
        n += (size_t)snprintf(header + n, sizeof header - n,
                              "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[%zu,%zu]}", i ? ',' : '{', name[i],
                              48 * i, 48 * (i + 1));
    size = n + (size_t)snprintf(header + n, sizeof header - n, "}");
    assert_non_null(f);
    assert_int_equal(fwrite(&size, 1, 8, f), 8);
    assert_int_equal(fwrite(header, 1, size, f), size);
    for (size_t i = 0; i < n_names; i++)
        for (int k = 0; k < 12; k++) {
            const float x = (float)(k + 1) / (float)(i + 2);
            assert_int_equal(fwrite(&x, 1, sizeof x, f), sizeof x);
        }
    assert_int_equal(fclose(f), 0);
}

#define SHARD_1 "model-00001-of-00002.safetensors"
#define SHARD_2 "model-00002-of-00002.safetensors"

static const char *const tensors[] = {"n.weight", "p.weight", "d.weight", "embed_tokens.weight"};

static void write_base_file(void)
{
    write_tensors("base.safetensors", tensors, 3);
}

/* p has a plain site, d a DoRA site, n none; in the shards' adapter a head comes untied from the embedding. */
static void write_inputs(void)
{
    static const float x[12] = {1, -2, 3, 0.5f, 4, 5, -6, 7, 8, 9, 10, 0.25f};
    lorafmt_factor d[3], head[1], p[3];
    lorafmt_site sites[3] = {test_low_rank("d.weight", LORAFMT_KIND_LINEAR, 1, 3, 4, x, x, d),
                             test_low_rank("p.weight", LORAFMT_KIND_LINEAR, 1, 3, 4, x, x, p),
                             test_whole("lm_head.weight", LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 4, 3, x), head)};
    const lorafmt_site untying_sites[3] = {sites[0], sites[2], sites[1]};
    const lorafmt_adapter plain = test_adapter("x", sites, 2), untying = test_adapter("x", untying_sites, 3);
    const lorafmt_adapter *adapters[] = {&plain, &untying};

    d[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 4, 0, x)};
    sites[0].n_factors = 3;
    assert_int_equal(lorafmt_pack(&adapters[0], 1, "plain.lora", NULL, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_pack(&adapters[1], 1, "untying.lora", NULL, NULL), LORAFMT_OK);
    write_base_file();
    assert_int_equal(mkdir("base", 0777), 0);
    write_tensors("base/" SHARD_1, tensors, 2);
    write_tensors("base/" SHARD_2, tensors + 2, 2);
    write_file("base/model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":192},\"weight_map\":{\"n.weight\":\"" SHARD_1 "\",\"p.weight\":\"" SHARD_1
               "\",\"d.weight\":\"" SHARD_2 "\",\"embed_tokens.weight\":\"" SHARD_2 "\"}}");
    write_file("base/config.json", "{\"tie_word_embeddings\": true, \"vocab_size\": 4}");
    write_file("base/tokenizer.json", "{}");
}

static lorafmt_status merge_model(lorafmt_model *model, const setting *s, const char *out, lorafmt_progress progress,
                                  void *progress_ctx, lorafmt_error *err)
{
    const lorafmt_merge_options options = {.struct_size = sizeof options,
                                           .n_threads = s->n_threads,
                                           .force = s->force,
                                           .progress = progress,
                                           .progress_ctx = progress_ctx};
    lorafmt_stack_entry entry = {.weight = 1};
    lorafmt_merge_result result;
    lorafmt_source *source;
    lorafmt_view *view = NULL;
    lorafmt_status st = lorafmt_source_open(s->adapter, NULL, &source, err);

    if (!st)
        entry.adapter = lorafmt_source_adapter(source, 0);
    if (!st)
        st = lorafmt_bind(lorafmt_model_base(model), &entry, 1, NULL, &view, err);
    if (!st)
        st = lorafmt_merge(model, view, out, &options, NULL, NULL, &result, err);
    lorafmt_view_free(view);
    lorafmt_source_free(source);
    return st;
}

static lorafmt_status merge(const setting *s, const char *out, lorafmt_progress progress, lorafmt_error *err)
{
    lorafmt_model *model;
    lorafmt_status st = lorafmt_model_open(s->base, &model, err);

    if (!st)
        st = merge_model(model, s, out, progress, NULL, err);
    lorafmt_model_free(model);
    return st;
}

/* --- what came of it --- */

static bool same_file(const char *left, const char *right)
{
    char *a, *b;
    size_t n_a, n_b;
    bool same;

    if (lf_file_load(left, 1 << 20, &a, &n_a, NULL) != LORAFMT_OK)
        return false;
    assert_int_equal(lf_file_load(right, 1 << 20, &b, &n_b, NULL), LORAFMT_OK);
    same = n_a == n_b && memcmp(a, b, n_a) == 0;
    free(a);
    free(b);
    return same;
}

static bool same_directory(const char *left, const char *right)
{
    char **a, **b;
    size_t n_a, n_b;
    bool same;

    if (lf_directory_list(left, &a, &n_a, NULL) != LORAFMT_OK)
        return false;
    assert_int_equal(lf_directory_list(right, &b, &n_b, NULL), LORAFMT_OK);
    same = n_a == n_b;
    for (size_t i = 0; same && i < n_a; i++) {
        char *x = lf_path_join(left, a[i]), *y = lf_path_join(right, b[i]);
        same = strcmp(a[i], b[i]) == 0 && same_file(x, y);
        free(x);
        free(y);
    }
    lf_names_free(a, n_a);
    lf_names_free(b, n_b);
    return same;
}

static bool same(const setting *s, const char *left, const char *right)
{
    return s->directory ? same_directory(left, right) : same_file(left, right);
}

static const char *good_path(const setting *s)
{
    return s->directory ? "good" : "good.safetensors";
}

static unsigned n_descriptors(void)
{
    char **names;
    size_t n;

    assert_int_equal(lf_directory_list("/proc/self/fd", &names, &n, NULL), LORAFMT_OK);
    lf_names_free(names, n);
    return (unsigned)n;
}

/* Nothing but the old output, if the setting has one, in a new directory `work`. */
static void begin_work(const setting *s)
{
    struct stat st;

    if (stat("work", &st) == 0)
        assert_int_equal(nftw("work", remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(mkdir("work", 0777), 0);
    if (s->force && s->directory)
        assert_int_equal(mkdir("work/out", 0777), 0);
    if (s->force)
        write_file(s->directory ? "work/out/file" : "work/out", "old");
}

/* The output is new, or as it was; true when new. What else is there are at most n_temporary of our temporary names. */
static bool check_work(const setting *s, size_t n_temporary)
{
    char **names;
    size_t n, n_found = 0;
    const bool is_new = same(s, "work/out", good_path(s));

    assert_int_equal(lf_directory_list("work", &names, &n, NULL), LORAFMT_OK);
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "out") == 0)
            n_found++;
        else if (strncmp(names[i], ".out.lorapack-", 14) != 0 || n_temporary-- == 0)
            fail_msg("%s: at call %u, error %d: %s is left behind", s->base, plan.at, plan.error, names[i]);
    lf_names_free(names, n);
    if (!is_new && (n_found != s->force || (s->force && !same_file(s->directory ? "work/out/file" : "work/out", "old"))))
        fail_msg("%s: at call %u, error %d: the output is %s", s->base, plan.at, plan.error, n_found ? "not whole" : "gone");
    return is_new;
}

/* --- tests --- */

static void *folder;

static int setup(void **state)
{
    lorafmt_error err;

    (void)state;
    if (enter_directory(&folder) != 0)
        return -1;
    write_inputs();
    write_file("old", "old");
    for (size_t i = 0; i < 3; i += 2)
        if (merge(&settings[i], good_path(&settings[i]), NULL, &err) != LORAFMT_OK)
            fail_msg("%s: %s", err.field, err.text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return leave_directory(&folder);
}

/* One failure; false when the merge is over before it comes. */
static bool check_failure(const setting *s, call kind, unsigned at, int error, bool for_ever)
{
    const unsigned n_before = n_descriptors();
    lorafmt_error err = {0};
    lorafmt_status st;
    bool is_new;

    begin_work(s);
    arm(kind, at, error, for_ever);
    st = merge(s, "work/out", NULL, &err);
    disarm();
    is_new = check_work(s, strstr(err.text, "its old content is still there") != NULL);
    assert_int_equal(n_descriptors(), n_before);
    if (st != LORAFMT_OK && (st != err.status || !err.text[0]))
        fail_msg("call %u: status %s, but it says %s: %s", at, lorafmt_status_name(st), lorafmt_status_name(err.status),
                 err.text);
    if (st == LORAFMT_OK ? !is_new : is_new && strncmp(err.text, "is written, but", 15) != 0)
        fail_msg("call %u: %s: %s, but the output is %s", at, lorafmt_status_name(st), err.text, is_new ? "new" : "not");
    if (st == LORAFMT_OK && plan.fatal)
        fail_msg("call %u: its failure goes unsaid", at);
    if (kind == MEMORY && st != LORAFMT_OK && st != LORAFMT_NO_MEMORY)
        fail_msg("call %u: %s: %s", at, lorafmt_status_name(st), err.text);
    return plan.happened;
}

/* cJSON is not linked here, so that its calls must be led here another way. */
static void *json_malloc(size_t size)
{
    return fails(MEMORY) ? NULL : __real_malloc(size);
}

static void test_memory(void **state)
{
    cJSON_Hooks hooks = {json_malloc, free};

    (void)state;
    cJSON_InitHooks(&hooks);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        for (unsigned for_ever = 0; for_ever < 2; for_ever++)
            for (unsigned at = 1; check_failure(&settings[i], MEMORY, at, 0, for_ever); at++)
                ;
    cJSON_InitHooks(NULL);
}

/* EINTR: again, if it is once. EINVAL: unsupported. ENOSPC, EIO: the end, of this way or of all. */
static void test_system(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EINVAL, EINTR};

    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++)
            for (unsigned for_ever = 0; for_ever < (errors[e] == EINTR ? 1 : 2); for_ever++)
                for (unsigned at = 1; check_failure(&settings[i], SYSTEM, at, errors[e], for_ever); at++)
                    ;
}

/* A process that is killed leaves the output whole or as it was, and of its own at most one temporary. */
static void test_kill(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        int how = -1;
        for (unsigned at = 1; how != 0; at++) {
            pid_t child;
            begin_work(&settings[i]);
            child = fork();
            if (child == 0) {
                plan.die = true;
                arm(SYSTEM, at, 0, false);
                _exit(merge(&settings[i], "work/out", NULL, NULL) == LORAFMT_OK ? 0 : 1);
            }
            assert_int_equal(waitpid(child, &how, 0), child);
            assert_true(how == 0 || (WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL));
            assert_true(check_work(&settings[i], how ? 1 : 0) || how);
        }
    }
}

static unsigned n_asked;

static bool count(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    n_asked++;
    return true;
}

/* A disk that has no room for the last shard is found before the first one is begun. */
static void test_too_little_space(void **state)
{
    const setting *s = &settings[2];
    lorafmt_error err = {0};

    (void)state;
    cannot_reserve = true;
    n_free = 500; // any one shard has less
    begin_work(s);
    assert_int_equal(merge(s, "work/out", count, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, ENOSPC);
    assert_string_equal(err.file, "work/out");
    assert_non_null(strstr(err.text, "bytes are needed"));
    assert_false(check_work(s, 0));
    cannot_reserve = false;
    n_free = UINT64_MAX;
    quota = 500;
    assert_int_equal(merge(s, "work/out", count, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, ENOSPC);
    assert_string_equal(err.file, "work/out/" SHARD_2);
    assert_false(check_work(s, 0));
    quota = UINT64_MAX;
    assert_int_equal(n_asked, 0);
}

static bool remove_work(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    nftw("work", remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return true;
}

/* Somebody removes the directory that is written in, with all that is in it. */
static void test_an_output_that_is_removed(void **state)
{
    lorafmt_error err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        begin_work(&settings[i]);
        assert_int_equal(merge(&settings[i], "work/out", remove_work, &err), LORAFMT_NOT_FOUND);
        assert_int_equal(strncmp(err.file, "work/out", 8), 0);
    }
}

/* --- a file that lives --- */

static const char living[] = "work/living.lora";

static void copy_file(const char *from, const char *to)
{
    size_t size;
    char *bytes;
    FILE *f;

    assert_int_equal(lf_file_load(from, 1 << 20, &bytes, &size, NULL), LORAFMT_OK);
    assert_non_null(f = fopen(to, "wb"));
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    free(bytes);
}

static lorafmt_status add_one(const char *name, lorafmt_error *err)
{
    static const float x[12] = {1, 2, 3};
    lorafmt_factor f[2];
    const lorafmt_site site = test_low_rank("q.weight", LORAFMT_KIND_LINEAR, 1, 3, 4, x, x, f);
    const lorafmt_adapter adapter = test_adapter(name, &site, 1), *adapters[] = {&adapter};
    lorafmt_append_result result;

    return lorafmt_add(living, adapters, 1, NULL, &result, err);
}

static lorafmt_status add_z(lorafmt_error *err)
{
    return add_one("z", err);
}

static lorafmt_status remove_x(lorafmt_error *err)
{
    static const char *const name = "x";
    lorafmt_append_result result;

    return lorafmt_remove(living, &name, 1, &result, err);
}

static lorafmt_status compact(lorafmt_error *err)
{
    return lorafmt_compact(living, NULL, NULL, NULL, err);
}

/* The generation that a file which is whole has. */
static uint64_t check_living(void)
{
    lorafmt_container_info info;
    lorafmt_verify_result result;
    lorafmt_source *source;

    assert_int_equal(lorafmt_source_open(living, NULL, &source, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_verify(source, &result, NULL), LORAFMT_OK);
    assert_true(lorafmt_source_container(source, &info));
    lorafmt_source_free(source);
    return info.generation;
}

/* The file is whole, of the generation before; of the next one, when it says so. */
static bool check_change_of_a_file(lorafmt_status (*change)(lorafmt_error *err), uint64_t next, unsigned at, int error,
                                   bool for_ever)
{
    const unsigned n_before = n_descriptors();
    lorafmt_error err = {0};
    lorafmt_status st;
    uint64_t generation;
    bool says_so;

    copy_file("living.lora", living);
    arm(SYSTEM, at, error, for_ever);
    st = change(&err);
    disarm();
    assert_int_equal(n_descriptors(), n_before);
    assert_int_equal(st, err.status);
    generation = check_living();
    says_so = strstr(err.text, "is written, but") || strstr(err.text, "may be written, but");
    if (st == LORAFMT_OK ? generation != next : generation != 2 && !says_so)
        fail_msg("call %u, error %d: %s: %s, but it is generation %d", at, error, lorafmt_status_name(st), err.text,
                 (int)generation);
    if (st != LORAFMT_OK && !err.text[0])
        fail_msg("call %u, error %d: no reason", at, error);
    return plan.happened;
}

static void test_a_file_that_lives(void **state)
{
    static const struct {
        lorafmt_status (*change)(lorafmt_error *err);
        uint64_t next;
    } changes[] = {{add_z, 3}, {remove_x, 3}, {compact, 1}};
    static const int errors[] = {EIO, ENOSPC, EINTR};

    (void)state;
    begin_work(&settings[0]);
    copy_file("plain.lora", living);
    assert_int_equal(add_one("y", NULL), LORAFMT_OK);
    copy_file(living, "living.lora");
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++)
            for (unsigned for_ever = 0; for_ever < (errors[e] == EINTR ? 1 : 2); for_ever++)
                for (unsigned at = 1; check_change_of_a_file(changes[i].change, changes[i].next, at, errors[e], for_ever); at++)
                    ;
}

/* --- a base that changes --- */

static uint64_t data_offset; // of base.safetensors, whose tensors have 48 bytes each: n, p, d

static void cut_in_n(void)
{
    assert_int_equal(truncate("base.safetensors", (off_t)data_offset + 20), 0);
}

static void cut_in_d(void)
{
    assert_int_equal(truncate("base.safetensors", (off_t)data_offset + 100), 0);
}

static void grow(void)
{
    assert_int_equal(truncate("base.safetensors", (off_t)data_offset + 200), 0);
}

static void overwrite(void)
{
    const struct timespec times[2] = {{1, 2}, {3, 4}};
    FILE *f = fopen("base.safetensors", "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    assert_int_equal(fputc(1, f), 1);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, "base.safetensors", times, 0), 0); // a clock tick later, without waiting for one
}

static void replace(void)
{
    write_file("other", "not a model");
    assert_int_equal(rename("other", "base.safetensors"), 0);
}

typedef struct base_change {
    void (*change)(void);
    lorafmt_status status;
    uint64_t early, late; // offset in the data when it changes before a merge, where d is read first, or in the middle
    const char *says;
} base_change;

static const base_change changes[] = {
    {cut_in_n, LORAFMT_CORRUPT, 96, 20, "truncated while being read"},
    {cut_in_d, LORAFMT_CORRUPT, 100, 100, "truncated while being read"},
    {grow, LORAFMT_CORRUPT, 144, 144, "it had"},
    {overwrite, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, LORAFMT_NO_OFFSET, "written to while being read"},
    {replace, LORAFMT_OK, 0, 0, ""}, // what was opened is still there, and is what is merged
};

/* The change comes with the first question: d is prepared, and nothing is read to be written. */
static bool change_once(void *ctx, uint64_t done, uint64_t total)
{
    static void (*none)(void);
    void (**change)(void) = ctx;

    (void)done, (void)total;
    if (*change)
        (*change)();
    *change = none;
    return true;
}

static void check_change(const base_change *c, bool late)
{
    const setting *s = &settings[0];
    const uint64_t offset = late ? c->late : c->early;
    void (*change)(void) = c->change;
    lorafmt_error err = {0};
    lorafmt_model *model;
    lorafmt_status st;

    begin_work(s);
    assert_int_equal(lorafmt_model_open(s->base, &model, NULL), LORAFMT_OK);
    if (!late)
        change();
    st = merge_model(model, s, "work/out", late ? change_once : NULL, &change, &err);
    lorafmt_model_free(model);
    if (st != c->status)
        fail_msg("%s: %s", lorafmt_status_name(st), err.text);
    assert_int_equal(check_work(s, 0), st == LORAFMT_OK);
    if (st != LORAFMT_OK) {
        assert_string_equal(err.file, s->base);
        assert_int_equal(err.offset, offset == LORAFMT_NO_OFFSET ? offset : data_offset + offset);
        assert_non_null(strstr(err.text, c->says));
    }
}

static void test_a_base_that_changes(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(stat("base.safetensors", &st), 0);
    data_offset = (uint64_t)st.st_size - 144;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        for (int late = 0; late < 2; late++) {
            check_change(&changes[i], late);
            write_base_file();
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_system),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_too_little_space),
        cmocka_unit_test(test_an_output_that_is_removed),
        cmocka_unit_test(test_a_file_that_lives),
        cmocka_unit_test(test_a_base_that_changes),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
