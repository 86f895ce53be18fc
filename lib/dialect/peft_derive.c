/* SPDX-License-Identifier: MIT */
/* An adapter_config.json made from the sites, and what both it and the export ask about them. */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t lf_peft_module_length(const char *target)
{
    const char *dot = strrchr(target, '.');
    return dot ? (size_t)(dot - target) : 0;
}

/* The low-rank site on a tensor of that name; sites are in order of target. */
static const lorafmt_site *find_low_rank(const lorafmt_adapter *adapter, const char *name)
{
    size_t low = 0, high = adapter->n_sites;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(adapter->sites[middle].target, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < adapter->n_sites && strcmp(adapter->sites[low].target, name) == 0; low++)
        if (lf_kind_is_low_rank(adapter->sites[low].kind))
            return &adapter->sites[low];
    return NULL;
}

const lorafmt_site *lf_peft_find_low_rank(const lorafmt_adapter *adapter, const char *target, const char *parameter, size_t n)
{
    char name[2 * LF_MAX_NAME];

    if (n > LF_MAX_NAME / 2)
        return NULL;
    snprintf(name, sizeof name, "%.*s.%.*s", (int)lf_peft_module_length(target), target, (int)n, parameter);
    return find_low_rank(adapter, name);
}

bool lf_peft_is_adapted(const lorafmt_adapter *adapter, const char *target)
{
    return lf_peft_find_low_rank(adapter, target, "weight", strlen("weight")) != NULL;
}

bool lf_peft_is_attention(const lorafmt_adapter *adapter, const char *path, size_t n)
{
    char name[2 * LF_MAX_NAME];
    const lorafmt_site *out_proj;

    snprintf(name, sizeof name, "%.*s.out_proj.weight", (int)n, path);
    out_proj = find_low_rank(adapter, name);
    return out_proj && out_proj->flags & LORAFMT_SITE_DOUBLED;
}

bool lf_peft_is_parameter(const lorafmt_adapter *adapter, const char *order, const lorafmt_site *site)
{
    if (site->kind == LORAFMT_KIND_EXPERTS)
        return true;
    if (site->kind == LORAFMT_KIND_LINEAR && order)
        return lf_peft_order_find(order, site->target + lf_peft_module_length(site->target) + 1) != LF_PEFT_NO_PLACE;
    return site->kind == LORAFMT_KIND_LINEAR && !lf_ends_with(site->target, ".weight") &&
           !(lf_ends_with(site->target, ".in_proj_weight") &&
             lf_peft_is_attention(adapter, site->target, lf_peft_module_length(site->target)));
}

bool lf_peft_is_square(const lorafmt_site *site)
{
    const lorafmt_factor *a = lorafmt_site_factor(site, LORAFMT_ROLE_A), *b = lorafmt_site_factor(site, LORAFMT_ROLE_B);
    const uint64_t n_experts = a && site->kind == LORAFMT_KIND_EXPERTS ? a->tensor.shape[0] / site->rank : 1;

    return a && b && a->tensor.shape[1] * n_experts == b->tensor.shape[0];
}

const char *lf_peft_metadata(const lorafmt_adapter *adapter, const char *key)
{
    for (size_t i = 0; i < adapter->n_metadata; i++)
        if (strcmp(adapter->metadata[i].key, key) == 0)
            return adapter->metadata[i].value;
    return NULL;
}

