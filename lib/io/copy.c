/* SPDX-License-Identifier: MIT */
#include "lib/io/io.h"

#include "format/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define COPY_BUFFER ((size_t)1 << 20)

/* For one call of the kernel: a multiple of every block size, and short enough for a signal to get through. */
#define COPY_CHUNK ((size_t)1 << 30)

lorafmt_status lf_file_reserve(int fd, const char *path, uint64_t size, lorafmt_error *err)
{
    int e = 0;

    if (size == 0)
        return LORAFMT_OK;
    do
        e = fallocate(fd, 0, 0, (off_t)size) == 0 ? 0 : errno;
    while (e == EINTR);
    if (e == ENOSPC || e == EDQUOT || e == EFBIG || e == EIO)
        return lf_fail_os(err, e, path, "reserving %" PRIu64 " bytes", size);
    return LORAFMT_OK;
}

/* As much as the kernel copies by itself; whatever stops it shows again, with its side, when the rest is read and written. */
static uint64_t copy_in_kernel(int src, uint64_t src_offset, int dst, uint64_t dst_offset, uint64_t size)
{
    off_t from = (off_t)src_offset, to = (off_t)dst_offset;
    uint64_t done = 0;

    while (done < size) {
        const uint64_t left = size - done;
        const ssize_t n = copy_file_range(src, &from, dst, &to, left < COPY_CHUNK ? (size_t)left : COPY_CHUNK, 0);
        if (n > 0)
            done += (uint64_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    return done;
}

lorafmt_status lf_file_copy(int src, const char *src_path, uint64_t src_offset, int dst, const char *dst_path,
                            uint64_t dst_offset, uint64_t size, lorafmt_error *err)
{
    uint64_t done = copy_in_kernel(src, src_offset, dst, dst_offset, size);
    lorafmt_status st = LORAFMT_OK;
    char *buffer;

    if (done == size)
        return LORAFMT_OK;
    buffer = malloc(COPY_BUFFER);
    if (!buffer)
        return lf_no_memory(err);
    while (done < size && st == LORAFMT_OK) {
        const size_t n = size - done < COPY_BUFFER ? (size_t)(size - done) : COPY_BUFFER;
        st = lf_file_read(src, src_path, src_offset + done, buffer, n, err);
        if (st == LORAFMT_OK)
            st = lf_file_write(dst, dst_path, dst_offset + done, buffer, n, err);
        done += n;
    }
    free(buffer);
    return st;
}
