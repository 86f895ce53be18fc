/* SPDX-License-Identifier: MIT */
/* Items that copy and compute ranges of one output file. */
#include "format/base/error.h"
#include "lib/front/merge.h"
#include "lib/threads/parallel.h"

typedef struct job {
    const lf_task_list *list;
    lf_progress *progress;
} job;

size_t lf_task_buffer(const lf_task_list *list, const lf_task *task)
{
    const lorafmt_dtype dtype = lorafmt_view_get_tensor(list->view, task->tensor)->dtype;
    const size_t size = (size_t)task->size;

    return dtype == task->dtype ? size : size + size / (lorafmt_dtype_bits(task->dtype) / 8) * (lorafmt_dtype_bits(dtype) / 8);
}

lorafmt_status lf_task_compute(const lf_task_list *list, lf_task *task, void *buffer, lorafmt_error *err)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(list->view, task->tensor);
    const size_t dst_size = (size_t)task->size, src_size = lf_task_buffer(list, task) - dst_size;
    const size_t n_rows = (size_t)task->region.n_rows;
    uint8_t *src = src_size ? (uint8_t *)buffer + dst_size : buffer;
    const lorafmt_rows rows =
        {src, (src_size ? src_size : dst_size) / n_rows, info->dtype, buffer, dst_size / n_rows, task->dtype, 0, 0};
    lf_tally tally = {0};

    if (info->reads_base)
        LF_TRY(lf_file_read(list->src, list->src_path, task->src, src, src_size ? src_size : dst_size, err));
    LF_TRY(lf_view_evaluate(list->view, task->tensor, &task->region, &rows, list->right, &tally,
                            list->measure ? &task->change : NULL, err));
    task->change.n_nan = tally.n_nan;
    task->change.n_inf = tally.n_inf;
    return LORAFMT_OK;
}

/* The disk begins with what is written while the rest is computed. */
static lorafmt_status run_task(const lf_task_list *list, lf_task *task, void *buffer, lorafmt_error *err)
{
    if (!task->compute) {
        LF_TRY(lf_file_copy(list->src, list->src_path, task->src, list->dst, list->dst_path, task->dst, task->size, err));
    } else {
        LF_TRY(lf_task_compute(list, task, buffer, err));
        LF_TRY(lf_file_write(list->dst, list->dst_path, task->dst, buffer, (size_t)task->size, err));
    }
    return lf_file_start_flush(list->dst, list->dst_path, task->dst, task->size, err);
}

static lorafmt_status run_item(void *ctx, size_t i, void *buffer, lorafmt_error *err)
{
    const job *j = ctx;
    lf_task *task = &j->list->tasks[i];

    LF_TRY(run_task(j->list, task, buffer, err));
    return lf_progress_add(j->progress, task->size, err);
}

static size_t largest_buffer(const lf_task_list *list)
{
    size_t size = 0;

    for (size_t i = 0; i < list->n; i++)
        if (list->tasks[i].compute && lf_task_buffer(list, &list->tasks[i]) > size)
            size = lf_task_buffer(list, &list->tasks[i]);
    return size;
}

lorafmt_status lf_tasks_run(const lf_task_list *list, unsigned n_threads, lf_progress *progress, lorafmt_error *err)
{
    job j = {list, progress};

    return lf_parallel(list->n, n_threads, largest_buffer(list), run_item, &j, err);
}

static void add_change(const lorafmt_change *part, lorafmt_change *sum)
{
    sum->n_elements += part->n_elements;
    sum->n_unchanged += part->n_unchanged;
    sum->n_nan += part->n_nan;
    sum->n_inf += part->n_inf;
    sum->max_ulp = part->max_ulp > sum->max_ulp ? part->max_ulp : sum->max_ulp;
    sum->sum_asked += part->sum_asked;
    sum->sum_realised += part->sum_realised;
    sum->sum_along += part->sum_along;
}

void lf_tasks_sum(const lf_task_list *list, lorafmt_counts *counts, lorafmt_change *changes)
{
    for (size_t i = 0; i < list->n; i++) {
        const lf_task *task = &list->tasks[i];
        counts->n_nan += task->change.n_nan;
        counts->n_inf += task->change.n_inf;
        if (changes && task->compute)
            add_change(&task->change, &changes[task->tensor]);
    }
}
