/* SPDX-License-Identifier: MIT */
/* Stream every tensor of a view into a new model. Each shard is laid out first, then filled by tasks in any order. */
#include "lib/front/merge.h"

#include "format/base/error.h"
#include "lib/front/parallel.h"
#include "lib/view/view.h"

#include <stdlib.h>
#include <string.h>

typedef struct merger {
    const lorafmt_model *model;
    const lorafmt_view *view;
    const lorafmt_merge_options *options;
    unsigned n_threads;
    lf_progress progress;
    lorafmt_merge_result result;
} merger;

static lorafmt_status write_header(const lf_model_file *base, const lf_layout *l, int fd, const char *path, lorafmt_error *err)
{
    if (l->same)
        return lf_file_copy(base->fd, base->path, 0, fd, path, 0, l->data_offset, err);
    return lf_file_write(fd, path, 0, l->header, (size_t)l->data_offset, err);
}

static lorafmt_status write_shard(merger *m, size_t file, int fd, const char *path, lorafmt_error *err)
{
    const lf_model_file *base = &m->model->files[file];
    lf_task_list list = {.view = m->view, .src_path = base->path, .dst_path = path, .src = base->fd, .dst = fd};
    lf_layout l;
    lorafmt_status st;

    list.measure = m->options->changes != NULL;
    if ((st = lf_layout_make(m->model, m->view, file, &l, err)) || (st = lf_layout_plan(&l, base->table, &list, err)) ||
        (st = lf_file_reserve(fd, path, l.size, err)) || (st = write_header(base, &l, fd, path, err)) ||
        (st = lf_tasks_run(&list, m->n_threads, &m->progress, err)))
        goto done;
    lf_tasks_sum(&list, &m->result.counts, m->options->changes);
    m->result.n_bytes += l.size;
    if (m->options->digests)
        st = lf_layout_digests(&l, fd, path, m->n_threads, &m->progress, m->options->digests, err);
done:
    free(list.tasks);
    lf_layout_free(&l);
    return st;
}

static lorafmt_status write_directory(merger *m, lf_output *output, void (*report)(void *ctx, const char *file, const char *why),
                                      void *report_ctx, lorafmt_error *err)
{
    const lorafmt_model *model = m->model;
    int fd;

    for (size_t i = 0; i < model->n_files; i++) {
        const char *name = model->files[i].name;
        LF_TRY(lf_output_create(output, name, &fd, err));
        LF_TRY(lf_output_close(output, name, fd, write_shard(m, i, fd, name, err), err));
    }
    return lf_side_files_write(model, m->view, model->files[model->n_files - 1].name, output, report, report_ctx, err);
}

static void count_tensors(merger *m)
{
    const size_t n_base = m->model->base.n_tensors;

    for (size_t i = 0; i < lorafmt_view_n_tensors(m->view); i++) {
        const lorafmt_view_tensor *info = lorafmt_view_get_tensor(m->view, i);
        m->progress.total += m->options->digests ? 2 * info->size : info->size;
        if (i >= n_base)
            m->result.n_new++;
        else if (info->touched)
            m->result.n_changed++;
        else
            m->result.n_copied++;
    }
}

/* What a single file cannot say must not be lost: it has no config beside it to edit. */
static lorafmt_status check_single_file(const merger *m, lorafmt_error *err)
{
    if (!m->model->is_directory && (lorafmt_view_vocab_size(m->view) || lorafmt_view_unties(m->view)))
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL,
                       "%s, and config.json with it: give the base as a directory",
                       lorafmt_view_unties(m->view) ? "the head comes untied" : "the vocabulary changes");
    return LORAFMT_OK;
}

static lorafmt_status prepare_tensor(void *view, size_t tensor, void *scratch, lorafmt_error *err)
{
    (void)scratch;
    return lorafmt_view_prepare(view, tensor, err);
}

lorafmt_status lf_prepare_view(lorafmt_view *view, unsigned n_threads, lorafmt_error *err)
{
    return lf_parallel(lorafmt_view_n_tensors(view), n_threads, 0, prepare_tensor, view, err);
}

lorafmt_status lorafmt_merge(const lorafmt_model *model, lorafmt_view *view, const char *path,
                             const lorafmt_merge_options *options, void (*report)(void *ctx, const char *file, const char *why),
                             void *report_ctx, lorafmt_merge_result *out, lorafmt_error *err)
{
    static const lorafmt_merge_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_merge_options *o = options ? options : &defaults;
    merger m = {.model = model,
                .view = view,
                .options = o,
                .progress = {.call = o->progress, .ctx = o->progress_ctx, .lock = PTHREAD_MUTEX_INITIALIZER}};
    lf_output *output = NULL;
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (view->base != lorafmt_model_base(model))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound to another base than this model's");
    LF_TRY(check_single_file(&m, err));
    m.n_threads = lf_n_threads(o->n_threads);
    LF_TRY(lf_prepare_view(view, m.n_threads, err));
    count_tensors(&m);
    if (o->changes)
        memset(o->changes, 0, lorafmt_view_n_tensors(view) * sizeof *o->changes);
    if (model->is_directory) {
        LF_TRY(lf_output_begin_directory(path, o->force, &output, err));
        st = write_directory(&m, output, report, report_ctx, err);
    } else {
        LF_TRY(lf_output_begin_file(path, o->force, &output, err));
        st = write_shard(&m, 0, lf_output_fd(output), lf_output_path(output), err);
    }
    if (st) {
        lf_output_abort(output);
        return st;
    }
    LF_TRY(lf_output_commit(output, err));
    *out = m.result;
    return LORAFMT_OK;
}
