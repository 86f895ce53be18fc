/* SPDX-License-Identifier: MIT */
/* What each tensor is computed from. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/tensor_map.h"
#include "lib/adapter/adapter.h"
#include "lib/view/view.h"

#include <stdlib.h>

typedef struct planner {
    const lf_binder *binder;
    lorafmt_view *view;
    lf_tensor_map factors; // that were looked through, once each, however many sites have them
    bool *zero;            // what was found, by number
} planner;

/* spec 7.2: does a factor have an element that is neither +0 nor -0? */
static lorafmt_status find_nonzero(planner *p, const lorafmt_site *site, lorafmt_role role, bool *nonzero, lorafmt_error *err)
{
    const lorafmt_tensor *t = &lorafmt_site_factor(site, role)->tensor;
    size_t i = lf_tensor_map_find(&p->factors, t);

    if (i == SIZE_MAX) {
        i = p->factors.n;
        if (!lf_tensor_map_add(&p->factors, t))
            return lf_no_memory(err);
        p->zero[i] = lf_all_zero_elements(t);
    }
    *nonzero = !p->zero[i];
    return LORAFMT_OK;
}

/* A factor whose matrices, one for each expert, lie one below the other; a kernel is flattened into the columns. */
static lf_matrix matrix_of(const lorafmt_tensor *t, size_t n_experts, bool transposed)
{
    const lf_real type = lf_real_of(t->dtype);
    const size_t n_rows = (size_t)t->shape[0] / n_experts, size = (size_t)t->size / lf_real_size(type) / n_experts;

    return (lf_matrix){type, t->data, size / n_rows, transposed};
}

static size_t count_experts(const lorafmt_site *site)
{
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    return site->kind == LORAFMT_KIND_EXPERTS ? (size_t)(a->shape[0] / site->rank) : 1;
}

/* spec 7.4: a factor for each output, which lies along the rows or along the columns of what is stored. */
static bool add_dora(lorafmt_view *view, const lorafmt_tensor *magnitude, bool by_column, lf_plan *plan, lf_term *term)
{
    const size_t n = (size_t)magnitude->size / (lorafmt_dtype_bits(magnitude->dtype) / 8);

    if (!(term->dora = lf_arena_alloc(&view->arena, 1, sizeof *term->dora)))
        return false;
    *term->dora = (lf_dora){.magnitude = magnitude, .by_column = by_column};
    term->dora->factors = lf_arena_alloc(&view->arena, n, plan->f64 ? sizeof(double) : sizeof(float));
    plan->info.needs_prepare = true;
    return term->dora->factors != NULL;
}

/* With the base stored out x in, rows are outputs: left is B, right is A. Otherwise rows are inputs: left is A', right is B'. */
static bool fill_low_rank(const planner *p, const lorafmt_bound_site *bound, lf_plan *plan, lf_term *term)
{
    const lorafmt_site *site = bound->site;
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    const lorafmt_factor *magnitude = lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE);
    const size_t n_experts = count_experts(site);
    char unused[256];
    const bool swapped = lf_site_orientation(p->binder, site, &plan->info, unused) == LORAFMT_IN_OUT;

    if (n_experts > 1 || site->kind == LORAFMT_KIND_EXPERTS) {
        plan->info.n_rows = plan->info.shape[0] * plan->info.shape[1];
        plan->info.row_size = plan->info.size / plan->info.n_rows;
    }
    term->rank = site->rank;
    term->expert_rows = plan->info.n_rows / n_experts;
    term->left = matrix_of(swapped ? a : b, n_experts, swapped);
    term->right = matrix_of(swapped ? b : a, n_experts, swapped);
    return !magnitude || add_dora(p->view, &magnitude->tensor, swapped, plan, term);
}

/* spec 7.2. What DoRA does does not depend on that. */
static lorafmt_status find_contribution(planner *p, const lorafmt_site *site, double scale, bool *contributes, lorafmt_error *err)
{
    *contributes = lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE) != NULL;
    if (*contributes || scale == 0.0)
        return LORAFMT_OK;
    if (site->kind == LORAFMT_KIND_ADDITIVE)
        return find_nonzero(p, site, LORAFMT_ROLE_VALUE, contributes, err);
    LF_TRY(find_nonzero(p, site, LORAFMT_ROLE_A, contributes, err));
    return *contributes ? find_nonzero(p, site, LORAFMT_ROLE_B, contributes, err) : LORAFMT_OK;
}

static lorafmt_status plan_site(planner *p, lorafmt_bound_site *bound, lorafmt_error *err)
{
    lorafmt_view *view = p->view;
    lf_plan *plan = &view->plans[bound->tensor];
    const bool additive = bound->site->kind == LORAFMT_KIND_ADDITIVE;
    const double scale = lf_working_scale(view, bound);
    bool contributes;
    lf_term *term;

    LF_TRY(find_contribution(p, bound->site, scale, &contributes, err));
    if (!contributes)
        return LORAFMT_OK;
    bound->effect = additive ? LORAFMT_EFFECT_ADDITIVE : LORAFMT_EFFECT_LOW_RANK;
    if (view->check_only)
        return LORAFMT_OK;
    if (!plan->terms && !(plan->terms = lf_arena_alloc(&view->arena, plan->n_terms, sizeof *plan->terms)))
        return lf_no_memory(err);
    term = &plan->terms[plan->n_terms_seen++];
    term->bound = bound;
    term->scale = scale;
    if (additive)
        term->value = &lorafmt_site_factor(bound->site, LORAFMT_ROLE_VALUE)->tensor;
    else if (!fill_low_rank(p, bound, plan, term))
        return lf_no_memory(err);
    return LORAFMT_OK;
}

static lorafmt_status plan_sites(planner *p, lorafmt_error *err)
{
    for (size_t i = 0; i < p->view->n_sites; i++)
        if (lf_is_bound_term(&p->view->sites[i]))
            LF_TRY(plan_site(p, &p->view->sites[i], err));
    return LORAFMT_OK;
}

lorafmt_status lf_plan_terms(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    lf_arena arena = {0};
    planner p = {.binder = binder, .view = view, .factors = {.arena = &arena}};
    lorafmt_status st;

    p.zero = lf_arena_alloc(&arena, 2 * view->n_sites, sizeof *p.zero); // two factors a site at most
    st = p.zero ? plan_sites(&p, err) : lf_no_memory(err);
    lf_arena_free(&arena);
    for (size_t i = 0; i < view->n_tensors; i++) {
        lf_plan *plan = &view->plans[i];
        plan->n_cols = (size_t)(plan->info.row_size * 8 / lorafmt_dtype_bits(plan->info.dtype));
        plan->n_terms = plan->n_terms_seen;
        plan->info.touched = plan->value || plan->rows || plan->n_terms;
        plan->info.reads_base = !plan->value;
    }
    return st;
}
