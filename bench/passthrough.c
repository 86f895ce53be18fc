/* SPDX-License-Identifier: MIT */
/*
 * A plain FUSE file that passes another one through: what a mount is held against. Mounted and served as lib/mount does it.
 *
 * usage: bench_passthrough FILE DIR [copy]
 *
 * DIR/file has the bytes of FILE until DIR is unmounted. An answer is the file's own pages, spliced where the kernel can; with `copy`
 * they are read into a buffer and written from there, as libfuse's own examples do it, and as computed ones must be.
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_INODE 2
#define MOST_READ ((size_t)1 << 20)

static int source;
static struct stat source_stat;
static bool copies;

static bool stat_inode(fuse_ino_t ino, struct stat *st)
{
    *st = (struct stat){.st_ino = ino, .st_mode = S_IFDIR | 0555, .st_nlink = 2};
    if (ino == FILE_INODE)
        *st = (struct stat){.st_ino = ino, .st_mode = S_IFREG | 0444, .st_nlink = 1, .st_size = source_stat.st_size};
    return ino == FUSE_ROOT_ID || ino == FILE_INODE;
}

static void answer_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    (void)fi;
    if (stat_inode(ino, &st))
        fuse_reply_attr(req, &st, 1e9);
    else
        fuse_reply_err(req, ENOENT);
}

static void answer_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {.ino = FILE_INODE, .attr_timeout = 1e9, .entry_timeout = 1e9};

    stat_inode(FILE_INODE, &entry.attr);
    if (parent == FUSE_ROOT_ID && strcmp(name, "file") == 0)
        fuse_reply_entry(req, &entry);
    else
        fuse_reply_err(req, ENOENT);
}

static void answer_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}

static void answer_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
    static _Thread_local char buffer[MOST_READ];
    struct fuse_bufvec spliced = FUSE_BUFVEC_INIT(size);
    ssize_t n;

    (void)ino, (void)fi;
    if (copies) {
        n = pread(source, buffer, size < MOST_READ ? size : MOST_READ, at);
        if (n < 0)
            fuse_reply_err(req, errno);
        else
            fuse_reply_buf(req, buffer, (size_t)n);
        return;
    }
    spliced.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    spliced.buf[0].fd = source;
    spliced.buf[0].pos = at;
    fuse_reply_data(req, &spliced, FUSE_BUF_SPLICE_MOVE);
}

static void answer_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->max_write = MOST_READ;
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    conn->want |= conn->capable & (FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static const struct fuse_lowlevel_ops answers = {.init = answer_init,
                                                 .lookup = answer_lookup,
                                                 .getattr = answer_getattr,
                                                 .open = answer_open,
                                                 .read = answer_read};

static void *serve(void *session)
{
    struct fuse_buf buffer = {0};

    while (!fuse_session_exited(session)) {
        const int n = fuse_session_receive_buf(session, &buffer);
        if (n > 0)
            fuse_session_process_buf(session, &buffer);
        else if (n != -EINTR && n != -EAGAIN)
            break;
    }
    free(buffer.mem);
    return NULL;
}

static int run(struct fuse_session *session, const char *directory)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN) + 2;
    pthread_t threads[64];
    long started = 0;

    if (fuse_session_mount(session, directory))
        return 1;
    while (started < n && started < 64 && pthread_create(&threads[started], NULL, serve, session) == 0)
        started++;
    for (long i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    fuse_session_unmount(session);
    return 0;
}

int main(int argc, char **argv)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session;
    int code = 1;

    if (argc < 3 || (source = open(argv[1], O_RDONLY)) < 0 || fstat(source, &source_stat)) {
        fprintf(stderr, "usage: bench_passthrough FILE DIR [copy]\n");
        return 2;
    }
    copies = argc > 3;
    if (fuse_opt_add_arg(&args, "passthrough") || fuse_opt_add_arg(&args, "-oro,default_permissions,fsname=passthrough"))
        return 1;
    session = fuse_session_new(&args, &answers, sizeof answers, NULL);
    if (session) {
        code = run(session, argv[2]);
        fuse_session_destroy(session);
    }
    fuse_opt_free_args(&args);
    return code;
}
