/* SPDX-License-Identifier: MIT */
/*
 * Tensors by where their data lie and what they are, numbered from 0 in the order in which they came. A small file may name one
 * large tensor a million times; what is done with a tensor is done once.
 */
#ifndef LF_BASE_TENSOR_MAP_H
#define LF_BASE_TENSOR_MAP_H

#include "format/base/arena.h"
#include "lorafmt/tensor.h"

typedef struct lf_tensor_map {
    lf_arena *arena; /* set by the caller, all else zero */
    const lorafmt_tensor **tensors;
    size_t n, capacity;
    size_t *slots; /* of a hash table: number + 1, or 0 */
} lf_tensor_map;

/* The number of a tensor, or SIZE_MAX. */
size_t lf_tensor_map_find(const lf_tensor_map *map, const lorafmt_tensor *tensor);

/* Add a tensor that is not in it, with the next number; it must stay where it is. false when out of memory. */
bool lf_tensor_map_add(lf_tensor_map *map, const lorafmt_tensor *tensor);

#endif
