/* SPDX-License-Identifier: MIT */
/*
 * Tensors that an adapter brings whole: where each goes, whether it fits, which are new, and what that means for a head that
 * was tied and for the vocabulary.
 */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/view/patch.h"
#include "lib/view/view.h"

#include <inttypes.h>
#include <string.h>

static bool same_bytes(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return lf_tensor_same_type(a, b) && memcmp(a->data, b->data, a->size) == 0;
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
    else if (lorafmt_dtype_bits(plan->info.dtype) < 8)
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target, "replacing a tensor of %s is not supported",
                   lorafmt_dtype_name(plan->info.dtype));
    else if (plan->info.dtype != value->dtype && !(lf_dtype_is_real(plan->info.dtype) && lf_dtype_is_real(value->dtype)))
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "the base has %s, the adapter replaces it by %s",
                   lorafmt_dtype_name(plan->info.dtype), lorafmt_dtype_name(value->dtype));
    else
        return true;
    return false;
}

static const lorafmt_tensor *value_of(const lorafmt_bound_site *bound)
{
    return &lorafmt_site_factor(bound->site, LORAFMT_ROLE_VALUE)->tensor;
}

static bool weight_fits(lf_binder *binder, const lorafmt_bound_site *bound)
{
    if (bound->weight != 1.0)
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "a replaced tensor cannot be weighted with %g; only weight 1 is possible for this adapter", bound->weight);
    return bound->weight == 1.0;
}

static void place_replacement(lf_binder *binder, lorafmt_bound_site *bound)
{
    lf_plan *plan = &binder->view->plans[bound->tensor];
    const lorafmt_tensor *value = value_of(bound);

    if (!weight_fits(binder, bound))
        return;
    if (plan->value && !same_bytes(plan->value, value)) {
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target,
                   "replaced twice, with different tensors (first by adapter %s)",
                   binder->view->entries[plan->value_entry].adapter->name);
        return;
    }
    if (!replacement_fits(binder, bound, value))
        return;
    bound->effect = bound->match == LORAFMT_MATCH_NEW ? LORAFMT_EFFECT_NEW : LORAFMT_EFFECT_REPLACED;
    plan->value_entry = bound->entry; // the last one, if several bring the same
    if (plan->value)
        return;
    plan->value = value;
    memcpy(plan->info.shape, value->shape, sizeof plan->info.shape);
    lf_view_tensor_measure(&plan->info);
}

/*
 * The view tensor for the new name of site i: the one there is, or the next. It takes the dtype that the base's tensors share,
 * as the modules of a model in that dtype do.
 */
static size_t new_tensor(lorafmt_view *view, size_t i)
{
    const lorafmt_tensor *value = value_of(&view->sites[i]);
    lf_plan *plan;

    for (size_t t = view->base->n_tensors; t < view->n_tensors; t++)
        if (strcmp(view->plans[t].info.name, view->names[i]) == 0)
            return t;
    plan = &view->plans[view->n_tensors];
    plan->info.name = view->names[i];
    plan->info.dtype = lf_dtype_is_real(value->dtype) && view->common_dtype ? view->common_dtype : value->dtype;
    plan->info.n_dims = value->n_dims;
    memcpy(plan->info.shape, value->shape, sizeof plan->info.shape);
    lf_view_tensor_measure(&plan->info);
    return view->n_tensors++;
}

/* Is it more than a replacement? */
static bool is_computed(const lorafmt_view *view, size_t tensor)
{
    for (size_t i = 0; i < view->n_sites; i++)
        if (view->sites[i].tensor == tensor && view->sites[i].match != LORAFMT_MATCH_NONE &&
            !lf_kind_is_whole(view->sites[i].site->kind))
            return true;
    return false;
}

