/* SPDX-License-Identifier: MIT */
/*
 * Hold a model on disk against a view: the same files, headers and bytes that merging would write. Everything is computed again, a
 * task at a time, and compared where it was to be written.
 */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/front/merge.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"
#include "lib/view/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct comparer {
    const lorafmt_model *base, *merged;
    lorafmt_view *view;
    const lorafmt_compare_options *options;
    unsigned n_threads;
    lf_progress progress;

    /* The file at hand. */
    const lf_model_file *from;
    lf_task_list list;
    lf_layout layout;
    size_t largest; // bytes of a task

    pthread_mutex_t lock; // guards what follows
    bool *differs;        // for each tensor of the view
    uint64_t first_at;    // the first byte of this file that differs, or UINT64_MAX
    lorafmt_compare_result result;
} comparer;

static void note_tensor(comparer *c, size_t tensor, uint64_t at)
{
    pthread_mutex_lock(&c->lock);
    c->result.n_differing += !c->differs[tensor];
    c->differs[tensor] = true;
    if (at < c->first_at)
        c->first_at = at;
    pthread_mutex_unlock(&c->lock);
}

/* The bytes of a task differ; they may be of several tensors. */
static void note_task(comparer *c, const lf_task *task, const uint8_t *expected, const uint8_t *found)
{
    size_t entry = lf_layout_find(&c->layout, task->dst);

    for (uint64_t i = 0; i < task->size;) {
        const lf_safetensors_tensor *t = &c->layout.entries[entry];
        const uint64_t left = t->offset + t->size - task->dst, end = left < task->size ? left : task->size;
        while (i < end && expected[i] == found[i])
            i++;
        if (i < end)
            note_tensor(c, c->layout.tensors[entry], task->dst + i);
        i = end;
        entry++;
    }
}

static lorafmt_status compare_task(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    comparer *c = ctx;
    const lf_task_list *list = &c->list;
    lf_task *task = &list->tasks[i];
    uint8_t *expected = scratch, *found = expected + c->largest;

    if (task->compute)
        LF_TRY(lf_task_compute(list, task, expected, err));
    else
        LF_TRY(lf_file_read(list->src, list->src_path, task->src, expected, (size_t)task->size, err));
    LF_TRY(lf_file_read(list->dst, list->dst_path, task->dst, found, (size_t)task->size, err));
    if (memcmp(expected, found, (size_t)task->size) != 0)
        note_task(c, task, expected, found);
    return lf_progress_add(&c->progress, task->size, err);
}

/* Bytes of one element of a tensor as it must be; at is its place in the tensor. */
static lorafmt_status expected_element(const comparer *c, size_t entry, uint64_t at, uint8_t *dst, size_t size,
                                       lorafmt_error *err)
{
    const lf_safetensors *base = c->from->table;
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(c->view, c->layout.tensors[entry]);
    const uint64_t bits = lorafmt_dtype_bits(info->dtype), row = at / info->row_size, col = at % info->row_size * 8 / bits;
    lf_task task = {.tensor = c->layout.tensors[entry],
                    .dtype = info->dtype,
                    .region = {row, 1, (size_t)col, (size_t)(size * 8 / bits)},
                    .src = at + (entry < base->n_tensors ? base->tensors[entry].offset : 0),
                    .size = size};

    if (!info->touched)
        return lf_file_read(c->from->fd, c->from->path, task.src, dst, size, err);
    return lf_task_compute(&c->list, &task, dst, err);
}

static double number_of(lorafmt_dtype dtype, const uint8_t element[8])
{
    double number = NAN;
    lf_fpenv env;

    if (!lf_dtype_is_real(dtype))
        return number;
    env = lf_fpenv_enter();
    lf_widen_f64(lf_real_of(dtype), element, &number, 1);
    lf_fpenv_leave(env);
    return number;
}

/* Say all about the first byte of this file that differs. */
static lorafmt_status describe_first(comparer *c, lorafmt_error *err)
{
    const size_t entry = lf_layout_find(&c->layout, c->first_at);
    const lf_safetensors_tensor *t = &c->layout.entries[entry];
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(c->view, c->layout.tensors[entry]);
    const unsigned bits = lorafmt_dtype_bits(t->dtype);
    const size_t size = bits < 8 ? 1 : bits / 8;
    const uint64_t at = (c->first_at - t->offset) / size * size;
    lorafmt_difference *d = &c->result.first;

    d->tensor = c->layout.tensors[entry];
    d->row = at / info->row_size;
    d->col = at % info->row_size * 8 / bits;
    d->size = size;
    LF_TRY(expected_element(c, entry, at, d->expected, size, err));
    LF_TRY(lf_file_read(c->list.dst, c->list.dst_path, t->offset + at, d->found, size, err));
    d->expected_number = number_of(t->dtype, d->expected);
    d->found_number = number_of(t->dtype, d->found);
    return LORAFMT_OK;
}

