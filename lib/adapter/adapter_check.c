/* SPDX-License-Identifier: MIT */
/* spec 4.3 to 4.7: what an adapter may say. */
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/format.h"
#include "lib/adapter/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
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

/* One check of one adapter: the site at hand, and where to say what is wrong. */
typedef struct checker {
    const lorafmt_adapter *adapter;
    const lorafmt_site *site;
    size_t i; /* its number in the adapter */
    lf_tensor_map *row_indexes;
    bool from_records; /* which were checked each by itself, and whose data is not at hand */
    lf_adapter_place place;
    lorafmt_error *err;
} checker;

/* Fail with the target of the site at hand; byte is where the field lies in the part's record. */
__attribute__((format(printf, 6, 7))) static lorafmt_status fail(checker *c, lorafmt_status status, lf_adapter_part part,
                                                                 uint32_t factor, uint64_t byte, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->place = (lf_adapter_place){part, c->i, factor, byte};
    return lf_fail(c->err, status, LORAFMT_NO_OFFSET, c->site->target, "%s", text);
}

#define BAD_SITE(c, field, ...) fail(c, LORAFMT_CORRUPT, LF_PART_SITE, 0, field, __VA_ARGS__)
#define BAD_ROLE(c, factor, ...)                                                                                                 \
    fail(c, LORAFMT_CORRUPT, LF_PART_FACTOR, (uint32_t)((factor) - (c)->site->factors), LF_FACTOR_ROLE, __VA_ARGS__)
#define BAD_TENSOR(c, factor, field, ...)                                                                                        \
    fail(c, LORAFMT_CORRUPT, LF_PART_TENSOR, (uint32_t)((factor) - (c)->site->factors), field, __VA_ARGS__)

/* spec 4.6: dimensions from 1, size as the shape says */
static lorafmt_status check_tensor(checker *c, const lorafmt_factor *factor)
{
    const lorafmt_tensor *t = &factor->tensor;
    uint64_t size;

    for (uint32_t i = 0; i < t->n_dims && i < LORAFMT_MAX_DIMS; i++)
        if (t->shape[i] == 0 || t->shape[i] > LF_MAX_DIM)
            return BAD_TENSOR(c, factor, LF_TENSOR_SHAPE,
                              "%s has a dimension of %" PRIu64 ", must be 1..2^48 (an empty tensor usually comes from saving "
                              "sharded training without gathering the weights)",
                              lorafmt_role_name(factor->role), t->shape[i]);
    if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &size) || size != t->size)
        return BAD_TENSOR(c, factor, LF_TENSOR_DECODED_SIZE, "%s: %" PRIu64 " bytes do not fit dtype and shape",
                          lorafmt_role_name(factor->role), t->size);
    return LORAFMT_OK;
}

static lorafmt_status need_real(checker *c, const lorafmt_factor *factor)
{
    if (!lf_dtype_is_real(factor->tensor.dtype))
        return fail(c, LORAFMT_UNSUPPORTED, LF_PART_TENSOR, (uint32_t)(factor - c->site->factors), LF_TENSOR_DTYPE,
                    "%s is %s, which is not supported; factors may be F32, F16, BF16 or F64", lorafmt_role_name(factor->role),
                    lorafmt_dtype_name(factor->tensor.dtype));
    return LORAFMT_OK;
}

static lorafmt_status wrong_shape(checker *c, const lorafmt_factor *factor, const char *wanted)
{
    char shape[LF_SHAPE_TEXT];
    return BAD_TENSOR(c, factor, LF_TENSOR_SHAPE, "%s is %s, must be %s with rank %" PRIu32, lorafmt_role_name(factor->role),
                      lf_shape_text(factor->tensor.n_dims, factor->tensor.shape, shape), wanted, c->site->rank);
}

static uint32_t kernel_dims(unsigned kind)
{
    return kind >= LORAFMT_KIND_CONV1D && kind <= LORAFMT_KIND_CONV3D ? kind - LORAFMT_KIND_CONV1D + 1 : 0;
}

/* spec 4.5: with a Tucker core the kernel is in it, not in A */
static lorafmt_status check_mid(checker *c, const lorafmt_factor *a)
{
    const lorafmt_factor *mid = lorafmt_site_factor(c->site, LORAFMT_ROLE_MID);
    const lorafmt_tensor *t = &mid->tensor;

    LF_TRY(need_real(c, mid));
    if (t->n_dims != a->tensor.n_dims || t->shape[0] != c->site->rank || t->shape[1] != c->site->rank)
        return wrong_shape(c, mid, "[rank, rank, kernel...]");
    for (uint32_t i = 2; i < a->tensor.n_dims; i++)
        if (a->tensor.shape[i] != 1)
            return wrong_shape(c, a, "[rank, in, 1...], beside mid,");
    return LORAFMT_OK;
}

