/* SPDX-License-Identifier: MIT */
/* spec 4.3 to 4.7: what an adapter may say. */
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool lf_kind_is_low_rank(unsigned kind)
{
    return kind >= LORAFMT_KIND_LINEAR && kind <= LORAFMT_KIND_EXPERTS;
}

bool lf_kind_is_whole(unsigned kind)
{
    return kind == LORAFMT_KIND_REPLACEMENT || kind == LORAFMT_KIND_SAVED;
}

bool lf_site_is_newer(const lorafmt_site *site)
{
    for (uint32_t i = 0; i < site->n_factors; i++)
        if (site->factors[i].role > LORAFMT_ROLE_ROW_INDEX)
            return true;
    return site->kind > LORAFMT_KIND_EXPERTS;
}

double lf_scale_of(lorafmt_scaling scaling, double alpha, uint32_t rank)
{
    return scaling == LORAFMT_SCALING_ALPHA_R ? alpha / rank : alpha / sqrt(rank);
}

const lorafmt_factor *lorafmt_site_factor(const lorafmt_site *site, unsigned role)
{
    for (uint32_t i = 0; i < site->n_factors; i++)
        if (site->factors[i].role == role)
            return &site->factors[i];
    return NULL;
}

static lorafmt_status bad(lorafmt_error *err, const lorafmt_site *site, const char *text)
{
    return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "%s", text);
}

/* spec 4.6: dimensions from 1, size as the shape says */
static lorafmt_status check_tensor(const lorafmt_site *site, const lorafmt_factor *factor, lorafmt_error *err)
{
    const lorafmt_tensor *t = &factor->tensor;
    uint64_t size;

    for (uint32_t i = 0; i < t->n_dims && i < LORAFMT_MAX_DIMS; i++)
        if (t->shape[i] == 0 || t->shape[i] > LF_MAX_DIM)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target,
                           "%s has a dimension of %" PRIu64 ", must be 1..2^48 (an empty tensor usually comes from saving "
                           "sharded training without gathering the weights)",
                           lorafmt_role_name(factor->role), t->shape[i]);
    if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &size) || size != t->size)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "%s: %" PRIu64 " bytes do not fit dtype and shape",
                       lorafmt_role_name(factor->role), t->size);
    return LORAFMT_OK;
}

static lorafmt_status need_real(const lorafmt_site *site, const lorafmt_factor *factor, lorafmt_error *err)
{
    if (!lf_dtype_is_real(factor->tensor.dtype))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                       "%s is %s; factors may be F32, F16, BF16 or F64", lorafmt_role_name(factor->role),
                       lorafmt_dtype_name(factor->tensor.dtype));
    return LORAFMT_OK;
}

static lorafmt_status wrong_shape(lorafmt_error *err, const lorafmt_site *site, const lorafmt_factor *factor, const char *wanted)
{
    char shape[LF_SHAPE_TEXT];
    return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "%s is %s, must be %s with rank %" PRIu32,
                   lorafmt_role_name(factor->role), lf_shape_text(factor->tensor.n_dims, factor->tensor.shape, shape), wanted,
                   site->rank);
}

static uint32_t kernel_dims(unsigned kind)
{
    return kind >= LORAFMT_KIND_CONV1D && kind <= LORAFMT_KIND_CONV3D ? kind - LORAFMT_KIND_CONV1D + 1 : 0;
}

/* spec 4.5: with a Tucker core the kernel is in it, not in A */
static lorafmt_status check_mid(const lorafmt_site *site, const lorafmt_factor *a, lorafmt_error *err)
{
    const lorafmt_factor *mid = lorafmt_site_factor(site, LORAFMT_ROLE_MID);
    const lorafmt_tensor *t = &mid->tensor;

    LF_TRY(need_real(site, mid, err));
    if (t->n_dims != a->tensor.n_dims || t->shape[0] != site->rank || t->shape[1] != site->rank)
        return wrong_shape(err, site, mid, "[rank, rank, kernel...]");
    for (uint32_t i = 2; i < a->tensor.n_dims; i++)
        if (a->tensor.shape[i] != 1)
            return wrong_shape(err, site, a, "[rank, in, 1...], beside mid,");
    return LORAFMT_OK;
}

