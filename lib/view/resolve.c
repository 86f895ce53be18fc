/* SPDX-License-Identifier: MIT */
/* spec 8: which tensor of the base is each site's. The caller's map first, then the own name, then one bridge for all. */
#include "format/base/error.h"
#include "lib/view/view.h"

#include <stdio.h>
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
static bool rename_fits(const lorafmt_rename *rename, const char *name)
{
    const size_t n = strlen(rename->from);
    return n == 0 || (strncmp(name, rename->from, n) == 0 && (name[n] == '\0' || name[n] == '.' || name[n - 1] == '.'));
}

/* What the caller's map makes of a name, or NULL when no prefix fits; of several the longest counts. */
static const char *rename_target(const lf_rename_map *map, const char *name, char buffer[NAME_BUFFER])
{
    const lorafmt_rename *best = NULL;
    const char *rest;

    for (size_t i = 0; i < map->n; i++)
        if (rename_fits(&map->renames[i], name) && (!best || strlen(map->renames[i].from) > strlen(best->from)))
            best = &map->renames[i];
    if (!best)
        return NULL;
    map->used[best - map->renames] = true;
    rest = name + strlen(best->from);
    if (best->to[0] == '\0' && *rest == '.')
        rest++;
    snprintf(buffer, NAME_BUFFER, "%s%s%s", best->to, best->to[0] && *rest && *rest != '.' && best->from[0] == '\0' ? "." : "",
             rest);
    return buffer;
}

static void check_map(lf_binder *binder, const lf_rename_map *map, size_t entry, const char *whose)
{
    for (size_t i = 0; i < map->n; i++)
        if (!map->used[i])
            lf_problem(binder, LORAFMT_MISMATCH, entry, map->renames[i].from, "the map to '%s' fits no target of %s adapter",
                       map->renames[i].to, whose);
}

void lf_check_renames(lf_binder *binder)
{
    check_map(binder, &binder->map, 0, "any");
    for (size_t i = 0; i < binder->view->n_entries; i++)
        check_map(binder, &binder->own_maps[i], i, "this");
}

/* A head that is not stored because it is tied to the embedding, or the other way round. */
static size_t find_tied(const lorafmt_view *view, const char *name, unsigned kind)
{
    if (view->base->tied == LORAFMT_TIED_NO || kind == LORAFMT_KIND_SAVED)
        return LF_NOT_THERE;
    if (lf_is_head_name(name) && view->head == LF_NOT_THERE)
        return view->embedding;
    if (lf_is_embedding_name(name) && view->embedding == LF_NOT_THERE)
        return view->head;
    return LF_NOT_THERE;
}

/* Own name or mapped name. */
static lorafmt_status resolve_alone(lf_binder *binder, size_t i, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    lorafmt_bound_site *bound = &view->sites[i];
    const lf_rename_map *own = &binder->own_maps[bound->entry];
    char buffer[NAME_BUFFER];
    const char *mapped = rename_target(own->n ? own : &binder->map, bound->site->target, buffer);

    view->names[i] = mapped ? lf_arena_strdup(&view->arena, mapped) : bound->site->target;
    if (!view->names[i])
        return lf_no_memory(err);
    bound->tensor = lf_base_index_find(&view->index, view->names[i]);
    if (bound->tensor != LF_NOT_THERE)
        bound->match = mapped ? LORAFMT_MATCH_MAP : LORAFMT_MATCH_EXACT;
    else {
        bound->tensor = find_tied(view, view->names[i], bound->site->kind);
        bound->match = bound->tensor == LF_NOT_THERE ? LORAFMT_MATCH_NONE : LORAFMT_MATCH_TIED;
    }
    return LORAFMT_OK;
}

/* Mapped sites do not cross bridges: the caller has said where they are. */
static bool may_cross(const lorafmt_view *view, size_t i)
{
    return view->sites[i].match == LORAFMT_MATCH_NONE && view->names[i] == view->sites[i].site->target;
}

static size_t find_over_bridge(const lf_base_index *index, const lorafmt_rename *bridge, const char *target)
{
    char buffer[NAME_BUFFER];
    const char *name = exchange_prefix(target, bridge->from, bridge->to, buffer);
    return name ? lf_base_index_find(index, name) : LF_NOT_THERE;
}

/* Sites of one adapter: [first, first + n) of the view. */
typedef struct span {
    const lorafmt_view *view;
    size_t first, n;
} span;

/*
 * How many of the sites that must find a tensor (saved ones may be new) find one over a bridge; all that are left, without one.
 */
static size_t count_over_bridge(const span *s, const lorafmt_rename *bridge)
{
    size_t count = 0;

    for (size_t i = s->first; i < s->first + s->n; i++)
        if (may_cross(s->view, i) && s->view->sites[i].site->kind != LORAFMT_KIND_SAVED)
            count += !bridge || find_over_bridge(&s->view->index, bridge, s->view->names[i]) != LF_NOT_THERE;
    return count;
}

static bool same_mapping(const span *s, const lorafmt_rename *a, const lorafmt_rename *b)
{
    for (size_t i = s->first; i < s->first + s->n; i++)
        if (may_cross(s->view, i) &&
            find_over_bridge(&s->view->index, a, s->view->names[i]) != find_over_bridge(&s->view->index, b, s->view->names[i]))
            return false;
    return true;
}

