/* SPDX-License-Identifier: MIT */
/* Adapters looked at element by element: norms, tensors, and what is odd about them. */
#ifndef TOOLS_FACTS_H
#define TOOLS_FACTS_H

#include "tools/place.h"
#include "tools/stats.h"
#include "tools/tensors.h"

#include "lorafmt/adapter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What all adapters that are looked at have in common. */
typedef struct source_facts {
    tensor_table tensors;
    bool shared_too_much; /* norms are left out: see facts.c */
} source_facts;

typedef struct site_facts {
    const lorafmt_site *site;
    place place;
    bool has_norm; /* false where it depends on the base, or is not known */
    double norm;   /* of what the site adds; with a magnitude, of its low-rank part */
    uint64_t n_bytes;
} site_facts;

/* Counts of parameters, which no file needs to hold, stop here. */
#define COUNT_UNKNOWN UINT64_MAX

typedef struct adapter_facts {
    const lorafmt_adapter *adapter;
    adapter_stats stats;
    site_facts *sites;           /* as many as the adapter has, in its order */
    const tensor_table *tensors; /* of the source */
    bool shared_too_much;
    uint64_t n_low_rank;          /* parameters of low-rank sites */
    uint64_t n_target_parameters; /* of the matrices that they change, or COUNT_UNKNOWN */
    size_t n_magnitudes;          /* sites with one */
} adapter_facts;

/* Both return an exit code, having said why it is not 0; to be freed in any case, what is of a source after its adapters. */
int source_facts_gather(const lorafmt_adapter *const *adapters, size_t n_adapters, source_facts *out);
int adapter_facts_gather(const lorafmt_adapter *adapter, const source_facts *source, adapter_facts *out);
void source_facts_free(source_facts *facts);
void adapter_facts_free(adapter_facts *facts);

/* Are there matrices that its low-rank sites change, and is their size known? */
bool adapter_share_is_known(const adapter_facts *facts);

/* The median of finite numbers, which are put in order; 0 when there are none. */
double median_of(double *x, size_t n);

/* low-rank kinds: spec 4.4 */
bool site_is_low_rank(const lorafmt_site *site);

/* The logical matrix of a low-rank site, a kernel flattened into its inputs. */
typedef struct matrix_shape {
    uint64_t n_experts;   /* of that shape each; 1 for other kinds, 0 when nothing is known */
    uint64_t n_out, n_in; /* n_in may be COUNT_UNKNOWN */
} matrix_shape;

matrix_shape site_shape(const lorafmt_site *site);

#endif
