/* SPDX-License-Identifier: MIT */
/* The terms of a view, for who adds them to what a layer puts out. */
#include "format/base/error.h"
#include "lib/view/view.h"
#include "lorafmt/forward.h"

/* Why a term cannot be added to what a layer puts out, or NULL. */
static const char *why_merged(const lf_term *t)
{
    const unsigned kind = t->bound->site->kind;

    if (kind == LORAFMT_KIND_ADDITIVE)
        return "is added to as a whole";
    if (kind != LORAFMT_KIND_LINEAR)
        return kind == LORAFMT_KIND_EMBEDDING ? "is an embedding"
               : kind == LORAFMT_KIND_EXPERTS ? "is of experts"
                                              : "is a convolution";
    return t->bound->match == LORAFMT_MATCH_TIED ? "is tied to another" : NULL;
}

static lorafmt_status check_tensor(const lf_plan *plan, lorafmt_error *err)
{
    const char *why = plan->value  ? "is replaced or new"
                      : plan->rows ? "has rows that are replaced"
                      : plan->f64  ? "is computed in F64"
                                   : NULL;

    for (size_t k = 0; !why && k < plan->n_terms; k++)
        why = why_merged(&plan->terms[k]);
    if (why)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, plan->info.name,
                       "%s; only low-rank updates of linear layers in f32 can be used unmerged", why);
    if (plan->info.needs_prepare && !plan->prepared)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "has a DoRA site and was not prepared");
    return LORAFMT_OK;
}

lorafmt_status lorafmt_view_check_unmerged(const lorafmt_view *view, lorafmt_error *err)
{
    if (view->check_only)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the view was bound with check_only");
    for (size_t i = 0; i < view->n_tensors; i++)
        if (view->plans[i].info.touched)
            LF_TRY(check_tensor(&view->plans[i], err));
    return LORAFMT_OK;
}

size_t lorafmt_view_n_updates(const lorafmt_view *view, size_t tensor)
{
    return tensor < view->n_tensors ? view->plans[tensor].n_terms : 0;
}

lorafmt_update lorafmt_view_get_update(const lorafmt_view *view, size_t tensor, size_t i)
{
    const lf_term *t = &view->plans[tensor].terms[i];
    const lorafmt_tensor *a = &lorafmt_site_factor(t->bound->site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(t->bound->site, LORAFMT_ROLE_B)->tensor;

    return (lorafmt_update){.in = (size_t)a->shape[1],
                            .out = (size_t)b->shape[0],
                            .a = a->data,
                            .b = b->data,
                            .a_dtype = a->dtype,
                            .b_dtype = b->dtype,
                            .rank = (uint32_t)t->rank,
                            .scale = (float)t->scale,
                            .factors = t->dora ? t->dora->factors : NULL};
}
