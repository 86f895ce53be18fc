/* SPDX-License-Identifier: MIT */
/* Sample adapters and the files made of them: encoded by the library, then changed byte by byte, sealed again, and examined. */
#ifndef TESTS_CONTAINER_FILES_H
#define TESTS_CONTAINER_FILES_H

#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/digest.h"
#include "format/container/format.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* --- a file in memory --- */

typedef struct file {
    uint8_t *bytes;
    size_t size;
} file;

static inline void file_append(file *f, const void *data, size_t size)
{
    f->bytes = realloc(f->bytes, f->size + size);
    assert_non_null(f->bytes);
    if (size)
        memcpy(f->bytes + f->size, data, size);
    f->size += size;
}

static inline void file_pad_to(file *f, size_t size)
{
    if (size > f->size) {
        f->bytes = realloc(f->bytes, size);
        assert_non_null(f->bytes);
        memset(f->bytes + f->size, 0, size - f->size);
        f->size = size;
    }
}

static inline file file_copy(const file *f)
{
    file copy = {0};

    file_append(&copy, f->bytes, f->size);
    return copy;
}

static inline lorafmt_status to_file(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    (void)err;
    file_append(ctx, data, size);
    return LORAFMT_OK;
}

/* --- the sample: two adapters that share a tensor, with every kind of field used --- */

#define TENSOR(type, dims, d0, d1, array)                                                                                        \
    {                                                                                                                            \
        .dtype = (type), .n_dims = (dims), .shape = {d0, d1}, .size = sizeof(array), .data = (array)                             \
    }

static const uint8_t a_data[32] = {0, 0, 0x80, 0x3f, 1};
static const uint8_t b_data[24] = {0, 0, 0, 0x40, 2};
static const uint8_t other_b_data[24] = {0, 0, 0, 0x41, 3};
static const uint8_t bias_data[12] = {0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0xff}; // NaN, -inf, 0
static const uint8_t half_data[16] = {0x00, 0x7c, 4};                      // inf as F16, a number as BF16
static const uint8_t rows_data[16] = {0, 0, 0, 0, 0, 0, 0, 0, 2};
static const uint8_t blob_data[5] = {1, 2, 3, 4, 5};
static const uint8_t scalar_data[8] = {6};

static const lorafmt_factor linear_factors[] = {{LORAFMT_ROLE_A, TENSOR(LORAFMT_F32, 2, 2, 4, a_data)},
                                                {LORAFMT_ROLE_B, TENSOR(LORAFMT_F32, 2, 3, 2, b_data)}};
static const lorafmt_factor other_factors[] = {{LORAFMT_ROLE_A, TENSOR(LORAFMT_F32, 2, 2, 4, a_data)},
                                               {LORAFMT_ROLE_B, TENSOR(LORAFMT_F32, 2, 3, 2, other_b_data)}};
static const lorafmt_factor bias_factors[] = {{LORAFMT_ROLE_VALUE, TENSOR(LORAFMT_F32, 1, 3, 0, bias_data)}};
static const lorafmt_factor half_factors[] = {{LORAFMT_ROLE_A, TENSOR(LORAFMT_BF16, 2, 2, 4, half_data)},
                                              {LORAFMT_ROLE_B, TENSOR(LORAFMT_BF16, 2, 4, 2, half_data)}};
static const lorafmt_factor rows_factors[] = {{LORAFMT_ROLE_VALUE, TENSOR(LORAFMT_F16, 2, 2, 4, half_data)},
                                              {LORAFMT_ROLE_ROW_INDEX, TENSOR(LORAFMT_I64, 1, 2, 0, rows_data)}};
static const lorafmt_factor unknown_factors[] = {{7, TENSOR(LORAFMT_F64, 0, 0, 0, scalar_data)},
                                                 {40, TENSOR(LORAFMT_U8, 1, 5, 0, blob_data)}};

