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
    return (a->site > b->site) - (a->site < b->site); // the first user stays first
}

static void list_uses(const lorafmt_adapter *adapter, tensor_entry *out)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t f = 0; f < adapter->sites[i].n_factors; f++) {
            const lorafmt_site *site = &adapter->sites[i];
            *out++ = (tensor_entry){.tensor = &site->factors[f].tensor, .site = site, .role = site->factors[f].role, .n_uses = 1};
        }
}

/* Uses of one tensor lie beside each other: keep the first. */
static size_t join_uses(tensor_entry *uses, size_t n_uses)
{
    size_t n = 0;

    for (size_t i = 0; i < n_uses; i++)
        if (n && uses[n - 1].tensor->data == uses[i].tensor->data)
            uses[n - 1].n_uses++;
        else
            uses[n++] = uses[i];
    return n;
}

int tensor_table_make(const lorafmt_adapter *adapter, tensor_table *out)
{
    size_t n_uses = 0;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < adapter->n_sites; i++)
        n_uses += adapter->sites[i].n_factors;
    if (!(out->entries = calloc(n_uses, sizeof *out->entries)))
        return message_no_memory();
    list_uses(adapter, out->entries);
    qsort(out->entries, n_uses, sizeof *out->entries, compare_addresses);
    out->n = join_uses(out->entries, n_uses);
    for (size_t i = 0; i < out->n; i++) {
        lorafmt_tensor_elements(out->entries[i].tensor, &out->entries[i].elements);
        out->n_bytes += out->entries[i].tensor->size;
    }
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
