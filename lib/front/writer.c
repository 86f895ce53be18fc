/* SPDX-License-Identifier: MIT */
#include "lib/front/writer.h"

#include "format/base/error.h"
#include "lib/io/io.h"

#include <inttypes.h>

#define REPORT_SIZE (UINT64_C(8) << 20) // between two calls of the progress callback

void lf_writer_start(lf_writer *w, uint64_t begin, uint64_t end)
{
    w->begin = w->at = w->reported = begin;
    w->end = end;
}

static lorafmt_status report(lf_writer *w, lorafmt_error *err)
{
    if (!w->progress || w->at - w->reported < REPORT_SIZE)
        return LORAFMT_OK;
    w->reported = w->at;
    if (!w->progress(w->progress_ctx, w->at - w->begin, w->end - w->begin))
        return lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL, "stopped after %" PRIu64 " bytes", w->at - w->begin);
    return LORAFMT_OK;
}

lorafmt_status lf_writer_put(void *writer, const void *data, size_t size, lorafmt_error *err)
{
    lf_writer *w = writer;

    if (w->at == w->begin)
        LF_TRY(lf_file_reserve(w->fd, w->path, w->end, err));
    for (size_t done = 0; done < size;) {
        const size_t n = size - done < REPORT_SIZE ? size - done : REPORT_SIZE;
        LF_TRY(lf_file_write(w->fd, w->path, w->at, (const uint8_t *)data + done, n, err));
        done += n;
        w->at += n;
        LF_TRY(report(w, err));
    }
    return LORAFMT_OK;
}
