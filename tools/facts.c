/* SPDX-License-Identifier: MIT */
#include "tools/facts.h"

#include "tools/command.h"
#include "tools/message.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * A norm takes steps for every element of its site's factors. Sites may share tensors, and a small file may name a large tensor
 * a million times; where all norms would take more than this many times the steps of an honest file, in which each tensor is used
 * once, they are left out. Adapters that were not trained yet may share the zeros of every B: that takes up to 1 + out / in times.
 */
#define MOST_SHARING 8

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

static uint64_t count_add(uint64_t a, uint64_t b)
{
    return a < COUNT_UNKNOWN - b ? a + b : COUNT_UNKNOWN;
}

static uint64_t count_multiply(uint64_t a, uint64_t b)
{
    return b && a > COUNT_UNKNOWN / b ? COUNT_UNKNOWN : a * b;
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
        shape.n_in = count_multiply(shape.n_in, mid->tensor.shape[i]);
    return shape;
}

static uint64_t count_targets(const lorafmt_site *site)
{
    const matrix_shape shape = site_shape(site);

    return count_multiply(count_multiply(shape.n_experts, shape.n_out), shape.n_in);
}

/*
 * What the norm of a site takes for each element of its factors: one to read it, and for A and B rank^2 (in + out) or
 * rank * in * out over rank (in + out) elements, whichever is less.
 */
static double steps_per_element(const lorafmt_site *site)
{
    const matrix_shape shape = site_shape(site);
    const double rank = site->rank, in = (double)shape.n_in, out = (double)shape.n_out;

    if (site->kind == LORAFMT_KIND_ADDITIVE)
        return 1;
    if (!site_is_low_rank(site) || !shape.n_experts)
        return 0;
    return 1 + fmin(rank, in * out / (in + out));
}

static double steps_of_adapter(const lorafmt_adapter *adapter)
{
    double steps = 0;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        for (uint32_t f = 0; f < site->n_factors; f++)
            steps += steps_per_element(site) * (double)tensor_n_elements(&site->factors[f].tensor);
    }
    return steps;
}

static double steps_of_tensors(const tensor_table *tensors)
{
    double steps = 0;

    for (size_t i = 0; i < tensors->n; i++)
        steps += steps_per_element(tensors->entries[i].site) * (double)tensor_n_elements(tensors->entries[i].tensor);
    return steps;
}

int source_facts_gather(const lorafmt_adapter *const *adapters, size_t n_adapters, source_facts *out)
{
    double steps = 0;
    int code = tensor_table_make(adapters, n_adapters, &out->tensors);

    for (size_t i = 0; i < n_adapters; i++)
        steps += steps_of_adapter(adapters[i]);
    out->shared_too_much = steps > MOST_SHARING * steps_of_tensors(&out->tensors);
    return code;
}

void source_facts_free(source_facts *facts)
{
    tensor_table_free(&facts->tensors);
}

static int gather_site(const lorafmt_site *site, adapter_facts *facts, site_facts *out)
{
    lorafmt_status status = LORAFMT_UNSUPPORTED;
    lorafmt_error err;

    *out = (site_facts){.site = site, .place = place_of(site->target)};
    facts->n_magnitudes += lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE) != NULL;
    for (uint32_t f = 0; f < site->n_factors; f++) {
        out->n_bytes += site->factors[f].tensor.size;
        if (site_is_low_rank(site))
            facts->n_low_rank += tensor_n_elements(&site->factors[f].tensor);
    }
    if (site_is_low_rank(site))
        facts->n_target_parameters = count_add(facts->n_target_parameters, count_targets(site));
    if (!facts->shared_too_much)
        status = lorafmt_site_norm(site, &out->norm, &err);
    if (status && status != LORAFMT_UNSUPPORTED)
        return message_failure(&err, NULL);
    out->has_norm = status == LORAFMT_OK;
    return EXIT_DONE;
}

int adapter_facts_gather(const lorafmt_adapter *adapter, const source_facts *source, adapter_facts *out)
{
    int code = EXIT_DONE;

    *out = (adapter_facts){.adapter = adapter, .tensors = &source->tensors, .shared_too_much = source->shared_too_much};
    adapter_stats_count(adapter, &out->stats);
    if (!(out->sites = calloc(adapter->n_sites, sizeof *out->sites)))
        return message_no_memory();
    for (size_t i = 0; i < adapter->n_sites && code == EXIT_DONE; i++)
        code = gather_site(&adapter->sites[i], out, &out->sites[i]);
    return code;
}

bool adapter_share_is_known(const adapter_facts *facts)
{
    return facts->n_target_parameters && facts->n_target_parameters != COUNT_UNKNOWN;
}

void adapter_facts_free(adapter_facts *facts)
{
    free(facts->sites);
    memset(facts, 0, sizeof *facts);
}
