/* SPDX-License-Identifier: MIT */
/*
 * A merged model as files: where its tensors lie (layout.c), the tasks that compute them (tasks.c), any range of them (range.c), and
 * what changes around them (edits.c). An image (image.c) is all of it; writing one (merge.c) and holding one against its view
 * (compare.c) use the parts.
 */
#ifndef LF_FRONT_MERGE_H
#define LF_FRONT_MERGE_H

#include "lib/front/progress.h"
#include "lib/io/io.h"
#include "lib/model/model.h"
#include "lib/view/evaluate.h"
#include "lorafmt/image.h"

#include <stdatomic.h>

/* A range of an output file: copied from the same base file, or rows of a tensor computed from it. */
typedef struct lf_task {
    bool compute;
    size_t tensor;         /* of the view, when computed */
    lorafmt_dtype dtype;   /* the same: of the output */
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
    const lf_right *right; /* of all its tasks, or NULL */
    size_t n, capacity;
    lf_task *tasks;
} lf_task_list;

/* Run all tasks with n_threads workers. The order does not matter: each writes its own range. */
lorafmt_status lf_tasks_run(const lf_task_list *list, unsigned n_threads, lf_progress *progress, lorafmt_error *err);

/* Bytes that computing a task needs: its output, and before it the base's rows where they are of another dtype. */
size_t lf_task_buffer(const lf_task_list *list, const lf_task *task);

/* The output of a computed task, to the beginning of such a buffer; fills its change. */
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

/* File `file` of the model, merged, with its real tensors in dtype, or in their own when that is 0. lf_layout_free() in any case. */
lorafmt_status lf_layout_make(const lorafmt_model *model, const lorafmt_view *view, lorafmt_dtype dtype, size_t file,
                              lf_layout *out, lorafmt_error *err);
void lf_layout_free(lf_layout *layout);

/* Bytes [at, at + n) of the header of the file, which is `base` in the base model. */
lorafmt_status lf_layout_read_header(const lf_layout *layout, const lf_model_file *base, uint64_t at, uint8_t *dst, size_t n,
                                     lorafmt_error *err);

/* Is a tensor of the file anything but a copy of the base's bytes? */
bool lf_layout_computes(const lf_layout *layout, const lorafmt_view *view, size_t entry);

/* The first tensor of the file that ends behind a place in it; layout.n when there is none. */
size_t lf_layout_find(const lf_layout *layout, uint64_t at);

/* Add the tasks of a file, which is `base` in the base model. */
lorafmt_status lf_layout_plan(const lf_layout *layout, const lf_safetensors *base, lf_task_list *list, lorafmt_error *err);

/* Is the header of a file, `base` in the base model, what merging writes? Else MISMATCH, with the first thing that is not. */
lorafmt_status lf_layout_compare_header(const lf_layout *layout, const lf_model_file *base, const lf_model_file *found,
                                        lorafmt_error *err);

/* SHA-256 of each tensor of a file, which is written; digests are those of all tensors of the view. */
lorafmt_status lf_layout_digests(const lf_layout *layout, int fd, const char *path, unsigned n_threads, lf_progress *progress,
                                 uint8_t (*digests)[32], lorafmt_error *err);

typedef struct lf_image_file {
    lorafmt_image_file info;
    size_t layout;            /* with info.has_tensors */
    const lf_side_file *side; /* otherwise */
    char *text;               /* what an edited side file says, else NULL */
} lf_image_file;

#define LF_PREPARE_LOCKS 16

struct lorafmt_image {
    lorafmt_model *model;
    lorafmt_view *view;
    size_t serial;       /* no other image has or had it */
    lorafmt_dtype dtype; /* or 0 */
    lf_layout *layouts;  /* of the model's files */
    size_t n_files;
    lf_image_file *files;
    pthread_mutex_t preparing[LF_PREPARE_LOCKS]; /* each for the tensors whose number has that remainder */
    atomic_bool *prepared;                       /* per tensor of the view; set under its lock */
};

/* What the config and the shard index of the base must become; the texts are malloc()ed. */
bool lf_config_changes(const lorafmt_image *image);
lorafmt_status lf_edit_config(const lorafmt_image *image, char **out, size_t *out_size, lorafmt_error *err);
bool lf_index_changes(const lorafmt_image *image);
lorafmt_status lf_edit_index(const lorafmt_image *image, char **out, size_t *out_size, lorafmt_error *err);

/* The factors of DoRA, which need the whole tensor: when it is first read, once. From any thread. */
lorafmt_status lf_image_prepare(lorafmt_image *image, size_t tensor, lorafmt_error *err);

struct lorafmt_reader {
    size_t image;  /* serial number of the one that was read last; 0 = none */
    size_t tensor; /* of that, whose factors these are */
    lf_right right;
    uint8_t *buffer;
    size_t capacity;
};

/* Bytes [offset, offset + size) of a file that holds tensors. reader may be NULL. */
lorafmt_status lf_range_read(lorafmt_image *image, size_t layout, uint64_t offset, uint8_t *dst, size_t size,
                             lorafmt_reader *reader, lorafmt_error *err);

/* The same in the reader's memory: whole rows at once where it can be. */
lorafmt_status lf_range_lend(lorafmt_image *image, size_t layout, uint64_t offset, size_t size, lorafmt_reader *reader,
                             const uint8_t **out, lorafmt_error *err);
bool lf_reader_reserve(lorafmt_reader *reader, size_t size);

/* What merging reports and adds up while it writes files. */
typedef struct lf_writing {
    unsigned n_threads;
    lf_progress *progress;
    lorafmt_counts *counts;
    lorafmt_change *changes; /* per tensor of the view, or NULL */
    uint8_t (*digests)[32];  /* the same */
} lf_writing;

/* All of a file that holds tensors, into fd. */
lorafmt_status lf_image_write_tensors(lorafmt_image *image, size_t layout, int fd, const char *path, const lf_writing *w,
                                      lorafmt_error *err);

/* All of a file that holds none, into fd. */
lorafmt_status lf_image_write_side(const lf_image_file *file, int fd, const char *path, lorafmt_error *err);

#endif
