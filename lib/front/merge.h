/* SPDX-License-Identifier: MIT */
/*
 * A merged model as files: where its tensors lie (layout.c), the tasks that compute them (tasks.c), and what lies around them
 * (side_files.c). Shared by writing one (merge.c) and holding one against its view (compare.c).
 */
#ifndef LF_FRONT_MERGE_H
#define LF_FRONT_MERGE_H

#include "lib/front/progress.h"
#include "lib/io/io.h"
#include "lib/model/model.h"
#include "lib/view/evaluate.h"
#include "lorafmt/files.h"

/* A range of an output file: copied from the same base file, or rows of a tensor computed from it. */
typedef struct lf_task {
    bool compute;
    size_t tensor;         /* of the view, when computed */
    lf_region region;      /* whole rows, or a part of one */
    uint64_t src, dst;     /* offsets in the files */
    uint64_t size;         /* bytes of output */
    lorafmt_change change; /* what computing did; of a list that does not measure only n_nan and n_inf */
} lf_task;

typedef struct lf_task_list {
    const lorafmt_view *view;
    const char *src_path, *dst_path;
    int src, dst;
    bool measure;
    size_t n, capacity;
    lf_task *tasks;
} lf_task_list;

/* Run all tasks with n_threads workers. The order does not matter: each writes its own range. */
lorafmt_status lf_tasks_run(const lf_task_list *list, unsigned n_threads, lf_progress *progress, lorafmt_error *err);

/* The output of a computed task, to a buffer of its size; fills its change. */
lorafmt_status lf_task_compute(const lf_task_list *list, lf_task *task, void *buffer, lorafmt_error *err);

/* Add what the tasks did to the counts, and to the changes of their tensors if not NULL, in the order of the list: the same sums
 * for any number of threads. */
void lf_tasks_sum(const lf_task_list *list, lorafmt_counts *counts, lorafmt_change *changes);

/* Bytes of a task, where its rows are not so wide that it would have few of them; and the most it ever has. */
#define LF_TASK_SIZE (UINT64_C(2) << 20)
#define LF_MAX_TASK_SIZE (UINT64_C(8) << 20)

/* One file of the output: its tensors in the order of the base's file, new ones at the end of the last file. */
typedef struct lf_layout {
    size_t n;
    size_t *tensors; /* of the view */
    lf_safetensors_tensor *entries;
    bool same; /* as the base's file, so that the header can stay */
    uint64_t data_offset, size;
    uint8_t *header; /* unless same */
} lf_layout;

/* File `file` of the model, merged. lf_layout_free() in any case. */
lorafmt_status lf_layout_make(const lorafmt_model *model, const lorafmt_view *view, size_t file, lf_layout *out,
                              lorafmt_error *err);
void lf_layout_free(lf_layout *layout);

/* Add the tasks of a file, which is `base` in the base model. */
lorafmt_status lf_layout_plan(const lf_layout *layout, const lf_safetensors *base, lf_task_list *list, lorafmt_error *err);

/* Is the header of a file, `base` in the base model, what merging writes? Else MISMATCH, with the first thing that is not. */
lorafmt_status lf_layout_compare_header(const lf_layout *layout, const lf_model_file *base, const lf_model_file *found,
                                        lorafmt_error *err);

/* SHA-256 of each tensor of a file, which is written; digests are those of all tensors of the view. */
lorafmt_status lf_layout_digests(const lf_layout *layout, int fd, const char *path, unsigned n_threads, lf_progress *progress,
                                 uint8_t (*digests)[32], lorafmt_error *err);

/* What must be known of whole tensors before any row is computed (DoRA). */
lorafmt_status lf_prepare_view(lorafmt_view *view, unsigned n_threads, lf_progress *progress, lorafmt_error *err);

/* Everything in a model directory but its tensors: copied, edited where the view demands it, or left out and reported. */
lorafmt_status lf_side_files_write(const lorafmt_model *model, const lorafmt_view *view, const char *new_tensor_file,
                                   lf_output *output, void (*report)(void *ctx, const char *file, const char *why),
                                   void *report_ctx, lorafmt_error *err);

#endif
