/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FACTORS 3 // of one site: A, B, magnitude

/* A tensor with what its name says. */
typedef struct entry {
    lf_peft_key key;
    const lf_peft_tensor *tensor;
} entry;

typedef struct importer {
    const lf_peft_input *in;
    const lf_peft_config *config;
    lf_arena *arena;
    lf_notes *notes;
    lf_peft_parameters parameters;
    const char *order; /* LF_PEFT_ORDER_KEY, or NULL */
    entry *entries;    /* in order of module, depth and part */
    size_t n_entries;
    lorafmt_site *sites;
    size_t n_sites;
} importer;

/* The factors of one layer, or of one wrapper of a module. */
typedef struct layer {
    const entry *a, *b, *magnitude, *bias;
    bool embedding;
} layer;

lorafmt_status lf_note(lf_notes *notes, lf_arena *arena, const char *format, ...)
{
    char text[2048];
    va_list args;

    if (notes->n == notes->capacity) {
        const size_t capacity = notes->capacity ? 2 * notes->capacity : 8;
        const char **bigger = lf_arena_alloc(arena, capacity, sizeof *bigger);
        if (!bigger)
            return LORAFMT_NO_MEMORY;
        if (notes->n)
            memcpy(bigger, notes->text, notes->n * sizeof *bigger);
        notes->text = bigger;
        notes->capacity = capacity;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    notes->text[notes->n] = lf_arena_strdup(arena, text);
    return notes->text[notes->n] && ++notes->n ? LORAFMT_OK : LORAFMT_NO_MEMORY;
}

static bool is_layer_part(lf_peft_part part)
{
    return part <= LF_PEFT_B_BIAS;
}

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const int by_module = strcmp(x->key.module, y->key.module);

    if (by_module)
        return by_module;
    if (is_layer_part(x->key.part) && is_layer_part(y->key.part) && x->key.depth != y->key.depth)
        return x->key.depth < y->key.depth ? -1 : 1;
    if (x->key.part != y->key.part)
        return x->key.part < y->key.part ? -1 : 1;
    return strcmp(x->tensor->name, y->tensor->name);
}

static lorafmt_status parse_keys(importer *im, lorafmt_error *err)
{
    const size_t n = im->in->n_tensors;
    const char **names = lf_arena_alloc(im->arena, n, sizeof *names);

    im->entries = lf_arena_alloc(im->arena, n, sizeof *im->entries);
    im->sites = lf_arena_alloc(im->arena, n, sizeof *im->sites);
    if (!names || !im->entries || !im->sites)
        return lf_no_memory(err);
    LF_TRY(lf_peft_normalise(im->in->tensors, n, im->arena, names, im->notes, err));
    for (size_t i = 0; i < n; i++) {
        entry *e = &im->entries[im->n_entries++];
        LF_TRY(lf_peft_key_parse(names[i], im->arena, &e->key, err));
        e->tensor = &im->in->tensors[i];
    }
    if (n)
        qsort(im->entries, n, sizeof *im->entries, compare_entries);
    return LORAFMT_OK;
}

static lorafmt_site *add_site(importer *im, const char *module, const char *parameter, unsigned kind)
{
    lorafmt_site *site = &im->sites[im->n_sites++];

    site->target = lf_arena_printf(im->arena, "%s.%s", module, parameter);
    site->kind = (uint16_t)kind;
    site->scale = 1.0;
    return site->target ? site : NULL;
}

static lorafmt_status refuse(lorafmt_error *err, lorafmt_status status, const entry *e, const char *text)
{
    return lf_fail(err, status, LORAFMT_NO_OFFSET, e->tensor->name, "%s", text);
}

/* --- layers: A and B, and what goes with them --- */

