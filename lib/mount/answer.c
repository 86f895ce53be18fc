/* SPDX-License-Identifier: MIT */
/*
 * What the kernel asks. What a node shows never changes, so that the kernel may keep all it was told, but for the names in the root:
 * these it asks for anew each time, and gets nodes of the current generation.
 */
#include "lib/mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define FOR_EVER 1e9
#define MOST_READ ((size_t)1 << 20)

static lorakit_mount *mount_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/* When one scenario is shown alone, the root is its directory; then nodes of it, too, are looked up in the current generation. */
static lk_shown *alone(const lorakit_mount *mount, const lk_generation *g)
{
    return mount->scenario ? &g->shown[0] : NULL;
}

static lk_node *node_of(fuse_ino_t ino)
{
    return (lk_node *)(uintptr_t)ino; // NOLINT(performance-no-int-to-ptr): what the kernel was given
}

static void stat_directory(const lk_generation *g, uint64_t number, nlink_t n_links, struct stat *st)
{
    *st = (struct stat){.st_ino = number,
                        .st_mode = S_IFDIR | 0555,
                        .st_nlink = n_links,
                        .st_uid = g->model.st_uid,
                        .st_gid = g->model.st_gid,
                        .st_mtim = g->since,
                        .st_ctim = g->since,
                        .st_atim = g->since};
    if (S_ISDIR(g->model.st_mode))
        st->st_mode = S_IFDIR | (g->model.st_mode & 0555);
}

/*
 * What is computed is as old as what it was computed for. It takes blocks as if it were stored: tar -S and others take a file that has
 * none for a hole, and never read it.
 */
static void stat_file(const lk_node *node, struct stat *st)
{
    const lorafmt_image_file *file = lorafmt_image_get_file(node->shown->image, node->file);
    const struct timespec base = {.tv_sec = (time_t)file->mtime, .tv_nsec = (long)file->mtime_ns};

    *st = (struct stat){.st_ino = node->number,
                        .st_mode = S_IFREG | (file->mode & 0444),
                        .st_nlink = 1,
                        .st_uid = file->uid,
                        .st_gid = file->gid,
                        .st_size = (off_t)file->size,
                        .st_blksize = (blksize_t)MOST_READ,
                        .st_blocks = (blkcnt_t)(file->size / 512 + (file->size % 512 != 0)),
                        .st_mtim = file->same ? base : node->generation->since};
    st->st_ctim = st->st_atim = st->st_mtim;
}

static void stat_node(const lk_node *node, struct stat *st)
{
    if (node->file == LK_DIRECTORY)
        stat_directory(node->generation, node->number, 2, st);
    else
        stat_file(node, st);
}

static void stat_root(lorakit_mount *mount, struct stat *st)
{
    lk_generation *g = lk_generation_take(mount);

    stat_directory(g, FUSE_ROOT_ID, 2 + (mount->scenario ? 0 : g->n_shown), st);
    lk_generation_release(mount, g, 1);
}

static void answer_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    (void)fi;
    if (ino == FUSE_ROOT_ID)
        stat_root(mount_of(req), &st);
    else
        stat_node(node_of(ino), &st);
    fuse_reply_attr(req, &st, ino == FUSE_ROOT_ID ? 0 : FOR_EVER);
}

/* The look-up of g is the node's, or given back when it finds none. */
static void reply_node(fuse_req_t req, lk_generation *g, lk_node *node, double names_stay)
{
    struct fuse_entry_param entry = {.attr_timeout = FOR_EVER, .entry_timeout = names_stay};
    int failed;

    if (!node) {
        lk_generation_release(mount_of(req), g, 1);
        fuse_reply_err(req, ENOENT);
        return;
    }
    entry.ino = (fuse_ino_t)(uintptr_t)node;
    stat_node(node, &entry.attr);
    failed = fuse_reply_entry(req, &entry);
    if (failed) // the kernel does not know it
        lk_generation_release(mount_of(req), g, 1);
}

static void answer_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    lorakit_mount *mount = mount_of(req);
    lk_generation *g;

    if (parent == FUSE_ROOT_ID) {
        g = lk_generation_take(mount);
        const lk_shown *root = alone(mount, g), *shown = root ? NULL : lk_generation_find(g, name);
        reply_node(req, g, root ? lk_shown_find(root, name) : shown ? shown->directory : NULL, 0);
        return;
    }
    if (node_of(parent)->file != LK_DIRECTORY) {
        fuse_reply_err(req, ENOTDIR);
        return;
    }
    g = node_of(parent)->generation;
    lk_generation_hold(mount, g);
    reply_node(req, g, lk_shown_find(node_of(parent)->shown, name), FOR_EVER);
}

static void answer_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    if (ino != FUSE_ROOT_ID)
        lk_generation_release(mount_of(req), node_of(ino)->generation, n);
    fuse_reply_none(req);
}

/* --- directories --- */

/* What a directory that is open lists, of the generation that it was opened in. */
typedef struct listing {
    const lk_generation *generation;
    const lk_shown *shown; /* NULL is the root of all */
} listing;

static size_t listing_size(const listing *l)
{
    return 2 + (l->shown ? lorafmt_image_n_files(l->shown->image) : l->generation->n_shown);
}

