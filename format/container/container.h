/* SPDX-License-Identifier: MIT */
/*
 * The `.lora` codec: bytes in memory <-> checked records (spec 2 to 6). It knows no paths and gives records no LoRA
 * meaning: that ranks fit shapes is lib/adapter's business.
 *
 * Opening looks at the header page, the root slots, the index header and the section table, and allocates one small
 * object. Every record is checked when it is asked for, in O(1). lf_container_check() checks all of them, and the rest.
 */
#ifndef LF_CONTAINER_H
#define LF_CONTAINER_H

#include "format/base/arena.h"
#include "format/base/digest.h"
#include "lorafmt/adapter.h"
#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lf_container lf_container;

/* Do not hash the index when opening; lf_container_check_digest() and lf_container_check() still do. */
#define LF_CONTAINER_DEFER_DIGEST 1u

/*
 * bytes[0, size) is the whole file; borrowed until lf_container_free(). Statuses: NOT_LORAFMT, UNSUPPORTED, CORRUPT, LIMIT,
 * NO_MEMORY. Offsets in errors are file offsets, fields are spelt as in the spec ("root[1].crc32", "site[12].rank").
 */
lorafmt_status lf_container_open(const uint8_t *bytes, uint64_t size, unsigned flags, lf_container **out, lorafmt_error *err);
void lf_container_free(lf_container *container);

/* Is a root slot damaged, so that the other one was used: spec 3, rule 3? */
bool lf_container_is_recovered(const lf_container *container);

/* The index against its digest. */
lorafmt_status lf_container_check_digest(const lf_container *container, lorafmt_error *err);

/* All of a const lf_container's functions may run concurrently. */
void lf_container_info(const lf_container *container, lorafmt_container_info *out);

uint64_t lf_container_index_size(const lf_container *container);
size_t lf_container_n_adapters(const lf_container *container);
size_t lf_container_n_tensors(const lf_container *container);

/*
 * Adapter i of the table. out->sites, metadata and signatures are NULL, but their numbers are set; sites are records
 * [*first_site, *first_site + n_sites), and so for metadata. Strings point into the file.
 */
lorafmt_status lf_container_adapter(const lf_container *container, size_t i, lorafmt_adapter *out, uint32_t *first_site,
                                    uint32_t *first_metadata, lorafmt_error *err);

/* Which site records are adapter i's: [*first_site, *first_site + *n_sites). */
lorafmt_status lf_container_adapter_sites(const lf_container *container, size_t i, uint32_t *first_site, uint32_t *n_sites,
                                          lorafmt_error *err);

/* Site record i. out->factors is NULL; factors are records [*first_factor, *first_factor + out->n_factors). */
lorafmt_status lf_container_site(const lf_container *container, size_t i, lorafmt_site *out, uint32_t *first_factor,
                                 lorafmt_error *err);

/*
 * Factor record i: its role, and which tensor record. out->tensor has dtype, shape and size, and data when the codec is raw
 * (else NULL). UNSUPPORTED for an unknown dtype or codec.
 */
lorafmt_status lf_container_factor(const lf_container *container, size_t i, lorafmt_factor *out, uint32_t *tensor,
                                   lorafmt_error *err);

typedef struct lf_tensor_record {
    uint64_t offset, stored_size;
    uint8_t codec; /* lorafmt_codec */
    uint8_t sha256[32];
    lorafmt_tensor tensor; /* data is NULL unless the codec is raw */
} lf_tensor_record;

lorafmt_status lf_container_tensor(const lf_container *container, size_t i, lf_tensor_record *out, lorafmt_error *err);

/*
 * The decoded bytes of tensor i, whatever its codec, into dst of tensor.size bytes, which is at most twice what the file holds
 * of it. Does not look at the digest.
 */
lorafmt_status lf_container_decode_tensor(const lf_container *container, size_t i, void *dst, lorafmt_error *err);

/* Decoded bytes of tensor i against its digest: spec 4.6. */
lorafmt_status lf_container_check_tensor(const lf_container *container, size_t i, const void *decoded, lorafmt_error *err);

/* The parts of a tensor that can be decoded each by itself. */
typedef struct lf_blocks {
    uint64_t n;    /* 1 for raw */
    uint64_t size; /* decoded bytes of each but the last, which has what is left */
} lf_blocks;

lorafmt_status lf_container_blocks(const lf_container *container, size_t i, lf_blocks *out, lorafmt_error *err);

/* The decoded bytes of one block, into dst of as many. Decoding all blocks is decoding the tensor. */
lorafmt_status lf_container_decode_block(const lf_container *container, size_t i, uint64_t block, void *dst, lorafmt_error *err);

lorafmt_status lf_container_metadata(const lf_container *container, size_t i, lorafmt_metadata *out, lorafmt_error *err);

/* One adapter with all that its records say. */
typedef struct lf_adapter_records {
    lorafmt_adapter adapter;
    uint32_t first_site, first_metadata; /* which records are its own */
    size_t n_factors;                    /* of all its sites */
    lorafmt_factor *factors;             /* of all its sites, in their order; data is NULL unless the codec is raw */
    uint32_t *tensors;                   /* the tensor record of each */
    lf_digest *digests;                  /* what that states of its data, which was not looked at */
} lf_adapter_records;

/* All records of adapter i, each checked by itself. Memory is from the arena, strings and data lie in the file. */
lorafmt_status lf_container_read(const lf_container *container, size_t i, lf_arena *arena, lf_adapter_records *out,
                                 lorafmt_error *err);

/* Adapters as they are written: those of a container, and others. */
typedef struct lf_adapter_list {
    size_t n;
    const lorafmt_adapter **adapters;
    const lf_digest **digests;   /* per adapter, of its factors, for one whose data is in a container; NULL: hash its data */
    lf_adapter_records *records; /* of those that were read, in the order of the file */
} lf_adapter_list;