/* spec 4.5: the shapes of A and B */
static lorafmt_status check_shapes(checker *c, const lorafmt_factor *a, const lorafmt_factor *b)
{
    const lorafmt_site *site = c->site;
    const lorafmt_tensor *ta = &a->tensor, *tb = &b->tensor;
    const uint32_t n_dims = 2 + kernel_dims(site->kind);
    const bool experts = site->kind == LORAFMT_KIND_EXPERTS;

    if (ta->n_dims != n_dims || (experts ? ta->shape[0] % site->rank != 0 : ta->shape[0] != site->rank))
        return wrong_shape(c, a, experts ? "[experts x rank, in]" : "[rank, ...]");
    if (tb->n_dims != n_dims || tb->shape[1] != site->rank)
        return wrong_shape(c, b, "[..., rank]");
    for (uint32_t i = 2; i < n_dims; i++)
        if (tb->shape[i] != 1)
            return wrong_shape(c, b, "[out, rank, 1...]");
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MID))
        LF_TRY(check_mid(c, a));
    if (experts && tb->shape[0] % (ta->shape[0] / site->rank) != 0)
        return wrong_shape(c, b, "[experts x out, rank]");
    return LORAFMT_OK;
}

/* spec 4.5: one element per output, whatever the shape */
static lorafmt_status check_magnitude(checker *c, const lorafmt_factor *m, uint64_t n_outputs)
{
    uint64_t n;

    LF_TRY(need_real(c, m));
    n = m->tensor.size / (lorafmt_dtype_bits(m->tensor.dtype) / 8);
    if (n != n_outputs)
        return BAD_TENSOR(c, m, LF_TENSOR_SHAPE, "magnitude has %" PRIu64 " elements, B %" PRIu64 " outputs", n, n_outputs);
    return LORAFMT_OK;
}

static lorafmt_status check_low_rank(checker *c)
{
    const lorafmt_site *site = c->site;
    const lorafmt_factor *a = lorafmt_site_factor(site, LORAFMT_ROLE_A), *b = lorafmt_site_factor(site, LORAFMT_ROLE_B);
    const lorafmt_factor *m = lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE);

    if (site->rank == 0 || site->rank > LF_MAX_RANK)
        return BAD_SITE(c, LF_SITE_RANK, "rank %" PRIu32 ", must be 1..%u", site->rank, LF_MAX_RANK);
    if (site->scaling < LORAFMT_SCALING_ALPHA_R || site->scaling > LORAFMT_SCALING_EXPLICIT)
        return BAD_SITE(c, LF_SITE_SCALING, "a low-rank site without a scaling rule");
    if (!a || !b)
        return BAD_SITE(c, LF_SITE_N_FACTORS, a ? "factor B is missing" : "factor A is missing");
    LF_TRY(need_real(c, a));
    LF_TRY(need_real(c, b));
    LF_TRY(check_shapes(c, a, b));
    return m ? check_magnitude(c, m, b->tensor.shape[0]) : LORAFMT_OK;
}

/* spec 4.5: row_index says where each row of value goes */
static lorafmt_status check_row_index(checker *c, const lorafmt_factor *rows, const lorafmt_tensor *value)
{
    uint64_t last = 0;

    if (rows->tensor.dtype != LORAFMT_I64)
        return BAD_TENSOR(c, rows, LF_TENSOR_DTYPE, "row_index is %s, must be I64", lorafmt_dtype_name(rows->tensor.dtype));
    if (rows->tensor.n_dims != 1 || value->n_dims == 0 || rows->tensor.shape[0] != value->shape[0])
        return BAD_TENSOR(c, rows, LF_TENSOR_SHAPE, "row_index must have one number per row of value");
    if (c->from_records || lf_tensor_map_find(c->row_indexes, &rows->tensor) != SIZE_MAX)
        return LORAFMT_OK;
    for (uint64_t i = 0; i < rows->tensor.shape[0]; i++) {
        const uint64_t row = lf_load_u64le((const uint8_t *)rows->tensor.data + 8 * i);
        if (row > INT64_MAX || (i && row <= last))
            return fail(c, LORAFMT_CORRUPT, LF_PART_DATA, (uint32_t)(rows - c->site->factors), 8 * i,
                        "row_index must be 0 or more and strictly ascending");
        last = row;
    }
    return lf_tensor_map_add(c->row_indexes, &rows->tensor) ? LORAFMT_OK : lf_no_memory(c->err);
}

