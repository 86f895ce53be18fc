/* SPDX-License-Identifier: MIT */
/*
 * Stream every tensor of a view into a new model. Where no tensor changes its size the header is the base's, byte for byte.
 * What can fail early comes early: all shards are laid out, what is small is written, the room for all shards is reserved,
 * and only then is one after the other filled by tasks in any order.
 */
#include "lib/front/merge.h"

#include "format/base/error.h"
#include "lib/front/parallel.h"
#include "lib/view/view.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Between two questions whether to go on, while the disk takes what was written. */
#define FLUSH_SIZE (UINT64_C(64) << 20)

/* One shard of the output: its tensors in the order of the base's shard, new ones at the end of the last shard. */
typedef struct layout {
    size_t n;
    size_t *tensors; // of the view
    lf_safetensors_tensor *entries;
    bool same; // as the base's shard, so that the header can stay
    uint64_t data_offset, size;
    uint8_t *header; // unless same
} layout;

typedef struct merger {
    const lorafmt_model *model;
    lorafmt_view *view;
    unsigned n_threads;
    layout *layouts;      // of the model's files
    pthread_mutex_t lock; // guards progress while the view is prepared
    lf_merge_progress progress;
    lorafmt_merge_result result;
} merger;

lorafmt_status lf_merge_ask(const lf_merge_progress *progress, lorafmt_error *err)
{
    if (!progress->call || progress->call(progress->ctx, progress->done, progress->total))
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL,
                   "stopped after %" PRIu64 " of %" PRIu64 " bytes; nothing was left behind", progress->done, progress->total);
}

static lorafmt_status add_task(lf_task_list *list, const lf_task *task, lorafmt_error *err)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 256;
        lf_task *bigger = realloc(list->tasks, capacity * sizeof *bigger);
        if (!bigger)
            return lf_no_memory(err);
        list->tasks = bigger;
        list->capacity = capacity;
    }
    list->tasks[list->n++] = *task;
    return LORAFMT_OK;
}

static lorafmt_status add_compute(lf_task_list *list, size_t tensor, uint64_t src, uint64_t dst, lorafmt_error *err)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(list->view, tensor);
    const uint64_t step = info->row_size >= LF_TASK_SIZE ? 1 : info->row_size ? LF_TASK_SIZE / info->row_size : 1;

    for (uint64_t row = 0; row < info->n_rows; row += step) {
        const uint64_t n = info->n_rows - row < step ? info->n_rows - row : step, at = row * info->row_size;
        const lf_task task = {true, tensor, row, n, src + at, dst + at, n * info->row_size};
        LF_TRY(add_task(list, &task, err));
    }
    return LORAFMT_OK;
}

/* Copies that follow each other in both files become one, up to the size of a task. */
static lorafmt_status add_copy(lf_task_list *list, uint64_t src, uint64_t dst, uint64_t size, lorafmt_error *err)
{
    while (size) {
        lf_task *last = list->n ? &list->tasks[list->n - 1] : NULL;
        const bool joins =
            last && !last->compute && last->src + last->size == src && last->dst + last->size == dst && last->size < LF_TASK_SIZE;
        const uint64_t room = joins ? LF_TASK_SIZE - last->size : LF_TASK_SIZE, n = size < room ? size : room;
        if (joins)
            last->size += n;
        else {
            const lf_task task = {.src = src, .dst = dst, .size = n};
            LF_TRY(add_task(list, &task, err));
        }
        src += n;
        dst += n;
        size -= n;
    }
    return LORAFMT_OK;
}

static int compare_name(const void *key, const void *tensor)
{
    return strcmp(key, ((const lorafmt_base_tensor *)tensor)->name);
}

static size_t find_tensor(const lorafmt_model *model, const char *name)
{
    const lorafmt_base_tensor *found = bsearch(name, model->tensors, model->base.n_tensors, sizeof *model->tensors, compare_name);
    return (size_t)(found - model->tensors);
}

static void layouts_free(layout *layouts, size_t n)
{
    for (size_t i = 0; layouts && i < n; i++) {
        free(layouts[i].tensors);
        free(layouts[i].entries);
        free(layouts[i].header);
    }
    free(layouts);
}

static void add_entry(layout *l, const lorafmt_view *view, size_t tensor)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(view, tensor);
    lf_safetensors_tensor *e = &l->entries[l->n];

    *e = (lf_safetensors_tensor){.name = info->name, .dtype = info->dtype, .n_dims = info->n_dims, .size = info->size};
    memcpy(e->shape, info->shape, sizeof e->shape);
    l->tensors[l->n++] = tensor;
}

static lorafmt_status lay_out(const merger *m, size_t file, layout *l, lorafmt_error *err)
{
    const lf_safetensors *table = m->model->files[file].table;
    const size_t n_base = m->model->base.n_tensors, n_view = lorafmt_view_n_tensors(m->view);
    const size_t n_new = file == m->model->n_files - 1 ? n_view - n_base : 0, n = table->n_tensors + n_new;
    size_t header_size;

    memset(l, 0, sizeof *l);
    l->tensors = calloc(n ? n : 1, sizeof *l->tensors);
    l->entries = calloc(n ? n : 1, sizeof *l->entries);
    if (!l->tensors || !l->entries)
        return lf_no_memory(err);
    l->same = n_new == 0;
    for (size_t i = 0; i < table->n_tensors; i++) {
        add_entry(l, m->view, find_tensor(m->model, table->tensors[i].name));
        l->same = l->same && l->entries[i].size == table->tensors[i].size;
    }
    for (size_t i = 0; i < n_new; i++)
        add_entry(l, m->view, n_base + i);
    if (l->same) {
        l->data_offset = table->data_offset;
        l->size = table->file_size;
        return LORAFMT_OK;
    }
    LF_TRY(lf_safetensors_encode_header(l->entries, l->n, table->metadata, table->n_metadata, &l->header, &header_size, err));
    l->data_offset = l->size = header_size;
    for (size_t i = 0; i < l->n; i++)
        l->size += l->entries[i].size;
    return LORAFMT_OK;
}

