/* SPDX-License-Identifier: MIT */
/* Does every site fit its tensor: kind, orientation, shape, dtype, identity. */
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/view/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const lorafmt_tensor *value_of(const lorafmt_site *site)
{
    return &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor;
}

/* What this version cannot merge, by name. */
static const char *unsupported_part(const lorafmt_site *site)
{
    if (site->flags & (LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE))
        return "row and column ranges";
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MID))
        return "a Tucker core (mid)";
    if (site->kind == LORAFMT_KIND_ROWS && value_of(site)->n_dims < 2)
        return "rows of one element";
    return NULL;
}

void lf_check_kinds(lf_binder *binder, size_t entry)
{
    const lorafmt_adapter *adapter = binder->view->entries[entry].adapter;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        const char *what = lf_site_is_newer(site) ? "a kind or factor of a newer format" : NULL;
        if (!what && !binder->view->check_only)
            what = unsupported_part(site);
        if (what)
            lf_problem(binder, LORAFMT_UNSUPPORTED, entry, site->target, "%s %s is not supported by this version",
                       binder->view->check_only ? "binding" : "merging", what);
    }
}

/* The shape that the base must have for a low-rank site: spec 4.4 and 4.5. */
static uint32_t shape_of(const lorafmt_site *site, unsigned orientation, uint64_t shape[LORAFMT_MAX_DIMS])
{
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    const lorafmt_factor *mid = lorafmt_site_factor(site, LORAFMT_ROLE_MID);
    const lorafmt_tensor *kernel = mid ? &mid->tensor : a;
    const uint64_t n_experts = site->kind == LORAFMT_KIND_EXPERTS ? a->shape[0] / site->rank : 1;
    uint32_t n = 0;

    if (site->kind == LORAFMT_KIND_EXPERTS)
        shape[n++] = n_experts;
    shape[n++] = orientation == LORAFMT_OUT_IN ? b->shape[0] / n_experts : a->shape[1];
    shape[n++] = orientation == LORAFMT_OUT_IN ? a->shape[1] : b->shape[0] / n_experts;
    for (uint32_t d = 2; d < kernel->n_dims; d++)
        shape[n++] = kernel->shape[d];
    return n;
}

static bool shape_fits(const lorafmt_site *site, unsigned orientation, const lorafmt_view_tensor *tensor)
{
    uint64_t shape[LORAFMT_MAX_DIMS];
    const uint32_t n = shape_of(site, orientation, shape);

    return tensor->n_dims == n && memcmp(tensor->shape, shape, n * sizeof shape[0]) == 0;
}

int lf_site_orientation(const lf_binder *binder, const lorafmt_site *site, const lorafmt_view_tensor *tensor, char text[256])
{
    const bool linear = site->kind == LORAFMT_KIND_LINEAR, turns = linear || site->kind == LORAFMT_KIND_EXPERTS;
    const bool fits_out_in = shape_fits(site, LORAFMT_OUT_IN, tensor), fits_in_out = shape_fits(site, LORAFMT_IN_OUT, tensor);
    unsigned wanted = site->kind == LORAFMT_KIND_EMBEDDING ? LORAFMT_IN_OUT : site->orientation;
    char has[LF_SHAPE_TEXT], needs[LF_SHAPE_TEXT];
    uint64_t shape[LORAFMT_MAX_DIMS];
    const char *hint = "";
    uint32_t n;

    if (linear && binder->options->has_orientation)
        wanted = binder->options->orientation;
    if (wanted == LORAFMT_BY_SHAPE) {
        if (fits_out_in && fits_in_out) {
            snprintf(text, 256, "is square: its shape cannot tell the orientation");
            return -1;
        }
        wanted = fits_in_out ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
    }
    if (wanted == LORAFMT_OUT_IN ? fits_out_in : fits_in_out)
        return (int)wanted;
    if (turns && (fits_out_in || fits_in_out))
        hint = "; transposed it would fit: if the base stores this layer so, choose its orientation by shape";
    n = shape_of(site, wanted, shape);
    snprintf(text, 256, "the base has %.100s, the adapter needs %s%s", lf_shape_text(tensor->n_dims, tensor->shape, has),
             lf_shape_text(n, shape, needs), hint);
    return -1;
}

double lf_working_scale(const lorafmt_view *view, const lorafmt_bound_site *bound)
{
    const double scale = bound->weight * bound->site->scale;
    return view->plans[bound->tensor].f64 ? scale : (double)(float)scale;
}

bool lf_is_bound_term(const lorafmt_bound_site *bound)
{
    return bound->match != LORAFMT_MATCH_NONE &&
           (lf_kind_is_low_rank(bound->site->kind) || bound->site->kind == LORAFMT_KIND_ADDITIVE);
}

