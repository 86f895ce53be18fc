/* SPDX-License-Identifier: MIT */
/* From the records of a container to an adapter in memory. */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/format.h"
#include "lib/adapter/adapter.h"

#include <string.h>

/* Who asks for an adapter's id gets one that is true. */
static lorafmt_status check_id(const lf_adapter_reader *reader, size_t i, const lf_adapter_records *records, lorafmt_error *err)
{
    const lorafmt_adapter *adapter = &records->adapter;
    lf_digest id;

    lf_adapter_id(adapter, (const uint8_t(*)[LF_SHA256_SIZE])records->digests, id);
    if (memcmp(id, adapter->id, sizeof id) != 0)
        return lf_fail(err, LORAFMT_CORRUPT, lf_container_adapter_offset(reader->container, i) + LF_ADAPTER_ID, adapter->name,
                       "adapter_id is not the id of what the adapter holds");
    return LORAFMT_OK;
}

static lorafmt_status count_values(lf_adapter_reader *reader, const lf_adapter_records *records, lorafmt_error *err)
{
    const lorafmt_adapter *adapter = &records->adapter;

    for (size_t i = 0; i < adapter->n_metadata; i++) {
        reader->n_value_bytes += strlen(adapter->metadata[i].value);
        if (reader->n_value_bytes > LF_MAX_VALUES)
            return lf_fail(err, LORAFMT_CORRUPT,
                           lf_container_metadata_offset(reader->container, records->first_metadata + i) + LF_METADATA_VALUE,
                           adapter->metadata[i].key, "metadata values of more than 2^28 bytes");
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
static uint64_t offset_of(const lf_container *c, size_t i, const lf_adapter_records *records, const lf_adapter_place *place)
{
    switch (place->part) {
    case LF_PART_ADAPTER:
        return lf_container_adapter_offset(c, i) + place->byte;
    case LF_PART_METADATA:
        return lf_container_metadata_offset(c, records->first_metadata + place->i) + place->byte;
    default:
        return lf_site_place_offset(c, records->first_site + place->i, place);
    }
}

lorafmt_status lf_adapter_read(lf_adapter_reader *reader, size_t i, lorafmt_adapter *out, lorafmt_error *err)
{
    lf_adapter_records records;
    lf_adapter_place place;
    lorafmt_status st;

    LF_TRY(lf_container_read(reader->container, i, reader->arena, &records, err));
    for (size_t f = 0; f < records.n_factors; f++)
        records.factors[f].tensor.data = reader->loaded[records.tensors[f]];
    *out = records.adapter;
    LF_TRY(count_values(reader, &records, err));
    st = lf_adapter_check(out, &reader->row_indexes, &place, err);
    if (st && err)
        err->offset = offset_of(reader->container, i, &records, &place);
    return st ? st : check_id(reader, i, &records, err);
}

void lorafmt_adapter_id(const lorafmt_adapter *adapter, uint8_t out[32])
{
    if (adapter->has_id)
        memcpy(out, adapter->id, sizeof adapter->id);
    else
        lf_adapter_id(adapter, NULL, out);
}
