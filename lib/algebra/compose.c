/* SPDX-License-Identifier: MIT */
#include "lib/algebra/compose.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/numbers.h"
#include "lib/algebra/rank.h"
#include "lib/algebra/work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512 // elements that are summed at once

static const lk_method methods[] = {
    [LORAKIT_SUM] = {"sum", false, LK_WAY_SUM, LK_DENSE, false},
    [LORAKIT_SVD] = {"svd", false, LK_WAY_SVD, LK_DENSE, false},
    [LORAKIT_MAGNITUDE_PRUNE_SVD] = {"magnitude-prune-svd", false, LK_WAY_DELTAS, LK_LARGEST, false},
    [LORAKIT_DARE_LINEAR_SVD] = {"dare-linear-svd", false, LK_WAY_DELTAS, LK_DRAWN, false},
    [LORAKIT_TIES_SVD] = {"ties-svd", false, LK_WAY_DELTAS, LK_LARGEST, true},
    [LORAKIT_DARE_TIES_SVD] = {"dare-ties-svd", false, LK_WAY_DELTAS, LK_DRAWN, true},
    [LORAKIT_PEFT_CAT] = {"peft-cat", true, LK_WAY_CAT, LK_DENSE, false},
    [LORAKIT_PEFT_LINEAR] = {"peft-linear", true, LK_WAY_FACTORS, LK_DENSE, false},
    [LORAKIT_PEFT_MAGNITUDE_PRUNE] = {"peft-magnitude-prune", true, LK_WAY_FACTORS, LK_LARGEST, false},
    [LORAKIT_PEFT_DARE_LINEAR] = {"peft-dare-linear", true, LK_WAY_FACTORS, LK_DRAWN, false},
    [LORAKIT_PEFT_TIES] = {"peft-ties", true, LK_WAY_FACTORS, LK_LARGEST, true},
    [LORAKIT_PEFT_DARE_TIES] = {"peft-dare-ties", true, LK_WAY_FACTORS, LK_DRAWN, true},
    [LORAKIT_PEFT_SVD] = {"peft-svd", true, LK_WAY_SVD, LK_DENSE, false},
    [LORAKIT_PEFT_MAGNITUDE_PRUNE_SVD] = {"peft-magnitude-prune-svd", true, LK_WAY_DELTAS, LK_LARGEST, false},
    [LORAKIT_PEFT_DARE_LINEAR_SVD] = {"peft-dare-linear-svd", true, LK_WAY_DELTAS, LK_DRAWN, false},
    [LORAKIT_PEFT_TIES_SVD] = {"peft-ties-svd", true, LK_WAY_DELTAS, LK_LARGEST, true},
    [LORAKIT_PEFT_DARE_TIES_SVD] = {"peft-dare-ties-svd", true, LK_WAY_DELTAS, LK_DRAWN, true},
};

const lk_method *lk_method_of(lorakit_method method)
{
    return (size_t)method < sizeof methods / sizeof methods[0] ? &methods[method] : NULL;
}

const char *lorakit_method_name(lorakit_method method)
{
    const lk_method *m = lk_method_of(method);

    return m ? m->name : NULL;
}

/* Pieces of one target, kind and range. */
typedef struct group {
    size_t first, n;
} group;

typedef struct job {
    const lorakit_term *terms;
    size_t n_terms;
    lk_composition c;
    bool *weight_used;
    size_t n_pieces;
    lk_piece *pieces; /* by target, kind and range, then in the order of the terms */
    size_t n_groups;
    group *groups;
    lorakit_adapter *result;
    lorakit_composed *sites;
} job;

/* --- which pieces there are --- */

static double weight_of(job *j, size_t term, const char *target)
{
    const lorakit_compose_options *o = j->c.options;
    double weight = j->terms[term].weight;

    for (size_t i = 0; i < o->n_weights; i++)
        if (o->weights[i].term == term && lf_target_matches(o->weights[i].pattern, target)) {
            j->weight_used[i] = true;
            weight = o->weights[i].weight;
        }
    return weight;
}

