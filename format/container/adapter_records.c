/* SPDX-License-Identifier: MIT */
/* All records of one adapter, without a look at the data of its tensors. */
#include "format/base/error.h"
#include "format/container/internal.h"

static lorafmt_status read_sites(const lf_container *c, lorafmt_site *sites, lf_adapter_records *out, uint32_t *first_factor,
                                 lorafmt_error *err)
{
    uint32_t at;

    for (size_t s = 0; s < out->adapter.n_sites; s++) {
        LF_TRY(lf_container_site(c, (size_t)out->first_site + s, &sites[s], &at, err));
        if (s == 0)
            *first_factor = at;
        out->n_factors += sites[s].n_factors;
    }
    return LORAFMT_OK;
}

static lorafmt_status read_factors(const lf_container *c, uint32_t first, lf_arena *arena, lf_adapter_records *out,
                                   lorafmt_error *err)
{
    lf_tensor_record record;

    out->factors = lf_arena_alloc(arena, out->n_factors, sizeof *out->factors);
    out->tensors = lf_arena_alloc(arena, out->n_factors, sizeof *out->tensors);
    out->digests = lf_arena_alloc(arena, out->n_factors, sizeof *out->digests);
    if (!out->factors || !out->tensors || !out->digests)
        return lf_no_memory(err);
    for (size_t f = 0; f < out->n_factors; f++) {
        LF_TRY(lf_factor_decode(c, (size_t)first + f, &out->factors[f].role, &out->tensors[f], err));
        LF_TRY(lf_container_tensor(c, out->tensors[f], &record, err));
        out->factors[f].tensor = record.tensor;
        memcpy(out->digests[f], record.sha256, sizeof out->digests[f]);
    }
    return LORAFMT_OK;
}

static lorafmt_status read_metadata(const lf_container *c, lf_arena *arena, lf_adapter_records *out, lorafmt_error *err)
{
    lorafmt_adapter *adapter = &out->adapter;
    lorafmt_metadata *metadata = lf_arena_alloc(arena, adapter->n_metadata, sizeof *metadata);

    if (!metadata)
        return lf_no_memory(err);
    for (size_t i = 0; i < adapter->n_metadata; i++)
        LF_TRY(lf_container_metadata(c, (size_t)out->first_metadata + i, &metadata[i], err));
    adapter->metadata = metadata;
    return LORAFMT_OK;
}

lorafmt_status lf_container_read(const lf_container *c, size_t i, lf_arena *arena, lf_adapter_records *out, lorafmt_error *err)
{
    uint32_t first_factor = 0;
    lorafmt_adapter *adapter = &out->adapter;
    lorafmt_site *sites;
    size_t f = 0;

    *out = (lf_adapter_records){0};
    LF_TRY(lf_container_adapter(c, i, adapter, &out->first_site, &out->first_metadata, err));
    if (!(sites = lf_arena_alloc(arena, adapter->n_sites, sizeof *sites)))
        return lf_no_memory(err);
    LF_TRY(read_sites(c, sites, out, &first_factor, err));
    LF_TRY(read_factors(c, first_factor, arena, out, err));
    for (size_t s = 0; s < adapter->n_sites; f += sites[s++].n_factors)
        sites[s].factors = out->factors + f;
    adapter->sites = sites;
    LF_TRY(read_metadata(c, arena, out, err));
    return lf_signatures_read(c, i, arena, &adapter->signatures, err);
}

lorafmt_status lf_container_read_all(const lf_container *c, size_t n_more, lf_arena *arena, lf_adapter_list *out,
                                     lorafmt_error *err)
{
    const size_t n = lf_container_n_adapters(c);

    *out = (lf_adapter_list){.records = lf_arena_alloc(arena, n, sizeof *out->records),
                             .adapters = lf_arena_alloc(arena, n + n_more, sizeof *out->adapters),
                             .digests = lf_arena_alloc(arena, n + n_more, sizeof *out->digests)};
    if (!out->records || !out->adapters || !out->digests)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++, out->n++) {
        LF_TRY(lf_container_read(c, i, arena, &out->records[i], err));
        out->adapters[i] = &out->records[i].adapter;
        out->digests[i] = (const lf_digest *)out->records[i].digests;
    }
    return LORAFMT_OK;
}