/* Entry i: itself, its parent, then what is in it. */
static const char *listing_entry(const listing *l, size_t i, struct stat *st)
{
    st->st_mode = i < 2 || !l->shown ? S_IFDIR : S_IFREG;
    st->st_ino = FUSE_ROOT_ID;
    if (i < 2)
        return i ? ".." : ".";
    st->st_ino = l->shown ? l->shown->files[i - 2].number : l->generation->shown[i - 2].directory->number;
    return l->shown ? lorafmt_image_get_file(l->shown->image, i - 2)->name : l->generation->shown[i - 2].name;
}

/* A directory that is open holds its generation, and is nothing else: one that is never closed leaves no memory behind. */
static lk_generation *generation_of(const struct fuse_file_info *fi)
{
    return (lk_generation *)(uintptr_t)fi->fh; // NOLINT(performance-no-int-to-ptr): what opendir gave
}

static void answer_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    lorakit_mount *mount = mount_of(req);
    lk_generation *g;

    if (ino == FUSE_ROOT_ID)
        g = lk_generation_take(mount);
    else
        lk_generation_hold(mount, g = node_of(ino)->generation);
    fi->fh = (uint64_t)(uintptr_t)g;
    if (fuse_reply_open(req, fi)) // the kernel will not close it
        lk_generation_release(mount, g, 1);
}

static void answer_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
    const lk_generation *g = generation_of(fi);
    const listing l = {g, ino == FUSE_ROOT_ID ? alone(mount_of(req), g) : node_of(ino)->shown};
    char *buffer = malloc(size ? size : 1);
    size_t used = 0;

    if (!buffer) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t i = (size_t)at; i < listing_size(&l); i++) {
        struct stat st = {0};
        const char *name = listing_entry(&l, i, &st);
        const size_t n = fuse_add_direntry(req, buffer + used, size - used, name, &st, (off_t)i + 1);
        if (n > size - used)
            break;
        used += n;
    }
    fuse_reply_buf(req, buffer, used);
    free(buffer);
}

static void answer_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    lk_generation_release(mount_of(req), generation_of(fi), 1);
    fuse_reply_err(req, 0);
}

/* --- files --- */

static void answer_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    if ((fi->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(req, EROFS);
        return;
    }
    fi->keep_cache = 1;
    if (!atomic_exchange(&mount_of(req)->was_opened, true))
        lk_place_set_readahead(mount_of(req)->directory);
    fuse_reply_open(req, fi);
}

/* The thread's own. */
static lorafmt_reader *reader_of(const lorakit_mount *mount)
{
    lorafmt_reader *reader = pthread_getspecific(mount->reader);

    if (reader || !(reader = lorafmt_reader_new()))
        return reader;
    if (pthread_setspecific(mount->reader, reader)) {
        lorafmt_reader_free(reader);
        return NULL;
    }
    return reader;
}

static void report_failure(lorakit_mount *mount, lk_node *node, const lorafmt_error *err)
{
    char text[sizeof err->file + sizeof err->field + sizeof err->text + 64];

    if (atomic_exchange(&node->failed, true))
        return;
    lorafmt_error_format(err, text, sizeof text);
    lk_mount_report(mount, "%s/%s cannot be read: %s", node->shown->name,
                    lorafmt_image_get_file(node->shown->image, node->file)->name, text);
}

static void reply_bytes(fuse_req_t req, lk_node *node, lorafmt_status st, const void *bytes, size_t size,
                        const lorafmt_error *err)
{
    if (!st) {
        fuse_reply_buf(req, bytes, size);
        return;
    }
    report_failure(mount_of(req), node, err);
    fuse_reply_err(req, st == LORAFMT_NO_MEMORY ? ENOMEM : EIO);
}

static void read_some(fuse_req_t req, lk_node *node, uint64_t at, size_t size)
{
    lorakit_mount *mount = mount_of(req);
    lorafmt_reader *reader = reader_of(mount);
    lk_part *part = lk_ahead_take(mount->ahead, node, at, size);
    lorafmt_status st = LORAFMT_NO_MEMORY;
    const void *bytes = NULL;
    lorafmt_error err = {.text = "out of memory"};

    if (part)
        st = lk_part_bytes(part, &bytes, &err);
    else if (reader)
        st = lorafmt_reader_read(reader, node->shown->image, node->file, at, size, &bytes, &err);
    reply_bytes(req, node, st, bytes, size, &err);
    if (part)
        lk_ahead_give_back(mount->ahead, part);
}

static void answer_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
    lk_node *node = node_of(ino);
    const uint64_t end = lorafmt_image_get_file(node->shown->image, node->file)->size;
    const uint64_t left = at < 0 || (uint64_t)at >= end ? 0 : end - (uint64_t)at;

    (void)fi;
    size = size < left ? size : (size_t)left;
    if (size)
        read_some(req, node, (uint64_t)at, size);
    else
        fuse_reply_buf(req, NULL, 0);
}

static void answer_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    lk_ahead_forget(mount_of(req)->ahead, node_of(ino));
    fuse_reply_err(req, 0);
}

static void answer_statfs(fuse_req_t req, fuse_ino_t ino)
{
    const struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};

    (void)ino;
    fuse_reply_statfs(req, &st);
}

static void answer_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->max_write = MOST_READ; // which libfuse lets bound reads, too
    conn->max_background = 64;
    conn->congestion_threshold = 48;
}

const struct fuse_lowlevel_ops lk_answers = {
    .init = answer_init,
    .lookup = answer_lookup,
    .forget = answer_forget,
    .getattr = answer_getattr,
    .opendir = answer_opendir,
    .readdir = answer_readdir,
    .releasedir = answer_releasedir,
    .open = answer_open,
    .read = answer_read,
    .release = answer_release,
    .statfs = answer_statfs,
};
