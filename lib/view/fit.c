/* SPDX-License-Identifier: MIT */
/* Does every site fit its tensor: kind, shape, dtype, vocabulary, identity. Problems are collected, not returned one at a time. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/view/evaluate.h"
#include "lib/view/view.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void lf_problem(lf_binder *binder, lorafmt_status status, size_t entry, const char *target, const char *format, ...)
{
    char text[sizeof binder->first.text];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (binder->n_problems++ == 0)
        lf_fail(&binder->first, status, LORAFMT_NO_OFFSET, target, "%s", text);
    if (binder->options->report)
        binder->options->report(binder->options->report_ctx, binder->view->entries[entry].adapter->name, target, text);
}

static bool is_whole(unsigned kind)
{
    return kind == LORAFMT_KIND_REPLACEMENT || kind == LORAFMT_KIND_SAVED;
}

/* What this version cannot merge, by name. */
static const char *unsupported_kind(const lorafmt_site *site)
{
    switch (site->kind) {
    case LORAFMT_KIND_REPLACEMENT:
    case LORAFMT_KIND_SAVED:
    case LORAFMT_KIND_LINEAR:
    case LORAFMT_KIND_EMBEDDING:
        return NULL;
    case LORAFMT_KIND_CONV1D:
    case LORAFMT_KIND_CONV2D:
    case LORAFMT_KIND_CONV3D:
        return "convolution layers";
    case LORAFMT_KIND_EXPERTS:
        return "mixture-of-experts parameters";
    case LORAFMT_KIND_ROWS:
        return "replaced rows (trainable tokens)";
    case LORAFMT_KIND_ADDITIVE:
        return "additive tensors (lora_bias)";
    default:
        return "a kind of a newer format";
    }
}

static const char *unsupported_part(const lorafmt_site *site)
{
    if (site->flags & (LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE))
        return "row and column ranges";
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE))
        return "DoRA (a magnitude vector)";
    for (uint32_t i = 0; i < site->n_factors; i++)
        if (site->factors[i].role != LORAFMT_ROLE_A && site->factors[i].role != LORAFMT_ROLE_B &&
            site->factors[i].role != LORAFMT_ROLE_VALUE)
            return "a factor of a newer format";
    return NULL;
}

void lf_check_kinds(lf_binder *binder, size_t entry)
{
    const lorafmt_adapter *adapter = binder->view->entries[entry].adapter;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const char *what = unsupported_kind(&adapter->sites[i]);
        if (!what)
            what = unsupported_part(&adapter->sites[i]);
        if (what)
            lf_problem(binder, LORAFMT_UNSUPPORTED, entry, adapter->sites[i].target, "merging %s is not supported by this version",
                       what);
    }
}

/* The dtype that all real tensors of the base share, or 0. New tensors take it, as modules made by a model in that dtype do. */
static lorafmt_dtype common_dtype(const lorafmt_base *base)
{
    lorafmt_dtype dtype = (lorafmt_dtype)0;

    for (size_t i = 0; i < base->n_tensors; i++) {
        if (!lf_dtype_is_real(base->tensors[i].dtype))
            continue;
        if (dtype && dtype != base->tensors[i].dtype)
            return (lorafmt_dtype)0;
        dtype = base->tensors[i].dtype;
    }
    return dtype;
}

static bool same_bytes(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims && memcmp(a->shape, b->shape, sizeof a->shape) == 0 &&
           memcmp(a->data, b->data, a->size) == 0;
}

static bool is_vocabulary(const lorafmt_base *base, const char *name, uint32_t n_dims, const uint64_t *shape)
{
    return n_dims == 2 && base->vocab_size && shape[0] == base->vocab_size &&
           (lf_is_embedding_name(name) || lf_is_head_name(name));
}