/* All adapters of a container, with room for n_more. */
lorafmt_status lf_container_read_all(const lf_container *container, size_t n_more, lf_arena *arena, lf_adapter_list *out,
                                     lorafmt_error *err);

/*
 * The first site of that target in an adapter: a binary search. *site says where to look first: the site found last is a good
 * place, any number may be given. NOT_FOUND leaves *site alone and fills no text.
 */
lorafmt_status lf_container_find_site(const lf_container *container, size_t adapter, const char *target, size_t *site,
                                      lorafmt_error *err);

/*
 * Everything spec 9 calls verification but what records mean: index digest, tensor digests, adapter ids, orders, partitions,
 * unique tensors, overlap, segments, history, padding. A recovered file is CORRUPT here. out may be NULL.
 */
lorafmt_status lf_container_check(const lf_container *container, lorafmt_verify_result *out, lorafmt_error *err);

/* The same, and recovered files pass: the generation is whole. */
lorafmt_status lf_container_check_generation(const lf_container *container, lorafmt_verify_result *out, lorafmt_error *err);

/* The same but for the data of tensors: what has to hold before anything is built on a file. */
lorafmt_status lf_container_check_but_data(const lf_container *container, lorafmt_error *err);

/* Takes bytes in file order. */
typedef lorafmt_status (*lf_sink)(void *ctx, const void *data, size_t size, lorafmt_error *err);

/*
 * Write a new file of one generation. With codec split each tensor that makes the file smaller by it is stored so, the others
 * raw; compressed planes are kept in memory, as the index comes first and has their sizes. Adapters are taken as they are
 * (lf_adapter_check() comes first), in the order given; their sites and metadata must already be in the order of the spec; equal
 * tensors are stored once. adapter ids are computed here, not taken from the adapters. align_log2 is 6, 12 or 16. Nothing is
 * written before the whole index is made and was checked as a reader would: CORRUPT, with the field, for what the spec does not
 * allow (two adapters of one name, sites out of order); LIMIT for more than its limits. From the first call of the sink on,
 * *file_size is what there will be.
 */
lorafmt_status lf_container_encode(const lorafmt_adapter *const *adapters, size_t n_adapters, uint32_t align_log2,
                                   lorafmt_codec codec, lf_sink sink, void *ctx, uint64_t *file_size, lorafmt_error *err);

/*
 * Write the generation of a container again as a new file of one generation: the same adapters, ids, signatures, codecs and
 * stored bytes, without what no longer counts. Records must have been checked: lf_container_check_but_data().
 */
lorafmt_status lf_container_compact(const lf_container *container, lf_sink sink, void *ctx, uint64_t *file_size,
                                    lorafmt_error *err);

#define LF_SLOT_SIZE 4096u /* a root, and zeros up to the end of its page */

/* Another generation for a file. */
typedef struct lf_append {
    const lf_container *file; /* the current generation, checked as for lf_container_compact() */
    const lf_container *kept; /* it or an earlier one: tensors that it has stay where they are */
    lf_adapter_list list;     /* all that the file is to hold from then on */
    lorafmt_codec codec;      /* of tensors that kept does not have, as in lf_container_encode() */
} lf_append;

/* What is to be written where. */
typedef struct lf_appended {
    uint64_t begin, end;        /* of the file, what goes to the sink; set when that is first called */
    uint64_t slot_offset;       /* then, when that is on the disk, */
    uint8_t slot[LF_SLOT_SIZE]; /* this makes it count */
} lf_appended;

/* UNSUPPORTED for a file that a newer version wrote, which this one may read but not append to. */
lorafmt_status lf_container_check_appendable(const lf_container *container, lorafmt_error *err);

/* As lf_container_encode() for the rest. Nothing of the file is touched that any of its generations reaches. */
lorafmt_status lf_container_append(const lf_append *append, lf_sink sink, void *ctx, lf_appended *out, lorafmt_error *err);

/* Generations before the current one that the history has, newest first: which, and where they ended. */
size_t lf_container_n_earlier(const lf_container *container);
lorafmt_status lf_container_earlier(const lf_container *container, size_t i, uint64_t *generation, uint64_t *file_end,
                                    lorafmt_error *err);

/* The place of a generation among them. NOT_FOUND. */
lorafmt_status lf_container_find_earlier(const lf_container *container, uint64_t generation, size_t *out, lorafmt_error *err);

/* Open the one at that place, with its digest checked. It lives no longer than the bytes of container. */
lorafmt_status lf_container_open_earlier(const lf_container *container, size_t i, lf_container **out, lorafmt_error *err);

/* spec 6.1. Hashes every tensor, unless sha256s (one per factor in site and factor order) is given. */
void lf_adapter_id(const lorafmt_adapter *adapter, const uint8_t (*sha256s)[32], uint8_t out[32]);

/* Order of sites within an adapter, spec 4.4: <0, 0 or >0. */
int lf_site_compare(const lorafmt_site *a, const lorafmt_site *b);

/* The field that decides the order of two sites, the first one when they are equal: its name, and where in the record it lies. */
unsigned lf_site_order_field(const lorafmt_site *a, const lorafmt_site *b, const char **field);

/* Where in the file record i of a table lies; the record must be there. */
uint64_t lf_container_adapter_offset(const lf_container *container, size_t i);
uint64_t lf_container_site_offset(const lf_container *container, size_t i);
uint64_t lf_container_factor_offset(const lf_container *container, size_t i);
uint64_t lf_container_tensor_offset(const lf_container *container, size_t i);
uint64_t lf_container_metadata_offset(const lf_container *container, size_t i);

#endif
