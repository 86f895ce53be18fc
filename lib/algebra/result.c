/* SPDX-License-Identifier: MIT */
#include "lib/algebra/result.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of B, which is written row by row and comes by columns, so many rows are a cache line of each column. */
#define ROWS_AT_ONCE 8
#define COLS_AT_ONCE 256

lorafmt_status lk_result_new(const lorafmt_adapter *parent, const char *name, size_t n, lorakit_adapter **out, lorafmt_error *err)
{
    static const lorafmt_adapter nobody = {.base_name = "", .base_revision = ""};
    lorakit_adapter *r = calloc(1, sizeof *r);

    *out = r;
    if (!r)
        return lf_no_memory(err);
    r->adapter = parent ? *parent : nobody;
    r->adapter.has_id = false;
    memset(r->adapter.id, 0, sizeof r->adapter.id);
    r->adapter.n_sites = 0;
    r->n_made = n;
    r->made = calloc(n ? n : 1, sizeof *r->made);
    if (name)
        r->adapter.name = lf_arena_strdup(&r->arena, name);
    return r->made && r->adapter.name ? LORAFMT_OK : lf_no_memory(err);
}

const lorafmt_adapter *lorakit_adapter_get(const lorakit_adapter *adapter)
{
    return &adapter->adapter;
}

void lorakit_adapter_free(lorakit_adapter *adapter)
{
    if (!adapter)
        return;
    for (size_t i = 0; adapter->made && i < adapter->n_made; i++)
        lf_arena_free(&adapter->made[i].arena);
    free(adapter->made);
    lf_arena_free(&adapter->arena);
    free(adapter);
}

/* A tensor like another, but with another first or second dimension. */
static lorafmt_tensor tensor_like(const lorafmt_tensor *like, unsigned dim, uint64_t size, lorafmt_dtype dtype)
{
    lorafmt_tensor t = *like;

    t.dtype = dtype;
    t.shape[dim] = size;
    lf_tensor_measure(dtype, t.n_dims, t.shape, &t.size);
    return t;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* left [n_rows x rank], by columns, as rows. */
static bool write_left(const lk_thin *thin, lorafmt_dtype dtype, uint8_t *dst)
{
    const size_t unit = lorafmt_dtype_bits(dtype) / 8;
    double rows[ROWS_AT_ONCE][COLS_AT_ONCE];
    bool finite = true;

    for (size_t i = 0; i < thin->n_rows; i += ROWS_AT_ONCE) {
        const size_t m = least(thin->n_rows - i, ROWS_AT_ONCE);
        for (size_t p = 0; p < thin->rank; p += COLS_AT_ONCE) {
            const size_t n = least(thin->rank - p, COLS_AT_ONCE);
            for (size_t q = 0; q < n; q++)
                for (size_t k = 0; k < m; k++)
                    rows[k][q] = thin->left[(p + q) * thin->n_rows + i + k];
            for (size_t k = 0; k < m; k++)
                finite = lk_narrow(dtype, rows[k], dst + ((i + k) * thin->rank + p) * unit, n) && finite;
        }
    }
    return finite;
}

/* The number of 15 digits next to it, which is what a person and JSON would write. */
static double short_number(double x)
{
    char text[32];

    snprintf(text, sizeof text, "%.15g", x);
    return strtod(text, NULL);
}

void lk_site_set_scale(lorafmt_site *site, double scale)
{
    const double rank = site->rank, by = site->scaling == LORAFMT_SCALING_ALPHA_SQRT_R ? sqrt(rank) : rank,
                 doubled = site->flags & LORAFMT_SITE_DOUBLED ? 2 : 1;

    site->scale = scale;
    site->alpha = 0;
    if (site->scaling == LORAFMT_SCALING_EXPLICIT)
        return;
    site->alpha = short_number(scale / doubled * by);
    site->scale = site->alpha / by * doubled;
}

static lorafmt_status fill(uint8_t *a, uint8_t *b, const lk_thin *experts, size_t n_experts, lorafmt_dtype dtype,
                           const char *target, lorafmt_error *err)
{
    const size_t unit = lorafmt_dtype_bits(dtype) / 8;
    bool finite = true;

    for (size_t e = 0; e < n_experts; e++) {
        const lk_thin *t = &experts[e];
        finite = write_left(t, dtype, b + e * t->n_rows * t->rank * unit) && finite;
        finite = lk_narrow(dtype, t->right, a + e * t->n_cols * t->rank * unit, t->n_cols * t->rank) && finite;
    }
    if (!finite)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, target, "new factors are too large for %s; choose bf16 or f32",
                       lorafmt_dtype_name(dtype));
    return LORAFMT_OK;
}

