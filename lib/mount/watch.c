/* SPDX-License-Identifier: MIT */
/*
 * The manifest changes: by being written, by another taking its name, or by a link on the way to it. So what is watched is the
 * directory, and what counts is what is found there.
 */
#include "format/base/error.h"
#include "lib/mount/mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define N_FILES 2

struct lk_watch {
    int fd;
    char *paths[N_FILES];
    struct stat last[N_FILES];
};

static void look(const char *path, struct stat *out)
{
    if (stat(path, out))
        *out = (struct stat){0};
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static lorafmt_status watch_directory(lk_watch *watch, lorafmt_error *err)
{
    const uint32_t events = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_ATTRIB;
    const size_t n = (size_t)(strrchr(watch->paths[0], '/') - watch->paths[0]);
    char *directory = strndup(watch->paths[0], n ? n : 1);
    lorafmt_status st = LORAFMT_OK;

    if (!directory)
        return lf_no_memory(err);
    watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch->fd < 0 || inotify_add_watch(watch->fd, directory, events) < 0)
        st = lf_fail_os(err, errno, directory, "cannot be watched");
    free(directory);
    return st;
}

/* What may be newer than what was read is as if it had never been looked at. */
static void look_first(lk_watch *watch, const struct timespec *since)
{
    for (size_t i = 0; i < N_FILES; i++) {
        struct stat *last = &watch->last[i];
        look(watch->paths[i], last);
        if (last->st_ctim.tv_sec > since->tv_sec ||
            (last->st_ctim.tv_sec == since->tv_sec && last->st_ctim.tv_nsec > since->tv_nsec))
            *last = (struct stat){0};
    }
}

lorafmt_status lk_watch_open(const char *manifest, const char *lock, const struct timespec *since, lk_watch **out,
                             lorafmt_error *err)
{
    lk_watch *watch = calloc(1, sizeof *watch);
    lorafmt_status st;

    *out = NULL;
    if (!watch)
        return lf_no_memory(err);
    watch->fd = -1;
    watch->paths[0] = strdup(manifest);
    watch->paths[1] = strdup(lock);
    st = watch->paths[0] && watch->paths[1] ? watch_directory(watch, err) : lf_no_memory(err);
    if (st) {
        lk_watch_close(watch);
        return st;
    }
    look_first(watch, since);
    *out = watch;
    return LORAFMT_OK;
}

int lk_watch_fd(const lk_watch *watch)
{
    return watch->fd;
}

bool lk_watch_changed(lk_watch *watch)
{
    char events[4096];
    bool changed = false;

    while (read(watch->fd, events, sizeof events) > 0)
        ; // that something happened is enough
    for (size_t i = 0; i < N_FILES; i++) {
        struct stat now;
        look(watch->paths[i], &now);
        changed |= !same(&now, &watch->last[i]);
        watch->last[i] = now;
    }
    return changed;
}

void lk_watch_close(lk_watch *watch)
{
    if (!watch)
        return;
    if (watch->fd >= 0)
        close(watch->fd);
    for (size_t i = 0; i < N_FILES; i++)
        free(watch->paths[i]);
    free(watch);
}
