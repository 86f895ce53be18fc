/* SPDX-License-Identifier: MIT */
/* spec 4.1: the index header and the section table */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdio.h>

static const uint8_t magic[8] = {'L', 'O', 'R', 'A', 'I', 'N', 'D', 'X'};

const lf_section_type lf_section_types[LF_N_SECTIONS] = {
    [LF_NAMES] = {1, 1, 1, LF_MAX_INDEX_SIZE, "names", "names"},
    [LF_ADAPTERS] = {2, LF_ADAPTER_SIZE, 1, LF_MAX_RECORDS, "adapters", "adapter"},
    [LF_SITES] = {3, LF_SITE_SIZE, 0, LF_MAX_RECORDS, "sites", "site"},
    [LF_FACTORS] = {4, LF_FACTOR_SIZE, 0, LF_MAX_RECORDS, "factors", "factor"},
    [LF_TENSORS] = {5, LF_TENSOR_SIZE, 0, LF_MAX_RECORDS, "tensors", "tensor"},
    [LF_METADATA] = {6, LF_METADATA_SIZE, 0, LF_MAX_METADATA, "metadata", "metadata"},
    [LF_SEGMENTS] = {7, LF_SEGMENT_SIZE, 0, LF_MAX_RECORDS, "segments", "segment"},
    [LF_HISTORY] = {8, LF_ROOT_SIZE, 0, LF_MAX_RECORDS, "history", "history"},
    [LF_SIGNATURES] = {LF_FIRST_IGNORABLE_SECTION + 1, LF_SIGNATURE_SIZE, 0, LF_MAX_RECORDS, "signatures", "signature"},
};

/* One entry of the section table being decoded. */
typedef struct entry {
    uint32_t i, id, record_size;
    uint64_t n_records;
    uint64_t offset; /* of the section in the index */
    uint64_t size;   /* of the section, without padding */
    uint64_t at;     /* of the entry in the file */
    lorafmt_error *err;
} entry;

static lorafmt_status fail(const entry *e, lorafmt_status status, unsigned byte, const char *field, const char *text)
{
    char path[48];

    snprintf(path, sizeof path, "section[%" PRIu32 "].%s", e->i, field);
    return lf_fail(e->err, status, e->at + byte, path, "id %" PRIu32 ", record size %" PRIu32 ", %" PRIu64 " records: %s", e->id,
                   e->record_size, e->n_records, text);
}

/* Sections 1 to 8 come first; what follows is ignorable or unknown. */
static lorafmt_status check_id(const entry *e, uint32_t previous_id)
{
    if (e->i < LF_N_REQUIRED && e->id != lf_section_types[e->i].id)
        return fail(e, LORAFMT_CORRUPT, LF_SECTION_ID, "id", "the first eight sections must be 1 to 8");
    if (e->id <= previous_id)
        return fail(e, LORAFMT_CORRUPT, LF_SECTION_ID, "id", "ids must ascend");
    if (e->i >= LF_N_REQUIRED && e->id < LF_FIRST_IGNORABLE_SECTION)
        return fail(e, LORAFMT_UNSUPPORTED, LF_SECTION_ID, "id", "this reader does not know that section and may not ignore it");
    return LORAFMT_OK;
}

/* Before what follows from it: another record size is another format, not damage. */
static lorafmt_status check_record_size(const entry *e)
{
    if (e->record_size == 0)
        return fail(e, LORAFMT_CORRUPT, LF_SECTION_RECORD_SIZE, "record_size", "must not be 0");
    if (e->i < LF_N_REQUIRED && e->record_size != lf_section_types[e->i].record_size)
        return fail(e, LORAFMT_UNSUPPORTED, LF_SECTION_RECORD_SIZE, "record_size", "this reader knows another record size");
    return LORAFMT_OK;
}

static lorafmt_status check_size(entry *e, uint64_t index_size)
{
    if (!lf_mul_u64(e->record_size, e->n_records, &e->size) || e->size > index_size - e->offset)
        return fail(e, LORAFMT_CORRUPT, LF_SECTION_N_RECORDS, "n_records", "more than the index has bytes for");
    return LORAFMT_OK;
}

