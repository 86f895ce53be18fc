/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer's mutator for containers: changes of what a file says, each of which leaves the rest of it as it was but for checksums and
 * digests, which are made right. So the corpus is of files that any reader may be held against.
 */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "fuzz/container_use.h"
#include "fuzz/fuzz.h"

#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

typedef struct mutation {
    uint8_t *file;
    size_t size, max_size;
    const lf_container *c;
    uint64_t random;
} mutation;

/* A number below n > 0: splitmix64. */
static uint64_t below(mutation *m, uint64_t n)
{
    uint64_t z = m->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % n;
}

/* --- words --- */

/* Numbers that fields have, or just have not. */
static uint64_t telling(mutation *m)
{
    const lf_root *root = &m->c->root;
    const uint64_t numbers[] = {0,
                                1,
                                UINT64_MAX,
                                UINT64_C(1) << below(m, 64),
                                root->file_end,
                                root->index_offset,
                                root->index_size,
                                root->generation,
                                m->size,
                                m->c->sections[below(m, LF_N_SECTIONS)].n_records,
                                UINT64_C(0x3ff0000000000000), // 1.0
                                UINT64_C(0x7ff0000000000000)};

    return numbers[below(m, sizeof numbers / sizeof numbers[0])];
}

static uint64_t changed(mutation *m, uint64_t old)
{
    switch (below(m, 4)) {
    case 0:
        return telling(m);
    case 1:
        return telling(m) + below(m, 3) - 1;
    case 2:
        return old ^ UINT64_C(1) << below(m, 64);
    default:
        return old + below(m, 17) - 8;
    }
}

/* One number of 1, 2, 4 or 8 bytes among the n > 0 at p, which are aligned as fields are. */
static void change_word(mutation *m, uint8_t *p, size_t n)
{
    size_t bytes = (size_t)1 << below(m, 4), at;
    uint64_t old = 0, new;

    while (bytes > n)
        bytes /= 2;
    at = bytes * (size_t)below(m, n / bytes);
    for (size_t i = 0; i < bytes; i++)
        old |= (uint64_t)p[at + i] << (8 * i);
    new = changed(m, old);
    for (size_t i = 0; i < bytes; i++)
        p[at + i] = (uint8_t)(new >> (8 * i));
}

/* --- places --- */

typedef struct table {
    uint8_t *at;
    size_t record_size, n;
} table;

/* The records of a section, of which there are some. */
static bool some_table(mutation *m, table *out)
{
    const lf_section_number section = (lf_section_number)below(m, LF_N_SECTIONS);

    *out = (table){m->file + m->c->root.index_offset + m->c->sections[section].offset, lf_section_types[section].record_size,
                   m->c->sections[section].n_records};
    return out->n > 0;
}

static uint8_t *some_record(mutation *m, const table *t)
{
    return t->at + t->record_size * (size_t)below(m, t->n);
}

/* --- changes in place --- */

static bool change_record(mutation *m)
{
    table t;

    if (!some_table(m, &t))
        return false;
    change_word(m, some_record(m, &t), t.record_size);
    return true;
}

static bool copy_record(mutation *m)
{
    table t;

    if (!some_table(m, &t))
        return false;
    memmove(some_record(m, &t), some_record(m, &t), t.record_size);
    return true;
}

static bool swap_records(mutation *m)
{
    uint8_t kept[LF_SIGNATURE_SIZE], *a, *b;
    table t;

    if (!some_table(m, &t))
        return false;
    a = some_record(m, &t);
    b = some_record(m, &t);
    memcpy(kept, a, t.record_size);
    memmove(a, b, t.record_size);
    memcpy(b, kept, t.record_size);
    return true;
}

static bool change_root(mutation *m)
{
    change_word(m, m->file + LF_SLOT_OFFSET(below(m, 2)), LF_ROOT_CRC32);
    return true;
}