/* Take the parts of one layer from e[0, n), which are all of one module and depth; how many there are. */
static lorafmt_status take_layer(const entry *e, size_t n, layer *out, size_t *n_taken, lorafmt_error *err)
{
    size_t i = 0;

    memset(out, 0, sizeof *out);
    for (; i < n && is_layer_part(e[i].key.part) && e[i].key.depth == e->key.depth && !strcmp(e[i].key.module, e->key.module);
         i++) {
        const lf_peft_part part = e[i].key.part;
        const bool embedding = part == LF_PEFT_EMBEDDING_A || part == LF_PEFT_EMBEDDING_B;
        const entry **place = part == LF_PEFT_MAGNITUDE                          ? &out->magnitude
                              : part == LF_PEFT_B_BIAS                           ? &out->bias
                              : part == LF_PEFT_A || part == LF_PEFT_EMBEDDING_A ? &out->a
                                                                                 : &out->b;
        if (*place)
            return refuse(err, LORAFMT_CORRUPT, &e[i], "a second factor of this kind for the same layer");
        *place = &e[i];
        out->embedding = out->embedding || embedding;
    }
    *n_taken = i;
    if (!out->a || !out->b)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, e->tensor->name, "its counterpart lora_%s%s is missing",
                       out->embedding ? "embedding_" : "", out->a ? "B" : "A");
    if (out->embedding && (out->a->key.part == LF_PEFT_A || out->b->key.part == LF_PEFT_B))
        return refuse(err, LORAFMT_CORRUPT, out->a, "factors of an embedding and of another layer for one module");
    return LORAFMT_OK;
}

static lorafmt_status check_not_empty(const entry *e, lorafmt_error *err)
{
    for (uint32_t i = 0; i < e->tensor->tensor.n_dims; i++)
        if (e->tensor->tensor.shape[i] == 0)
            return refuse(err, LORAFMT_CORRUPT, e,
                          "is empty (a dimension is 0); this usually comes from saving sharded training (DeepSpeed ZeRO-3, FSDP) "
                          "without gathering the weights");
    return LORAFMT_OK;
}

static lorafmt_status check_factor(const entry *e, lorafmt_error *err)
{
    LF_TRY(check_not_empty(e, err));
    if (!lf_dtype_is_real(e->tensor->tensor.dtype))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, e->tensor->name,
                       "is %s; factors may be F32, F16, BF16 or F64", lorafmt_dtype_name(e->tensor->tensor.dtype));
    return LORAFMT_OK;
}

static lorafmt_status check_shapes(const layer *l, lorafmt_error *err)
{
    const lorafmt_tensor *a = &l->a->tensor->tensor, *b = &l->b->tensor->tensor;
    const uint32_t most = l->embedding ? 2 : 5;

    if (a->n_dims < 2 || a->n_dims > most || b->n_dims != a->n_dims)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, l->a->tensor->name,
                       "A has %" PRIu32 " dimensions and B %" PRIu32 ", both must have 2%s", a->n_dims, b->n_dims,
                       l->embedding ? "" : ", or 3 to 5 for a convolution");
    if (a->n_dims > 2 && b->shape[1] < a->shape[0] && a->shape[0] % b->shape[1] == 0)
        return refuse(err, LORAFMT_UNSUPPORTED, l->b,
                      "a grouped convolution: its update mixes channels that the base keeps apart and cannot be merged");
    if (a->shape[0] != b->shape[1])
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, l->a->key.module,
                       "A has rank %" PRIu64 " and B has rank %" PRIu64 ", must be the same", a->shape[0], b->shape[1]);
    return LORAFMT_OK;
}

/* What the config announces must be there, and nothing else: a bias or a magnitude that is left out is another adapter. */
static lorafmt_status check_extras(const importer *im, const layer *l, bool takes_them, lorafmt_error *err)
{
    const bool dora = im->config->use_dora && takes_them, bias = im->config->lora_bias && takes_them && !l->embedding;

    if (l->magnitude && !dora)
        return refuse(err, LORAFMT_UNSUPPORTED, l->magnitude,
                      takes_them ? "a DoRA magnitude, and no use_dora in a config that announces it"
                                 : "a DoRA magnitude where PEFT has none");
    if (l->bias && !bias)
        return refuse(err, LORAFMT_UNSUPPORTED, l->bias,
                      takes_them ? "a bias of lora_B, and no lora_bias in a config that announces it"
                                 : "a bias of lora_B where PEFT has none");
    if (dora && !l->magnitude)
        return refuse(err, LORAFMT_CORRUPT, l->a, "the config says use_dora, but this layer has no lora_magnitude_vector");
    if (bias && !l->bias)
        return refuse(err, LORAFMT_CORRUPT, l->b, "the config says lora_bias, but this layer has no lora_B.bias");
    if (l->magnitude)
        LF_TRY(check_factor(l->magnitude, err));
    return l->bias ? check_not_empty(l->bias, err) : LORAFMT_OK;
}

