/* SPDX-License-Identifier: MIT */
/*
 * Stream every tensor of a view into a new model. What can fail early comes early: all shards are laid out, what is small is
 * written, the room for all shards is reserved, and only then is one after the other filled by tasks in any order.
 */
#include "lib/front/merge.h"

#include "format/base/error.h"
#include "lib/threads/parallel.h"
#include "lib/view/view.h"

#include <stdlib.h>
#include <string.h>

/* Between two questions whether to go on, while the disk takes what was written. */
#define FLUSH_SIZE (UINT64_C(64) << 20)

typedef struct merger {
    const lorafmt_model *model;
    lorafmt_view *view;
    const lorafmt_merge_options *options;
    unsigned n_threads;
    lf_layout *layouts; // of the model's files
    lf_progress progress;
    lorafmt_merge_result result;
} merger;

static lorafmt_status lay_out_all(merger *m, lorafmt_error *err)
{
    m->layouts = calloc(m->model->n_files, sizeof *m->layouts);
    if (!m->layouts)
        return lf_no_memory(err);
    for (size_t i = 0; i < m->model->n_files; i++) {
        LF_TRY(lf_layout_make(m->model, m->view, i, &m->layouts[i], err));
        m->result.n_bytes += m->layouts[i].size;
    }
    return LORAFMT_OK;
}

static void layouts_free(merger *m)
{
    for (size_t i = 0; m->layouts && i < m->model->n_files; i++)
        lf_layout_free(&m->layouts[i]);
    free(m->layouts);
}

static lorafmt_status write_header(const lf_model_file *base, const lf_layout *l, int fd, const char *path, lorafmt_error *err)
{
    if (l->same)
        return lf_file_copy(base->fd, base->path, 0, fd, path, 0, l->data_offset, err);
    return lf_file_write(fd, path, 0, l->header, (size_t)l->data_offset, err);
}

/* fsync() hears no signals, and may have gigabytes to write: little is left to it. */
static lorafmt_status flush_shard(merger *m, int fd, const char *path, uint64_t size, lorafmt_error *err)
{
    for (uint64_t at = 0; at < size; at += FLUSH_SIZE) {
        LF_TRY(lf_file_flush(fd, path, at, size - at < FLUSH_SIZE ? size - at : FLUSH_SIZE, err));
        LF_TRY(lf_progress_add(&m->progress, 0, err));
    }
    return LORAFMT_OK;
}

static lorafmt_status write_shard(merger *m, size_t file, int fd, const char *path, lorafmt_error *err)
{
    const lf_model_file *base = &m->model->files[file];
    const lf_layout *l = &m->layouts[file];
    lf_task_list list = {.view = m->view, .src_path = base->path, .dst_path = path, .src = base->fd, .dst = fd};
    lorafmt_status st;

    list.measure = m->options->changes != NULL;
    if ((st = lf_layout_plan(l, base->table, &list, err)) || (st = write_header(base, l, fd, path, err)) ||
        (st = lf_tasks_run(&list, m->n_threads, &m->progress, err)))
        goto done;
    lf_tasks_sum(&list, &m->result.counts, m->options->changes);
    if (m->options->digests)
        st = lf_layout_digests(l, fd, path, m->n_threads, &m->progress, m->options->digests, err);
    if (!st)
        st = flush_shard(m, fd, path, l->size, err);
done:
    free(list.tasks);
    return st;
}

typedef struct preparation {
    lorafmt_view *view;
    lf_progress *progress;
} preparation;

static lorafmt_status prepare_tensor(void *ctx, size_t tensor, void *scratch, lorafmt_error *err)
{
    const preparation *p = ctx;

    (void)scratch;
    LF_TRY(lorafmt_view_prepare(p->view, tensor, err));
    return lf_progress_add(p->progress, 0, err);
}

lorafmt_status lf_prepare_view(lorafmt_view *view, unsigned n_threads, lf_progress *progress, lorafmt_error *err)
{
    preparation p = {view, progress};

    return lf_parallel(lorafmt_view_n_tensors(view), n_threads, 0, prepare_tensor, &p, err);
}

static lorafmt_status write_file(merger *m, lf_output *output, lorafmt_error *err)
{
    const char *path = lf_output_path(output);
    const int fd = lf_output_fd(output);

    LF_TRY(lf_output_check_space(output, m->result.n_bytes, err));
    LF_TRY(lf_file_reserve(fd, path, m->layouts[0].size, err));
    LF_TRY(lf_prepare_view(m->view, m->n_threads, &m->progress, err));
    return write_shard(m, 0, fd, path, err);
}

static lorafmt_status write_directory(merger *m, lf_output *output, void (*report)(void *ctx, const char *file, const char *why),
                                      void *report_ctx, lorafmt_error *err)
{
    const lorafmt_model *model = m->model;

    LF_TRY(lf_output_check_space(output, m->result.n_bytes, err));
    LF_TRY(lf_side_files_write(model, m->view, model->files[model->n_files - 1].name, output, report, report_ctx, err));
    for (size_t i = 0; i < model->n_files; i++)
        LF_TRY(lf_output_reserve(output, model->files[i].name, m->layouts[i].size, err));
    LF_TRY(lf_prepare_view(m->view, m->n_threads, &m->progress, err));
    for (size_t i = 0; i < model->n_files; i++) {
        const char *name = model->files[i].name;
        int fd;
        LF_TRY(lf_output_open_reserved(output, name, &fd, err));
        LF_TRY(lf_output_close(output, name, fd, write_shard(m, i, fd, name, err), err));
    }
    return LORAFMT_OK;
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

static lorafmt_status write_output(merger *m, const char *path, void (*report)(void *ctx, const char *file, const char *why),
                                   void *report_ctx, lorafmt_error *err)
{
    const bool is_directory = m->model->is_directory, force = m->options->force;
    lf_output *output;
    lorafmt_status st;

    LF_TRY(is_directory ? lf_output_begin_directory(path, force, &output, err) : lf_output_begin_file(path, force, &output, err));
    st = is_directory ? write_directory(m, output, report, report_ctx, err) : write_file(m, output, err);
    if (!st)
        st = lf_model_check_unchanged(m->model, err);
    if (!st)
        st = lf_progress_add(&m->progress, 0, err); // the last moment to stop
    if (!st)
        return lf_output_commit(output, err);
    lf_output_abort(output);
    return st;
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
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (view->base != lorafmt_model_base(model))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound to another base than this model's");
    LF_TRY(check_single_file(&m, err));
    m.n_threads = lf_n_threads(o->n_threads);
    count_tensors(&m);
    if (o->changes)
        memset(o->changes, 0, lorafmt_view_n_tensors(view) * sizeof *o->changes);
    st = lay_out_all(&m, err);
    if (!st)
        st = write_output(&m, path, report, report_ctx, err);
    if (!st)
        *out = m.result;
    layouts_free(&m);
    return st;
}
