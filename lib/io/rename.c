/* SPDX-License-Identifier: MIT */
#include "lib/io/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_unsupported(int e)
{
    return e == EINVAL || e == ENOSYS || e == EOPNOTSUPP || e == EPERM;
}

static int rename_plain(int dir, const char *from, const char *to)
{
    return renameat(dir, from, dir, to) == 0 ? 0 : errno;
}

/* Not atomic: somebody may make `to` between look and rename. For file systems that know neither the flag nor links. */
static int rename_after_look(int dir, const char *from, const char *to)
{
    struct stat st;

    if (fstatat(dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    return errno == ENOENT ? rename_plain(dir, from, to) : errno;
}

int lf_rename_new(int dir, const char *from, const char *to, bool is_directory)
{
    int e = renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0 ? 0 : errno;

    if (!is_unsupported(e))
        return e;
    if (!is_directory) {
        e = linkat(dir, from, dir, to, 0) == 0 ? 0 : errno;
        if (e == 0) {
            unlinkat(dir, from, 0);
            return 0;
        }
    }
    return e == EEXIST ? e : rename_after_look(dir, from, to);
}

int lf_rename_exchange(int dir, const char *from, const char *to)
{
    int e = renameat2(dir, from, dir, to, RENAME_EXCHANGE) == 0 ? 0 : errno;
    char aside[NAME_MAX + 1];

    if (!is_unsupported(e))
        return e;
    snprintf(aside, sizeof aside, "%s" LF_RENAME_ASIDE, from); // from is our temporary name, so this one is free too
    if ((e = rename_plain(dir, to, aside)))
        return e;
    if ((e = rename_plain(dir, from, to))) {
        rename_plain(dir, aside, to);
        return e;
    }
    return rename_plain(dir, aside, from);
}
