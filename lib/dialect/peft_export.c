/* SPDX-License-Identifier: MIT */
/*
 * From an adapter to PEFT. The config that came with the adapter is kept to the byte as long as it says the truth; otherwise a
 * new one is derived from the sites. Either way the proof is the importer: what it reads back must be the adapter.
 */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/tensor_map.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft.h"

#include <stdlib.h>
#include <string.h>

/* How much larger than its tensors a file may become, where it becomes large. */
#define MOST_SHARING 64
#define MUCH 1e9

typedef struct exporter {
    const lorafmt_adapter *adapter;
    const char *order;            /* LF_PEFT_ORDER_KEY, or NULL */
    const lf_peft_config *config; /* the old one, or the one that was derived */
    lf_arena *arena;
    lorafmt_error *err;
    lf_peft_tensor *tensors;
    size_t n_tensors;
} exporter;

static lorafmt_status refuse_site(const exporter *ex, const lorafmt_site *site, const char *why)
{
    return lf_fail(ex->err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target, "PEFT cannot say this: %s", why);
}

static lorafmt_status add_tensor(exporter *ex, const char *name, const lorafmt_tensor *tensor)
{
    if (!name)
        return lf_no_memory(ex->err);
    ex->tensors[ex->n_tensors++] = (lf_peft_tensor){name, *tensor};
    return LORAFMT_OK;
}

/* ".base_layer" for each wrapper. */
static const char *base_layers(const exporter *ex, size_t n)
{
    const char *text = "";

    while (text && n-- > 0)
        text = lf_arena_printf(ex->arena, "%s.base_layer", text);
    return text;
}

/* How many parameters of this module were registered after the one of that place, and are adapted: they are around it. */
static size_t wrappers_after(const exporter *ex, const char *target, size_t place)
{
    const char *name = ex->order;
    size_t n = 0;

    for (size_t i = 0; name && *name; i++) {
        const size_t length = strcspn(name, " ");
        if ((place == LF_PEFT_NO_PLACE || i > place) && lf_peft_find_low_rank(ex->adapter, target, name, length))
            n++;
        name += length + (name[length] == ' ');
    }
    return n;
}

/* How many wrappers there are around a module: one for each adapted parameter, or the one of the layer. */
static size_t wrappers_around(const exporter *ex, const char *target)
{
    const size_t n = wrappers_after(ex, target, LF_PEFT_NO_PLACE);

    return n ? n : lf_peft_is_adapted(ex->adapter, target) || lf_peft_find_low_rank(ex->adapter, target, "in_proj_weight", 14);
}

/* The module of a target as a name has it: <attention>.base_layer.out_proj for what is in an adapted attention. */
static const char *module_path(const exporter *ex, const char *target)
{
    static const char out_proj[] = "out_proj";
    const size_t n = lf_peft_module_length(target), m = strlen(out_proj);
    const size_t around = n > m ? n - m - 1 : 0; // of the attention's path

    if (around && target[around] == '.' && strncmp(target + around + 1, out_proj, m) == 0 &&
        lf_peft_is_attention(ex->adapter, target, around))
        return lf_arena_printf(ex->arena, LF_PEFT_PREFIX "%.*s.base_layer.%s", (int)around, target, out_proj);
    return lf_arena_printf(ex->arena, LF_PEFT_PREFIX "%.*s", (int)n, target);
}

static lorafmt_status check_low_rank(const exporter *ex, const lorafmt_site *site)
{
    const bool parameter = lf_peft_is_parameter(ex->adapter, ex->order, site), doubled = site->flags & LORAFMT_SITE_DOUBLED;

    if (site->orientation == LORAFMT_BY_SHAPE && lf_peft_is_square(site))
        return refuse_site(ex, site, "it is square and of unknown orientation");
    if (!parameter && !lf_ends_with(site->target, ".weight") && !lf_ends_with(site->target, ".in_proj_weight"))
        return refuse_site(ex, site, "a low-rank update of a tensor that is no layer's weight");
    if (doubled && !lf_ends_with(site->target, ".out_proj.weight"))
        return refuse_site(ex, site, "doubled, and not the output projection of an attention");
    for (uint32_t f = 0; f < site->n_factors; f++)
        if (site->factors[f].role != LORAFMT_ROLE_A && site->factors[f].role != LORAFMT_ROLE_B &&
            (parameter || site->factors[f].role != LORAFMT_ROLE_MAGNITUDE))
            return refuse_site(ex, site, lorafmt_role_name(site->factors[f].role));
    return LORAFMT_OK;
}