static lorafmt_status check_whole(checker *c)
{
    const lorafmt_site *site = c->site;
    const lorafmt_factor *value = lorafmt_site_factor(site, LORAFMT_ROLE_VALUE);
    const lorafmt_factor *rows = lorafmt_site_factor(site, LORAFMT_ROLE_ROW_INDEX);

    if (site->rank != 0)
        return BAD_SITE(c, LF_SITE_RANK, "rank %" PRIu32 " in a site of kind %s, must be 0", site->rank,
                        lorafmt_kind_name(site->kind));
    if (site->scaling != LORAFMT_SCALING_NONE && site->kind != LORAFMT_KIND_ADDITIVE)
        return BAD_SITE(c, LF_SITE_SCALING, "a replacement has no scaling");
    if (site->scaling == LORAFMT_SCALING_ALPHA_R || site->scaling == LORAFMT_SCALING_ALPHA_SQRT_R)
        return BAD_SITE(c, LF_SITE_SCALING, "scaling by rank in a site without rank");
    if (!value)
        return BAD_SITE(c, LF_SITE_N_FACTORS, "factor value is missing");
    if (site->kind == LORAFMT_KIND_ROWS && !rows)
        return BAD_SITE(c, LF_SITE_N_FACTORS, "factor row_index is missing");
    return rows ? check_row_index(c, rows, &value->tensor) : LORAFMT_OK;
}

static bool role_fits(unsigned kind, unsigned role)
{
    switch (role) {
    case LORAFMT_ROLE_A:
    case LORAFMT_ROLE_B:
        return lf_kind_is_low_rank(kind);
    case LORAFMT_ROLE_MAGNITUDE:
        return lf_kind_is_low_rank(kind) && kind != LORAFMT_KIND_EXPERTS;
    case LORAFMT_ROLE_MID:
        return kernel_dims(kind) != 0;
    case LORAFMT_ROLE_VALUE:
        return !lf_kind_is_low_rank(kind);
    case LORAFMT_ROLE_ROW_INDEX:
        return kind == LORAFMT_KIND_ROWS;
    default:
        return true; // of a newer format: listed and copied, refused at bind
    }
}

static lorafmt_status check_factors(checker *c)
{
    const lorafmt_site *site = c->site;

    if (site->n_factors == 0)
        return BAD_SITE(c, LF_SITE_N_FACTORS, "a site without factors");
    for (uint32_t i = 0; i < site->n_factors; i++) {
        const lorafmt_factor *f = &site->factors[i];
        if (i && f->role <= f[-1].role)
            return BAD_ROLE(c, f, "factor roles are not in ascending order");
        if (site->kind <= LORAFMT_KIND_EXPERTS && !role_fits(site->kind, f->role))
            return BAD_ROLE(c, f, "factor %s in a site of kind %s", lorafmt_role_name(f->role), lorafmt_kind_name(site->kind));
        if (!c->from_records)
            LF_TRY(check_tensor(c, f));
    }
    return LORAFMT_OK;
}

/* spec 4.4: alpha and scale against the rule */
static lorafmt_status check_scale(checker *c)
{
    const lorafmt_site *site = c->site;
    const double times = site->flags & LORAFMT_SITE_DOUBLED ? 2.0 : 1.0;
    double wanted = site->scale;

    if (!isfinite(site->alpha))
        return BAD_SITE(c, LF_SITE_ALPHA, "alpha is %g, must be finite", site->alpha);
    if (!isfinite(site->scale))
        return BAD_SITE(c, LF_SITE_SCALE, "scale is %g, must be finite", site->scale);
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
        return BAD_SITE(c, LF_SITE_SCALE, "scale is %.17g, but %s of alpha %.17g and rank %" PRIu32 " gives %.17g", site->scale,
                        lorafmt_scaling_name(site->scaling), site->alpha, site->rank, wanted);
    return LORAFMT_OK;
}

/* spec 4.4: a range is as large as what is put there */
static lorafmt_status check_ranges(checker *c)
{
    const lorafmt_site *site = c->site;

    if (site->flags & LORAFMT_SITE_ROW_RANGE &&
        site->row_end - site->row_begin != lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor.shape[0])
        return BAD_SITE(c, LF_SITE_ROW_END, "the row range is not as large as B has rows");
    if (site->flags & LORAFMT_SITE_COL_RANGE &&
        site->col_end - site->col_begin != lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor.shape[1])
        return BAD_SITE(c, LF_SITE_COL_END, "the column range is not as large as A has columns");
    return LORAFMT_OK;
}

