/* SPDX-License-Identifier: MIT */
/* spec/manifest.md 3.5: first each scenario by itself, then each with all that it extends. */
#include "lib/scenario/manifest.h"

#include "format/base/error.h"
#include "format/base/text.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CHAIN 32        /* scenarios that extend each other, and the first */
#define MAX_ENTRIES 65536   /* adapters and labels of all scenarios, with those of what they extend */
#define MAX_LAYER 999999999 /* what nine digits can say */

/* A scenario as it is written. */
typedef struct written {
    const lk_yaml *node;
    const lk_yaml *extends; /* NULL = nothing */
    size_t parent;          /* which scenario that is */
    lorakit_scenario own;
} written;

typedef struct scenarios {
    lk_manifest *m;
    const lk_yaml *node, *adapters; /* the mappings of the manifest; adapters may be NULL */
    lorafmt_dtype default_dtype;
    written *all;
    size_t n_entries;
} scenarios;

/* --- rules --- */

static bool read_layer(const char **text, uint32_t *out)
{
    const size_t n = strspn(*text, "0123456789");

    if (n == 0 || n > 9 || (n > 1 && **text == '0'))
        return false;
    *out = (uint32_t)strtoul(*text, NULL, 10);
    *text += n;
    return true;
}

/* N or N-M; the first of these is a number to YAML. */
static lorafmt_status read_layers(const lk_yaml *node, lorakit_weight_rule *rule, lorafmt_error *err)
{
    const char *text = node->text;
    bool good;

    rule->has_layers = true;
    good = node->kind == LK_YAML_SCALAR && read_layer(&text, &rule->first_layer);
    rule->last_layer = rule->first_layer;
    if (good && *text == '-') {
        text++;
        good = read_layer(&text, &rule->last_layer);
    }
    if (!good || *text)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "must be a layer, N, or the first and last of several, N-M; 0..%d",
                            MAX_LAYER);
    if (rule->first_layer > rule->last_layer)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "layers %s: the first must not be after the last", node->text);
    return LORAFMT_OK;
}

static lorafmt_status read_rule(const lk_yaml *node, lorakit_weight_rule *rule, lorafmt_error *err)
{
    static const char *const keys[] = {"target", "layers", "weight", NULL};
    const lk_yaml *target, *layers, *weight;

    LF_TRY(lk_yaml_mapping(node, keys, err));
    target = lk_yaml_get(node, "target");
    layers = lk_yaml_get(node, "layers");
    if (!target && !layers)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err,
                            "must have target or layers, or both; else the adapter's weight is meant");
    if (target)
        LF_TRY(lk_yaml_nonempty(target, &rule->target, err));
    if (layers)
        LF_TRY(read_layers(layers, rule, err));
    LF_TRY(lk_yaml_require(node, "weight", &weight, err));
    return lk_yaml_number(weight, &rule->weight, err);
}

static lorafmt_status read_rules(lk_manifest *m, const lk_yaml *node, lorakit_scenario_adapter *entry, lorafmt_error *err)
{
    lorakit_weight_rule *rules;

    LF_TRY(lk_yaml_sequence(node, err));
    entry->rules = rules = lf_arena_alloc(&m->arena, node->n, sizeof *rules);
    if (!rules)
        return lf_no_memory(err);
    for (size_t i = 0; i < node->n; i++)
        LF_TRY(read_rule(node->value[i], &rules[i], err));
    entry->n_rules = node->n;
    return LORAFMT_OK;
}

/* --- a scenario by itself --- */

/* As on the command line, where there are no keys. */
static lorafmt_status refuse_equals_sign(const lk_yaml *name, lorafmt_error *err)
{
    const char *equals = strchr(name->text, '=');

    return equals
               ? lk_yaml_fail(name, LORAFMT_CORRUPT, err, "%.64s, a weight has a key of its own: {adapter: %.*s, weight: %.32s}",
                              name->text, (int)(equals - name->text < 64 ? equals - name->text : 64), name->text, equals + 1)
               : LORAFMT_OK;
}

static lorafmt_status read_entry(const scenarios *s, const lk_yaml *node, lorakit_scenario_adapter *entry, lorafmt_error *err)
{
    static const char *const keys[] = {"adapter", "weight", "weights", NULL};
    const lk_yaml *name = node, *weight, *rules;

    entry->weight = 1;
    if (node->kind == LK_YAML_SCALAR) {
        LF_TRY(refuse_equals_sign(name, err));
        return lk_yaml_find(s->adapters, name, &entry->adapter, err);
    }
    LF_TRY(lk_yaml_mapping(node, keys, err));
    LF_TRY(lk_yaml_require(node, "adapter", &name, err));
    LF_TRY(lk_yaml_find(s->adapters, name, &entry->adapter, err));
    weight = lk_yaml_get(node, "weight");
    if (weight)
        LF_TRY(lk_yaml_number(weight, &entry->weight, err));
    rules = lk_yaml_get(node, "weights");
    return rules ? read_rules(s->m, rules, entry, err) : LORAFMT_OK;
}

