/* SPDX-License-Identifier: MIT */
#include "lib/scenario/stack.h"

#include "format/base/error.h"
#include "lorakit/compose.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Does a rule alone change the weight of any site? */
static bool rule_is_used(const lorakit_weight_rule *rule, const lorafmt_adapter *adapter)
{
    lorakit_weight_rule marked = *rule;
    const lorakit_scenario_adapter alone = {.weight = 0, .n_rules = 1, .rules = &marked};

    marked.weight = 1;
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (lorakit_scenario_weight(&alone, adapter->sites[i].target) != 0)
            return true;
    return false;
}

static const char *rule_text(const lorakit_weight_rule *rule, char buf[sizeof((lorafmt_error *)0)->text])
{
    const size_t size = sizeof((lorafmt_error *)0)->text;

    if (rule->has_layers)
        snprintf(buf, size, "%s in layers %" PRIu32 "-%" PRIu32, rule->target ? rule->target : "*", rule->first_layer,
                 rule->last_layer);
    else
        snprintf(buf, size, "%s", rule->target);
    return buf;
}

static const char *first_target(const lorafmt_adapter *adapter)
{
    return adapter->n_sites ? adapter->sites[0].target : "none";
}

/* What was meant for something must not be for nothing. */
static lorafmt_status check_rules(const lorakit_scenarios *set, const lk_stack *s, size_t entry, lorafmt_error *err)
{
    const lorakit_scenario_adapter *a = &s->scenario->adapters[entry];
    char field[sizeof err->field], text[sizeof err->text];

    for (size_t i = 0; i < a->n_rules; i++) {
        if (rule_is_used(&a->rules[i], s->entries[entry].adapter))
            continue;
        snprintf(field, sizeof field, "scenarios.%s.adapters[%zu].weights[%zu]", s->scenario->name, entry, i);
        lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, field, "no target of '%s' matches: %.600s; its first is %.300s",
                set->manifest->adapters[a->adapter].name, rule_text(&a->rules[i], text), first_target(s->entries[entry].adapter));
        lf_error_set_file(err, set->manifest->path);
        return LORAFMT_MISMATCH;
    }
    return LORAFMT_OK;
}

static lorafmt_status fill_entry(lorakit_scenarios *set, lk_stack *s, size_t i, lorafmt_error *err)
{
    const lorakit_scenario_adapter *a = &s->scenario->adapters[i];
    const lorakit_manifest_adapter *named = &set->manifest->adapters[a->adapter];
    const lorafmt_adapter *adapter;
    double *weights;

    LF_TRY(lk_set_adapter(set, a->adapter, &s->opened[i], err));
    adapter = s->opened[i]->adapter;
    s->entries[i] = (lorafmt_stack_entry){adapter, a->weight};
    s->options[i] = (lorafmt_entry_options){.renames = named->map, .n_renames = named->n_map};
    if (a->n_rules == 0)
        return LORAFMT_OK;
    LF_TRY(check_rules(set, s, i, err));
    if (!(weights = lf_arena_alloc(&s->arena, adapter->n_sites, sizeof *weights)))
        return lf_no_memory(err);
    for (size_t k = 0; k < adapter->n_sites; k++)
        weights[k] = lorakit_scenario_weight(a, adapter->sites[k].target);
    s->options[i].weights = weights;
    return LORAFMT_OK;
}

lorafmt_status lk_stack_open(lorakit_scenarios *set, size_t scenario, lk_stack *out, lorafmt_error *err)
{
    size_t n;

    *out = (lk_stack){0};
    if (scenario >= set->manifest->n_scenarios)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "scenario %zu, the manifest has %zu", scenario,
                       set->manifest->n_scenarios);
    out->scenario = &set->manifest->scenarios[scenario];
    n = out->scenario->n_adapters;
    out->opened = lf_arena_alloc(&out->arena, n, sizeof *out->opened);
    out->entries = lf_arena_alloc(&out->arena, n, sizeof *out->entries);
    out->options = lf_arena_alloc(&out->arena, n, sizeof *out->options);
    if (!out->opened || !out->entries || !out->options)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        LF_TRY(fill_entry(set, out, i, err));
    return LORAFMT_OK;
}

void lk_stack_free(lk_stack *stack)
{
    lf_arena_free(&stack->arena);
}

