/* SPDX-License-Identifier: MIT */
#include "lorakit/resize.h"

#include "format/base/error.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/rank.h"
#include "lib/algebra/result.h"
#include "lib/algebra/work.h"
#include "lib/kernels/fpenv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Singular values of a site, for a budget: those of its experts, each rank taking the next of all of them. */
typedef struct values {
    size_t n;
    double *square; /* gained by each rank, with the scale */
} values;

typedef struct job {
    const lorafmt_adapter *adapter;
    const lorakit_resize_options *options;
    lorakit_adapter *result;
    lorakit_resized *sites;
    values *values; /* per site; with a budget */
    size_t *ranks;  /* per site: 0 = by the rule */
} job;

static lorafmt_dtype wider_of(const lorafmt_site *site)
{
    const lorafmt_dtype a = site->factors[0].tensor.dtype, b = site->factors[1].tensor.dtype;

    if (a == b)
        return a;
    return a == LORAFMT_F64 || b == LORAFMT_F64 ? LORAFMT_F64 : LORAFMT_F32; // which hold both
}

static lorafmt_dtype dtype_of(const job *j, const lorafmt_site *site)
{
    return j->options->dtype ? j->options->dtype : wider_of(site);
}

/* --- one site --- */

typedef struct parts {
    size_t n;
    lk_thin *thin; /* per expert: as it is, then overwritten */
    lk_core *core;
    lk_thin *made;
} parts;

static lorafmt_status parts_open(const lorafmt_site *site, parts *p, lorafmt_error *err)
{
    p->n = lk_site_n_experts(site);
    p->thin = calloc(p->n, sizeof *p->thin);
    p->core = calloc(p->n, sizeof *p->core);
    p->made = calloc(p->n, sizeof *p->made);
    if (!p->thin || !p->core || !p->made)
        return lf_no_memory(err);
    for (size_t e = 0; e < p->n; e++) {
        LF_TRY(lk_thin_of(site, e, &p->thin[e], err));
        LF_TRY(lk_core_make(&p->thin[e], &p->core[e], err));
    }
    return LORAFMT_OK;
}

static void parts_close(parts *p)
{
    for (size_t e = 0; e < p->n; e++) {
        if (p->thin)
            lk_thin_free(&p->thin[e]);
        if (p->core)
            lk_core_free(&p->core[e]);
        if (p->made)
            lk_thin_free(&p->made[e]);
    }
    free(p->thin);
    free(p->core);
    free(p->made);
}

static size_t choose(const job *j, const parts *p)
{
    size_t most = 1;

    for (size_t e = 0; e < p->n; e++) {
        const lk_core *c = &p->core[e];
        const size_t n_all = c->left.n_rows < c->right.n_rows ? c->left.n_rows : c->right.n_rows;
        const size_t k = lk_rank_choose(&j->options->rank, c->s, c->rank, lk_core_true_rank(c), n_all);
        most = k > most ? k : most;
    }
    return most;
}

/* Factors of the rank they have already are kept. */
static lorafmt_status resize_site(const job *j, size_t i, parts *p, lorafmt_error *err)
{
    const lorafmt_site *site = &j->adapter->sites[i];
    lk_made *made = &j->result->made[i];
    lorakit_resized *out = &j->sites[i];
    double norm = 0, lost = 0, rounded = 0;
    size_t k;

    LF_TRY(parts_open(site, p, err));
    k = j->ranks && j->ranks[i] ? j->ranks[i] : choose(j, p);
    for (size_t e = 0; e < p->n; e++) {
        const lk_core *c = &p->core[e];
        LF_TRY(k == site->rank ? lk_thin_of(site, e, &p->made[e], err) : lk_core_split(c, k, &p->made[e], err));
        norm = hypot(norm, lk_tail(c->s, 0, c->rank));
        lost = hypot(lost, lk_tail(c->s, k, c->rank));
    }
    LF_TRY(lk_made_low_rank(made, site, p->made, p->n, dtype_of(j, site), err));
    LF_TRY(lk_rounding(&made->site, p->made, p->n, &rounded, err));
    *out = (lorakit_resized){(uint32_t)k, fabs(site->scale) * norm, fabs(site->scale) * lost, fabs(site->scale) * rounded};
    return LORAFMT_OK;
}

static lorafmt_status resize_one(void *ctx, size_t i, lorafmt_error *err)
{
    const job *j = ctx;
    const lorafmt_site *site = &j->adapter->sites[i];
    parts p = {0};
    lorafmt_status st;

    LF_TRY(lk_check_known(site, err));
    if (!lk_is_low_rank(site)) {
        j->result->made[i].site = *site;
        j->sites[i] = (lorakit_resized){0};
        return LORAFMT_OK;
    }
    st = resize_site(j, i, &p, err);
    parts_close(&p);
    return st;
}

/* --- a budget --- */

static lorafmt_status measure_one(void *ctx, size_t i, lorafmt_error *err)
{
    const job *j = ctx;
    const lorafmt_site *site = &j->adapter->sites[i];
    parts p = {0};
    lorafmt_status st;

    LF_TRY(lk_check_known(site, err));
    if (!lk_is_low_rank(site))
        return LORAFMT_OK;
    st = parts_open(site, &p, err);
    if (!st) {
        j->values[i].n = p.core[0].rank;
        j->values[i].square = lk_matrix_new(p.core[0].rank, 1);
        st = j->values[i].square ? LORAFMT_OK : lf_no_memory(err);
    }
    for (size_t e = 0; e < p.n && !st; e++)
        for (size_t k = 0; k < p.core[e].rank; k++)
            j->values[i].square[k] += site->scale * site->scale * p.core[e].s[k] * p.core[e].s[k];
    parts_close(&p);
    return st;
}