static lorafmt_status compare_data(comparer *c, lorafmt_error *err)
{
    c->largest = 0;
    c->first_at = UINT64_MAX;
    for (size_t i = 0; i < c->list.n; i++)
        if (c->list.tasks[i].size > c->largest)
            c->largest = (size_t)c->list.tasks[i].size;
    LF_TRY(lf_parallel(c->list.n, c->n_threads, 2 * c->largest, compare_task, c, err));
    lf_tasks_sum(&c->list, &c->result.counts, c->options->changes);
    if (c->first_at != UINT64_MAX && c->result.first.tensor == SIZE_MAX)
        LF_TRY(describe_first(c, err));
    return LORAFMT_OK;
}

static lorafmt_status compare_file(comparer *c, size_t file, lorafmt_error *err)
{
    const lf_model_file *base = &c->base->files[file], *found = &c->merged->files[file];
    lorafmt_status st;

    c->from = base;
    c->list = (lf_task_list){.view = c->view, .src_path = base->path, .dst_path = found->path, .src = base->fd, .dst = found->fd};
    c->list.measure = c->options->changes != NULL;
    if ((st = lf_layout_make(c->base, c->view, 0, file, &c->layout, err)))
        goto done;
    if ((st = lf_layout_compare_header(&c->layout, base, found, err))) {
        lf_error_set_file(err, found->path);
        goto done;
    }
    if ((st = lf_layout_plan(&c->layout, base->table, &c->list, err)) || (st = compare_data(c, err)))
        goto done;
    c->result.n_bytes += c->layout.size;
    if (c->options->digests)
        st = lf_layout_digests(&c->layout, found->fd, found->path, c->n_threads, &c->progress, c->options->digests, err);
done:
    free(c->list.tasks);
    lf_layout_free(&c->layout);
    return st;
}

static lorafmt_status compare_names(const lorafmt_model *base, const lorafmt_model *merged, lorafmt_error *err)
{
    if (base->is_directory != merged->is_directory)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL, "%s, must be %s as the base is",
                       merged->is_directory ? "a directory" : "a file", base->is_directory ? "a directory" : "a file");
    for (size_t i = 0; base->is_directory && i < base->n_files && i < merged->n_files; i++)
        if (strcmp(base->files[i].name, merged->files[i].name) != 0)
            return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL,
                           "holds tensors in %.300s, must be %.300s as in the base", merged->files[i].name, base->files[i].name);
    if (base->n_files != merged->n_files)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL, "holds tensors in %zu files, must be %zu as in the base",
                       merged->n_files, base->n_files);
    return LORAFMT_OK;
}

static lorafmt_status compare_files(comparer *c, lorafmt_error *err)
{
    const size_t n_tensors = lorafmt_view_n_tensors(c->view);
    lorafmt_status st = LORAFMT_OK;

    c->differs = calloc(n_tensors ? n_tensors : 1, sizeof *c->differs);
    if (!c->differs)
        return lf_no_memory(err);
    if (c->options->changes)
        memset(c->options->changes, 0, n_tensors * sizeof *c->options->changes);
    c->result.n_tensors = n_tensors;
    c->result.first.tensor = SIZE_MAX;
    for (size_t i = 0; i < n_tensors; i++)
        c->progress.total += lorafmt_view_get_tensor(c->view, i)->size * (c->options->digests ? 2 : 1);
    for (size_t i = 0; i < c->base->n_files && !st; i++)
        st = compare_file(c, i, err);
    free(c->differs);
    return st;
}

static lorafmt_status prepare_tensor(void *ctx, size_t tensor, void *scratch, lorafmt_error *err)
{
    comparer *c = ctx;

    (void)scratch;
    LF_TRY(lorafmt_view_prepare(c->view, tensor, err));
    return lf_progress_add(&c->progress, 0, err);
}

lorafmt_status lorafmt_compare(const lorafmt_model *base, lorafmt_view *view, const lorafmt_model *merged,
                               const lorafmt_compare_options *options, lorafmt_compare_result *out, lorafmt_error *err)
{
    static const lorafmt_compare_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_compare_options *o = options ? options : &defaults;
    comparer c = {.base = base,
                  .merged = merged,
                  .view = view,
                  .options = o,
                  .lock = PTHREAD_MUTEX_INITIALIZER,
                  .progress = {.call = o->progress, .ctx = o->progress_ctx, .lock = PTHREAD_MUTEX_INITIALIZER}};
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (view->base != lorafmt_model_base(base))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound to another base than this model's");
    if ((st = compare_names(base, merged, err))) {
        lf_error_set_file(err, merged->path);
        return st;
    }
    c.n_threads = lf_n_threads(o->n_threads);
    LF_TRY(lf_parallel(lorafmt_view_n_tensors(view), c.n_threads, 0, prepare_tensor, &c, err));
    LF_TRY(compare_files(&c, err));
    *out = c.result;
    return LORAFMT_OK;
}
