/* SPDX-License-Identifier: MIT */
/* spec 4.3: adapter records */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/internal.h"

#include <inttypes.h>

static lorafmt_status decode_names(const lf_record *r, lorafmt_adapter *out, lorafmt_error *err)
{
    LF_TRY(lf_record_name(r, LF_ADAPTER_NAME, "name", &out->name, err));
    if (!lf_adapter_name_valid(out->name))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_ADAPTER_NAME, "name", err,
                              "must be 1..%d bytes without '/', '\\', '#', '=', and not '.' or '..'", LF_MAX_ADAPTER_NAME);
    LF_TRY(lf_record_name(r, LF_ADAPTER_BASE_NAME, "base_name", &out->base_name, err));
    return lf_record_name(r, LF_ADAPTER_BASE_REVISION, "base_revision", &out->base_revision, err);
}

lorafmt_status lf_container_adapter_sites(const lf_container *c, size_t i, uint32_t *first_site, uint32_t *n_sites,
                                          lorafmt_error *err)
{
    lf_record r;

    LF_TRY(lf_record_get(c, LF_ADAPTERS, i, &r, err));
    *first_site = lf_load_u32le(r.p + LF_ADAPTER_FIRST_SITE);
    *n_sites = lf_load_u32le(r.p + LF_ADAPTER_N_SITES);
    if (*n_sites == 0)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_ADAPTER_N_SITES, "n_sites", err, "0, must be 1..2^24");
    return lf_record_check_part(&r, LF_ADAPTER_FIRST_SITE, "first_site", LF_ADAPTER_N_SITES, "n_sites", LF_SITES, err);
}

lorafmt_status lf_container_adapter(const lf_container *c, size_t i, lorafmt_adapter *out, uint32_t *first_site,
                                    uint32_t *first_metadata, lorafmt_error *err)
{
    lf_record r;
    uint32_t flags, n_sites;

    LF_TRY(lf_record_get(c, LF_ADAPTERS, i, &r, err));
    *out = (lorafmt_adapter){.has_id = true, .n_metadata = lf_load_u32le(r.p + LF_ADAPTER_N_METADATA)};
    *first_metadata = lf_load_u32le(r.p + LF_ADAPTER_FIRST_METADATA);
    flags = lf_load_u32le(r.p + LF_ADAPTER_FLAGS);

    LF_TRY(decode_names(&r, out, err));
    if (flags & ~LF_ADAPTER_FLAG_BASE_STRUCTURE)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_ADAPTER_FLAGS, "flags", err, "0x%" PRIx32 ", only bit 0 may be set", flags);
    LF_TRY(lf_container_adapter_sites(c, i, first_site, &n_sites, err));
    out->n_sites = n_sites;
    LF_TRY(lf_record_check_part(&r, LF_ADAPTER_FIRST_METADATA, "first_metadata", LF_ADAPTER_N_METADATA, "n_metadata", LF_METADATA,
                                err));
    out->n_signatures = lf_signatures_count(c, i);
    out->has_base_structure = flags & LF_ADAPTER_FLAG_BASE_STRUCTURE;
    LF_TRY(lf_record_digest(&r, LF_ADAPTER_ID, "adapter_id", true, out->id, err));
    LF_TRY(lf_record_digest(&r, LF_ADAPTER_BASE_STRUCTURE, "base_structure", out->has_base_structure, out->base_structure, err));
    return lf_record_check_reserved(&r, LF_ADAPTER_RESERVED, LF_ADAPTER_SIZE - LF_ADAPTER_RESERVED, err);
}

void lf_adapter_encode(const lorafmt_adapter *adapter, const lf_name_pool *pool, uint32_t first_site, uint32_t first_metadata,
                       const uint8_t id[LF_SHA256_SIZE], uint8_t *p)
{
    memset(p, 0, LF_ADAPTER_SIZE);
    lf_store_u32le(p + LF_ADAPTER_NAME, lf_name_pool_find(pool, adapter->name));
    lf_store_u32le(p + LF_ADAPTER_BASE_NAME, lf_name_pool_find(pool, adapter->base_name));
    lf_store_u32le(p + LF_ADAPTER_BASE_REVISION, lf_name_pool_find(pool, adapter->base_revision));
    lf_store_u32le(p + LF_ADAPTER_FLAGS, adapter->has_base_structure ? LF_ADAPTER_FLAG_BASE_STRUCTURE : 0);
    lf_store_u32le(p + LF_ADAPTER_FIRST_SITE, first_site);
    lf_store_u32le(p + LF_ADAPTER_N_SITES, (uint32_t)adapter->n_sites);
    lf_store_u32le(p + LF_ADAPTER_FIRST_METADATA, first_metadata);
    lf_store_u32le(p + LF_ADAPTER_N_METADATA, (uint32_t)adapter->n_metadata);
    memcpy(p + LF_ADAPTER_ID, id, LF_SHA256_SIZE);
    if (adapter->has_base_structure)
        memcpy(p + LF_ADAPTER_BASE_STRUCTURE, adapter->base_structure, LF_SHA256_SIZE);
}
