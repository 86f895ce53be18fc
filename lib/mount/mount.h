/* SPDX-License-Identifier: MIT */
/*
 * The FUSE front end of scenarios.
 *
 *   generation.c  what one reading of the manifest shows: directories and files, each known to the kernel by a node
 *   answer.c      what the kernel asks: look up, list, read
 *   ahead.c       what it will ask next
 *   place.c       mount and unmount, and what the dead left behind
 *   watch.c       the manifest changes
 *   serve.c       all of it together
 */
#ifndef LK_MOUNT_H
#define LK_MOUNT_H

#define FUSE_USE_VERSION 35

#include "lorafmt/image.h"
#include "lorakit/mount.h"
#include "lorakit/scenarios.h"

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* A directory of files, or one of these; what the kernel calls an inode. Its number in the file system is unique for ever. */
typedef struct lk_node {
    struct lk_generation *generation;
    struct lk_shown *shown; /* the scenario that it is or belongs to */
    size_t file;            /* of the image, or LK_DIRECTORY */
    uint64_t number;
    atomic_bool failed;        /* a read error was reported */
    atomic_uint_fast64_t next; /* where the last read ended */
} lk_node;

#define LK_DIRECTORY SIZE_MAX

/* A scenario, or the base. */
typedef struct lk_shown {
    const char *name;
    lorafmt_view *view;
    lorafmt_image *image;
    lk_node *directory;
    lk_node *files; /* as the image has them */
} lk_shown;

/* Lives until it is no longer the current one and the kernel has forgotten all its nodes. */
typedef struct lk_generation {
    lorakit_scenarios *set;
    uint64_t number;
    struct timespec since;
    struct stat model; /* of the base's directory or file */
    size_t n_shown;
    lk_shown *shown; /* in ascending order of name */
    lk_node *nodes;
    uint64_t n_known; /* look-ups not yet forgotten, open directories, and 1 while current; guarded by the mount's lock */
    struct lk_generation *next;
} lk_generation;

struct lorakit_mount {
    lorakit_mount_options options;
    char *manifest, *directory; /* absolute */
    char *scenario;             /* or NULL */
    struct fuse_session *session;
    bool mounted;
    atomic_bool was_opened;               /* a file of it */
    pthread_mutex_t lock;                 /* guards what follows and n_known of all generations */
    lk_generation *current, *generations; /* all that live */
    pthread_mutex_t reporting;
    pthread_key_t reader;   /* of a thread that answers reads */
    struct lk_ahead *ahead; /* while it is served, or NULL */
};

lorafmt_status lk_generation_open(lorakit_mount *mount, uint64_t number, lk_generation **out, lorafmt_error *err);
void lk_generation_free(lk_generation *generation);

lk_shown *lk_generation_find(const lk_generation *generation, const char *name);
lk_node *lk_shown_find(const lk_shown *shown, const char *name);

/* The current generation, or one that is known to live, held once more; each hold is released. */
lk_generation *lk_generation_take(lorakit_mount *mount);
void lk_generation_hold(lorakit_mount *mount, lk_generation *generation);
void lk_generation_release(lorakit_mount *mount, lk_generation *generation, uint64_t n);

/* From now on it is the current one, in place of the one before. */
void lk_generation_publish(lorakit_mount *mount, lk_generation *generation);

extern const struct fuse_lowlevel_ops lk_answers;

/* Parts of files that are computed before they are asked for. All functions may be called from any thread. */
typedef struct lk_ahead lk_ahead;
typedef struct lk_part lk_part;
lk_ahead *lk_ahead_open(lorakit_mount *mount); /* NULL when out of memory */
void lk_ahead_close(lk_ahead *ahead);

/*
 * This part of a file is asked for. If it was foreseen it is lent, once it is computed; NULL = the caller computes it. When it goes on
 * from the one before, what follows is begun.
 */
lk_part *lk_ahead_take(lk_ahead *ahead, lk_node *node, uint64_t at, size_t size);
lorafmt_status lk_part_bytes(const lk_part *part, const void **bytes, lorafmt_error *err);
void lk_ahead_give_back(lk_ahead *ahead, lk_part *part);

/* A file is closed: nothing follows. */
void lk_ahead_forget(lk_ahead *ahead, const lk_node *node);

/* An absolute path, malloc()ed, whose last component is as it is: a link stays one. NULL with errno. */
char *lk_place_absolute(const char *path);

/* The path of a directory that something may be mounted on, malloc()ed, once what the dead left mounted there is taken away. */
lorafmt_status lk_place_find(const char *directory, char **out, lorafmt_error *err);

/* Make the session and mount it. */
lorafmt_status lk_place_mount(lorakit_mount *mount, lorafmt_error *err);

/*
 * Have the kernel read further ahead of who reads on, if it may be told: each request costs some switches between threads. It forgets
 * what it was told before its first request was answered.
 */
void lk_place_set_readahead(const char *directory);

__attribute__((format(printf, 2, 3))) void lk_mount_report(lorakit_mount *mount, const char *format, ...);

/* What tells that a manifest or its lock changed. */
typedef struct lk_watch lk_watch;
lorafmt_status lk_watch_open(const char *manifest, const char *lock, lk_watch **out, lorafmt_error *err);
int lk_watch_fd(const lk_watch *watch); /* readable when something happened near them */
bool lk_watch_changed(lk_watch *watch); /* they are not what they were when this was last asked */
void lk_watch_close(lk_watch *watch);

#endif
