/* SPDX-License-Identifier: MIT */
/* Which tensors a generation stores: equal ones once, and those that are kept as they are stored already. */
#include "format/base/arith.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/tensor_map.h"
#include "format/container/encode.h"

#include <stdlib.h>

/* A hash table of tensor records by content; slots hold number + 1. */
typedef struct content_table {
    uint32_t *slots;
    size_t mask;
} content_table;

/* For as many as n records. */
static lorafmt_status new_table(content_table *table, size_t n, lf_arena *arena, lorafmt_error *err)
{
    size_t n_slots = 1;

    while (n_slots < 2 * n)
        n_slots *= 2;
    *table = (content_table){lf_arena_alloc(arena, n_slots, sizeof *table->slots), n_slots - 1};
    return table->slots ? LORAFMT_OK : lf_no_memory(err);
}

static size_t first_slot(const content_table *table, const lf_digest sha256)
{
    return (size_t)lf_load_u64le(sha256) & table->mask;
}

static bool is_same(const lf_tensor_record *record, const lorafmt_tensor *t, const lf_digest sha256)
{
    const lorafmt_tensor *own = &record->tensor;

    return memcmp(record->sha256, sha256, LF_SHA256_SIZE) == 0 && own->dtype == t->dtype && own->n_dims == t->n_dims &&
           memcmp(own->shape, t->shape, t->n_dims * sizeof t->shape[0]) == 0;
}

/* What planning looks tensors up in. */
typedef struct lookup {
    content_table stored, kept;
    lf_tensor_map seen; /* by where their data lie */
    size_t *first_factor;
} lookup;

static lorafmt_status fill_kept(const lf_plan *p, content_table *table, lf_arena *arena, lorafmt_error *err)
{
    const size_t n = p->kept ? lf_container_n_tensors(p->kept) : 0;
    lf_tensor_record record;

    LF_TRY(new_table(table, n, arena, err));
    for (size_t i = 0; i < n; i++) {
        size_t slot;
        LF_TRY(lf_container_tensor(p->kept, i, &record, err));
        slot = first_slot(table, record.sha256);
        while (table->slots[slot])
            slot = (slot + 1) & table->mask;
        table->slots[slot] = (uint32_t)i + 1;
    }
    return LORAFMT_OK;
}

static bool find_kept(const lf_plan *p, const content_table *table, const lorafmt_tensor *t, const lf_digest sha256,
                      lf_stored *out)
{
    for (size_t slot = first_slot(table, sha256); table->slots[slot]; slot = (slot + 1) & table->mask) {
        out->kept = table->slots[slot] - 1;
        if (lf_container_tensor(p->kept, out->kept, &out->record, NULL) == LORAFMT_OK && is_same(&out->record, t, sha256)) {
            out->kept_at = p->kept->bytes + out->record.offset;
            return true;
        }
    }
    return false;
}

static void store_raw(lf_stored *stored, const lorafmt_tensor *t, const lf_digest sha256)
{
    *stored = (lf_stored){.record = {.codec = LORAFMT_CODEC_RAW, .stored_size = t->size, .tensor = *t}};
    memcpy(stored->record.sha256, sha256, LF_SHA256_SIZE);
}

/* The number of the stored tensor with that content, which is added if there is none. */
static uint32_t store_tensor(lf_plan *p, lookup *tables, const lorafmt_tensor *t, const lf_digest sha256)
{
    const content_table *table = &tables->stored;
    size_t slot = first_slot(table, sha256);
    lf_stored *stored;

    for (; table->slots[slot]; slot = (slot + 1) & table->mask)
        if (is_same(&p->tensors[table->slots[slot] - 1].record, t, sha256))
            return table->slots[slot] - 1;
    stored = &p->tensors[p->n_records[LF_TENSORS]];
    if (!find_kept(p, &tables->kept, t, sha256, stored))
        store_raw(stored, t, sha256);
    table->slots[slot] = (uint32_t)++p->n_records[LF_TENSORS];
    return table->slots[slot] - 1;
}

/* Digests of what is kept were not looked at: is it what it says, which is what t has? */
static lorafmt_status is_whole(const lf_plan *p, const lf_stored *stored, const lorafmt_tensor *t, bool *out, lorafmt_error *err)
{
    uint8_t *decoded;
    lorafmt_status st;

    *out = false;
    if (stored->record.codec == LORAFMT_CODEC_RAW) {
        *out = memcmp(stored->kept_at, t->data, (size_t)t->size) == 0;
        return LORAFMT_OK;
    }
    if (!(decoded = malloc((size_t)t->size)))
        return lf_no_memory(err);
    st = lf_container_decode_tensor(p->kept, stored->kept, decoded, err);
    *out = !st && memcmp(decoded, t->data, (size_t)t->size) == 0;
    free(decoded);
    return st == LORAFMT_NO_MEMORY ? st : LORAFMT_OK;
}

