/* SPDX-License-Identifier: MIT */
/*
 * Writing a generation: its index, then its tensor data in the order of the tensor table. A new file has header page and root
 * before that, so that a reader gets all but the data in one read; one that is appended has padding.
 */
#include "format/container/encode.h"
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/error.h"

#include <inttypes.h>

static size_t n_factors_of(const lorafmt_adapter *adapter)
{
    size_t n = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        n += adapter->sites[i].n_factors;
    return n;
}

static lorafmt_status count_records(lf_plan *p, lorafmt_error *err)
{
    uint64_t *n = p->n_records;

    n[LF_ADAPTERS] = p->n_adapters;
    for (size_t a = 0; a < p->n_adapters; a++) {
        const lorafmt_adapter *adapter = p->adapters[a];
        n[LF_SITES] += adapter->n_sites;
        n[LF_METADATA] += adapter->n_metadata;
        n[LF_FACTORS] += n_factors_of(adapter);
    }
    return lf_index_layout(n, p->sections, &p->root.index_size, err); // early, so that numbers fit in what follows
}

/* Signatures are of the id that an adapter had; they go with it when it has it still. */
static bool keeps_signatures(const lf_plan *p, size_t a)
{
    return memcmp(p->adapters[a]->id, p->ids[a], LF_SHA256_SIZE) == 0;
}

static lorafmt_status plan_ids(lf_plan *p, lorafmt_error *err)
{
    size_t n_factors = 0;

    p->ids = lf_arena_alloc(&p->arena, p->n_adapters, sizeof *p->ids);
    if (!p->ids)
        return lf_no_memory(err);
    for (size_t a = 0; a < p->n_adapters; a++) {
        lf_adapter_id(p->adapters[a], (const uint8_t(*)[LF_SHA256_SIZE])p->sha256s + n_factors, p->ids[a]);
        n_factors += n_factors_of(p->adapters[a]);
        if (keeps_signatures(p, a))
            p->n_records[LF_SIGNATURES] += p->adapters[a]->n_signatures;
    }
    return LORAFMT_OK;
}

static lorafmt_status plan_names(lf_plan *p, lorafmt_error *err)
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

/* The index comes first; behind earlier generations at the next place where one may be. */
static lorafmt_status plan_root(lf_plan *p, lorafmt_error *err)
{
    const lf_container *file = p->file;

    p->begin = file ? file->root.file_end : LF_SEGMENTS_OFFSET;
    p->root.generation = file ? file->root.generation + 1 : 1;
    if (p->root.generation > LF_MAX_GENERATION || p->begin > UINT64_MAX / 2)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "no generation can follow generation %" PRIu64,
                       p->root.generation - 1);
    p->root.index_offset = lf_round_up(p->begin, LF_INDEX_ALIGN);
    return file ? lf_plan_behind(p, err) : LORAFMT_OK;
}

static lorafmt_status plan_offsets(lf_plan *p, lorafmt_error *err)
{
    const uint64_t align = UINT64_C(1) << p->align_log2;
    uint64_t end;

    LF_TRY(lf_index_layout(p->n_records, p->sections, &p->root.index_size, err));
    end = p->root.index_offset + p->root.index_size;
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++) {
        lf_tensor_record *record = &p->tensors[i].record;
        if (lf_plan_stays(p, &p->tensors[i]))
            continue;
        record->offset = lf_round_up(end, align);
        // Sizes are of memory, so only many names for the same bytes come near the end of the number.
        if (!lf_add_u64(record->offset, record->stored_size, &end) || end > UINT64_MAX / 2)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "the tensors are too large for one file");
    }
    p->root.file_end = end;
    return LORAFMT_OK;
}

static uint8_t *record_at(const lf_plan *p, lf_section_number section, size_t i)
{
    return p->index + p->sections[section] + i * lf_section_types[section].record_size;
}

static void encode_signatures(const lf_plan *p)
{
    size_t n = 0;

    for (size_t a = 0; a < p->n_adapters; a++)
        for (size_t i = 0; keeps_signatures(p, a) && i < p->adapters[a]->n_signatures; i++)
            lf_signature_encode(&p->adapters[a]->signatures[i], (uint32_t)a, record_at(p, LF_SIGNATURES, n++));
}