static const char *factor_suffix(const lorafmt_site *site, unsigned role)
{
    const bool embedding = site->kind == LORAFMT_KIND_EMBEDDING;

    if (role == LORAFMT_ROLE_MAGNITUDE)
        return ".lora_magnitude_vector";
    if (role == LORAFMT_ROLE_A)
        return embedding ? ".lora_embedding_A" : ".lora_A.weight";
    return embedding ? ".lora_embedding_B" : ".lora_B.weight";
}

static lorafmt_status export_low_rank(exporter *ex, const lorafmt_site *site)
{
    const char *parameter = site->target + lf_peft_module_length(site->target) + 1;
    const size_t place = lf_peft_order_find(ex->order, parameter);
    const char *wrapped = base_layers(ex, place == LF_PEFT_NO_PLACE ? 0 : wrappers_after(ex, site->target, place));
    const char *module = module_path(ex, site->target);

    LF_TRY(check_low_rank(ex, site));
    if (!module || !wrapped)
        return lf_no_memory(ex->err);
    for (uint32_t f = 0; f < site->n_factors; f++) {
        const lorafmt_tensor *ours = &site->factors[f].tensor;
        lorafmt_tensor t = *ours;
        if (site->kind == LORAFMT_KIND_EXPERTS && site->factors[f].role == LORAFMT_ROLE_B)
            LF_TRY(lf_peft_experts_to(ours, site->factors[0].tensor.shape[0] / site->rank, ex->arena, &t, ex->err));
        LF_TRY(add_tensor(ex, lf_arena_printf(ex->arena, "%s%s%s", module, wrapped, factor_suffix(site, site->factors[f].role)),
                          &t));
    }
    return LORAFMT_OK;
}

/* lora_B.bias goes with the factors of the same layer, and has their scale. */
static lorafmt_status export_additive(exporter *ex, const lorafmt_site *site)
{
    const char *module = module_path(ex, site->target);
    const lorafmt_site *layer = lf_peft_find_low_rank(ex->adapter, site->target, "weight", 6);

    if (!lf_ends_with(site->target, ".bias") || !layer || layer->scale != site->scale)
        return refuse_site(ex, site, "what is added is not the bias of an adapted layer, with its scale");
    return add_tensor(ex, module ? lf_arena_printf(ex->arena, "%s.lora_B.bias", module) : NULL,
                      &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor);
}

static lorafmt_status export_rows(exporter *ex, const lorafmt_site *site)
{
    char *module = lf_arena_strndup(ex->arena, site->target, lf_peft_module_length(site->target));
    const cJSON *list;
    const lorafmt_tensor *rows = &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor;
    lorafmt_tensor t;

    if (!module)
        return lf_no_memory(ex->err);
    LF_TRY(lf_peft_token_list(ex->config, module, &list, ex->err));
    if (!lf_ends_with(site->target, ".weight") || !list || rows->n_dims != 2)
        return refuse_site(ex, site, "rows that the config does not list as trainable tokens");
    LF_TRY(lf_peft_rows_to(rows, &lorafmt_site_factor(site, LORAFMT_ROLE_ROW_INDEX)->tensor, list, ex->arena, &t, ex->err));
    return add_tensor(ex, lf_arena_printf(ex->arena, LF_PEFT_PREFIX "%s.token_adapter.trainable_tokens_delta", module), &t);
}

static lorafmt_status export_whole(exporter *ex, const lorafmt_site *site)
{
    const char *module = module_path(ex, site->target), *parameter = site->target + lf_peft_module_length(site->target);
    const char *wrapped = base_layers(ex, site->kind == LORAFMT_KIND_SAVED ? 0 : wrappers_around(ex, site->target));

    return add_tensor(ex, module && wrapped ? lf_arena_printf(ex->arena, "%s%s%s", module, wrapped, parameter) : NULL,
                      &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor);
}

