/* SPDX-License-Identifier: MIT */
/* Where the bytes of an encoder go: a file, from a place on, with the disk reserved and progress told. */
#ifndef LF_FRONT_WRITER_H
#define LF_FRONT_WRITER_H

#include "lorafmt/files.h"

typedef struct lf_writer {
    int fd;
    const char *path;
    lorafmt_progress progress; /* or NULL */
    void *progress_ctx;
    uint64_t begin, at, end, reported; /* end: of what there will be, known when the first bytes come */
} lf_writer;

/* For what does not begin at 0: before the first bytes. */
void lf_writer_start(lf_writer *writer, uint64_t begin, uint64_t end);

/* An lf_sink. */
lorafmt_status lf_writer_put(void *writer, const void *data, size_t size, lorafmt_error *err);

#endif
