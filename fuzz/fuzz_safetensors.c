/* SPDX-License-Identifier: MIT */
/*
 * safetensors, twice: the input as a whole file, and the input as a header whose size is right, before as many bytes of data as
 * its first two bytes say. What is accepted encodes and parses to the same table.
 */
#include "fuzz/fuzz.h"

#include "format/foreign/safetensors.h"

#include <stdlib.h>
#include <string.h>

static void check_same(const lf_safetensors *a, const lf_safetensors *b)
{
    require(a->n_tensors == b->n_tensors && a->n_metadata == b->n_metadata);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const lf_safetensors_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        require(strcmp(x->name, y->name) == 0 && x->dtype == y->dtype && x->n_dims == y->n_dims && x->size == y->size);
        require(memcmp(x->shape, y->shape, sizeof x->shape) == 0);
        require(x->offset - a->data_offset == y->offset - b->data_offset);
        require(x->offset + x->size <= a->file_size);
    }
    for (size_t i = 0; i < a->n_metadata; i++)
        require(strcmp(a->metadata[i].value, b->metadata[i].value) == 0);
}

static void check_table(lf_safetensors *table)
{
    lf_safetensors_tensor *copy = calloc(table->n_tensors + 1, sizeof *copy);
    lf_safetensors *again;
    uint8_t *header;
    size_t size;

    require(copy != NULL);
    if (table->n_tensors)
        memcpy(copy, table->tensors, table->n_tensors * sizeof *copy);
    require(lf_safetensors_encode_header(copy, table->n_tensors, table->metadata, table->n_metadata, &header, &size, NULL) ==
            LORAFMT_OK);
    require(lf_safetensors_parse(header + 8, size - 8, size + table->file_size - table->data_offset, &again, NULL) == LORAFMT_OK);
    check_same(table, again);
    lf_safetensors_free(again);
    free(header);
    free(copy);
}

static void parse(const uint8_t *header, uint64_t header_size, uint64_t file_size)
{
    lf_safetensors *table;
    lorafmt_error err;

    if (lf_safetensors_parse(header, header_size, file_size, &table, &err) == LORAFMT_OK)
        check_table(table);
    lf_safetensors_free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t header_size;

    if (lf_safetensors_header_size(data, size < LF_SAFETENSORS_HEAD ? size : LF_SAFETENSORS_HEAD, size, &header_size, NULL) ==
        LORAFMT_OK)
        parse(data + 8, header_size, size);
    if (size >= 2)
        parse(data + 2, size - 2, 8 + size - 2 + data[0] + data[1] * 256u);
    return 0;
}
