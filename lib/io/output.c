/* SPDX-License-Identifier: MIT */
#include "lib/io/io.h"

#include "format/base/arith.h"
#include "format/base/error.h"
#include "lib/io/rename.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define MAX_TEMP_ATTEMPTS 100

/* So much of the target's name that the temporary one, with its suffix, is no longer than NAME_MAX. */
#define MAX_NAME_IN_TEMP 200

struct lf_output {
    char *path;              /* the target, without trailing slashes */
    const char *name;        /* its last component, within path */
    char temp[NAME_MAX + 1]; /* what is written, in the same directory; empty when there is nothing to remove */
    int parent;              /* that directory, or -1 */
    int fd;                  /* the temporary file or directory, or -1 */
    DIR *members;            /* the temporary directory, fd being its, so that removing it takes no memory and no descriptor */
    bool is_directory;
    bool is_private; /* a file that nobody else may read */
    bool force;
};

static lorafmt_status misuse(const lf_output *o, lorafmt_error *err, const char *why)
{
    lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "%s", why);
    lf_error_set_file(err, o->path);
    return LORAFMT_MISUSE;
}

static DIR *open_directory(int parent, const char *name)
{
    const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const int e = errno;

    if (fd >= 0 && !dir)
        close(fd);
    errno = e;
    return dir;
}

/* The next entry but "." and ".."; NULL at the end, with errno for a failure. */
static const struct dirent *next_entry(DIR *dir)
{
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry;
}

int lf_directory_remove(int parent, const char *name)
{
    DIR *dir = open_directory(parent, name);

    if (!dir)
        return errno;
    for (const struct dirent *entry; (entry = next_entry(dir));)
        unlinkat(dirfd(dir), entry->d_name, 0); // what stays makes the last step fail
    closedir(dir);
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 ? 0 : errno;
}

/* Remove what this output wrote itself: files, and directories of files. */
static void remove_members(const lf_output *o)
{
    rewinddir(o->members);
    for (const struct dirent *entry; (entry = next_entry(o->members));)
        if (unlinkat(o->fd, entry->d_name, 0) != 0)
            lf_directory_remove(o->fd, entry->d_name);
    unlinkat(o->parent, o->temp, AT_REMOVEDIR);
}

/* path and name; a target that has no name of its own cannot be renamed to. */
static lorafmt_status set_path(lf_output *o, const char *path, lorafmt_error *err)
{
    size_t n = strlen(path);
    const char *slash;

    o->path = strdup(path);
    if (!o->path)
        return lf_no_memory(err);
    if (n && path[n - 1] == '/' && !o->is_directory)
        return misuse(o, err, "ends in a slash, must name a file");
    while (n && o->path[n - 1] == '/')
        o->path[--n] = '\0';
    slash = strrchr(o->path, '/');
    o->name = slash ? slash + 1 : o->path;
    if (!*o->name || strcmp(o->name, ".") == 0 || strcmp(o->name, "..") == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "\"%.300s\" cannot be an output, must end in a name", path);
    return LORAFMT_OK;
}

static lorafmt_status open_parent(lf_output *o, lorafmt_error *err)
{
    const size_t n = (size_t)(o->name - o->path);
    char *directory = n ? strndup(o->path, n) : strdup(".");

    if (!directory)
        return lf_no_memory(err);
    o->parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    return o->parent < 0 ? lf_fail_os(err, errno, o->path, "cannot open the directory to write in") : LORAFMT_OK;
}

/* A directory that may be replaced holds nothing but files and links, so that a mistyped path never deletes a tree. */
static lorafmt_status check_flat(const lf_output *o, lorafmt_error *err)
{
    DIR *dir = open_directory(o->parent, o->name);
    lorafmt_status status = LORAFMT_OK;

    if (!dir)
        return lf_fail_os(err, errno, o->path, "cannot open the directory to replace");
    for (const struct dirent *entry; status == LORAFMT_OK && (entry = next_entry(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)))
            continue;
        status = lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                         "will not be replaced: it holds \"%s\", and only a directory of nothing but files is", entry->d_name);
        lf_error_set_file(err, o->path);
    }
    if (!status && errno)
        status = lf_fail_os(err, errno, o->path, "reading the directory to replace");
    closedir(dir);
    return status;
}

