/* SPDX-License-Identifier: MIT */
/*
 * Stream every tensor of a view into a new model. Each shard is laid out first, then filled by tasks in any order. Where no
 * tensor changes its size the header is the base's, byte for byte.
 */
#include "lib/front/merge.h"

#include "format/base/error.h"
#include "lib/front/parallel.h"
#include "lib/view/view.h"

#include <stdlib.h>
#include <string.h>

typedef struct merger {
    const lorafmt_model *model;
    const lorafmt_view *view;
    unsigned n_threads;
    lf_merge_progress progress;
    lorafmt_merge_result result;
} merger;

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

/* One shard of the output: its tensors in the order of the base's shard, new ones at the end of the last shard. */
typedef struct layout {
    size_t n;
    size_t *tensors; // of the view
    lf_safetensors_tensor *entries;
    bool same; // as the base's shard, so that the header can stay
    uint64_t data_offset, size;
    uint8_t *header; // unless same
} layout;

static void layout_free(layout *l)
{
    free(l->tensors);
    free(l->entries);
    free(l->header);
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

static lorafmt_status write_shard(merger *m, size_t file, int fd, const char *path, lorafmt_error *err)
{
    const lf_model_file *base = &m->model->files[file];
    lf_task_list list = {.view = m->view, .src_path = base->path, .dst_path = path, .src = base->fd, .dst = fd};
    layout l;
    lorafmt_status st;

    if ((st = lay_out(m, file, &l, err)) || (st = plan_tasks(m, file, &l, &list, err)) ||
        (st = lf_file_reserve(fd, path, l.size, err)) || (st = write_header(base, &l, fd, path, err)))
        goto done;
    st = lf_tasks_run(&list, m->n_threads, &m->progress, &m->result.counts, err);
    m->result.n_bytes += l.size;
done:
    free(list.tasks);
    layout_free(&l);
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

static lorafmt_status prepare_tensor(void *view, size_t tensor, void *scratch, lorafmt_error *err)
{
    (void)scratch;
    return lorafmt_view_prepare(view, tensor, err);
}

/* What must be known of whole tensors before any row is written (DoRA). */
static lorafmt_status prepare_view(lorafmt_view *view, unsigned n_threads, lorafmt_error *err)
{
    return lf_parallel(lorafmt_view_n_tensors(view), n_threads, 0, prepare_tensor, view, err);
}

lorafmt_status lorafmt_merge(const lorafmt_model *model, lorafmt_view *view, const char *path,
                             const lorafmt_merge_options *options, void (*report)(void *ctx, const char *file, const char *why),
                             void *report_ctx, lorafmt_merge_result *out, lorafmt_error *err)
{
    static const lorafmt_merge_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_merge_options *o = options ? options : &defaults;
    merger m = {.model = model, .view = view, .progress = {.call = o->progress, .ctx = o->progress_ctx}};
    lf_output *output = NULL;
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (view->base != lorafmt_model_base(model))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound to another base than this model's");
    LF_TRY(check_single_file(&m, err));
    m.n_threads = lf_n_threads(o->n_threads);
    LF_TRY(prepare_view(view, m.n_threads, err));
    count_tensors(&m);
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
