/* SPDX-License-Identifier: MIT */
/*
 * Writing a new file: header page, one root, the index, then tensor data in the order of the tensor table. With the index in
 * front a reader gets all but the data in one read.
 */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/tensor_map.h"
#include "format/container/internal.h"

#include <inttypes.h>

/* A tensor of the file. */
typedef struct stored {
    lf_tensor_record record;
    lf_split split; // with codec split
} stored;

/* The whole file before a byte of it is written. */
typedef struct plan {
    const lorafmt_adapter *const *adapters;
    size_t n_adapters;
    uint32_t align_log2;
    lf_splitter *splitter; // with codec split
    lf_arena arena;
    uint64_t n_records[LF_N_REQUIRED];
    uint64_t sections[LF_N_REQUIRED];   // offsets in the index
    uint8_t (*sha256s)[LF_SHA256_SIZE]; // one per factor, in table order
    uint32_t *tensor_of;                // the same: which stored tensor
    stored *tensors;                    // n_records[LF_TENSORS] of them, in order of first use
    lf_name_pool names;
    uint8_t *index;
    lf_root root;
} plan;

static lorafmt_status count_records(plan *p, lorafmt_error *err)
{
    uint64_t *n = p->n_records;

    n[LF_ADAPTERS] = p->n_adapters;
    for (size_t a = 0; a < p->n_adapters; a++) {
        const lorafmt_adapter *adapter = p->adapters[a];
        n[LF_SITES] += adapter->n_sites;
        n[LF_METADATA] += adapter->n_metadata;
        for (size_t i = 0; i < adapter->n_sites; i++)
            n[LF_FACTORS] += adapter->sites[i].n_factors;
    }
    return lf_index_layout(n, p->sections, &p->root.index_size, err); // early, so that numbers fit in what follows
}

/* A hash table of stored tensors by digest; slots hold number + 1. */
typedef struct dedupe {
    uint32_t *slots;
    size_t mask;
} dedupe;

static bool is_same(const stored *s, const lorafmt_tensor *t, const uint8_t sha256[LF_SHA256_SIZE])
{
    const lorafmt_tensor *own = &s->record.tensor;

    return memcmp(s->record.sha256, sha256, LF_SHA256_SIZE) == 0 && own->dtype == t->dtype && own->n_dims == t->n_dims &&
           memcmp(own->shape, t->shape, t->n_dims * sizeof t->shape[0]) == 0;
}

/* The number of the stored tensor with that content, which is added if there is none. */
static uint32_t store_tensor(plan *p, dedupe *table, const lorafmt_tensor *t, const uint8_t sha256[LF_SHA256_SIZE])
{
    size_t slot = (size_t)lf_load_u64le(sha256) & table->mask;
    lf_tensor_record *record;

    for (; table->slots[slot]; slot = (slot + 1) & table->mask)
        if (is_same(&p->tensors[table->slots[slot] - 1], t, sha256))
            return table->slots[slot] - 1;
    record = &p->tensors[p->n_records[LF_TENSORS]].record;
    *record = (lf_tensor_record){.codec = LORAFMT_CODEC_RAW, .stored_size = t->size, .tensor = *t};
    memcpy(record->sha256, sha256, sizeof record->sha256);
    table->slots[slot] = (uint32_t)++p->n_records[LF_TENSORS];
    return table->slots[slot] - 1;
}

/* Store the tensor of factor f. Data that several factors name is hashed once. */
static lorafmt_status plan_factor(plan *p, dedupe *table, lf_tensor_map *seen, size_t *first_factor, size_t f,
                                  const lorafmt_tensor *t, lorafmt_error *err)
{
    const size_t i = lf_tensor_map_find(seen, t);

    if (i != SIZE_MAX) {
        memcpy(p->sha256s[f], p->sha256s[first_factor[i]], LF_SHA256_SIZE);
        p->tensor_of[f] = p->tensor_of[first_factor[i]];
        return LORAFMT_OK;
    }
    first_factor[seen->n] = f;
    if (!lf_tensor_map_add(seen, t))
        return lf_no_memory(err);
    lf_sha256_of(t->data, (size_t)t->size, p->sha256s[f]);
    p->tensor_of[f] = store_tensor(p, table, t, p->sha256s[f]);
    return LORAFMT_OK;
}