static lorafmt_status export_site(exporter *ex, const lorafmt_site *site)
{
    if (site->flags & (LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE))
        return refuse_site(ex, site, "a range of a tensor");
    if (lf_peft_module_length(site->target) == 0)
        return refuse_site(ex, site, "a tensor without a module");
    if (lf_kind_is_low_rank(site->kind))
        return export_low_rank(ex, site);
    if (lf_kind_is_whole(site->kind))
        return export_whole(ex, site);
    if (site->kind == LORAFMT_KIND_ADDITIVE)
        return export_additive(ex, site);
    if (site->kind == LORAFMT_KIND_ROWS)
        return export_rows(ex, site);
    return refuse_site(ex, site, "a kind of a newer format");
}

static int compare_tensors(const void *a, const void *b)
{
    const lf_peft_tensor *x = a, *y = b;
    const unsigned bits_x = lorafmt_dtype_bits(x->tensor.dtype), bits_y = lorafmt_dtype_bits(y->tensor.dtype);

    if (bits_x != bits_y) // as the reference writer does: widest first, so that everything stays aligned
        return bits_x > bits_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

static lorafmt_status export_tensors(exporter *ex)
{
    const lorafmt_adapter *adapter = ex->adapter;
    size_t max = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        max += adapter->sites[i].n_factors;
    ex->n_tensors = 0;
    ex->tensors = lf_arena_alloc(ex->arena, max, sizeof *ex->tensors);
    if (!ex->tensors)
        return lf_no_memory(ex->err);
    for (size_t i = 0; i < adapter->n_sites; i++)
        LF_TRY(export_site(ex, &adapter->sites[i]));
    qsort(ex->tensors, ex->n_tensors, sizeof *ex->tensors, compare_tensors);
    return LORAFMT_OK;
}

/* --- the proof --- */

static bool same_tensor(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return lf_tensor_same_type(a, b) && (a->data == b->data || memcmp(a->data, b->data, (size_t)a->size) == 0);
}

/* Do two sites do the same? A different rule that gives the same scale is the same. */
static bool same_site(const lorafmt_site *a, const lorafmt_site *b)
{
    const uint32_t doubled = (a->flags ^ b->flags) & LORAFMT_SITE_DOUBLED;

    if (strcmp(a->target, b->target) != 0 || a->kind != b->kind || a->rank != b->rank || a->scale != b->scale || doubled ||
        a->n_factors != b->n_factors || (a->orientation != b->orientation && a->orientation != LORAFMT_BY_SHAPE))
        return false;
    for (uint32_t i = 0; i < a->n_factors; i++)
        if (a->factors[i].role != b->factors[i].role || !same_tensor(&a->factors[i].tensor, &b->factors[i].tensor))
            return false;
    return true;
}

/* The tensor that a matrix or experts are for, as the base must have it. */
static void describe_tensor(const lorafmt_site *site, lorafmt_base_tensor *out)
{
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    const uint64_t n_experts = a->shape[0] / site->rank, out_in[2] = {b->shape[0] / n_experts, a->shape[1]};
    const bool swapped = site->orientation == LORAFMT_IN_OUT, experts = site->kind == LORAFMT_KIND_EXPERTS;
    uint64_t *shape = out->shape;

    *out = (lorafmt_base_tensor){.name = site->target, .dtype = a->dtype, .n_dims = 2 + experts};
    if (experts)
        *shape++ = n_experts;
    shape[0] = out_in[swapped];
    shape[1] = out_in[!swapped];
}

/* The base as far as the importer asks for it. */
static lorafmt_status describe_base(const exporter *ex, lf_arena *arena, lorafmt_base *out)
{
    const lorafmt_adapter *adapter = ex->adapter;
    lorafmt_base_tensor *tensors = lf_arena_alloc(arena, adapter->n_sites, sizeof *tensors);

    if (!tensors)
        return lf_no_memory(ex->err);
    *out = (lorafmt_base){.struct_size = sizeof *out, .tensors = tensors};
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (lf_peft_is_parameter(adapter, ex->order, &adapter->sites[i]))
            describe_tensor(&adapter->sites[i], &tensors[out->n_tensors++]);
    return LORAFMT_OK;
}

static lorafmt_status compare_adapters(const lorafmt_adapter *adapter, const lorafmt_adapter *again, lorafmt_error *err)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (again->n_sites != adapter->n_sites || !same_site(&adapter->sites[i], &again->sites[i]))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, adapter->sites[i].target,
                           "a PEFT config cannot say what this site says");
    if (strcmp(again->base_name, adapter->base_name) != 0 || strcmp(again->base_revision, adapter->base_revision) != 0)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, adapter->name, "the config names another base");
    return LORAFMT_OK;
}

