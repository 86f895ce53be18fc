/* SPDX-License-Identifier: MIT */
/* From the records of a container to an adapter in memory. */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/format.h"
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

/* The digests of all factors, which are those of their data. */
static lorafmt_status read_digests(const lf_adapter_reader *reader, const lorafmt_adapter *adapter, uint32_t first_site,
                                   uint8_t (*out)[LF_SHA256_SIZE], lorafmt_error *err)
{
    uint32_t first_factor, tensor;
    lf_tensor_record record;
    lorafmt_factor factor;
    lorafmt_site site;

    for (size_t s = 0; s < adapter->n_sites; s++) {
        LF_TRY(lf_container_site(reader->container, first_site + s, &site, &first_factor, err));
        for (uint32_t k = 0; k < site.n_factors; k++, out++) {
            LF_TRY(lf_container_factor(reader->container, (size_t)first_factor + k, &factor, &tensor, err));
            LF_TRY(lf_container_tensor(reader->container, tensor, &record, err));
            memcpy(*out, record.sha256, sizeof *out);
        }
    }
    return LORAFMT_OK;
}

/* Who asks for an adapter's id gets one that is true. */
static lorafmt_status check_id(const lf_adapter_reader *reader, size_t i, const lorafmt_adapter *adapter, uint32_t first_site,
                               lorafmt_error *err)
{
    uint8_t(*digests)[LF_SHA256_SIZE], id[LF_SHA256_SIZE];
    size_t n = 0;

    for (size_t s = 0; s < adapter->n_sites; s++)
        n += adapter->sites[s].n_factors;
    digests = lf_arena_alloc(reader->arena, n, sizeof *digests);
    if (!digests)
        return lf_no_memory(err);
    LF_TRY(read_digests(reader, adapter, first_site, digests, err));
    lf_adapter_id(adapter, (const uint8_t(*)[LF_SHA256_SIZE])digests, id);
    if (memcmp(id, adapter->id, sizeof id) != 0)
        return lf_fail(err, LORAFMT_CORRUPT, lf_container_adapter_offset(reader->container, i) + LF_ADAPTER_ID, adapter->name,
                       "adapter_id is not the id of what the adapter holds");
    return LORAFMT_OK;
}

static lorafmt_status read_metadata(lf_adapter_reader *reader, uint32_t first, size_t n, lorafmt_metadata *out,
                                    lorafmt_error *err)
{
    for (size_t i = 0; i < n; i++) {
        LF_TRY(lf_container_metadata(reader->container, first + i, &out[i], err));
        reader->n_value_bytes += strlen(out[i].value);
        if (reader->n_value_bytes > LF_MAX_VALUES)
            return lf_fail(err, LORAFMT_CORRUPT, lf_container_metadata_offset(reader->container, first + i) + LF_METADATA_VALUE,
                           out[i].key, "metadata values of more than 2^28 bytes");
    }
    return LORAFMT_OK;
}

uint64_t lf_site_place_offset(const lf_container *c, size_t i, const lf_adapter_place *place)
{
    lorafmt_site unused;
    lf_tensor_record record;
    uint32_t first_factor, tensor;
    lorafmt_factor factor;

    if (place->part == LF_PART_SITE)
        return lf_container_site_offset(c, i) + place->byte;
    if (lf_container_site(c, i, &unused, &first_factor, NULL) || // all were read before
        lf_container_factor(c, (size_t)first_factor + place->factor, &factor, &tensor, NULL) ||
        lf_container_tensor(c, tensor, &record, NULL))
        return LORAFMT_NO_OFFSET;
    if (place->part == LF_PART_FACTOR)
        return lf_container_factor_offset(c, (size_t)first_factor + place->factor) + place->byte;
    if (place->part == LF_PART_TENSOR)
        return lf_container_tensor_offset(c, tensor) + place->byte;
    return record.codec == LORAFMT_CODEC_RAW ? record.offset + place->byte : record.offset;
}

/* Where in the file the part of adapter i lies that breaks a rule. */
static uint64_t offset_of(const lf_container *c, size_t i, const lf_adapter_place *place)
{
    uint32_t first_site, first_metadata;
    lorafmt_adapter adapter;

    if (lf_container_adapter(c, i, &adapter, &first_site, &first_metadata, NULL))
        return LORAFMT_NO_OFFSET;
    switch (place->part) {
    case LF_PART_ADAPTER:
        return lf_container_adapter_offset(c, i) + place->byte;
    case LF_PART_METADATA:
        return lf_container_metadata_offset(c, first_metadata + place->i) + place->byte;
    default:
        return lf_site_place_offset(c, first_site + place->i, place);
    }
}

lorafmt_status lf_adapter_read(lf_adapter_reader *reader, size_t i, lorafmt_adapter *out, lorafmt_error *err)
{
    uint32_t first_site, first_metadata, first_factor;
    lf_adapter_place place;
    lorafmt_metadata *metadata;
    lorafmt_site *sites;
    lorafmt_status st;

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
    st = lf_adapter_check(out, &reader->row_indexes, &place, err);
    if (st && err)
        err->offset = offset_of(reader->container, i, &place);
    return st ? st : check_id(reader, i, out, first_site, err);
}

void lorafmt_adapter_id(const lorafmt_adapter *adapter, uint8_t out[32])
{
    if (adapter->has_id)
        memcpy(out, adapter->id, sizeof adapter->id);
    else
        lf_adapter_id(adapter, NULL, out);
}
