/* SPDX-License-Identifier: MIT */
/* Files of an image, written: those with tensors by tasks in any order. */
#include "format/base/error.h"
#include "lib/front/merge.h"
#include "lib/threads/parallel.h"

#include <stdlib.h>
#include <string.h>

/* Between two questions whether to go on, while the disk takes what was written. */
#define FLUSH_SIZE (UINT64_C(64) << 20)

static lorafmt_status write_header(const lf_model_file *base, const lf_layout *l, int fd, const char *path, lorafmt_error *err)
{
    if (l->same)
        return lf_file_copy(base->fd, base->path, 0, fd, path, 0, l->data_offset, err);
    return lf_file_write(fd, path, 0, l->header, (size_t)l->data_offset, err);
}

/* fsync() hears no signals, and may have gigabytes to write: little is left to it. */
static lorafmt_status flush(const lf_writing *w, int fd, const char *path, uint64_t size, lorafmt_error *err)
{
    for (uint64_t at = 0; at < size; at += FLUSH_SIZE) {
        LF_TRY(lf_file_flush(fd, path, at, size - at < FLUSH_SIZE ? size - at : FLUSH_SIZE, err));
        LF_TRY(lf_progress_add(w->progress, 0, err));
    }
    return LORAFMT_OK;
}

typedef struct preparation {
    lorafmt_image *image;
    const lf_layout *layout;
    lf_progress *progress;
} preparation;

static lorafmt_status prepare_entry(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const preparation *p = ctx;

    (void)scratch;
    if (!lorafmt_view_get_tensor(p->image->view, p->layout->tensors[i])->needs_prepare)
        return LORAFMT_OK;
    LF_TRY(lf_image_prepare(p->image, p->layout->tensors[i], err));
    return lf_progress_add(p->progress, 0, err);
}

lorafmt_status lf_image_write_tensors(lorafmt_image *image, size_t layout, int fd, const char *path, const lf_writing *w,
                                      lorafmt_error *err)
{
    const lf_model_file *base = &image->model->files[layout];
    const lf_layout *l = &image->layouts[layout];
    preparation p = {image, l, w->progress};
    lf_task_list list = {.view = image->view, .src_path = base->path, .dst_path = path, .src = base->fd, .dst = fd};
    lorafmt_status st;

    list.measure = w->changes != NULL;
    if ((st = lf_parallel(l->n, w->n_threads, 0, prepare_entry, &p, err)) || (st = lf_layout_plan(l, base->table, &list, err)) ||
        (st = write_header(base, l, fd, path, err)) || (st = lf_tasks_run(&list, w->n_threads, w->progress, err)))
        goto done;
    lf_tasks_sum(&list, w->counts, w->changes);
    if (w->digests)
        st = lf_layout_digests(l, fd, path, w->n_threads, w->progress, w->digests, err);
    if (!st)
        st = flush(w, fd, path, l->size, err);
done:
    free(list.tasks);
    return st;
}

lorafmt_status lf_image_write_side(const lf_image_file *file, int fd, const char *path, lorafmt_error *err)
{
    if (file->text)
        return lf_file_write(fd, path, 0, file->text, (size_t)file->info.size, err);
    LF_TRY(lf_file_copy(file->side->fd, file->side->path, 0, fd, path, 0, file->info.size, err));
    return lf_check_unchanged(file->side->fd, file->side->path, &file->side->at_open, err);
}

static lorafmt_status write_file(lorafmt_image *image, const lf_image_file *file, lf_output *output, const lf_writing *w,
                                 lorafmt_error *err)
{
    const char *path = lf_output_path(output);
    const int fd = lf_output_fd(output);
    const lf_model_file *base = &image->model->files[file->layout];

    if (!file->info.has_tensors)
        return lf_image_write_side(file, fd, path, err);
    LF_TRY(lf_output_check_space(output, file->info.size, err));
    LF_TRY(lf_file_reserve(fd, path, file->info.size, err));
    LF_TRY(lf_image_write_tensors(image, file->layout, fd, path, w, err));
    LF_TRY(lf_check_unchanged(base->fd, base->path, &base->at_open, err));
    return lf_progress_add(w->progress, 0, err); // the last moment to stop
}

lorafmt_status lorafmt_image_write(lorafmt_image *image, size_t i, const char *path, const lorafmt_image_write_options *options,
                                   lorafmt_counts *counts, lorafmt_error *err)
{
    static const lorafmt_image_write_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_image_write_options *o = options ? options : &defaults;
    lf_progress progress = {.call = o->progress, .ctx = o->progress_ctx, .lock = PTHREAD_MUTEX_INITIALIZER};
    lorafmt_counts found = {0};
    const lf_writing w = {lf_n_threads(o->n_threads), &progress, &found, NULL, NULL};
    lf_output *output;
    lorafmt_status st;

    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (i >= image->n_files)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "file %zu, the image has %zu", i, image->n_files);
    progress.total = image->files[i].info.size;
    LF_TRY(lf_output_begin_file(path, o->force, &output, err));
    if ((st = write_file(image, &image->files[i], output, &w, err))) {
        lf_output_abort(output);
        return st;
    }
    LF_TRY(lf_output_commit(output, err));
    if (counts) {
        counts->n_nan += found.n_nan;
        counts->n_inf += found.n_inf;
    }
    return LORAFMT_OK;
}