static lorafmt_status check_layer(const importer *im, const layer *l, bool takes_extras, lorafmt_error *err)
{
    LF_TRY(check_factor(l->a, err));
    LF_TRY(check_factor(l->b, err));
    return check_extras(im, l, takes_extras, err);
}

/* Alpha of a module or parameter: the pattern's, else the config's own. */
static lorafmt_status set_scale(const importer *im, const char *path, uint32_t rank, lorafmt_site *site, lorafmt_error *err)
{
    double alpha = im->config->alpha;

    LF_TRY(lf_peft_patterns_find(im->config->alpha_pattern, path, &alpha, err));
    if (!isfinite(alpha))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, path, "alpha is %g, must be finite", alpha);
    site->rank = rank;
    site->alpha = alpha;
    site->scaling = im->config->use_rslora ? LORAFMT_SCALING_ALPHA_SQRT_R : LORAFMT_SCALING_ALPHA_R;
    site->scale = lf_scale_of((lorafmt_scaling)site->scaling, alpha, rank);
    return LORAFMT_OK;
}

/* The rank of the tensors must be that of the config: the pattern's, else its own. */
static lorafmt_status check_rank(const importer *im, const char *path, uint64_t found, lorafmt_error *err)
{
    double rank = im->config->r ? (double)im->config->r : (double)found;

    LF_TRY(lf_peft_patterns_find(im->config->rank_pattern, path, &rank, err));
    if (rank != (double)found || found > LF_MAX_RANK)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, path, "the config gives rank %g, the tensors have %" PRIu64, rank,
                       found);
    return LORAFMT_OK;
}

static lorafmt_status set_factors(const importer *im, lorafmt_site *site, const layer *l, const lorafmt_tensor *b,
                                  lorafmt_error *err)
{
    lorafmt_factor *factors = lf_arena_alloc(im->arena, MAX_FACTORS, sizeof *factors);

    if (!factors)
        return lf_no_memory(err);
    site->factors = factors;
    factors[site->n_factors++] = (lorafmt_factor){LORAFMT_ROLE_A, l->a->tensor->tensor};
    factors[site->n_factors++] = (lorafmt_factor){LORAFMT_ROLE_B, *b};
    if (l->magnitude)
        factors[site->n_factors++] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, l->magnitude->tensor->tensor};
    return LORAFMT_OK;
}

static lorafmt_status set_value(const importer *im, lorafmt_site *site, const lorafmt_tensor *value, const lorafmt_tensor *rows,
                                lorafmt_error *err)
{
    lorafmt_factor *factors = lf_arena_alloc(im->arena, 2, sizeof *factors);

    if (!factors)
        return lf_no_memory(err);
    site->factors = factors;
    factors[site->n_factors++] = (lorafmt_factor){LORAFMT_ROLE_VALUE, *value};
    if (rows)
        factors[site->n_factors++] = (lorafmt_factor){LORAFMT_ROLE_ROW_INDEX, *rows};
    return LORAFMT_OK;
}

/* lora_B.bias: the layer's bias moves by it, times the same scale. */
static lorafmt_status add_bias(importer *im, const layer *l, double scale, lorafmt_error *err)
{
    lorafmt_site *site = add_site(im, l->bias->key.module, "bias", LORAFMT_KIND_ADDITIVE);

    if (!site)
        return lf_no_memory(err);
    site->scaling = LORAFMT_SCALING_EXPLICIT;
    site->scale = scale;
    return set_value(im, site, &l->bias->tensor->tensor, NULL, err);
}

/* Is this the module of a MultiheadAttention? PEFT wraps its output projection along with it. */
static bool is_attention(const importer *im, const char *module)
{
    char out_proj[LF_MAX_NAME + 16];
    size_t low = 0, high = im->n_entries;

    if (strlen(module) > LF_MAX_NAME)
        return false;
    snprintf(out_proj, sizeof out_proj, "%s.out_proj", module);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(im->entries[middle].key.module, out_proj) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < im->n_entries && strcmp(im->entries[low].key.module, out_proj) == 0 && im->entries[low].key.in_attention;
}

