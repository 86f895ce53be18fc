/* SPDX-License-Identifier: MIT */
/*
 * From an adapter to PEFT. The config that came with the adapter is kept to the byte as long as it says the truth; otherwise a
 * new one is derived from the sites. Either way the proof is the importer: what it reads back must be the adapter.
 */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the module path in a target: all but the last component. */
static size_t module_length(const char *target)
{
    const char *dot = strrchr(target, '.');
    return dot ? (size_t)(dot - target) : 0;
}

/* Does the module of a target have a low-rank site? That is on <module>.weight; sites are in order of target. */
static bool is_adapted(const lorafmt_adapter *adapter, const char *target)
{
    char weight[LF_MAX_NAME + 16];
    size_t low = 0, high = adapter->n_sites;

    snprintf(weight, sizeof weight, "%.*s.weight", (int)module_length(target), target);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(adapter->sites[middle].target, weight) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < adapter->n_sites && strcmp(adapter->sites[low].target, weight) == 0; low++)
        if (lf_kind_is_low_rank(adapter->sites[low].kind))
            return true;
    return false;
}

static lorafmt_status refuse_site(const lorafmt_site *site, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                   "exporting a site of kind %s to PEFT is not supported by this version", lorafmt_kind_name(site->kind));
}

/* A matrix whose shape cannot tell how the base stores it. */
static bool is_square(const lorafmt_site *site)
{
    const lorafmt_factor *a = lorafmt_site_factor(site, LORAFMT_ROLE_A), *b = lorafmt_site_factor(site, LORAFMT_ROLE_B);
    return a && b && a->tensor.shape[1] == b->tensor.shape[0];
}

static const char *site_key(const lorafmt_adapter *adapter, const lorafmt_site *site, unsigned role, lf_arena *arena)
{
    const int n = (int)module_length(site->target);
    const char *letter = role == LORAFMT_ROLE_A ? "A" : "B", *base_layer = "";

    if (site->kind == LORAFMT_KIND_LINEAR)
        return lf_arena_printf(arena, "base_model.model.%.*s.lora_%s.weight", n, site->target, letter);
    if (site->kind == LORAFMT_KIND_EMBEDDING)
        return lf_arena_printf(arena, "base_model.model.%.*s.lora_embedding_%s", n, site->target, letter);
    if (site->kind == LORAFMT_KIND_REPLACEMENT && is_adapted(adapter, site->target))
        base_layer = ".base_layer";
    return lf_arena_printf(arena, "base_model.model.%.*s%s%s", n, site->target, base_layer, site->target + n);
}

static int compare_tensors(const void *a, const void *b)
{
    const lf_peft_tensor *x = a, *y = b;
    const unsigned bits_x = lorafmt_dtype_bits(x->tensor.dtype), bits_y = lorafmt_dtype_bits(y->tensor.dtype);

    if (bits_x != bits_y) // as the reference writer does: widest first, so that everything stays aligned
        return bits_x > bits_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

static lorafmt_status export_tensors(const lorafmt_adapter *adapter, lf_arena *arena, lf_peft_tensor **out, size_t *n_out,
                                     lorafmt_error *err)
{
    lf_peft_tensor *tensors;
    size_t n = 0, max = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        max += adapter->sites[i].n_factors;
    tensors = lf_arena_alloc(arena, max, sizeof *tensors);
    if (!tensors)
        return lf_no_memory(err);
    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        const bool known =
            site->kind == LORAFMT_KIND_LINEAR || site->kind == LORAFMT_KIND_EMBEDDING || lf_kind_is_whole(site->kind);
        if (site->orientation == LORAFMT_BY_SHAPE && is_square(site))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                           "is square and of unknown orientation, which a PEFT config cannot say");
        if (!known || site->flags & ~(unsigned)LORAFMT_SITE_BASE_SHA256 || module_length(site->target) == 0 ||
            (!lf_kind_is_whole(site->kind) && !lf_ends_with(site->target, ".weight")))
            return refuse_site(site, err);
        for (uint32_t f = 0; f < site->n_factors; f++) {
            if (site->factors[f].role > LORAFMT_ROLE_B && site->factors[f].role != LORAFMT_ROLE_VALUE)
                return refuse_site(site, err);
            tensors[n].name = site_key(adapter, site, site->factors[f].role, arena);
            tensors[n].tensor = site->factors[f].tensor;
            if (!tensors[n++].name)
                return lf_no_memory(err);
        }
    }
    qsort(tensors, n, sizeof *tensors, compare_tensors);
    *out = tensors;
    *n_out = n;
    return LORAFMT_OK;
}

