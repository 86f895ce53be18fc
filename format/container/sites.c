/* SPDX-License-Identifier: MIT */
/* spec 4.4: site records */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <math.h>

enum { ALL_FLAGS = LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE | LORAFMT_SITE_BASE_SHA256 | LORAFMT_SITE_DOUBLED };

/* All but target and base_sha256. Field by field: clearing the whole site first takes longer. */
static void load(const uint8_t *p, lorafmt_site *out, uint32_t *first_factor)
{
    out->kind = lf_load_u16le(p + LF_SITE_KIND);
    out->orientation = p[LF_SITE_ORIENTATION];
    out->scaling = p[LF_SITE_SCALING];
    out->rank = lf_load_u32le(p + LF_SITE_RANK);
    out->flags = lf_load_u32le(p + LF_SITE_FLAGS);
    out->alpha = lf_load_f64le(p + LF_SITE_ALPHA);
    out->scale = lf_load_f64le(p + LF_SITE_SCALE);
    out->row_begin = lf_load_u64le(p + LF_SITE_ROW_BEGIN);
    out->row_end = lf_load_u64le(p + LF_SITE_ROW_END);
    out->col_begin = lf_load_u64le(p + LF_SITE_COL_BEGIN);
    out->col_end = lf_load_u64le(p + LF_SITE_COL_END);
    out->n_factors = lf_load_u32le(p + LF_SITE_N_FACTORS);
    out->factors = NULL;
    *first_factor = lf_load_u32le(p + LF_SITE_FIRST_FACTOR);
}

/* Kinds of this version; what others may hold is not known. */
static bool is_known(const lorafmt_site *s)
{
    return s->kind >= LORAFMT_KIND_REPLACEMENT && s->kind <= LORAFMT_KIND_EXPERTS;
}

static bool is_low_rank(const lorafmt_site *s)
{
    return s->kind >= LORAFMT_KIND_LINEAR && s->kind <= LORAFMT_KIND_EXPERTS;
}

static lorafmt_status check_kind(const lf_record *r, const lorafmt_site *s, lorafmt_error *err)
{
    const bool turns = !is_known(s) || s->kind == LORAFMT_KIND_LINEAR || s->kind == LORAFMT_KIND_EXPERTS;

    if (s->kind == 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_KIND, "kind", err, "0, must be at least 1");
    if (s->orientation > LORAFMT_BY_SHAPE)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_ORIENTATION, "orientation", err, "%u, must be 0..2", s->orientation);
    if (s->orientation && !turns)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_ORIENTATION, "orientation", err, "%u, must be 0 for kind %u",
                              s->orientation, s->kind);
    if (s->rank > LF_MAX_RANK || (s->rank == 0 && is_low_rank(s)))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_RANK, "rank", err, "%" PRIu32 ", must be 1..2^20", s->rank);
    if (s->rank && is_known(s) && !is_low_rank(s))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_RANK, "rank", err, "%" PRIu32 ", must be 0 for kind %u", s->rank,
                              s->kind);
    if (s->flags & ~(uint32_t)ALL_FLAGS)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_FLAGS, "flags", err, "0x%" PRIx32 ", only bits 0..3 may be set",
                              s->flags);
    return LORAFMT_OK;
}

static bool scaling_fits(const lorafmt_site *s)
{
    if (is_low_rank(s))
        return s->scaling != LORAFMT_SCALING_NONE;
    return s->scaling == LORAFMT_SCALING_NONE || (s->kind == LORAFMT_KIND_ADDITIVE && s->scaling == LORAFMT_SCALING_EXPLICIT);
}

