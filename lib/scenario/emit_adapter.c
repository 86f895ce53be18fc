/* SPDX-License-Identifier: MIT */
/* A scenario as the one adapter that it is for an engine. */
#include "lib/scenario/emit.h"

#include "format/base/error.h"
#include "lib/scenario/emit_text.h"
#include "lorakit/compose.h"
#include "lorakit/uniform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct maker {
    const lorafmt_view *view;
    const lorakit_manifest *manifest;
    const lorakit_scenario *scenario;
    const lorafmt_adapter **parents; /* of the scenario's adapters */
    const lk_engine *engine;
    const lorafmt_base *base;
    const lorakit_emit_options *options;
    lk_emission *e;
    lorakit_emitted *out;
    lorafmt_error *err;
    lorafmt_adapter *terms; /* the adapters with weights in their scales */
    lk_named_site *names;   /* ascending by target: how the base calls each */
    size_t n_names;
} maker;

/* --- what is asked for --- */

void lk_emit_refuse(lorakit_emitted *out, const lorafmt_error *why)
{
    out->form = LORAKIT_NOT_EXPRESSED;
    snprintf(out->why, sizeof out->why, "%s%s%s", why->field, why->field[0] ? ": " : "", why->text);
}

/* A dtype other than the base's is that of another model. */
static bool is_of_other_dtype(const maker *m)
{
    for (size_t i = 0; m->scenario->dtype && i < m->base->n_tensors; i++) {
        const lorafmt_dtype dtype = m->base->tensors[i].dtype;
        const bool real = dtype == LORAFMT_F32 || dtype == LORAFMT_F16 || dtype == LORAFMT_BF16 || dtype == LORAFMT_F64;
        if (real && dtype != m->scenario->dtype)
            return true;
    }
    return false;
}

/* Without weights and other names, for who reads all that PEFT writes. */
static bool is_as_is(const maker *m)
{
    if (m->engine->plain_only || m->scenario->n_adapters != 1 ||
        m->manifest->adapters[m->scenario->adapters[0].adapter].n_map > 0)
        return false;
    for (size_t i = 0; i < lorafmt_view_n_sites(m->view); i++)
        if (lorafmt_view_get_site(m->view, i)->weight != 1)
            return false;
    return true;
}

static bool changes_nothing(const maker *m)
{
    for (size_t i = 0; i < lorafmt_view_n_sites(m->view); i++)
        if (lorafmt_view_get_site(m->view, i)->effect != LORAFMT_EFFECT_NOTHING)
            return false;
    return true;
}

/* Does a site keep the scenario from being an adapter of this engine? */
static bool is_refused(maker *m)
{
    for (size_t i = 0; i < lorafmt_view_n_sites(m->view); i++) {
        const lorafmt_bound_site *bound = lorafmt_view_get_site(m->view, i);
        if (bound->effect == LORAFMT_EFFECT_NOTHING)
            continue;
        if (lk_engine_refuses(m->engine, bound, m->out->why, sizeof m->out->why))
            return true;
        if (bound->match == LORAFMT_MATCH_TIED) {
            snprintf(m->out->why, sizeof m->out->why, "%s: a head that is tied to the embedding, under a weight or a map",
                     bound->site->target);
            return true;
        }
    }
    return false;
}

/* --- adapters with their weights --- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const lk_named_site *)a)->site.target, ((const lk_named_site *)b)->site.target);
}

static int compare_sites(const void *a, const void *b)
{
    const lorafmt_site *x = a, *y = b;
    const int by_target = strcmp(x->target, y->target);

    if (by_target)
        return by_target;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->row_begin != y->row_begin)
        return x->row_begin < y->row_begin ? -1 : 1;
    return x->col_begin < y->col_begin ? -1 : x->col_begin > y->col_begin;
}

/* An adapter's own names, but where the base's are needed: under a map, and to find what several adapters have in common. */
static bool uses_base_names(const maker *m, size_t entry)
{
    return m->scenario->n_adapters > 1 || m->manifest->adapters[m->scenario->adapters[entry].adapter].n_map > 0;
}

static lorafmt_site weighted_site(const maker *m, const lorafmt_bound_site *bound, const char *base_name)
{
    lorafmt_site site = *bound->site;

    if (uses_base_names(m, bound->entry))
        site.target = base_name;
    site.scale *= bound->weight;
    if (site.scaling != LORAFMT_SCALING_NONE) {
        site.scaling = LORAFMT_SCALING_EXPLICIT;
        site.alpha = 0;
    }
    site.flags &= ~(uint32_t)LORAFMT_SITE_BASE_SHA256;
    memset(site.base_sha256, 0, sizeof site.base_sha256);
    return site;
}

