/* SPDX-License-Identifier: MIT */
/* An adapter in a few numbers. */
#ifndef TOOLS_STATS_H
#define TOOLS_STATS_H

#include "lorafmt/adapter.h"
#include "tools/json_out.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATS_TEXT_SIZE 320 /* all kinds, or all dtypes */
#define STATS_VALUES 4

/* The different values of a number, ascending, while they are few; and their range. */
typedef struct number_set {
    double values[STATS_VALUES];
    size_t n; /* one more than there is room for means many */
    double least, greatest;
} number_set;

typedef struct adapter_stats {
    size_t n_kind[LORAFMT_KIND_EXPERTS + 1]; /* by kind; [0] counts kinds of a newer format */
    size_t n_dtype[LORAFMT_F8_E5M2FNUZ + 1]; /* of factors; [0] counts dtypes of a newer format */
    number_set rank, alpha, scale;           /* of the sites that have one */
    uint64_t n_parameters;
    uint64_t n_bytes; /* of tensors, each as often as it is used */
} adapter_stats;

void adapter_stats_count(const lorafmt_adapter *adapter, adapter_stats *out);

/* "2", "4, 8" or "1 .. 64"; "none". All return buf. */
const char *number_set_text(const number_set *set, char buf[STATS_TEXT_SIZE]);

/* "42 linear, 1 saved" */
const char *stats_kinds_text(const adapter_stats *stats, char buf[STATS_TEXT_SIZE]);

/* "F32, I64" */
const char *stats_dtypes_text(const adapter_stats *stats, char buf[STATS_TEXT_SIZE]);

/* "id": spec 6.1, for an adapter of any kind of input. */
void json_adapter_id(json_out *j, const lorafmt_adapter *adapter);

bool site_has_scale(const lorafmt_site *site);
bool site_has_alpha(const lorafmt_site *site);

#endif
