/* SPDX-License-Identifier: MIT */
/* The tensors of adapters, each once however many of their sites share it, and what their elements are. */
#ifndef TOOLS_TENSORS_H
#define TOOLS_TENSORS_H

#include "lorafmt/adapter.h"

#include <stddef.h>
#include <stdint.h>

typedef struct tensor_entry {
    const lorafmt_tensor *tensor;
    const lorafmt_site *site; /* that uses it first */
    size_t first_use;         /* counted over all factors */
    lorafmt_elements elements;
    const struct tensor_entry *equal; /* one for all of the same dtype, shape and data; NULL until same_tensors_mark() */
} tensor_entry;

typedef struct tensor_table {
    tensor_entry *entries; /* by address of their data */
    size_t n;
} tensor_table;

/* Returns an exit code, having said why it is not 0; tensor_table_free() in any case. */
int tensor_table_make(const lorafmt_adapter *const *adapters, size_t n_adapters, tensor_table *out);
void tensor_table_free(tensor_table *table);

/* The entry of a tensor of the adapters. */
const tensor_entry *tensor_table_find(const tensor_table *table, const lorafmt_tensor *tensor);

/* Of all its sites. */
size_t adapter_n_factors(const lorafmt_adapter *adapter);

/* Its elements; 0 for a dtype of a newer format. */
uint64_t tensor_n_elements(const lorafmt_tensor *tensor);

#endif
