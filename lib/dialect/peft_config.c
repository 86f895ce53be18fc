/* SPDX-License-Identifier: MIT */
/* adapter_config.json: what is used, what has no effect on merged weights, and what would and is refused by name. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/dialect/peft.h"

#include <math.h>
#include <string.h>

#define MAX_NAMES 1024
#define MAX_TOKENS (1 << 20)
#define MAX_TOKEN_LISTS 64
#define MAX_ROW 9007199254740992.0 // 2^53: what a JSON number says exactly

typedef enum rule {
    USED,    // read below
    ANY,     // no effect on what the tensors mean: provenance, training, or which modules (the tensors say that)
    NEUTRAL, // would change what the tensors mean; refused unless null, false, 0, "" or empty
} rule;

static const struct {
    const char *key;
    rule rule;
    const char *why; // for NEUTRAL
} keys[] = {
    {"peft_type", USED, NULL},
    {"r", USED, NULL},
    {"lora_alpha", USED, NULL},
    {"use_rslora", USED, NULL},
    {"rank_pattern", USED, NULL},
    {"alpha_pattern", USED, NULL},
    {"fan_in_fan_out", USED, NULL},
    {"bias", USED, NULL},
    {"modules_to_save", USED, NULL},
    {"base_model_name_or_path", USED, NULL},
    {"revision", USED, NULL},
    {"task_type", USED, NULL},
    {"init_lora_weights", USED, NULL},
    {"lora_bias", USED, NULL},
    {"peft_version", USED, NULL},
    {"target_parameters", USED, NULL},
    {"trainable_token_indices", USED, NULL},
    {"use_dora", USED, NULL},
    {"auto_mapping", ANY, NULL},
    {"corda_config", ANY, NULL},
    {"eva_config", ANY, NULL},
    {"exclude_modules", ANY, NULL},
    {"inference_mode", ANY, NULL},
    {"layers_pattern", ANY, NULL},
    {"layers_to_transform", ANY, NULL},
    {"loftq_config", ANY, NULL},
    {"lora_dropout", ANY, NULL},
    {"lora_ga_config", ANY, NULL},
    {"megatron_core", ANY, NULL},
    {"monteclora_config", ANY, NULL},
    {"qalora_group_size", ANY, NULL},
    {"runtime_config", ANY, NULL},
    {"target_modules", ANY, NULL},
    {"velora_config", ANY, NULL},
    {"alora_invocation_tokens", NEUTRAL, "an activated LoRA acts only after its invocation tokens and cannot be merged"},
    {"arrow_config", NEUTRAL, "Arrow routes every token on its own and cannot be merged"},
    {"ensure_weight_tying", NEUTRAL,
     "the tensors of a tied embedding and head are one adapter saved twice, which PEFT's own merge adds twice; not supported"},
    {"kasa_config", NEUTRAL, "KaSA changes the base before it adds to it"},
    {"layer_replication", NEUTRAL,
     "the adapter is for a model whose layers were stacked anew, with other numbers than the base's; make and save that model first"},
    {"megatron_config", NEUTRAL, "Megatron parallel layers are not supported"},
    {"use_bdlora", NEUTRAL, "BD-LoRA is not supported"},
    {"use_qalora", NEUTRAL, "QA-LoRA pools its input and cannot be merged"},
};

static bool is_neutral(const cJSON *value)
{
    return cJSON_IsNull(value) || cJSON_IsFalse(value) || (cJSON_IsNumber(value) && value->valuedouble == 0) ||
           (cJSON_IsString(value) && !value->valuestring[0]) ||
           ((cJSON_IsArray(value) || cJSON_IsObject(value)) && !value->child);
}

static lorafmt_status check_key(const cJSON *item, lorafmt_error *err)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].key, item->string) != 0)
            continue;
        if (keys[i].rule == NEUTRAL && !is_neutral(item))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, item->string, "%s", keys[i].why);
        return LORAFMT_OK;
    }
    if (!is_neutral(item))
        return lf_fail(
            err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, item->string,
            "an unknown key with a value that may change what the adapter means; null, false, 0 and empty would be fine");
    return LORAFMT_OK;
}

/* Inits that subtract something from the base first; saved unconverted, A and B alone do not say what the adapter does. */
static lorafmt_status check_init(const cJSON *value, lorafmt_error *err)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal", "mica"};

    if (!value || cJSON_IsNull(value) || cJSON_IsBool(value))
        return LORAFMT_OK;
    if (!cJSON_IsString(value))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "init_lora_weights", "must be true, false or a name");
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
        if (strcmp(value->valuestring, harmless[i]) == 0)
            return LORAFMT_OK;
    return lf_fail(
        err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "init_lora_weights",
        "'%s' changes the base before training, and this adapter was saved without converting it; in PEFT, save it with "
        "path_initial_model_for_weight_conversion",
        value->valuestring);
}