static bool replacement_fits(lf_binder *binder, const lorafmt_bound_site *bound, const lorafmt_tensor *value)
{
    const lf_plan *plan = &binder->view->plans[bound->tensor];
    const char *target = bound->site->target;
    const lorafmt_base *base = binder->view->base;
    char has[LF_SHAPE_TEXT], needs[LF_SHAPE_TEXT];
    bool same = value->n_dims == plan->info.n_dims && memcmp(value->shape, plan->info.shape, sizeof value->shape) == 0;

    if (!same && bound->tensor < base->n_tensors) {
        const lorafmt_base_tensor *t = &base->tensors[bound->tensor];
        same = is_vocabulary(base, t->name, t->n_dims, t->shape) && value->n_dims == 2 && value->shape[1] == t->shape[1];
    }
    if (!same)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "the base has %s, the adapter replaces it by %s",
                   lf_shape_text(plan->info.n_dims, plan->info.shape, has), lf_shape_text(value->n_dims, value->shape, needs));
    else if (plan->info.dtype != value->dtype && !(lf_dtype_is_real(plan->info.dtype) && lf_dtype_is_real(value->dtype)))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "the base has %s, the adapter replaces it by %s",
                   lorafmt_dtype_name(plan->info.dtype), lorafmt_dtype_name(value->dtype));
    else
        return true;
    return false;
}

static void place_replacement(lf_binder *binder, lorafmt_bound_site *bound)
{
    lf_plan *plan = &binder->view->plans[bound->tensor];
    const lorafmt_tensor *value = &lorafmt_site_factor(bound->site, LORAFMT_ROLE_VALUE)->tensor;
    const double weight = binder->view->entries[bound->entry].weight;

    if (weight != 1.0) {
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "a replaced tensor cannot be weighted with %g; only weight 1 is possible for this adapter", weight);
        return;
    }
    if (plan->value && !same_bytes(plan->value, value)) {
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "replaced twice, with different tensors (first by adapter %s)",
                   binder->view->entries[plan->value_entry].adapter->name);
        return;
    }
    if (!replacement_fits(binder, bound, value))
        return;
    bound->effect = bound->match == LORAFMT_MATCH_NEW ? LORAFMT_EFFECT_ADDED : LORAFMT_EFFECT_REPLACED;
    if (plan->value)
        return;
    plan->value = value;
    plan->value_entry = bound->entry;
    memcpy(plan->info.shape, value->shape, sizeof plan->info.shape);
    lf_view_tensor_measure(&plan->info);
}

/* The view tensor for a new name: the one there is, or the next. */
static size_t new_tensor(lorafmt_view *view, const lorafmt_site *site)
{
    const lorafmt_tensor *value = &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor;
    const lorafmt_dtype common = common_dtype(view->base);
    lf_plan *plan;

    for (size_t i = view->base->n_tensors; i < view->n_tensors; i++)
        if (strcmp(view->plans[i].info.name, site->target) == 0)
            return i;
    plan = &view->plans[view->n_tensors];
    plan->info.name = site->target;
    plan->info.dtype = lf_dtype_is_real(value->dtype) && common ? common : value->dtype;
    plan->info.n_dims = value->n_dims;
    memcpy(plan->info.shape, value->shape, sizeof plan->info.shape);
    lf_view_tensor_measure(&plan->info);
    return view->n_tensors++;
}

static bool has_low_rank(const lorafmt_view *view, size_t tensor)
{
    for (size_t i = 0; i < view->n_sites; i++)
        if (view->sites[i].tensor == tensor && view->sites[i].match != LORAFMT_MATCH_NONE &&
            lf_kind_is_low_rank(view->sites[i].site->kind))
            return true;
    return false;
}

/* Would the merged tensor have exactly the elements of value? */
static lorafmt_status equals_merged(lorafmt_view *view, size_t tensor, const lorafmt_tensor *value, bool *equal, lorafmt_error *err)
{
    const lf_plan *plan = &view->plans[tensor];
    const size_t unit = lorafmt_dtype_bits(plan->info.dtype) / 8;
    uint8_t wanted[LF_TILE * sizeof(double)], there[LF_TILE * sizeof(double)];
    lf_tally tally = {0};

    *equal = false;
    if (has_low_rank(view, tensor) || !lf_dtype_is_real(plan->info.dtype) || !lf_dtype_is_real(value->dtype) ||
        value->n_dims != plan->info.n_dims || memcmp(value->shape, plan->info.shape, sizeof value->shape) != 0 ||
        (!plan->value && !view->base->read))
        return LORAFMT_OK;
    for (uint64_t i = 0, n_elements = plan->info.size / unit; i < n_elements;) {
        const size_t n = n_elements - i < LF_TILE ? (size_t)(n_elements - i) : LF_TILE;
        lf_value_convert(value, plan->info.dtype, i, n, wanted, &tally);
        if (plan->value)
            lf_value_convert(plan->value, plan->info.dtype, i, n, there, &tally);
        else
            LF_TRY(view->base->read(view->base->ctx, tensor, i * unit, n * unit, there, err));
        if (memcmp(wanted, there, n * unit) != 0)
            return LORAFMT_OK;
        i += n;
    }
    *equal = true;
    return LORAFMT_OK;
}