/* spec 4.5: the shapes of A and B */
static lorafmt_status check_shapes(const lorafmt_site *site, const lorafmt_factor *a, const lorafmt_factor *b, lorafmt_error *err)
{
    const lorafmt_tensor *ta = &a->tensor, *tb = &b->tensor;
    const uint32_t n_dims = 2 + kernel_dims(site->kind);
    const bool experts = site->kind == LORAFMT_KIND_EXPERTS;

    if (ta->n_dims != n_dims || (experts ? ta->shape[0] % site->rank != 0 : ta->shape[0] != site->rank))
        return wrong_shape(err, site, a, experts ? "[experts x rank, in]" : "[rank, ...]");
    if (tb->n_dims != n_dims || tb->shape[1] != site->rank)
        return wrong_shape(err, site, b, "[..., rank]");
    for (uint32_t i = 2; i < n_dims; i++)
        if (tb->shape[i] != 1)
            return wrong_shape(err, site, b, "[out, rank, 1...]");
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MID))
        LF_TRY(check_mid(site, a, err));
    if (experts && tb->shape[0] % (ta->shape[0] / site->rank) != 0)
        return wrong_shape(err, site, b, "[experts x out, rank]");
    return LORAFMT_OK;
}

/* spec 4.5: one element per output, whatever the shape */
static lorafmt_status check_magnitude(const lorafmt_site *site, const lorafmt_factor *m, uint64_t n_outputs, lorafmt_error *err)
{
    const uint64_t n = m->tensor.size / (lorafmt_dtype_bits(m->tensor.dtype) / 8);

    LF_TRY(need_real(site, m, err));
    if (site->kind == LORAFMT_KIND_EXPERTS)
        return bad(err, site, "experts cannot have a magnitude");
    if (n != n_outputs)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target,
                       "magnitude has %" PRIu64 " elements, B %" PRIu64 " outputs", n, n_outputs);
    return LORAFMT_OK;
}

static lorafmt_status check_low_rank(const lorafmt_site *site, lorafmt_error *err)
{
    const lorafmt_factor *a = lorafmt_site_factor(site, LORAFMT_ROLE_A), *b = lorafmt_site_factor(site, LORAFMT_ROLE_B);
    const lorafmt_factor *m = lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE);

    if (site->rank == 0 || site->rank > LF_MAX_RANK)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "rank %" PRIu32 ", must be 1..%u", site->rank,
                       LF_MAX_RANK);
    if (site->scaling < LORAFMT_SCALING_ALPHA_R || site->scaling > LORAFMT_SCALING_EXPLICIT)
        return bad(err, site, "a low-rank site without a scaling rule");
    if (!a || !b)
        return bad(err, site, a ? "factor B is missing" : "factor A is missing");
    LF_TRY(need_real(site, a, err));
    LF_TRY(need_real(site, b, err));
    LF_TRY(check_shapes(site, a, b, err));
    return m ? check_magnitude(site, m, b->tensor.shape[0], err) : LORAFMT_OK;
}

/* spec 4.5: row_index says where each row of value goes */
static lorafmt_status check_row_index(const lorafmt_site *site, const lorafmt_tensor *rows, const lorafmt_tensor *value,
                                      lorafmt_error *err)
{
    uint64_t last = 0;

    if (rows->dtype != LORAFMT_I64 || rows->n_dims != 1 || value->n_dims == 0 || rows->shape[0] != value->shape[0])
        return bad(err, site, "row_index must be one I64 per row of value");
    for (uint64_t i = 0; i < rows->shape[0]; i++) {
        const uint64_t row = lf_load_u64le((const uint8_t *)rows->data + 8 * i);
        if (row > INT64_MAX || (i && row <= last))
            return bad(err, site, "row_index must be 0 or more and strictly ascending");
        last = row;
    }
    return LORAFMT_OK;
}

