/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "format/foreign/json.h"
#include "lib/io/io.h"
#include "lib/model/parts.h"

#include <stdlib.h>

#define CONFIG "config.json"
#define MAX_CONFIG_SIZE (UINT64_C(16) << 20)

/* The largest whole number that cJSON's double holds with all its neighbours. */
#define MAX_EXACT 9007199254740992.0

/* A member of the config or, where models of several kinds of input keep it, of its text_config; NULL when absent or null. */
static const cJSON *text_member(const cJSON *config, const char *key)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(config, key);

    if (!member || cJSON_IsNull(member)) {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(config, "text_config");
        member = cJSON_IsObject(text) ? cJSON_GetObjectItemCaseSensitive(text, key) : NULL;
    }
    return member && !cJSON_IsNull(member) ? member : NULL;
}

static lorafmt_status set_quantization(lorafmt_model *model, const cJSON *config, lorafmt_error *err)
{
    const cJSON *quantization = cJSON_GetObjectItemCaseSensitive(config, "quantization_config");
    const cJSON *method;

    if (!quantization || cJSON_IsNull(quantization))
        return LORAFMT_OK;
    method = cJSON_IsObject(quantization) ? cJSON_GetObjectItemCaseSensitive(quantization, "quant_method") : NULL;
    model->base.quantization = "quantized";
    if (cJSON_IsString(method))
        model->base.quantization = lf_arena_strdup(&model->arena, method->valuestring);
    return model->base.quantization ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status decode(lorafmt_model *model, const cJSON *config, lorafmt_error *err)
{
    const cJSON *tied, *vocab_size;

    if (!cJSON_IsObject(config))
        return lf_fail(err, LORAFMT_CORRUPT, 0, NULL, "must be a JSON object");
    tied = text_member(config, "tie_word_embeddings");
    if (tied && !cJSON_IsBool(tied))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "tie_word_embeddings", "must be true or false");
    if (tied)
        model->base.tied = cJSON_IsTrue(tied) ? LORAFMT_TIED_YES : LORAFMT_TIED_NO;
    vocab_size = text_member(config, "vocab_size");
    if (cJSON_IsNumber(vocab_size) && vocab_size->valuedouble >= 1 && vocab_size->valuedouble <= MAX_EXACT &&
        vocab_size->valuedouble == (double)(uint64_t)vocab_size->valuedouble)
        model->base.vocab_size = (uint64_t)vocab_size->valuedouble;
    return set_quantization(model, config, err);
}

lorafmt_status lf_model_read_config(lorafmt_model *model, lorafmt_error *err)
{
    char *path = lf_path_join(model->path, CONFIG);
    cJSON *config = NULL;
    lorafmt_status st;

    if (!path)
        return lf_no_memory(err);
    st = lf_file_load(path, MAX_CONFIG_SIZE, &model->config, &model->config_size, err);
    if (st == LORAFMT_OK)
        st = lf_json_parse(model->config, model->config_size, LF_JSON_NONFINITE, &config, err);
    if (st == LORAFMT_OK)
        st = decode(model, config, err);
    if (st != LORAFMT_OK)
        lf_error_set_file(err, path);
    cJSON_Delete(config);
    free(path);
    return st;
}
