/* SPDX-License-Identifier: MIT */
/* Where elements of adapters are NaN or infinite. */
#ifndef TOOLS_NONFINITE_H
#define TOOLS_NONFINITE_H

#include "tools/json_out.h"

#include "lorafmt/adapter.h"

#include <stddef.h>
#include <stdint.h>

typedef struct nonfinite {
    const lorafmt_adapter *adapter;
    const lorafmt_site *site;
    const lorafmt_factor *factor;
    uint64_t n; /* elements */
} nonfinite;

typedef struct nonfinite_list {
    nonfinite *items; /* in the order of adapters, sites and factors */
    size_t n, capacity;
} nonfinite_list;

/* Returns an exit code, having said why it is not 0; nonfinite_free() in any case. */
int nonfinite_find(const lorafmt_adapter *const *adapters, size_t n, nonfinite_list *out);
void nonfinite_free(nonfinite_list *list);

/* "nonfinite": [...] */
void nonfinite_json(json_out *j, const nonfinite_list *list);

/* A line for each on stderr, while they are few. */
void nonfinite_print(const nonfinite_list *list);

#endif
