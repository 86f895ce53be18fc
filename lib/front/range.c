/* SPDX-License-Identifier: MIT */
/* Any bytes of a file that holds tensors: copied from the base's, or rows and parts of rows computed from it. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/front/merge.h"

#include <stdlib.h>
#include <string.h>

/* Floats of right factors that a reader keeps: 2 MiB. */
#define MOST_REMEMBERED ((size_t)1 << 19)

/* Bytes of a row that is computed whole where a part is asked for. */
#define MOST_ROW 65536

/* A tensor of a file, as it is read. */
typedef struct range {
    lorafmt_image *image;
    lorafmt_reader *reader; // or NULL
    const lf_model_file *base;
    const lorafmt_view_tensor *info;
    const lf_safetensors_tensor *entry;
    size_t tensor;
    uint64_t src;    // offset in the base's file
    uint64_t n_cols; // elements of a row
    size_t unit;     // bytes of an element
} range;

lorafmt_status lf_image_prepare(lorafmt_image *image, size_t tensor, lorafmt_error *err)
{
    pthread_mutex_t *lock = &image->preparing[tensor % LF_PREPARE_LOCKS];
    lorafmt_status st = LORAFMT_OK;

    if (atomic_load_explicit(&image->prepared[tensor], memory_order_acquire))
        return LORAFMT_OK;
    pthread_mutex_lock(lock);
    if (!atomic_load_explicit(&image->prepared[tensor], memory_order_relaxed))
        st = lorafmt_view_prepare(image->view, tensor, err);
    if (!st)
        atomic_store_explicit(&image->prepared[tensor], true, memory_order_release);
    pthread_mutex_unlock(lock);
    return st;
}

/* Some rows, or a part of one, to dst. */
static lorafmt_status compute(const range *r, const lf_region *region, const lf_right *right, uint8_t *dst, lorafmt_error *err)
{
    const lf_task_list list = {.view = r->image->view, .src_path = r->base->path, .src = r->base->fd, .right = right};
    const uint64_t first = region->row * r->n_cols + region->col;
    lf_task task = {.tensor = r->tensor,
                    .dtype = r->entry->dtype,
                    .region = *region,
                    .src = r->src + first * lorafmt_dtype_bits(r->info->dtype) / 8,
                    .size = region->n_rows * region->n_cols * r->unit};
    const size_t size = lf_task_buffer(&list, &task);
    uint8_t *buffer;
    lorafmt_status st;

    if (size == task.size)
        return lf_task_compute(&list, &task, dst, err);
    if (!(buffer = malloc(size)))
        return lf_no_memory(err);
    st = lf_task_compute(&list, &task, buffer, err);
    memcpy(dst, buffer, (size_t)task.size);
    free(buffer);
    return st;
}

/* One element, of which some bytes are wanted. */
static lorafmt_status compute_element(const range *r, lf_region *region, uint64_t skip, uint8_t *dst, size_t n,
                                      lorafmt_error *err)
{
    uint8_t element[sizeof(double)];

    region->n_rows = region->n_cols = 1;
    LF_TRY(compute(r, region, NULL, element, err));
    memcpy(dst, element + skip, n);
    return LORAFMT_OK;
}

/*
 * The right factors for a region, which is cut to rows that share them: what the reader has, after it packed them if it must. NULL
 * where there are none.
 */
static const lf_right *remember(const range *r, lf_region *region)
{
    lorafmt_reader *reader = r->reader;
    lf_right *right = &reader->right;
    const bool same = reader->image == r->image->serial && reader->tensor == r->tensor;

    if (!same || (right->n_rows && region->row - right->first_row >= right->n_rows)) {
        lf_right_pack(r->image->view, r->tensor, region->row, MOST_REMEMBERED, right);
        reader->image = r->image->serial;
        reader->tensor = r->tensor;
    }
    if (right->n_rows) {
        const uint64_t left = right->first_row + right->n_rows - region->row;
        region->n_rows = left < region->n_rows ? left : region->n_rows;
    }
    return right;
}

/* Up to a multiple of what is remembered, from where on that can be used. */
static size_t columns(const lf_region *region, size_t n)
{
    const size_t odd = region->col % LF_PANEL;

    return odd && n > LF_PANEL - odd ? LF_PANEL - odd : n;
}

/* As many bytes of a tensor at `at` as one call can compute, at most `size`; *done says how many. */
static lorafmt_status compute_some(const range *r, uint64_t at, uint8_t *dst, size_t size, size_t *done, lorafmt_error *err)
{
    const uint64_t row_size = r->n_cols * r->unit, in_row = at % row_size, skip = in_row % r->unit;
    lf_region region = {.row = at / row_size, .n_rows = 1, .col = (size_t)(in_row / r->unit), .n_cols = (size_t)r->n_cols};
    const lf_right *right = NULL;
    const uint64_t left = row_size - in_row, most = size < LF_TASK_SIZE ? size : LF_TASK_SIZE, n = most < left ? most : left;

    if (skip || n < r->unit) {
        *done = size < r->unit - skip ? size : (size_t)(r->unit - skip);
        return compute_element(r, &region, skip, dst, *done, err);
    }
    if (in_row || n < row_size)
        region.n_cols = columns(&region, (size_t)(n / r->unit));
    else
        region.n_rows = most / row_size;
    if (r->reader && region.col % LF_PANEL == 0)
        right = remember(r, &region);
    *done = (size_t)(region.n_rows * region.n_cols * r->unit);
    return compute(r, &region, right, dst, err);
}

