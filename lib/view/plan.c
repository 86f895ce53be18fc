/* SPDX-License-Identifier: MIT */
/* What each tensor is computed from: the factors of its low-rank sites, widened to the working type and laid out by rows. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/view/view.h"

#include <stdlib.h>
#include <string.h>

/* What is known of a factor's data; factors that share a tensor share this, however many sites there are. */
typedef struct lf_panel {
    const lorafmt_tensor *tensor; /* NULL = free */
    bool counted, zero;
    void *matrix[2][2]; /* [transposed][f64] */
} lf_panel;

typedef struct planner {
    lorafmt_view *view;
    size_t n_panels; /* a power of two */
    lf_panel *panels;
} planner;

static bool is_same(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return a->data == b->data && lf_tensor_same_type(a, b);
}

static lf_panel *find_panel(const planner *p, const lorafmt_tensor *t)
{
    const uint64_t hash = ((uintptr_t)t->data ^ t->shape[0]) * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(hash >> 32) & (p->n_panels - 1);

    while (p->panels[i].tensor && !is_same(p->panels[i].tensor, t))
        i = (i + 1) & (p->n_panels - 1);
    p->panels[i].tensor = t;
    return &p->panels[i];
}

/* spec 7.2: are all elements +0 or -0? */
static bool all_zero(const planner *p, const lorafmt_tensor *t)
{
    lf_panel *panel = find_panel(p, t);

    if (!panel->counted) {
        panel->counted = true;
        panel->zero = lf_all_zero_elements(t);
    }
    return panel->zero;
}

/* A matrix [rows x cols] in the working type; from the tensor itself or, transposed, from one of [cols x rows]. */
static void *widen_matrix(lf_arena *arena, const lorafmt_tensor *t, bool transposed, bool f64)
{
    const size_t unit = lorafmt_dtype_bits(t->dtype) / 8, n = (size_t)(t->size / unit);
    const size_t rows = (size_t)t->shape[0], cols = (size_t)t->shape[1];
    const size_t out_unit = f64 ? sizeof(double) : sizeof(float);
    uint8_t *out = lf_arena_alloc(arena, n, out_unit);
    const uint8_t *src = t->data;

    if (!out)
        return NULL;
    for (size_t i = 0; i < (transposed ? n : 1); i++) {
        uint8_t *to = transposed ? out + (i % cols * rows + i / cols) * out_unit : out;
        const size_t count = transposed ? 1 : n;
        if (f64)
            lf_widen_f64(lf_real_of(t->dtype), src + i * unit, (double *)(void *)to, count);
        else
            lf_widen_f32(lf_real_of(t->dtype), src + i * unit, (float *)(void *)to, count);
    }
    return out;
}

static const void *matrix_of(const planner *p, const lorafmt_tensor *t, bool transposed, bool f64)
{
    void **matrix = &find_panel(p, t)->matrix[transposed][f64];

    if (!*matrix)
        *matrix = widen_matrix(&p->view->arena, t, transposed, f64);
    return *matrix;
}

/* With the base stored out x in, rows are outputs: left is B, right is A. Otherwise rows are inputs: left is A', right is B'. */
static bool fill_term(const lf_binder *binder, const planner *p, const lorafmt_bound_site *bound, const lf_plan *plan,
                      lf_term *term)
{
    const lorafmt_site *site = bound->site;
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    char unused[256];
    const bool swapped = lf_site_orientation(binder, site, &plan->info, unused) == LORAFMT_IN_OUT;

    term->rank = site->rank;
    term->left = matrix_of(p, swapped ? a : b, swapped, plan->f64);
    term->right = matrix_of(p, swapped ? b : a, swapped, plan->f64);
    return term->left && term->right;
}

static lorafmt_status plan_site(const lf_binder *binder, const planner *p, lorafmt_bound_site *bound, lorafmt_error *err)
{
    lorafmt_view *view = p->view;
    lf_plan *plan = &view->plans[bound->tensor];
    const double scale = lf_working_scale(view, bound);

    if (!lorafmt_site_factor(bound->site, LORAFMT_ROLE_MAGNITUDE) &&
        (scale == 0.0 || all_zero(p, &lorafmt_site_factor(bound->site, LORAFMT_ROLE_A)->tensor) ||
         all_zero(p, &lorafmt_site_factor(bound->site, LORAFMT_ROLE_B)->tensor)))
        return LORAFMT_OK; // spec 7.2: contributes nothing
    bound->effect = LORAFMT_EFFECT_LOW_RANK;
    if (view->check_only)
        return LORAFMT_OK;
    if (!plan->terms && !(plan->terms = lf_arena_alloc(&view->arena, plan->n_terms, sizeof *plan->terms)))
        return lf_no_memory(err);
    plan->terms[plan->n_terms_seen].scale = scale;
    if (!fill_term(binder, p, bound, plan, &plan->terms[plan->n_terms_seen++]))
        return lf_no_memory(err);
    return LORAFMT_OK;
}

lorafmt_status lf_plan_terms(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    planner p = {.view = view, .n_panels = 16};
    lorafmt_status st = LORAFMT_OK;

    while (p.n_panels < 4 * view->n_sites) // two factors a site: at most half full
        p.n_panels *= 2;
    p.panels = calloc(p.n_panels, sizeof *p.panels);
    if (!p.panels)
        return lf_no_memory(err);
    for (size_t i = 0; i < view->n_sites && !st; i++)
        if (lf_is_bound_low_rank(&view->sites[i]))
            st = plan_site(binder, &p, &view->sites[i], err);
    free(p.panels);
    for (size_t i = 0; i < view->n_tensors; i++) {
        lf_plan *plan = &view->plans[i];
        plan->n_cols = (size_t)(plan->info.row_size * 8 / lorafmt_dtype_bits(plan->info.dtype));
        plan->n_terms = plan->n_terms_seen;
        plan->info.touched = plan->value || plan->n_terms;
        plan->info.reads_base = !plan->value;
    }
    return st;
}
