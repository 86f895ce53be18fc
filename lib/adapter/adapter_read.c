/* SPDX-License-Identifier: MIT */
/* From the records of a container to an adapter in memory. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/adapter/adapter.h"

#include <string.h>

static lorafmt_status read_factors(lf_adapter_reader *reader, uint32_t first, lorafmt_site *site, lorafmt_error *err)
{
    lorafmt_factor *factors = lf_arena_alloc(reader->arena, site->n_factors, sizeof *factors);
    uint32_t tensor;

    if (!factors)
        return lf_no_memory(err);
    for (uint32_t i = 0; i < site->n_factors; i++) {
        LF_TRY(lf_container_factor(reader->container, (size_t)first + i, &factors[i], &tensor, err));
        factors[i].tensor.data = reader->loaded[tensor];
    }
    site->factors = factors;
    return LORAFMT_OK;
}

static lorafmt_status read_metadata(lf_adapter_reader *reader, uint32_t first, size_t n, lorafmt_metadata *out,
                                    lorafmt_error *err)
{
    for (size_t i = 0; i < n; i++) {
        LF_TRY(lf_container_metadata(reader->container, first + i, &out[i], err));
        reader->n_value_bytes += strlen(out[i].value);
        if (reader->n_value_bytes > LF_MAX_VALUES)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, out[i].key, "metadata values of more than 2^28 bytes");
    }
    return LORAFMT_OK;
}

lorafmt_status lf_adapter_read(lf_adapter_reader *reader, size_t i, lorafmt_adapter *out, lorafmt_error *err)
{
    uint32_t first_site, first_metadata, first_factor;
    lorafmt_metadata *metadata;
    lorafmt_site *sites;

    LF_TRY(lf_container_adapter(reader->container, i, out, &first_site, &first_metadata, err));
    sites = lf_arena_alloc(reader->arena, out->n_sites, sizeof *sites);
    metadata = lf_arena_alloc(reader->arena, out->n_metadata, sizeof *metadata);
    if (!sites || !metadata)
        return lf_no_memory(err);
    for (size_t s = 0; s < out->n_sites; s++) {
        LF_TRY(lf_container_site(reader->container, first_site + s, &sites[s], &first_factor, err));
        LF_TRY(read_factors(reader, first_factor, &sites[s], err));
    }
    LF_TRY(read_metadata(reader, first_metadata, out->n_metadata, metadata, err));
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