static bool same_tensor(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return a->data == b->data && lf_tensor_same_type(a, b);
}

/* Do two sites do the same? A different rule that gives the same scale is the same. */
static bool same_site(const lorafmt_site *a, const lorafmt_site *b)
{
    if (strcmp(a->target, b->target) != 0 || a->kind != b->kind || a->rank != b->rank || a->scale != b->scale ||
        a->n_factors != b->n_factors || (a->orientation != b->orientation && a->orientation != LORAFMT_BY_SHAPE))
        return false;
    for (uint32_t i = 0; i < a->n_factors; i++)
        if (a->factors[i].role != b->factors[i].role || !same_tensor(&a->factors[i].tensor, &b->factors[i].tensor))
            return false;
    return true;
}

/* Import what was exported and compare. */
static lorafmt_status prove(const lorafmt_adapter *adapter, const char *config, const lf_peft_tensor *tensors, size_t n,
                            lorafmt_error *err)
{
    lf_arena arena = {0};
    lf_notes notes = {0};
    lorafmt_adapter again;
    lorafmt_status st = lf_peft_import(config, strlen(config), NULL, tensors, n, adapter->name, &arena, &again, &notes, err);

    for (size_t i = 0; !st && i < adapter->n_sites; i++)
        if (again.n_sites != adapter->n_sites || !same_site(&adapter->sites[i], &again.sites[i]))
            st = lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, adapter->sites[i].target,
                         "a PEFT config cannot say what this site says");
    if (!st && (strcmp(again.base_name, adapter->base_name) != 0 || strcmp(again.base_revision, adapter->base_revision) != 0))
        st = lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, adapter->name, "the config names another base");
    lf_arena_free(&arena);
    return st;
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

static bool set_item(cJSON *json, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    return value && cJSON_AddItemToObject(json, key, value);
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
            char *module = strndup(site->target, module_length(site->target));
            ok = module && cJSON_AddItemToArray(saved, cJSON_CreateString(module));
            free(module);
        } else if (site->kind == LORAFMT_KIND_REPLACEMENT && lf_ends_with(site->target, ".bias"))
            bias = is_adapted(adapter, site->target) && strcmp(bias, "all") != 0 ? "lora_only" : "all";
    }
    if (ok && cJSON_GetArraySize(saved) == 0) {
        cJSON_Delete(saved);
        saved = cJSON_CreateNull();
    }
    return ok && set_item(json, "modules_to_save", saved) && set_item(json, "bias", cJSON_CreateString(bias));
}

/*
 * The key of a pattern for one module: its path, or, where that could also match the end of another, the path anchored and
 * escaped. PEFT before 0.15 does not take the latter.
 */
static char *pattern_key(const char *target, bool anchored)
{
    const size_t n = module_length(target);
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
    bool rslora, in_out;
    cJSON *modules, *ranks, *alphas;
} targets;

static bool add_target(targets *t, const lorafmt_site *site, bool anchored)
{
    char *module = strndup(site->target, module_length(site->target)), *key = pattern_key(site->target, anchored);
    const bool ok = module && key && cJSON_AddItemToArray(t->modules, cJSON_CreateString(module)) &&
                    (site->rank == t->rank || cJSON_AddNumberToObject(t->ranks, key, site->rank)) &&
                    (site_alpha(site) == t->alpha || cJSON_AddNumberToObject(t->alphas, key, site_alpha(site)));

    t->rslora = t->rslora && site->scaling == LORAFMT_SCALING_ALPHA_SQRT_R;
    t->in_out = t->in_out || (site->kind == LORAFMT_KIND_LINEAR && site->orientation == LORAFMT_IN_OUT);
    free(module);
    free(key);
    return ok;
}