static lorafmt_status check_whole(const lorafmt_site *site, lorafmt_error *err)
{
    const lorafmt_factor *value = lorafmt_site_factor(site, LORAFMT_ROLE_VALUE);
    const lorafmt_factor *rows = lorafmt_site_factor(site, LORAFMT_ROLE_ROW_INDEX);

    if (site->rank != 0)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "rank %" PRIu32 " in a site of kind %s, must be 0",
                       site->rank, lorafmt_kind_name(site->kind));
    if (site->scaling != LORAFMT_SCALING_NONE && site->kind != LORAFMT_KIND_ADDITIVE)
        return bad(err, site, "a replacement has no scaling");
    if (site->scaling == LORAFMT_SCALING_ALPHA_R || site->scaling == LORAFMT_SCALING_ALPHA_SQRT_R)
        return bad(err, site, "scaling by rank in a site without rank");
    if (!value)
        return bad(err, site, "factor value is missing");
    if ((site->kind == LORAFMT_KIND_ROWS) != (rows != NULL))
        return bad(err, site, rows ? "row_index in a site that is not of kind rows" : "factor row_index is missing");
    return rows ? check_row_index(site, &rows->tensor, &value->tensor, err) : LORAFMT_OK;
}

static bool role_fits(unsigned kind, unsigned role)
{
    switch (role) {
    case LORAFMT_ROLE_A:
    case LORAFMT_ROLE_B:
    case LORAFMT_ROLE_MAGNITUDE:
        return lf_kind_is_low_rank(kind);
    case LORAFMT_ROLE_MID:
        return kernel_dims(kind) != 0;
    case LORAFMT_ROLE_VALUE:
    case LORAFMT_ROLE_ROW_INDEX:
        return !lf_kind_is_low_rank(kind);
    default:
        return true; // of a newer format: listed and copied, refused at bind
    }
}

static lorafmt_status check_factors(const lorafmt_site *site, lorafmt_error *err)
{
    if (site->n_factors == 0)
        return bad(err, site, "a site without factors");
    for (uint32_t i = 0; i < site->n_factors; i++) {
        const lorafmt_factor *f = &site->factors[i];
        if (i && f->role <= f[-1].role)
            return bad(err, site, "factor roles are not in ascending order");
        if (site->kind <= LORAFMT_KIND_EXPERTS && !role_fits(site->kind, f->role))
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "factor %s in a site of kind %s",
                           lorafmt_role_name(f->role), lorafmt_kind_name(site->kind));
        LF_TRY(check_tensor(site, f, err));
    }
    return LORAFMT_OK;
}

/* spec 4.4: alpha and scale against the rule */
static lorafmt_status check_scale(const lorafmt_site *site, lorafmt_error *err)
{
    const double times = site->flags & LORAFMT_SITE_DOUBLED ? 2.0 : 1.0;
    double wanted = site->scale;

    if (!isfinite(site->alpha))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "alpha is %g, must be finite", site->alpha);
    if (!isfinite(site->scale))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target, "scale is %g, must be finite", site->scale);
    switch (site->scaling) {
    case LORAFMT_SCALING_NONE:
        wanted = 1.0;
        break;
    case LORAFMT_SCALING_ALPHA_R:
    case LORAFMT_SCALING_ALPHA_SQRT_R:
        wanted = times * lf_scale_of((lorafmt_scaling)site->scaling, site->alpha, site->rank);
        break;
    default:
        break;
    }
    if (site->scale != wanted)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target,
                       "scale is %.17g, but %s of alpha %.17g and rank %" PRIu32 " gives %.17g", site->scale,
                       lorafmt_scaling_name(site->scaling), site->alpha, site->rank, wanted);
    return LORAFMT_OK;
}

