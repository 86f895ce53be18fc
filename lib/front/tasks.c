/* SPDX-License-Identifier: MIT */
/* Workers that copy and compute ranges of one output file. */
#include "format/base/error.h"
#include "lib/front/merge.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct pool {
    const lf_task_list *list;
    lf_merge_progress *progress;
    pthread_mutex_t lock; // guards what follows and *progress
    size_t next;
    lorafmt_counts counts;
    lorafmt_status status; // of the first failure
    lorafmt_error error;
} pool;

static lorafmt_status compute(const lf_task_list *list, const lf_task *task, void *buffer, lorafmt_counts *counts,
                              lorafmt_error *err)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(list->view, task->tensor);

    if (info->reads_base)
        LF_TRY(lf_file_read(list->src, list->src_path, task->src, buffer, (size_t)task->size, err));
    LF_TRY(lorafmt_view_evaluate(list->view, task->tensor, task->row, task->n_rows, buffer, (size_t)info->row_size, buffer,
                                 (size_t)info->row_size, counts, err));
    return lf_file_write(list->dst, list->dst_path, task->dst, buffer, (size_t)task->size, err);
}

static lorafmt_status run_task(const lf_task_list *list, const lf_task *task, void *buffer, lorafmt_counts *counts,
                               lorafmt_error *err)
{
    if (task->compute)
        return compute(list, task, buffer, counts, err);
    return lf_file_copy(list->src, list->src_path, task->src, list->dst, list->dst_path, task->dst, task->size, err);
}

/* The next task, or NULL when there is none or something failed. */
static const lf_task *take(pool *p)
{
    const lf_task *task = NULL;

    pthread_mutex_lock(&p->lock);
    if (!p->status && p->next < p->list->n)
        task = &p->list->tasks[p->next++];
    pthread_mutex_unlock(&p->lock);
    return task;
}

static void finish(pool *p, const lf_task *task, lorafmt_status status, const lorafmt_counts *counts, const lorafmt_error *err)
{
    lf_merge_progress *progress = p->progress;

    pthread_mutex_lock(&p->lock);
    if (status && !p->status) {
        p->status = status;
        p->error = *err;
    } else if (!p->status) {
        progress->done += task->size;
        p->counts.n_nan += counts->n_nan;
        p->counts.n_inf += counts->n_inf;
        if (progress->call && !progress->call(progress->ctx, progress->done, progress->total))
            p->status = lf_fail(&p->error, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL,
                                "stopped after %" PRIu64 " of %" PRIu64 " bytes; nothing was left behind", progress->done,
                                progress->total);
    }
    pthread_mutex_unlock(&p->lock);
}

static uint64_t largest_computed(const lf_task_list *list)
{
    uint64_t size = 1;

    for (size_t i = 0; i < list->n; i++)
        if (list->tasks[i].compute && list->tasks[i].size > size)
            size = list->tasks[i].size;
    return size;
}

static void *work(void *arg)
{
    pool *p = arg;
    void *buffer = malloc(largest_computed(p->list));
    const lf_task *task;
    lorafmt_error err;

    while ((task = take(p))) {
        lorafmt_counts counts = {0};
        const lorafmt_status status = buffer ? run_task(p->list, task, buffer, &counts, &err) : lf_no_memory(&err);
        finish(p, task, status, &counts, &err);
    }
    free(buffer);
    return NULL;
}

lorafmt_status lf_tasks_run(const lf_task_list *list, unsigned n_threads, lf_merge_progress *progress, lorafmt_counts *counts,
                            lorafmt_error *err)
{
    pool p = {.list = list, .progress = progress, .lock = PTHREAD_MUTEX_INITIALIZER};
    const size_t n_helpers = n_threads > list->n ? list->n : n_threads;
    pthread_t *helpers = calloc(n_helpers ? n_helpers : 1, sizeof *helpers);
    size_t started = 0;

    if (!helpers)
        return lf_no_memory(err);
    while (started + 1 < n_helpers && pthread_create(&helpers[started], NULL, work, &p) == 0) // fewer is slower, not wrong
        started++;
    work(&p);
    for (size_t i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    free(helpers);
    counts->n_nan += p.counts.n_nan;
    counts->n_inf += p.counts.n_inf;
    if (p.status && err)
        *err = p.error;
    return p.status;
}