/* What is at the target, if anything, must be something that may be replaced. */
static lorafmt_status check_target(const lf_output *o, bool *exists, lorafmt_error *err)
{
    struct stat st, behind;

    *exists = fstatat(o->parent, o->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!*exists)
        return errno == ENOENT ? LORAFMT_OK : lf_fail_os(err, errno, o->path, "cannot look at the target");
    if (!o->force)
        return lf_fail_os(err, EEXIST, o->path, "will not be replaced unless forced");
    if (o->is_directory)
        return S_ISDIR(st.st_mode) ? check_flat(o, err) : misuse(o, err, "is no directory, and is not replaced by one");
    if (S_ISLNK(st.st_mode) && fstatat(o->parent, o->name, &behind, 0) == 0 && S_ISDIR(behind.st_mode))
        return misuse(o, err, "is a link to a directory, and is not replaced by a file");
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return misuse(o, err, "is no regular file, and is not replaced by one");
    return LORAFMT_OK;
}

/* Six letters and digits that differ from call to call; exclusive creation does the rest. */
static void make_temp_name(lf_output *o, unsigned attempt)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    struct timespec now;
    char suffix[7] = "";
    uint64_t x;

    clock_gettime(CLOCK_MONOTONIC, &now);
    x = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + (uint64_t)getpid() * 1000003u + attempt;
    for (int i = 0; i < 6; i++, x /= 36)
        suffix[i] = digits[x % 36];
    snprintf(o->temp, sizeof o->temp, ".%.*s.lorapack-%s", MAX_NAME_IN_TEMP, o->name, suffix);
}

/* 0 or an errno. The other modes leave what may be done with the output to the umask. */
static int make_temp(lf_output *o)
{
    int e;

    if (!o->is_directory) {
        o->fd = openat(o->parent, o->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, o->is_private ? 0600 : 0666);
        return o->fd >= 0 ? 0 : errno;
    }
    if (mkdirat(o->parent, o->temp, 0777) != 0)
        return errno;
    o->members = open_directory(o->parent, o->temp);
    if (!o->members) {
        e = errno;
        unlinkat(o->parent, o->temp, AT_REMOVEDIR);
        return e;
    }
    o->fd = dirfd(o->members);
    return 0;
}

static lorafmt_status create_temp(lf_output *o, lorafmt_error *err)
{
    int e = EEXIST;

    for (unsigned i = 0; i < MAX_TEMP_ATTEMPTS && e == EEXIST; i++) {
        make_temp_name(o, i);
        e = make_temp(o);
    }
    if (e) {
        o->temp[0] = '\0';
        return lf_fail_os(err, e, o->path, "cannot create a temporary %s beside it", o->is_directory ? "directory" : "file");
    }
    return LORAFMT_OK;
}

static lorafmt_status begin(const char *path, const lf_output *how, lf_output **out, lorafmt_error *err)
{
    lf_output *o = calloc(1, sizeof *o);
    lorafmt_status st;
    bool exists;

    *out = NULL;
    if (!o)
        return lf_no_memory(err);
    *o = *how;
    o->parent = o->fd = -1;
    if ((st = set_path(o, path, err)) || (st = open_parent(o, err)) || (st = check_target(o, &exists, err)) ||
        (st = create_temp(o, err))) {
        lf_output_abort(o);
        return st;
    }
    *out = o;
    return LORAFMT_OK;
}

lorafmt_status lf_output_begin_file(const char *path, bool force, lf_output **out, lorafmt_error *err)
{
    return begin(path, &(lf_output){.force = force}, out, err);
}

lorafmt_status lf_output_begin_private_file(const char *path, lf_output **out, lorafmt_error *err)
{
    return begin(path, &(lf_output){.is_private = true}, out, err);
}

lorafmt_status lf_output_begin_directory(const char *path, bool force, lf_output **out, lorafmt_error *err)
{
    return begin(path, &(lf_output){.is_directory = true, .force = force}, out, err);
}

int lf_output_fd(const lf_output *output)
{
    return output->fd;
}

const char *lf_output_path(const lf_output *output)
{
    return output->path;
}

char *lf_output_member(const lf_output *output, const char *name)
{
    const int n = (int)(output->name - output->path);
    const size_t size = (size_t)n + strlen(output->temp) + strlen(name) + 2;
    char *path = malloc(size);

    if (path)
        snprintf(path, size, "%.*s%s/%s", n, output->path, output->temp, name);
    return path;
}

static lorafmt_status fail_member(const lf_output *o, const char *name, int e, const char *what, lorafmt_error *err)
{
    char path[sizeof err->file];

    snprintf(path, sizeof path, "%s/%s", o->path, name);
    return lf_fail_os(err, e, path, "%s", what);
}

