/* SPDX-License-Identifier: MIT */
/* Files that are changed where they are: one writer at a time. */
#include "lib/io/io.h"

#include "format/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

lorafmt_status lf_path_resolve(const char *path, char **out, lorafmt_error *err)
{
    *out = realpath(path, NULL);
    if (*out)
        return LORAFMT_OK;
    return errno == ENOMEM ? lf_no_memory(err) : lf_fail_os(err, errno, path, "cannot open");
}

int lf_file_look_again(int fd, const char *path)
{
    struct stat opened, named;

    if (fstat(fd, &opened) != 0 || stat(path, &named) != 0)
        return errno == ENOENT ? EWOULDBLOCK : errno;
    return opened.st_dev == named.st_dev && opened.st_ino == named.st_ino ? 0 : EWOULDBLOCK;
}

lorafmt_status lf_file_check_same(int fd, const char *path, lorafmt_error *err)
{
    const int e = lf_file_look_again(fd, path);

    if (e == EWOULDBLOCK)
        return lf_fail_os(err, e, path, "was replaced by another program just now; try again");
    return e ? lf_fail_os(err, e, path, "cannot look at the file") : LORAFMT_OK;
}

static lorafmt_status lock(int fd, const char *path, lorafmt_error *err)
{
    int e;

    do
        e = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    while (e == EINTR);
    if (e == EWOULDBLOCK)
        return lf_fail_os(err, e, path, "another program is writing to it; try again when that is done");
    if (e)
        return lf_fail_os(err, e, path, "cannot lock it against other writers");
    return lf_file_check_same(fd, path, err); // who replaced it before it was locked has locked another one
}

lorafmt_status lf_file_open_locked(const char *path, int *fd, uint64_t *size, lorafmt_error *err)
{
    lorafmt_status st;

    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0)
        return lf_fail_os(err, errno, path, "cannot open for writing");
    st = lf_file_size(*fd, path, size, err);
    if (!st)
        st = lock(*fd, path, err);
    if (!st)
        st = lf_file_size(*fd, path, size, err); // the writer before may have just finished
    if (st) {
        close(*fd);
        *fd = -1;
    }
    return st;
}

void lf_file_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

lorafmt_status lf_file_sync(int fd, const char *path, lorafmt_error *err)
{
    return fsync(fd) == 0 ? LORAFMT_OK : lf_fail_os(err, errno, path, "syncing to disk");
}

void lf_file_cut(int fd, uint64_t size)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > size && ftruncate(fd, (off_t)size) != 0)
        return; // what is left there is as an interrupted writer leaves it
}

static void give(int fd, const struct stat *st)
{
    if (fchown(fd, st->st_uid, st->st_gid) != 0)
        return; // only root may give files away
}

lorafmt_status lf_file_copy_mode(int from, int to, const char *path, lorafmt_error *err)
{
    struct stat st;
    int e = fstat(from, &st) == 0 ? 0 : errno;

    if (!e) {
        give(to, &st); // takes bits of the mode away
        e = fchmod(to, st.st_mode & 07777) == 0 ? 0 : errno;
    }
    return e ? lf_fail_os(err, e, path, "cannot give it the permissions of the file it replaces") : LORAFMT_OK;
}
