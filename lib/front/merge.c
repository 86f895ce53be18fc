/* SPDX-License-Identifier: MIT */
/*
 * All files of an image, written. What can fail early comes early: all files are laid out, what is small is written, the room for
 * all is reserved, and only then is one after the other filled.
 */
#include "lib/front/merge.h"

#include "format/base/error.h"
#include "lib/threads/parallel.h"
#include "lib/view/view.h"

#include <string.h>

typedef struct merger {
    lorafmt_image *image;
    const lorafmt_merge_options *options;
    lf_progress progress;
    lf_writing writing;
    lorafmt_merge_result result;
} merger;

static lorafmt_status write_file(merger *m, lf_output *output, lorafmt_error *err)
{
    const char *path = lf_output_path(output);
    const int fd = lf_output_fd(output);

    LF_TRY(lf_output_check_space(output, m->result.n_bytes, err));
    LF_TRY(lf_file_reserve(fd, path, m->image->files[0].info.size, err));
    return lf_image_write_tensors(m->image, 0, fd, path, &m->writing, err);
}

static lorafmt_status write_side_file(const lf_image_file *file, lf_output *output, lorafmt_error *err)
{
    const char *name = file->info.name;
    int fd;

    LF_TRY(lf_output_create(output, name, &fd, err));
    return lf_output_close(output, name, fd, lf_image_write_side(file, fd, name, err), err);
}

static lorafmt_status write_directory(merger *m, lf_output *output, lorafmt_error *err)
{
    const lorafmt_image *image = m->image;

    LF_TRY(lf_output_check_space(output, m->result.n_bytes, err));
    for (size_t i = 0; i < image->n_files; i++)
        if (!image->files[i].info.has_tensors)
            LF_TRY(write_side_file(&image->files[i], output, err));
    for (size_t i = 0; i < image->n_files; i++)
        if (image->files[i].info.has_tensors)
            LF_TRY(lf_output_reserve(output, image->files[i].info.name, image->files[i].info.size, err));
    for (size_t i = 0; i < image->n_files; i++) {
        const lf_image_file *file = &image->files[i];
        const char *name = file->info.name;
        int fd;
        if (!file->info.has_tensors)
            continue;
        LF_TRY(lf_output_open_reserved(output, name, &fd, err));
        LF_TRY(
            lf_output_close(output, name, fd, lf_image_write_tensors(m->image, file->layout, fd, name, &m->writing, err), err));
    }
    return LORAFMT_OK;
}

static void count_tensors(merger *m)
{
    const lorafmt_image *image = m->image;
    const size_t n_base = image->model->base.n_tensors;

    for (size_t i = 0; i < image->model->n_files; i++) {
        m->result.n_bytes += image->layouts[i].size;
        m->progress.total += (image->layouts[i].size - image->layouts[i].data_offset) * (m->options->digests ? 2 : 1);
    }
    for (size_t f = 0; f < image->model->n_files; f++)
        for (size_t i = 0; i < image->layouts[f].n; i++) {
            if (image->layouts[f].tensors[i] >= n_base)
                m->result.n_new++;
            else if (lf_layout_computes(&image->layouts[f], image->view, i))
                m->result.n_changed++;
            else
                m->result.n_copied++;
        }
}

static lorafmt_status write_output(merger *m, const char *path, lorafmt_error *err)
{
    const lorafmt_model *model = m->image->model;
    const bool is_directory = model->is_directory, force = m->options->force;
    lf_output *output;
    lorafmt_status st;

    LF_TRY(is_directory ? lf_output_begin_directory(path, force, &output, err) : lf_output_begin_file(path, force, &output, err));
    st = is_directory ? write_directory(m, output, err) : write_file(m, output, err);
    if (!st)
        st = lf_model_check_unchanged(model, err);
    if (!st)
        st = lf_progress_add(&m->progress, 0, err); // the last moment to stop
    if (!st)
        return lf_output_commit(output, err);
    lf_output_abort(output);
    return st;
}

lorafmt_status lorafmt_merge(lorafmt_model *model, lorafmt_view *view, const char *path, const lorafmt_merge_options *options,
                             void (*report)(void *ctx, const char *file, const char *why), void *report_ctx,
                             lorafmt_merge_result *out, lorafmt_error *err)
{
    static const lorafmt_merge_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_merge_options *o = options ? options : &defaults;
    const lorafmt_image_options image_options = {.struct_size = sizeof image_options,
                                                 .dtype = o->dtype,
                                                 .report = report,
                                                 .report_ctx = report_ctx};
    merger m = {.options = o, .progress = {.call = o->progress, .ctx = o->progress_ctx, .lock = PTHREAD_MUTEX_INITIALIZER}};
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (o->dtype && o->changes)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "changes", "are not measured when the dtype changes too");
    LF_TRY(lorafmt_image_open(model, view, &image_options, &m.image, err));
    m.writing = (lf_writing){lf_n_threads(o->n_threads), &m.progress, &m.result.counts, o->changes, o->digests};
    count_tensors(&m);
    if (o->changes)
        memset(o->changes, 0, lorafmt_view_n_tensors(view) * sizeof *o->changes);
    st = write_output(&m, path, err);
    if (!st)
        *out = m.result;
    lorafmt_image_free(m.image);
    return st;
}
