/* SPDX-License-Identifier: MIT */
/* Writing a merged model, shared by the tensors (merge.c, tasks.c) and what lies around them (side_files.c). */
#ifndef LF_FRONT_MERGE_H
#define LF_FRONT_MERGE_H

#include "lib/io/io.h"
#include "lib/model/model.h"
#include "lorafmt/files.h"

/* A range of an output file: copied from the same base file, or rows of a tensor computed from it. */
typedef struct lf_task {
    bool compute;
    size_t tensor; /* of the view, when computed */
    uint64_t row, n_rows;
    uint64_t src, dst; /* offsets in the files */
    uint64_t size;     /* bytes of output */
} lf_task;

/* Done and total over all files; and whether somebody asked to stop. */
typedef struct lf_merge_progress {
    lorafmt_progress call;
    void *ctx;
    uint64_t done, total;
} lf_merge_progress;

typedef struct lf_task_list {
    const lorafmt_view *view;
    const char *src_path, *dst_path;
    int src, dst;
    size_t n, capacity;
    lf_task *tasks;
} lf_task_list;

/* Ask whether to go on; CANCELLED when not. From one thread at a time. */
lorafmt_status lf_merge_ask(const lf_merge_progress *progress, lorafmt_error *err);

/* Run all tasks with n_threads workers. The order does not matter: each writes its own range. */
lorafmt_status lf_tasks_run(const lf_task_list *list, unsigned n_threads, lf_merge_progress *progress, lorafmt_counts *counts,
                            lorafmt_error *err);

/* Largest task in bytes; a single row may be larger. */
#define LF_TASK_SIZE (UINT64_C(4) << 20)

/* Everything in a model directory but its tensors: copied, edited where the view demands it, or left out and reported. */
lorafmt_status lf_side_files_write(const lorafmt_model *model, const lorafmt_view *view, const char *new_tensor_file,
                                   lf_output *output, void (*report)(void *ctx, const char *file, const char *why),
                                   void *report_ctx, lorafmt_error *err);

#endif