static const lorafmt_site first_sites[] = {
    {.target = "a.weight",
     .kind = LORAFMT_KIND_LINEAR,
     .orientation = LORAFMT_IN_OUT,
     .scaling = LORAFMT_SCALING_ALPHA_R,
     .rank = 2,
     .alpha = 4,
     .scale = 2,
     .n_factors = 2,
     .factors = linear_factors},
    {.target = "b.bias", .kind = LORAFMT_KIND_ADDITIVE, .scale = 1, .n_factors = 1, .factors = bias_factors},
    {.target = "b.weight",
     .kind = LORAFMT_KIND_LINEAR,
     .scaling = LORAFMT_SCALING_EXPLICIT,
     .rank = 2,
     .flags = LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_BASE_SHA256 | LORAFMT_SITE_DOUBLED,
     .scale = -0.5,
     .row_end = 4,
     .base_sha256 = {1, 2, 3},
     .n_factors = 2,
     .factors = half_factors},
    {.target = "b.weight",
     .kind = LORAFMT_KIND_LINEAR,
     .orientation = LORAFMT_BY_SHAPE,
     .scaling = LORAFMT_SCALING_EXPLICIT,
     .rank = 2,
     .flags = LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE,
     .scale = 0.25,
     .row_begin = 4,
     .row_end = 8,
     .col_begin = 1,
     .col_end = 5,
     .n_factors = 2,
     .factors = half_factors},
};
static const lorafmt_site second_sites[] = {
    {.target = "a.weight",
     .kind = LORAFMT_KIND_LINEAR,
     .scaling = LORAFMT_SCALING_ALPHA_SQRT_R,
     .rank = 2,
     .alpha = 2,
     .scale = 1.4142135623730949, // 2 / sqrt(2) in binary64
     .n_factors = 2,
     .factors = other_factors},
    {.target = "e.weight", .kind = LORAFMT_KIND_ROWS, .scale = 1, .n_factors = 2, .factors = rows_factors},
    {.target = "z", .kind = 77, .rank = 9, .alpha = 0, .scale = 1, .n_factors = 2, .factors = unknown_factors},
};
static const lorafmt_metadata first_metadata[] = {{"license", "MIT", LORAFMT_METADATA_SEMANTIC},
                                                  {"peft.adapter_config", "{\n \"r\": 2\n}", 0}};
static const lorafmt_metadata second_metadata[] = {{"license", "MIT", 0}, {"note", "", 0}};

static const lorafmt_adapter first_adapter = {
    .name = "first",
    .base_name = "some/base",
    .base_revision = "main",
    .has_base_structure = true,
    .base_structure = {9, 8, 7},
    .n_sites = COUNT(first_sites),
    .sites = first_sites,
    .n_metadata = COUNT(first_metadata),
    .metadata = first_metadata,
};
static const lorafmt_adapter second_adapter = {
    .name = "s\xc3\xa9"
            "cond",
    .base_name = "",
    .base_revision = "",
    .n_sites = COUNT(second_sites),
    .sites = second_sites,
    .n_metadata = COUNT(second_metadata),
    .metadata = second_metadata,
};
static const lorafmt_adapter *const sample_adapters[] = {&first_adapter, &second_adapter};

/* The tensors of the sample: half_data is three of them, by dtype and shape; a_data is one. */
#define SAMPLE_TENSORS 10

static inline file encode(const lorafmt_adapter *const *adapters, size_t n, uint32_t align_log2)
{
    lorafmt_error err = {0};
    uint64_t size = 0;
    file f = {0};

    if (lf_container_encode(adapters, n, align_log2, LORAFMT_CODEC_RAW, to_file, &f, &size, &err) != LORAFMT_OK)
        fail_msg("%s: %s", err.field, err.text);
    assert_int_equal(size, f.size);
    return f;
}

static inline file sample_file(void)
{
    return encode(sample_adapters, COUNT(sample_adapters), 6);
}