static lorafmt_status take_known(const entry *e, lf_container *c)
{
    for (int k = 0; k < LF_N_SECTIONS; k++) {
        const lf_section_type *type = &lf_section_types[k];
        if (type->id != e->id)
            continue;
        if (e->record_size != type->record_size)
            break; // an ignorable one, as if it were unknown
        if (e->n_records < type->min_records)
            return fail(e, LORAFMT_CORRUPT, LF_SECTION_N_RECORDS, "n_records", "must not be empty");
        if (e->n_records > type->max_records)
            return fail(e, LORAFMT_CORRUPT, LF_SECTION_N_RECORDS, "n_records", "more than the format allows");
        c->sections[k] = (lf_section){e->offset, (size_t)e->n_records};
        return LORAFMT_OK;
    }
    c->n_ignored++;
    return LORAFMT_OK;
}

static void load_entry(const lf_container *c, uint32_t i, uint64_t offset, entry *e)
{
    const uint64_t at = LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (uint64_t)i;
    const uint8_t *p = c->index + at;

    e->i = i;
    e->id = lf_load_u32le(p + LF_SECTION_ID);
    e->record_size = lf_load_u32le(p + LF_SECTION_RECORD_SIZE);
    e->n_records = lf_load_u64le(p + LF_SECTION_N_RECORDS);
    e->offset = offset;
    e->at = c->root.index_offset + at;
}

static lorafmt_status decode_section_table(lf_container *c, uint32_t n_sections, lorafmt_error *err)
{
    const uint64_t index_size = c->root.index_size;
    uint64_t offset = LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (uint64_t)n_sections;
    entry e = {.err = err};

    for (uint32_t i = 0; i < n_sections; i++) {
        const uint32_t previous_id = e.id;
        load_entry(c, i, offset, &e);
        LF_TRY(check_id(&e, previous_id));
        LF_TRY(check_record_size(&e));
        LF_TRY(check_size(&e, index_size));
        LF_TRY(take_known(&e, c));
        offset = lf_round_up(offset + e.size, 8); // index_size is a multiple of 8, so this cannot pass it
    }
    if (offset != index_size)
        return lf_root_fail(c, LORAFMT_CORRUPT, LF_ROOT_INDEX_SIZE, "index_size", err,
                            "%" PRIu64 " bytes more than the sections are", index_size - offset);
    return LORAFMT_OK;
}

lorafmt_status lf_index_decode(lf_container *c, lorafmt_error *err)
{
    const uint8_t *p = c->index;
    const uint64_t at = c->root.index_offset;
    const uint64_t generation = lf_load_u64le(p + LF_INDEX_GENERATION);
    const uint32_t n_sections = lf_load_u32le(p + LF_INDEX_N_SECTIONS);

    c->align_log2 = lf_load_u32le(p + LF_INDEX_ALIGN_LOG2);
    if (memcmp(p + LF_INDEX_MAGIC, magic, sizeof magic) != 0)
        return lf_fail(err, LORAFMT_CORRUPT, at + LF_INDEX_MAGIC, "index.magic", "not an index");
    if (generation != c->root.generation)
        return lf_fail(err, LORAFMT_CORRUPT, at + LF_INDEX_GENERATION, "index.generation",
                       "generation %" PRIu64 " under a root of generation %" PRIu64, generation, c->root.generation);
    if (c->align_log2 != 6 && c->align_log2 != 12 && c->align_log2 != 16)
        return lf_fail(err, LORAFMT_CORRUPT, at + LF_INDEX_ALIGN_LOG2, "index.align_log2", "%" PRIu32 ", must be 6, 12 or 16",
                       c->align_log2);
    if (n_sections < LF_N_REQUIRED || n_sections > LF_MAX_SECTIONS)
        return lf_fail(err, LORAFMT_CORRUPT, at + LF_INDEX_N_SECTIONS, "index.n_sections", "%" PRIu32 " sections, must be %d..%u",
                       n_sections, LF_N_REQUIRED, LF_MAX_SECTIONS);
    if (LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (uint64_t)n_sections > c->root.index_size)
        return lf_fail(err, LORAFMT_CORRUPT, at + LF_INDEX_N_SECTIONS, "index.n_sections",
                       "%" PRIu32 " sections are more than the index has bytes for", n_sections);
    return decode_section_table(c, n_sections, err);
}

