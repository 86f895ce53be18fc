/* SPDX-License-Identifier: MIT */
#include "lib/front/append.h"

#include "format/base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static lorafmt_status refuse_recovered(const lf_container *file, lorafmt_error *err)
{
    lorafmt_container_info info;

    lf_container_info(file, &info);
    return lf_hint(err,
                   lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, NULL,
                           "a root slot is damaged, and generation %" PRIu64
                           " is what the other one shows; writing on would make that final",
                           info.generation),
                   LORAFMT_HINT_ROLLBACK);
}

static lorafmt_status check(const lf_container *file, bool accept_recovered, lorafmt_error *err)
{
    if (lf_container_is_recovered(file) && !accept_recovered)
        return refuse_recovered(file, err);
    LF_TRY(lf_container_check_appendable(file, err));
    return lf_container_check_but_data(file, err);
}

static lorafmt_status open_file(lf_appender *a, bool accept_recovered, lorafmt_error *err)
{
    uint64_t size;

    LF_TRY(lf_file_open_locked(a->path, &a->fd, &size, err));
    LF_TRY(lf_map_file(a->fd, a->path, size, &a->map, err));
    LF_TRY(lf_container_open(a->map.bytes, a->map.size, 0, &a->file, err));
    return check(a->file, accept_recovered, err);
}

lorafmt_status lf_appender_open(lf_appender *a, const char *path, bool accept_recovered, lorafmt_error *err)
{
    *a = (lf_appender){.path = path, .fd = -1};
    return open_file(a, accept_recovered, err);
}

lorafmt_status lf_appender_close(lf_appender *a, lorafmt_status status, lorafmt_error *err)
{
    if (status)
        lf_error_set_file(err, a->path);
    lf_container_free(a->file);
    lf_map_close(&a->map);
    lf_file_close(a->fd);
    lf_arena_free(&a->arena);
    return status;
}

/* Where the bytes of the generation go. */
typedef struct sink {
    lf_writer writer;
    lf_appended appended;
} sink;

static lorafmt_status put(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    sink *s = ctx;

    if (s->writer.end == 0)
        lf_writer_start(&s->writer, s->appended.begin, s->appended.end);
    return lf_writer_put(&s->writer, data, size, err);
}

static lorafmt_status put_slot(const lf_appender *a, uint64_t offset, const uint8_t slot[LF_SLOT_SIZE], lorafmt_error *err)
{
    LF_TRY(lf_file_write(a->fd, a->path, offset, slot, LF_SLOT_SIZE, err));
    return lf_file_sync(a->fd, a->path, err);
}

/*
 * The slot makes the generation count, so all that it leads to is on the disk before. When it cannot be written, what it held is
 * put back. What it led to stays behind the end of the file: whoever looked meanwhile has it open.
 */
static lorafmt_status write_slot(const lf_appender *a, const lf_appended *appended, uint64_t generation, lorafmt_error *err)
{
    uint8_t before[LF_SLOT_SIZE];
    lorafmt_status st;

    memcpy(before, a->map.bytes + appended->slot_offset, sizeof before);
    st = put_slot(a, appended->slot_offset, appended->slot, err);
    if (st && put_slot(a, appended->slot_offset, before, NULL))
        return lf_fail_os(err, err ? err->os_error : EIO, a->path,
                          "generation %" PRIu64
                          " may be written, but is not known to be on the disk, and could not be taken back",
                          generation);
    return st;
}

/* Who replaced the file did not ask for the lock; nobody will find there what was just written. When one cannot look, it is there. */
static lorafmt_status check_found(const lf_appender *a, uint64_t generation, lorafmt_error *err)
{
    if (lf_file_look_again(a->fd, a->path) != EWOULDBLOCK)
        return LORAFMT_OK;
    return lf_fail_os(err, EWOULDBLOCK, a->path,
                      "generation %" PRIu64
                      " is written, but this path leads to another file by now, or to none, and what was done is lost",
                      generation);
}

lorafmt_status lf_appender_write(lf_appender *a, const lf_container *kept, const lorafmt_pack_options *options,
                                 lorafmt_append_result *out, lorafmt_error *err)
{
    const lf_append append = {.file = a->file,
                              .kept = kept,
                              .list = a->list,
                              .codec = options ? options->codec : LORAFMT_CODEC_RAW};
    sink s = {.writer = {.fd = a->fd, .path = a->path}};
    lorafmt_container_info info;
    lorafmt_status st;

    if (options) {
        s.writer.progress = options->progress;
        s.writer.progress_ctx = options->progress_ctx;
    }
    st = lf_container_append(&append, put, &s, &s.appended, err);
    if (!st)
        st = lf_file_sync(a->fd, a->path, err);
    if (st) {
        lf_file_cut(a->fd, a->map.size); // nothing but what was just written
        return st;
    }
    lf_container_info(a->file, &info);
    LF_TRY(write_slot(a, &s.appended, info.generation + 1, err));
    LF_TRY(check_found(a, info.generation + 1, err));
    if (out)
        *out = (lorafmt_append_result){.generation = info.generation + 1,
                                       .n_bytes = s.appended.end - s.appended.begin,
                                       .n_ignored_sections = info.n_ignored_sections};
    return LORAFMT_OK;
}