/* --- places in a file --- */

static inline uint8_t *slot_of(const file *f, unsigned slot)
{
    return f->bytes + LF_SLOT_OFFSET(slot);
}

static inline uint64_t index_offset(const file *f, unsigned slot)
{
    return lf_load_u64le(slot_of(f, slot) + LF_ROOT_INDEX_OFFSET);
}

static inline uint8_t *section_entry(uint8_t *index, unsigned k)
{
    return index + LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (size_t)k;
}

/* Where record i of section id (1 to 8) lies in an index. */
static inline uint64_t record_offset(const uint8_t *index, unsigned id, uint64_t i)
{
    uint64_t offset = LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (uint64_t)lf_load_u32le(index + LF_INDEX_N_SECTIONS);

    for (unsigned k = 0;; k++) {
        const uint8_t *p = index + LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * (size_t)k;
        const uint64_t size = lf_load_u32le(p + LF_SECTION_RECORD_SIZE);
        if (lf_load_u32le(p + LF_SECTION_ID) == id)
            return offset + i * size;
        offset = lf_round_up(offset + size * lf_load_u64le(p + LF_SECTION_N_RECORDS), 8);
    }
}

static inline uint8_t *tensor_record(const file *f, size_t i)
{
    uint8_t *index = f->bytes + index_offset(f, 0);
    return index + record_offset(index, 5, i);
}

static inline void store(uint8_t *p, unsigned size, uint64_t value)
{
    for (unsigned b = 0; b < size; b++)
        p[b] = (uint8_t)(value >> (8 * b));
}

/* --- sealing: make digests and checksums right again, so that a check behind them is reached --- */

static inline void seal_slot(file *f, unsigned slot)
{
    uint8_t *root = slot_of(f, slot);
    lf_store_u32le(root + LF_ROOT_CRC32, lf_crc32_of(root, LF_ROOT_CRC32));
}

static inline void reseal(file *f, unsigned slot)
{
    uint8_t *root = slot_of(f, slot);
    const uint64_t offset = lf_load_u64le(root + LF_ROOT_INDEX_OFFSET), size = lf_load_u64le(root + LF_ROOT_INDEX_SIZE);

    if (offset <= f->size && size <= f->size - offset)
        lf_sha256_of(f->bytes + offset, (size_t)size, root + LF_ROOT_INDEX_SHA256);
    seal_slot(f, slot);
}

/* --- files that the library does not write --- */

/* What to put into a file that has the content of another. */
typedef struct rebuild_options {
    const file *before; /* appended to that: a generation more, in the other slot; or NULL */
    bool no_history;    /* forget its root */
    uint32_t extra_id;  /* a ninth section, if not 0 */
    uint32_t extra_record_size;
    uint64_t extra_n_records;
    const uint8_t *extra;
} rebuild_options;

static inline void add_records(file *index, unsigned id, const uint8_t *record, size_t size)
{
    uint8_t *entry = section_entry(index->bytes, id - 1);

    lf_store_u64le(entry + LF_SECTION_N_RECORDS, lf_load_u64le(entry + LF_SECTION_N_RECORDS) + 1);
    file_append(index, record, size);
}

/* The generation before is two superseded segments, its index and its data, and its root goes into the history. */
static inline void add_past(file *index, const rebuild_options *o)
{
    const uint8_t *root = slot_of(o->before, 0);
    const uint64_t ends[] = {LF_SEGMENTS_OFFSET, LF_SEGMENTS_OFFSET + lf_load_u64le(root + LF_ROOT_INDEX_SIZE), o->before->size};

    for (unsigned i = 0; i < 2; i++) {
        uint8_t segment[LF_SEGMENT_SIZE] = {0};
        lf_store_u64le(segment + LF_SEGMENT_OFFSET, ends[i]);
        lf_store_u64le(segment + LF_SEGMENT_LENGTH, ends[i + 1] - ends[i]);
        lf_store_u64le(segment + LF_SEGMENT_GENERATION, 1);
        lf_store_u32le(segment + LF_SEGMENT_KIND, LF_SEGMENT_SUPERSEDED);
        add_records(index, 7, segment, sizeof segment);
    }
    if (!o->no_history)
        add_records(index, 8, root, LF_ROOT_SIZE);
    lf_store_u64le(index->bytes + LF_INDEX_GENERATION, 2);
}

