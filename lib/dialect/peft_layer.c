/* SPDX-License-Identifier: MIT */
/* Layers and parameters with low-rank factors: what goes together, and the sites that come of it. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft_importer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MAX_FACTORS 3 // of one site: A, B, magnitude

/* The factors of one layer, or of one wrapper of a module. */
typedef struct layer {
    const lf_importer_entry *a, *b, *magnitude, *bias;
    bool embedding;
} layer;

/* Take the parts of one layer from e[0, n), which are all of one module and depth; how many there are. */
static lorafmt_status take_layer(const lf_importer_entry *e, size_t n, layer *out, size_t *n_taken, lorafmt_error *err)
{
    size_t i = 0;

    memset(out, 0, sizeof *out);
    for (; i < n && lf_peft_is_layer_part(e[i].key.part) && e[i].key.depth == e->key.depth &&
           !strcmp(e[i].key.module, e->key.module);
         i++) {
        const lf_peft_part part = e[i].key.part;
        const bool embedding = part == LF_PEFT_EMBEDDING_A || part == LF_PEFT_EMBEDDING_B;
        const lf_importer_entry **place = part == LF_PEFT_MAGNITUDE                          ? &out->magnitude
                                          : part == LF_PEFT_B_BIAS                           ? &out->bias
                                          : part == LF_PEFT_A || part == LF_PEFT_EMBEDDING_A ? &out->a
                                                                                             : &out->b;
        if (*place)
            return lf_importer_refuse(err, LORAFMT_CORRUPT, &e[i], "a second factor of this kind for the same layer");
        if (e[i].key.in_attention != e->key.in_attention)
            return lf_importer_refuse(err, LORAFMT_CORRUPT, &e[i], "factors of one layer inside and outside of an attention");
        *place = &e[i];
        out->embedding = out->embedding || embedding;
    }
    *n_taken = i;
    if (!out->a || !out->b)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, e->tensor->name, "its counterpart lora_%s%s is missing",
                       out->embedding ? "embedding_" : "", out->a ? "B" : "A");
    if (out->embedding && (out->a->key.part == LF_PEFT_A || out->b->key.part == LF_PEFT_B))
        return lf_importer_refuse(err, LORAFMT_CORRUPT, out->a, "factors of an embedding and of another layer for one module");
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
        return lf_importer_refuse(
            err, LORAFMT_UNSUPPORTED, l->b,
            "a grouped convolution: its update mixes channels that the base keeps apart and cannot be merged");
    if (a->shape[0] != b->shape[1])
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, l->a->key.module,
                       "A has rank %" PRIu64 " and B has rank %" PRIu64 ", must be the same", a->shape[0], b->shape[1]);
    return LORAFMT_OK;
}

/* What the config announces must be there, and nothing else: a bias or a magnitude that is left out is another adapter. */
static lorafmt_status check_extras(const lf_importer *im, const layer *l, bool takes_them, lorafmt_error *err)
{
    const bool dora = im->config->use_dora && takes_them, bias = im->config->lora_bias && takes_them && !l->embedding;

    if (l->magnitude && !dora)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, l->magnitude,
                                  takes_them ? "a DoRA magnitude, and no use_dora in a config that announces it"
                                             : "a DoRA magnitude where PEFT has none");
    if (l->bias && !bias)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, l->bias,
                                  takes_them ? "a bias of lora_B, and no lora_bias in a config that announces it"
                                             : "a bias of lora_B where PEFT has none");
    if (!takes_them && (im->config->use_dora || im->config->lora_bias))
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, l->a,
                                  "the config says use_dora or lora_bias, which PEFT has neither for an attention nor for a "
                                  "parameter");
    if (dora && !l->magnitude)
        return lf_importer_refuse(err, LORAFMT_CORRUPT, l->a,
                                  "the config says use_dora, but this layer has no lora_magnitude_vector");
    if (bias && !l->bias)
        return lf_importer_refuse(err, LORAFMT_CORRUPT, l->b, "the config says lora_bias, but this layer has no lora_B.bias");
    if (l->magnitude)
        LF_TRY(lf_importer_check_factor(l->magnitude, err));
    return l->bias ? lf_importer_check_factor(l->bias, err) : LORAFMT_OK;
}

static lorafmt_status check_layer(const lf_importer *im, const layer *l, bool takes_extras, lorafmt_error *err)
{
    LF_TRY(lf_importer_check_factor(l->a, err));
    LF_TRY(lf_importer_check_factor(l->b, err));
    return check_extras(im, l, takes_extras, err);
}

/* Alpha of a module or parameter: the pattern's, else the config's own. */
static lorafmt_status set_scale(const lf_importer *im, const char *path, uint32_t rank, lorafmt_site *site, lorafmt_error *err)
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
static lorafmt_status check_rank(const lf_importer *im, const char *path, uint64_t found, lorafmt_error *err)
{
    double rank = im->config->r ? (double)im->config->r : (double)found;

    LF_TRY(lf_peft_patterns_find(im->config->rank_pattern, path, &rank, err));
    if (rank != (double)found || found > LF_MAX_RANK)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, path, "the config gives rank %g, the tensors have %" PRIu64, rank,
                       found);
    return LORAFMT_OK;
}

