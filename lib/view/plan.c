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
    size_t n_experts;             /* matrices that it holds, one below the other */
    bool counted, zero;
    void *matrix[2][2][2]; /* [right][transposed][f64] */
} lf_panel;

typedef struct planner {
    const lf_binder *binder;
    lorafmt_view *view;
    size_t n_panels; /* a power of two */
    lf_panel *panels;
} planner;

static bool is_same(const lf_panel *panel, const lorafmt_tensor *t, size_t n_experts)
{
    return panel->n_experts == n_experts && panel->tensor->data == t->data && lf_tensor_same_type(panel->tensor, t);
}

static lf_panel *find_panel(const planner *p, const lorafmt_tensor *t, size_t n_experts)
{
    const uint64_t hash = ((uintptr_t)t->data ^ t->shape[0]) * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(hash >> 32) & (p->n_panels - 1);

    while (p->panels[i].tensor && !is_same(&p->panels[i], t, n_experts))
        i = (i + 1) & (p->n_panels - 1);
    p->panels[i].tensor = t;
    p->panels[i].n_experts = n_experts;
    return &p->panels[i];
}

/* spec 7.2: are all elements +0 or -0? */
static bool all_zero(const planner *p, const lorafmt_tensor *t, size_t n_experts)
{
    lf_panel *panel = find_panel(p, t, n_experts);

    if (!panel->counted) {
        panel->counted = true;
        panel->zero = lf_all_zero_elements(t);
    }
    return panel->zero;
}

static void widen(lf_real from, const void *src, void *dst, size_t n, bool f64)
{
    if (f64)
        lf_widen_f64(from, src, dst, n);
    else
        lf_widen_f32(from, src, dst, n);
}

/* The matrices of a factor in the working type, each as it is or transposed. A kernel is flattened into the columns. */
static void *widen_matrices(lf_arena *arena, const lorafmt_tensor *t, size_t n_matrices, bool transposed, bool f64)
{
    const lf_real from = lf_real_of(t->dtype);
    const size_t unit = lf_real_size(from), n = (size_t)t->size / unit, wide = f64 ? sizeof(double) : sizeof(float);
    const size_t size = n / n_matrices, rows = (size_t)t->shape[0] / n_matrices, cols = size / rows;
    uint8_t *out = lf_arena_alloc(arena, n, wide);
    const uint8_t *src = t->data;

    if (out && !transposed)
        widen(from, src, out, n, f64);
    for (size_t i = 0; out && transposed && i < n; i++) {
        const size_t matrix = i / size, row = i % size / cols, col = i % cols;
        widen(from, src + i * unit, out + (matrix * size + col * rows + row) * wide, 1, f64);
    }
    return out;
}

/* A matrix [rank x n_cols] in panels. Transposed, it lies as [n_cols x rank] in src. */
static void put_in_panels(lf_real from, const uint8_t *src, size_t rank, size_t n_cols, bool transposed, float *panels)
{
    const size_t unit = lf_real_size(from);

    if (!transposed)
        for (size_t p = 0; p < rank; p++)
            for (size_t j = 0; j < n_cols; j += LF_PANEL)
                lf_widen_f32(from, src + (p * n_cols + j) * unit, panels + lf_panel_at(rank, j) + p * LF_PANEL,
                             n_cols - j < LF_PANEL ? n_cols - j : LF_PANEL);
    for (size_t i = 0; transposed && i < n_cols * rank; i++)
        lf_widen_f32(from, src + i * unit, panels + lf_panel_at(rank, i / rank) + i % rank * LF_PANEL, 1);
}

/* The same in f32 for a right factor, each in panels. */
static void *widen_panels(lf_arena *arena, const lorafmt_tensor *t, size_t n_matrices, bool transposed)
{
    const lf_real from = lf_real_of(t->dtype);
    const size_t size = (size_t)t->size / lf_real_size(from) / n_matrices, rows = (size_t)t->shape[0] / n_matrices;
    const size_t rank = transposed ? size / rows : rows, n_cols = size / rank, step = lf_panels_size(rank, n_cols);
    float *out = lf_arena_alloc(arena, n_matrices * step, sizeof *out);

    for (size_t i = 0; out && i < n_matrices; i++)
        put_in_panels(from, (const uint8_t *)t->data + i * size * lf_real_size(from), rank, n_cols, transposed, out + i * step);
    return out;
}