static bool change_index_front(mutation *m)
{
    const uint32_t n_sections = lf_load_u32le(m->c->index + LF_INDEX_N_SECTIONS);

    change_word(m, m->file + m->c->root.index_offset, LF_INDEX_SECTION_TABLE + n_sections * LF_SECTION_SIZE);
    return true;
}

static bool change_names(mutation *m)
{
    const lf_section *names = &m->c->sections[LF_NAMES];

    LLVMFuzzerMutate(m->file + m->c->root.index_offset + names->offset, names->n_records, names->n_records);
    return true;
}

/* Of compressed tensors this changes streams. */
static bool change_data(mutation *m)
{
    const size_t n = lf_container_n_tensors(m->c);
    lf_tensor_record t;

    if (!n || lf_container_tensor(m->c, (size_t)below(m, n), &t, NULL) != LORAFMT_OK || !t.stored_size)
        return false;
    LLVMFuzzerMutate(m->file + t.offset, (size_t)t.stored_size, (size_t)t.stored_size);
    return true;
}

/* --- changes of what there is --- */

static lorafmt_status append(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    mutation *m = ctx;
    (void)err;

    if (size > m->max_size - m->size)
        return LORAFMT_LIMIT;
    memcpy(m->file + m->size, data, size);
    m->size += size;
    return LORAFMT_OK;
}

/* The same adapters, or fewer, with sites left out, in another codec and alignment. The file itself is overwritten at the end. */
static bool encode_again(mutation *m)
{
    static const uint32_t alignments[] = {6, 6, 6, 12};
    const size_t n = lf_container_n_adapters(m->c), n_kept = 1 + (size_t)below(m, n);
    lf_arena arena = {0};
    mutation out = {.file = lf_arena_alloc(&arena, m->max_size, 1), .max_size = m->max_size};
    lorafmt_adapter *adapters = lf_arena_alloc(&arena, n_kept, sizeof *adapters);
    const lorafmt_adapter **list = lf_arena_alloc(&arena, n_kept, sizeof *list);
    bool done = out.file && adapters && list;
    uint64_t size;

    for (size_t i = 0; done && i < n_kept; i++) {
        list[i] = &adapters[i];
        done = read_adapter(m->c, i, &adapters[i], &arena);
        if (done && adapters[i].n_sites > 1 && below(m, 2))
            adapters[i].n_sites = 1 + (size_t)below(m, adapters[i].n_sites);
    }
    done = done && lf_container_encode(list, n_kept, alignments[below(m, 4)], (lorafmt_codec)below(m, 2), append, &out, &size,
                                       NULL) == LORAFMT_OK;
    if (done) {
        memcpy(m->file, out.file, out.size);
        m->size = out.size;
    }
    lf_arena_free(&arena);
    return done;
}

/* The records of a section into a new index, all of them, or one of them twice (more is 1) or not at all (-1). Returns their number. */
static size_t copy_section(mutation *m, lf_section_number section, int more, uint8_t *to)
{
    const size_t n = m->c->sections[section].n_records, size = lf_section_types[section].record_size,
                 at = more ? (size_t)below(m, n) : 0, after = at + (more < 0);
    const uint8_t *from = m->c->index + m->c->sections[section].offset;

    memcpy(to, from, at * size);
    to += at * size;
    if (more > 0) {
        memcpy(to, from + at * size, size);
        to += size;
    }
    memcpy(to, from + after * size, (n - after) * size);
    return n + (size_t)more;
}

/* The last record that owns records of a section has one more or less of them, as a section is shared out among its owners. */
static void tell_owner(const mutation *m, lf_section_number section, int more, uint8_t *index, const uint64_t *offsets)
{
    const lf_section_number owner = section == LF_FACTORS ? LF_SITES : LF_ADAPTERS;
    const unsigned at = section == LF_FACTORS ? LF_SITE_N_FACTORS
                        : section == LF_SITES ? LF_ADAPTER_N_SITES
                                              : LF_ADAPTER_N_METADATA;
    uint8_t *last;

    if ((section != LF_FACTORS && section != LF_SITES && section != LF_METADATA) || !m->c->sections[owner].n_records)
        return;
    last = index + offsets[owner] + (m->c->sections[owner].n_records - 1) * lf_section_types[owner].record_size;
    lf_store_u32le(last + at, lf_load_u32le(last + at) + (uint32_t)more);
}

