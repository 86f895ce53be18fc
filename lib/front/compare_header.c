/* SPDX-License-Identifier: MIT */
/* Does a file of a merged model say about its tensors what it should? If not, what is the first thing that differs? */
#include "format/base/error.h"
#include "lib/front/merge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_SIZE 65536
#define TYPE_TEXT_SIZE 256

/* "BF16 [4, 3]" */
static const char *type_text(const lf_safetensors_tensor *t, char buf[TYPE_TEXT_SIZE])
{
    size_t n = (size_t)snprintf(buf, TYPE_TEXT_SIZE, "%s [", lorafmt_dtype_name(t->dtype));

    for (uint32_t d = 0; d < t->n_dims; d++) // 8 dimensions of 20 digits fit
        n += (size_t)snprintf(buf + n, TYPE_TEXT_SIZE - n, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    snprintf(buf + n, TYPE_TEXT_SIZE - n, "]");
    return buf;
}

static lorafmt_status differs(lorafmt_error *err, uint64_t offset, const char *field, const char *found, const char *expected)
{
    return lf_fail(err, LORAFMT_MISMATCH, offset, field, "%.400s, must be %.400s", found, expected);
}

static lorafmt_status compare_tensor(const lf_safetensors_tensor *found, const lf_safetensors_tensor *expected,
                                     lorafmt_error *err)
{
    char found_text[TYPE_TEXT_SIZE], expected_text[TYPE_TEXT_SIZE];

    type_text(found, found_text);
    type_text(expected, expected_text);
    if (strcmp(found->name, expected->name) != 0)
        return lf_fail(err, LORAFMT_MISMATCH, found->offset, found->name, "is here, must be %.400s", expected->name);
    if (strcmp(found_text, expected_text) != 0)
        return differs(err, found->offset, found->name, found_text, expected_text);
    return LORAFMT_OK;
}

static lorafmt_status compare_tensors(const lf_safetensors *found, const lf_layout *expected, lorafmt_error *err)
{
    for (size_t i = 0; i < found->n_tensors && i < expected->n; i++)
        LF_TRY(compare_tensor(&found->tensors[i], &expected->entries[i], err));
    if (found->n_tensors > expected->n)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, found->tensors[expected->n].name,
                       "is no tensor of the merged model");
    if (found->n_tensors < expected->n)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, expected->entries[found->n_tensors].name, "is missing");
    return LORAFMT_OK;
}

static lorafmt_status compare_metadata(const lf_safetensors *found, const lf_safetensors *base, lorafmt_error *err)
{
    for (size_t i = 0; i < base->n_metadata; i++) {
        const char *key = base->metadata[i].key, *value = lf_safetensors_metadata(found, key);
        if (!value)
            return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, "__metadata__", "%.300s of the base is missing", key);
        if (strcmp(value, base->metadata[i].value) != 0)
            return differs(err, LORAFMT_NO_OFFSET, key, value, base->metadata[i].value);
    }
    if (found->n_metadata > base->n_metadata)
        return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, "__metadata__", "%zu entries, must be the %zu of the base",
                       found->n_metadata, base->n_metadata);
    return LORAFMT_OK;
}

/* The bytes say that something differs; what it means is said when that can be found, else where it is. */
static lorafmt_status explain(const lf_model_file *found, const lf_model_file *base, const lf_layout *expected, uint64_t at,
                              lorafmt_error *err)
{
    LF_TRY(compare_tensors(found->table, expected, err));
    LF_TRY(compare_metadata(found->table, base->table, err));
    return lf_fail(err, LORAFMT_MISMATCH, at, "header", "says the same in other bytes than merging writes");
}

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t i = 0;

    while (i < n && a[i] == b[i])
        i++;
    return i;
}

lorafmt_status lf_layout_compare_header(const lf_layout *l, const lf_model_file *base, const lf_model_file *found,
                                        lorafmt_error *err)
{
    uint8_t here[READ_SIZE], there[READ_SIZE];

    for (uint64_t at = 0; at < l->data_offset; at += READ_SIZE) {
        const uint64_t left = l->data_offset - at,
                       found_left = at < found->table->data_offset ? found->table->data_offset - at : 0;
        const size_t n = left < READ_SIZE ? (size_t)left : READ_SIZE, n_found = found_left < n ? (size_t)found_left : n;
        size_t same;
        LF_TRY(lf_layout_read_header(l, base, at, there, n, err));
        LF_TRY(lf_file_read(found->fd, found->path, at, here, n_found, err));
        same = first_difference(here, there, n_found);
        if (same < n)
            return explain(found, base, l, at + same, err);
    }
    return LORAFMT_OK; // the first 8 bytes are the header's size, so both end here
}
