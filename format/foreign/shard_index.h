/* SPDX-License-Identifier: MIT */
/* model.safetensors.index.json: which shard holds which tensor. */
#ifndef LF_FOREIGN_SHARD_INDEX_H
#define LF_FOREIGN_SHARD_INDEX_H

#include "format/base/arena.h"
#include "lorafmt/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct lf_shard_entry {
    const char *tensor;
    const char *file; /* a plain file name: no '/', no "..", ends in .safetensors */
} lf_shard_entry;

typedef struct lf_shard_index {
    size_t n_entries;
    lf_shard_entry *entries; /* in ascending order of tensor name */
    size_t n_files;
    const char **files; /* in ascending order, each once */
    lf_arena arena;
} lf_shard_index;

/* Unknown members and metadata are ignored; weight_map must be there and not empty. */
lorafmt_status lf_shard_index_parse(const char *text, size_t size, lf_shard_index **out, lorafmt_error *err);
void lf_shard_index_free(lf_shard_index *index);

/*
 * The text of an index with tensors added to its weight_map (at the end) and metadata.total_size set to total_size if the
 * text has one; everything else is kept as it is. *out is malloc()ed and NUL-terminated.
 */
lorafmt_status lf_shard_index_extend(const char *text, size_t size, const lf_shard_entry *added, size_t n_added,
                                     uint64_t total_size, char **out, size_t *out_size, lorafmt_error *err);

#endif
