/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A tensor with what its name says. */
typedef struct entry {
    lf_peft_key key;
    const lf_peft_tensor *tensor;
} entry;

typedef struct importer {
    const lf_peft_config *config;
    lf_arena *arena;
    lf_notes *notes;
    entry *entries; /* in order of module, then part */
    size_t n_entries;
    lorafmt_site *sites;
    size_t n_sites;
} importer;

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

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const int by_module = strcmp(x->key.module, y->key.module);

    if (by_module)
        return by_module;
    if (x->key.part != y->key.part)
        return x->key.part < y->key.part ? -1 : 1;
    return strcmp(x->tensor->name, y->tensor->name);
}

static lorafmt_status parse_keys(importer *im, const lf_peft_tensor *tensors, size_t n, lorafmt_error *err)
{
    im->entries = lf_arena_alloc(im->arena, n, sizeof *im->entries);
    im->sites = lf_arena_alloc(im->arena, n, sizeof *im->sites);
    if (!im->entries || !im->sites)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        entry *e = &im->entries[im->n_entries++];
        LF_TRY(lf_peft_key_parse(tensors[i].name, im->arena, &e->key, err));
        e->tensor = &tensors[i];
    }
    if (n)
        qsort(im->entries, n, sizeof *im->entries, compare_entries);
    return LORAFMT_OK;
}

static lorafmt_site *add_site(importer *im, const entry *e, const char *parameter, unsigned kind)
{
    lorafmt_site *site = &im->sites[im->n_sites++];

    site->target = lf_arena_printf(im->arena, "%s.%s", e->key.module, parameter);
    site->kind = (uint16_t)kind;
    return site->target ? site : NULL;
}

static lorafmt_status refuse(lorafmt_error *err, lorafmt_status status, const entry *e, const char *text)
{
    return lf_fail(err, status, LORAFMT_NO_OFFSET, e->tensor->name, "%s", text);
}

static lorafmt_status check_factor(const entry *e, lorafmt_error *err)
{
    const lorafmt_tensor *t = &e->tensor->tensor;

    for (uint32_t i = 0; i < t->n_dims; i++)
        if (t->shape[i] == 0)
            return refuse(err, LORAFMT_CORRUPT, e,
                          "is empty (a dimension is 0); this usually comes from saving sharded training (DeepSpeed ZeRO-3, FSDP) "
                          "without gathering the weights");
    if (t->n_dims >= 3 && t->n_dims <= 5)
        return refuse(err, LORAFMT_UNSUPPORTED, e, "convolution layers are not supported by this version");
    if (t->n_dims != 2)
        return refuse(err, LORAFMT_CORRUPT, e, "a factor must have 2 dimensions");
    if (!lf_dtype_is_real(t->dtype))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, e->tensor->name,
                       "is %s; factors may be F32, F16, BF16 or F64", lorafmt_dtype_name(t->dtype));
    return LORAFMT_OK;
}

/* Rank and alpha of a module: the patterns, then the config's own. The rank must be that of the tensors. */
static lorafmt_status set_scale(importer *im, const entry *a, const entry *b, lorafmt_site *site, lorafmt_error *err)
{
    const lf_peft_config *config = im->config;
    const uint64_t rank_a = a->tensor->tensor.shape[0], rank_b = b->tensor->tensor.shape[1];
    double rank = config->r ? (double)config->r : (double)rank_a, alpha = config->alpha;

    LF_TRY(lf_peft_patterns_find(config->rank_pattern, a->key.module, &rank, err));
    LF_TRY(lf_peft_patterns_find(config->alpha_pattern, a->key.module, &alpha, err));
    if (rank_a != rank_b)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, a->key.module,
                       "A has rank %" PRIu64 " and B has rank %" PRIu64 ", must be the same", rank_a, rank_b);
    if (rank != (double)rank_a)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, a->key.module,
                       "the config gives rank %g, the tensors have %" PRIu64, rank, rank_a);
    if (!isfinite(alpha))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, a->key.module, "alpha is %g, must be finite", alpha);
    site->rank = (uint32_t)rank_a;
    site->alpha = alpha;
    site->scaling = config->use_rslora ? LORAFMT_SCALING_ALPHA_SQRT_R : LORAFMT_SCALING_ALPHA_R;
    site->scale = lf_scale_of((lorafmt_scaling)site->scaling, alpha, site->rank);
    return LORAFMT_OK;
}

static lorafmt_status set_factors(importer *im, lorafmt_site *site, const entry *first, unsigned first_role, const entry *second,
                                  lorafmt_error *err)
{
    lorafmt_factor *factors = lf_arena_alloc(im->arena, second ? 2 : 1, sizeof *factors);

    if (!factors)
        return lf_no_memory(err);
    factors[0] = (lorafmt_factor){(uint16_t)first_role, first->tensor->tensor};
    if (second)
        factors[1] = (lorafmt_factor){LORAFMT_ROLE_B, second->tensor->tensor};
    site->factors = factors;
    site->n_factors = second ? 2 : 1;
    return LORAFMT_OK;
}