/* What no PEFT method takes, and says so. */
static bool is_left_out(const job *j, const lorafmt_adapter *adapter, const lorafmt_site *site)
{
    const lorakit_compose_options *o = j->c.options;
    const bool magnitude = lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE) != NULL, whole = !lk_is_low_rank(site);

    if (!j->c.method->peft || (!magnitude && !whole))
        return false;
    if (o->report)
        o->report(o->report_ctx, adapter->name, site->target,
                  whole ? "is left out, as PEFT does with what is not low-rank" : "its magnitude is left out, as PEFT does");
    return whole;
}

static lorafmt_status add_pieces(job *j, size_t term, lorafmt_error *err)
{
    const lorafmt_adapter *adapter = j->terms[term].adapter;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        const double weight = weight_of(j, term, site->target);
        LF_TRY(lk_check_known(site, err));
        if (!isfinite(weight))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, site->target, "weight %g, must be finite", weight);
        if (weight != 0 && !is_left_out(j, adapter, site))
            j->pieces[j->n_pieces++] = (lk_piece){term, site, weight};
    }
    return LORAFMT_OK;
}

static int compare_pieces(const void *a_, const void *b_)
{
    const lk_piece *a = a_, *b = b_;
    const int by_place = lk_site_compare(a->site, b->site);

    return by_place ? by_place : a->term < b->term ? -1 : a->term > b->term;
}

static lorafmt_status collect(job *j, lorafmt_error *err)
{
    size_t n = 0;

    for (size_t t = 0; t < j->n_terms; t++)
        n += j->terms[t].adapter->n_sites;
    j->weight_used = calloc(j->c.options->n_weights + 1, sizeof *j->weight_used);
    j->pieces = calloc(n + 1, sizeof *j->pieces);
    j->groups = calloc(n + 1, sizeof *j->groups);
    j->sites = calloc(n + 1, sizeof *j->sites);
    if (!j->weight_used || !j->pieces || !j->groups || !j->sites)
        return lf_no_memory(err);
    for (size_t t = 0; t < j->n_terms; t++)
        LF_TRY(add_pieces(j, t, err));
    for (size_t i = 0; i < j->c.options->n_weights; i++)
        if (!j->weight_used[i])
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, j->c.options->weights[i].pattern,
                           "a weight for what '%s' does not have: no target matches the pattern",
                           j->terms[j->c.options->weights[i].term].adapter->name);
    if (j->n_pieces == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "nothing is left to compose: every weight is 0");
    qsort(j->pieces, j->n_pieces, sizeof *j->pieces, compare_pieces);
    for (size_t i = 0; i < j->n_pieces; i++) {
        if (i == 0 || lk_site_compare(j->pieces[i - 1].site, j->pieces[i].site) != 0)
            j->groups[j->n_groups++].first = i;
        j->groups[j->n_groups - 1].n++;
    }
    return LORAFMT_OK;
}

/* --- do they go together --- */

/* The last part of a path or of an id on a hub. */
static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/');

    return slash && slash[1] ? slash + 1 : name;
}

static lorafmt_status check_bases(const job *j, lorafmt_error *err)
{
    const lorafmt_adapter *first = j->terms[0].adapter;

    for (size_t t = 1; t < j->n_terms && !j->c.options->any_base; t++) {
        const lorafmt_adapter *a = j->terms[t].adapter;
        if (first->has_base_structure && a->has_base_structure) {
            if (memcmp(first->base_structure, a->base_structure, sizeof a->base_structure) != 0)
                return lf_hint(err,
                               lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, a->name,
                                       "made for a base with other tensors than that of '%s'", first->name),
                               LORAFMT_HINT_ANY_BASE);
        } else if (first->base_name[0] && a->base_name[0] && strcmp(last_part(first->base_name), last_part(a->base_name)) != 0) {
            return lf_hint(err,
                           lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, a->name, "made for %s, but '%s' for %s",
                                   a->base_name, first->name, first->base_name),
                           LORAFMT_HINT_ANY_BASE);
        }
    }
    return LORAFMT_OK;
}

