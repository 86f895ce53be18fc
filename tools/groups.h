/* SPDX-License-Identifier: MIT */
/* Sites that add to something, by module type or by layer. */
#ifndef TOOLS_GROUPS_H
#define TOOLS_GROUPS_H

#include "tools/facts.h"

typedef struct group {
    const site_facts **sites;
    size_t n;
    bool has_namesake; /* another module type has the same name and another path */
} group;

typedef struct group_list {
    const site_facts **order; /* the sites, those of a group beside each other */
    size_t n_sites;
    group *groups;
    size_t n;
} group_list;

/* By module type and all that a table says of it: kind, rank, alpha, scale. An exit code; groups_free() in any case. */
int group_modules(const adapter_facts *facts, group_list *out);

/* By stack and layer, sites outside of layers last. An exit code; groups_free() in any case. */
int group_layers(const adapter_facts *facts, group_list *out);

void groups_free(group_list *list);

/* The norm of all that the sites of a group add; the number of those whose norm is known in *n_known. */
double group_norm(const group *g, size_t *n_known);

#endif
