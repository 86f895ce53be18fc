/* SPDX-License-Identifier: MIT */
/* How far long work is, told to a caller that may stop it. */
#ifndef LF_FRONT_PROGRESS_H
#define LF_FRONT_PROGRESS_H

#include "lorafmt/files.h"

#include <pthread.h>

typedef struct lf_progress {
    lorafmt_progress call; /* or NULL */
    void *ctx;
    uint64_t total;
    pthread_mutex_t lock; /* guards what follows; begins as PTHREAD_MUTEX_INITIALIZER */
    uint64_t done;
    bool stopped;
} lf_progress;

/* So many bytes more are done. CANCELLED once the caller asks to stop, who is not called again. From any thread. */
lorafmt_status lf_progress_add(lf_progress *progress, uint64_t size, lorafmt_error *err);

#endif