static bool same_shape(const lorafmt_site *a, const lorafmt_site *b)
{
    const lorafmt_tensor *x = &a->factors[0].tensor, *y = &b->factors[0].tensor;
    size_t rows_a, cols_a, rows_b, cols_b;

    lk_site_shape(a, &rows_a, &cols_a);
    lk_site_shape(b, &rows_b, &cols_b);
    if (rows_a != rows_b || cols_a != cols_b || x->n_dims != y->n_dims || lk_site_n_experts(a) != lk_site_n_experts(b))
        return false;
    return memcmp(x->shape + 1, y->shape + 1, (x->n_dims - 1) * sizeof x->shape[0]) == 0;
}

static lorafmt_status check_pair(const job *j, const lk_piece *a, const lk_piece *b, lorafmt_error *err)
{
    const char *first = j->terms[a->term].adapter->name, *second = j->terms[b->term].adapter->name;
    const bool digests = a->site->flags & b->site->flags & LORAFMT_SITE_BASE_SHA256;

    if (digests && !j->c.options->any_base && memcmp(a->site->base_sha256, b->site->base_sha256, 32) != 0)
        return lf_hint(err,
                       lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, a->site->target,
                               "'%s' and '%s' were made for different bases", first, second),
                       LORAFMT_HINT_ANY_BASE);
    if (!lk_is_low_rank(a->site))
        return LORAFMT_OK;
    if (!same_shape(a->site, b->site))
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, a->site->target, "'%s' and '%s' change it in other shapes",
                       first, second);
    return LORAFMT_OK;
}

static lorafmt_status no_sum(const lk_piece *piece, const char *what, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, piece->site->target, "%s", what);
}

static lorafmt_status check_values(const job *j, const group *g, lorafmt_error *err)
{
    const lk_piece *p = &j->pieces[g->first];

    for (size_t i = 0; i < g->n; i++) {
        const lorafmt_tensor *a = &p[0].site->factors[0].tensor, *b = &p[i].site->factors[0].tensor;
        if (!lf_dtype_is_real(b->dtype))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, p[i].site->target, "a value of %s, which has no sum",
                           lorafmt_dtype_name(b->dtype));
        if (a->n_dims != b->n_dims || memcmp(a->shape, b->shape, sizeof a->shape) != 0)
            return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, p[i].site->target, "'%s' and '%s' change it in other shapes",
                           j->terms[p[0].term].adapter->name, j->terms[p[i].term].adapter->name);
    }
    return LORAFMT_OK;
}

/* What multiplies or replaces must be alone, at weight 1. */
static lorafmt_status check_group(const job *j, const group *g, lorafmt_error *err)
{
    const lk_piece *p = &j->pieces[g->first];
    const bool low_rank = lk_is_low_rank(p->site), additive = p->site->kind == LORAFMT_KIND_ADDITIVE;

    for (size_t i = 0; i < g->n; i++) {
        const bool dora = !j->c.method->peft && lorafmt_site_factor(p[i].site, LORAFMT_ROLE_MAGNITUDE);
        if (dora && (g->n > 1 || p[i].weight != 1))
            return no_sum(&p[i], "DoRA multiplies what it finds: it has no sum with others and no weight but 1", err);
        if (!low_rank && !additive && (g->n > 1 || p[i].weight != 1))
            return no_sum(&p[i], "brings the tensor itself, which has no sum with others and no weight but 1", err);
        if (i)
            LF_TRY(check_pair(j, &p[0], &p[i], err));
    }
    return additive ? check_values(j, g, err) : LORAFMT_OK;
}

/* Two groups of one target: a replacement beside somebody else's update, or ranges that overlap. */
static lorafmt_status check_neighbours(const job *j, const group *a, const group *b, lorafmt_error *err)
{
    const lk_piece *x = &j->pieces[a->first], *y = &j->pieces[b->first];

    if (x->site->kind < LORAFMT_KIND_ADDITIVE && (y->term != x->term || b->n > 1))
        return no_sum(x, "one adapter replaces it, another changes it", err);
    if (x->site->kind == LORAFMT_KIND_LINEAR && y->site->kind == LORAFMT_KIND_LINEAR && x->term != y->term)
        return no_sum(x, "adapters change other parts of it, which this version does not put together", err);
    return LORAFMT_OK;
}