static uint64_t rank_bytes(const job *j, const lorafmt_site *site)
{
    size_t n_rows, n_cols;

    lk_site_shape(site, &n_rows, &n_cols);
    return (uint64_t)(n_rows + n_cols) * lk_site_n_experts(site) * (lorafmt_dtype_bits(dtype_of(j, site)) / 8);
}

/* The site whose next singular value keeps the most for its bytes, of those that fit; SIZE_MAX when none does. */
static size_t best_site(const job *j, uint64_t left)
{
    size_t best = SIZE_MAX;
    double most = 0;

    for (size_t i = 0; i < j->adapter->n_sites; i++) {
        const values *v = &j->values[i];
        uint64_t bytes;
        if (!v->square || j->ranks[i] >= v->n || (bytes = rank_bytes(j, &j->adapter->sites[i])) > left)
            continue;
        if (v->square[j->ranks[i]] / (double)bytes > most) {
            most = v->square[j->ranks[i]] / (double)bytes;
            best = i;
        }
    }
    return best;
}

static lorafmt_status spend(const job *j, lorafmt_error *err)
{
    uint64_t left = j->options->budget, least = 0;
    size_t i;

    for (i = 0; i < j->adapter->n_sites; i++)
        if (j->values[i].square) {
            j->ranks[i] = 1;
            least += rank_bytes(j, &j->adapter->sites[i]);
        }
    if (least > left)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "budget", "%llu bytes, rank 1 for every site takes %llu",
                       (unsigned long long)left, (unsigned long long)least);
    left -= least;
    while ((i = best_site(j, left)) != SIZE_MAX) {
        left -= rank_bytes(j, &j->adapter->sites[i]);
        j->ranks[i]++;
    }
    return LORAFMT_OK;
}

static lorafmt_status plan_budget(job *j, const lk_work *work, lorafmt_error *err)
{
    j->values = calloc(j->adapter->n_sites + 1, sizeof *j->values);
    j->ranks = calloc(j->adapter->n_sites + 1, sizeof *j->ranks);
    if (!j->values || !j->ranks)
        return lf_no_memory(err);
    LF_TRY(lk_work_run(work, j->adapter->n_sites, measure_one, j, err));
    return spend(j, err);
}

static void close_job(job *j)
{
    for (size_t i = 0; j->values && i < j->adapter->n_sites; i++)
        free(j->values[i].square);
    free(j->values);
    free(j->ranks);
}

static lorafmt_status check_options(const lorakit_resize_options *o, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    LF_TRY(lk_rank_check(&o->rank, err));
    if (o->budget && (o->rank.rule != LORAKIT_LOSSLESS || o->rank.most))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "budget",
                       "given, and so is a rule for the rank: one of them is wrong");
    return lk_check_dtype(o->dtype, err);
}

static size_t largest_possible(const lorafmt_adapter *adapter)
{
    size_t most = 0;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        if (lk_is_low_rank(site) && lk_site_possible_rank(site) > most)
            most = lk_site_possible_rank(site);
    }
    return most;
}

/* Shares of nothing are nothing to go by. */
static lorafmt_status check_something(const job *j, lorafmt_error *err)
{
    bool any = false, all_zero = true;

    for (size_t i = 0; i < j->adapter->n_sites; i++) {
        any = any || j->sites[i].rank;
        all_zero = all_zero && j->sites[i].norm == 0;
    }
    if (!any || !all_zero)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, j->adapter->name,
                   "every update is zero, as of an adapter that was not trained: no rank is better than another");
}

static lorafmt_status run(job *j, lorafmt_error *err)
{
    const lorakit_resize_options *o = j->options;
    const lk_work work = {o->n_threads, o->progress, o->progress_ctx};

    LF_TRY(lk_rank_check_possible(&o->rank, largest_possible(j->adapter), err));
    LF_TRY(lk_result_new(j->adapter, o->name, j->adapter->n_sites, &j->result, err));
    if (o->budget)
        LF_TRY(plan_budget(j, &work, err));
    LF_TRY(lk_work_run(&work, j->adapter->n_sites, resize_one, j, err));
    LF_TRY(check_something(j, err));
    LF_TRY(lk_result_note(j->result, "resize", &j->adapter, NULL, 1, err));
    return lk_result_finish(j->result, err);
}

lorafmt_status lorakit_resize(const lorafmt_adapter *adapter, const lorakit_resize_options *options, lorakit_resized *sites,
                              lorakit_adapter **out, lorafmt_error *err)
{
    static const lorakit_resize_options defaults = {.struct_size = sizeof defaults};
    job j = {.adapter = adapter, .options = options ? options : &defaults};
    lorafmt_status st;

    *out = NULL;
    LF_TRY(check_options(j.options, err));
    j.sites = sites ? sites : calloc(adapter->n_sites + 1, sizeof *j.sites);
    st = j.sites ? run(&j, err) : lf_no_memory(err);
    if (!sites)
        free(j.sites);
    close_job(&j);
    if (st)
        lorakit_adapter_free(j.result);
    else
        *out = j.result;
    return st;
}
