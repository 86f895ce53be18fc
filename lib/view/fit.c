/* SPDX-License-Identifier: MIT */
/* Does every site fit its tensor: kind, orientation, shape, dtype, identity. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/view/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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
            lf_problem(binder, LORAFMT_UNSUPPORTED, entry, adapter->sites[i].target,
                       "merging %s is not supported by this version", what);
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

double lf_working_scale(const lorafmt_view *view, const lorafmt_bound_site *bound)
{
    const double scale = view->entries[bound->entry].weight * bound->site->scale;
    return view->plans[bound->tensor].f64 ? scale : (double)(float)scale;
}

bool lf_is_bound_low_rank(const lorafmt_bound_site *bound)
{
    return lf_kind_is_low_rank(bound->site->kind) && bound->match != LORAFMT_MATCH_NONE;
}

/* spec 7.1: one F64 anywhere makes the whole tensor work in binary64. */
static void choose_working_types(lorafmt_view *view)
{
    for (size_t i = 0; i < view->n_sites; i++) {
        const lorafmt_bound_site *bound = &view->sites[i];
        if (!lf_is_bound_low_rank(bound))
            continue;
        if (view->plans[bound->tensor].info.dtype == LORAFMT_F64 ||
            lorafmt_site_factor(bound->site, LORAFMT_ROLE_A)->tensor.dtype == LORAFMT_F64 ||
            lorafmt_site_factor(bound->site, LORAFMT_ROLE_B)->tensor.dtype == LORAFMT_F64)
            view->plans[bound->tensor].f64 = true;
    }
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
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "the base is quantised (%s): merge into the original weights", view->base->quantization);
    else if (!lf_dtype_is_real(plan->info.dtype))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "the base has %s; only F32, F16, BF16 and F64 can be added to", lorafmt_dtype_name(plan->info.dtype));
    else if (lf_site_orientation(binder, bound->site, &plan->info, text) < 0)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "%s", text);
    else if (!isfinite(lf_working_scale(view, bound)))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "weight %g times scale %g is beyond what %s holds",
                   entry->weight, bound->site->scale, plan->f64 ? "F64" : "F32");
    else if (plan->value && plan->value_entry > bound->entry)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target,
                   "adapter %s, later in the stack, replaces this tensor; put it first",
                   view->entries[plan->value_entry].adapter->name);
    else if (view->unties && bound->match == LORAFMT_MATCH_TIED && lf_is_head_name(view->names[bound - view->sites]))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "another adapter of the stack gives the tied head a tensor of its own; merge them one after the other");
    else if (plan->last_term && plan->last_term->entry == bound->entry && bound->match != LORAFMT_MATCH_TIED)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "is the same tensor of the base as %s of this adapter",
                   plan->last_term->site->target);
    else {
        plan->n_terms++;
        if (bound->match != LORAFMT_MATCH_TIED)
            plan->last_term = bound;
    }
}

void lf_fit_low_rank(lf_binder *binder)
{
    lorafmt_view *view = binder->view;

    choose_working_types(view);
    for (size_t i = 0; i < view->n_sites; i++)
        if (lf_is_bound_low_rank(&view->sites[i]))
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
