/* SPDX-License-Identifier: MIT */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/foreign/json.h"
#include "format/foreign/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void add_metadata(lf_text_buffer *json, const lf_safetensors_pair *metadata, size_t n_metadata)
{
    lf_text_add(json, "\"__metadata__\":{");
    for (size_t i = 0; i < n_metadata; i++) {
        lf_text_add(json, "%s", i ? "," : "");
        lf_text_add_json_string(json, metadata[i].key);
        lf_text_add(json, ":");
        lf_text_add_json_string(json, metadata[i].value);
    }
    lf_text_add(json, "}");
}

/* begin and end count from the start of the data. */
static void add_tensor(lf_text_buffer *json, const lf_safetensors_tensor *t, uint64_t begin, uint64_t end)
{
    lf_text_add_json_string(json, t->name);
    lf_text_add(json, ":{\"dtype\":\"%s\",\"shape\":[", lorafmt_dtype_name(t->dtype));
    for (uint32_t i = 0; i < t->n_dims; i++)
        lf_text_add(json, "%s%" PRIu64, i ? "," : "", t->shape[i]);
    lf_text_add(json, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, end);
}

/* Sets the tensors' offsets, from the start of the data for now. */
static lorafmt_status add_tensors(lf_text_buffer *json, lf_safetensors_tensor *tensors, size_t n_tensors, lorafmt_error *err)
{
    uint64_t at = 0;

    for (size_t i = 0; i < n_tensors; i++) {
        lf_safetensors_tensor *t = &tensors[i];
        uint64_t size, end;
        if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &size) || size != t->size)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, t->name, "%" PRIu64 " bytes do not fit its dtype and shape",
                           t->size);
        if (!lf_add_u64(at, size, &end) || end > LF_SAFETENSORS_MAX_DATA)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, t->name, "the data would be beyond 2^53 bytes");
        if (json->size > 1)
            lf_text_add(json, ",");
        add_tensor(json, t, at, end);
        t->offset = at;
        at = end;
    }
    return LORAFMT_OK;
}

static lorafmt_status build(lf_text_buffer *json, lf_safetensors_tensor *tensors, size_t n_tensors,
                            const lf_safetensors_pair *metadata, size_t n_metadata, lorafmt_error *err)
{
    lf_text_add(json, "{");
    if (n_metadata)
        add_metadata(json, metadata, n_metadata);
    LF_TRY(add_tensors(json, tensors, n_tensors, err));
    lf_text_add(json, "}");
    while (!json->failed && json->size % 8)
        lf_text_add(json, " ");
    if (json->failed)
        return lf_no_memory(err);
    if (json->size > LF_SAFETENSORS_MAX_HEADER)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, "header_size", "a header of %zu bytes, at most %" PRIu64,
                       json->size, LF_SAFETENSORS_MAX_HEADER);
    return LORAFMT_OK;
}

lorafmt_status lf_safetensors_encode_header(lf_safetensors_tensor *tensors, size_t n_tensors, const lf_safetensors_pair *metadata,
                                            size_t n_metadata, uint8_t **out, size_t *out_size, lorafmt_error *err)
{
    lf_text_buffer json = {0};
    uint8_t *bytes = NULL;
    lorafmt_status st;

    *out = NULL;
    *out_size = 0;
    st = build(&json, tensors, n_tensors, metadata, n_metadata, err);
    if (st == LORAFMT_OK && !(bytes = malloc(8 + json.size)))
        st = lf_no_memory(err);
    if (st == LORAFMT_OK) {
        lf_store_u64le(bytes, json.size);
        memcpy(bytes + 8, json.text, json.size);
        for (size_t i = 0; i < n_tensors; i++)
            tensors[i].offset += 8 + json.size;
        *out = bytes;
        *out_size = 8 + json.size;
    }
    lf_text_free(&json);
    return st;
}
