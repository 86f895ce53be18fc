/* SPDX-License-Identifier: MIT */
#include "lib/front/progress.h"

#include "format/base/error.h"

#include <inttypes.h>

lorafmt_status lf_progress_add(lf_progress *p, uint64_t size, lorafmt_error *err)
{
    lorafmt_status status = LORAFMT_OK;

    pthread_mutex_lock(&p->lock);
    p->done += size;
    if (p->call && !p->stopped && !p->call(p->ctx, p->done, p->total)) {
        p->stopped = true;
        status = lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL,
                         "stopped after %" PRIu64 " of %" PRIu64 " bytes; nothing was left behind", p->done, p->total);
    }
    pthread_mutex_unlock(&p->lock);
    return status;
}