/* rank and alpha of an attention's output projection are looked up under the attention's name */
static const char *pattern_path(const importer *im, const entry *e)
{
    if (!e->key.in_attention)
        return e->key.module;
    return lf_arena_strndup(im->arena, e->key.module, strlen(e->key.module) - strlen(".out_proj"));
}

static lorafmt_status import_layer(importer *im, const layer *l, lorafmt_error *err)
{
    const entry *e = l->a;
    const uint32_t n_dims = e->tensor->tensor.n_dims;
    const bool attention = e->key.in_attention || (!l->embedding && is_attention(im, e->key.module));
    const unsigned kind = l->embedding  ? LORAFMT_KIND_EMBEDDING
                          : n_dims == 2 ? LORAFMT_KIND_LINEAR
                                        : LORAFMT_KIND_CONV1D + n_dims - 3;
    const char *path = pattern_path(im, e);
    lorafmt_site *site;

    if (e->key.depth)
        return refuse(err, LORAFMT_UNSUPPORTED, e, "a wrapper inside another one, and no target_parameters that say of what");
    LF_TRY(check_layer(im, l, !attention, err));
    LF_TRY(check_shapes(l, err));
    if (attention && kind != LORAFMT_KIND_LINEAR)
        return refuse(err, LORAFMT_CORRUPT, e, "a factor of an attention must have 2 dimensions");
    site = path ? add_site(im, e->key.module, attention && !e->key.in_attention ? "in_proj_weight" : "weight", kind) : NULL;
    if (!site)
        return lf_no_memory(err);
    LF_TRY(check_rank(im, path, e->tensor->tensor.shape[0], err));
    LF_TRY(set_scale(im, path, (uint32_t)e->tensor->tensor.shape[0], site, err));
    if (kind == LORAFMT_KIND_LINEAR && !attention)
        site->orientation = (uint8_t)im->config->orientation;
    if (e->key.in_attention) { // PEFT adds it twice, in training too
        site->flags |= LORAFMT_SITE_DOUBLED;
        site->scale *= 2;
    }
    LF_TRY(set_factors(im, site, l, &l->b->tensor->tensor, err));
    return l->bias ? add_bias(im, l, site->scale, err) : LORAFMT_OK;
}

/* --- parameters: target_parameters --- */

/* The innermost wrapper, which is the last, is of the parameter that was registered first. */
static lorafmt_status keep_order(importer *im, const char *module, const lf_peft_wrapper *wrappers, size_t n, lorafmt_error *err)
{
    size_t last = 0;

    for (size_t i = n; i-- > 0;) {
        size_t place;
        LF_TRY(lf_peft_order_place(&im->order, wrappers[i].name, im->arena, &place, err));
        if (i + 1 < n && place <= last)
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, module,
                           "registers its parameters in another order than another module, where it is %s", im->order);
        last = place;
    }
    return LORAFMT_OK;
}

static lorafmt_status import_parameter(importer *im, const layer *l, const lf_peft_wrapper *w, lorafmt_error *err)
{
    const bool experts = w->parameter->n_dims == 3;
    lorafmt_tensor b = l->b->tensor->tensor;
    lorafmt_site *site;

    LF_TRY(check_layer(im, l, false, err));
    site = add_site(im, l->a->key.module, w->name, experts ? LORAFMT_KIND_EXPERTS : LORAFMT_KIND_LINEAR);
    if (!site)
        return lf_no_memory(err);
    site->orientation = (uint8_t)w->orientation;
    LF_TRY(set_scale(im, site->target, w->rank, site, err));
    if (experts)
        LF_TRY(lf_peft_experts_from(&l->b->tensor->tensor, w->parameter->shape[0], im->arena, &b, err));
    return set_factors(im, site, l, &b, err);
}

