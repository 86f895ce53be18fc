/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft_importer.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    const lf_importer_entry *x = a, *y = b;
    const int by_module = strcmp(x->key.module, y->key.module);

    if (by_module)
        return by_module;
    if (lf_peft_is_layer_part(x->key.part) && lf_peft_is_layer_part(y->key.part) && x->key.depth != y->key.depth)
        return x->key.depth < y->key.depth ? -1 : 1;
    if (x->key.part != y->key.part)
        return x->key.part < y->key.part ? -1 : 1;
    return strcmp(x->tensor->name, y->tensor->name);
}

static lorafmt_status parse_keys(lf_importer *im, lorafmt_error *err)
{
    const size_t n = im->in->n_tensors;
    const char **names = lf_arena_alloc(im->arena, n, sizeof *names);

    im->entries = lf_arena_alloc(im->arena, n, sizeof *im->entries);
    im->sites = lf_arena_alloc(im->arena, n, sizeof *im->sites);
    if (!names || !im->entries || !im->sites)
        return lf_no_memory(err);
    LF_TRY(lf_peft_normalise(im->in->tensors, n, im->arena, names, im->notes, err));
    for (size_t i = 0; i < n; i++) {
        lf_importer_entry *e = &im->entries[im->n_entries];
        if (!names[i])
            continue;
        im->n_entries++;
        LF_TRY(lf_peft_key_parse(names[i], im->arena, &e->key, err));
        e->tensor = &im->in->tensors[i];
    }
    if (im->n_entries)
        qsort(im->entries, im->n_entries, sizeof *im->entries, compare_entries);
    return LORAFMT_OK;
}

lorafmt_site *lf_importer_add_site(lf_importer *im, const char *module, const char *parameter, unsigned kind)
{
    lorafmt_site *site = &im->sites[im->n_sites++];

    site->target = lf_arena_printf(im->arena, "%s.%s", module, parameter);
    site->kind = (uint16_t)kind;
    site->scale = 1.0;
    return site->target ? site : NULL;
}

lorafmt_status lf_importer_refuse(lorafmt_error *err, lorafmt_status status, const lf_importer_entry *e, const char *text)
{
    return lf_fail(err, status, LORAFMT_NO_OFFSET, e->tensor->name, "%s", text);
}

lorafmt_status lf_importer_check_not_empty(const lf_importer_entry *e, lorafmt_error *err)
{
    for (uint32_t i = 0; i < e->tensor->tensor.n_dims; i++)
        if (e->tensor->tensor.shape[i] == 0)
            return lf_importer_refuse(
                err, LORAFMT_CORRUPT, e,
                "is empty (a dimension is 0); this usually comes from saving sharded training (DeepSpeed ZeRO-3, FSDP) "
                "without gathering the weights");
    return LORAFMT_OK;
}

lorafmt_status lf_importer_check_factor(const lf_importer_entry *e, lorafmt_error *err)
{
    LF_TRY(lf_importer_check_not_empty(e, err));
    if (!lf_dtype_is_real(e->tensor->tensor.dtype))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, e->tensor->name,
                       "is %s; factors may be F32, F16, BF16 or F64", lorafmt_dtype_name(e->tensor->tensor.dtype));
    return LORAFMT_OK;
}

lorafmt_status lf_importer_set_value(const lf_importer *im, lorafmt_site *site, const lorafmt_tensor *value,
                                     const lorafmt_tensor *rows, lorafmt_error *err)
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

/* --- whole tensors --- */

const lf_importer_entry *lf_importer_find(const lf_importer *im, const char *module)
{
    size_t low = 0, high = im->n_entries;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(im->entries[middle].key.module, module) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < im->n_entries && strcmp(im->entries[low].key.module, module) == 0 ? &im->entries[low] : NULL;
}

/* How many wrappers with factors there are around a module. */
static unsigned count_wrappers(const lf_importer *im, const char *module)
{
    const lf_importer_entry *e = lf_importer_find(im, module), *end = im->entries + im->n_entries;
    unsigned n = 0;

    for (; e && e < end && lf_peft_is_layer_part(e->key.part) && strcmp(e->key.module, module) == 0; e++)
        n = e->key.depth + 1;
    return n;
}