static lorakit_scenario_adapter *find_entry(lorakit_scenario_adapter *entries, size_t n, size_t adapter)
{
    for (size_t i = 0; i < n; i++)
        if (entries[i].adapter == adapter)
            return &entries[i];
    return NULL;
}

static lorafmt_status read_entries(const scenarios *s, const lk_yaml *node, lorakit_scenario *own, lorafmt_error *err)
{
    lorakit_scenario_adapter *entries;

    if (!node)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_sequence(node, err));
    own->adapters = entries = lf_arena_alloc(&s->m->arena, node->n, sizeof *entries);
    if (!entries)
        return lf_no_memory(err);
    for (size_t i = 0; i < node->n; i++) {
        LF_TRY(read_entry(s, node->value[i], &entries[i], err));
        if (find_entry(entries, i, entries[i].adapter))
            return lk_yaml_fail(node->value[i], LORAFMT_CORRUPT, err, "the adapter %s is in this scenario twice",
                                s->m->shown.adapters[entries[i].adapter].name);
    }
    own->n_adapters = node->n;
    return LORAFMT_OK;
}

static lorafmt_status read_labels(lk_manifest *m, const lk_yaml *node, lorakit_scenario *own, lorafmt_error *err)
{
    lorakit_label *labels;

    if (!node)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_mapping(node, NULL, err));
    own->labels = labels = lf_arena_alloc(&m->arena, node->n, sizeof *labels);
    if (!labels)
        return lf_no_memory(err);
    for (size_t i = 0; i < node->n; i++) {
        labels[i].key = node->by_key[i]->key->text;
        LF_TRY(lk_yaml_text(node->by_key[i], &labels[i].value, err));
    }
    own->n_labels = node->n;
    return LORAFMT_OK;
}

static lorafmt_status read_written(const scenarios *s, written *w, lorafmt_error *err)
{
    static const char *const keys[] = {"description", "labels", "dtype", "extends", "adapters", NULL};
    const lk_yaml *description;

    LF_TRY(lk_manifest_check_name(w->node, err));
    w->own.name = w->node->key->text;
    if (strcmp(w->own.name, "base") == 0)
        return lk_yaml_fail(w->node->key, LORAFMT_CORRUPT, err, "the name base is that of the base itself; choose another");
    LF_TRY(lk_yaml_mapping(w->node, keys, err));
    description = lk_yaml_get(w->node, "description");
    if (description)
        LF_TRY(lk_yaml_text(description, &w->own.description, err));
    LF_TRY(read_labels(s->m, lk_yaml_get(w->node, "labels"), &w->own, err));
    LF_TRY(lk_manifest_read_dtype(lk_yaml_get(w->node, "dtype"), &w->own.dtype, err));
    w->extends = lk_yaml_get(w->node, "extends");
    if (w->extends)
        LF_TRY(lk_yaml_find(s->node, w->extends, &w->parent, err));
    return read_entries(s, lk_yaml_get(w->node, "adapters"), &w->own, err);
}

/* --- with what it extends --- */

/* The scenario and what it extends, itself first. */
static lorafmt_status find_chain(const scenarios *s, written *w, written *chain[MAX_CHAIN], size_t *n, lorafmt_error *err)
{
    *n = 0;
    for (written *at = w;; at = &s->all[at->parent]) {
        if (*n == MAX_CHAIN)
            return lk_yaml_fail(w->extends, LORAFMT_LIMIT, err, "extends more than %d scenarios, one after the other",
                                MAX_CHAIN - 1);
        chain[(*n)++] = at;
        if (!at->extends)
            return LORAFMT_OK;
        for (size_t i = 0; i < *n; i++)
            if (chain[i] == &s->all[at->parent])
                return lk_yaml_fail(at->extends, LORAFMT_CORRUPT, err, "%s extends itself%s%s", chain[i]->own.name,
                                    chain[i] == at ? "" : " by way of ", chain[i] == at ? "" : at->own.name);
    }
}

static lorafmt_status count_entries(scenarios *s, written *const *chain, size_t n, const lk_yaml *node, lorafmt_error *err)
{
    for (size_t i = 0; i < n; i++)
        s->n_entries += chain[i]->own.n_adapters + chain[i]->own.n_labels;
    return s->n_entries <= MAX_ENTRIES
               ? LORAFMT_OK
               : lk_yaml_fail(node, LORAFMT_LIMIT, err, "more than %d adapters and labels in all scenarios with what they extend",
                              MAX_ENTRIES);
}