static lorafmt_status plan_tensors(plan *p, lorafmt_error *err)
{
    const size_t n = (size_t)p->n_records[LF_FACTORS];
    size_t f = 0, n_slots = 1, *first_factor = lf_arena_alloc(&p->arena, n, sizeof *first_factor);
    lf_tensor_map seen = {.arena = &p->arena};
    dedupe table;

    while (n_slots < 2 * n)
        n_slots *= 2;
    table = (dedupe){lf_arena_alloc(&p->arena, n_slots, sizeof *table.slots), n_slots - 1};
    p->sha256s = lf_arena_alloc(&p->arena, n, sizeof *p->sha256s);
    p->tensor_of = lf_arena_alloc(&p->arena, n, sizeof *p->tensor_of);
    p->tensors = lf_arena_alloc(&p->arena, n, sizeof *p->tensors);
    if (!first_factor || !table.slots || !p->sha256s || !p->tensor_of || !p->tensors)
        return lf_no_memory(err);
    for (size_t a = 0; a < p->n_adapters; a++)
        for (size_t i = 0; i < p->adapters[a]->n_sites; i++) {
            const lorafmt_site *site = &p->adapters[a]->sites[i];
            for (uint32_t k = 0; k < site->n_factors; k++)
                LF_TRY(plan_factor(p, &table, &seen, first_factor, f++, &site->factors[k].tensor, err));
        }
    return LORAFMT_OK;
}

/* Does splitting make the file smaller? Less than the alignment may be nothing at all, and raw data can be used where it lies. */
static bool is_worth_splitting(const plan *p, const stored *t)
{
    const uint64_t align = UINT64_C(1) << p->align_log2;

    return lf_round_up(t->split.stored_size, align) < lf_round_up(t->record.tensor.size, align);
}

static lorafmt_status plan_codecs(plan *p, lorafmt_error *err)
{
    LF_TRY(lf_splitter_new(&p->splitter, err));
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++) {
        stored *t = &p->tensors[i];
        if (!lf_dtype_is_real(t->record.tensor.dtype))
            continue;
        LF_TRY(lf_split_encode(p->splitter, &t->record.tensor, &p->arena, &t->split, err));
        if (is_worth_splitting(p, t)) {
            t->record.codec = LORAFMT_CODEC_SPLIT;
            t->record.stored_size = t->split.stored_size;
        }
    }
    return LORAFMT_OK;
}

static lorafmt_status plan_names(plan *p, lorafmt_error *err)
{
    const uint64_t n = 1 + 3 * p->n_records[LF_ADAPTERS] + p->n_records[LF_SITES] + 2 * p->n_records[LF_METADATA];
    const char **strings = lf_arena_alloc(&p->arena, (size_t)n, sizeof *strings);
    size_t k = 0;

    if (!strings)
        return lf_no_memory(err);
    strings[k++] = "";
    for (size_t a = 0; a < p->n_adapters; a++) {
        const lorafmt_adapter *adapter = p->adapters[a];
        strings[k++] = adapter->name;
        strings[k++] = adapter->base_name;
        strings[k++] = adapter->base_revision;
        for (size_t i = 0; i < adapter->n_sites; i++)
            strings[k++] = adapter->sites[i].target;
        for (size_t i = 0; i < adapter->n_metadata; i++) {
            strings[k++] = adapter->metadata[i].key;
            strings[k++] = adapter->metadata[i].value;
        }
    }
    LF_TRY(lf_name_pool_build(&p->names, &p->arena, strings, k, err));
    p->n_records[LF_NAMES] = p->names.size;
    return LORAFMT_OK;
}

static lorafmt_status plan_offsets(plan *p, lorafmt_error *err)
{
    const uint64_t align = UINT64_C(1) << p->align_log2;
    uint64_t end;

    LF_TRY(lf_index_layout(p->n_records, p->sections, &p->root.index_size, err));
    p->root.generation = 1;
    p->root.index_offset = LF_SEGMENTS_OFFSET;
    end = p->root.index_offset + p->root.index_size;
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++) {
        lf_tensor_record *record = &p->tensors[i].record;
        record->offset = lf_round_up(end, align);
        // Sizes are of memory, so only many names for the same bytes come near the end of the number.
        if (!lf_add_u64(record->offset, record->stored_size, &end) || end > UINT64_MAX / 2)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "the tensors are too large for one file");
    }
    p->root.file_end = end;
    return LORAFMT_OK;
}

static uint8_t *record_at(const plan *p, lf_section_number section, size_t i)
{
    return p->index + p->sections[section] + i * lf_section_types[section].record_size;
}

static void encode_adapters(const plan *p)
{
    size_t n_sites = 0, n_factors = 0, n_metadata = 0;

    for (size_t a = 0; a < p->n_adapters; a++) {
        const lorafmt_adapter *adapter = p->adapters[a];
        uint8_t id[LF_SHA256_SIZE];
        lf_adapter_id(adapter, (const uint8_t(*)[LF_SHA256_SIZE])p->sha256s + n_factors, id);
        lf_adapter_encode(adapter, &p->names, (uint32_t)n_sites, (uint32_t)n_metadata, id, record_at(p, LF_ADAPTERS, a));
        for (size_t i = 0; i < adapter->n_sites; i++) {
            const lorafmt_site *site = &adapter->sites[i];
            lf_site_encode(site, &p->names, (uint32_t)n_factors, record_at(p, LF_SITES, n_sites++));
            for (uint32_t k = 0; k < site->n_factors; k++, n_factors++)
                lf_factor_encode(site->factors[k].role, p->tensor_of[n_factors], record_at(p, LF_FACTORS, n_factors));
        }
        for (size_t i = 0; i < adapter->n_metadata; i++)
            lf_metadata_encode(&adapter->metadata[i], &p->names, record_at(p, LF_METADATA, n_metadata++));
    }
}