static lorafmt_status set_factors(const lf_importer *im, lorafmt_site *site, const layer *l, const lorafmt_tensor *b,
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

/* lora_B.bias: the layer's bias moves by it, times the same scale. */
static lorafmt_status add_bias(lf_importer *im, const layer *l, double scale, lorafmt_error *err)
{
    lorafmt_site *site = lf_importer_add_site(im, l->bias->key.module, "bias", LORAFMT_KIND_ADDITIVE);

    if (!site)
        return lf_no_memory(err);
    site->scaling = LORAFMT_SCALING_EXPLICIT;
    site->scale = scale;
    return lf_importer_set_value(im, site, &l->bias->tensor->tensor, NULL, err);
}

/* Is this a projection of a MultiheadAttention? PEFT wraps the output projection along with its module, which is the other one. */
static lorafmt_status find_attention(const lf_importer *im, const layer *l, bool *out, lorafmt_error *err)
{
    const lf_importer_entry *first;
    const char *path;

    *out = l->a->key.in_attention;
    if (*out || l->embedding)
        return LORAFMT_OK;
    if (!(path = lf_arena_printf(im->arena, "%s.out_proj", l->a->key.module)))
        return lf_no_memory(err);
    first = lf_importer_find(im, path);
    *out = first && first->key.in_attention;
    return LORAFMT_OK;
}

/* Rank and alpha of an attention's output projection are looked up under the attention's name. */
static const char *pattern_path(const lf_importer *im, const lf_importer_entry *e)
{
    if (!e->key.in_attention)
        return e->key.module;
    return lf_arena_strndup(im->arena, e->key.module, strlen(e->key.module) - strlen(".out_proj"));
}

/* PEFT adapts both projections of an attention: in, of three outputs for each input, and out, which is square. */
static lorafmt_status check_attention(const lf_importer *im, const layer *l, const char *path, lorafmt_error *err)
{
    const lorafmt_tensor *a = &l->a->tensor->tensor, *b = &l->b->tensor->tensor;
    const lf_importer_entry *first = lf_importer_find(im, path);

    if (a->n_dims != 2 || b->shape[0] != (l->a->key.in_attention ? 1 : 3) * a->shape[1])
        return lf_importer_refuse(err, LORAFMT_CORRUPT, l->b, "not of the shape that an attention's projection has");
    if (!first || !lf_peft_is_layer_part(first->key.part) || first->key.depth != 0)
        return lf_importer_refuse(err, LORAFMT_CORRUPT, l->a, "the attention that it is part of has no factors of its own");
    return LORAFMT_OK;
}

static lorafmt_status import_layer(lf_importer *im, const layer *l, lorafmt_error *err)
{
    const lf_importer_entry *e = l->a;
    const uint32_t n_dims = e->tensor->tensor.n_dims;
    const unsigned kind = l->embedding  ? LORAFMT_KIND_EMBEDDING
                          : n_dims == 2 ? LORAFMT_KIND_LINEAR
                                        : LORAFMT_KIND_CONV1D + n_dims - 3;
    const char *path = pattern_path(im, e);
    lorafmt_site *site;
    bool attention;

    if (e->key.depth)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e,
                                  "a wrapper inside another one, and no target_parameters that say of what");
    if (!path)
        return lf_no_memory(err);
    LF_TRY(find_attention(im, l, &attention, err));
    LF_TRY(check_layer(im, l, !attention, err));
    LF_TRY(check_shapes(l, err));
    if (attention)
        LF_TRY(check_attention(im, l, path, err));
    site = lf_importer_add_site(im, e->key.module, attention && !e->key.in_attention ? "in_proj_weight" : "weight", kind);
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

static lorafmt_status import_parameter(lf_importer *im, const layer *l, const lf_peft_wrapper *w, lorafmt_error *err)
{
    const bool experts = w->parameter->n_dims == 3;
    lorafmt_tensor b = l->b->tensor->tensor;
    lorafmt_site *site;

    LF_TRY(check_layer(im, l, false, err));
    site = lf_importer_add_site(im, l->a->key.module, w->name, experts ? LORAFMT_KIND_EXPERTS : LORAFMT_KIND_LINEAR);
    if (!site)
        return lf_no_memory(err);
    site->orientation = (uint8_t)w->orientation;
    LF_TRY(set_scale(im, site->target, w->rank, site, err));
    if (experts)
        LF_TRY(lf_peft_experts_from(&l->b->tensor->tensor, w->parameter->shape[0], im->arena, &b, err));
    return set_factors(im, site, l, &b, err);
}

/* All wrappers of one module, the outermost first: layers of a module without target_parameters, else its parameters. */
static lorafmt_status import_module(lf_importer *im, const layer *layers, size_t n, lorafmt_error *err)
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
    return parameters ? lf_peft_order_add(&im->order, wrappers, n, err) : LORAFMT_OK;
}

/* The layers of one module, of which there is more than one only for parameters; e[0, n) starts with them. */
lorafmt_status lf_importer_import_layers(lf_importer *im, const lf_importer_entry *e, size_t n, size_t *n_taken,
                                         lorafmt_error *err)
{
    layer *layers;
    size_t n_layers = 0, n_parts = 0;

    while (n_parts < n && lf_peft_is_layer_part(e[n_parts].key.part) && strcmp(e[n_parts].key.module, e->key.module) == 0)
        n_parts++;
    layers = lf_arena_alloc(im->arena, n_parts, sizeof *layers);
    if (!layers)
        return lf_no_memory(err);
    for (size_t i = 0, taken; i < n_parts; i += taken) {
        if (e[i].key.depth != n_layers)
            return lf_importer_refuse(err, LORAFMT_CORRUPT, &e[i], "the factors of a wrapper around this one are missing");
        LF_TRY(take_layer(e + i, n_parts - i, &layers[n_layers++], &taken, err));
    }
    *n_taken = n_parts;
    return import_module(im, layers, n_layers, err);
}