/* Would the merged tensor have exactly the elements of value? */
static lorafmt_status equals_merged(lorafmt_view *view, size_t tensor, const lorafmt_tensor *value, bool *equal,
                                    lorafmt_error *err)
{
    const lf_plan *plan = &view->plans[tensor];
    const size_t unit = lorafmt_dtype_bits(plan->info.dtype) / 8;
    uint8_t wanted[LF_TILE * sizeof(double)], there[LF_TILE * sizeof(double)];
    lf_tally tally = {0};

    *equal = false;
    if (is_computed(view, tensor) || !lf_dtype_is_real(plan->info.dtype) || !lf_dtype_is_real(value->dtype) ||
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

static bool is_saved_tied_head(const lorafmt_view *view, size_t i)
{
    return view->sites[i].match == LORAFMT_MATCH_NEW && view->base->tied != LORAFMT_TIED_NO && lf_is_head_name(view->names[i]) &&
           view->embedding != LF_NOT_THERE && view->head == LF_NOT_THERE;
}

/* A head of its own must be as large as the embedding that it was tied to. */
static bool head_fits(lf_binder *binder, const lorafmt_bound_site *bound)
{
    const lorafmt_view_tensor *embedding = &binder->view->plans[binder->view->embedding].info;
    const lorafmt_tensor *value = value_of(bound);
    char has[LF_SHAPE_TEXT], is[LF_SHAPE_TEXT];

    if (value->n_dims == embedding->n_dims && memcmp(value->shape, embedding->shape, sizeof value->shape) == 0)
        return true;
    lf_problem(binder, LORAFMT_MISMATCH, bound->entry, bound->site->target, "a head of %s cannot follow an embedding of %s",
               lf_shape_text(value->n_dims, value->shape, is), lf_shape_text(embedding->n_dims, embedding->shape, has));
    return false;
}

/*
 * Saved heads of a base whose head is tied: they stay tied when all of them are what the embedding will be, else the head
 * becomes a tensor of its own.
 */
static lorafmt_status settle_saved_heads(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    bool all_equal = true, equal;

    for (size_t i = 0; i < view->n_sites; i++) {
        if (!is_saved_tied_head(view, i))
            continue;
        if (!weight_fits(binder, &view->sites[i]) || !head_fits(binder, &view->sites[i]))
            return LORAFMT_OK;
        LF_TRY(equals_merged(view, view->embedding, value_of(&view->sites[i]), &equal, err));
        all_equal = all_equal && equal;
    }
    for (size_t i = 0; i < view->n_sites; i++) {
        if (!is_saved_tied_head(view, i))
            continue;
        if (all_equal) {
            view->sites[i].match = LORAFMT_MATCH_TIED;
            view->sites[i].tensor = view->embedding;
            continue;
        }
        view->sites[i].tensor = new_tensor(view, i);
        view->unties = true;
        place_replacement(binder, &view->sites[i]);
    }
    return LORAFMT_OK;
}

/* A base that says its head is tied and stores both: whoever loads it takes one of the two, so a change of either may be lost. */
static bool is_ambiguous_tie(const lorafmt_view *view, const lorafmt_bound_site *bound)
{
    return view->base->tied == LORAFMT_TIED_YES && view->embedding != LF_NOT_THERE && view->head != LF_NOT_THERE &&
           bound->match != LORAFMT_MATCH_NONE && (bound->tensor == view->embedding || bound->tensor == view->head);
}

static void check_ties(lf_binder *binder)
{
    const lorafmt_view *view = binder->view;

    for (size_t i = 0; i < view->n_sites; i++)
        if (view->sites[i].match != LORAFMT_MATCH_NEW && is_ambiguous_tie(view, &view->sites[i]))
            lf_problem(binder, LORAFMT_MISMATCH, view->sites[i].entry, view->sites[i].site->target,
                       "the base's config says that head and embedding are tied, but it stores both (%s and %s): remove the head "
                       "from it, or set tie_word_embeddings to false",
                       view->base->tensors[view->head].name, view->base->tensors[view->embedding].name);
}

static bool entry_saves_head(const lorafmt_view *view, size_t entry)
{
    for (size_t i = 0; i < view->n_sites; i++)
        if (view->sites[i].entry == entry && view->sites[i].site->kind == LORAFMT_KIND_SAVED && lf_is_head_name(view->names[i]))
            return true;
    return false;
}

/*
 * PEFT trains a saved embedding as a copy; the head that was tied to it keeps the old one. A base that stores only the embedding
 * would let the head follow, which is not what was trained.
 */
static lorafmt_status check_saved_embedding(lf_binder *binder, const lorafmt_bound_site *bound, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    bool equal;

    if (bound->site->kind != LORAFMT_KIND_SAVED || bound->match == LORAFMT_MATCH_NONE || bound->tensor != view->embedding ||
        view->base->tied != LORAFMT_TIED_YES || view->head != LF_NOT_THERE || entry_saves_head(view, bound->entry))
        return LORAFMT_OK;
    LF_TRY(equals_merged(view, view->embedding, value_of(bound), &equal, err));
    if (!equal)
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, bound->site->target,
                   "the base ties its head to this embedding, but the adapter was trained with the head as it was; save lm_head "
                   "with the adapter too, or take tie_word_embeddings out of the base's config.json to let the head follow");
    return LORAFMT_OK;
}

lorafmt_status lf_fit_replacements(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;

    check_ties(binder);
    for (size_t i = 0; i < view->n_sites; i++)
        LF_TRY(check_saved_embedding(binder, &view->sites[i], err));
    for (size_t i = 0; i < view->n_sites; i++) {
        lorafmt_bound_site *bound = &view->sites[i];
        if (!lf_kind_is_whole(bound->site->kind) || bound->match == LORAFMT_MATCH_NONE || is_saved_tied_head(view, i))
            continue;
        if (bound->match == LORAFMT_MATCH_NEW)
            bound->tensor = new_tensor(view, i);
        place_replacement(binder, bound);
    }
    return settle_saved_heads(binder, err);
}

/* Embeddings and head must go on having the same number of rows. */
void lf_fit_vocabulary(lf_binder *binder)
{
    lorafmt_view *view = binder->view;
    const lorafmt_base *base = view->base;
    const lf_plan *grown = NULL;

    for (size_t i = 0; i < base->n_tensors; i++)
        if (is_vocabulary(base, base->tensors[i].name, base->tensors[i].n_dims, base->tensors[i].shape) &&
            view->plans[i].info.shape[0] != base->vocab_size)
            grown = &view->plans[i];
    if (!grown)
        return;
    view->vocab_size = grown->info.shape[0];
    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_view_tensor *info = &view->plans[i].info;
        if (is_vocabulary(base, info->name, base->tensors[i].n_dims, base->tensors[i].shape) &&
            info->shape[0] != view->vocab_size)
            lf_problem(binder, LORAFMT_MISMATCH, grown->value_entry, grown->info.name,
                       "gets %" PRIu64 " rows, but %s has %" PRIu64 ": the vocabulary would differ", view->vocab_size, info->name,
                       info->shape[0]);
    }
}