/* PEFT saves the parameters of an adapted layer with a .base_layer for each wrapper. */
static lorafmt_status check_depth(const lf_importer_entry *e, unsigned n_wrappers, lorafmt_error *err)
{
    if (e->key.part == LF_PEFT_BASE_LAYER && (n_wrappers == 0 || e->key.depth != n_wrappers))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, e->tensor->name,
                       "in %u base_layer, and %u wrappers of this module have LoRA factors", e->key.depth, n_wrappers);
    return LORAFMT_OK;
}

/* Does the config announce it? */
static lorafmt_status check_trained_bias(const lf_importer *im, const lf_importer_entry *e, bool adapted, lorafmt_error *err)
{
    if (im->config->bias == LF_PEFT_BIAS_NONE)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e,
                                  im->config->json ? "a trained bias, but the config says bias none and does not save this module"
                                                   : "a trained bias, and no config that announces it");
    if (im->config->bias == LF_PEFT_BIAS_LORA_ONLY && !adapted)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e,
                                  "a trained bias of a layer without LoRA factors, but the config says bias lora_only");
    return LORAFMT_OK;
}

/* A tensor that is there whole: a bias that was trained, a saved module, an embedding or head that was saved along. */
static lorafmt_status import_whole(lf_importer *im, const lf_importer_entry *e, lorafmt_error *err)
{
    const unsigned n_wrappers = count_wrappers(im, e->key.module);
    const bool is_bias = lf_ends_with(e->key.parameter, "bias"), adapted = n_wrappers > 0;
    const bool saved = e->key.part == LF_PEFT_PARAMETER && lf_peft_config_saves(im->config, e->key.module);
    lorafmt_site *site;

    LF_TRY(check_depth(e, n_wrappers, err));
    if (e->key.part == LF_PEFT_PARAMETER && adapted && !is_bias)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e, "a saved tensor of a module that also has LoRA factors");
    if (is_bias && !saved)
        LF_TRY(check_trained_bias(im, e, adapted, err));
    LF_TRY(lf_importer_check_not_empty(e, err));
    site = lf_importer_add_site(im, e->key.module, e->key.parameter, saved ? LORAFMT_KIND_SAVED : LORAFMT_KIND_REPLACEMENT);
    if (!site)
        return lf_no_memory(err);
    return lf_importer_set_value(im, site, &e->tensor->tensor, NULL, err);
}

/* Trained tokens: rows of an embedding, which PEFT calls a delta and which replace what the base has. */
static lorafmt_status import_rows(lf_importer *im, const lf_importer_entry *e, lorafmt_error *err)
{
    const cJSON *list;
    lorafmt_tensor rows, row_index;
    lorafmt_site *site;

    LF_TRY(lf_peft_token_list(im->config, e->key.module, &list, err));
    if (!list)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e,
                                  "trained tokens, and no trainable_token_indices in a config that lists them");
    if (list == im->config->trainable_token_indices && im->any_rows)
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e,
                                  "trained tokens of a second module, and the config lists them once: it does not say whose");
    if (e->key.depth || count_wrappers(im, e->key.module))
        return lf_importer_refuse(err, LORAFMT_UNSUPPORTED, e, "trained tokens of an embedding that also has LoRA factors");
    im->any_rows = true;
    LF_TRY(lf_importer_check_factor(e, err));
    if (e->tensor->tensor.n_dims != 2)
        return lf_importer_refuse(err, LORAFMT_CORRUPT, e, "trained tokens must have 2 dimensions");
    LF_TRY(lf_peft_rows_from(&e->tensor->tensor, list, im->arena, &rows, &row_index, err));
    site = lf_importer_add_site(im, e->key.module, "weight", LORAFMT_KIND_ROWS);
    if (!site)
        return lf_no_memory(err);
    return lf_importer_set_value(im, site, &rows, &row_index, err);
}