/* The scale itself against alpha and rank is no business of a record. */
static lorafmt_status check_scaling(const lf_record *r, const lorafmt_site *s, lorafmt_error *err)
{
    const bool has_alpha = s->scaling == LORAFMT_SCALING_ALPHA_R || s->scaling == LORAFMT_SCALING_ALPHA_SQRT_R;

    if (s->scaling > LORAFMT_SCALING_EXPLICIT)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_SCALING, "scaling", err, "%u, must be 0..3", s->scaling);
    if (is_known(s) && !scaling_fits(s))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_SCALING, "scaling", err, "%u with kind %u: %s", s->scaling, s->kind,
                              "low-rank kinds have 1..3, additive 0 or 3, others 0");
    if (!isfinite(s->alpha))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_ALPHA, "alpha", err, "not finite");
    if (!has_alpha && lf_load_u64le(r->p + LF_SITE_ALPHA) != 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_ALPHA, "alpha", err, "%g, must be +0 with scaling %u", s->alpha,
                              s->scaling);
    if (!isfinite(s->scale))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_SCALE, "scale", err, "not finite");
    if (is_known(s) && s->scaling == LORAFMT_SCALING_NONE && s->scale != 1)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_SCALE, "scale", err, "%g, must be 1 with scaling 0", s->scale);
    return LORAFMT_OK;
}

static lorafmt_status check_ranges(const lf_record *r, const lorafmt_site *s, lorafmt_error *err)
{
    if (!(s->flags & LORAFMT_SITE_ROW_RANGE) && s->row_begin)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_ROW_BEGIN, "row_begin", err, "must be 0 without flag bit 0");
    if (s->flags & LORAFMT_SITE_ROW_RANGE ? s->row_end <= s->row_begin : s->row_end != 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_ROW_END, "row_end", err,
                              "rows %" PRIu64 " to %" PRIu64 " with flags 0x%" PRIx32, s->row_begin, s->row_end, s->flags);
    if (!(s->flags & LORAFMT_SITE_COL_RANGE) && s->col_begin)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_COL_BEGIN, "col_begin", err, "must be 0 without flag bit 1");
    if (s->flags & LORAFMT_SITE_COL_RANGE ? s->col_end <= s->col_begin : s->col_end != 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SITE_COL_END, "col_end", err,
                              "columns %" PRIu64 " to %" PRIu64 " with flags 0x%" PRIx32, s->col_begin, s->col_end, s->flags);
    return LORAFMT_OK;
}

lorafmt_status lf_container_site(const lf_container *c, size_t i, lorafmt_site *out, uint32_t *first_factor, lorafmt_error *err)
{
    lf_record r;

    LF_TRY(lf_record_get(c, LF_SITES, i, &r, err));
    load(r.p, out, first_factor);
    LF_TRY(lf_record_name_not_empty(&r, LF_SITE_TARGET, "target", &out->target, err));
    LF_TRY(check_kind(&r, out, err));
    LF_TRY(check_scaling(&r, out, err));
    LF_TRY(check_ranges(&r, out, err));
    if (out->n_factors < 1 || out->n_factors > LF_MAX_FACTORS)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_SITE_N_FACTORS, "n_factors", err, "%" PRIu32 ", must be 1..%u",
                              out->n_factors, LF_MAX_FACTORS);
    LF_TRY(lf_record_check_part(&r, LF_SITE_FIRST_FACTOR, "first_factor", LF_SITE_N_FACTORS, "n_factors", LF_FACTORS, err));
    return lf_record_digest(&r, LF_SITE_BASE_SHA256, "base_sha256", out->flags & LORAFMT_SITE_BASE_SHA256, out->base_sha256, err);
}