/* The orientation of the experts, for those whose shape does not tell. */
static lorafmt_orientation experts_orientation(const lorafmt_adapter *adapter)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (adapter->sites[i].kind == LORAFMT_KIND_EXPERTS && lf_peft_is_square(&adapter->sites[i]))
            return (lorafmt_orientation)adapter->sites[i].orientation;
    return LORAFMT_BY_SHAPE;
}

/* Import what was exported and compare. */
static lorafmt_status prove(const exporter *ex, const char *config)
{
    const lorafmt_orientation orientation = experts_orientation(ex->adapter);
    lf_arena arena = {0};
    lf_notes notes = {0};
    lorafmt_base base;
    const lf_peft_input in = {.config_text = config,
                              .config_size = strlen(config),
                              .tensors = ex->tensors,
                              .n_tensors = ex->n_tensors,
                              .name = ex->adapter->name,
                              .base = &base,
                              .orientation = &orientation};
    lorafmt_adapter again;
    lorafmt_status st = describe_base(ex, &arena, &base);

    if (!st)
        st = lf_peft_import(&in, &arena, &again, &notes, ex->err);
    if (!st)
        st = compare_adapters(ex->adapter, &again, ex->err);
    lf_arena_free(&arena);
    return st;
}

static lorafmt_status export_with(exporter *ex, const char *config_text)
{
    lf_peft_config config;
    lorafmt_status st;

    LF_TRY(lf_peft_config_parse(config_text, strlen(config_text), ex->adapter->n_sites, &config, ex->err));
    ex->config = &config;
    st = export_tensors(ex);
    ex->config = NULL;
    lf_peft_config_free(&config);
    return st ? st : prove(ex, config_text);
}

/* A PEFT file has a tensor for every factor; sites of a hostile one may name the same megabytes a million times. */
static lorafmt_status check_sharing(const lorafmt_adapter *adapter, lf_arena *arena, lorafmt_error *err)
{
    lf_tensor_map distinct = {.arena = arena};
    double n_distinct = 0, n_bytes = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t k = 0; k < adapter->sites[i].n_factors; k++) {
            const lorafmt_tensor *t = &adapter->sites[i].factors[k].tensor;
            n_bytes += (double)t->size;
            if (lf_tensor_map_find(&distinct, t) != SIZE_MAX)
                continue;
            n_distinct += (double)t->size;
            if (!lf_tensor_map_add(&distinct, t))
                return lf_no_memory(err);
        }
    if (n_bytes > MOST_SHARING * n_distinct && n_bytes > MUCH)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, adapter->name,
                       "its sites share tensors, which a PEFT file cannot: it would be %.0f times as large, %.3g bytes",
                       n_bytes / n_distinct, n_bytes);
    return LORAFMT_OK;
}

lorafmt_status lf_peft_export(const lorafmt_adapter *adapter, lf_arena *arena, const char **config_text, lf_peft_tensor **tensors,
                              size_t *n_tensors, lorafmt_error *err)
{
    exporter ex = {.adapter = adapter, .arena = arena, .order = lf_peft_metadata(adapter, LF_PEFT_ORDER_KEY)};
    const char *old = lf_peft_metadata(adapter, LF_PEFT_CONFIG_KEY);
    lorafmt_status st = LORAFMT_UNSUPPORTED;

    *config_text = old;
    LF_TRY(check_sharing(adapter, arena, err));
    if (old)
        st = export_with(&ex, old);
    for (int anchored = 0; st && st != LORAFMT_NO_MEMORY && anchored < 2; anchored++) {
        LF_TRY(lf_peft_derive_config(adapter, old, anchored, arena, config_text, err));
        ex.err = anchored ? err : NULL;
        st = export_with(&ex, *config_text);
    }
    *tensors = ex.tensors;
    *n_tensors = ex.n_tensors;
    return st == LORAFMT_NO_MEMORY ? lf_no_memory(err) : st;
}