lorafmt_status lorakit_scenarios_bind(lorakit_scenarios *set, size_t scenario,
                                      void (*report)(void *ctx, const char *adapter, const char *target, const char *text),
                                      void *report_ctx, lorafmt_view **out, lorafmt_error *err)
{
    lorafmt_bind_options options = {.struct_size = sizeof options, .report = report, .report_ctx = report_ctx};
    lk_stack stack;
    lorafmt_status st;

    *out = NULL;
    st = lk_stack_open(set, scenario, &stack, err);
    options.entries = stack.options;
    if (!st)
        st = lorafmt_bind(lorafmt_model_base(set->model), stack.entries, stack.scenario->n_adapters, &options, out, err);
    lk_stack_free(&stack);
    return st;
}

/* --- as one adapter --- */

/* A pattern that matches one text. */
static char *exact_pattern(lf_arena *arena, const char *text)
{
    char *pattern = lf_arena_alloc(arena, 2 * strlen(text) + 1, 1), *to = pattern;

    for (; to && *text; *to++ = *text++)
        if (strchr("*?[]\\", *text))
            *to++ = '\\';
    return pattern;
}

/* One for each site, in the order of targets: what matches "x.weight" by being "x" comes before what is "x.weight". */
static lorafmt_status list_weights(lk_stack *s, lorakit_compose_options *options, lorafmt_error *err)
{
    lorakit_weight *weights;
    size_t n = 0;

    for (size_t i = 0; i < s->scenario->n_adapters; i++)
        n += s->options[i].weights ? s->entries[i].adapter->n_sites : 0;
    if (!(weights = lf_arena_alloc(&s->arena, n, sizeof *weights)))
        return lf_no_memory(err);
    options->weights = weights;
    options->n_weights = n;
    for (size_t i = 0; i < s->scenario->n_adapters; i++)
        for (size_t k = 0; s->options[i].weights && k < s->entries[i].adapter->n_sites; k++, weights++) {
            *weights =
                (lorakit_weight){i, exact_pattern(&s->arena, s->entries[i].adapter->sites[k].target), s->options[i].weights[k]};
            if (!weights->pattern)
                return lf_no_memory(err);
        }
    return LORAFMT_OK;
}

static lorafmt_status check_composable(const lorakit_scenarios *set, const lk_stack *s, lorafmt_error *err)
{
    if (s->scenario->n_adapters == 0)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL, "it is the base itself, which no adapter makes");
    for (size_t i = 0; i < s->scenario->n_adapters; i++)
        if (s->options[i].n_renames)
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                           "adapter '%s' has a map, which a .lora does not carry: build it as a model",
                           set->manifest->adapters[s->scenario->adapters[i].adapter].name);
    return LORAFMT_OK;
}

static lorafmt_status compose(lorakit_scenarios *set, lk_stack *s, lorakit_adapter **out, lorafmt_error *err)
{
    lorakit_compose_options options = {.struct_size = sizeof options,
                                       .name = s->scenario->name,
                                       .n_threads = set->options.n_threads};
    lorakit_term *terms = lf_arena_alloc(&s->arena, s->scenario->n_adapters, sizeof *terms);

    LF_TRY(check_composable(set, s, err));
    if (!terms)
        return lf_no_memory(err);
    for (size_t i = 0; i < s->scenario->n_adapters; i++)
        terms[i] = (lorakit_term){s->entries[i].adapter, s->entries[i].weight};
    LF_TRY(list_weights(s, &options, err));
    return lorakit_compose(terms, s->scenario->n_adapters, &options, out, NULL, NULL, err);
}

static lorafmt_status check_fits(const lorakit_scenarios *set, const lorakit_adapter *adapter, lorafmt_error *err)
{
    const lorafmt_bind_options options = {.struct_size = sizeof options, .check_only = true};
    const lorafmt_stack_entry entry = {lorakit_adapter_get(adapter), 1};
    lorafmt_view *view;

    LF_TRY(lorafmt_bind(lorafmt_model_base(set->model), &entry, 1, &options, &view, err));
    lorafmt_view_free(view);
    return LORAFMT_OK;
}

lorafmt_status lorakit_scenarios_compose(lorakit_scenarios *set, size_t scenario, lorakit_adapter **out, lorafmt_error *err)
{
    lk_stack stack;
    lorafmt_status st;

    *out = NULL;
    st = lk_stack_open(set, scenario, &stack, err);
    if (!st)
        st = compose(set, &stack, out, err);
    if (!st && (st = check_fits(set, *out, err))) {
        lorakit_adapter_free(*out);
        *out = NULL;
    }
    lk_stack_free(&stack);
    return st;
}