/* What came with its data takes the place of what is damaged, for all adapters that name it. */
static lorafmt_status mend(lf_plan *p, lf_stored *stored, const lorafmt_tensor *t, const lf_digest sha256, lorafmt_error *err)
{
    bool whole;

    if (!stored->kept_at)
        return LORAFMT_OK;
    LF_TRY(is_whole(p, stored, t, &whole, err));
    if (!whole)
        store_raw(stored, t, sha256);
    return LORAFMT_OK;
}

/* Store the tensor of factor f. Data that several factors name is hashed once. */
static lorafmt_status hash_factor(lf_plan *p, lookup *tables, size_t f, const lorafmt_tensor *t, lorafmt_error *err)
{
    const size_t i = lf_tensor_map_find(&tables->seen, t);

    if (i != SIZE_MAX) {
        memcpy(p->sha256s[f], p->sha256s[tables->first_factor[i]], LF_SHA256_SIZE);
        p->tensor_of[f] = p->tensor_of[tables->first_factor[i]];
        return LORAFMT_OK;
    }
    tables->first_factor[tables->seen.n] = f;
    if (!lf_tensor_map_add(&tables->seen, t))
        return lf_no_memory(err);
    lf_sha256_of(t->data, (size_t)t->size, p->sha256s[f]);
    p->tensor_of[f] = store_tensor(p, tables, t, p->sha256s[f]);
    return mend(p, &p->tensors[p->tensor_of[f]], t, p->sha256s[f], err);
}

static lorafmt_status plan_adapter(lf_plan *p, lookup *tables, size_t a, size_t *f, lorafmt_error *err)
{
    const lorafmt_adapter *adapter = p->adapters[a];
    const lf_digest *digests = p->digests ? p->digests[a] : NULL;

    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t k = 0; k < adapter->sites[i].n_factors; k++, ++*f) {
            const lorafmt_tensor *t = &adapter->sites[i].factors[k].tensor;
            if (!digests) {
                LF_TRY(hash_factor(p, tables, *f, t, err));
                continue;
            }
            memcpy(p->sha256s[*f], *digests++, LF_SHA256_SIZE);
            p->tensor_of[*f] = store_tensor(p, tables, t, p->sha256s[*f]);
        }
    return LORAFMT_OK;
}

/* Does splitting make the file smaller? Less than the alignment may be nothing at all, and raw data can be used where it lies. */
static bool is_worth_splitting(const lf_plan *p, const lf_stored *t)
{
    const uint64_t align = UINT64_C(1) << p->align_log2;

    return lf_round_up(t->split.stored_size, align) < lf_round_up(t->record.tensor.size, align);
}

static lorafmt_status plan_codecs(lf_plan *p, lorafmt_error *err)
{
    LF_TRY(lf_splitter_new(&p->splitter, err));
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++) {
        lf_stored *t = &p->tensors[i];
        if (t->kept_at || !lf_dtype_is_real(t->record.tensor.dtype))
            continue;
        LF_TRY(lf_split_encode(p->splitter, &t->record.tensor, &p->arena, &t->split, err));
        if (is_worth_splitting(p, t)) {
            t->record.codec = LORAFMT_CODEC_SPLIT;
            t->record.stored_size = t->split.stored_size;
        }
    }
    return LORAFMT_OK;
}

lorafmt_status lf_plan_tensors(lf_plan *p, lorafmt_error *err)
{
    const size_t n = (size_t)p->n_records[LF_FACTORS];
    lookup tables = {.seen = {.arena = &p->arena}};
    size_t f = 0;

    p->sha256s = lf_arena_alloc(&p->arena, n, sizeof *p->sha256s);
    p->tensor_of = lf_arena_alloc(&p->arena, n, sizeof *p->tensor_of);
    p->tensors = lf_arena_alloc(&p->arena, n, sizeof *p->tensors);
    tables.first_factor = lf_arena_alloc(&p->arena, n, sizeof *tables.first_factor);
    if (!p->sha256s || !p->tensor_of || !p->tensors || !tables.first_factor)
        return lf_no_memory(err);
    LF_TRY(new_table(&tables.stored, n, &p->arena, err));
    LF_TRY(fill_kept(p, &tables.kept, &p->arena, err));
    for (size_t a = 0; a < p->n_adapters; a++)
        LF_TRY(plan_adapter(p, &tables, a, &f, err));
    return p->codec == LORAFMT_CODEC_SPLIT ? plan_codecs(p, err) : LORAFMT_OK;
}