static lorafmt_status encode_index(plan *p, lorafmt_error *err)
{
    p->index = lf_arena_alloc(&p->arena, (size_t)p->root.index_size, 1);
    if (!p->index)
        return lf_no_memory(err);
    lf_index_encode(p->root.generation, p->align_log2, p->n_records, p->index);
    lf_name_pool_encode(&p->names, record_at(p, LF_NAMES, 0));
    encode_adapters(p);
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++)
        lf_tensor_encode(&p->tensors[i].record, record_at(p, LF_TENSORS, i));
    lf_sha256_of(p->index, (size_t)p->root.index_size, p->root.index_sha256);
    return LORAFMT_OK;
}

/* What would not be read is not written. */
static lorafmt_status check_index(plan *p, lorafmt_error *err)
{
    lf_container c = {.index = p->index, .root = p->root};

    LF_TRY(lf_index_decode(&c, err));
    return lf_check_records(&c, &p->arena, err);
}

/* A sink and how many bytes it took. */
typedef struct output {
    lf_sink sink;
    void *ctx;
    uint64_t at;
} output;

static lorafmt_status put(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    output *o = ctx;

    o->at += size;
    return size ? o->sink(o->ctx, data, size, err) : LORAFMT_OK;
}

static lorafmt_status put_padding(output *o, uint64_t offset, lorafmt_error *err)
{
    static const uint8_t zeros[LF_PAGE_SIZE];

    while (o->at < offset)
        LF_TRY(put(o, zeros, offset - o->at < sizeof zeros ? (size_t)(offset - o->at) : sizeof zeros, err));
    return LORAFMT_OK;
}

static lorafmt_status put_tensor(const plan *p, output *o, const stored *t, lorafmt_error *err)
{
    LF_TRY(put_padding(o, t->record.offset, err));
    if (t->record.codec == LORAFMT_CODEC_SPLIT)
        return lf_split_write(p->splitter, &t->record.tensor, &t->split, put, o, err);
    return put(o, t->record.tensor.data, (size_t)t->record.stored_size, err);
}

static lorafmt_status write_file(const plan *p, output *o, lorafmt_error *err)
{
    uint8_t page[LF_PAGE_SIZE];

    lf_header_page_encode(page);
    LF_TRY(put(o, page, sizeof page, err));
    lf_root_encode(&p->root, page);
    LF_TRY(put(o, page, LF_ROOT_SIZE, err));
    LF_TRY(put_padding(o, p->root.index_offset, err));
    LF_TRY(put(o, p->index, (size_t)p->root.index_size, err));
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++)
        LF_TRY(put_tensor(p, o, &p->tensors[i], err));
    return LORAFMT_OK;
}

static lorafmt_status make_plan(plan *p, lorafmt_codec codec, lorafmt_error *err)
{
    if (p->n_adapters == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "no adapters, a file holds at least one");
    if (p->align_log2 != 6 && p->align_log2 != 12 && p->align_log2 != 16)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "align_log2", "%" PRIu32 ", must be 6, 12 or 16", p->align_log2);
    LF_TRY(count_records(p, err));
    LF_TRY(plan_tensors(p, err));
    if (codec == LORAFMT_CODEC_SPLIT)
        LF_TRY(plan_codecs(p, err));
    LF_TRY(plan_names(p, err));
    LF_TRY(plan_offsets(p, err));
    LF_TRY(encode_index(p, err));
    return check_index(p, err);
}

lorafmt_status lf_container_encode(const lorafmt_adapter *const *adapters, size_t n_adapters, uint32_t align_log2,
                                   lorafmt_codec codec, lf_sink sink, void *ctx, uint64_t *file_size, lorafmt_error *err)
{
    plan p = {.adapters = adapters, .n_adapters = n_adapters, .align_log2 = align_log2};
    output o = {.sink = sink, .ctx = ctx};
    lorafmt_status status = make_plan(&p, codec, err);

    *file_size = p.root.file_end;
    if (status == LORAFMT_OK)
        status = write_file(&p, &o, err);
    lf_splitter_free(p.splitter);
    lf_arena_free(&p.arena);
    if (status != LORAFMT_OK)
        *file_size = 0;
    return status;
}