lorafmt_status lk_made_low_rank(lk_made *made, const lorafmt_site *like, const lk_thin *experts, size_t n_experts,
                                lorafmt_dtype dtype, lorafmt_error *err)
{
    const size_t rank = experts[0].rank;
    lorafmt_factor *f = lf_arena_alloc(&made->arena, like->n_factors, sizeof *f);
    uint8_t *a, *b;

    if (!f)
        return lf_no_memory(err);
    memcpy(f, like->factors, like->n_factors * sizeof *f); // A, B and what follows them: roles ascend
    f[0].tensor = tensor_like(&f[0].tensor, 0, n_experts * rank, dtype);
    f[1].tensor = tensor_like(&f[1].tensor, 1, rank, dtype);
    f[0].tensor.data = a = lf_arena_alloc_dirty(&made->arena, (size_t)f[0].tensor.size, 1);
    f[1].tensor.data = b = lf_arena_alloc_dirty(&made->arena, (size_t)f[1].tensor.size, 1);
    if (!a || !b)
        return lf_no_memory(err);
    made->site = *like;
    made->site.factors = f;
    made->site.rank = (uint32_t)rank;
    lk_site_set_scale(&made->site, like->scale);
    return fill(a, b, experts, n_experts, dtype, like->target, err);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const lorafmt_metadata *)a)->key, ((const lorafmt_metadata *)b)->key);
}

/* Add or replace an entry. */
static lorafmt_status note(lorakit_adapter *r, const char *key, const char *value, lorafmt_error *err)
{
    const size_t n = r->adapter.n_metadata;
    lorafmt_metadata *all = lf_arena_alloc(&r->arena, n + 1, sizeof *all);
    size_t kept = 0;

    if (!all || !value)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        if (strcmp(r->adapter.metadata[i].key, key) != 0)
            all[kept++] = r->adapter.metadata[i];
    all[kept++] = (lorafmt_metadata){key, value, 0};
    qsort(all, kept, sizeof *all, compare_keys);
    r->adapter.metadata = all;
    r->adapter.n_metadata = kept;
    return LORAFMT_OK;
}

lorafmt_status lk_result_note(lorakit_adapter *r, const char *method, const lorafmt_adapter *const *parents,
                              const double *weights, size_t n, lorafmt_error *err)
{
    const char *lines = "";

    for (size_t i = 0; i < n && lines; i++) {
        char hex[LF_HEX_SIZE];
        uint8_t id[32];
        lorafmt_adapter_id(parents[i], id);
        lines = lf_arena_printf(&r->arena, "%s%s%s %.17g %s", lines, i ? "\n" : "", lf_hex(id, hex), weights ? weights[i] : 1.0,
                                parents[i]->name);
    }
    if (n)
        LF_TRY(note(r, "lorakit.parents", lines, err));
    return note(r, "lorakit.method", lf_arena_strdup(&r->arena, method), err);
}

static int compare_sites(const void *a, const void *b)
{
    return lk_site_compare(a, b);
}

lorafmt_status lk_result_finish(lorakit_adapter *r, lorafmt_error *err)
{
    lorafmt_site *sites = lf_arena_alloc(&r->arena, r->n_made, sizeof *sites);

    if (!sites)
        return lf_no_memory(err);
    for (size_t i = 0; i < r->n_made; i++)
        sites[i] = r->made[i].site;
    qsort(sites, r->n_made, sizeof *sites, compare_sites);
    r->adapter.sites = sites;
    r->adapter.n_sites = r->n_made;
    return LORAFMT_OK;
}