/* The bridge that finds every site which is left. *rival is set when another one does so too, elsewhere. */
static const lorafmt_rename *find_bridge(const span *s, const lorafmt_rename **rival)
{
    const size_t n_left = count_over_bridge(s, NULL);
    const lorafmt_rename *found = NULL;

    *rival = NULL;
    for (size_t i = 0; i < N_BRIDGES && n_left; i++) {
        if (count_over_bridge(s, &bridges[i]) != n_left)
            continue;
        if (!found)
            found = &bridges[i];
        else if (!same_mapping(s, found, &bridges[i]))
            *rival = &bridges[i];
    }
    return found;
}

static void cross_bridge(lorafmt_view *view, const span *s, const lorafmt_rename *bridge)
{
    for (size_t i = s->first; i < s->first + s->n; i++) {
        if (!may_cross(view, i))
            continue;
        view->sites[i].tensor = find_over_bridge(&view->index, bridge, view->names[i]);
        if (view->sites[i].tensor != LF_NOT_THERE)
            view->sites[i].match = LORAFMT_MATCH_BRIDGE;
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

static void report_unmatched(lf_binder *binder, size_t i)
{
    const lorafmt_view *view = binder->view;
    const lorafmt_bound_site *bound = &view->sites[i];
    const char *name = view->names[i], *target = bound->site->target;
    const char *close = binder->n_problems < MAX_HINTS ? closest_name(view->base, name) : NULL;
    const bool mapped = name != target;
    char sibling[LF_MAX_NAME + 64];

    if (lf_has_quantised_sibling(&view->index, name, sibling))
        lf_problem(binder, LORAFMT_UNSUPPORTED, bound->entry, target,
                   "the base has %s instead, so it is quantised: merge into the original weights", sibling);
    else {
        lf_problem(binder, LORAFMT_MISMATCH, bound->entry, target, "the base has no such tensor%s%s%s%s",
                   mapped ? ", mapped to " : "", mapped ? name : "", close ? "; the closest name is " : "", close ? close : "");
        lf_problem_hint(binder, close ? LORAFMT_HINT_MAP : LORAFMT_HINT_NONE);
    }
}

/*
 * A saved module may be new, like a classifier's head; a name that only looks new must not be added beside the tensor that was
 * meant. New modules stand on their own: nothing in the base has their first component, and no name there ends in theirs.
 */
static bool may_be_new(const lorafmt_base *base, const char *name)
{
    const size_t first = strcspn(name, "."), length = strlen(name);

    for (size_t i = 0; i < base->n_tensors; i++) {
        const char *there = base->tensors[i].name;
        const size_t n = strlen(there);
        if (strncmp(there, name, first + 1) == 0)
            return false;
        if (n > length && there[n - length - 1] == '.' && strcmp(there + n - length, name) == 0)
            return false;
    }
    return true;
}

/* Sites that are still without a tensor: new, left out, or a problem. */
static void settle_unmatched(lf_binder *binder, const span *s)
{
    lorafmt_view *view = binder->view;
    size_t n_matched = 0;

    for (size_t i = s->first; i < s->first + s->n; i++)
        n_matched += view->sites[i].match != LORAFMT_MATCH_NONE;
    for (size_t i = s->first; i < s->first + s->n; i++) {
        lorafmt_bound_site *bound = &view->sites[i];
        if (bound->match != LORAFMT_MATCH_NONE)
            continue;
        if (bound->site->kind == LORAFMT_KIND_SAVED && n_matched && may_be_new(view->base, view->names[i]))
            bound->match = LORAFMT_MATCH_NEW;
        else if (!binder->options->allow_unmatched || !n_matched)
            report_unmatched(binder, i);
    }
}

lorafmt_status lf_resolve_entry(lf_binder *binder, size_t entry, size_t first, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    const lorafmt_adapter *adapter = view->entries[entry].adapter;
    const double *weights = binder->options->entries ? binder->options->entries[entry].weights : NULL;
    const span s = {view, first, adapter->n_sites};
    const lorafmt_rename *bridge, *rival;

    for (size_t i = 0; i < s.n; i++) {
        view->sites[first + i] = (lorafmt_bound_site){.entry = entry,
                                                      .site = &adapter->sites[i],
                                                      .weight = weights ? weights[i] : view->entries[entry].weight};
        LF_TRY(resolve_alone(binder, first + i, err));
    }
    bridge = find_bridge(&s, &rival);
    if (bridge && rival) {
        lf_problem(binder, LORAFMT_MISMATCH, entry, adapter->name,
                   "names fit the base both as '%s*' for '%s*' and as '%s*' for '%s*'", bridge->to, bridge->from, rival->to,
                   rival->from);
        lf_problem_hint(binder, LORAFMT_HINT_MAP);
    } else if (bridge) {
        cross_bridge(view, &s, bridge);
        view->bridges[entry] = lf_arena_printf(&view->arena, "the adapter's %s* is %s* in the base", bridge->from, bridge->to);
        if (!view->bridges[entry])
            return lf_no_memory(err);
    }
    settle_unmatched(binder, &s);
    return LORAFMT_OK;
}