static lorafmt_status get_text(const cJSON *json, const char *key, const char **out, lorafmt_error *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);

    *out = "";
    if (!value || cJSON_IsNull(value))
        return LORAFMT_OK;
    if (!cJSON_IsString(value) || !lf_name_valid(value->valuestring, strlen(value->valuestring)))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, key,
                       "must be null or a text of at most %d bytes without control characters", LF_MAX_NAME);
    *out = value->valuestring;
    return LORAFMT_OK;
}

static lorafmt_status get_bool(const cJSON *json, const char *key, bool *out, lorafmt_error *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);

    *out = cJSON_IsTrue(value);
    if (value && !cJSON_IsBool(value) && !cJSON_IsNull(value))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, key, "must be true or false");
    return LORAFMT_OK;
}

static lorafmt_status get_rank_and_alpha(lf_peft_config *out, lorafmt_error *err)
{
    const cJSON *r = cJSON_GetObjectItemCaseSensitive(out->json, "r");
    const cJSON *alpha = cJSON_GetObjectItemCaseSensitive(out->json, "lora_alpha");

    if (!cJSON_IsNumber(r))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "r", "must be a number, the rank");
    if (r->valuedouble < 1 || r->valuedouble > LF_MAX_RANK || r->valuedouble != floor(r->valuedouble))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "r", "rank %.17g, must be a whole number in 1..2^20",
                       r->valuedouble);
    if (!cJSON_IsNumber(alpha) || !isfinite(alpha->valuedouble))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "lora_alpha",
                       "must be a finite number: without it the scale is unknown");
    out->r = (uint32_t)r->valuedouble;
    out->alpha = alpha->valuedouble;
    return LORAFMT_OK;
}

static lorafmt_status get_bias(lf_peft_config *out, lorafmt_error *err)
{
    const cJSON *bias = cJSON_GetObjectItemCaseSensitive(out->json, "bias");

    if (!bias || cJSON_IsNull(bias) || (cJSON_IsString(bias) && strcmp(bias->valuestring, "none") == 0))
        out->bias = LF_PEFT_BIAS_NONE;
    else if (cJSON_IsString(bias) && strcmp(bias->valuestring, "all") == 0)
        out->bias = LF_PEFT_BIAS_ALL;
    else if (cJSON_IsString(bias) && strcmp(bias->valuestring, "lora_only") == 0)
        out->bias = LF_PEFT_BIAS_LORA_ONLY;
    else
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "bias", "must be none, all or lora_only");
    return LORAFMT_OK;
}

/* null, or a list of names */
static lorafmt_status get_names(const cJSON *json, const char *key, const cJSON **out, lorafmt_error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, key), *item;

    if (!list || cJSON_IsNull(list))
        return LORAFMT_OK;
    if (!cJSON_IsArray(list))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, key, "must be null or a list of names");
    if (cJSON_GetArraySize(list) > MAX_NAMES)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, key, "%d names, at most %d are taken", cJSON_GetArraySize(list),
                       MAX_NAMES);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item) || !item->valuestring[0])
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, key, "must be null or a list of names");
    }
    *out = list->child ? list : NULL;
    return LORAFMT_OK;
}

static lorafmt_status check_token_list(const cJSON *list, lorafmt_error *err)
{
    const cJSON *item;

    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > MAX_TOKENS)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices",
                       "must be null, a list of row numbers or an object of such lists by module, of at most %d rows",
                       MAX_TOKENS);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > MAX_ROW ||
            item->valuedouble != floor(item->valuedouble))
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices",
                           "a row number must be a whole number from 0");
    }
    return LORAFMT_OK;
}

static lorafmt_status get_tokens(lf_peft_config *out, lorafmt_error *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(out->json, "trainable_token_indices"), *list;

    if (!value || cJSON_IsNull(value))
        return LORAFMT_OK;
    if (!cJSON_IsObject(value))
        LF_TRY(check_token_list(value, err));
    else if (cJSON_GetArraySize(value) > MAX_TOKEN_LISTS)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, "trainable_token_indices", "lists for more than %d modules",
                       MAX_TOKEN_LISTS);
    else
        cJSON_ArrayForEach(list, value) LF_TRY(check_token_list(list, err));
    out->trainable_token_indices = value->child ? value : NULL;
    return LORAFMT_OK;
}