static int compare_ranks(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The rank that most low-rank sites have; patterns say the others. 0 when out of memory. */
static uint32_t common_rank(const lorafmt_adapter *adapter)
{
    uint32_t *ranks = calloc(adapter->n_sites, sizeof *ranks), best = 1;
    size_t best_count = 0, count = 0;

    if (!ranks)
        return 0;
    for (size_t i = 0; i < adapter->n_sites; i++)
        ranks[i] = adapter->sites[i].rank;
    qsort(ranks, adapter->n_sites, sizeof *ranks, compare_ranks);
    for (size_t i = 0; i < adapter->n_sites; i++) {
        count = i && ranks[i] == ranks[i - 1] ? count + 1 : 1;
        if (ranks[i] && count > best_count) {
            best_count = count;
            best = ranks[i];
        }
    }
    free(ranks);
    return best;
}

static double site_alpha(const lorafmt_site *site)
{
    return site->scaling == LORAFMT_SCALING_EXPLICIT ? site->scale * site->rank : site->alpha;
}

static bool is_doubled(const lorafmt_site *site)
{
    return site->flags & LORAFMT_SITE_DOUBLED;
}

/* Takes the value, which is gone when it fails. */
static bool set_item(cJSON *json, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    if (value && cJSON_AddItemToObject(json, key, value))
        return true;
    cJSON_Delete(value);
    return false;
}

static cJSON *text_or_null(const char *text)
{
    return text[0] ? cJSON_CreateString(text) : cJSON_CreateNull();
}

/* Whole modules by name, and bias: what the config must announce for the importer to take it. */
static bool set_saved(cJSON *json, const lorafmt_adapter *adapter)
{
    cJSON *saved = cJSON_CreateArray();
    const char *bias = "none";
    bool ok = saved != NULL;

    for (size_t i = 0; ok && i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        if (site->kind == LORAFMT_KIND_SAVED) {
            char *module = strndup(site->target, lf_peft_module_length(site->target));
            ok = module && cJSON_AddItemToArray(saved, cJSON_CreateString(module));
            free(module);
        } else if (site->kind == LORAFMT_KIND_REPLACEMENT && lf_ends_with(site->target, ".bias"))
            bias = lf_peft_is_adapted(adapter, site->target) && strcmp(bias, "all") != 0 ? "lora_only" : "all";
    }
    if (ok && cJSON_GetArraySize(saved) == 0) {
        cJSON_Delete(saved);
        saved = cJSON_CreateNull();
    }
    return set_item(json, "modules_to_save", saved) && ok && set_item(json, "bias", cJSON_CreateString(bias));
}

/* The rows of an embedding that are replaced, by module. */
static bool add_rows(cJSON *tokens, const lorafmt_site *site)
{
    const lorafmt_tensor *rows = &lorafmt_site_factor(site, LORAFMT_ROLE_ROW_INDEX)->tensor;
    char *module = strndup(site->target, lf_peft_module_length(site->target));
    cJSON *list = module ? cJSON_AddArrayToObject(tokens, module) : NULL;
    bool ok = list != NULL;

    for (uint64_t i = 0; ok && i < rows->shape[0]; i++)
        ok = cJSON_AddItemToArray(list, cJSON_CreateNumber((double)lf_load_u64le((const uint8_t *)rows->data + 8 * i)));
    free(module);
    return ok;
}

static bool set_rows(cJSON *json, const lorafmt_adapter *adapter)
{
    cJSON *tokens = cJSON_CreateObject();
    bool ok = tokens != NULL;

    for (size_t i = 0; ok && i < adapter->n_sites; i++)
        if (adapter->sites[i].kind == LORAFMT_KIND_ROWS)
            ok = add_rows(tokens, &adapter->sites[i]);
    if (ok && !tokens->child) {
        cJSON_Delete(tokens);
        tokens = cJSON_CreateNull();
    }
    return set_item(json, "trainable_token_indices", tokens) && ok;
}

/*
 * The key of a pattern for one module or parameter: its path, or, where that could also match the end of another, the path
 * anchored and escaped. PEFT before 0.15 does not take the latter.
 */
static char *pattern_key(const char *target, size_t n, bool anchored)
{
    char *key = malloc(2 * n + 2), *to = key;

    if (!key)
        return NULL;
    if (anchored)
        *to++ = '^';
    for (size_t i = 0; i < n; i++) {
        if (anchored && strchr("\\^$.|?*+()[]{}", target[i]))
            *to++ = '\\';
        *to++ = target[i];
    }
    *to = '\0';
    return key;
}

/* What goes into the config for all low-rank sites together. */
typedef struct targets {
    uint32_t rank;
    double alpha;
    bool rslora, in_out, dora;
    cJSON *modules, *parameters, *ranks, *alphas;
} targets;

/* One adapted layer or parameter. The output projection of an attention goes without saying. */
static bool add_target(targets *t, const lorafmt_adapter *adapter, const lorafmt_site *site, bool anchored)
{
    const bool parameter = lf_peft_is_parameter(adapter, lf_peft_metadata(adapter, LF_PEFT_ORDER_KEY), site);
    const size_t n = parameter ? strlen(site->target) : lf_peft_module_length(site->target);
    char *path = strndup(site->target, n), *key = pattern_key(site->target, n, anchored);
    const bool ok = path && key && cJSON_AddItemToArray(parameter ? t->parameters : t->modules, cJSON_CreateString(path)) &&
                    (site->rank == t->rank || cJSON_AddNumberToObject(t->ranks, key, site->rank)) &&
                    (site_alpha(site) == t->alpha || cJSON_AddNumberToObject(t->alphas, key, site_alpha(site)));

    t->rslora = t->rslora && site->scaling == LORAFMT_SCALING_ALPHA_SQRT_R;
    t->in_out = t->in_out || (site->kind == LORAFMT_KIND_LINEAR && !parameter && site->orientation == LORAFMT_IN_OUT);
    t->dora = t->dora || lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE);
    free(path);
    free(key);
    return ok;
}

