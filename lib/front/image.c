/* SPDX-License-Identifier: MIT */
/* A merged model as the files it would be. */
#include "format/base/error.h"
#include "lib/front/merge.h"
#include "lib/view/view.h"

#include <stdlib.h>
#include <string.h>

/* That were ever opened. */
static atomic_size_t n_images;

static lorafmt_status check_arguments(const lorafmt_model *model, const lorafmt_view *view, lorafmt_dtype dtype,
                                      lorafmt_error *err)
{
    if (view->base != lorafmt_model_base(model))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound to another base than this model's");
    if (view->check_only)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound with check_only");
    if (dtype && dtype != LORAFMT_F32 && dtype != LORAFMT_F16 && dtype != LORAFMT_BF16)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "dtype", "must be F32, F16 or BF16");
    /* What a single file cannot say must not be lost: it has no config beside it to edit. */
    if (!model->is_directory && (lorafmt_view_vocab_size(view) || lorafmt_view_unties(view)))
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL,
                       "%s, and config.json with it: give the base as a directory",
                       lorafmt_view_unties(view) ? "the head comes untied" : "the vocabulary changes");
    return LORAFMT_OK;
}

static void set_stat(lorafmt_image_file *info, const struct stat *st)
{
    info->mode = st->st_mode & 0777;
    info->uid = st->st_uid;
    info->gid = st->st_gid;
    info->mtime = st->st_mtim.tv_sec;
    info->mtime_ns = (unsigned)st->st_mtim.tv_nsec;
}

static bool has_computed(const lf_layout *l, const lorafmt_view *view)
{
    for (size_t i = 0; i < l->n; i++)
        if (lf_layout_computes(l, view, i))
            return true;
    return false;
}

static lorafmt_status add_tensor_file(lorafmt_image *image, size_t i, lorafmt_error *err)
{
    const lf_model_file *base = &image->model->files[i];
    lf_layout *l = &image->layouts[i];
    lf_image_file *file = &image->files[image->n_files++];

    LF_TRY(lf_layout_make(image->model, image->view, image->dtype, i, l, err));
    file->layout = i;
    file->info = (lorafmt_image_file){.name = base->name,
                                      .size = l->size,
                                      .has_tensors = true,
                                      .same = l->same && !has_computed(l, image->view)};
    set_stat(&file->info, &base->at_open);
    return LORAFMT_OK;
}

static lorafmt_status add_side_file(lorafmt_image *image, const lf_side_file *side, lorafmt_error *err)
{
    const lorafmt_model *model = image->model;
    const bool is_config = model->config && strcmp(side->name, "config.json") == 0;
    const bool is_index = model->index_name && strcmp(side->name, model->index_name) == 0;
    lf_image_file *file = &image->files[image->n_files++];
    size_t size = (size_t)side->at_open.st_size;

    file->side = side;
    if (is_config && lf_config_changes(image))
        LF_TRY(lf_edit_config(image, &file->text, &size, err));
    else if (is_index && lf_index_changes(image))
        LF_TRY(lf_edit_index(image, &file->text, &size, err));
    file->info = (lorafmt_image_file){.name = side->name, .size = size, .same = !file->text};
    set_stat(&file->info, &side->at_open);
    return LORAFMT_OK;
}

static void report_left(const lorafmt_image *image, const lorafmt_image_options *o)
{
    const lorafmt_model *model = image->model;

    for (size_t i = 0; i < model->n_side_files; i++)
        if (model->side_files[i].why_not)
            o->report(o->report_ctx, model->side_files[i].name, model->side_files[i].why_not);
    if (model->is_directory && !model->config && (lorafmt_view_unties(image->view) || lorafmt_view_vocab_size(image->view)))
        o->report(o->report_ctx, "config.json",
                  "is not in the base; it would have to say that the head is not tied, or the new vocab_size");
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const lf_image_file *)a)->info.name, ((const lf_image_file *)b)->info.name);
}