static lorafmt_status lay_out_all(merger *m, lorafmt_error *err)
{
    m->layouts = calloc(m->model->n_files, sizeof *m->layouts);
    if (!m->layouts)
        return lf_no_memory(err);
    for (size_t i = 0; i < m->model->n_files; i++) {
        LF_TRY(lay_out(m, i, &m->layouts[i], err));
        m->result.n_bytes += m->layouts[i].size;
    }
    return LORAFMT_OK;
}

static lorafmt_status plan_tasks(const merger *m, size_t file, const layout *l, lf_task_list *list, lorafmt_error *err)
{
    const lf_safetensors *table = m->model->files[file].table;
    uint64_t dst = l->data_offset;

    for (size_t i = 0; i < l->n; i++) {
        const uint64_t src = i < table->n_tensors ? table->tensors[i].offset : 0;
        const lorafmt_view_tensor *info = lorafmt_view_get_tensor(m->view, l->tensors[i]);
        LF_TRY(info->touched ? add_compute(list, l->tensors[i], src, dst, err) : add_copy(list, src, dst, info->size, err));
        dst += info->size;
    }
    return LORAFMT_OK;
}

static lorafmt_status write_header(const lf_model_file *base, const layout *l, int fd, const char *path, lorafmt_error *err)
{
    if (l->same)
        return lf_file_copy(base->fd, base->path, 0, fd, path, 0, l->data_offset, err);
    return lf_file_write(fd, path, 0, l->header, (size_t)l->data_offset, err);
}

/* fsync() hears no signals, and may have gigabytes to write: little is left to it. */
static lorafmt_status flush_shard(const merger *m, int fd, const char *path, uint64_t size, lorafmt_error *err)
{
    for (uint64_t at = 0; at < size; at += FLUSH_SIZE) {
        LF_TRY(lf_file_flush(fd, path, at, size - at < FLUSH_SIZE ? size - at : FLUSH_SIZE, err));
        LF_TRY(lf_merge_ask(&m->progress, err));
    }
    return LORAFMT_OK;
}

static lorafmt_status write_shard(merger *m, size_t file, int fd, const char *path, lorafmt_error *err)
{
    const lf_model_file *base = &m->model->files[file];
    const layout *l = &m->layouts[file];
    lf_task_list list = {.view = m->view, .src_path = base->path, .dst_path = path, .src = base->fd, .dst = fd};
    lorafmt_status st;

    if (!(st = plan_tasks(m, file, l, &list, err)) && !(st = write_header(base, l, fd, path, err)) &&
        !(st = lf_tasks_run(&list, m->n_threads, &m->progress, &m->result.counts, err)))
        st = flush_shard(m, fd, path, l->size, err);
    free(list.tasks);
    return st;
}

static lorafmt_status prepare_tensor(void *ctx, size_t tensor, void *scratch, lorafmt_error *err)
{
    merger *m = ctx;
    lorafmt_status st;

    (void)scratch;
    LF_TRY(lorafmt_view_prepare(m->view, tensor, err));
    pthread_mutex_lock(&m->lock);
    st = lf_merge_ask(&m->progress, err);
    pthread_mutex_unlock(&m->lock);
    return st;
}

/* What must be known of whole tensors before any row is written (DoRA). */
static lorafmt_status prepare_view(merger *m, lorafmt_error *err)
{
    return lf_parallel(lorafmt_view_n_tensors(m->view), m->n_threads, 0, prepare_tensor, m, err);
}

static lorafmt_status write_file(merger *m, lf_output *output, lorafmt_error *err)
{
    const char *path = lf_output_path(output);
    const int fd = lf_output_fd(output);

    LF_TRY(lf_output_check_space(output, m->result.n_bytes, err));
    LF_TRY(lf_file_reserve(fd, path, m->layouts[0].size, err));
    LF_TRY(prepare_view(m, err));
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
    LF_TRY(prepare_view(m, err));
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
        m->progress.total += info->size;
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

static lorafmt_status write_output(merger *m, const char *path, bool force,
                                   void (*report)(void *ctx, const char *file, const char *why), void *report_ctx,
                                   lorafmt_error *err)
{
    const bool is_directory = m->model->is_directory;
    lf_output *output;
    lorafmt_status st;

    LF_TRY(is_directory ? lf_output_begin_directory(path, force, &output, err) : lf_output_begin_file(path, force, &output, err));
    st = is_directory ? write_directory(m, output, report, report_ctx, err) : write_file(m, output, err);
    if (!st)
        st = lf_model_check_unchanged(m->model, err);
    if (!st)
        st = lf_merge_ask(&m->progress, err); // the last moment to do so
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
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .progress = {.call = o->progress, .ctx = o->progress_ctx}};
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (view->base != lorafmt_model_base(model))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound to another base than this model's");
    LF_TRY(check_single_file(&m, err));
    m.n_threads = lf_n_threads(o->n_threads);
    count_tensors(&m);
    st = lay_out_all(&m, err);
    if (!st)
        st = write_output(&m, path, o->force, report, report_ctx, err);
    if (!st)
        *out = m.result;
    layouts_free(m.layouts, model->n_files);
    return st;
}