lorafmt_status lf_output_create(lf_output *output, const char *name, int *fd, lorafmt_error *err)
{
    *fd = -1;
    if (!output->is_directory || !*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, name, "must be a plain name in a directory");
    *fd = openat(output->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return *fd < 0 ? fail_member(output, name, errno, "cannot create", err) : LORAFMT_OK;
}

/* Who writes a member knows its name; whoever reads the message needs to know where that is. */
static lorafmt_status place_member(const lf_output *o, const char *name, lorafmt_status so_far, lorafmt_error *err)
{
    if (so_far && err && strcmp(err->file, name) == 0)
        snprintf(err->file, sizeof err->file, "%s/%s", o->path, name);
    return so_far;
}

lorafmt_status lf_output_close(lf_output *output, const char *name, int fd, lorafmt_status so_far, lorafmt_error *err)
{
    const int e = so_far || fsync(fd) == 0 ? 0 : errno;

    if (close(fd) != 0 && !so_far && !e)
        return fail_member(output, name, errno, "closing", err);
    return e ? fail_member(output, name, e, "syncing to disk", err) : place_member(output, name, so_far, err);
}

lorafmt_status lf_output_reserve(lf_output *output, const char *name, uint64_t size, lorafmt_error *err)
{
    lorafmt_status st;
    int fd;

    LF_TRY(lf_output_create(output, name, &fd, err));
    st = place_member(output, name, lf_file_reserve(fd, name, size, err), err);
    close(fd);
    return st;
}

lorafmt_status lf_output_open_reserved(lf_output *output, const char *name, int *fd, lorafmt_error *err)
{
    *fd = openat(output->fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return *fd < 0 ? fail_member(output, name, errno, "cannot open again", err) : LORAFMT_OK;
}

/* Blocks kept for root count as free: who may use them is not known here, and this must not refuse what would fit. */
lorafmt_status lf_output_check_space(const lf_output *output, uint64_t size, lorafmt_error *err)
{
    struct statvfs st;
    uint64_t n_free;

    if (fstatvfs(output->parent, &st) != 0 || st.f_blocks == 0) // some file systems do not count
        return LORAFMT_OK;
    if (!lf_mul_u64(st.f_bfree, st.f_frsize, &n_free) || size <= n_free)
        return LORAFMT_OK;
    return lf_fail_os(err, ENOSPC, output->path, "%" PRIu64 " bytes are needed, %" PRIu64 " are free", size, n_free);
}

lorafmt_status lf_output_put(lf_output *output, const char *name, const void *bytes, size_t size, lorafmt_error *err)
{
    int fd;

    LF_TRY(lf_output_create(output, name, &fd, err));
    return lf_output_close(output, name, fd, lf_file_write(fd, name, 0, bytes, size, err), err);
}

/* 0 or an errno. Some file systems have no syncing of directories. */
static int sync_directory(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

static lorafmt_status publish_file(lf_output *o, lorafmt_error *err)
{
    int e = o->force ? renameat(o->parent, o->temp, o->parent, o->name) == 0 ? 0 : errno
                     : lf_rename_new(o->parent, o->temp, o->name, false);

    if (e)
        return lf_fail_os(err, e, o->path, "cannot rename the finished file");
    o->temp[0] = '\0';
    return LORAFMT_OK;
}

static lorafmt_status publish_directory(lf_output *o, bool exists, lorafmt_error *err)
{
    int e = exists ? lf_rename_exchange(o->parent, o->temp, o->name) : lf_rename_new(o->parent, o->temp, o->name, true);
    lorafmt_status st = LORAFMT_OK;

    if (e)
        return lf_fail_os(err, e, o->path, "cannot rename the finished directory");
    e = exists ? lf_directory_remove(o->parent, o->temp) : 0;
    if (e)
        st = lf_fail_os(err, e, o->path, "is written, but its old content is still there as %s", o->temp);
    o->temp[0] = '\0';
    return st;
}

static lorafmt_status publish(lf_output *o, lorafmt_error *err)
{
    bool exists;
    int e = o->is_directory ? sync_directory(o->fd) : fsync(o->fd) == 0 ? 0 : errno;

    if (e)
        return lf_fail_os(err, e, o->path, "syncing to disk");
    LF_TRY(check_target(o, &exists, err));
    LF_TRY(o->is_directory ? publish_directory(o, exists, err) : publish_file(o, err));
    e = sync_directory(o->parent);
    return e ? lf_fail_os(err, e, o->path, "is written, but syncing its directory failed") : LORAFMT_OK;
}

lorafmt_status lf_output_commit(lf_output *output, lorafmt_error *err)
{
    const lorafmt_status st = publish(output, err);

    lf_output_abort(output);
    return st;
}

void lf_output_abort(lf_output *output)
{
    if (!output)
        return;
    if (output->members && output->temp[0])
        remove_members(output);
    if (output->members)
        closedir(output->members);
    else if (output->fd >= 0)
        close(output->fd);
    if (!output->is_directory && output->temp[0])
        unlinkat(output->parent, output->temp, 0);
    if (output->parent >= 0)
        close(output->parent);
    free(output->path);
    free(output);
}
