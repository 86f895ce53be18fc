/* SPDX-License-Identifier: MIT */
/*
 * Where the tensors of a merged model lie in its files, and the tasks that fill them. Where no tensor changes its size the header
 * is the base's, byte for byte.
 */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/front/merge.h"

#include <stdlib.h>
#include <string.h>

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

/* Rows that the tiles of the kernels divide, and so many that packing factors for them costs little. */
#define TILES 24
#define FEW_ROWS (4 * TILES)

static uint64_t rows_of_task(uint64_t row_size)
{
    uint64_t rows = row_size ? LF_TASK_SIZE / row_size : 1;

    if (rows < FEW_ROWS && row_size)
        rows = LF_MAX_TASK_SIZE / row_size < FEW_ROWS ? LF_MAX_TASK_SIZE / row_size : FEW_ROWS;
    return rows > TILES ? rows / TILES * TILES : rows > 1 ? rows : 1;
}

static lorafmt_status add_region(lf_task_list *list, size_t tensor, lorafmt_dtype dtype, const lf_region *region, uint64_t src,
                                 uint64_t dst, lorafmt_error *err)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(list->view, tensor);
    const uint64_t bits = lorafmt_dtype_bits(info->dtype), out_bits = lorafmt_dtype_bits(dtype);
    const uint64_t first = region->row * (info->row_size * 8 / bits) + region->col;
    const lf_task task = {.compute = true,
                          .tensor = tensor,
                          .dtype = dtype,
                          .region = *region,
                          .src = src + first * bits / 8,
                          .dst = dst + first * out_bits / 8,
                          .size = region->n_rows * (region->n_cols * out_bits / 8)};

    return add_task(list, &task, err);
}

static lorafmt_status add_compute(lf_task_list *list, size_t tensor, lorafmt_dtype dtype, uint64_t src, uint64_t dst,
                                  lorafmt_error *err)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(list->view, tensor);
    const uint64_t bits = lorafmt_dtype_bits(info->dtype), step = rows_of_task(info->row_size);
    const size_t n_cols = (size_t)(info->row_size * 8 / bits), col_step = (size_t)(LF_MAX_TASK_SIZE * 8 / bits);

    for (uint64_t row = 0; row < info->n_rows; row += step)
        for (size_t col = 0; col < n_cols; col += col_step) {
            const lf_region region = {row, info->n_rows - row < step ? info->n_rows - row : step, col,
                                      n_cols - col < col_step ? n_cols - col : col_step};
            LF_TRY(add_region(list, tensor, dtype, &region, src, dst, err));
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

void lf_layout_free(lf_layout *l)
{
    free(l->tensors);
    free(l->entries);
    free(l->header);
}

static void add_entry(lf_layout *l, const lorafmt_view *view, lorafmt_dtype dtype, size_t tensor)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(view, tensor);
    lf_safetensors_tensor *e = &l->entries[l->n];

    *e = (lf_safetensors_tensor){.name = info->name, .dtype = info->dtype, .n_dims = info->n_dims, .size = info->size};
    memcpy(e->shape, info->shape, sizeof e->shape);
    if (dtype && lf_dtype_is_real(info->dtype)) {
        e->dtype = dtype;
        e->size = info->size / (lorafmt_dtype_bits(info->dtype) / 8) * (lorafmt_dtype_bits(dtype) / 8);
    }
    l->tensors[l->n++] = tensor;
}

/* Where each tensor lies in the file. */
static void set_offsets(lf_layout *l)
{
    uint64_t at = l->data_offset;

    for (size_t i = 0; i < l->n; i++) {
        l->entries[i].offset = at;
        at += l->entries[i].size;
    }
    l->size = at;
}

lorafmt_status lf_layout_make(const lorafmt_model *model, const lorafmt_view *view, lorafmt_dtype dtype, size_t file,
                              lf_layout *l, lorafmt_error *err)
{
    const lf_safetensors *table = model->files[file].table;
    const size_t n_base = model->base.n_tensors, n_view = lorafmt_view_n_tensors(view);
    const size_t n_new = file == model->n_files - 1 ? n_view - n_base : 0, n = table->n_tensors + n_new;
    size_t header_size;

    memset(l, 0, sizeof *l);
    l->tensors = calloc(n ? n : 1, sizeof *l->tensors);
    l->entries = calloc(n ? n : 1, sizeof *l->entries);
    if (!l->tensors || !l->entries)
        return lf_no_memory(err);
    l->same = n_new == 0;
    for (size_t i = 0; i < table->n_tensors; i++) {
        add_entry(l, view, dtype, find_tensor(model, table->tensors[i].name));
        l->same = l->same && l->entries[i].size == table->tensors[i].size && l->entries[i].dtype == table->tensors[i].dtype;
    }
    for (size_t i = 0; i < n_new; i++)
        add_entry(l, view, dtype, n_base + i);
    l->data_offset = table->data_offset;
    if (!l->same) {
        LF_TRY(lf_safetensors_encode_header(l->entries, l->n, table->metadata, table->n_metadata, &l->header, &header_size, err));
        l->data_offset = header_size;
    }
    set_offsets(l);
    return LORAFMT_OK;
}

lorafmt_status lf_layout_read_header(const lf_layout *l, const lf_model_file *base, uint64_t at, uint8_t *dst, size_t n,
                                     lorafmt_error *err)
{
    if (l->same)
        return lf_file_read(base->fd, base->path, at, dst, n, err);
    memcpy(dst, l->header + at, n);
    return LORAFMT_OK;
}

bool lf_layout_computes(const lf_layout *l, const lorafmt_view *view, size_t entry)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(view, l->tensors[entry]);

    return info->touched || info->dtype != l->entries[entry].dtype;
}

size_t lf_layout_find(const lf_layout *l, uint64_t at)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (l->entries[middle].offset + l->entries[middle].size > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

lorafmt_status lf_layout_plan(const lf_layout *l, const lf_safetensors *base, lf_task_list *list, lorafmt_error *err)
{
    for (size_t i = 0; i < l->n; i++) {
        const uint64_t src = i < base->n_tensors ? base->tensors[i].offset : 0;
        const lf_safetensors_tensor *e = &l->entries[i];
        LF_TRY(lf_layout_computes(l, list->view, i) ? add_compute(list, l->tensors[i], e->dtype, src, e->offset, err)
                                                    : add_copy(list, src, e->offset, e->size, err));
    }
    return LORAFMT_OK;
}
