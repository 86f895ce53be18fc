/* SPDX-License-Identifier: MIT */
/* Work on many sites at once, and what several operations need besides. */
#ifndef LK_WORK_H
#define LK_WORK_H

#include "lib/algebra/thin.h"
#include "lorakit/adapter.h"

#include <pthread.h>

/* Threads and progress as options give them. */
typedef struct lk_work {
    unsigned n_threads;
    lorakit_progress progress;
    void *progress_ctx;
} lk_work;

/* Run items [0, n), each with nearest-even rounding and subnormals kept. The failure of the lowest is reported. */
typedef lorafmt_status lk_item(void *ctx, size_t i, lorafmt_error *err);
lorafmt_status lk_work_run(const lk_work *work, size_t n, lk_item *item, void *ctx, lorafmt_error *err);

/* How much of a long work is done, added to by any of its threads. */
typedef struct lk_meter {
    lorakit_progress progress; /* or NULL */
    void *ctx;
    uint64_t total;
    pthread_mutex_t telling; /* guards what follows, and calls the caller back from one thread at a time */
    uint64_t done;
} lk_meter;

/* CANCELLED when the caller wants no more. */
lorafmt_status lk_meter_add(lk_meter *meter, uint64_t n, lorafmt_error *err);

/* 0 or one that factors can have, else MISUSE. */
lorafmt_status lk_check_dtype(lorafmt_dtype dtype, lorafmt_error *err);

/* The Frobenius norm of what rounding the factors of a made site did to B A; thin [n_experts] are what they were. */
lorafmt_status lk_rounding(const lorafmt_site *made, const lk_thin *thin, size_t n_experts, double *out, lorafmt_error *err);

#endif
