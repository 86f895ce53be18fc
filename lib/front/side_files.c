/* SPDX-License-Identifier: MIT */
/* What must change with the tensors changes (config, shard index); other files are carried over. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/foreign/json.h"
#include "lib/front/merge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static lorafmt_status copy_file(lf_output *output, const char *path, const char *name, lorafmt_error *err)
{
    uint64_t size;
    int src, dst;
    lorafmt_status st;

    LF_TRY(lf_file_open(path, &src, &size, err));
    st = lf_output_create(output, name, &dst, err);
    if (!st)
        st = lf_output_close(output, name, dst, lf_file_copy(src, path, 0, dst, name, 0, size, err), err);
    close(src);
    return st;
}

static lorafmt_status set_member(char **text, size_t *size, const char *path, const char *value, lorafmt_error *err)
{
    char *changed;
    size_t changed_size;

    LF_TRY(lf_json_set_member(*text, *size, path, value, &changed, &changed_size, err));
    free(*text);
    *text = changed;
    *size = changed_size;
    return LORAFMT_OK;
}

/* A member of the config, and of its text_config where that has it too; of the config when neither has it. */
static lorafmt_status set_config(char **text, size_t *size, const char *key, const char *value, lorafmt_error *err)
{
    bool in_config, in_text_config;
    char path[64];
    cJSON *json;
    const cJSON *inner;

    LF_TRY(lf_json_parse(*text, *size, LF_JSON_NONFINITE, &json, err));
    inner = cJSON_GetObjectItemCaseSensitive(json, "text_config");
    in_config = cJSON_GetObjectItemCaseSensitive(json, key) != NULL;
    in_text_config = cJSON_IsObject(inner) && cJSON_GetObjectItemCaseSensitive(inner, key);
    cJSON_Delete(json);
    if (in_config || !in_text_config)
        LF_TRY(set_member(text, size, key, value, err));
    snprintf(path, sizeof path, "text_config.%s", key);
    return in_text_config ? set_member(text, size, path, value, err) : LORAFMT_OK;
}

static lorafmt_status write_config(const lorafmt_model *model, const lorafmt_view *view, lf_output *output, lorafmt_error *err)
{
    char number[24], *text = strndup(model->config, model->config_size);
    size_t size = model->config_size;
    lorafmt_status st = text ? LORAFMT_OK : lf_no_memory(err);

    snprintf(number, sizeof number, "%" PRIu64, lorafmt_view_vocab_size(view));
    if (!st && lorafmt_view_unties(view))
        st = set_config(&text, &size, "tie_word_embeddings", "false", err);
    if (!st && lorafmt_view_vocab_size(view))
        st = set_config(&text, &size, "vocab_size", number, err);
    if (!st)
        st = lf_output_put(output, "config.json", text, size, err);
    free(text);
    return st;
}

static lorafmt_status write_index(const lorafmt_model *model, const lorafmt_view *view, const char *new_tensor_file,
                                  lf_output *output, lorafmt_error *err)
{
    const size_t n_base = model->base.n_tensors, n_new = lorafmt_view_n_tensors(view) - n_base;
    lf_shard_entry *added = calloc(n_new ? n_new : 1, sizeof *added);
    uint64_t before = 0, total = 0;
    char *text = NULL;
    size_t size;
    lorafmt_status st;

    if (!added)
        return lf_no_memory(err);
    for (size_t i = 0; i < n_base + n_new; i++)
        total += lorafmt_view_get_tensor(view, i)->size;
    for (size_t i = 0; i < n_base; i++)
        before += model->tensors[i].size;
    for (size_t i = 0; i < n_new; i++)
        added[i] = (lf_shard_entry){lorafmt_view_get_tensor(view, n_base + i)->name, new_tensor_file};
    if (n_new == 0 && total == before)
        st = lf_output_put(output, model->index_name, model->index, model->index_size, err);
    else {
        st = lf_shard_index_extend(model->index, model->index_size, added, n_new, total, &text, &size, err);
        if (!st)
            st = lf_output_put(output, model->index_name, text, size, err);
    }
    free(text);
    free(added);
    return st;
}

/* Other copies of the weights would be those of the base; they are left out. */
static bool holds_weights(const char *name)
{
    static const char *const suffixes[] = {".safetensors", ".safetensors.index.json",
                                           ".bin",         ".bin.index.json",
                                           ".pt",          ".pth",
                                           ".ckpt",        ".gguf",
                                           ".h5",          ".msgpack",
                                           ".onnx",        ".onnx_data",
                                           ".ot",          ".tflite",
                                           ".npz"};

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

static lorafmt_status write_side_file(const lorafmt_model *model, const lorafmt_view *view, const char *name, lf_output *output,
                                      const char **why_not, lorafmt_error *err)
{
    char *path = lf_path_join(model->path, name);
    lf_path_type type = LF_PATH_NONE;
    lorafmt_status st = path ? lf_path_look(path, &type, err) : lf_no_memory(err);

    *why_not = NULL;
    if (st)
        ; // free(path)
    else if (type == LF_PATH_DIRECTORY)
        *why_not = "a directory";
    else if (type == LF_PATH_NONE)
        *why_not = "a link to nothing";
    else if (type == LF_PATH_OTHER)
        *why_not = "not a regular file";
    else if (holds_weights(name))
        *why_not = "holds weights of the base";
    else if (strcmp(name, "config.json") == 0 && (lorafmt_view_unties(view) || lorafmt_view_vocab_size(view)))
        st = write_config(model, view, output, err);
    else
        st = copy_file(output, path, name, err);
    free(path);
    return st;
}

lorafmt_status lf_side_files_write(const lorafmt_model *model, const lorafmt_view *view, const char *new_tensor_file,
                                   lf_output *output, void (*report)(void *ctx, const char *file, const char *why),
                                   void *report_ctx, lorafmt_error *err)
{
    char **names;
    size_t n_names;
    lorafmt_status st;

    LF_TRY(lf_directory_list(model->path, &names, &n_names, err));
    st = model->index_name ? write_index(model, view, new_tensor_file, output, err) : LORAFMT_OK;
    for (size_t i = 0; i < n_names && !st; i++) {
        const char *why_not;
        if (is_shard(model, names[i]) || (model->index_name && strcmp(model->index_name, names[i]) == 0))
            continue;
        st = write_side_file(model, view, names[i], output, &why_not, err);
        if (!st && why_not && report)
            report(report_ctx, names[i], why_not);
    }
    if (!st && report && !model->config && (lorafmt_view_unties(view) || lorafmt_view_vocab_size(view)))
        report(report_ctx, "config.json",
               "is not in the base; it would have to say that the head is not tied, or the new vocab_size");
    lf_names_free(names, n_names);
    return st;
}