static const void *left_of(const planner *p, const lorafmt_tensor *t, size_t n_experts, bool transposed, bool f64)
{
    void **matrix = &find_panel(p, t, n_experts)->matrix[0][transposed][f64];

    if (!*matrix)
        *matrix = widen_matrices(&p->view->arena, t, n_experts, transposed, f64);
    return *matrix;
}

static const void *right_of(const planner *p, const lorafmt_tensor *t, size_t n_experts, bool transposed, bool f64)
{
    void **matrix = &find_panel(p, t, n_experts)->matrix[1][transposed][f64];

    if (f64)
        return left_of(p, t, n_experts, transposed, true);
    if (!*matrix)
        *matrix = widen_panels(&p->view->arena, t, n_experts, transposed);
    return *matrix;
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
    term->panel_rows = plan->info.n_rows / n_experts;
    term->left = left_of(p, swapped ? a : b, n_experts, swapped, plan->f64);
    term->right = right_of(p, swapped ? b : a, n_experts, swapped, plan->f64);
    return term->left && term->right && (!magnitude || add_dora(p->view, &magnitude->tensor, swapped, plan, term));
}

/* spec 7.2: nothing to add. What DoRA does does not depend on that. */
static bool contributes(const planner *p, const lorafmt_site *site, double scale)
{
    if (site->kind == LORAFMT_KIND_ADDITIVE)
        return scale != 0.0 && !all_zero(p, &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor, 1);
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE))
        return true;
    return scale != 0.0 && !all_zero(p, &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor, count_experts(site)) &&
           !all_zero(p, &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor, count_experts(site));
}

static lorafmt_status plan_site(const planner *p, lorafmt_bound_site *bound, lorafmt_error *err)
{
    lorafmt_view *view = p->view;
    lf_plan *plan = &view->plans[bound->tensor];
    const bool additive = bound->site->kind == LORAFMT_KIND_ADDITIVE;
    const double scale = lf_working_scale(view, bound);
    lf_term *term;

    if (!contributes(p, bound->site, scale))
        return LORAFMT_OK;
    bound->effect = additive ? LORAFMT_EFFECT_ADDITIVE : LORAFMT_EFFECT_LOW_RANK;
    if (view->check_only)
        return LORAFMT_OK;
    if (!plan->terms && !(plan->terms = lf_arena_alloc(&view->arena, plan->n_terms, sizeof *plan->terms)))
        return lf_no_memory(err);
    term = &plan->terms[plan->n_terms_seen++];
    term->scale = scale;
    if (additive)
        term->value = &lorafmt_site_factor(bound->site, LORAFMT_ROLE_VALUE)->tensor;
    else if (!fill_low_rank(p, bound, plan, term))
        return lf_no_memory(err);
    return LORAFMT_OK;
}

static lorafmt_status plan_sites(const planner *p, lorafmt_error *err)
{
    for (size_t i = 0; i < p->view->n_sites; i++)
        if (lf_is_bound_term(&p->view->sites[i]))
            LF_TRY(plan_site(p, &p->view->sites[i], err));
    return LORAFMT_OK;
}

lorafmt_status lf_plan_terms(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    planner p = {.binder = binder, .view = view, .n_panels = 16};
    lorafmt_status st;

    while (p.n_panels < 4 * view->n_sites) // two factors a site: at most half full
        p.n_panels *= 2;
    p.panels = calloc(p.n_panels, sizeof *p.panels);
    st = p.panels ? plan_sites(&p, err) : lf_no_memory(err);
    free(p.panels);
    for (size_t i = 0; i < view->n_tensors; i++) {
        lf_plan *plan = &view->plans[i];
        plan->n_cols = (size_t)(plan->info.row_size * 8 / lorafmt_dtype_bits(plan->info.dtype));
        plan->n_terms = plan->n_terms_seen;
        plan->info.touched = plan->value || plan->rows || plan->n_terms;
        plan->info.reads_base = !plan->value;
    }
    return st;
}