/* A saved head of a base whose head is tied: it stays tied when it is what the embedding will be, else it becomes a tensor of its own. */
static lorafmt_status settle_saved_head(lf_binder *binder, lorafmt_bound_site *bound, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    const lorafmt_tensor *value = &lorafmt_site_factor(bound->site, LORAFMT_ROLE_VALUE)->tensor;
    const size_t embedding = lf_only_embedding(view->base);
    bool equal;

    LF_TRY(equals_merged(view, embedding, value, &equal, err));
    if (equal) {
        bound->match = LORAFMT_MATCH_TIED;
        bound->tensor = embedding;
        return LORAFMT_OK;
    }
    bound->tensor = new_tensor(view, bound->site);
    view->unties = true;
    place_replacement(binder, bound);
    return LORAFMT_OK;
}

static bool is_saved_tied_head(const lorafmt_view *view, const lorafmt_bound_site *bound)
{
    return bound->match == LORAFMT_MATCH_NEW && view->base->tied != LORAFMT_TIED_NO && lf_is_head_name(bound->site->target) &&
           lf_only_embedding(view->base) != LF_NOT_THERE;
}

lorafmt_status lf_fit_replacements(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;

    for (size_t i = 0; i < view->n_sites; i++) {
        lorafmt_bound_site *bound = &view->sites[i];
        if (!is_whole(bound->site->kind) || bound->match == LORAFMT_MATCH_NONE || is_saved_tied_head(view, bound))
            continue;
        if (bound->match == LORAFMT_MATCH_NEW)
            bound->tensor = new_tensor(view, bound->site);
        place_replacement(binder, bound);
    }
    for (size_t i = 0; i < view->n_sites; i++)
        if (is_saved_tied_head(view, &view->sites[i]) && view->sites[i].effect == LORAFMT_EFFECT_NOTHING)
            LF_TRY(settle_saved_head(binder, &view->sites[i], err));
    return LORAFMT_OK;
}

/* Embeddings and head must go on having the same number of rows. */
void lf_fit_vocabulary(lf_binder *binder)
{
    lorafmt_view *view = binder->view;
    const lorafmt_base *base = view->base;

    for (size_t i = 0; i < base->n_tensors; i++)
        if (is_vocabulary(base, base->tensors[i].name, base->tensors[i].n_dims, base->tensors[i].shape) &&
            view->plans[i].info.shape[0] != base->vocab_size)
            view->vocab_size = view->plans[i].info.shape[0];
    if (!view->vocab_size)
        return;
    for (size_t i = 0; i < view->n_tensors; i++) {
        const lorafmt_view_tensor *info = &view->plans[i].info;
        const bool concerned = i < base->n_tensors
                                   ? is_vocabulary(base, info->name, base->tensors[i].n_dims, base->tensors[i].shape)
                                   : lf_is_head_name(info->name);
        if (concerned && info->shape[0] != view->vocab_size)
            lf_problem(binder, LORAFMT_MISMATCH, view->n_entries - 1, info->name,
                       "has %" PRIu64 " rows, but the vocabulary becomes %" PRIu64, info->shape[0], view->vocab_size);
    }
}

int lf_site_orientation(const lf_binder *binder, const lorafmt_site *site, const lorafmt_view_tensor *tensor, char text[256])
{
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    const bool linear = site->kind == LORAFMT_KIND_LINEAR;
    const uint64_t out_in[2] = {b->shape[0], a->shape[1]}, in_out[2] = {a->shape[1], b->shape[0]};
    const bool fits_out_in = tensor->n_dims == 2 && memcmp(tensor->shape, out_in, sizeof out_in) == 0;
    const bool fits_in_out = tensor->n_dims == 2 && memcmp(tensor->shape, in_out, sizeof in_out) == 0;
    unsigned wanted = linear ? site->orientation : LORAFMT_IN_OUT;
    char has[LF_SHAPE_TEXT], needs[LF_SHAPE_TEXT];
    const char *hint = "";

    if (linear && binder->options->has_orientation)
        wanted = binder->options->orientation;
    if (wanted == LORAFMT_BY_SHAPE) {
        if (fits_out_in && fits_in_out) {
            snprintf(text, 256, "is square: its shape cannot tell the orientation; say out-in or in-out");
            return -1;
        }
        wanted = fits_in_out ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
    }
    if (wanted == LORAFMT_OUT_IN ? fits_out_in : fits_in_out)
        return (int)wanted;
    if (linear && (fits_out_in || fits_in_out))
        hint = "; transposed it would fit: if the base stores this layer so, choose its orientation by shape";
    snprintf(text, 256, "the base has %.100s, the adapter needs %s%s", lf_shape_text(tensor->n_dims, tensor->shape, has),
             lf_shape_text(2, wanted == LORAFMT_OUT_IN ? out_in : in_out, needs), hint);
    return -1;
}