static lorafmt_status check_groups(const job *j, lorafmt_error *err)
{
    for (size_t i = 0; i < j->n_groups; i++) {
        LF_TRY(check_group(j, &j->groups[i], err));
        for (size_t k = i + 1; k < j->n_groups; k++) {
            const lk_piece *x = &j->pieces[j->groups[i].first], *y = &j->pieces[j->groups[k].first];
            if (strcmp(x->site->target, y->site->target) != 0)
                break;
            LF_TRY(check_neighbours(j, &j->groups[i], &j->groups[k], err));
        }
    }
    return LORAFMT_OK;
}

/* --- making the sites --- */

/* The sum of w_i s_i value_i. */
static lorafmt_status add_values(const job *j, const group *g, lk_made *made, lorafmt_error *err)
{
    const lk_piece *p = &j->pieces[g->first];
    lorafmt_factor *f = lf_arena_alloc(&made->arena, 1, sizeof *f);
    const lorafmt_tensor *like = &p->site->factors[0].tensor;
    const size_t n = (size_t)like->size / (lorafmt_dtype_bits(like->dtype) / 8);
    const lorafmt_dtype dtype = j->c.options->dtype ? j->c.options->dtype : LORAFMT_F32;
    uint8_t *data = lf_arena_alloc(&made->arena, n, lorafmt_dtype_bits(dtype) / 8);
    bool finite = true;

    if (!f || !data)
        return lf_no_memory(err);
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t m = n - at < BLOCK ? n - at : BLOCK;
        double sum[BLOCK] = {0}, x[BLOCK];
        for (size_t i = 0; i < g->n; i++) {
            const lorafmt_tensor *t = &p[i].site->factors[0].tensor;
            lk_widen(t->dtype, (const uint8_t *)t->data + at * (lorafmt_dtype_bits(t->dtype) / 8), x, m);
            for (size_t k = 0; k < m; k++)
                sum[k] += p[i].weight * p[i].site->scale * x[k];
        }
        finite = lk_narrow(dtype, sum, data + at * (lorafmt_dtype_bits(dtype) / 8), m) && finite;
    }
    if (!finite)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, p->site->target, "the sum is too large for %s, or not finite",
                       lorafmt_dtype_name(dtype));
    *f = (lorafmt_factor){LORAFMT_ROLE_VALUE, *like};
    f->tensor.dtype = dtype;
    f->tensor.size = (uint64_t)n * (lorafmt_dtype_bits(dtype) / 8);
    f->tensor.data = data;
    made->site = *p->site;
    made->site.factors = f;
    made->site.scaling = LORAFMT_SCALING_NONE;
    made->site.scale = 1;
    return LORAFMT_OK;
}

/* A piece alone of which at most the weight is new: in an exact sum, and where there is nothing to approximate. */
static bool is_taken_over(const job *j, const lk_piece *p, size_t n)
{
    const bool dora = lorafmt_site_factor(p->site, LORAFMT_ROLE_MAGNITUDE) != NULL;

    if (n > 1 || j->c.method->peft)
        return false;
    if (lk_is_low_rank(p->site))
        return dora || (j->c.method->way == LK_WAY_SUM && !j->c.options->dtype);
    return p->site->kind != LORAFMT_KIND_ADDITIVE || (p->weight == 1 && !j->c.options->dtype);
}

static lorafmt_status take_over(const lk_piece *p, lk_made *made, lorakit_composed *out, lorafmt_error *err)
{
    made->site = *p->site;
    if (p->weight != 1)
        lk_site_set_scale(&made->site, p->weight * p->site->scale);
    out->rank_sum = out->rank = made->site.rank;
    return lk_is_low_rank(p->site) ? lorafmt_site_norm(&made->site, &out->norm, err) : LORAFMT_OK;
}

