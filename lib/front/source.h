/* SPDX-License-Identifier: MIT */
/*
 * The front ends: what a person asks for, from path to path. This room puts the others together and adds nothing to
 * what bytes or numbers mean.
 *
 *   source.c   open a .lora, a PEFT directory or a safetensors file     open.c  a .lora that may be appended to   load.c  its tensors
 *     measure.c  what it takes, before it is opened
 *     limits.c  is it larger than what is put up with?   policy.c  is it by somebody whose adapters may be opened?
 *   verify.c   check all there is to check
 *   pack.c     adapters -> .lora          convert.c  dtypes and base identity on the way
 *   unpack.c   adapter -> PEFT directory
 *   append.c   a file that is appended to   generations.c  what is done so   history.c  what that was   writer.c  the bytes
 *   compact.c  its current state as a file of its own
 *   image.c    base + view -> the files of a merged model, which are not there
 *     layout.c  those with tensors   edits.c  those that change with them   range.c  any bytes   tasks.c, write.c  all of them
 *   merge.c    an image -> new model          digests.c  what its tensors are
 *   compare.c  base + view <-> a model that is there: its tensors   compare_header.c  what its files say of them
 *   receipt.c  the receipt of a merge, read back   receipt_compare.c  held against another
 *   progress.c how far it is
 */
#ifndef LF_FRONT_SOURCE_H
#define LF_FRONT_SOURCE_H

#include "format/base/arena.h"
#include "format/container/container.h"
#include "format/foreign/safetensors.h"
#include "lib/adapter/adapter.h"
#include "lib/dialect/peft.h"
#include "lib/io/io.h"
#include "lorafmt/files.h"

struct lorafmt_source {
    lorafmt_source_kind kind;
    lf_arena arena;
    lf_map map;       /* of the file that holds the tensors */
    bool is_borrowed; /* these bytes are the caller's */
    lf_container *container;
    lf_safetensors *table;
    size_t n_adapters;
    const lorafmt_adapter *adapters;
    lf_notes notes;
};

/* Map a file with tensors, or read it into memory, as the options say, which may be NULL. */
lorafmt_status lf_source_map(const char *path, const lorafmt_source_options *options, lf_map *out, lorafmt_error *err);

/*
 * Map a file so and open it as a container. While somebody appends to it, a root slot may be half written, and both may lead beyond
 * the size that the file had a moment ago: what looks damaged is looked at again. *map is to be closed in any case.
 */
lorafmt_status lf_container_open_file(const char *path, const lorafmt_source_options *options, lf_map *map, lf_container **out,
                                      lorafmt_error *err);

/* Which adapter of a container has that name, and of each tensor, in the arena, whether it is a factor of it. */
lorafmt_status lf_container_choose(const lf_container *c, const char *name, lf_arena *arena, size_t *adapter, bool **wanted,
                                   lorafmt_error *err);

/* The config that may lie beside a safetensors file: a path to be freed, or NULL when out of memory. */
char *lf_config_beside(const char *path);

/* The files of a PEFT directory. */
#define LF_CONFIG_FILE "adapter_config.json"
#define LF_TENSOR_FILE "adapter_model.safetensors"

#endif
