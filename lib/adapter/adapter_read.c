/* SPDX-License-Identifier: MIT */
/* From the records of a container to an adapter in memory. */
#include "format/base/error.h"
#include "lib/adapter/adapter.h"

#include <string.h>

static lorafmt_status read_factors(const lf_container *container, uint32_t first, lorafmt_site *site, lf_arena *arena,
                                   lorafmt_error *err)
{
    lorafmt_factor *factors = lf_arena_alloc(arena, site->n_factors, sizeof *factors);
    uint32_t tensor;

    if (!factors)
        return lf_no_memory(err);
    for (uint32_t i = 0; i < site->n_factors; i++) {
        LF_TRY(lf_container_factor(container, (size_t)first + i, &factors[i], &tensor, err));
        if (!factors[i].tensor.data)
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target,
                           "factor %s is stored with a codec that this version does not decode",
                           lorafmt_role_name(factors[i].role));
    }
    site->factors = factors;
    return LORAFMT_OK;
}

lorafmt_status lf_adapter_read(const lf_container *container, size_t i, lf_arena *arena, lorafmt_adapter *out, lorafmt_error *err)
{
    uint32_t first_site, first_metadata, first_factor;
    lorafmt_metadata *metadata;
    lorafmt_site *sites;

    LF_TRY(lf_container_adapter(container, i, out, &first_site, &first_metadata, err));
    sites = lf_arena_alloc(arena, out->n_sites, sizeof *sites);
    metadata = lf_arena_alloc(arena, out->n_metadata, sizeof *metadata);
    if (!sites || !metadata)
        return lf_no_memory(err);
    for (size_t s = 0; s < out->n_sites; s++) {
        LF_TRY(lf_container_site(container, first_site + s, &sites[s], &first_factor, err));
        LF_TRY(read_factors(container, first_factor, &sites[s], arena, err));
    }
    for (size_t m = 0; m < out->n_metadata; m++)
        LF_TRY(lf_container_metadata(container, first_metadata + m, &metadata[m], err));
    out->sites = sites;
    out->metadata = metadata;
    out->has_id = true;
    return lf_adapter_check(out, err);
}

void lorafmt_adapter_id(const lorafmt_adapter *adapter, uint8_t out[32])
{
    if (adapter->has_id)
        memcpy(out, adapter->id, sizeof adapter->id);
    else
        lf_adapter_id(adapter, NULL, out);
}
