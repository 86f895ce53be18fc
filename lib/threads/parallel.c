/* SPDX-License-Identifier: MIT */
#include "lib/threads/parallel.h"

#include "format/base/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct pool {
    size_t n, scratch_size;
    lf_item *item;
    void *ctx;
    pthread_mutex_t lock; // guards what follows
    size_t next;          // items that were taken
    size_t failed;        // the lowest item that did
    lorafmt_status status;
    lorafmt_error error;
} pool;

static bool take(pool *p, size_t *i)
{
    bool taken;

    pthread_mutex_lock(&p->lock);
    taken = !p->status && p->next < p->n;
    if (taken)
        *i = p->next++;
    pthread_mutex_unlock(&p->lock);
    return taken;
}

/* All items below one that failed are run too, so the lowest failure is always met. */
static void run_item(pool *p, size_t i, void *scratch)
{
    lorafmt_error err = {0}; // a callback of the caller's may not fill it
    const lorafmt_status status = p->item(p->ctx, i, scratch, &err);

    if (!status)
        return;
    pthread_mutex_lock(&p->lock);
    if (!p->status || i < p->failed) {
        p->failed = i;
        p->status = status;
        p->error = err;
    }
    pthread_mutex_unlock(&p->lock);
}

static void work(pool *p, void *scratch)
{
    size_t i;

    while (take(p, &i))
        run_item(p, i, scratch);
}

/* A thread that cannot start or has no memory leaves its work to the others: slower, not wrong. */
static void *help(void *arg)
{
    pool *p = arg;
    void *scratch = malloc(p->scratch_size ? p->scratch_size : 1);

    if (scratch)
        work(p, scratch);
    free(scratch);
    return NULL;
}

static lorafmt_status outcome(const pool *p, lorafmt_error *err)
{
    if (p->status && err)
        *err = p->error;
    return p->status;
}

lorafmt_status lf_parallel(size_t n, unsigned n_threads, size_t scratch_size, lf_item *item, void *ctx, lorafmt_error *err)
{
    pool p = {.n = n, .scratch_size = scratch_size, .item = item, .ctx = ctx, .lock = PTHREAD_MUTEX_INITIALIZER};
    const size_t n_workers = n_threads < n ? n_threads : n;
    pthread_t *helpers = calloc(n_workers ? n_workers : 1, sizeof *helpers);
    void *scratch = malloc(scratch_size ? scratch_size : 1);
    size_t started = 0;

    if (!helpers || !scratch) {
        free(helpers);
        free(scratch);
        return lf_no_memory(err);
    }
    while (started + 1 < n_workers && pthread_create(&helpers[started], NULL, help, &p) == 0)
        started++;
    work(&p, scratch);
    for (size_t i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    free(helpers);
    free(scratch);
    return outcome(&p, err);
}

/* What an executor runs. */
static void run_given(void *ctx, size_t i)
{
    pool *p = ctx;
    bool skipped;

    pthread_mutex_lock(&p->lock);
    skipped = p->status && p->failed < i;
    p->next++;
    pthread_mutex_unlock(&p->lock);
    if (!skipped)
        run_item(p, i, NULL);
}

lorafmt_status lf_parallel_on(lorafmt_executor executor, void *executor_ctx, size_t n, lf_item *item, void *ctx,
                              lorafmt_error *err)
{
    pool p = {.n = n, .item = item, .ctx = ctx, .lock = PTHREAD_MUTEX_INITIALIZER};

    executor(executor_ctx, n, run_given, &p);
    if (!p.status && p.next != n)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "executor", "it ran %zu of %zu items", p.next, n);
    return outcome(&p, err);
}

unsigned lf_n_threads(unsigned asked)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);

    if (asked)
        return asked;
    return n > 0 && n <= 1024 ? (unsigned)n : 1;
}
