/* SPDX-License-Identifier: MIT */
/*
 * What the files of this room share: the sections of an index, the opened container, and a decoder and an encoder for each
 * structure of the spec.
 */
#ifndef LF_CONTAINER_INTERNAL_H
#define LF_CONTAINER_INTERNAL_H

#include "format/base/arena.h"
#include "format/base/bytes.h"
#include "format/base/digest.h"
#include "format/container/container.h"
#include "format/container/format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- header page, spec 2 --- */

lorafmt_status lf_header_page_decode(const uint8_t *bytes, uint64_t size, lorafmt_error *err);
void lf_header_page_encode(uint8_t page[LF_PAGE_SIZE]);

/* --- root slots, spec 3 --- */

typedef struct lf_root {
    uint64_t generation, incompatible, compatible, index_offset, index_size, file_end;
    uint8_t index_sha256[LF_SHA256_SIZE];
} lf_root;

/* A root record of LF_ROOT_SIZE bytes, in a slot or in the history; `name` is "root[1]", `offset` where it lies in the file. */
lorafmt_status lf_root_decode(const uint8_t *p, uint64_t offset, const char *name, lf_root *out, lorafmt_error *err);
void lf_root_encode(const lf_root *root, uint8_t *p);

/* Choose the current root of container->bytes, and fill all that container says of it. */
lorafmt_status lf_root_choose(lf_container *container, lorafmt_error *err);
lorafmt_status lf_root_check_features(const lf_container *container, lorafmt_error *err);

/* What is wrong with the slot that is not in use, of a file that is recovered. */
lorafmt_status lf_root_check_other_slot(const lf_container *container, lorafmt_error *err);

/* A failed check of the field at byte `at` of the root in use. */
__attribute__((format(printf, 6, 7))) lorafmt_status lf_root_fail(const lf_container *container, lorafmt_status status,
                                                                  unsigned at, const char *field, lorafmt_error *err,
                                                                  const char *format, ...);

/* --- index, spec 4.1 --- */

typedef enum lf_section_number {
    LF_NAMES,
    LF_ADAPTERS,
    LF_SITES,
    LF_FACTORS,
    LF_TENSORS,
    LF_METADATA,
    LF_SEGMENTS,
    LF_HISTORY,
    LF_N_REQUIRED,
    LF_SIGNATURES = LF_N_REQUIRED,
    LF_N_SECTIONS
} lf_section_number;

typedef struct lf_section_type {
    uint32_t id;
    uint32_t record_size;
    uint64_t min_records, max_records;
    const char *name;   /* of the section */
    const char *record; /* of one record, in field paths */
} lf_section_type;

extern const lf_section_type lf_section_types[LF_N_SECTIONS];

typedef struct lf_section {
    uint64_t offset; /* in the index */
    size_t n_records;
} lf_section;

struct lf_container {
    const uint8_t *bytes; /* NULL while the encoder checks an index of its own */
    uint64_t size;        /* of the file, at least root.file_end */
    const uint8_t *index;
    lf_root root;
    char root_name[32];               /* "root[1]"; "history[2]" for an earlier generation */
    uint64_t root_at;                 /* where it lies in the file */
    unsigned slot;                    /* of the current root */
    bool recovered;                   /* the other slot is damaged */
    bool is_earlier;                  /* a generation of the history, not the current one */
    uint8_t other_root[LF_ROOT_SIZE]; /* what the other slot held when it was looked at */
    uint32_t align_log2;
    lf_section sections[LF_N_SECTIONS]; /* an absent section has no records */
    uint32_t n_ignored;                 /* sections of a newer format */
};

/* Checks the header and the section table of container->index and fills align_log2 and sections. */
lorafmt_status lf_index_decode(lf_container *container, lorafmt_error *err);
lorafmt_status lf_index_check_padding(const lf_container *container, lorafmt_error *err);

/* Where the sections of an index go that has so many records of each; LIMIT when that is too much. None without signatures. */
lorafmt_status lf_index_layout(const uint64_t n_records[LF_N_SECTIONS], uint64_t offsets[LF_N_SECTIONS], uint64_t *index_size,
                               lorafmt_error *err);
void lf_index_encode(uint64_t generation, uint32_t align_log2, const uint64_t n_records[LF_N_SECTIONS], uint8_t *index);

/* --- records --- */

/* One record of one section, as its decoder sees it. */
typedef struct lf_record {
    const lf_container *container;
    lf_section_number section;
    size_t i;
    const uint8_t *p;
} lf_record;

lorafmt_status lf_record_missing(const lf_container *container, lf_section_number section, size_t i, lorafmt_error *err);