static lorafmt_status compose_one(void *ctx, size_t i, lorafmt_error *err)
{
    const job *j = ctx;
    const group *g = &j->groups[i];
    const lk_piece *p = &j->pieces[g->first];
    lk_made *made = &j->result->made[i];
    lorakit_composed *out = &j->sites[i];

    *out = (lorakit_composed){.target = p->site->target, .n_terms = (uint32_t)g->n};
    if (is_taken_over(j, p, g->n))
        LF_TRY(take_over(p, made, out, err));
    else if (lk_is_low_rank(p->site))
        LF_TRY(lk_combine_pieces(&j->c, p, g->n, made, out, err));
    else
        LF_TRY(add_values(j, g, made, err));
    if (j->c.options->any_base) {
        made->site.flags &= ~(uint32_t)LORAFMT_SITE_BASE_SHA256;
        memset(made->site.base_sha256, 0, sizeof made->site.base_sha256);
    }
    return LORAFMT_OK;
}

/* --- all of it --- */

static size_t largest_rank(const lorafmt_adapter *a)
{
    size_t most = 0;

    for (size_t i = 0; i < a->n_sites; i++)
        most = a->sites[i].rank > most ? a->sites[i].rank : most;
    return most;
}

static bool is_rslora(const lorafmt_adapter *a)
{
    for (size_t i = 0; i < a->n_sites; i++)
        if (lk_is_low_rank(&a->sites[i]))
            return a->sites[i].scaling == LORAFMT_SCALING_ALPHA_SQRT_R;
    return false;
}

static bool is_approximated(const lk_method *method)
{
    return method->way == LK_WAY_SVD || method->way == LK_WAY_DELTAS;
}

/* PEFT gives the result alpha = r, which with rsLoRA is a scale of the root of r; its r is of the adapter as a whole. */
static void set_peft_scale(job *j)
{
    size_t sum = 0, most = 0, rank;

    for (size_t t = 0; t < j->n_terms; t++) {
        const size_t r = largest_rank(j->terms[t].adapter);
        sum += r;
        most = r > most ? r : most;
    }
    j->c.largest_rank = most;
    j->c.peft_scale = 1;
    rank = j->c.method->way == LK_WAY_CAT ? sum : most;
    if (is_approximated(j->c.method) && j->c.options->rank.most)
        rank = j->c.options->rank.most;
    if (j->c.method->peft && is_rslora(j->terms[0].adapter))
        j->c.peft_scale = sqrt((double)rank);
}

static lorafmt_status check_options(const job *j, lorafmt_error *err)
{
    const lorakit_compose_options *o = j->c.options;
    const bool sparse = j->c.method && j->c.method->sparsity != LK_DENSE;

    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (!j->c.method || j->n_terms == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "method", "none of lorakit_method, or no adapter");
    LF_TRY(lk_rank_check(&o->rank, err));
    if (sparse ? !(o->density > 0 && o->density <= 1) : o->density != 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "density", "%g, must be %s for %s", o->density,
                       sparse ? "above 0, at most 1" : "0", j->c.method->name);
    if (o->clamp != 0 && !(o->clamp > 0 && o->clamp <= 1 && j->c.method->peft && is_approximated(j->c.method)))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "clamp", "%g for %s; above 0, at most 1, and for PEFT's svd forms",
                       o->clamp, j->c.method->name);
    for (size_t i = 0; i < o->n_weights; i++)
        if (o->weights[i].term >= j->n_terms)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "weights", "term %zu, there are %zu", o->weights[i].term,
                           j->n_terms);
    return lk_check_dtype(o->dtype, err);
}

/* "compose ties-svd density=0.5 seed=0 y:*.mlp.*=0.2"; NULL when out of memory. */
static const char *method_text(const job *j)
{
    const lorakit_compose_options *o = j->c.options;
    lf_arena *arena = &j->result->arena;
    const char *text = lf_arena_printf(arena, "compose %s", j->c.method->name);

    if (text && j->c.method->sparsity != LK_DENSE)
        text = lf_arena_printf(arena, "%s density=%.17g seed=%llu", text, o->density, (unsigned long long)o->seed);
    for (size_t i = 0; text && i < o->n_weights; i++)
        text = lf_arena_printf(arena, "%s %s:%s=%.17g", text, j->terms[o->weights[i].term].adapter->name, o->weights[i].pattern,
                               o->weights[i].weight);
    return text;
}