static inline void add_section(file *index, const rebuild_options *o)
{
    const size_t table_end = LF_INDEX_SECTION_TABLE + 8 * LF_SECTION_SIZE;
    uint8_t entry[LF_SECTION_SIZE];
    file old = *index;

    lf_store_u32le(entry + LF_SECTION_ID, o->extra_id);
    lf_store_u32le(entry + LF_SECTION_RECORD_SIZE, o->extra_record_size);
    lf_store_u64le(entry + LF_SECTION_N_RECORDS, o->extra_n_records);
    *index = (file){0};
    file_append(index, old.bytes, table_end);
    file_append(index, entry, sizeof entry);
    file_append(index, old.bytes + table_end, old.size - table_end);
    file_append(index, o->extra, o->extra_record_size * o->extra_n_records);
    file_pad_to(index, (size_t)lf_round_up(index->size, 8));
    lf_store_u32le(index->bytes + LF_INDEX_N_SECTIONS, 9);
    free(old.bytes);
}

/* The same adapters as in a file that the encoder wrote, as the options say. */
static inline file rebuild(const file *fresh, const rebuild_options *o)
{
    const uint64_t old_index = index_offset(fresh, 0);
    const size_t old_size = (size_t)lf_load_u64le(slot_of(fresh, 0) + LF_ROOT_INDEX_SIZE);
    const size_t old_data = (size_t)lf_round_up(old_index + old_size, 64);
    const unsigned slot = o->before ? 1 : 0;
    file index = {0}, out = {0};
    uint64_t at, data;
    uint8_t *root;

    file_append(&index, fresh->bytes + old_index, old_size);
    if (o->before)
        add_past(&index, o);
    if (o->extra_id)
        add_section(&index, o);

    file_append(&out, o->before ? o->before->bytes : fresh->bytes, o->before ? o->before->size : LF_SEGMENTS_OFFSET);
    file_pad_to(&out, (size_t)lf_round_up(out.size, 64));
    at = out.size;
    data = lf_round_up(at + index.size, 64);
    for (uint64_t i = 0, n = lf_load_u64le(section_entry(index.bytes, 4) + LF_SECTION_N_RECORDS); i < n; i++) {
        uint8_t *p = index.bytes + record_offset(index.bytes, 5, i) + LF_TENSOR_OFFSET;
        lf_store_u64le(p, lf_load_u64le(p) - old_data + data);
    }
    file_append(&out, index.bytes, index.size);
    file_pad_to(&out, (size_t)data);
    file_append(&out, fresh->bytes + old_data, fresh->size - old_data);

    root = slot_of(&out, slot);
    memcpy(root, slot_of(fresh, 0), LF_ROOT_SIZE);
    lf_store_u64le(root + LF_ROOT_GENERATION, o->before ? 2 : 1);
    lf_store_u64le(root + LF_ROOT_INDEX_OFFSET, at);
    lf_store_u64le(root + LF_ROOT_INDEX_SIZE, index.size);
    lf_store_u64le(root + LF_ROOT_FILE_END, out.size);
    reseal(&out, slot);
    free(index.bytes);
    return out;
}

/* Two generations: the sample, then the second adapter alone. */
static inline file appended_file(void)
{
    const lorafmt_adapter *const adapters[] = {&second_adapter};
    file first = sample_file(), second = encode(adapters, 1, 6);
    file out = rebuild(&second, &(rebuild_options){.before = &first});

    free(first.bytes);
    free(second.bytes);
    return out;
}