void lf_site_encode(const lorafmt_site *s, const lf_name_pool *pool, uint32_t first_factor, uint8_t *p)
{
    lf_store_u32le(p + LF_SITE_TARGET, lf_name_pool_find(pool, s->target));
    lf_store_u16le(p + LF_SITE_KIND, s->kind);
    p[LF_SITE_ORIENTATION] = s->orientation;
    p[LF_SITE_SCALING] = s->scaling;
    lf_store_u32le(p + LF_SITE_RANK, s->rank);
    lf_store_u32le(p + LF_SITE_FLAGS, s->flags);
    lf_store_f64le(p + LF_SITE_ALPHA, s->alpha);
    lf_store_f64le(p + LF_SITE_SCALE, s->scale);
    lf_store_u64le(p + LF_SITE_ROW_BEGIN, s->row_begin);
    lf_store_u64le(p + LF_SITE_ROW_END, s->row_end);
    lf_store_u64le(p + LF_SITE_COL_BEGIN, s->col_begin);
    lf_store_u64le(p + LF_SITE_COL_END, s->col_end);
    lf_store_u32le(p + LF_SITE_FIRST_FACTOR, first_factor);
    lf_store_u32le(p + LF_SITE_N_FACTORS, s->n_factors);
    memcpy(p + LF_SITE_BASE_SHA256, s->base_sha256, LF_SHA256_SIZE);
}

int lf_site_compare(const lorafmt_site *a, const lorafmt_site *b)
{
    const int order = strcmp(a->target, b->target);

    if (order)
        return order;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->row_begin != b->row_begin)
        return a->row_begin < b->row_begin ? -1 : 1;
    return (a->col_begin > b->col_begin) - (a->col_begin < b->col_begin);
}

/* Sets *field and returns where it lies. */
static unsigned is_field(const char **field, const char *name, unsigned at)
{
    *field = name;
    return at;
}

unsigned lf_site_order_field(const lorafmt_site *a, const lorafmt_site *b, const char **field)
{
    if (strcmp(a->target, b->target) != 0)
        return is_field(field, "target", LF_SITE_TARGET);
    if (a->kind != b->kind)
        return is_field(field, "kind", LF_SITE_KIND);
    if (a->row_begin != b->row_begin)
        return is_field(field, "row_begin", LF_SITE_ROW_BEGIN);
    if (a->col_begin != b->col_begin)
        return is_field(field, "col_begin", LF_SITE_COL_BEGIN);
    return is_field(field, "target", LF_SITE_TARGET);
}

/* A search for the first site of a target: sites before low are below it, those from high on are not. */
typedef struct search {
    const lf_container *c;
    const char *target;
    size_t low, high;
    bool found; // site `high` is one of the target's
    lorafmt_error *err;
} search;

/* Narrow to one side of site i, low <= i < high. */
static lorafmt_status look_at(search *s, size_t i)
{
    lf_record r;
    int order;

    LF_TRY(lf_record_get(s->c, LF_SITES, i, &r, s->err));
    LF_TRY(lf_record_compare_name(&r, LF_SITE_TARGET, "target", s->target, &order, s->err));
    if (order < 0) {
        s->low = i + 1;
    } else {
        s->high = i;
        s->found = order == 0;
    }
    return LORAFMT_OK;
}

/* From site i on away in steps that double, until the target lies between the last two. */
static lorafmt_status look_around(search *s, size_t i)
{
    LF_TRY(look_at(s, i));
    if (s->low > i) {
        for (size_t step = 1; s->high - s->low >= step && s->low > i; step *= 2) {
            i = s->low + step - 1;
            LF_TRY(look_at(s, i));
        }
    } else {
        for (size_t step = 1; s->high - s->low >= step && s->high == i; step *= 2) {
            i = s->high - step;
            LF_TRY(look_at(s, i));
        }
    }
    return LORAFMT_OK;
}

lorafmt_status lf_container_find_site(const lf_container *c, size_t adapter, const char *target, size_t *site, lorafmt_error *err)
{
    uint32_t first_site, n_sites;
    search s = {.c = c, .target = target, .err = err};

    LF_TRY(lf_container_adapter_sites(c, adapter, &first_site, &n_sites, err));
    s.low = first_site;
    s.high = (size_t)first_site + n_sites;
    if (s.low <= *site && *site < s.high)
        LF_TRY(look_around(&s, *site));
    while (s.low < s.high)
        LF_TRY(look_at(&s, s.low + (s.high - s.low) / 2));
    if (!s.found)
        return LORAFMT_NOT_FOUND;
    *site = s.high;
    return LORAFMT_OK;
}