/* Elements of less than a byte are never computed but in whole tensors that were replaced. */
static lorafmt_status read_packed(const range *r, uint64_t at, uint8_t *dst, size_t size, lorafmt_error *err)
{
    uint8_t *whole = malloc((size_t)r->info->size);
    lorafmt_status st;

    if (!whole)
        return lf_no_memory(err);
    st = lorafmt_view_evaluate(r->image->view, r->tensor, 0, r->info->n_rows, NULL, 0, whole, (size_t)r->info->row_size, NULL,
                               err);
    memcpy(dst, whole + at, size);
    free(whole);
    return st;
}

static lorafmt_status read_computed(const range *r, uint64_t at, uint8_t *dst, size_t size, lorafmt_error *err)
{
    if (r->info->needs_prepare)
        LF_TRY(lf_image_prepare(r->image, r->tensor, err));
    if (!r->unit)
        return read_packed(r, at, dst, size, err);
    while (size) {
        size_t n;
        LF_TRY(compute_some(r, at, dst, size, &n, err));
        at += n;
        dst += n;
        size -= n;
    }
    return LORAFMT_OK;
}

/* A tensor of a file of the image; its base is where it has one. */
static range range_of(lorafmt_image *image, size_t layout, size_t i, lorafmt_reader *reader)
{
    const lf_layout *l = &image->layouts[layout];
    const lf_model_file *base = &image->model->files[layout];
    range r = {.image = image, .reader = reader, .base = base, .entry = &l->entries[i], .tensor = l->tensors[i]};

    r.info = lorafmt_view_get_tensor(image->view, r.tensor);
    r.src = i < base->table->n_tensors ? base->table->tensors[i].offset : 0;
    r.n_cols = r.info->row_size * 8 / lorafmt_dtype_bits(r.info->dtype);
    r.unit = lorafmt_dtype_bits(r.entry->dtype) / 8;
    return r;
}

static lorafmt_status read_tensor(lorafmt_image *image, size_t layout, size_t i, uint64_t at, uint8_t *dst, size_t size,
                                  lorafmt_reader *reader, lorafmt_error *err)
{
    const range r = range_of(image, layout, i, reader);

    if (!lf_layout_computes(&image->layouts[layout], image->view, i))
        return lf_file_read(r.base->fd, r.base->path, r.src + at, dst, size, err);
    return read_computed(&r, at, dst, size, err);
}

lorafmt_status lf_range_read(lorafmt_image *image, size_t layout, uint64_t offset, uint8_t *dst, size_t size,
                             lorafmt_reader *reader, lorafmt_error *err)
{
    const lf_layout *l = &image->layouts[layout];
    const lf_model_file *base = &image->model->files[layout];

    while (size) {
        const size_t i = lf_layout_find(l, offset);
        const bool in_header = offset < l->data_offset;
        const uint64_t end = in_header ? l->data_offset : l->entries[i].offset + l->entries[i].size;
        const size_t n = size < end - offset ? size : (size_t)(end - offset);
        LF_TRY(in_header ? lf_layout_read_header(l, base, offset, dst, n, err)
                         : read_tensor(image, layout, i, offset - l->entries[i].offset, dst, n, reader, err));
        offset += n;
        dst += n;
        size -= n;
    }
    return LORAFMT_OK;
}

bool lf_reader_reserve(lorafmt_reader *reader, size_t size)
{
    if (reader->capacity >= size)
        return true;
    free(reader->buffer);
    reader->buffer = malloc(size);
    reader->capacity = reader->buffer ? size : 0;
    return reader->buffer != NULL;
}

/* The tensor that a range is wholly in, if its rows are computed and not wide: then its first and last row are computed, too. */
static bool has_rows(const lorafmt_image *image, size_t layout, uint64_t offset, size_t size, size_t *entry)
{
    const lf_layout *l = &image->layouts[layout];
    const size_t i = *entry = lf_layout_find(l, offset);
    const lf_safetensors_tensor *e = &l->entries[i];
    const lorafmt_view_tensor *info;

    if (offset < l->data_offset || i == l->n || size > e->offset + e->size - offset)
        return false;
    info = lorafmt_view_get_tensor(image->view, l->tensors[i]);
    return lf_layout_computes(l, image->view, i) && lorafmt_dtype_bits(e->dtype) >= 8 && e->size / info->n_rows <= MOST_ROW;
}

lorafmt_status lf_range_lend(lorafmt_image *image, size_t layout, uint64_t offset, size_t size, lorafmt_reader *reader,
                             const uint8_t **out, lorafmt_error *err)
{
    uint64_t at, first, row_size;
    size_t entry, whole;
    range r;

    if (!size || !has_rows(image, layout, offset, size, &entry)) {
        if (!lf_reader_reserve(reader, size ? size : 1))
            return lf_no_memory(err);
        *out = reader->buffer;
        return lf_range_read(image, layout, offset, reader->buffer, size, reader, err);
    }
    r = range_of(image, layout, entry, reader);
    row_size = r.n_cols * r.unit;
    at = offset - r.entry->offset;
    first = at / row_size * row_size;
    whole = (size_t)((at + size + row_size - 1) / row_size * row_size - first);
    if (!lf_reader_reserve(reader, whole))
        return lf_no_memory(err);
    *out = reader->buffer + (at - first);
    return read_computed(&r, first, reader->buffer, whole, err);
}
