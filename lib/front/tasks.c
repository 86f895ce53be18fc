/* SPDX-License-Identifier: MIT */
/* Items that copy and compute ranges of one output file. */
#include "format/base/error.h"
#include "lib/front/merge.h"
#include "lib/front/parallel.h"

#include <pthread.h>

typedef struct job {
    const lf_task_list *list;
    pthread_mutex_t lock; // guards what follows and *progress
    lf_merge_progress *progress;
    lorafmt_counts *counts;
    bool stopped;
} job;

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

/* A task is done: counts it, and asks whether to go on. After a failure nobody is asked any more. */
static lorafmt_status finish(job *j, const lf_task *task, const lorafmt_counts *counts, lorafmt_error *err)
{
    lf_merge_progress *progress = j->progress;

    if (j->stopped)
        return LORAFMT_OK;
    progress->done += task->size;
    j->counts->n_nan += counts->n_nan;
    j->counts->n_inf += counts->n_inf;
    return lf_merge_ask(progress, err);
}

static lorafmt_status run_item(void *ctx, size_t i, void *buffer, lorafmt_error *err)
{
    job *j = ctx;
    const lf_task *task = &j->list->tasks[i];
    lorafmt_counts counts = {0};
    lorafmt_status status = run_task(j->list, task, buffer, &counts, err);

    pthread_mutex_lock(&j->lock);
    if (!status)
        status = finish(j, task, &counts, err);
    j->stopped = j->stopped || status;
    pthread_mutex_unlock(&j->lock);
    return status;
}

static uint64_t largest_computed(const lf_task_list *list)
{
    uint64_t size = 0;

    for (size_t i = 0; i < list->n; i++)
        if (list->tasks[i].compute && list->tasks[i].size > size)
            size = list->tasks[i].size;
    return size;
}

lorafmt_status lf_tasks_run(const lf_task_list *list, unsigned n_threads, lf_merge_progress *progress, lorafmt_counts *counts,
                            lorafmt_error *err)
{
    job j = {.list = list, .lock = PTHREAD_MUTEX_INITIALIZER, .progress = progress, .counts = counts};

    return lf_parallel(list->n, n_threads, (size_t)largest_computed(list), run_item, &j, err);
}