/* All wrappers of one module, the outermost first: layers of a module without target_parameters, else its parameters. */
static lorafmt_status import_module(importer *im, const layer *layers, size_t n, lorafmt_error *err)
{
    lf_peft_wrapper *wrappers = lf_arena_alloc(im->arena, n, sizeof *wrappers);
    const char *module = layers->a->key.module;
    bool parameters = false;

    if (!wrappers)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        wrappers[i] = (lf_peft_wrapper){.a = layers[i].a->tensor, .b = layers[i].b->tensor};
    if (!layers->embedding)
        LF_TRY(lf_peft_parameters_assign(&im->parameters, module, wrappers, n, &parameters, err));
    for (size_t i = 0; i < n; i++)
        LF_TRY(parameters ? import_parameter(im, &layers[i], &wrappers[i], err) : import_layer(im, &layers[i], err));
    return parameters ? keep_order(im, module, wrappers, n, err) : LORAFMT_OK;
}

/* The layers of one module, of which there is more than one only for parameters; e[0, n) starts with them. */
static lorafmt_status import_layers(importer *im, const entry *e, size_t n, size_t *n_taken, lorafmt_error *err)
{
    layer *layers;
    size_t n_layers = 0, n_parts = 0;

    while (n_parts < n && is_layer_part(e[n_parts].key.part) && strcmp(e[n_parts].key.module, e->key.module) == 0)
        n_parts++;
    layers = lf_arena_alloc(im->arena, n_parts, sizeof *layers);
    if (!layers)
        return lf_no_memory(err);
    for (size_t i = 0, taken; i < n_parts; i += taken) {
        if (e[i].key.depth != n_layers)
            return refuse(err, LORAFMT_CORRUPT, &e[i], "the factors of a wrapper around this one are missing");
        LF_TRY(take_layer(e + i, n_parts - i, &layers[n_layers++], &taken, err));
    }
    *n_taken = n_parts;
    return import_module(im, layers, n_layers, err);
}

/* --- whole tensors --- */

static bool has_layer(const importer *im, const char *module)
{
    size_t low = 0, high = im->n_entries;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(im->entries[middle].key.module, module) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < im->n_entries && strcmp(im->entries[low].key.module, module) == 0 &&
           is_layer_part(im->entries[low].key.part); // they come first within a module
}

/* A tensor that is there whole: a bias that was trained, a saved module, an embedding or head that was saved along. */
static lorafmt_status import_whole(importer *im, const entry *e, lorafmt_error *err)
{
    const bool is_bias = lf_ends_with(e->key.parameter, "bias"), adapted = has_layer(im, e->key.module);
    const bool saved = e->key.part == LF_PEFT_PARAMETER && lf_peft_config_saves(im->config, e->key.module);
    lorafmt_site *site;

    if (e->key.part == LF_PEFT_BASE_LAYER && !adapted)
        return refuse(err, LORAFMT_CORRUPT, e, "a base_layer of a module that has no LoRA factors");
    if (e->key.part == LF_PEFT_PARAMETER && adapted && !is_bias)
        return refuse(err, LORAFMT_UNSUPPORTED, e, "a saved tensor of a module that also has LoRA factors");
    if (is_bias && !saved && im->config->bias == LF_PEFT_BIAS_NONE)
        return refuse(err, LORAFMT_UNSUPPORTED, e,
                      im->config->json ? "a trained bias, but the config says bias none and does not save this module"
                                       : "a trained bias, and no config that announces it");
    LF_TRY(check_not_empty(e, err));
    site = add_site(im, e->key.module, e->key.parameter, saved ? LORAFMT_KIND_SAVED : LORAFMT_KIND_REPLACEMENT);
    if (!site)
        return lf_no_memory(err);
    return set_value(im, site, &e->tensor->tensor, NULL, err);
}

/* Trained tokens: rows of an embedding, which PEFT calls a delta and which replace what the base has. */
static lorafmt_status import_rows(importer *im, const entry *e, lorafmt_error *err)
{
    const cJSON *list = lf_peft_token_list(im->config, e->key.module);
    lorafmt_tensor rows, row_index;
    lorafmt_site *site;

    if (!list)
        return refuse(err, LORAFMT_UNSUPPORTED, e, "trained tokens, and no trainable_token_indices in a config that lists them");
    LF_TRY(check_factor(e, err));
    if (e->tensor->tensor.n_dims != 2)
        return refuse(err, LORAFMT_CORRUPT, e, "trained tokens must have 2 dimensions");
    LF_TRY(lf_peft_rows_from(&e->tensor->tensor, list, im->arena, &rows, &row_index, err));
    site = add_site(im, e->key.module, "weight", LORAFMT_KIND_ROWS);
    if (!site)
        return lf_no_memory(err);
    return set_value(im, site, &rows, &row_index, err);
}

