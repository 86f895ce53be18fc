/* SPDX-License-Identifier: MIT */
#include "tools/tensors.h"

#include "tools/command.h"
#include "tools/message.h"

#include <stdlib.h>
#include <string.h>

uint64_t tensor_n_elements(const lorafmt_tensor *tensor)
{
    const unsigned bits = lorafmt_dtype_bits(tensor->dtype);

    return bits ? tensor->size * 8 / bits : 0;
}

static int compare_addresses(const void *a_, const void *b_)
{
    const tensor_entry *a = a_, *b = b_;
    const uintptr_t left = (uintptr_t)a->tensor->data, right = (uintptr_t)b->tensor->data;

    if (left != right)
        return left < right ? -1 : 1;
    return (a->first_use > b->first_use) - (a->first_use < b->first_use);
}

size_t adapter_n_factors(const lorafmt_adapter *adapter)
{
    size_t n = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        n += adapter->sites[i].n_factors;
    return n;
}

static void list_uses(const lorafmt_adapter *adapter, tensor_table *out)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t f = 0; f < adapter->sites[i].n_factors; f++, out->n++)
            out->entries[out->n] =
                (tensor_entry){.tensor = &adapter->sites[i].factors[f].tensor, .site = &adapter->sites[i], .first_use = out->n};
}

/* Uses of one tensor lie beside each other: keep the first. */
static void join_uses(tensor_table *table)
{
    size_t n = 0;

    for (size_t i = 0; i < table->n; i++)
        if (!n || table->entries[n - 1].tensor->data != table->entries[i].tensor->data)
            table->entries[n++] = table->entries[i];
    table->n = n;
}

int tensor_table_make(const lorafmt_adapter *const *adapters, size_t n_adapters, tensor_table *out)
{
    size_t n_uses = 0;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < n_adapters; i++)
        n_uses += adapter_n_factors(adapters[i]);
    if (!(out->entries = calloc(n_uses, sizeof *out->entries)))
        return message_no_memory();
    for (size_t i = 0; i < n_adapters; i++)
        list_uses(adapters[i], out);
    qsort(out->entries, n_uses, sizeof *out->entries, compare_addresses);
    join_uses(out);
    for (size_t i = 0; i < out->n; i++)
        lorafmt_tensor_elements(out->entries[i].tensor, &out->entries[i].elements);
    return EXIT_DONE;
}

void tensor_table_free(tensor_table *table)
{
    free(table->entries);
    memset(table, 0, sizeof *table);
}

static int compare_address(const void *key, const void *entry)
{
    const uintptr_t left = (uintptr_t)key, right = (uintptr_t)((const tensor_entry *)entry)->tensor->data;

    return (left > right) - (left < right);
}

const tensor_entry *tensor_table_find(const tensor_table *table, const lorafmt_tensor *tensor)
{
    return bsearch(tensor->data, table->entries, table->n, sizeof *table->entries, compare_address);
}
