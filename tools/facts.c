/* SPDX-License-Identifier: MIT */
#include "tools/facts.h"

#include "tools/command.h"
#include "tools/message.h"

#include <stdlib.h>
#include <string.h>

/*
 * A norm reads the tensors of its site. Sites may share tensors, and a small file may name a large tensor a million times; where
 * sites would read more than this many times what there is, norms are left out.
 */
#define MOST_SHARING 64

static int compare_doubles(const void *a_, const void *b_)
{
    const double a = *(const double *)a_, b = *(const double *)b_;

    return (a > b) - (a < b);
}

double median_of(double *x, size_t n)
{
    if (n == 0)
        return 0;
    qsort(x, n, sizeof *x, compare_doubles);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

bool site_is_low_rank(const lorafmt_site *site)
{
    return site->kind >= LORAFMT_KIND_LINEAR && site->kind <= LORAFMT_KIND_EXPERTS;
}

matrix_shape site_shape(const lorafmt_site *site)
{
    const lorafmt_factor *a = lorafmt_site_factor(site, LORAFMT_ROLE_A), *b = lorafmt_site_factor(site, LORAFMT_ROLE_B);
    const lorafmt_factor *mid = lorafmt_site_factor(site, LORAFMT_ROLE_MID);
    matrix_shape shape = {.n_experts = 1};

    if (!site->rank || !a || !b || a->tensor.n_dims < 2 || b->tensor.n_dims < 2)
        return (matrix_shape){.n_experts = 0}; // beside a factor of a newer format these may be anything
    if (site->kind == LORAFMT_KIND_EXPERTS && a->tensor.shape[0] >= site->rank)
        shape.n_experts = a->tensor.shape[0] / site->rank;
    shape.n_out = b->tensor.shape[0] / shape.n_experts;
    shape.n_in = tensor_n_elements(&a->tensor) / a->tensor.shape[0];
    for (uint32_t i = 2; mid && i < mid->tensor.n_dims; i++)
        shape.n_in *= mid->tensor.shape[i];
    return shape;
}

static int gather_site(const lorafmt_site *site, adapter_facts *facts, site_facts *out)
{
    lorafmt_status status = LORAFMT_UNSUPPORTED;
    matrix_shape shape;
    lorafmt_error err;

    *out = (site_facts){.site = site, .place = place_of(site->target)};
    facts->n_magnitudes += lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE) != NULL;
    for (uint32_t f = 0; f < site->n_factors; f++) {
        out->n_bytes += site->factors[f].tensor.size;
        if (site_is_low_rank(site))
            facts->n_low_rank += tensor_n_elements(&site->factors[f].tensor);
    }
    if (site_is_low_rank(site)) {
        shape = site_shape(site);
        facts->n_target_parameters += shape.n_experts * shape.n_out * shape.n_in;
    }
    if (!facts->shared_too_much)
        status = lorafmt_site_norm(site, &out->norm, &err);
    if (status && status != LORAFMT_UNSUPPORTED)
        return message_failure(&err, NULL);
    out->has_norm = status == LORAFMT_OK;
    return EXIT_DONE;
}

int adapter_facts_gather(const lorafmt_adapter *adapter, adapter_facts *out)
{
    int code;

    memset(out, 0, sizeof *out);
    out->adapter = adapter;
    adapter_stats_count(adapter, &out->stats);
    if ((code = tensor_table_make(adapter, &out->tensors)) != EXIT_DONE)
        return code;
    out->shared_too_much = out->stats.n_bytes / MOST_SHARING > out->tensors.n_bytes;
    if (!(out->sites = calloc(adapter->n_sites, sizeof *out->sites)))
        return message_no_memory();
    for (size_t i = 0; i < adapter->n_sites && code == EXIT_DONE; i++)
        code = gather_site(&adapter->sites[i], out, &out->sites[i]);
    return code;
}

void adapter_facts_free(adapter_facts *facts)
{
    free(facts->sites);
    tensor_table_free(&facts->tensors);
    memset(facts, 0, sizeof *facts);
}