/* A term for each adapter of the scenario, and the names of all. */
static lorafmt_status collect(maker *m)
{
    const size_t n_sites = lorafmt_view_n_sites(m->view), n = m->scenario->n_adapters;
    lorafmt_site *sites = lf_arena_alloc(&m->e->arena, n_sites, sizeof *sites);
    size_t first = 0, k = 0;

    m->terms = lf_arena_alloc(&m->e->arena, n, sizeof *m->terms);
    m->names = lf_arena_alloc(&m->e->arena, n_sites, sizeof *m->names);
    if (!sites || !m->terms || !m->names)
        return lf_no_memory(m->err);
    for (size_t entry = 0, i = 0; entry < n; entry++, first = k) {
        for (const lorafmt_bound_site *bound; i < n_sites && (bound = lorafmt_view_get_site(m->view, i))->entry == entry; i++) {
            const char *base_name =
                bound->tensor == SIZE_MAX ? bound->site->target : lorafmt_view_get_tensor(m->view, bound->tensor)->name;
            if (bound->effect == LORAFMT_EFFECT_NOTHING)
                continue;
            sites[k] = weighted_site(m, bound, base_name);
            m->names[m->n_names++] = (lk_named_site){sites[k++], base_name};
        }
        qsort(sites + first, k - first, sizeof *sites, compare_sites);
        m->terms[entry] = (lorafmt_adapter){.name = m->scenario->name,
                                            .base_name = m->parents[entry]->base_name,
                                            .base_revision = m->parents[entry]->base_revision,
                                            .n_sites = k - first,
                                            .sites = sites + first};
    }
    qsort(m->names, m->n_names, sizeof *m->names, compare_names);
    return LORAFMT_OK;
}

/* --- one adapter of them --- */

static lorafmt_status sum(maker *m)
{
    lorakit_compose_options options = {.struct_size = sizeof options, .any_base = true, .n_threads = m->options->n_threads};
    lorakit_term *terms = lf_arena_alloc(&m->e->arena, m->scenario->n_adapters, sizeof *terms);
    lorakit_composed *sites = NULL;
    size_t n = 0, n_terms = 0;
    lorafmt_status st;

    if (!terms)
        return lf_no_memory(m->err);
    for (size_t i = 0; i < m->scenario->n_adapters; i++)
        if (m->terms[i].n_sites)
            terms[n_terms++] = (lorakit_term){&m->terms[i], 1};
    st = lorakit_compose(terms, n_terms, &options, &m->e->sum, &sites, &n, m->err);
    for (size_t i = 0; i < n && !st; i++)
        if (sites[i].norm > 0 && sites[i].rounded / sites[i].norm > m->out->rounding)
            m->out->rounding = sites[i].rounded / sites[i].norm;
    free(sites);
    if (!st) {
        m->e->adapter = *lorakit_adapter_get(m->e->sum);
        m->out->form = LORAKIT_EXPRESSED_SUM;
    }
    return st;
}

static lorafmt_status fill(maker *m)
{
    lorafmt_adapter *a = &m->e->adapter;
    size_t n = a->n_sites;
    lk_named_site *named = lf_arena_alloc(&m->e->arena, n, sizeof *named);
    lorafmt_site *sites;

    if (!named)
        return lf_no_memory(m->err);
    for (size_t i = 0; i < n; i++) {
        const lk_named_site key = {.site.target = a->sites[i].target};
        const lk_named_site *found = bsearch(&key, m->names, m->n_names, sizeof key, compare_names);
        named[i] = (lk_named_site){a->sites[i], found->base_name};
    }
    LF_TRY(lk_emit_fill(m->engine, m->base, &m->e->arena, &named, &n, m->err));
    sites = lf_arena_alloc(&m->e->arena, n, sizeof *sites);
    if (!sites)
        return lf_no_memory(m->err);
    for (size_t i = 0; i < n; i++)
        sites[i] = named[i].site;
    qsort(sites, n, sizeof *sites, compare_sites);
    m->out->n_filled = n - a->n_sites;
    a->sites = sites;
    a->n_sites = n;
    return LORAFMT_OK;
}