/* A low-rank site from the entries at [0] and [1], which must be its A and B. */
static lorafmt_status import_low_rank(importer *im, const entry *e, size_t left, lorafmt_error *err)
{
    const bool embedding = e->key.part == LF_PEFT_EMBEDDING_A || e->key.part == LF_PEFT_EMBEDDING_B;
    const bool starts_with_a = e->key.part == LF_PEFT_A || e->key.part == LF_PEFT_EMBEDDING_A;
    lorafmt_site *site;

    if (!starts_with_a || left < 2 || strcmp(e[1].key.module, e->key.module) != 0 || e[1].key.part != e->key.part + 1)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, e->tensor->name, "its counterpart lora_%s%s is missing",
                       embedding ? "embedding_" : "", starts_with_a ? "B" : "A");
    LF_TRY(check_factor(&e[0], err));
    LF_TRY(check_factor(&e[1], err));
    site = add_site(im, e, "weight", embedding ? LORAFMT_KIND_EMBEDDING : LORAFMT_KIND_LINEAR);
    if (!site)
        return lf_no_memory(err);
    site->orientation = embedding ? LORAFMT_OUT_IN : (uint8_t)im->config->orientation;
    LF_TRY(set_scale(im, &e[0], &e[1], site, err));
    return set_factors(im, site, &e[0], LORAFMT_ROLE_A, &e[1], err);
}

static bool has_low_rank(const importer *im, const char *module)
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
           im->entries[low].key.part <= LF_PEFT_EMBEDDING_B; // factors come first within a module
}

/* A tensor that is there whole: a bias that was trained, a saved module, an embedding or head that was saved along. */
static lorafmt_status import_whole(importer *im, const entry *e, lorafmt_error *err)
{
    const bool is_bias = strcmp(e->key.parameter, "bias") == 0, adapted = has_low_rank(im, e->key.module);
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
    for (uint32_t i = 0; i < e->tensor->tensor.n_dims; i++)
        if (e->tensor->tensor.shape[i] == 0)
            return check_factor(e, err);
    site = add_site(im, e, e->key.parameter, saved ? LORAFMT_KIND_SAVED : LORAFMT_KIND_REPLACEMENT);
    if (!site)
        return lf_no_memory(err);
    site->scale = 1.0;
    return set_factors(im, site, e, LORAFMT_ROLE_VALUE, NULL, err);
}

/* Files saved while another adapter was on the model may hold its factors too; PEFT ignores them. */
static lorafmt_status leave_out_stray(importer *im, const entry *e, lorafmt_error *err)
{
    if (!has_low_rank(im, e->key.module))
        return refuse(err, LORAFMT_UNSUPPORTED, e,
                      "an adapter's name within the key; this module has no factors without one, so it is not another adapter's "
                      "leftover");
    return lf_note(im->notes, im->arena, "left out %s: it belongs to another adapter", e->tensor->name) ? lf_no_memory(err)
                                                                                                        : LORAFMT_OK;
}

static lorafmt_status import_entries(importer *im, lorafmt_error *err)
{
    for (size_t i = 0; i < im->n_entries; i++) {
        const entry *e = &im->entries[i];
        switch (e->key.part) {
        case LF_PEFT_A:
        case LF_PEFT_B:
        case LF_PEFT_EMBEDDING_A:
        case LF_PEFT_EMBEDDING_B:
            LF_TRY(import_low_rank(im, e, im->n_entries - i, err));
            i++;
            break;
        case LF_PEFT_BASE_LAYER:
        case LF_PEFT_PARAMETER:
            LF_TRY(import_whole(im, e, err));
            break;
        case LF_PEFT_STRAY:
            LF_TRY(leave_out_stray(im, e, err));
            break;
        }
    }
    return LORAFMT_OK;
}

static lorafmt_status finish(importer *im, const char *config_text, size_t config_size, const char *name, lorafmt_adapter *out,
                             lorafmt_error *err)
{
    lorafmt_metadata *metadata = lf_arena_alloc(im->arena, 1, sizeof *metadata);

    memset(out, 0, sizeof *out);
    out->name = lf_arena_strdup(im->arena, name);
    out->base_name = lf_arena_strdup(im->arena, im->config->base_name ? im->config->base_name : "");
    out->base_revision = lf_arena_strdup(im->arena, im->config->revision ? im->config->revision : "");
    if (!metadata || !out->name || !out->base_name || !out->base_revision)
        return lf_no_memory(err);
    if (config_text) {
        metadata->key = LF_PEFT_CONFIG_KEY;
        metadata->value = lf_arena_strndup(im->arena, config_text, config_size);
        if (!metadata->value)
            return lf_no_memory(err);
        out->metadata = metadata;
        out->n_metadata = 1;
    }
    lf_adapter_sort(im->sites, im->n_sites, NULL, 0);
    out->sites = im->sites;
    out->n_sites = im->n_sites;
    return lf_adapter_check(out, err);
}

lorafmt_status lf_peft_import(const char *config_text, size_t config_size, const lf_peft_bare *bare,
                              const lf_peft_tensor *tensors, size_t n_tensors, const char *name, lf_arena *arena,
                              lorafmt_adapter *out, lf_notes *notes, lorafmt_error *err)
{
    lf_peft_config config = {.orientation = LORAFMT_BY_SHAPE};
    importer im = {.config = &config, .arena = arena, .notes = notes};
    lorafmt_status st;

    if (config_text)
        LF_TRY(lf_peft_config_parse(config_text, config_size, n_tensors, &config, err));
    else {
        config.alpha = bare->alpha;
        config.use_rslora = bare->use_rslora;
    }
    st = parse_keys(&im, tensors, n_tensors, err);
    if (!st)
        st = import_entries(&im, err);
    if (!st)
        st = finish(&im, config_text, config_size, name, out, err);
    lf_peft_config_free(&config);
    return st;
}