/* 0.18 and before; the version is written since 0.18. */
static bool is_before_0_19(const cJSON *json)
{
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(json, "peft_version");
    const char *minor = cJSON_IsString(version) && strncmp(version->valuestring, "0.", 2) == 0 ? version->valuestring + 2 : "";
    const size_t n = strspn(minor, "0123456789");

    return n == 1 || (n == 2 && minor[0] == '1' && minor[1] < '9');
}

static lorafmt_status check_type(const cJSON *json, lorafmt_error *err)
{
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(json, "peft_type");

    if (!cJSON_IsString(type))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "peft_type", "is missing, must be LORA");
    if (strcmp(type->valuestring, "LORA") != 0)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "peft_type", "'%s' is another method; only LORA is supported",
                       type->valuestring);
    return LORAFMT_OK;
}

static lorafmt_status read_config(lf_peft_config *out, size_t n_lookups, lorafmt_error *err)
{
    bool in_out;
    const cJSON *item;

    if (!cJSON_IsObject(out->json))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, NULL, "an adapter config must be a JSON object");
    LF_TRY(check_type(out->json, err));
    cJSON_ArrayForEach(item, out->json) LF_TRY(check_key(item, err));
    LF_TRY(check_init(cJSON_GetObjectItemCaseSensitive(out->json, "init_lora_weights"), err));
    LF_TRY(get_rank_and_alpha(out, err));
    LF_TRY(get_bool(out->json, "use_rslora", &out->use_rslora, err));
    LF_TRY(get_bool(out->json, "fan_in_fan_out", &in_out, err));
    out->orientation = in_out ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
    LF_TRY(get_bias(out, err));
    LF_TRY(get_bool(out->json, "use_dora", &out->use_dora, err));
    LF_TRY(get_bool(out->json, "lora_bias", &out->lora_bias, err));
    LF_TRY(get_names(out->json, "modules_to_save", &out->modules_to_save, err));
    LF_TRY(get_names(out->json, "target_parameters", &out->target_parameters, err));
    LF_TRY(get_tokens(out, err));
    out->before_0_19 = is_before_0_19(out->json);
    LF_TRY(get_text(out->json, "base_model_name_or_path", &out->base_name, err));
    LF_TRY(get_text(out->json, "revision", &out->revision, err));
    LF_TRY(get_text(out->json, "task_type", &out->task_type, err));
    LF_TRY(lf_peft_patterns_parse(cJSON_GetObjectItemCaseSensitive(out->json, "rank_pattern"), "rank_pattern", n_lookups,
                                  &out->rank_pattern, err));
    return lf_peft_patterns_parse(cJSON_GetObjectItemCaseSensitive(out->json, "alpha_pattern"), "alpha_pattern", n_lookups,
                                  &out->alpha_pattern, err);
}

lorafmt_status lf_peft_config_parse(const char *text, size_t size, size_t n_lookups, lf_peft_config *out, lorafmt_error *err)
{
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    if ((st = lf_json_parse(text, size, 0, &out->json, err)) || (st = read_config(out, n_lookups, err)))
        lf_peft_config_free(out);
    return st;
}

void lf_peft_config_free(lf_peft_config *config)
{
    lf_peft_patterns_free(config->rank_pattern);
    lf_peft_patterns_free(config->alpha_pattern);
    cJSON_Delete(config->json);
    memset(config, 0, sizeof *config);
}

/* PEFT finds saved modules by the end of a name ("norm" also takes "input_layernorm"); what is inside one is saved with it. */
static bool ends_in_module(const char *module, const char *saved)
{
    const size_t n = strlen(saved);

    for (const char *end = module; *end; end++) {
        end += strcspn(end, ".");
        if ((size_t)(end - module) >= n && memcmp(end - n, saved, n) == 0)
            return true;
        if (!*end)
            break;
    }
    return false;
}

bool lf_peft_config_saves(const lf_peft_config *config, const char *module)
{
    const char *task = config->task_type ? config->task_type : "";
    const bool classifies = strcmp(task, "SEQ_CLS") == 0 || strcmp(task, "TOKEN_CLS") == 0;
    const cJSON *item;

    cJSON_ArrayForEach(item, config->modules_to_save)
    {
        if (ends_in_module(module, item->valuestring))
            return true;
    }
    if (classifies)
        return ends_in_module(module, "classifier") || ends_in_module(module, "score");
    return strcmp(task, "QUESTION_ANS") == 0 && ends_in_module(module, "qa_outputs");
}