static lorafmt_status level(maker *m)
{
    lorakit_uniformed said;

    LF_TRY(lorakit_uniform(&m->e->adapter, &said, &m->e->uniform, m->err));
    m->e->adapter = *lorakit_adapter_get(m->e->uniform);
    m->e->adapter.n_metadata = 0; // a config that it may have had says other ranks and scales
    m->out->rank = said.rank;
    m->out->scale = said.scale;
    m->out->rounding += said.rounding;
    if (m->engine->most_rank && said.rank > m->engine->most_rank)
        return lf_fail(m->err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL, "rank %u; %s takes at most %u", said.rank,
                       m->engine->name, m->engine->most_rank);
    if (!m->engine->plain_only)
        return LORAFMT_OK;
    m->e->adapter.metadata = lk_emit_config(&m->e->arena, &m->e->adapter, said.rank, said.alpha);
    m->e->adapter.n_metadata = 1;
    return m->e->adapter.metadata ? LORAFMT_OK : lf_no_memory(m->err);
}

static lorafmt_status make_one(maker *m)
{
    LF_TRY(collect(m));
    if (m->scenario->n_adapters > 1) {
        LF_TRY(sum(m));
    } else {
        m->e->adapter = m->terms[0];
        m->out->form = LORAKIT_EXPRESSED_ONE;
    }
    if (m->engine->fills_layers || m->engine->fills_partners)
        LF_TRY(fill(m));
    LF_TRY(level(m));
    m->e->adapter.name = m->scenario->name;
    if (m->manifest->base.name)
        m->e->adapter.base_name = m->manifest->base.name;
    if (m->manifest->base.revision)
        m->e->adapter.base_revision = m->manifest->base.revision;
    return LORAFMT_OK;
}

static lorafmt_status take_as_is(maker *m)
{
    m->e->adapter = *m->parents[0];
    m->out->form = LORAKIT_EXPRESSED_AS_IS;
    for (size_t i = 0; i < m->e->adapter.n_sites; i++)
        if (m->e->adapter.sites[i].rank > m->out->rank)
            m->out->rank = m->e->adapter.sites[i].rank;
    return LORAFMT_OK;
}

static lorafmt_status make(maker *m)
{
    lorafmt_error own;
    lorafmt_status st;

    if (is_of_other_dtype(m)) {
        snprintf(m->out->why, sizeof m->out->why, "its numbers have another dtype than the base, which all adapters share");
        return LORAFMT_OK;
    }
    if (changes_nothing(m)) {
        m->out->form = LORAKIT_EXPRESSED_BASE;
        return LORAFMT_OK;
    }
    if (is_as_is(m))
        return take_as_is(m);
    if (is_refused(m))
        return LORAFMT_OK;
    m->err = m->err ? m->err : &own;
    st = make_one(m);
    if (st != LORAFMT_UNSUPPORTED && st != LORAFMT_LIMIT)
        return st;
    lk_emit_refuse(m->out, m->err); // what cannot be done is a reason, not a failure
    return LORAFMT_OK;
}

static lorafmt_status open_parents(maker *m, lorakit_scenarios *set)
{
    m->parents = lf_arena_alloc(&m->e->arena, m->scenario->n_adapters, sizeof *m->parents);
    if (!m->parents)
        return lf_no_memory(m->err);
    for (size_t i = 0; i < m->scenario->n_adapters; i++)
        LF_TRY(lorakit_scenarios_adapter(set, m->scenario->adapters[i].adapter, &m->parents[i], m->err));
    return LORAFMT_OK;
}

lorafmt_status lk_emission_make(lorakit_scenarios *set, size_t scenario, const lk_engine *engine,
                                const lorakit_emit_options *options, lk_emission *e, lorakit_emitted *out, lorafmt_error *err)
{
    const lorakit_manifest *manifest = lorakit_scenarios_manifest(set);
    maker m = {.manifest = manifest,
               .scenario = &manifest->scenarios[scenario],
               .engine = engine,
               .base = lorafmt_model_base(lorakit_scenarios_model(set)),
               .options = options,
               .e = e,
               .out = out,
               .err = err};
    lorafmt_view *view;
    lorafmt_status st;

    memset(e, 0, sizeof *e);
    *out = (lorakit_emitted){.scenario = scenario};
    LF_TRY(open_parents(&m, set));
    LF_TRY(lorakit_scenarios_bind(set, scenario, options->report, options->report_ctx, &view, err));
    m.view = view;
    st = make(&m);
    lorafmt_view_free(view);
    return st;
}

void lk_emission_clear(lk_emission *e)
{
    lorakit_adapter_free(e->uniform);
    lorakit_adapter_free(e->sum);
    lf_arena_free(&e->arena);
}
