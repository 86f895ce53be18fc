/* SPDX-License-Identifier: MIT */
/* What must change with the tensors: config.json and the shard index. */
#include "format/base/error.h"
#include "format/foreign/json.h"
#include "lib/front/merge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A member of the config, and of its text_config, where they have it; if `needed`, of the config when neither has it. */
static lorafmt_status set_config(char **text, size_t *size, const char *key, const char *value, bool needed, lorafmt_error *err)
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
    if (in_config || (needed && !in_text_config))
        LF_TRY(set_member(text, size, key, value, err));
    snprintf(path, sizeof path, "text_config.%s", key);
    return in_text_config ? set_member(text, size, path, value, err) : LORAFMT_OK;
}

/* As transformers spells it. */
static const char *config_dtype(lorafmt_dtype dtype)
{
    return dtype == LORAFMT_F32 ? "\"float32\"" : dtype == LORAFMT_F16 ? "\"float16\"" : "\"bfloat16\"";
}

bool lf_config_changes(const lorafmt_image *image)
{
    return lorafmt_view_unties(image->view) || lorafmt_view_vocab_size(image->view) || image->dtype;
}

lorafmt_status lf_edit_config(const lorafmt_image *image, char **out, size_t *out_size, lorafmt_error *err)
{
    char number[24], *text = strndup(image->model->config, image->model->config_size);
    size_t size = image->model->config_size;
    lorafmt_status st = text ? LORAFMT_OK : lf_no_memory(err);

    snprintf(number, sizeof number, "%" PRIu64, lorafmt_view_vocab_size(image->view));
    if (!st && lorafmt_view_unties(image->view))
        st = set_config(&text, &size, "tie_word_embeddings", "false", true, err);
    if (!st && lorafmt_view_vocab_size(image->view))
        st = set_config(&text, &size, "vocab_size", number, true, err);
    if (!st && image->dtype)
        st = set_config(&text, &size, "torch_dtype", config_dtype(image->dtype), false, err);
    if (!st && image->dtype)
        st = set_config(&text, &size, "dtype", config_dtype(image->dtype), false, err);
    if (st) {
        free(text);
        text = NULL;
    }
    *out = text;
    *out_size = size;
    return st;
}

/* Bytes of all tensors, in the base and now. */
static void sum_sizes(const lorafmt_image *image, uint64_t *before, uint64_t *now)
{
    *before = *now = 0;
    for (size_t i = 0; i < image->model->base.n_tensors; i++)
        *before += image->model->tensors[i].size;
    for (size_t f = 0; f < image->model->n_files; f++)
        for (size_t i = 0; i < image->layouts[f].n; i++)
            *now += image->layouts[f].entries[i].size;
}

bool lf_index_changes(const lorafmt_image *image)
{
    uint64_t before, now;

    sum_sizes(image, &before, &now);
    return before != now || lorafmt_view_n_tensors(image->view) != image->model->base.n_tensors;
}

lorafmt_status lf_edit_index(const lorafmt_image *image, char **out, size_t *out_size, lorafmt_error *err)
{
    const lorafmt_model *model = image->model;
    const size_t n_base = model->base.n_tensors, n_new = lorafmt_view_n_tensors(image->view) - n_base;
    lf_shard_entry *added = calloc(n_new ? n_new : 1, sizeof *added);
    uint64_t before, now;
    lorafmt_status st;

    if (!added)
        return lf_no_memory(err);
    sum_sizes(image, &before, &now);
    for (size_t i = 0; i < n_new; i++)
        added[i] =
            (lf_shard_entry){lorafmt_view_get_tensor(image->view, n_base + i)->name, model->files[model->n_files - 1].name};
    st = lf_shard_index_extend(model->index, model->index_size, added, n_new, now, out, out_size, err);
    free(added);
    return st;
}