/* Target modules by full name, and a pattern for each that differs from the common rank and alpha. */
static bool set_targets(cJSON *json, const lorafmt_adapter *adapter, bool anchored)
{
    targets t = {.rank = common_rank(adapter),
                 .rslora = true,
                 .modules = cJSON_CreateArray(),
                 .parameters = cJSON_CreateArray(),
                 .ranks = cJSON_CreateObject(),
                 .alphas = cJSON_CreateObject()};
    bool any = false, ok = set_item(json, "target_modules", t.modules);

    ok = set_item(json, "target_parameters", t.parameters) && ok;
    ok = set_item(json, "rank_pattern", t.ranks) && ok;
    ok = set_item(json, "alpha_pattern", t.alphas) && ok && t.rank;

    t.alpha = t.rank;
    for (size_t i = 0; i < adapter->n_sites && !any; i++)
        if (adapter->sites[i].rank == t.rank && !is_doubled(&adapter->sites[i])) {
            t.alpha = site_alpha(&adapter->sites[i]);
            any = true;
        }
    for (size_t i = 0; i < adapter->n_sites && ok; i++)
        if (lf_kind_is_low_rank(adapter->sites[i].kind) && !is_doubled(&adapter->sites[i]))
            ok = add_target(&t, adapter, &adapter->sites[i], anchored);
    return ok && set_item(json, "r", cJSON_CreateNumber(t.rank)) && set_item(json, "lora_alpha", cJSON_CreateNumber(t.alpha)) &&
           set_item(json, "use_rslora", cJSON_CreateBool(t.rslora && any)) &&
           set_item(json, "use_dora", cJSON_CreateBool(t.dora)) && set_item(json, "fan_in_fan_out", cJSON_CreateBool(t.in_out));
}

static bool has_additive(const lorafmt_adapter *adapter)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (adapter->sites[i].kind == LORAFMT_KIND_ADDITIVE)
            return true;
    return false;
}

lorafmt_status lf_peft_derive_config(const lorafmt_adapter *adapter, const char *old, bool anchored, lf_arena *arena,
                                     const char **out, lorafmt_error *err)
{
    cJSON *json = NULL;
    char *text = NULL;
    bool ok;

    if (old && lf_json_parse(old, strlen(old), 0, &json, NULL) == LORAFMT_NO_MEMORY)
        return lf_no_memory(err);
    if (!json)
        json = cJSON_CreateObject();
    ok = json && set_item(json, "peft_type", cJSON_CreateString("LORA")) &&
         set_item(json, "base_model_name_or_path", text_or_null(adapter->base_name)) &&
         set_item(json, "revision", text_or_null(adapter->base_revision)) &&
         set_item(json, "inference_mode", cJSON_CreateTrue()) && set_item(json, "init_lora_weights", cJSON_CreateTrue()) &&
         set_item(json, "lora_bias", cJSON_CreateBool(has_additive(adapter))) && set_saved(json, adapter) &&
         set_rows(json, adapter) && set_targets(json, adapter, anchored);
    if (ok)
        text = cJSON_Print(json);
    *out = text ? lf_arena_strdup(arena, text) : NULL;
    cJSON_free(text);
    cJSON_Delete(json);
    return *out ? LORAFMT_OK : lf_no_memory(err);
}