/* --- reading all there is --- */

static inline lorafmt_status read_site(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_site site;
    uint32_t first, tensor;
    lorafmt_status st = lf_container_site(c, i, &site, &first, err);

    for (uint32_t k = 0; st == LORAFMT_OK && k < site.n_factors; k++) {
        lorafmt_factor factor;
        lf_tensor_record record;
        st = lf_container_factor(c, (size_t)first + k, &factor, &tensor, err);
        if (st == LORAFMT_OK)
            st = lf_container_tensor(c, tensor, &record, err);
    }
    return st;
}

static inline lorafmt_status read_adapter(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint32_t first_site, first_meta;
    lorafmt_adapter adapter;
    lorafmt_metadata metadata;
    lorafmt_status st = lf_container_adapter(c, i, &adapter, &first_site, &first_meta, err);

    for (size_t k = 0; st == LORAFMT_OK && k < adapter.n_sites; k++)
        st = read_site(c, first_site + k, err);
    for (size_t k = 0; st == LORAFMT_OK && k < adapter.n_metadata; k++)
        st = lf_container_metadata(c, first_meta + k, &metadata, err);
    return st;
}

/* A tensor in each way that there is: all say the same of its record. */
static inline void read_tensor(const lf_container *c, size_t i)
{
    lf_tensor_record record;
    lf_blocks blocks;
    const lorafmt_status st = lf_container_tensor(c, i, &record, NULL);
    uint8_t *dst = malloc(st ? 1 : (size_t)record.tensor.size + 1);

    assert_non_null(dst);
    if (st) {
        assert_int_equal(lf_container_blocks(c, i, &blocks, NULL), st);
        assert_int_equal(lf_container_decode_block(c, i, 0, dst, NULL), st);
        assert_int_equal(lf_container_decode_tensor(c, i, dst, NULL), st);
        assert_int_equal(lf_container_check_tensor(c, i, dst, NULL), st);
    } else if (lf_container_decode_tensor(c, i, dst, NULL) == LORAFMT_OK) {
        assert_int_equal(lf_container_blocks(c, i, &blocks, NULL), LORAFMT_OK);
    }
    free(dst);
}

/* All adapters at once, with their signatures: what failed record by record, as st says, fails here as well. */
static inline lorafmt_status read_at_once(const lf_container *c, lorafmt_status st, lorafmt_error *err)
{
    lf_arena arena = {0};
    lf_adapter_list list;
    const lorafmt_status got = lf_container_read_all(c, 0, &arena, &list, st ? NULL : err);

    if (st)
        assert_int_equal(got, st);
    lf_arena_free(&arena);
    return got;
}

/* The first failure of reading every record, and a look-up for good measure. */
static inline lorafmt_status read_all(const lf_container *c, lorafmt_error *err)
{
    lorafmt_status st = LORAFMT_OK;
    size_t site = 0;

    for (size_t i = 0; i < lf_container_n_tensors(c); i++)
        read_tensor(c, i);

    for (size_t i = 0; st == LORAFMT_OK && i < lf_container_n_adapters(c); i++) {
        st = read_adapter(c, i, err);
        lf_container_find_site(c, i, "b.weight", &site, NULL);
    }
    return read_at_once(c, st, err);
}

/* Open, read, check: the first failure. *recovered may be NULL. */
static inline lorafmt_status examine(const file *f, unsigned flags, bool *recovered, lorafmt_error *err)
{
    lorafmt_container_info info = {0};
    lf_container *c;
    lorafmt_status st = lf_container_open(f->bytes, f->size, flags, &c, err);

    if (st == LORAFMT_OK) {
        lf_container_info(c, &info);
        st = read_all(c, err);
    }
    if (st == LORAFMT_OK)
        st = lf_container_check(c, NULL, err);
    if (recovered)
        *recovered = info.recovered;
    lf_container_free(c);
    return st;
}

