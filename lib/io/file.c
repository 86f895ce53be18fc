/* SPDX-License-Identifier: MIT */
#include "lib/io/io.h"

#include "format/base/arith.h"
#include "format/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *type_name(mode_t mode)
{
    return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
}

lorafmt_status lf_file_size(int fd, const char *path, uint64_t *size, lorafmt_error *err)
{
    lorafmt_status status;
    struct stat st;

    *size = 0;
    if (fstat(fd, &st) != 0)
        return lf_fail_os(err, errno, path, "cannot look at the file");
    if (S_ISREG(st.st_mode)) {
        *size = (uint64_t)st.st_size;
        return LORAFMT_OK;
    }
    status = lf_fail(err, LORAFMT_NOT_LORAFMT, LORAFMT_NO_OFFSET, NULL, "%s, must be a regular file", type_name(st.st_mode));
    lf_error_set_file(err, path);
    return status;
}

lorafmt_status lf_file_open(const char *path, int *fd, uint64_t *size, lorafmt_error *err)
{
    lorafmt_status status;
    uint64_t unused;

    if (size)
        *size = 0;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // a FIFO without a writer would make open wait
    if (*fd < 0)
        return lf_fail_os(err, errno, path, "cannot open");
    status = lf_file_size(*fd, path, size ? size : &unused, err);
    if (status) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

lorafmt_status lf_file_read(int fd, const char *path, uint64_t offset, void *dst, size_t size, lorafmt_error *err)
{
    size_t done = 0;

    while (done < size) {
        const ssize_t n = pread(fd, (char *)dst + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno != EINTR)
            return lf_fail_os(err, errno, path, "reading %zu bytes at %" PRIu64, size - done, offset + done);
        if (n == 0) {
            lf_fail(err, LORAFMT_CORRUPT, offset + done, NULL,
                    "the file was truncated while being read: %zu bytes are missing here", size - done);
            lf_error_set_file(err, path);
            return LORAFMT_CORRUPT;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return LORAFMT_OK;
}

lorafmt_status lf_file_write(int fd, const char *path, uint64_t offset, const void *src, size_t size, lorafmt_error *err)
{
    size_t done = 0;

    while (done < size) {
        const ssize_t n = pwrite(fd, (const char *)src + done, size - done, (off_t)(offset + done));
        if (n == 0 || (n < 0 && errno != EINTR))
            return lf_fail_os(err, n ? errno : EIO, path, "writing %zu bytes at %" PRIu64, size - done, offset + done);
        done += n > 0 ? (size_t)n : 0;
    }
    return LORAFMT_OK;
}

/* What a range of a file waits for; of EIO and a full disk the kernel tells once, here or in fsync(). */
static lorafmt_status sync_range(int fd, const char *path, uint64_t offset, uint64_t size, unsigned how, lorafmt_error *err)
{
    if (sync_file_range(fd, (off_t)offset, (off_t)size, how) == 0)
        return LORAFMT_OK;
    if (errno == EIO || errno == ENOSPC || errno == EDQUOT)
        return lf_fail_os(err, errno, path, "writing %" PRIu64 " bytes at %" PRIu64 " to disk", size, offset);
    return LORAFMT_OK;
}

lorafmt_status lf_file_start_flush(int fd, const char *path, uint64_t offset, uint64_t size, lorafmt_error *err)
{
    return sync_range(fd, path, offset, size, SYNC_FILE_RANGE_WRITE, err);
}

lorafmt_status lf_file_flush(int fd, const char *path, uint64_t offset, uint64_t size, lorafmt_error *err)
{
    const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

    return sync_range(fd, path, offset, size, all, err);
}

static lorafmt_status fail_size(uint64_t size, uint64_t max_size, const char *path, lorafmt_error *err)
{
    lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "a file of %" PRIu64 " bytes, at most %" PRIu64 " are read", size,
            max_size);
    lf_error_set_file(err, path);
    return LORAFMT_LIMIT;
}

static lorafmt_status load(int fd, const char *path, uint64_t file_size, uint64_t max_size, char **out, size_t *size,
                           lorafmt_error *err)
{
    size_t n;
    char *text;
    lorafmt_status st;

    if (file_size > max_size || !lf_u64_to_size(file_size, &n))
        return fail_size(file_size, max_size, path, err);
    text = malloc(n + 1);
    if (!text)
        return lf_no_memory(err);
    st = lf_file_read(fd, path, 0, text, n, err);
    if (st != LORAFMT_OK) {
        free(text);
        return st;
    }
    text[n] = '\0';
    *out = text;
    *size = n;
    return LORAFMT_OK;
}

lorafmt_status lf_file_load(const char *path, uint64_t max_size, char **out, size_t *size, lorafmt_error *err)
{
    uint64_t file_size;
    lorafmt_status st;
    int fd;

    *out = NULL;
    *size = 0;
    LF_TRY(lf_file_open(path, &fd, &file_size, err));
    st = load(fd, path, file_size, max_size, out, size, err);
    close(fd);
    return st;
}

lorafmt_status lf_map_file(int fd, const char *path, uint64_t size, lf_map *out, lorafmt_error *err)
{
    void *bytes;
    size_t n;

    *out = (lf_map){0};
    if (!size)
        return LORAFMT_OK;
    if (!lf_u64_to_size(size, &n))
        return lf_fail_os(err, EFBIG, path, "mapping %" PRIu64 " bytes", size);
    bytes = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return lf_fail_os(err, errno, path, "mapping %zu bytes", n);
    *out = (lf_map){.bytes = bytes, .size = size};
    return LORAFMT_OK;
}

lorafmt_status lf_map_copy(int fd, const char *path, uint64_t size, lf_map *out, lorafmt_error *err)
{
    lorafmt_status st;
    void *bytes;
    size_t n;

    *out = (lf_map){0};
    if (!size)
        return LORAFMT_OK;
    if (!lf_u64_to_size(size, &n))
        return lf_fail_os(err, EFBIG, path, "reading %" PRIu64 " bytes", size);
    bytes = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return lf_no_memory(err);
    *out = (lf_map){.bytes = bytes, .size = size};
    st = lf_file_read(fd, path, 0, bytes, n, err);
    if (st)
        lf_map_close(out);
    return st;
}

lorafmt_status lf_map_open(const char *path, bool copy, uint64_t max_size, lf_map *out, lorafmt_error *err)
{
    lorafmt_status st;
    uint64_t size;
    int fd;

    *out = (lf_map){0};
    LF_TRY(lf_file_open(path, &fd, &size, err));
    st = size > max_size ? fail_size(size, max_size, path, err) : (copy ? lf_map_copy : lf_map_file)(fd, path, size, out, err);
    close(fd);
    return st;
}

void lf_map_close(lf_map *map)
{
    union {
        const uint8_t *read_only;
        void *any;
    } bytes = {.read_only = map->bytes}; // munmap() takes no pointer to const

    if (map->bytes)
        munmap(bytes.any, (size_t)map->size);
    *map = (lf_map){0};
}