/* spec 4.4: a range is as large as what is put there */
static lorafmt_status check_ranges(const lorafmt_site *site, lorafmt_error *err)
{
    const lorafmt_factor *a = lorafmt_site_factor(site, LORAFMT_ROLE_A), *b = lorafmt_site_factor(site, LORAFMT_ROLE_B);

    if (!(site->flags & (LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE)))
        return LORAFMT_OK;
    if (site->kind != LORAFMT_KIND_LINEAR)
        return bad(err, site, "a row or column range in a site that is not linear");
    if (site->flags & LORAFMT_SITE_ROW_RANGE && site->row_end - site->row_begin != b->tensor.shape[0])
        return bad(err, site, "the row range is not as large as B has rows");
    if (site->flags & LORAFMT_SITE_COL_RANGE && site->col_end - site->col_begin != a->tensor.shape[1])
        return bad(err, site, "the column range is not as large as A has columns");
    return LORAFMT_OK;
}

static lorafmt_status check_site(const lorafmt_site *site, lorafmt_error *err)
{
    if (!site->target[0] || !lf_name_valid(site->target, strlen(site->target)))
        return bad(err, site, "a target must be 1..1024 bytes of UTF-8 without control characters");
    if (site->kind == 0)
        return bad(err, site, "kind 0, must be 1 or more");
    LF_TRY(check_factors(site, err));
    if (site->kind > LORAFMT_KIND_EXPERTS)
        return LORAFMT_OK; // of a newer format
    if (site->flags & LORAFMT_SITE_DOUBLED && site->kind != LORAFMT_KIND_LINEAR)
        return bad(err, site, "the flag doubled in a site that is not linear");
    if (site->orientation != LORAFMT_OUT_IN && site->kind != LORAFMT_KIND_LINEAR && site->kind != LORAFMT_KIND_EXPERTS)
        return bad(err, site, "an orientation in a site that is neither linear nor experts");
    if (!lf_site_is_newer(site)) { // which factors a newer role needs is not known here
        LF_TRY(lf_kind_is_low_rank(site->kind) ? check_low_rank(site, err) : check_whole(site, err));
        LF_TRY(check_ranges(site, err));
    }
    return check_scale(site, err);
}

static lorafmt_status check_metadata(const lorafmt_adapter *adapter, lorafmt_error *err)
{
    for (size_t i = 0; i < adapter->n_metadata; i++) {
        const lorafmt_metadata *m = &adapter->metadata[i];
        if (!m->key[0] || !lf_name_valid(m->key, strlen(m->key)))
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, m->key,
                           "a metadata key must be 1..1024 bytes of UTF-8 without control characters");
        if (strlen(m->value) > LF_MAX_VALUE || !lf_utf8_valid(m->value, strlen(m->value)))
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, m->key, "a metadata value must be at most 1 MiB of UTF-8");
        if (i && strcmp(m[-1].key, m->key) >= 0)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, m->key, "metadata keys are not unique and in order");
    }
    return LORAFMT_OK;
}

lorafmt_status lf_adapter_check(const lorafmt_adapter *adapter, lorafmt_error *err)
{
    if (!lf_adapter_name_valid(adapter->name))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, adapter->name,
                       "an adapter name must be 1..255 bytes of UTF-8 without / \\ # = and control characters");
    if (!lf_name_valid(adapter->base_name, strlen(adapter->base_name)) ||
        !lf_name_valid(adapter->base_revision, strlen(adapter->base_revision)))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, adapter->name,
                       "base name and revision must be at most 1024 bytes of UTF-8 without control characters");
    if (adapter->n_sites == 0)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, adapter->name, "the adapter is empty: it changes no tensor");
    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        LF_TRY(check_site(site, err));
        if (i && lf_site_compare(site - 1, site) >= 0)
            return bad(err, site, "sites are not unique and in order");
    }
    return check_metadata(adapter, err);
}

static int compare_sites(const void *a, const void *b)
{
    return lf_site_compare(a, b);
}

static int compare_metadata(const void *a, const void *b)
{
    return strcmp(((const lorafmt_metadata *)a)->key, ((const lorafmt_metadata *)b)->key);
}

void lf_adapter_sort(lorafmt_site *sites, size_t n_sites, lorafmt_metadata *metadata, size_t n_metadata)
{
    if (n_sites)
        qsort(sites, n_sites, sizeof *sites, compare_sites);
    if (n_metadata)
        qsort(metadata, n_metadata, sizeof *metadata, compare_metadata);
}