/* Files saved while another adapter was on the model may hold its factors too; PEFT ignores them. */
static lorafmt_status leave_out_stray(lf_importer *im, const lf_importer_entry *e, lorafmt_error *err)
{
    if (!count_wrappers(im, e->key.module))
        return lf_importer_refuse(
            err, LORAFMT_UNSUPPORTED, e,
            "an adapter's name within the key; this module has no factors without one, so it is not another adapter's "
            "leftover");
    return lf_note(im->notes, im->arena, "left out %s: it belongs to another adapter", e->tensor->name) ? lf_no_memory(err)
                                                                                                        : LORAFMT_OK;
}

static lorafmt_status import_other(lf_importer *im, const lf_importer_entry *e, lorafmt_error *err)
{
    if (e->key.part == LF_PEFT_STRAY)
        return leave_out_stray(im, e, err);
    return e->key.part == LF_PEFT_TOKEN_ROWS ? import_rows(im, e, err) : import_whole(im, e, err);
}

/* A tied embedding has no rows of its own in the file. */
static lorafmt_status note_unused_lists(lf_importer *im, lorafmt_error *err)
{
    const cJSON *list;

    if (!cJSON_IsObject(im->config->trainable_token_indices))
        return LORAFMT_OK;
    cJSON_ArrayForEach(list, im->config->trainable_token_indices)
    {
        bool used = false;
        for (size_t i = 0; i < im->n_entries && !used; i++)
            used = im->entries[i].key.part == LF_PEFT_TOKEN_ROWS && lf_peft_token_list_is_for(list, im->entries[i].key.module);
        if (!used &&
            lf_note(im->notes, im->arena, "no trained tokens of %s in the file, though the config lists some", list->string))
            return lf_no_memory(err);
    }
    return LORAFMT_OK;
}

static lorafmt_status import_entries(lf_importer *im, lorafmt_error *err)
{
    for (size_t i = 0, taken = 1; i < im->n_entries; i += taken, taken = 1) {
        const lf_importer_entry *e = &im->entries[i];
        if (lf_peft_is_layer_part(e->key.part))
            LF_TRY(lf_importer_import_layers(im, e, im->n_entries - i, &taken, err));
        else
            LF_TRY(import_other(im, e, err));
    }
    if (im->config->trainable_token_indices && !im->any_rows)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices",
                       "the config lists trained tokens, and the file has none");
    return note_unused_lists(im, err);
}

static lorafmt_status set_metadata(lf_importer *im, lorafmt_adapter *out, lorafmt_error *err)
{
    lorafmt_metadata *metadata = lf_arena_alloc(im->arena, 2, sizeof *metadata);
    const char *order;

    if (!metadata)
        return lf_no_memory(err);
    LF_TRY(lf_peft_order_text(&im->order, im->arena, &order, err));
    out->metadata = metadata;
    if (im->in->config_text) {
        const char *text = lf_arena_strndup(im->arena, im->in->config_text, im->in->config_size);
        if (!text)
            return lf_no_memory(err);
        metadata[out->n_metadata++] = (lorafmt_metadata){.key = LF_PEFT_CONFIG_KEY, .value = text};
    }
    if (order)
        metadata[out->n_metadata++] = (lorafmt_metadata){.key = LF_PEFT_ORDER_KEY, .value = order};
    return LORAFMT_OK;
}

static lorafmt_status finish(lf_importer *im, lorafmt_adapter *out, lorafmt_error *err)
{
    lf_tensor_map row_indexes = {.arena = im->arena};

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
    return lf_adapter_check(out, &row_indexes, NULL, err);
}

static lorafmt_status parse_config(const lf_peft_input *in, lf_peft_config *out, lorafmt_error *err)
{
    const lorafmt_status st = lf_peft_config_parse(in->config_text, in->config_size, in->n_tensors, out, err);

    if (st && in->config_file)
        lf_error_set_file(err, in->config_file);
    return st;
}

lorafmt_status lf_peft_import(const lf_peft_input *in, lf_arena *arena, lorafmt_adapter *out, lf_notes *notes, lorafmt_error *err)
{
    lf_peft_config config = {.orientation = LORAFMT_BY_SHAPE, .alpha = in->alpha, .use_rslora = in->use_rslora};
    lf_importer im = {.in = in, .config = &config, .arena = arena, .notes = notes};
    lorafmt_status st;

    if (in->config_text)
        LF_TRY(parse_config(in, &config, err));
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