/* Files saved while another adapter was on the model may hold its factors too; PEFT ignores them. */
static lorafmt_status leave_out_stray(importer *im, const entry *e, lorafmt_error *err)
{
    if (!has_layer(im, e->key.module))
        return refuse(err, LORAFMT_UNSUPPORTED, e,
                      "an adapter's name within the key; this module has no factors without one, so it is not another adapter's "
                      "leftover");
    return lf_note(im->notes, im->arena, "left out %s: it belongs to another adapter", e->tensor->name) ? lf_no_memory(err)
                                                                                                        : LORAFMT_OK;
}

static lorafmt_status import_other(importer *im, const entry *e, lorafmt_error *err)
{
    if (e->key.part == LF_PEFT_STRAY)
        return leave_out_stray(im, e, err);
    return e->key.part == LF_PEFT_TOKEN_ROWS ? import_rows(im, e, err) : import_whole(im, e, err);
}

static lorafmt_status import_entries(importer *im, lorafmt_error *err)
{
    bool any_rows = false;

    for (size_t i = 0, taken = 1; i < im->n_entries; i += taken, taken = 1) {
        const entry *e = &im->entries[i];
        any_rows = any_rows || e->key.part == LF_PEFT_TOKEN_ROWS;
        if (is_layer_part(e->key.part))
            LF_TRY(import_layers(im, e, im->n_entries - i, &taken, err));
        else
            LF_TRY(import_other(im, e, err));
    }
    if (im->config->trainable_token_indices && !any_rows)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices",
                       "the config lists trained tokens, and the file has none");
    return LORAFMT_OK;
}

static lorafmt_status set_metadata(importer *im, lorafmt_adapter *out, lorafmt_error *err)
{
    lorafmt_metadata *metadata = lf_arena_alloc(im->arena, 2, sizeof *metadata);

    if (!metadata)
        return lf_no_memory(err);
    out->metadata = metadata;
    if (im->in->config_text) {
        const char *text = lf_arena_strndup(im->arena, im->in->config_text, im->in->config_size);
        if (!text)
            return lf_no_memory(err);
        metadata[out->n_metadata++] = (lorafmt_metadata){.key = LF_PEFT_CONFIG_KEY, .value = text};
    }
    if (im->order)
        metadata[out->n_metadata++] = (lorafmt_metadata){.key = LF_PEFT_ORDER_KEY, .value = im->order};
    return LORAFMT_OK;
}

static lorafmt_status finish(importer *im, lorafmt_adapter *out, lorafmt_error *err)
{
    memset(out, 0, sizeof *out);
    out->name = lf_arena_strdup(im->arena, im->in->name);
    out->base_name = lf_arena_strdup(im->arena, im->config->base_name ? im->config->base_name : "");
    out->base_revision = lf_arena_strdup(im->arena, im->config->revision ? im->config->revision : "");
    if (!out->name || !out->base_name || !out->base_revision)
        return lf_no_memory(err);
    LF_TRY(set_metadata(im, out, err));
    lf_adapter_sort(im->sites, im->n_sites, NULL, 0);
    out->sites = im->sites;
    out->n_sites = im->n_sites;
    return lf_adapter_check(out, err);
}

lorafmt_status lf_peft_import(const lf_peft_input *in, lf_arena *arena, lorafmt_adapter *out, lf_notes *notes, lorafmt_error *err)
{
    lf_peft_config config = {.orientation = LORAFMT_BY_SHAPE, .alpha = in->alpha, .use_rslora = in->use_rslora};
    importer im = {.in = in, .config = &config, .arena = arena, .notes = notes};
    lorafmt_status st;

    if (in->config_text)
        LF_TRY(lf_peft_config_parse(in->config_text, in->config_size, in->n_tensors, &config, err));
    st = parse_keys(&im, err);
    if (!st)
        st = lf_peft_parameters_find(in, &config, arena, &im.parameters, err);
    if (!st)
        st = import_entries(&im, err);
    if (!st)
        st = finish(&im, out, err);
    lf_peft_config_free(&config);
    return st;
}