static inline lf_container *open_ok(const file *f)
{
    lorafmt_error err = {0};
    lf_container *c;

    if (lf_container_open(f->bytes, f->size, 0, &c, &err) != LORAFMT_OK)
        fail_msg("%s: %s", err.field, err.text);
    return c;
}

static inline void assert_ok(const file *f)
{
    lorafmt_error err = {0};

    if (examine(f, 0, NULL, &err) != LORAFMT_OK)
        fail_msg("%s at 0x%" PRIx64 ": %s", err.field, err.offset, err.text);
}

static inline void assert_fails(const file *f, lorafmt_status status, const char *field, uint64_t offset)
{
    lorafmt_error err = {0};
    const lorafmt_status st = examine(f, 0, NULL, &err);

    if (st != status || strcmp(err.field, field) != 0 || err.offset != offset)
        fail_msg("got %s %s at 0x%" PRIx64 " (%s), wanted %s %s at 0x%" PRIx64, lorafmt_status_name(st), err.field, err.offset,
                 st ? err.text : "", lorafmt_status_name(status), field, offset);
}

/* --- comparing --- */

static inline void assert_same_tensor(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->n_dims, b->n_dims);
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static inline void assert_same_site(const lf_container *c, size_t i, const lorafmt_site *want)
{
    uint32_t first, tensor;
    lorafmt_site got;

    assert_int_equal(lf_container_site(c, i, &got, &first, NULL), LORAFMT_OK);
    assert_string_equal(got.target, want->target);
    assert_int_equal(lf_site_compare(&got, want), 0);
    assert_int_equal(got.orientation, want->orientation);
    assert_int_equal(got.scaling, want->scaling);
    assert_int_equal(got.rank, want->rank);
    assert_int_equal(got.flags, want->flags);
    assert_true(got.alpha == want->alpha && got.scale == want->scale);
    assert_true(got.row_end == want->row_end && got.col_end == want->col_end);
    assert_memory_equal(got.base_sha256, want->base_sha256, 32);
    assert_int_equal(got.n_factors, want->n_factors);
    assert_null(got.factors);
    for (uint32_t k = 0; k < want->n_factors; k++) {
        lorafmt_factor factor;
        assert_int_equal(lf_container_factor(c, first + k, &factor, &tensor, NULL), LORAFMT_OK);
        assert_int_equal(factor.role, want->factors[k].role);
        assert_same_tensor(&factor.tensor, &want->factors[k].tensor);
    }
}

static inline void assert_same_adapter(const lf_container *c, size_t i, const lorafmt_adapter *want)
{
    uint32_t first_site, first_meta;
    lorafmt_metadata m;
    lorafmt_adapter got;
    uint8_t id[32];

    assert_int_equal(lf_container_adapter(c, i, &got, &first_site, &first_meta, NULL), LORAFMT_OK);
    assert_string_equal(got.name, want->name);
    assert_string_equal(got.base_name, want->base_name);
    assert_string_equal(got.base_revision, want->base_revision);
    assert_int_equal(got.has_base_structure, want->has_base_structure);
    assert_memory_equal(got.base_structure, want->base_structure, 32);
    lf_adapter_id(want, NULL, id);
    assert_true(got.has_id);
    assert_memory_equal(got.id, id, 32);
    assert_int_equal(got.n_sites, want->n_sites);
    assert_int_equal(got.n_metadata, want->n_metadata);
    for (size_t k = 0; k < want->n_sites; k++)
        assert_same_site(c, first_site + k, &want->sites[k]);
    for (size_t k = 0; k < want->n_metadata; k++) {
        assert_int_equal(lf_container_metadata(c, first_meta + k, &m, NULL), LORAFMT_OK);
        assert_string_equal(m.key, want->metadata[k].key);
        assert_string_equal(m.value, want->metadata[k].value);
        assert_int_equal(m.flags, want->metadata[k].flags);
    }
}

#endif
