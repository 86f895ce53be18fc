/* SPDX-License-Identifier: MIT */
#include "format/base/tensor_map.h"

#include "format/base/dtype.h"

#include <string.h>

/* The slot of a tensor, or the free one where it belongs; the table is at most half full. */
static size_t *find_slot(const lf_tensor_map *map, const lorafmt_tensor *tensor)
{
    const size_t mask = 2 * map->capacity - 1;
    const uint64_t hash = ((uintptr_t)tensor->data ^ tensor->size) * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = (size_t)(hash >> 32) & mask;; i = (i + 1) & mask) {
        const lorafmt_tensor *other = map->slots[i] ? map->tensors[map->slots[i] - 1] : NULL;
        if (!other || (other->data == tensor->data && lf_tensor_same_type(other, tensor)))
            return &map->slots[i];
    }
}

size_t lf_tensor_map_find(const lf_tensor_map *map, const lorafmt_tensor *tensor)
{
    return map->n ? *find_slot(map, tensor) - 1 : SIZE_MAX;
}

static bool grow(lf_tensor_map *map)
{
    const size_t capacity = map->capacity ? 2 * map->capacity : 64;
    const lorafmt_tensor **tensors = lf_arena_alloc(map->arena, capacity, sizeof *tensors);
    size_t *slots = lf_arena_alloc(map->arena, 2 * capacity, sizeof *slots);

    if (!tensors || !slots)
        return false;
    if (map->n)
        memcpy(tensors, map->tensors, map->n * sizeof *tensors);
    map->tensors = tensors;
    map->slots = slots;
    map->capacity = capacity;
    for (size_t i = 0; i < map->n; i++)
        *find_slot(map, map->tensors[i]) = i + 1;
    return true;
}

bool lf_tensor_map_add(lf_tensor_map *map, const lorafmt_tensor *tensor)
{
    if (map->n == map->capacity && !grow(map))
        return false;
    map->tensors[map->n] = tensor;
    *find_slot(map, tensor) = map->n + 1;
    map->n++;
    return true;
}
