/* SPDX-License-Identifier: MIT */
/* spec 8: which tensor of the base is each site's. Own name first, then the caller's map, then one bridge for all. */
#include "format/base/error.h"
#include "lib/view/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HINTS 20     // finding the closest name looks at the whole base
#define NAME_BUFFER 2304 // a target and a prefix of the caller's map, both at most 1 KiB, and some

/*
 * Prefixes that module trees gain and lose between training and saving: heads (AutoModel or not), language models within
 * vision models (transformers 4.52 moved them), and the model classes of GPT-2 and BERT.
 */
static const lorafmt_rename bridges[] = {
    {"", "model."},
    {"model.", ""},
    {"", "transformer."},
    {"transformer.", ""},
    {"model.", "language_model.model."},
    {"language_model.model.", "model."},
    {"model.", "model.language_model."},
    {"model.language_model.", "model."},
    {"model.language_model.", "language_model.model."},
    {"language_model.model.", "model.language_model."},
    {"", "language_model."},
    {"language_model.", ""},
    {"", "bert."},
    {"bert.", ""},
    {"", "roberta."},
    {"roberta.", ""},
    {"", "distilbert."},
    {"distilbert.", ""},
    {"", "gpt_neox."},
    {"gpt_neox.", ""},
};

#define N_BRIDGES (sizeof bridges / sizeof bridges[0])

/* The name with its prefix exchanged, or NULL when it does not have that prefix. */
static const char *exchange_prefix(const char *name, const char *from, const char *to, char buffer[NAME_BUFFER])
{
    const size_t n = strlen(from);

    if (strncmp(name, from, n) != 0)
        return NULL;
    snprintf(buffer, NAME_BUFFER, "%s%s", to, name + n);
    return buffer;
}

/* The caller's map works on whole components: "model" is a prefix of "model.norm", not of "models.norm". */
static const char *rename_target(const lorafmt_bind_options *options, const char *name, char buffer[NAME_BUFFER])
{
    const lorafmt_rename *best = NULL;
    const char *rest;

    for (size_t i = 0; i < options->n_renames; i++) {
        const lorafmt_rename *r = &options->renames[i];
        const size_t n = strlen(r->from);
        const bool fits = n == 0 || (strncmp(name, r->from, n) == 0 && (name[n] == '\0' || name[n] == '.' || name[n - 1] == '.'));
        if (fits && (!best || n > strlen(best->from)))
            best = r;
    }
    if (!best)
        return NULL;
    rest = name + strlen(best->from);
    if (best->to[0] == '\0' && *rest == '.')
        rest++;
    snprintf(buffer, NAME_BUFFER, "%s%s%s", best->to, best->to[0] && *rest && *rest != '.' && best->from[0] == '\0' ? "." : "",
             rest);
    return buffer;
}

/* A head that is not stored because it is tied to the embedding, or the other way round. */
static size_t find_tied(const lorafmt_base *base, const char *name, unsigned kind)
{
    if (base->tied == LORAFMT_TIED_NO || kind == LORAFMT_KIND_SAVED)
        return LF_NOT_THERE;
    if (lf_is_head_name(name) && lf_only_head(base) == LF_NOT_THERE)
        return lf_only_embedding(base);
    if (lf_is_embedding_name(name) && lf_only_embedding(base) == LF_NOT_THERE)
        return lf_only_head(base);
    return LF_NOT_THERE;
}

/* Own name or mapped name. */
static void resolve_alone(const lf_binder *binder, lorafmt_bound_site *bound)
{
    const lf_base_index *index = &binder->view->index;
    char buffer[NAME_BUFFER];
    const char *mapped = rename_target(binder->options, bound->site->target, buffer);

    bound->tensor = lf_base_index_find(index, mapped ? mapped : bound->site->target);
    bound->match = bound->tensor == LF_NOT_THERE ? LORAFMT_MATCH_NONE : mapped ? LORAFMT_MATCH_MAP : LORAFMT_MATCH_EXACT;
    if (bound->match == LORAFMT_MATCH_NONE) {
        bound->tensor = find_tied(index->base, bound->site->target, bound->site->kind);
        if (bound->tensor != LF_NOT_THERE)
            bound->match = LORAFMT_MATCH_TIED;
    }
}

static size_t find_over_bridge(const lf_base_index *index, const lorafmt_rename *bridge, const char *target)
{
    char buffer[NAME_BUFFER];
    const char *name = exchange_prefix(target, bridge->from, bridge->to, buffer);
    return name ? lf_base_index_find(index, name) : LF_NOT_THERE;
}

/* How many of the unmatched sites (other than saved ones, which may be new) find a tensor over a bridge. */
static size_t count_over_bridge(const lf_base_index *index, const lorafmt_rename *bridge, const lorafmt_bound_site *sites, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        if (sites[i].match == LORAFMT_MATCH_NONE && sites[i].site->kind != LORAFMT_KIND_SAVED)
            count += find_over_bridge(index, bridge, sites[i].site->target) != LF_NOT_THERE;
    return count;
}