/* MISUSE when the section has no record i. Inline, as look-up does little else. */
static inline lorafmt_status lf_record_get(const lf_container *container, lf_section_number section, size_t i, lf_record *out,
                                           lorafmt_error *err)
{
    const lf_section *s = &container->sections[section];

    if (i >= s->n_records)
        return lf_record_missing(container, section, i, err);
    *out = (lf_record){container, section, i, container->index + s->offset + i * lf_section_types[section].record_size};
    return LORAFMT_OK;
}

/* A failed check of the field at byte `at` of a record: the path is "site[12].rank". */
__attribute__((format(printf, 6, 7))) lorafmt_status lf_record_fail(const lf_record *record, lorafmt_status status, unsigned at,
                                                                    const char *field, lorafmt_error *err, const char *format,
                                                                    ...);

/* The same for a record of which nothing else is at hand. Without a field the path is "site[12]". */
lorafmt_status lf_record_corrupt(const lf_container *container, lf_section_number section, size_t i, unsigned at,
                                 const char *field, const char *text, lorafmt_error *err);

lorafmt_status lf_record_not_reserved(const lf_record *record, unsigned at, lorafmt_error *err);

static inline lorafmt_status lf_record_check_reserved(const lf_record *record, unsigned at, size_t size, lorafmt_error *err)
{
    return lf_all_zero(record->p + at, size) ? LORAFMT_OK : lf_record_not_reserved(record, at, err);
}

/* A digest that is there when `present`, and otherwise zero. */
lorafmt_status lf_record_digest(const lf_record *record, unsigned at, const char *field, bool present,
                                uint8_t out[LF_SHA256_SIZE], lorafmt_error *err);

/*
 * The records of one section partition another one in order: a part starts where that of the record before ends, and the last
 * one ends at the end. Looking at one neighbour is enough, so that whoever reads all parts reads each record once.
 */
lorafmt_status lf_record_check_part(const lf_record *record, unsigned first_at, const char *first_field, unsigned n_at,
                                    const char *n_field, lf_section_number section, lorafmt_error *err);

/* --- name pool, spec 4.2 --- */

/* The string whose offset is at byte `at` of the record. */
lorafmt_status lf_record_name(const lf_record *record, unsigned at, const char *field, const char **out, lorafmt_error *err);
lorafmt_status lf_record_name_not_empty(const lf_record *record, unsigned at, const char *field, const char **out,
                                        lorafmt_error *err);
lorafmt_status lf_record_value(const lf_record *record, unsigned at, const char *field, const char **out, lorafmt_error *err);

/*
 * Order of the string at the offset at byte `at` against a name of the caller's: <0, 0, >0. Checks no more than that it lies in the
 * pool: whoever finds a record so reads it next.
 */
lorafmt_status lf_record_compare_name(const lf_record *record, unsigned at, const char *field, const char *name, int *order,
                                      lorafmt_error *err);

lorafmt_status lf_name_pool_check(const lf_container *container, lorafmt_error *err);

/* A pool being written. */
typedef struct lf_name_pool {
    const char **strings; /* sorted, unique, the first is "" */
    uint32_t *offsets;
    size_t n;
    uint64_t size; /* bytes */
} lf_name_pool;

/* strings[0, n), in any order, is sorted in place and kept. LIMIT when the pool is larger than an index. */
lorafmt_status lf_name_pool_build(lf_name_pool *pool, lf_arena *arena, const char **strings, size_t n, lorafmt_error *err);
uint32_t lf_name_pool_find(const lf_name_pool *pool, const char *string);
void lf_name_pool_encode(const lf_name_pool *pool, uint8_t *p);

/* --- encoders of records, spec 4.3 to 4.7 --- */

void lf_adapter_encode(const lorafmt_adapter *adapter, const lf_name_pool *pool, uint32_t first_site, uint32_t first_metadata,
                       const uint8_t id[LF_SHA256_SIZE], uint8_t *p);
void lf_site_encode(const lorafmt_site *site, const lf_name_pool *pool, uint32_t first_factor, uint8_t *p);
void lf_factor_encode(uint16_t role, uint32_t tensor, uint8_t *p);
void lf_tensor_encode(const lf_tensor_record *tensor, uint8_t *p);
void lf_metadata_encode(const lorafmt_metadata *metadata, const lf_name_pool *pool, uint8_t *p);

/* Role and tensor of factor i, without decoding the tensor. */
lorafmt_status lf_factor_decode(const lf_container *container, size_t i, uint16_t *role, uint32_t *tensor, lorafmt_error *err);

/* What a factor shows of tensor record i, which is checked whole. */
lorafmt_status lf_tensor_describe(const lf_container *container, size_t i, lorafmt_tensor *out, lorafmt_error *err);

/* Order of two tensor records by what must be unique in a file (spec 4.6), for qsort() of pointers to them. */
int lf_tensor_compare_content(const void *a, const void *b);

