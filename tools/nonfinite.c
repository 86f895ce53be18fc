/* SPDX-License-Identifier: MIT */
#include "tools/nonfinite.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/tensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SHOWN 20

static int add(nonfinite_list *list, const nonfinite *item)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 16;
        nonfinite *items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return message_no_memory();
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = *item;
    return EXIT_DONE;
}

static int find_in_adapter(const lorafmt_adapter *adapter, const tensor_table *tensors, nonfinite_list *out)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t f = 0; f < adapter->sites[i].n_factors && code == EXIT_DONE; f++) {
            nonfinite item = {.adapter = adapter, .site = &adapter->sites[i], .factor = &adapter->sites[i].factors[f]};
            item.n = tensor_table_find(tensors, &item.factor->tensor)->elements.n_nonfinite;
            if (item.n)
                code = add(out, &item);
        }
    return code;
}

int nonfinite_find(const lorafmt_adapter *const *adapters, size_t n, nonfinite_list *out)
{
    tensor_table tensors = {0};
    int code = tensor_table_make(adapters, n, &tensors);

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = find_in_adapter(adapters[i], &tensors, out);
    tensor_table_free(&tensors);
    return code;
}

void nonfinite_free(nonfinite_list *list)
{
    free(list->items);
    memset(list, 0, sizeof *list);
}

void nonfinite_json(json_out *j, const nonfinite_list *list)
{
    json_array(j, "nonfinite");
    for (size_t i = 0; i < list->n; i++) {
        json_object(j, NULL);
        json_text(j, "adapter", list->items[i].adapter->name);
        json_text(j, "target", list->items[i].site->target);
        json_text(j, "role", lorafmt_role_name(list->items[i].factor->role));
        json_u64(j, "n_elements", list->items[i].n);
        json_object_end(j);
    }
    json_array_end(j);
}

void nonfinite_print(const nonfinite_list *list)
{
    for (size_t i = 0; i < list->n && i < MOST_SHOWN; i++) {
        const nonfinite *item = &list->items[i];
        print_line(stderr, "  %s: %s: %" PRIu64 " of %" PRIu64 " elements of %s are NaN or infinite", item->adapter->name,
                   item->site->target, item->n, tensor_n_elements(&item->factor->tensor), lorafmt_role_name(item->factor->role));
    }
    if (list->n > MOST_SHOWN)
        print_line(stderr, "  and %zu more", list->n - MOST_SHOWN);
}
