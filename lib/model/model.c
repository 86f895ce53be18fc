/* SPDX-License-Identifier: MIT */
#include "lib/model/model.h"

#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/model/parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

lorafmt_status lf_model_reserve_files(lorafmt_model *model, size_t n_files, lorafmt_error *err)
{
    model->files = lf_arena_alloc(&model->arena, n_files, sizeof *model->files);
    if (!model->files)
        return lf_no_memory(err);
    model->n_files = n_files;
    for (size_t i = 0; i < n_files; i++)
        model->files[i].fd = -1;
    return LORAFMT_OK;
}

static lorafmt_status read_table(lf_model_file *file, uint64_t file_size, lorafmt_error *err)
{
    uint8_t head[LF_SAFETENSORS_HEAD], *header;
    const size_t n = file_size < sizeof head ? (size_t)file_size : sizeof head;
    uint64_t header_size;
    lorafmt_status st;

    LF_TRY(lf_file_read(file->fd, file->path, 0, head, n, err));
    LF_TRY(lf_safetensors_header_size(head, n, file_size, &header_size, err));
    header = malloc((size_t)header_size);
    if (!header)
        return lf_no_memory(err);
    st = lf_file_read(file->fd, file->path, 8, header, (size_t)header_size, err);
    if (st == LORAFMT_OK)
        st = lf_safetensors_parse(header, header_size, file_size, &file->table, err);
    free(header);
    return st;
}

lorafmt_status lf_model_open_file(lf_model_file *file, const char *name, char *path, lorafmt_error *err)
{
    uint64_t size;
    lorafmt_status st;

    file->name = name;
    file->path = path;
    if (!path)
        return lf_no_memory(err);
    LF_TRY(lf_file_open(path, &file->fd, &size, err));
    st = fstat(file->fd, &file->at_open) == 0 ? read_table(file, size, err)
                                              : lf_fail_os(err, errno, path, "cannot look at the file");
    if (st != LORAFMT_OK)
        lf_error_set_file(err, path);
    return st;
}

static lorafmt_status open_single(lorafmt_model *model, const char *name, char *path, lorafmt_error *err)
{
    const lorafmt_status st = lf_model_reserve_files(model, 1, err);

    if (st != LORAFMT_OK) {
        free(path);
        return st;
    }
    LF_TRY(lf_model_open_file(&model->files[0], name, path, err));
    return lf_model_collect(model, err);
}

static lorafmt_status open_directory(lorafmt_model *model, lorafmt_error *err)
{
    lf_model_choice choice;

    model->is_directory = true;
    LF_TRY(lf_model_choose(model->path, &model->arena, &choice, err));
    if (choice.index)
        LF_TRY(lf_model_open_shards(model, choice.index, err));
    else
        LF_TRY(open_single(model, choice.file, lf_path_join(model->path, choice.file), err));
    return choice.has_config ? lf_model_read_config(model, err) : LORAFMT_OK;
}

static lorafmt_status open_file(lorafmt_model *model, lorafmt_error *err)
{
    const char *slash = strrchr(model->path, '/');

    return open_single(model, slash ? slash + 1 : model->path, strdup(model->path), err);
}

/* A file that was replaced by another of its name is still the one that was opened. */
lorafmt_status lf_check_unchanged(int fd, const char *path, const struct stat *before, lorafmt_error *err)
{
    struct stat now;

    if (fstat(fd, &now) != 0)
        return lf_fail_os(err, errno, path, "cannot look at the file");
    if (now.st_size != before->st_size) {
        const off_t shorter = now.st_size < before->st_size ? now.st_size : before->st_size;
        lf_fail(err, LORAFMT_CORRUPT, (uint64_t)shorter, NULL,
                "the file was changed while being read: it had %" PRIu64 " bytes, it has %" PRIu64, (uint64_t)before->st_size,
                (uint64_t)now.st_size);
    } else if (now.st_mtim.tv_sec != before->st_mtim.tv_sec || now.st_mtim.tv_nsec != before->st_mtim.tv_nsec) {
        lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, NULL, "the file was written to while being read");
    } else {
        return LORAFMT_OK;
    }
    lf_error_set_file(err, path);
    return LORAFMT_CORRUPT;
}

lorafmt_status lf_model_check_unchanged(const lorafmt_model *model, lorafmt_error *err)
{
    for (size_t i = 0; i < model->n_files; i++)
        LF_TRY(lf_check_unchanged(model->files[i].fd, model->files[i].path, &model->files[i].at_open, err));
    return LORAFMT_OK;
}

/* The read callback of the base. */
static lorafmt_status read_tensor(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const lorafmt_model *model = ctx;
    const lf_model_place *place;
    const lf_model_file *file;

    if (tensor >= model->base.n_tensors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "tensor %zu, the base has %zu", tensor,
                       model->base.n_tensors);
    if (offset > model->tensors[tensor].size || size > model->tensors[tensor].size - offset)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, model->tensors[tensor].name, "the range is not in the tensor");
    place = &model->places[tensor];
    file = &model->files[place->file];
    return lf_file_read(file->fd, file->path, place->offset + offset, dst, size, err);
}

lorafmt_status lorafmt_model_open(const char *path, lorafmt_model **out, lorafmt_error *err)
{
    lorafmt_model *model;
    lorafmt_status st;

    *out = NULL;
    if (!path || !*path)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the path of a base must not be empty");
    model = calloc(1, sizeof *model);
    if (!model || !(model->path = lf_arena_strdup(&model->arena, path))) {
        free(model);
        return lf_no_memory(err);
    }
    model->base.struct_size = sizeof model->base;
    model->base.read = read_tensor;
    model->base.ctx = model;
    st = lf_path_type_of(path) == LF_PATH_DIRECTORY ? open_directory(model, err) : open_file(model, err);
    if (st == LORAFMT_OK)
        *out = model;
    else
        lorafmt_model_free(model);
    return st;
}

void lorafmt_model_free(lorafmt_model *model)
{
    if (!model)
        return;
    for (size_t i = 0; i < model->n_files; i++) {
        lf_map_close(&model->files[i].map);
        if (model->files[i].fd >= 0)
            close(model->files[i].fd);
        lf_safetensors_free(model->files[i].table);
        free(model->files[i].path);
    }
    lf_model_close_side_files(model);
    free(model->config);
    free(model->index);
    lf_arena_free(&model->arena);
    free(model);
}

const lorafmt_base *lorafmt_model_base(const lorafmt_model *model)
{
    return &model->base;
}

size_t lorafmt_model_n_files(const lorafmt_model *model)
{
    return model->n_files;
}

void lorafmt_model_get_file(const lorafmt_model *model, size_t file, lorafmt_model_file *out)
{
    *out = (lorafmt_model_file){model->files[file].name, model->files[file].path, model->files[file].fd};
}

lorafmt_status lorafmt_model_map(lorafmt_model *model, lorafmt_error *err)
{
    for (size_t i = 0; i < model->n_files; i++) {
        lf_model_file *file = &model->files[i];
        if (!file->map.bytes)
            LF_TRY(lf_map_file(file->fd, file->path, (uint64_t)file->at_open.st_size, &file->map, err));
    }
    return LORAFMT_OK;
}

const void *lorafmt_model_data(const lorafmt_model *model, size_t tensor)
{
    const lf_model_place *place = &model->places[tensor];
    const uint8_t *bytes = model->files[place->file].map.bytes;

    return bytes ? bytes + place->offset : NULL;
}
