/* SPDX-License-Identifier: MIT */
/*
 * The record: a line for each call, its name and, where it changed the file system, what it changed, in terms of inodes:
 *
 *   create DIRECTORY NAME INODE          mkdir DIRECTORY NAME INODE        unlink DIRECTORY NAME
 *   rename DIRECTORY NAME DIRECTORY NAME FLAGS                             link DIRECTORY NAME DIRECTORY NAME
 *   write INODE OFFSET MTIME SIZE        (and then the bytes)              sync INODE
 *   cut INODE SIZE                       reserve INODE SIZE
 */
#include "tests/seam/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static void put(const void *bytes, size_t size)
{
    seam_call(SYS_write, (const long[6]){SEAM_RECORD, (long)bytes, (long)size});
}

static bool look(long directory, const char *path, long flags, struct stat *st)
{
    return seam_call(SYS_newfstatat, (const long[6]){directory, (long)path, (long)st, flags}) == 0;
}

static const char *text(long argument)
{
    union {
        long number;
        const char *text;
    } as = {.number = argument};

    return as.text;
}

typedef struct place {
    unsigned long directory;
    const char *name;
} place;

/* Where a path leads: the directory that has the name, and the name. */
static place place_of(long directory, const char *path)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX] = ".";
    struct stat st = {0};

    if (slash)
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    look(directory, parent, 0, &st);
    return (place){st.st_ino, slash ? slash + 1 : path};
}

static int line_of_name(char *line, size_t size, const char *what, long directory, const char *path)
{
    const place p = place_of(directory, path);
    struct stat st = {0};

    if (strcmp(what, "unlink") == 0)
        return snprintf(line, size, " unlink %lu %s", p.directory, p.name);
    look(directory, path, AT_SYMLINK_NOFOLLOW, &st);
    return snprintf(line, size, " %s %lu %s %lu", what, p.directory, p.name, (unsigned long)st.st_ino);
}

static int line_of_two(char *line, size_t size, const char *what, const long a[4], unsigned flags)
{
    const place from = place_of(a[0], text(a[1])), to = place_of(a[2], text(a[3]));

    return snprintf(line, size, " %s %lu %s %lu %s %u", what, from.directory, from.name, to.directory, to.name, flags);
}

static int line_of_file(char *line, size_t size, const char *what, long fd, long number)
{
    struct stat st = {0};

    look(fd, "", AT_EMPTY_PATH, &st);
    return snprintf(line, size, number < 0 ? " %s %lu" : " %s %lu %ld", what, (unsigned long)st.st_ino, number);
}

/* What a copy within the kernel wrote, which passes no bytes. */
static void put_file(long fd, long offset, long size)
{
    char bytes[4096];

    while (size > 0) {
        const long part = size < (long)sizeof bytes ? size : (long)sizeof bytes;
        seam_call(SYS_pread64, (const long[6]){fd, (long)bytes, part, offset});
        put(bytes, (size_t)part);
        offset += part;
        size -= part;
    }
}

static void record_write(const char *name, long fd, long bytes, long offset, long size)
{
    char line[256];
    struct stat st = {0};

    look(fd, "", AT_EMPTY_PATH, &st);
    if (!S_ISREG(st.st_mode)) {
        put(line, (size_t)snprintf(line, sizeof line, "%s\n", name));
        return;
    }
    put(line, (size_t)snprintf(line, sizeof line, "%s write %lu %ld %lld %ld\n", name, (unsigned long)st.st_ino, offset,
                               (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, size));
    if (bytes)
        put(text(bytes), (size_t)size);
    else
        put_file(fd, offset, size);
}

/* The offset after a call that moved it. */
static long offset_after(long fd, long pointer)
{
    if (pointer)
        return *(const int64_t *)(const void *)text(pointer);
    return seam_call(SYS_lseek, (const long[6]){fd, 0, SEEK_CUR});
}

static int describe(char *line, size_t size, long number, const long a[6])
{
    switch (number) {
    case SYS_openat:
        return a[2] & O_CREAT ? line_of_name(line, size, "create", a[0], text(a[1])) : 0;
    case SYS_mkdirat:
        return line_of_name(line, size, "mkdir", a[0], text(a[1]));
    case SYS_unlinkat:
        return line_of_name(line, size, "unlink", a[0], text(a[1]));
    case SYS_linkat:
        return line_of_two(line, size, "link", a, 0);
    case SYS_renameat:
        return line_of_two(line, size, "rename", a, 0);
    case SYS_renameat2:
        return line_of_two(line, size, "rename", a, (unsigned)a[4]);
    case SYS_ftruncate:
        return line_of_file(line, size, "cut", a[0], a[1]);
    case SYS_fallocate:
        return line_of_file(line, size, "reserve", a[0], a[2] + a[3]);
    case SYS_fsync:
    case SYS_fdatasync:
        return line_of_file(line, size, "sync", a[0], -1);
#ifdef SYS_rename
    case SYS_rename:
        return line_of_two(line, size, "rename", (const long[4]){AT_FDCWD, a[0], AT_FDCWD, a[1]}, 0);
    case SYS_mkdir:
        return line_of_name(line, size, "mkdir", AT_FDCWD, text(a[0]));
    case SYS_unlink:
    case SYS_rmdir:
        return line_of_name(line, size, "unlink", AT_FDCWD, text(a[0]));
#endif
    default:
        return 0;
    }
}

void seam_record(const char *name, long number, const long a[6], long result)
{
    char line[2 * PATH_MAX + 64];
    int n;

    if (result > 0 && number == SYS_pwrite64) {
        record_write(name, a[0], a[1], a[3], result);
    } else if (result > 0 && number == SYS_write) {
        record_write(name, a[0], a[1], offset_after(a[0], 0) - result, result);
    } else if (result > 0 && number == SYS_copy_file_range) {
        record_write(name, a[2], 0, offset_after(a[2], a[3]) - result, result);
    } else {
        n = snprintf(line, sizeof line, "%s", name);
        n += result >= 0 ? describe(line + n, sizeof line - (size_t)n, number, a) : 0;
        n += snprintf(line + n, sizeof line - (size_t)n, "\n");
        put(line, (size_t)n);
    }
}