static void encode_adapters(const lf_plan *p)
{
    size_t n_sites = 0, n_factors = 0, n_metadata = 0;

    for (size_t a = 0; a < p->n_adapters; a++) {
        const lorafmt_adapter *adapter = p->adapters[a];
        lf_adapter_encode(adapter, &p->names, (uint32_t)n_sites, (uint32_t)n_metadata, p->ids[a], record_at(p, LF_ADAPTERS, a));
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

static lorafmt_status encode_index(lf_plan *p, lorafmt_error *err)
{
    p->index = lf_arena_alloc(&p->arena, (size_t)p->root.index_size, 1);
    if (!p->index)
        return lf_no_memory(err);
    lf_index_encode(p->root.generation, p->align_log2, p->n_records, p->index);
    lf_name_pool_encode(&p->names, record_at(p, LF_NAMES, 0));
    encode_adapters(p);
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++)
        lf_tensor_encode(&p->tensors[i].record, record_at(p, LF_TENSORS, i));
    for (size_t i = 0; i < p->n_records[LF_SEGMENTS]; i++)
        lf_segment_encode(&p->segments[i], record_at(p, LF_SEGMENTS, i));
    if (p->file)
        lf_history_encode(p->file, record_at(p, LF_HISTORY, 0));
    encode_signatures(p);
    lf_sha256_of(p->index, (size_t)p->root.index_size, p->root.index_sha256);
    return LORAFMT_OK;
}

/* What would not be read is not written. */
static lorafmt_status check_index(lf_plan *p, lorafmt_error *err)
{
    lf_container c = {.index = p->index, .root = p->root};

    LF_TRY(lf_index_decode(&c, err));
    return lf_check_records(&c, &p->arena, err);
}

static lorafmt_status make_plan(lf_plan *p, lorafmt_error *err)
{
    if (p->n_adapters == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "no adapters, a file holds at least one");
    if (p->align_log2 != 6 && p->align_log2 != 12 && p->align_log2 != 16)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "align_log2", "%" PRIu32 ", must be 6, 12 or 16", p->align_log2);
    LF_TRY(count_records(p, err));
    LF_TRY(lf_plan_tensors(p, err));
    LF_TRY(plan_ids(p, err));
    LF_TRY(plan_names(p, err));
    LF_TRY(plan_root(p, err));
    LF_TRY(plan_offsets(p, err));
    LF_TRY(encode_index(p, err));
    return check_index(p, err);
}

static void free_plan(lf_plan *p)
{
    lf_splitter_free(p->splitter);
    lf_arena_free(&p->arena);
}

/* A sink and how far it is in the file. */
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

static lorafmt_status put_tensor(const lf_plan *p, output *o, const lf_stored *t, lorafmt_error *err)
{
    LF_TRY(put_padding(o, t->record.offset, err));
    if (t->record.codec == LORAFMT_CODEC_SPLIT && !t->kept_at)
        return lf_split_write(p->splitter, &t->record.tensor, &t->split, put, o, err);
    return put(o, t->kept_at ? t->kept_at : t->record.tensor.data, (size_t)t->record.stored_size, err);
}

static lorafmt_status put_front(const lf_plan *p, output *o, lorafmt_error *err)
{
    uint8_t page[LF_PAGE_SIZE];

    lf_header_page_encode(page);
    LF_TRY(put(o, page, sizeof page, err));
    lf_root_encode(&p->root, page);
    return put(o, page, LF_ROOT_SIZE, err);
}

static lorafmt_status write_plan(const lf_plan *p, lf_sink sink, void *ctx, lorafmt_error *err)
{
    output o = {.sink = sink, .ctx = ctx, .at = p->file ? p->begin : 0};

    if (!p->file)
        LF_TRY(put_front(p, &o, err));
    LF_TRY(put_padding(&o, p->root.index_offset, err));
    LF_TRY(put(&o, p->index, (size_t)p->root.index_size, err));
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++)
        if (!lf_plan_stays(p, &p->tensors[i]))
            LF_TRY(put_tensor(p, &o, &p->tensors[i], err));
    return LORAFMT_OK;
}

static lorafmt_status encode_file(lf_plan *p, lf_sink sink, void *ctx, uint64_t *file_size, lorafmt_error *err)
{
    lorafmt_status status = make_plan(p, err);

    *file_size = p->root.file_end;
    if (status == LORAFMT_OK)
        status = write_plan(p, sink, ctx, err);
    free_plan(p);
    if (status != LORAFMT_OK)
        *file_size = 0;
    return status;
}

lorafmt_status lf_container_encode(const lorafmt_adapter *const *adapters, size_t n_adapters, uint32_t align_log2,
                                   lorafmt_codec codec, lf_sink sink, void *ctx, uint64_t *file_size, lorafmt_error *err)
{
    lf_plan p = {.adapters = adapters, .n_adapters = n_adapters, .align_log2 = align_log2, .codec = codec};

    return encode_file(&p, sink, ctx, file_size, err);
}

static void take_list(lf_plan *p, const lf_adapter_list *list)
{
    p->adapters = list->adapters;
    p->digests = list->digests;
    p->n_adapters = list->n;
}

lorafmt_status lf_container_compact(const lf_container *c, lf_sink sink, void *ctx, uint64_t *file_size, lorafmt_error *err)
{
    lf_plan p = {.align_log2 = c->align_log2, .kept = c};
    lf_adapter_list list;
    const lorafmt_status status = lf_container_read_all(c, 0, &p.arena, &list, err);

    *file_size = 0;
    take_list(&p, &list);
    if (status == LORAFMT_OK)
        return encode_file(&p, sink, ctx, file_size, err);
    free_plan(&p);
    return status;
}

lorafmt_status lf_container_append(const lf_append *append, lf_sink sink, void *ctx, lf_appended *out, lorafmt_error *err)
{
    lf_plan p = {.codec = append->codec, .align_log2 = append->file->align_log2, .file = append->file, .kept = append->kept};
    lorafmt_status status;

    take_list(&p, &append->list);
    status = make_plan(&p, err);
    memset(out, 0, sizeof *out);
    if (status == LORAFMT_OK) {
        out->begin = p.begin;
        out->end = p.root.file_end;
        out->slot_offset = LF_SLOT_OFFSET(1 - p.root.generation % 2);
        lf_root_encode(&p.root, out->slot);
        status = write_plan(&p, sink, ctx, err);
    }
    free_plan(&p);
    return status;
}