/* spec 7.1: one F64 anywhere makes the whole tensor work in binary64. */
static void choose_working_types(lorafmt_view *view)
{
    for (size_t i = 0; i < view->n_sites; i++) {
        const lorafmt_bound_site *bound = &view->sites[i];
        if (!lf_is_bound_term(bound))
            continue;
        if (view->plans[bound->tensor].info.dtype == LORAFMT_F64)
            view->plans[bound->tensor].f64 = true;
        for (uint32_t f = 0; f < bound->site->n_factors; f++)
            if (bound->site->factors[f].tensor.dtype == LORAFMT_F64)
                view->plans[bound->tensor].f64 = true;
    }
}

/* Does what a site adds have the shape of its tensor? Else text says why not. */
static bool term_fits(const lf_binder *binder, const lorafmt_site *site, const lorafmt_view_tensor *tensor, char text[256])
{
    char has[LF_SHAPE_TEXT], adds[LF_SHAPE_TEXT];
    const lorafmt_tensor *value;

    if (site->kind != LORAFMT_KIND_ADDITIVE)
        return lf_site_orientation(binder, site, tensor, text) >= 0;
    value = value_of(site);
    if (value->n_dims == tensor->n_dims && memcmp(value->shape, tensor->shape, sizeof value->shape) == 0 &&
        lf_dtype_is_real(value->dtype))
        return true;
    snprintf(text, 256, "the base has %.100s, the adapter adds %s of %s", lf_shape_text(tensor->n_dims, tensor->shape, has),
             lf_shape_text(value->n_dims, value->shape, adds), lorafmt_dtype_name(value->dtype));
    return false;
}

/* Which later adapter of the stack replaces the tensor, or rows of it, or LF_NOT_THERE. */
static size_t replaced_later(const lf_plan *plan, size_t entry)
{
    if (plan->value && plan->value_entry > entry)
        return plan->value_entry;
    return plan->rows && plan->rows_entry > entry ? plan->rows_entry : LF_NOT_THERE;
}

/* Can anything be computed for this tensor of the base? */
static bool is_computable(lf_binder *binder, const lorafmt_bound_site *bound)
{
    const lorafmt_view *view = binder->view;
    const lorafmt_view_tensor *info = &view->plans[bound->tensor].info;
    char sibling[LF_MAX_NAME + 64];

    if (lf_has_quantised_sibling(&view->index, info->name, sibling))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, bound->site->target,
                   "the base is quantised (it has %s beside it): merge into the original weights", sibling);
    else if (view->base->quantization)
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, bound->site->target,
                   "the base is quantised (%s): merge into the original weights", view->base->quantization);
    else if (!lf_dtype_is_real(info->dtype))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, bound->site->target,
                   "the base has %s; only F32, F16, BF16 and F64 can be added to", lorafmt_dtype_name(info->dtype));
    else
        return true;
    return false;
}

/* Do the low-rank sites before it take the tensor for something else? Of experts each has rows of its own, of a kernel each output. */
static bool kind_clashes(const lf_plan *plan, const lorafmt_site *site)
{
    return lf_kind_is_low_rank(site->kind) && plan->kind &&
           (plan->kind == LORAFMT_KIND_EXPERTS) != (site->kind == LORAFMT_KIND_EXPERTS);
}

static void fit_term(lf_binder *binder, lorafmt_bound_site *bound)
{
    const lorafmt_view *view = binder->view;
    const char *target = bound->site->target;
    lf_plan *plan = &view->plans[bound->tensor];
    const size_t later = replaced_later(plan, bound->entry);
    char text[256];

    if (!is_computable(binder, bound))
        return;
    if (!term_fits(binder, bound->site, &plan->info, text)) {
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "%s", text);
        lf_problem_hint(binder, strstr(text, "orientation") ? LORAFMT_HINT_ORIENTATION : LORAFMT_HINT_NONE);
    } else if (!isfinite(lf_working_scale(view, bound)))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "weight %g times scale %g is beyond what %s holds",
                   bound->weight, bound->site->scale, plan->f64 ? "F64" : "F32");
    else if (bound->weight != 1.0 && lorafmt_site_factor(bound->site, LORAFMT_ROLE_MAGNITUDE))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target,
                   "DoRA cannot be weighted with %g; only weight 1 is possible for this adapter", bound->weight);
    else if (plan->rows && bound->site->kind == LORAFMT_KIND_EXPERTS)
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target, "is a tensor of experts of which rows are replaced");
    else if (kind_clashes(plan, bound->site))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "is %s here and %s to another adapter of the stack",
                   lorafmt_kind_name(bound->site->kind), lorafmt_kind_name(plan->kind));
    else if (later != LF_NOT_THERE)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target,
                   "adapter %s, later in the stack, replaces this tensor; put it first", view->entries[later].adapter->name);
    else if (view->unties && bound->match == LORAFMT_MATCH_TIED && lf_is_head_name(view->names[bound - view->sites]))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "another adapter of the stack gives the tied head a tensor of its own; merge them one after the other");
    else if (plan->last_term && plan->last_term->entry == bound->entry && bound->match != LORAFMT_MATCH_TIED &&
             plan->last_term->site->kind != LORAFMT_KIND_ADDITIVE)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "is the same tensor of the base as %s of this adapter",
                   plan->last_term->site->target);
    else {
        plan->n_terms++;
        if (lf_kind_is_low_rank(bound->site->kind))
            plan->kind = bound->site->kind;
        if (bound->match != LORAFMT_MATCH_TIED)
            plan->last_term = bound;
    }
}