static lorafmt_status reserve(lorafmt_image *image, lorafmt_error *err)
{
    const lorafmt_model *model = image->model;
    const size_t n_tensors = lorafmt_view_n_tensors(image->view);

    image->layouts = calloc(model->n_files, sizeof *image->layouts);
    image->files = calloc(model->n_files + model->n_side_files, sizeof *image->files);
    image->prepared = calloc(n_tensors ? n_tensors : 1, sizeof *image->prepared);
    return image->layouts && image->files && image->prepared ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status fill(lorafmt_image *image, lorafmt_error *err)
{
    lorafmt_model *model = image->model;

    LF_TRY(lf_model_open_side_files(model, err));
    LF_TRY(reserve(image, err));
    for (size_t i = 0; i < model->n_files; i++)
        LF_TRY(add_tensor_file(image, i, err));
    for (size_t i = 0; i < model->n_side_files; i++)
        if (!model->side_files[i].why_not)
            LF_TRY(add_side_file(image, &model->side_files[i], err));
    qsort(image->files, image->n_files, sizeof *image->files, compare_names);
    return LORAFMT_OK;
}

lorafmt_status lorafmt_image_open(lorafmt_model *model, lorafmt_view *view, const lorafmt_image_options *options,
                                  lorafmt_image **out, lorafmt_error *err)
{
    static const lorafmt_image_options defaults = {.struct_size = sizeof defaults};
    const lorafmt_image_options *o = options ? options : &defaults;
    lorafmt_image *image;
    lorafmt_status st;

    *out = NULL;
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    LF_TRY(check_arguments(model, view, o->dtype, err));
    if (!(image = calloc(1, sizeof *image)))
        return lf_no_memory(err);
    image->model = model;
    image->view = view;
    image->dtype = o->dtype;
    image->serial = 1 + atomic_fetch_add(&n_images, 1);
    for (size_t i = 0; i < LF_PREPARE_LOCKS; i++)
        pthread_mutex_init(&image->preparing[i], NULL);
    if ((st = fill(image, err))) {
        lorafmt_image_free(image);
        return st;
    }
    if (o->report)
        report_left(image, o);
    *out = image;
    return LORAFMT_OK;
}

void lorafmt_image_free(lorafmt_image *image)
{
    if (!image)
        return;
    for (size_t i = 0; image->layouts && i < image->model->n_files; i++)
        lf_layout_free(&image->layouts[i]);
    for (size_t i = 0; i < image->n_files; i++)
        free(image->files[i].text);
    for (size_t i = 0; i < LF_PREPARE_LOCKS; i++)
        pthread_mutex_destroy(&image->preparing[i]);
    free(image->layouts);
    free(image->files);
    free(image->prepared);
    free(image);
}

size_t lorafmt_image_n_files(const lorafmt_image *image)
{
    return image->n_files;
}

const lorafmt_image_file *lorafmt_image_get_file(const lorafmt_image *image, size_t file)
{
    return file < image->n_files ? &image->files[file].info : NULL;
}

static lorafmt_status check_range(const lorafmt_image *image, size_t i, uint64_t offset, size_t size, lorafmt_error *err)
{
    if (i < image->n_files && offset <= image->files[i].info.size && size <= image->files[i].info.size - offset)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_MISUSE, offset, NULL, "%zu bytes of file %zu, which are not all there", size, i);
}

/* What was read of a file is of no one model when it was written to meanwhile. */
static lorafmt_status check_base(const lorafmt_image *image, const lf_image_file *file, lorafmt_error *err)
{
    const lf_model_file *base = &image->model->files[file->layout];

    return lf_check_unchanged(base->fd, base->path, &base->at_open, err);
}

lorafmt_reader *lorafmt_reader_new(void)
{
    return calloc(1, sizeof(lorafmt_reader));
}

void lorafmt_reader_free(lorafmt_reader *reader)
{
    if (reader)
        lf_right_free(&reader->right);
    free(reader ? reader->buffer : NULL);
    free(reader);
}

static lorafmt_status read_side_file(const lf_image_file *file, uint64_t offset, void *dst, size_t size, lorafmt_error *err)
{
    if (file->text) {
        memcpy(dst, file->text + offset, size);
        return LORAFMT_OK;
    }
    LF_TRY(lf_file_read(file->side->fd, file->side->path, offset, dst, size, err));
    return lf_check_unchanged(file->side->fd, file->side->path, &file->side->at_open, err);
}

lorafmt_status lorafmt_image_read(lorafmt_image *image, size_t i, uint64_t offset, void *dst, size_t size, lorafmt_error *err)
{
    const lf_image_file *file = &image->files[i];

    LF_TRY(check_range(image, i, offset, size, err));
    if (!file->info.has_tensors)
        return read_side_file(file, offset, dst, size, err);
    LF_TRY(lf_range_read(image, file->layout, offset, dst, size, NULL, err));
    return check_base(image, file, err);
}

lorafmt_status lorafmt_reader_read(lorafmt_reader *reader, lorafmt_image *image, size_t i, uint64_t offset, size_t size,
                                   const void **bytes, lorafmt_error *err)
{
    const lf_image_file *file = &image->files[i];
    const uint8_t *lent;

    LF_TRY(check_range(image, i, offset, size, err));
    if (!file->info.has_tensors) {
        if (!lf_reader_reserve(reader, size ? size : 1))
            return lf_no_memory(err);
        *bytes = reader->buffer;
        return read_side_file(file, offset, reader->buffer, size, err);
    }
    LF_TRY(lf_range_lend(image, file->layout, offset, size, reader, &lent, err));
    *bytes = lent;
    return check_base(image, file, err);
}