/* One that is named again takes the earlier one's place. */
static size_t put_adapters(lorakit_scenario_adapter *entries, size_t n, const lorakit_scenario *own)
{
    for (size_t i = 0; i < own->n_adapters; i++) {
        lorakit_scenario_adapter *earlier = find_entry(entries, n, own->adapters[i].adapter);
        *(earlier ? earlier : &entries[n++]) = own->adapters[i];
    }
    return n;
}

static int by_label(const void *a, const void *b)
{
    const lorakit_label *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* Both ascending: one of the same key takes the earlier one's place. */
static size_t put_labels(lorakit_label *labels, size_t n, const lorakit_scenario *own)
{
    size_t end = n;

    for (size_t i = 0; i < own->n_labels; i++) {
        lorakit_label *earlier = n ? bsearch(&own->labels[i], labels, n, sizeof *labels, by_label) : NULL;
        *(earlier ? earlier : &labels[end++]) = own->labels[i];
    }
    if (end)
        qsort(labels, end, sizeof *labels, by_label);
    return end;
}

static lorafmt_status combine(scenarios *s, written *const *chain, size_t n, lorakit_scenario *out, lorafmt_error *err)
{
    size_t most_adapters = 0, most_labels = 0;
    lorakit_scenario_adapter *adapters;
    lorakit_label *labels;

    for (size_t i = 0; i < n; i++) {
        most_adapters += chain[i]->own.n_adapters;
        most_labels += chain[i]->own.n_labels;
    }
    out->adapters = adapters = lf_arena_alloc(&s->m->arena, most_adapters, sizeof *adapters);
    out->labels = labels = lf_arena_alloc(&s->m->arena, most_labels, sizeof *labels);
    if (!adapters || !labels)
        return lf_no_memory(err);
    out->name = chain[0]->own.name;
    out->description = chain[0]->own.description;
    out->dtype = s->default_dtype;
    for (size_t i = n; i-- > 0;) {
        const lorakit_scenario *own = &chain[i]->own;
        out->n_adapters = put_adapters(adapters, out->n_adapters, own);
        out->n_labels = put_labels(labels, out->n_labels, own);
        out->dtype = own->dtype ? own->dtype : out->dtype;
    }
    return LORAFMT_OK;
}

static lorafmt_status combine_all(scenarios *s, lorakit_scenario *out, lorafmt_error *err)
{
    for (size_t i = 0; i < s->node->n; i++) {
        written *chain[MAX_CHAIN];
        size_t n;
        LF_TRY(find_chain(s, &s->all[i], chain, &n, err));
        LF_TRY(count_entries(s, chain, n, s->node->value[i], err));
        LF_TRY(combine(s, chain, n, &out[i], err));
    }
    return LORAFMT_OK;
}

lorafmt_status lk_manifest_read_scenarios(lk_manifest *m, const lk_yaml *root, lorafmt_dtype default_dtype, lorafmt_error *err)
{
    scenarios s = {.m = m, .default_dtype = default_dtype};
    lorakit_scenario *out;

    s.node = lk_yaml_get(root, "scenarios");
    s.adapters = lk_yaml_get(root, "adapters");
    if (!s.node)
        return LORAFMT_OK;
    LF_TRY(lk_yaml_mapping(s.node, NULL, err));
    s.all = lf_arena_alloc(&m->arena, s.node->n, sizeof *s.all);
    m->shown.scenarios = out = lf_arena_alloc(&m->arena, s.node->n, sizeof *out);
    if (!s.all || !out)
        return lf_no_memory(err);
    for (size_t i = 0; i < s.node->n; i++) {
        s.all[i].node = s.node->value[i];
        LF_TRY(read_written(&s, &s.all[i], err));
    }
    LF_TRY(combine_all(&s, out, err));
    m->shown.n_scenarios = s.node->n;
    return LORAFMT_OK;
}

/* --- weights --- */

static bool is_in_layers(const lorakit_weight_rule *rule, const char *target)
{
    size_t n;
    const char *number = lf_target_layer(target, &n);
    const uint64_t layer = number ? strtoull(number, NULL, 10) : 0;

    return number && layer >= rule->first_layer && layer <= rule->last_layer;
}

static bool rule_matches(const lorakit_weight_rule *rule, const char *target)
{
    if (rule->target && !lf_target_matches(rule->target, target))
        return false;
    return !rule->has_layers || is_in_layers(rule, target);
}

double lorakit_scenario_weight(const lorakit_scenario_adapter *adapter, const char *target)
{
    double weight = adapter->weight;

    for (size_t i = 0; i < adapter->n_rules; i++)
        if (rule_matches(&adapter->rules[i], target))
            weight = adapter->rules[i].weight;
    return weight;
}