static lorafmt_status check_site(checker *c)
{
    const lorafmt_site *site = c->site;

    if (!c->from_records && (!site->target[0] || !lf_name_valid(site->target, strlen(site->target))))
        return BAD_SITE(c, LF_SITE_TARGET, "a target must be 1..1024 bytes of UTF-8 without control characters");
    if (site->kind == 0)
        return BAD_SITE(c, LF_SITE_KIND, "kind 0, must be 1 or more");
    LF_TRY(check_factors(c));
    if (site->kind > LORAFMT_KIND_EXPERTS)
        return LORAFMT_OK; // of a newer format
    if (site->flags & LORAFMT_SITE_DOUBLED && site->kind != LORAFMT_KIND_LINEAR)
        return BAD_SITE(c, LF_SITE_FLAGS, "the flag doubled in a site that is not linear");
    if (site->flags & (LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE) && site->kind != LORAFMT_KIND_LINEAR)
        return BAD_SITE(c, LF_SITE_FLAGS, "a row or column range in a site that is not linear");
    if (site->orientation != LORAFMT_OUT_IN && site->kind != LORAFMT_KIND_LINEAR && site->kind != LORAFMT_KIND_EXPERTS)
        return BAD_SITE(c, LF_SITE_ORIENTATION, "an orientation in a site that is neither linear nor experts");
    if (!lf_site_is_newer(site)) { // which factors a newer role needs is not known here
        LF_TRY(lf_kind_is_low_rank(site->kind) ? check_low_rank(c) : check_whole(c));
        LF_TRY(check_ranges(c));
    }
    return check_scale(c);
}

lorafmt_status lf_site_check_records(const lorafmt_site *site, lf_adapter_place *place, lorafmt_error *err)
{
    checker c = {.site = site, .from_records = true, .err = err};
    const lorafmt_status st = check_site(&c);

    if (st)
        *place = c.place;
    return st;
}

static lorafmt_status check_order(checker *c)
{
    const lorafmt_site *site = c->site;
    const char *unused;

    if (c->i && lf_site_compare(site - 1, site) >= 0)
        return BAD_SITE(c, lf_site_order_field(site - 1, site, &unused), "sites are not unique and in order");
    return LORAFMT_OK;
}

static lorafmt_status bad_metadata(checker *c, size_t i, uint64_t byte, const char *text)
{
    c->place = (lf_adapter_place){LF_PART_METADATA, i, 0, byte};
    return lf_fail(c->err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, c->adapter->metadata[i].key, "%s", text);
}

static lorafmt_status check_metadata(checker *c)
{
    const lorafmt_adapter *adapter = c->adapter;

    for (size_t i = 0; i < adapter->n_metadata; i++) {
        const lorafmt_metadata *m = &adapter->metadata[i];
        if (!m->key[0] || !lf_name_valid(m->key, strlen(m->key)))
            return bad_metadata(c, i, LF_METADATA_KEY,
                                "a metadata key must be 1..1024 bytes of UTF-8 without control characters");
        if (strlen(m->value) > LF_MAX_VALUE || !lf_utf8_valid(m->value, strlen(m->value)))
            return bad_metadata(c, i, LF_METADATA_VALUE, "a metadata value must be at most 1 MiB of UTF-8");
        if (i && strcmp(m[-1].key, m->key) >= 0)
            return bad_metadata(c, i, LF_METADATA_KEY, "metadata keys are not unique and in order");
    }
    return LORAFMT_OK;
}

static lorafmt_status bad_adapter(checker *c, uint64_t byte, const char *text)
{
    c->place = (lf_adapter_place){LF_PART_ADAPTER, 0, 0, byte};
    return lf_fail(c->err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, c->adapter->name, "%s", text);
}

static lorafmt_status check_adapter(checker *c)
{
    const lorafmt_adapter *adapter = c->adapter;

    if (!lf_adapter_name_valid(adapter->name))
        return bad_adapter(c, LF_ADAPTER_NAME,
                           "an adapter name must be 1..255 bytes of UTF-8 without / \\ # = and control characters");
    if (!lf_name_valid(adapter->base_name, strlen(adapter->base_name)))
        return bad_adapter(c, LF_ADAPTER_BASE_NAME, "a base name must be at most 1024 bytes of UTF-8 without control characters");
    if (!lf_name_valid(adapter->base_revision, strlen(adapter->base_revision)))
        return bad_adapter(c, LF_ADAPTER_BASE_REVISION,
                           "a base revision must be at most 1024 bytes of UTF-8 without control characters");
    if (adapter->n_sites == 0)
        return bad_adapter(c, LF_ADAPTER_N_SITES, "the adapter is empty: it changes no tensor");
    for (size_t i = 0; i < adapter->n_sites; i++) {
        c->site = &adapter->sites[i];
        c->i = i;
        LF_TRY(check_site(c));
        LF_TRY(check_order(c));
    }
    return check_metadata(c);
}

lorafmt_status lf_adapter_check(const lorafmt_adapter *adapter, lf_tensor_map *row_indexes, lf_adapter_place *place,
                                lorafmt_error *err)
{
    checker c = {.adapter = adapter, .row_indexes = row_indexes, .err = err};
    const lorafmt_status st = check_adapter(&c);

    if (place)
        *place = c.place;
    return st;
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