static bool same_mapping(const lf_base_index *index, const lorafmt_rename *a, const lorafmt_rename *b,
                         const lorafmt_bound_site *sites, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sites[i].match == LORAFMT_MATCH_NONE &&
            find_over_bridge(index, a, sites[i].site->target) != find_over_bridge(index, b, sites[i].site->target))
            return false;
    return true;
}

/* The bridge that finds every unmatched site. *rival is set when another one does so too, elsewhere. */
static const lorafmt_rename *find_bridge(const lf_base_index *index, const lorafmt_bound_site *sites, size_t n, size_t n_unmatched,
                                         const lorafmt_rename **rival)
{
    const lorafmt_rename *found = NULL;

    *rival = NULL;
    for (size_t i = 0; i < N_BRIDGES; i++) {
        if (count_over_bridge(index, &bridges[i], sites, n) != n_unmatched)
            continue;
        if (!found)
            found = &bridges[i];
        else if (!same_mapping(index, found, &bridges[i], sites, n))
            *rival = &bridges[i];
    }
    return found;
}

static void cross_bridge(const lf_base_index *index, const lorafmt_rename *bridge, lorafmt_bound_site *sites, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (sites[i].match != LORAFMT_MATCH_NONE)
            continue;
        sites[i].tensor = find_over_bridge(index, bridge, sites[i].site->target);
        if (sites[i].tensor != LF_NOT_THERE)
            sites[i].match = LORAFMT_MATCH_BRIDGE;
    }
}

/* The name of the base that shares the longest tail of whole components with a target: a hint for people. */
static const char *closest_name(const lorafmt_base *base, const char *target)
{
    const char *best = NULL;
    size_t best_length = 0;

    for (size_t i = 0; i < base->n_tensors; i++) {
        const char *name = base->tensors[i].name;
        size_t n = strlen(name), m = strlen(target), same = 0;
        for (size_t k = 1; k <= n && k <= m && name[n - k] == target[m - k]; k++)
            if (name[n - k] == '.')
                same = k;
        if (same > best_length) {
            best_length = same;
            best = name;
        }
    }
    return best_length > sizeof ".weight" ? best : NULL;
}

static void report_unmatched(lf_binder *binder, size_t entry, const lorafmt_site *site)
{
    char buffer[NAME_BUFFER], sibling[LF_MAX_NAME + 64];
    const char *mapped = rename_target(binder->options, site->target, buffer), *name = mapped ? mapped : site->target;
    const char *close = binder->n_problems < MAX_HINTS ? closest_name(binder->view->base, name) : NULL;

    if (lf_has_quantised_sibling(&binder->view->index, name, sibling))
        lf_problem(binder, LORAFMT_UNSUPPORTED, entry, site->target,
                   "the base has %s instead, so it is quantised: merge into the original weights", sibling);
    else
        lf_problem(binder, LORAFMT_MISMATCH, entry, site->target, "the base has no such tensor%s%s%s%s%s",
                   mapped ? ", mapped to " : "", mapped ? mapped : "", close ? "; the closest name is " : "", close ? close : "",
                   binder->n_problems == 0 ? "; a map can say how names correspond" : "");
}

/* Sites that are still without a tensor: new, left out, or a problem. */
static void settle_unmatched(lf_binder *binder, size_t entry, lorafmt_bound_site *sites, size_t n)
{
    size_t n_matched = 0;

    for (size_t i = 0; i < n; i++)
        n_matched += sites[i].match != LORAFMT_MATCH_NONE;
    for (size_t i = 0; i < n; i++) {
        if (sites[i].match != LORAFMT_MATCH_NONE)
            continue;
        if (sites[i].site->kind == LORAFMT_KIND_SAVED && n_matched)
            sites[i].match = LORAFMT_MATCH_NEW;
        else if (!binder->options->allow_unmatched || !n_matched)
            report_unmatched(binder, entry, sites[i].site);
    }
}

lorafmt_status lf_resolve_entry(lf_binder *binder, size_t entry, lorafmt_bound_site *sites, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    const lorafmt_adapter *adapter = view->entries[entry].adapter;
    const size_t n = adapter->n_sites;
    const lorafmt_rename *bridge, *rival;
    size_t n_unmatched = 0;

    for (size_t i = 0; i < n; i++) {
        sites[i] = (lorafmt_bound_site){.entry = entry, .site = &adapter->sites[i]};
        resolve_alone(binder, &sites[i]);
        n_unmatched += sites[i].match == LORAFMT_MATCH_NONE && sites[i].site->kind != LORAFMT_KIND_SAVED;
    }
    if (n_unmatched) {
        bridge = find_bridge(&view->index, sites, n, n_unmatched, &rival);
        if (bridge && rival)
            lf_problem(binder, LORAFMT_MISMATCH, entry, adapter->name,
                       "names fit the base both as '%s*' for '%s*' and as '%s*' for '%s*'; a map can say which", bridge->to,
                       bridge->from, rival->to, rival->from);
        else if (bridge) {
            cross_bridge(&view->index, bridge, sites, n);
            view->bridges[entry] =
                lf_arena_printf(&view->arena, "the adapter's %s* is %s* in the base", bridge->from, bridge->to);
            if (!view->bridges[entry])
                return lf_no_memory(err);
        }
    }
    settle_unmatched(binder, entry, sites, n);
    return LORAFMT_OK;
}
