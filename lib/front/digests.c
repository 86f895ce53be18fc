/* SPDX-License-Identifier: MIT */
/* What the tensors of a file are, read back from it: what fills it runs in any order, and a digest needs one. */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "lib/front/merge.h"
#include "lib/threads/parallel.h"

#define READ_SIZE ((size_t)1 << 20)

typedef struct hasher {
    const lf_layout *layout;
    int fd;
    const char *path;
    lf_progress *progress;
    uint8_t (*digests)[32];
} hasher;

static lorafmt_status hash_tensor(void *ctx, size_t i, void *buffer, lorafmt_error *err)
{
    const hasher *h = ctx;
    const lf_safetensors_tensor *t = &h->layout->entries[i];
    lf_sha256 sha256;

    lf_sha256_init(&sha256);
    for (uint64_t at = 0; at < t->size;) {
        const size_t n = t->size - at < READ_SIZE ? (size_t)(t->size - at) : READ_SIZE;
        LF_TRY(lf_file_read(h->fd, h->path, t->offset + at, buffer, n, err));
        lf_sha256_update(&sha256, buffer, n);
        at += n;
        LF_TRY(lf_progress_add(h->progress, n, err));
    }
    lf_sha256_final(&sha256, h->digests[h->layout->tensors[i]]);
    return LORAFMT_OK;
}

lorafmt_status lf_layout_digests(const lf_layout *layout, int fd, const char *path, unsigned n_threads, lf_progress *progress,
                                 uint8_t (*digests)[32], lorafmt_error *err)
{
    hasher h = {layout, fd, path, progress, digests};

    return lf_parallel(layout->n, n_threads, READ_SIZE, hash_tensor, &h, err);
}
