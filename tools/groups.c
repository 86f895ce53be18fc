/* SPDX-License-Identifier: MIT */
#include "tools/groups.h"

#include "tools/command.h"
#include "tools/message.h"

#include <math.h>
#include <stdlib.h>

typedef int compare_sites(const void *a, const void *b);

static int compare_numbers(double a, double b)
{
    return (a > b) - (a < b);
}

static int compare_modules(const void *a_, const void *b_)
{
    const site_facts *a = *(const site_facts *const *)a_, *b = *(const site_facts *const *)b_;
    int order = span_compare(a->place.module, b->place.module);

    if (!order)
        order = path_compare(a->place.path, b->place.path);
    if (!order)
        order = (int)a->site->kind - (int)b->site->kind;
    if (!order)
        order = compare_numbers(a->site->rank, b->site->rank);
    if (!order)
        order = compare_numbers(a->site->alpha, b->site->alpha);
    return order ? order : compare_numbers(a->site->scale, b->site->scale);
}

static int compare_layers(const void *a_, const void *b_)
{
    const site_facts *a = *(const site_facts *const *)a_, *b = *(const site_facts *const *)b_;
    int order = (int)b->place.has_layer - (int)a->place.has_layer;

    if (!order)
        order = span_compare(a->place.stack, b->place.stack);
    return order ? order : (a->place.layer > b->place.layer) - (a->place.layer < b->place.layer);
}

static int group_sites(const adapter_facts *facts, compare_sites *compare, group_list *out)
{
    const size_t n = facts->adapter->n_sites;

    *out = (group_list){.order = calloc(n, sizeof(const site_facts *)), .groups = calloc(n, sizeof *out->groups)};
    if (!out->order || !out->groups)
        return message_no_memory();
    for (size_t i = 0; i < n; i++)
        if (site_is_low_rank(facts->sites[i].site) || facts->sites[i].site->kind == LORAFMT_KIND_ADDITIVE)
            out->order[out->n_sites++] = &facts->sites[i];
    qsort(out->order, out->n_sites, sizeof(const site_facts *), compare);
    for (size_t i = 0, end; i < out->n_sites; i = end) {
        for (end = i + 1; end < out->n_sites && !compare(&out->order[i], &out->order[end]);)
            end++;
        out->groups[out->n++] = (group){.sites = out->order + i, .n = end - i};
    }
    return EXIT_DONE;
}

/* Groups of one module name lie beside each other, in the order of their paths. */
static void find_namesakes(group_list *list)
{
    for (size_t i = 0, end; i < list->n; i = end) {
        const span name = list->groups[i].sites[0]->place.module;
        for (end = i + 1; end < list->n && !span_compare(name, list->groups[end].sites[0]->place.module);)
            end++;
        if (path_compare(list->groups[i].sites[0]->place.path, list->groups[end - 1].sites[0]->place.path))
            for (size_t k = i; k < end; k++)
                list->groups[k].has_namesake = true;
    }
}

int group_modules(const adapter_facts *facts, group_list *out)
{
    const int code = group_sites(facts, compare_modules, out);

    if (code == EXIT_DONE)
        find_namesakes(out);
    return code;
}

int group_layers(const adapter_facts *facts, group_list *out)
{
    return group_sites(facts, compare_layers, out);
}

void groups_free(group_list *list)
{
    free(list->order);
    free(list->groups);
}

double group_norm(const group *g, size_t *n_known)
{
    double square = 0;

    *n_known = 0;
    for (size_t i = 0; i < g->n; i++)
        if (g->sites[i]->has_norm) {
            square += g->sites[i]->norm * g->sites[i]->norm;
            ++*n_known;
        }
    return sqrt(square);
}
