/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "fail.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_CONFIG_BYTES 65536

/* So that the product of two sizes is a size on every machine. */
#define MOST_SIZE 32768

typedef struct size_field {
    const char *name;
    size_t offset;
} size_field;

static const size_field size_fields[] = {
    {"hidden_size", offsetof(model_config, hidden_size)},
    {"intermediate_size", offsetof(model_config, intermediate_size)},
    {"num_hidden_layers", offsetof(model_config, num_hidden_layers)},
    {"num_attention_heads", offsetof(model_config, num_attention_heads)},
    {"num_key_value_heads", offsetof(model_config, num_key_value_heads)},
    {"head_dim", offsetof(model_config, head_dim)},
    {"max_position_embeddings", offsetof(model_config, max_position_embeddings)},
};

#define N_SIZE_FIELDS (sizeof size_fields / sizeof size_fields[0])

size_t config_query_size(const model_config *config)
{
    return config->num_attention_heads * config->head_dim;
}

size_t config_key_size(const model_config *config)
{
    return config->num_key_value_heads * config->head_dim;
}

static lorafmt_status read_json(const char *path, cJSON **out, lorafmt_error *err)
{
    static char text[MOST_CONFIG_BYTES];
    FILE *file = fopen(path, "rb");
    size_t size;

    if (!file)
        return fail_io(err, path);
    size = fread(text, 1, sizeof text, file);
    if (ferror(file)) {
        fail_io(err, path);
        fclose(file);
        return err->status;
    }
    fclose(file);
    *out = cJSON_ParseWithLength(text, size);
    if (!cJSON_IsObject(*out))
        return fail(err, LORAFMT_CORRUPT, path, "", "not a JSON object of less than %d bytes", MOST_CONFIG_BYTES);
    return LORAFMT_OK;
}

static lorafmt_status read_number(const char *path, const cJSON *json, const char *name, double *out, lorafmt_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);

    if (!cJSON_IsNumber(item))
        return fail(err, LORAFMT_CORRUPT, path, name, "must be a number");
    *out = item->valuedouble;
    return LORAFMT_OK;
}

static lorafmt_status read_sizes(const char *path, const cJSON *json, model_config *out, lorafmt_error *err)
{
    for (size_t i = 0; i < N_SIZE_FIELDS; i++) {
        const char *name = size_fields[i].name;
        double value = 0;
        if (read_number(path, json, name, &value, err))
            return err->status;
        if (!(value >= 1 && value <= MOST_SIZE) || value != (double)(size_t)value)
            return fail(err, LORAFMT_LIMIT, path, name, "%g, must be a whole number, 1 .. %d", value, MOST_SIZE);
        *(size_t *)(void *)((char *)out + size_fields[i].offset) = (size_t)value;
    }
    return LORAFMT_OK;
}

static lorafmt_status read_reals(const char *path, const cJSON *json, model_config *out, lorafmt_error *err)
{
    double eps = 0, theta = 0;

    if (read_number(path, json, "rms_norm_eps", &eps, err) || read_number(path, json, "rope_theta", &theta, err))
        return err->status;
    out->rms_norm_eps = (float)eps;
    out->rope_theta = (float)theta;
    return LORAFMT_OK;
}

static lorafmt_status check(const char *path, const cJSON *json, const model_config *config, lorafmt_error *err)
{
    const char *act = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "hidden_act"));
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(json, "rope_scaling");
    double vocab_size = 0;

    if (read_number(path, json, "vocab_size", &vocab_size, err))
        return err->status;
    if (vocab_size != VOCAB_SIZE)
        return fail(err, LORAFMT_UNSUPPORTED, path, "vocab_size", "%g, must be %d: the bytes", vocab_size, VOCAB_SIZE);
    if (!act || strcmp(act, "silu"))
        return fail(err, LORAFMT_UNSUPPORTED, path, "hidden_act", "%s, must be silu", act ? act : "not a text");
    if (scaling && !cJSON_IsNull(scaling))
        return fail(err, LORAFMT_UNSUPPORTED, path, "rope_scaling", "must be null");
    if (config->num_attention_heads % config->num_key_value_heads)
        return fail(err, LORAFMT_CORRUPT, path, "num_key_value_heads", "%zu, must divide %zu query heads",
                    config->num_key_value_heads, config->num_attention_heads);
    if (config->head_dim % 2)
        return fail(err, LORAFMT_CORRUPT, path, "head_dim", "%zu, must be even", config->head_dim);
    return LORAFMT_OK;
}

lorafmt_status config_read(const char *folder, model_config *out, lorafmt_error *err)
{
    char path[4096];
    cJSON *json = NULL;
    lorafmt_status status;

    snprintf(path, sizeof path, "%s/config.json", folder);
    status = read_json(path, &json, err);
    if (status == LORAFMT_OK)
        status = read_sizes(path, json, out, err);
    if (status == LORAFMT_OK)
        status = read_reals(path, json, out, err);
    if (status == LORAFMT_OK)
        status = check(path, json, out, err);
    cJSON_Delete(json);
    return status;
}