/* The old index becomes a segment that counts no more, in its place among the n that there are. */
static void bury_index(const mutation *m, uint8_t *segments, size_t n)
{
    uint8_t *segment = segments + n * LF_SEGMENT_SIZE;

    while (segment > segments && lf_load_u64le(segment - LF_SEGMENT_SIZE + LF_SEGMENT_OFFSET) > m->c->root.index_offset) {
        memcpy(segment, segment - LF_SEGMENT_SIZE, LF_SEGMENT_SIZE);
        segment -= LF_SEGMENT_SIZE;
    }
    lf_segment_encode(&(lf_segment){m->c->root.index_offset, m->c->root.index_size, m->c->root.generation, LF_SEGMENT_DEAD},
                      segment);
}

/* A new index at the end of the file, in which one section has a record more or less. */
static bool resize_section(mutation *m)
{
    const lf_section_number section = (lf_section_number)below(m, LF_N_SECTIONS);
    const int more = below(m, 2) ? -1 : 1;
    const uint64_t index_offset = lf_round_up(m->c->root.file_end, LF_INDEX_ALIGN);
    uint64_t n_records[LF_N_SECTIONS], offsets[LF_N_SECTIONS], index_size;
    lf_root root = m->c->root;
    uint8_t *index = m->file + index_offset;

    if (!m->c->sections[section].n_records)
        return false;
    for (unsigned s = 0; s < LF_N_SECTIONS; s++)
        n_records[s] = m->c->sections[s].n_records + (s == LF_SEGMENTS) + (s == section ? (uint64_t)more : 0);
    if (lf_index_layout(n_records, offsets, &index_size, NULL) != LORAFMT_OK || index_offset > m->max_size ||
        index_size > m->max_size - index_offset)
        return false;
    memset(m->file + root.file_end, 0, (size_t)(index_offset + index_size - root.file_end));
    lf_index_encode(root.generation, m->c->align_log2, n_records, index);
    for (unsigned s = 0; s < LF_N_SECTIONS; s++) {
        size_t n;
        if (n_records[s] == 0)
            continue;
        n = copy_section(m, (lf_section_number)s, s == section ? more : 0, index + offsets[s]);
        if (s == LF_SEGMENTS)
            bury_index(m, index + offsets[s], n);
    }
    tell_owner(m, section, more, index, offsets);
    root.index_offset = index_offset;
    root.index_size = index_size;
    root.file_end = index_offset + index_size;
    lf_root_encode(&root, m->file + LF_SLOT_OFFSET(m->c->slot));
    m->size = (size_t)root.file_end;
    return true;
}

/* --- */

static bool change(mutation *m)
{
    static bool (*const changes[])(mutation *) = {change_record, change_record,  change_record,      copy_record,
                                                  swap_records,  change_root,    change_names,       change_data,
                                                  encode_again,  resize_section, change_index_front, change_data};

    return changes[below(m, sizeof changes / sizeof changes[0])](m);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    mutation m = {.file = data, .size = size, .max_size = max_size, .random = seed};
    lf_container *c = NULL;
    bool done = false;

    if (size >= LF_SEGMENTS_OFFSET && lf_container_open(data, size, LF_CONTAINER_DEFER_DIGEST, &c, NULL) == LORAFMT_OK) {
        m.c = c;
        for (int tries = 0; !done && tries < 8; tries++)
            done = change(&m);
    }
    lf_container_free(c);
    if (!done)
        m.size = LLVMFuzzerMutate(data, size, max_size);
    if (m.size >= LF_SEGMENTS_OFFSET)
        repair_file(data, m.size);
    return m.size;
}
