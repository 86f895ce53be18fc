/* SPDX-License-Identifier: MIT */
/* What lies in a model's directory beside its tensors: config, tokenizer, shard index, licences. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Other copies of the weights would be those of the base; they are left out. */
static bool holds_weights(const lorafmt_model *model, const char *name)
{
    static const char *const suffixes[] = {".safetensors", ".safetensors.index.json",
                                           ".bin",         ".bin.index.json",
                                           ".pt",          ".pth",
                                           ".ckpt",        ".gguf",
                                           ".h5",          ".msgpack",
                                           ".onnx",        ".onnx_data",
                                           ".ot",          ".tflite",
                                           ".npz"};

    if (model->index_name && strcmp(model->index_name, name) == 0)
        return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (lf_ends_with(name, suffixes[i]))
            return true;
    return false;
}

static bool is_shard(const lorafmt_model *model, const char *name)
{
    for (size_t i = 0; i < model->n_files; i++)
        if (strcmp(model->files[i].name, name) == 0)
            return true;
    return false;
}

static lorafmt_status open_side_file(const lorafmt_model *model, lf_side_file *file, lorafmt_error *err)
{
    lf_path_type type;

    LF_TRY(lf_path_look(file->path, &type, err));
    if (type == LF_PATH_DIRECTORY)
        file->why_not = "a directory";
    else if (type == LF_PATH_NONE)
        file->why_not = "a link to nothing";
    else if (type == LF_PATH_OTHER)
        file->why_not = "not a regular file";
    else if (holds_weights(model, file->name))
        file->why_not = "holds weights of the base";
    if (file->why_not)
        return LORAFMT_OK;
    LF_TRY(lf_file_open(file->path, &file->fd, NULL, err));
    return fstat(file->fd, &file->at_open) == 0 ? LORAFMT_OK : lf_fail_os(err, errno, file->path, "cannot look at the file");
}

static lorafmt_status open_side_files(lorafmt_model *model, char *const *names, size_t n_names, lorafmt_error *err)
{
    if (!(model->side_files = lf_arena_alloc(&model->arena, n_names, sizeof *model->side_files)))
        return lf_no_memory(err);
    for (size_t i = 0; i < n_names; i++) {
        lf_side_file *file = &model->side_files[model->n_side_files];
        if (is_shard(model, names[i]))
            continue;
        file->fd = -1;
        file->name = lf_arena_strdup(&model->arena, names[i]);
        file->path = lf_arena_printf(&model->arena, "%s/%s", model->path, names[i]);
        model->n_side_files++;
        if (!file->name || !file->path)
            return lf_no_memory(err);
        LF_TRY(open_side_file(model, file, err));
    }
    return LORAFMT_OK;
}

lorafmt_status lf_model_open_side_files(lorafmt_model *model, lorafmt_error *err)
{
    char **names;
    size_t n_names;
    lorafmt_status st;

    if (model->side_files || !model->is_directory)
        return LORAFMT_OK;
    LF_TRY(lf_directory_list(model->path, &names, &n_names, err));
    st = open_side_files(model, names, n_names, err);
    lf_names_free(names, n_names);
    if (st)
        lf_model_close_side_files(model);
    return st;
}

void lf_model_close_side_files(lorafmt_model *model)
{
    for (size_t i = 0; i < model->n_side_files; i++)
        if (model->side_files[i].fd >= 0)
            close(model->side_files[i].fd);
    model->side_files = NULL;
    model->n_side_files = 0;
}
