/* SPDX-License-Identifier: MIT */
/*
 * What the records mean: a whole adapter in memory, whose factors fit its ranks and whose scale follows from its alpha. Knows no
 * kernels, no paths and no foreign formats.
 */
#ifndef LF_ADAPTER_H
#define LF_ADAPTER_H

#include "format/base/arena.h"
#include "format/base/tensor_map.h"
#include "format/container/container.h"
#include "lorafmt/adapter.h"

/* Reads adapters of one container. What is not set by the caller starts at zero. */
typedef struct lf_adapter_reader {
    const lf_container *container;
    lf_arena *arena;
    const void *const *loaded; /* per tensor of the container: its decoded data, whose digest was found right */
    uint64_t n_value_bytes;    /* of metadata so far: spec 4.7 */
    lf_tensor_map row_indexes; /* that were found right; its arena is set */
} lf_adapter_reader;

/*
 * Adapter i with all its sites, factors and metadata, checked. Memory is from the arena, strings and
 * raw data from the container.
 */
lorafmt_status lf_adapter_read(lf_adapter_reader *reader, size_t i, lorafmt_adapter *out, lorafmt_error *err);

/* Which part of an adapter breaks a rule, for whoever knows where the parts lie. */
typedef enum lf_adapter_part {
    LF_PART_ADAPTER,
    LF_PART_SITE,
    LF_PART_FACTOR,
    LF_PART_TENSOR, /* the tensor record of a factor */
    LF_PART_DATA,   /* its decoded data */
    LF_PART_METADATA,
} lf_adapter_part;

typedef struct lf_adapter_place {
    lf_adapter_part part;
    size_t i;        /* site of the adapter, or entry of its metadata */
    uint32_t factor; /* of the site */
    uint64_t byte;   /* in the record of that part, or in the data */
} lf_adapter_place;

/*
 * Every rule of spec 4.3 to 4.7 about what an adapter says: names, order of sites, ranks, scale against rule, alpha finite,
 * factors against kind and rank, shapes. Fields in errors are targets; place may be NULL. Sites of unknown kinds pass.
 * row_indexes are numbers of rows that need no second look, and get those that had their first.
 */
lorafmt_status lf_adapter_check(const lorafmt_adapter *adapter, lf_tensor_map *row_indexes, lf_adapter_place *place,
                                lorafmt_error *err);

/*
 * The same for one site whose records the container has checked each by itself: only what they mean together. Data is not looked
 * at. place->i is 0.
 */
lorafmt_status lf_site_check_records(const lorafmt_site *site, lf_adapter_place *place, lorafmt_error *err);

/* Where in the file the part of site record i lies that a check found fault with. */
uint64_t lf_site_place_offset(const lf_container *container, size_t i, const lf_adapter_place *place);

/* Order sites and metadata as the spec wants them. */
void lf_adapter_sort(lorafmt_site *sites, size_t n_sites, lorafmt_metadata *metadata, size_t n_metadata);

/* Is the kind a low-rank one; does it bring the tensor whole (spec 4.4)? */
bool lf_kind_is_low_rank(unsigned kind);
bool lf_kind_is_whole(unsigned kind);

/* Has it a kind or a role that this version does not know? Then it is listed and copied, and nothing else. */
bool lf_site_is_newer(const lorafmt_site *site);

/* spec 4.4: the scale that a rule gives. */
double lf_scale_of(lorafmt_scaling scaling, double alpha, uint32_t rank);

#endif