static void fit_low_rank_site(lf_binder *binder, lorafmt_bound_site *bound)
{
    const lorafmt_view *view = binder->view;
    const lorafmt_stack_entry *entry = &view->entries[bound->entry];
    const char *target = bound->site->target;
    lf_plan *plan = &view->plans[bound->tensor];
    char text[256], sibling[LF_MAX_NAME + 64];

    if (lf_has_quantised_sibling(&view->index, plan->info.name, sibling))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "the base is quantised (it has %s beside it): merge into the original weights", sibling);
    else if (view->base->quantization)
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target, "the base is quantised (%s): merge into the original weights",
                   view->base->quantization);
    else if (!lf_dtype_is_real(plan->info.dtype))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "the base has %s; only F32, F16, BF16 and F64 can be added to", lorafmt_dtype_name(plan->info.dtype));
    else if (lf_site_orientation(binder, bound->site, &plan->info, text) < 0)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "%s", text);
    else if (!isfinite((float)(entry->weight * bound->site->scale)))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "weight %g times scale %g is beyond what F32 holds",
                   entry->weight, bound->site->scale);
    else if (plan->value && plan->value_entry > bound->entry)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "adapter %s, later in the stack, replaces this tensor; put it first",
                   view->entries[plan->value_entry].adapter->name);
    else if (view->unties && bound->match == LORAFMT_MATCH_TIED && lf_is_head_name(target))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "another adapter of the stack gives the tied head a tensor of its own; merge them one after the other");
    else
        plan->n_terms++;
}

void lf_fit_low_rank(lf_binder *binder)
{
    lorafmt_view *view = binder->view;

    for (size_t i = 0; i < view->n_sites; i++)
        if (lf_kind_is_low_rank(view->sites[i].site->kind) && view->sites[i].match != LORAFMT_MATCH_NONE)
            fit_low_rank_site(binder, &view->sites[i]);
}

/* Is this the base that the adapters were packed for? Compares what they carry. */
lorafmt_status lf_fit_identity(lf_binder *binder, lorafmt_error *err)
{
    const lorafmt_view *view = binder->view;
    const lorafmt_base *base = view->base;
    uint8_t digest[32];

    if (binder->options->any_base)
        return LORAFMT_OK;
    LF_TRY(lorafmt_base_structure(base, digest, err));
    for (size_t i = 0; i < view->n_entries; i++) {
        const lorafmt_adapter *adapter = view->entries[i].adapter;
        if (adapter->has_base_structure && memcmp(digest, adapter->base_structure, sizeof digest) != 0)
            lf_problem(binder, LORAFMT_MISMATCH, i, adapter->name,
                       "was packed for a base with other tensor names, dtypes or shapes%s%s; any_base lets it pass",
                       adapter->base_name[0] ? ": " : "", adapter->base_name);
    }
    for (size_t i = 0; i < view->n_sites; i++) {
        const lorafmt_bound_site *bound = &view->sites[i];
        if (!(bound->site->flags & LORAFMT_SITE_BASE_SHA256) || bound->match == LORAFMT_MATCH_NONE ||
            bound->tensor >= base->n_tensors)
            continue;
        if (!base->read)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, bound->site->target,
                           "the adapter carries a digest of this tensor, and the base gives no way to read it");
        LF_TRY(lf_base_tensor_digest(base, bound->tensor, digest, err));
        if (memcmp(digest, bound->site->base_sha256, sizeof digest) != 0)
            lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                       "the base has other values here than the one the adapter was packed for; any_base lets it pass");
    }
    return LORAFMT_OK;
}