/* Target modules by full name, and a pattern for each that differs from the common rank and alpha. */
static bool set_targets(cJSON *json, const lorafmt_adapter *adapter, bool anchored)
{
    targets t = {.rank = common_rank(adapter),
                 .rslora = true,
                 .modules = cJSON_CreateArray(),
                 .ranks = cJSON_CreateObject(),
                 .alphas = cJSON_CreateObject()};
    bool any = false, ok = t.rank && set_item(json, "target_modules", t.modules) && set_item(json, "rank_pattern", t.ranks) &&
                           set_item(json, "alpha_pattern", t.alphas);

    t.alpha = t.rank;
    for (size_t i = 0; i < adapter->n_sites && !any; i++)
        if (adapter->sites[i].rank == t.rank) {
            t.alpha = site_alpha(&adapter->sites[i]);
            any = true;
        }
    for (size_t i = 0; i < adapter->n_sites && ok; i++)
        if (lf_kind_is_low_rank(adapter->sites[i].kind))
            ok = add_target(&t, &adapter->sites[i], anchored);
    return ok && set_item(json, "r", cJSON_CreateNumber(t.rank)) && set_item(json, "lora_alpha", cJSON_CreateNumber(t.alpha)) &&
           set_item(json, "use_rslora", cJSON_CreateBool(t.rslora && any)) &&
           set_item(json, "fan_in_fan_out", cJSON_CreateBool(t.in_out));
}

/* A config made from the sites; what the old one said of training and provenance stays in it. */
static lorafmt_status derive_config(const lorafmt_adapter *adapter, const char *old, bool anchored, lf_arena *arena,
                                    const char **out, lorafmt_error *err)
{
    cJSON *json = NULL;
    char *text = NULL;
    bool ok;

    if (old && lf_json_parse(old, strlen(old), 0, &json, NULL) != LORAFMT_OK)
        json = NULL;
    if (!json)
        json = cJSON_CreateObject();
    ok = json && set_item(json, "peft_type", cJSON_CreateString("LORA")) &&
         set_item(json, "base_model_name_or_path", text_or_null(adapter->base_name)) &&
         set_item(json, "revision", text_or_null(adapter->base_revision)) &&
         set_item(json, "inference_mode", cJSON_CreateTrue()) && set_item(json, "init_lora_weights", cJSON_CreateTrue()) &&
         set_saved(json, adapter) && set_targets(json, adapter, anchored);
    if (ok)
        text = cJSON_Print(json);
    *out = text ? lf_arena_strdup(arena, text) : NULL;
    cJSON_free(text);
    cJSON_Delete(json);
    return *out ? LORAFMT_OK : lf_no_memory(err);
}

lorafmt_status lf_peft_export(const lorafmt_adapter *adapter, lf_arena *arena, const char **config_text, lf_peft_tensor **tensors,
                              size_t *n_tensors, lorafmt_error *err)
{
    const char *old = NULL;

    LF_TRY(export_tensors(adapter, arena, tensors, n_tensors, err));
    for (size_t i = 0; i < adapter->n_metadata; i++)
        if (strcmp(adapter->metadata[i].key, LF_PEFT_CONFIG_KEY) == 0)
            old = adapter->metadata[i].value;
    if (old && prove(adapter, old, *tensors, *n_tensors, NULL) == LORAFMT_OK) {
        *config_text = old;
        return LORAFMT_OK;
    }
    LF_TRY(derive_config(adapter, old, false, arena, config_text, err));
    if (prove(adapter, *config_text, *tensors, *n_tensors, NULL) == LORAFMT_OK)
        return LORAFMT_OK;
    LF_TRY(derive_config(adapter, old, true, arena, config_text, err));
    return prove(adapter, *config_text, *tensors, *n_tensors, err);
}