void lf_fit_terms(lf_binder *binder)
{
    lorafmt_view *view = binder->view;

    choose_working_types(view);
    for (size_t i = 0; i < view->n_sites; i++)
        if (lf_is_bound_term(&view->sites[i]))
            fit_term(binder, &view->sites[i]);
}

/* Rows must be like the target's, and within it. */
static bool rows_fit(const lorafmt_site *site, const lorafmt_view_tensor *tensor)
{
    const lorafmt_tensor *value = value_of(site);
    const lorafmt_tensor *numbers = &lorafmt_site_factor(site, LORAFMT_ROLE_ROW_INDEX)->tensor;

    if (value->n_dims != tensor->n_dims || value->n_dims < 2 || numbers->n_dims != 1 || numbers->shape[0] != value->shape[0] ||
        memcmp(value->shape + 1, tensor->shape + 1, (value->n_dims - 1) * sizeof value->shape[0]) != 0)
        return false;
    for (uint64_t i = 0; i < numbers->shape[0]; i++)
        if (lf_load_u64le((const uint8_t *)numbers->data + 8 * i) >= tensor->shape[0])
            return false;
    return true;
}

static bool same_rows(const lorafmt_site *a, const lorafmt_site *b)
{
    for (uint32_t f = 0; f < a->n_factors; f++) {
        const lorafmt_tensor *x = &a->factors[f].tensor, *y = &b->factors[f].tensor;
        if (!lf_tensor_same_type(x, y) || memcmp(x->data, y->data, (size_t)x->size) != 0)
            return false;
    }
    return true;
}

static void place_rows(lf_binder *binder, lorafmt_bound_site *bound)
{
    const lorafmt_view *view = binder->view;
    lf_plan *plan = &view->plans[bound->tensor];
    char has[LF_SHAPE_TEXT];

    if (!rows_fit(bound->site, &plan->info))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target, "the base has %s, the adapter's rows do not fit",
                   lf_shape_text(plan->info.n_dims, plan->info.shape, has));
    else if (bound->weight != 1.0)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "replaced rows cannot be weighted with %g; only weight 1 is possible for this adapter", bound->weight);
    else if (!lf_dtype_is_real(value_of(bound->site)->dtype) && value_of(bound->site)->dtype != plan->info.dtype)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target, "the base has %s, the adapter's rows are %s",
                   lorafmt_dtype_name(plan->info.dtype), lorafmt_dtype_name(value_of(bound->site)->dtype));
    else if (replaced_later(plan, bound->entry) != LF_NOT_THERE)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "adapter %s, later in the stack, replaces this tensor; put it first",
                   view->entries[plan->value_entry].adapter->name);
    else if (plan->rows && !same_rows(plan->rows, bound->site))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "rows are replaced twice, with different ones (first by adapter %s)",
                   view->entries[plan->rows_entry].adapter->name);
    else if (is_computable(binder, bound)) {
        plan->rows = bound->site;
        plan->rows_entry = bound->entry;
        bound->effect = LORAFMT_EFFECT_ROWS;
    }
}

void lf_fit_rows(lf_binder *binder)
{
    lorafmt_view *view = binder->view;

    for (size_t i = 0; i < view->n_sites; i++)
        if (view->sites[i].site->kind == LORAFMT_KIND_ROWS && view->sites[i].match != LORAFMT_MATCH_NONE)
            place_rows(binder, &view->sites[i]);
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
        if (adapter->has_base_structure && memcmp(digest, adapter->base_structure, sizeof digest) != 0) {
            lf_problem(binder, LORAFMT_MISMATCH, i, adapter->name,
                       "was packed for a base with other tensor names, dtypes or shapes%s%s", adapter->base_name[0] ? ": " : "",
                       adapter->base_name);
            lf_problem_hint(binder, LORAFMT_HINT_ANY_BASE);
        }
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
        if (memcmp(digest, bound->site->base_sha256, sizeof digest) != 0) {
            lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                       "the base has other values here than the one the adapter was packed for");
            lf_problem_hint(binder, LORAFMT_HINT_ANY_BASE);
        }
    }
    return LORAFMT_OK;
}
