/* SPDX-License-Identifier: MIT */
/* What a loader is to the library: a mapped base, memory for live weights, and the part of the model that is its. */
#ifndef TOOLS_LOADER_H
#define TOOLS_LOADER_H

#include "lorafmt/model.h"
#include "lorafmt/runtime.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct loader {
    lorafmt_model *model;
    lorafmt_place *places; /* of all tensors; live is there while it is loaded */
    size_t *offsets;       /* of the live tensors in the region */
    void *region;
    size_t region_size;
    lorafmt_runtime *runtime;
} loader;

/*
 * Map a base, of which rank `rank` of n_ranks holds its share of the rows of every tensor with two or more dimensions, and all of
 * the others. All return an exit code; loader_close() in any case.
 */
int loader_open(const char *path, unsigned rank, unsigned n_ranks, loader *out);

/* Fresh memory and a runtime in it, filled with the base now or by the first switch. What was loaded before is given back. */
int loader_load(loader *l, unsigned n_threads, bool by_swap);

void loader_close(loader *l);

#endif