lorafmt_status lf_container_check_digest(const lf_container *c, lorafmt_error *err)
{
    uint8_t sha256[LF_SHA256_SIZE];

    lf_sha256_of(c->index, (size_t)c->root.index_size, sha256);
    if (memcmp(sha256, c->root.index_sha256, sizeof sha256) != 0)
        return lf_root_fail(c, LORAFMT_CORRUPT, LF_ROOT_INDEX_SHA256, "index_sha256", err, "the index does not match its digest");
    return LORAFMT_OK;
}

lorafmt_status lf_index_check_padding(const lf_container *c, lorafmt_error *err)
{
    const uint32_t n_sections = lf_load_u32le(c->index + LF_INDEX_N_SECTIONS);
    uint64_t offset = LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (uint64_t)n_sections;
    entry e = {.err = err};

    for (uint32_t i = 0; i < n_sections; i++) {
        uint64_t end;
        load_entry(c, i, offset, &e);
        end = offset + e.record_size * e.n_records;
        offset = lf_round_up(end, 8);
        if (!lf_all_zero(c->index + end, (size_t)(offset - end)))
            return lf_fail(err, LORAFMT_CORRUPT, c->root.index_offset + end, "index", "padding is not zero");
    }
    return LORAFMT_OK;
}

/* The last one, signatures, is left out when it is empty. */
static int n_sections_of(const uint64_t n_records[LF_N_SECTIONS])
{
    return n_records[LF_SIGNATURES] ? LF_N_SECTIONS : LF_N_REQUIRED;
}

lorafmt_status lf_index_layout(const uint64_t n_records[LF_N_SECTIONS], uint64_t offsets[LF_N_SECTIONS], uint64_t *index_size,
                               lorafmt_error *err)
{
    const int n_sections = n_sections_of(n_records);
    uint64_t offset = LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (uint64_t)n_sections;

    for (int k = 0; k < n_sections; k++) {
        const lf_section_type *type = &lf_section_types[k];
        if (n_records[k] > type->max_records)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, type->name, "%" PRIu64 " records, the limit is %" PRIu64,
                           n_records[k], type->max_records);
        offsets[k] = offset;
        offset = lf_round_up(offset + n_records[k] * type->record_size, 8);
    }
    if (offset > LF_MAX_INDEX_SIZE)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, "index_size", "an index of %" PRIu64 " bytes, the limit is 2^28",
                       offset);
    *index_size = offset;
    return LORAFMT_OK;
}

void lf_index_encode(uint64_t generation, uint32_t align_log2, const uint64_t n_records[LF_N_SECTIONS], uint8_t *index)
{
    const int n_sections = n_sections_of(n_records);

    memcpy(index + LF_INDEX_MAGIC, magic, sizeof magic);
    lf_store_u64le(index + LF_INDEX_GENERATION, generation);
    lf_store_u32le(index + LF_INDEX_ALIGN_LOG2, align_log2);
    lf_store_u32le(index + LF_INDEX_N_SECTIONS, (uint32_t)n_sections);
    for (int k = 0; k < n_sections; k++) {
        uint8_t *p = index + LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * k;
        lf_store_u32le(p + LF_SECTION_ID, lf_section_types[k].id);
        lf_store_u32le(p + LF_SECTION_RECORD_SIZE, lf_section_types[k].record_size);
        lf_store_u64le(p + LF_SECTION_N_RECORDS, n_records[k]);
    }
}