/* --- codec split, spec 5 --- */

static inline uint64_t lf_split_n_blocks(uint64_t n_elements, unsigned block_log2)
{
    return (n_elements + (UINT64_C(1) << block_log2) - 1) >> block_log2;
}

typedef enum lf_inflate_result { LF_INFLATE_OK, LF_INFLATE_BAD, LF_INFLATE_NO_MEMORY } lf_inflate_result;

/* Decode one zlib stream: all of in[0, size) to exactly out[0, n), n < 2^32. Of a bad one anything may be left in out. */
typedef lf_inflate_result lf_inflate(const uint8_t *in, size_t size, uint8_t *out, size_t n);

/* zlib says what a valid stream is. lf_inflate_fast() takes the same ones, and those of literals alone three times as fast. */
lf_inflate lf_inflate_zlib;
lf_inflate lf_inflate_fast;

/* The fast part: false for bad streams and for those with matches. */
bool lf_inflate_literals(const uint8_t *in, size_t size, uint8_t *out, size_t n);

/* lf_container_decode_tensor() by one of them. */
lorafmt_status lf_tensor_decode(const lf_container *container, size_t i, lf_inflate *inflate, void *dst, lorafmt_error *err);

/* A tensor in codec split but for its planes, which are made from its data while they are written. */
typedef struct lf_split {
    uint64_t stored_size, n_blocks;
    uint8_t *front; /* all before the streams */
    size_t front_size;
    uint8_t **streams; /* one per block */
} lf_split;

/* What all tensors are split with. */
typedef struct lf_splitter lf_splitter;

lorafmt_status lf_splitter_new(lf_splitter **out, lorafmt_error *err);
void lf_splitter_free(lf_splitter *splitter);

/* Real dtypes only. Memory is from the arena: as much as stays in the file before the planes. */
lorafmt_status lf_split_encode(lf_splitter *splitter, const lorafmt_tensor *tensor, lf_arena *arena, lf_split *out,
                               lorafmt_error *err);

/* All stored_size bytes into the sink. */
lorafmt_status lf_split_write(lf_splitter *splitter, const lorafmt_tensor *tensor, const lf_split *split, lf_sink sink, void *ctx,
                              lorafmt_error *err);

/* --- segments and history, spec 4.8 and 4.9 --- */

typedef struct lf_segment {
    uint64_t offset, size, generation;
    uint32_t kind;
} lf_segment;

lorafmt_status lf_segment_decode(const lf_container *container, size_t i, lf_segment *out, lorafmt_error *err);
lorafmt_status lf_segments_check(const lf_container *container, lorafmt_error *err);
void lf_segment_encode(const lf_segment *segment, uint8_t *p);

/* Entry i of the history, by itself. */
lorafmt_status lf_history_decode(const lf_container *container, size_t i, lf_root *out, lorafmt_error *err);
lorafmt_status lf_history_check(const lf_container *container, lorafmt_error *err);

/* --- signatures, spec 4.10 --- */

lorafmt_status lf_signatures_check(const lf_container *container, lorafmt_error *err);
size_t lf_signatures_count(const lf_container *container, size_t adapter);

/* All of them, in memory of the arena. */
lorafmt_status lf_signatures_read(const lf_container *container, size_t adapter, lf_arena *arena, const lorafmt_signature **out,
                                  lorafmt_error *err);
void lf_signature_encode(const lorafmt_signature *signature, uint32_t adapter, uint8_t *p);

/* --- adapter id, spec 6.1, fed piece by piece --- */

void lf_adapter_id_begin(lf_sha256 *h, const lorafmt_adapter *adapter);
void lf_adapter_id_site(lf_sha256 *h, const lorafmt_site *site);
void lf_adapter_id_factor(lf_sha256 *h, uint16_t role, const lorafmt_tensor *tensor, const uint8_t sha256[LF_SHA256_SIZE]);
void lf_adapter_id_metadata(lf_sha256 *h, const lorafmt_metadata *metadata);

/* --- parts of lf_container_check() --- */

/* Names and records: all that an index says of adapters, without a look at the rest of the file. */
lorafmt_status lf_check_records(const lf_container *container, lf_arena *arena, lorafmt_error *err);

/* Tensors, index, header pages and segments cover [0, file_end), with short zero padding between them. */
lorafmt_status lf_check_coverage(const lf_container *container, lf_arena *arena, lorafmt_error *err);

/* The data of one tensor against its digest; adds to *n_nonfinite. */
lorafmt_status lf_check_tensor_data(const lf_container *container, size_t i, uint64_t *n_bytes, uint64_t *n_nonfinite,
                                    lorafmt_error *err);

#endif