static lorafmt_status note_origin(const job *j, lorafmt_error *err)
{
    const lorafmt_adapter **parents = calloc(j->n_terms, sizeof(const lorafmt_adapter *));
    double *weights = calloc(j->n_terms, sizeof *weights);
    lorafmt_status st = parents && weights ? LORAFMT_OK : lf_no_memory(err);
    const char *method = method_text(j);

    for (size_t t = 0; t < j->n_terms && !st; t++) {
        parents[t] = j->terms[t].adapter;
        weights[t] = j->terms[t].weight;
    }
    if (!st && !method)
        st = lf_no_memory(err);
    if (!st)
        st = lk_result_note(j->result, method, parents, weights, j->n_terms, err);
    free(parents);
    free(weights);
    return st;
}

static lorafmt_status check_rank(const job *j, lorafmt_error *err)
{
    size_t most = 0;

    for (size_t i = 0; i < j->n_groups; i++) {
        const lorafmt_site *site = j->pieces[j->groups[i].first].site;
        if (lk_is_low_rank(site) && lk_site_possible_rank(site) > most)
            most = lk_site_possible_rank(site);
    }
    return lk_rank_check_possible(&j->c.options->rank, most, err);
}

/* Updates that cancel everywhere. PEFT's ways that do not look at the sum do not find out. */
static lorafmt_status check_something(const job *j, lorafmt_error *err)
{
    const bool known = j->c.method->way == LK_WAY_SUM || is_approximated(j->c.method);

    for (size_t i = 0; i < j->n_groups; i++)
        if (!known || j->sites[i].rank == 0 || j->sites[i].norm != 0)
            return LORAFMT_OK;
    return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                   "every update comes out as zero: there is nothing to write");
}

static lorafmt_status run(job *j, lorafmt_error *err)
{
    const lorakit_compose_options *o = j->c.options;
    const lk_work work = {o->n_threads, o->progress, o->progress_ctx};

    LF_TRY(check_bases(j, err));
    LF_TRY(collect(j, err));
    LF_TRY(check_groups(j, err));
    LF_TRY(check_rank(j, err));
    set_peft_scale(j);
    LF_TRY(lk_result_new(j->terms[0].adapter, o->name, j->n_groups, &j->result, err));
    LF_TRY(lk_work_run(&work, j->n_groups, compose_one, j, err));
    LF_TRY(check_something(j, err));
    LF_TRY(note_origin(j, err));
    return lk_result_finish(j->result, err);
}

static void close_job(job *j)
{
    free(j->weight_used);
    free(j->pieces);
    free(j->groups);
    free(j->sites);
}

lorafmt_status lorakit_compose(const lorakit_term *terms, size_t n_terms, const lorakit_compose_options *options,
                               lorakit_adapter **out, lorakit_composed **sites, size_t *n_sites, lorafmt_error *err)
{
    static const lorakit_compose_options defaults = {.struct_size = sizeof defaults};
    job j = {.terms = terms, .n_terms = n_terms, .c = {.options = options ? options : &defaults}};
    lorafmt_status st;

    *out = NULL;
    if (sites)
        *sites = NULL;
    if (n_sites)
        *n_sites = 0;
    j.c.method = lk_method_of(j.c.options->method);
    LF_TRY(check_options(&j, err));
    if (j.c.method->peft && n_terms == 1)
        j.c.method = lk_method_of(LORAKIT_PEFT_LINEAR); // as there
    st = run(&j, err);
    if (st) {
        lorakit_adapter_free(j.result);
    } else {
        *out = j.result;
        if (sites) {
            *sites = j.sites;
            j.sites = NULL;
        }
        if (n_sites)
            *n_sites = j.n_groups;
    }
    close_job(&j);
    return st;
}
