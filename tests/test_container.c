/* SPDX-License-Identifier: MIT */
/* argv[1] is spec/lora-container.md, whose smallest file the encoder must write and the decoder read. */
#include "tests/container_files.h"

#include <stdio.h>

static const char *spec_path;

/* --- round trips --- */

static void test_round_trip(void **state)
{
    static const uint32_t aligns[] = {6, 12, 16};
    (void)state;

    for (size_t k = 0; k < COUNT(aligns); k++) {
        file f = encode(sample_adapters, COUNT(sample_adapters), aligns[k]);
        lf_container *c = open_ok(&f);
        lorafmt_container_info info;
        lorafmt_verify_result result;
        lf_tensor_record t;

        lf_container_info(c, &info);
        assert_int_equal(info.align, 1u << aligns[k]);
        assert_int_equal(info.generation, 1);
        assert_int_equal(info.file_end, f.size);
        assert_false(info.recovered);
        assert_int_equal(lf_container_n_adapters(c), 2);
        assert_int_equal(lf_container_n_tensors(c), SAMPLE_TENSORS);
        assert_same_adapter(c, 0, &first_adapter);
        assert_same_adapter(c, 1, &second_adapter);
        for (size_t i = 0; i < SAMPLE_TENSORS; i++) {
            assert_int_equal(lf_container_tensor(c, i, &t, NULL), LORAFMT_OK);
            assert_int_equal(t.offset % info.align, 0);
        }
        assert_int_equal(lf_container_check(c, &result, NULL), LORAFMT_OK);
        assert_int_equal(result.n_adapters, 2);
        assert_int_equal(result.n_sites, COUNT(first_sites) + COUNT(second_sites));
        assert_int_equal(result.n_tensors, SAMPLE_TENSORS);
        assert_int_equal(result.n_bytes, 32 + 24 + 12 + 16 + 16 + 24 + 16 + 16 + 8 + 5);
        assert_int_equal(result.n_nonfinite, 3); // NaN and -inf in the bias, inf in the rows
        lf_container_free(c);
        free(f.bytes);
    }
}

static void test_same_input_same_file(void **state)
{
    file a = sample_file(), b = sample_file();
    (void)state;

    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.bytes, b.bytes, a.size);
    free(a.bytes);
    free(b.bytes);
}

/* The id is of what an adapter does: not of its name, its neighbours, or metadata that is not semantic. */
static void test_adapter_id(void **state)
{
    static const lorafmt_metadata semantic[] = {{"license", "MIT", LORAFMT_METADATA_SEMANTIC}};
    lorafmt_adapter other = first_adapter;
    uint8_t a[32], b[32];
    (void)state;

    lf_adapter_id(&first_adapter, NULL, a);
    other.name = "other";
    other.metadata = semantic;
    other.n_metadata = 1;
    lf_adapter_id(&other, NULL, b);
    assert_memory_equal(a, b, 32);
    other.n_metadata = 0;
    lf_adapter_id(&other, NULL, b);
    assert_memory_not_equal(a, b, 32);
    other = first_adapter;
    other.base_revision = "";
    lf_adapter_id(&other, NULL, b);
    assert_memory_not_equal(a, b, 32);
}

static void test_find_site(void **state)
{
    static const struct {
        size_t adapter;
        const char *target;
        int site; // or -1
    } cases[] = {{0, "a.weight", 0}, {0, "b.bias", 1},     {0, "b.weight", 2}, {0, "b", -1},
                 {0, "", -1},        {0, "b.weight2", -1}, {0, "z", -1},       {1, "a.weight", 4},
                 {1, "e.weight", 5}, {1, "b.weight", -1},  {1, "z", 6},        {1, "zz", -1}};
    file f = sample_file();
    lf_container *c = open_ok(&f);
    char longest[1030];
    (void)state;

    for (size_t k = 0; k < 9 * COUNT(cases); k++) { // wherever it looks first: at each site, and past the last
        const size_t i = k / 9, from = k % 9 == 8 ? SIZE_MAX : k % 9;
        lorafmt_error err = {0};
        size_t site = from;
        const lorafmt_status st = lf_container_find_site(c, cases[i].adapter, cases[i].target, &site, &err);
        assert_int_equal(st, cases[i].site < 0 ? LORAFMT_NOT_FOUND : LORAFMT_OK);
        assert_int_equal(site, cases[i].site < 0 ? from : (size_t)cases[i].site);
        assert_int_equal(err.status, LORAFMT_OK);
    }
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(lf_container_find_site(c, 0, longest, &(size_t){0}, NULL), LORAFMT_NOT_FOUND);
    assert_int_equal(lf_container_find_site(c, 2, "a", &(size_t){0}, NULL), LORAFMT_MISUSE);
    lf_container_free(c);
    free(f.bytes);
}

/* --- the encoder refuses --- */

static lorafmt_status fail_at_byte(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    uint64_t *left = ctx;
    (void)data;
    (void)err;

    if (size > *left)
        return LORAFMT_IO;
    *left -= size;
    return LORAFMT_OK;
}

static void assert_encode_fails(const lorafmt_adapter *const *adapters, size_t n, lorafmt_status status, const char *field)
{
    lorafmt_error err = {0};
    uint64_t size = 1, left = 0; // not a byte may be written

    assert_int_equal(lf_container_encode(adapters, n, 6, LORAFMT_CODEC_RAW, fail_at_byte, &left, &size, &err), status);
    assert_string_equal(err.field, field);
    assert_int_equal(size, 0);
}

static void test_encode_bad_adapters(void **state)
{
    const lorafmt_adapter *const twice[] = {&first_adapter, &first_adapter};
    const lorafmt_site unsorted_sites[] = {first_sites[1], first_sites[0]};
    const lorafmt_metadata unsorted[] = {first_metadata[1], first_metadata[0]};
    lorafmt_site site = first_sites[0];
    lorafmt_adapter bad = first_adapter;
    const lorafmt_adapter *const bads[] = {&bad};
    char target[1026] = "";
    (void)state;

    assert_encode_fails(twice, 0, LORAFMT_MISUSE, "");
    assert_encode_fails(twice, 2, LORAFMT_CORRUPT, "adapter[1].name");
    bad.metadata = unsorted;
    assert_encode_fails(bads, 1, LORAFMT_CORRUPT, "metadata[1].key");
    bad.n_metadata = 70000; // more than a file can have: the array is not looked at
    assert_encode_fails(bads, 1, LORAFMT_LIMIT, "metadata");
    bad = first_adapter;
    bad.sites = unsorted_sites;
    bad.n_sites = 2;
    assert_encode_fails(bads, 1, LORAFMT_CORRUPT, "site[1].target");
    bad.sites = &site;
    bad.n_sites = 1;
    site.target = memset(target, 't', sizeof target - 1);
    assert_encode_fails(bads, 1, LORAFMT_CORRUPT, "site[0].target");
    target[1024] = '\0';
    assert_encode_fails(bads, 1, LORAFMT_IO, "");
    site.n_factors = 17;
    site.factors = calloc(17, sizeof *site.factors);
    assert_encode_fails(bads, 1, LORAFMT_CORRUPT, "site[0].n_factors");
    free((void *)(uintptr_t)site.factors);
}

static void test_encode_failures(void **state)
{
    file whole = sample_file();
    uint64_t size = 1;
    (void)state;

    assert_int_equal(lf_container_encode(sample_adapters, 1, 7, LORAFMT_CODEC_RAW, to_file, NULL, &size, NULL), LORAFMT_MISUSE);
    for (uint64_t n = 0; n < whole.size; n += 61) {
        uint64_t left = n;
        size = 1;
        assert_int_equal(lf_container_encode(sample_adapters, 2, 6, LORAFMT_CODEC_RAW, fail_at_byte, &left, &size, NULL),
                         LORAFMT_IO);
        assert_int_equal(size, 0);
    }
    free(whole.bytes);
}

/* --- one bad value after the other --- */

typedef enum place { HEADER, SLOT, INDEX, ENTRY, RECORD } place;

/*
 * Some bytes of a structure: of a header page or root slot 0, of the index header, of section table entry i, of record i of a
 * section.
 */
typedef struct spot {
    place place;
    unsigned section, i, at;
} spot;

typedef struct bad_value {
    spot put;
    unsigned size;
    uint64_t value;
    lorafmt_status status;
    spot reported;
    const char *field;
} bad_value;

#define IN(place, section, i, at)                                                                                                \
    {                                                                                                                            \
        place, section, i, at                                                                                                    \
    }
#define BAD_AT(place, i, at, size, value, status, field)                                                                         \
    {                                                                                                                            \
        IN(place, 0, i, at), size, value, status, IN(place, 0, i, at), field                                                     \
    }
#define BAD_HEADER(at, size, value, status, field) BAD_AT(HEADER, 0, at, size, value, status, field)
#define BAD_ROOT(at, size, value, field) BAD_AT(SLOT, 0, at, size, value, LORAFMT_CORRUPT, field)
#define BAD_INDEX(at, size, value, field) BAD_AT(INDEX, 0, at, size, value, LORAFMT_CORRUPT, field)
#define BAD_ENTRY(i, at, size, value, status, field) BAD_AT(ENTRY, i, at, size, value, status, field)
#define BAD_RECORD(section, i, at, size, value, status, field)                                                                   \
    {                                                                                                                            \
        IN(RECORD, section, i, at), size, value, status, IN(RECORD, section, i, at), field                                       \
    }
#define BAD(section, i, at, size, value, field) BAD_RECORD(section, i, at, size, value, LORAFMT_CORRUPT, field)
#define BAD_ELSEWHERE(section, i, at, size, value, other_section, other_i, other_at, field)                                      \
    {                                                                                                                            \
        IN(RECORD, section, i, at), size, value, LORAFMT_CORRUPT, IN(RECORD, other_section, other_i, other_at), field            \
    }

#define F64_NAN UINT64_C(0x7ff8000000000000)
#define F64_INF UINT64_C(0xfff0000000000000)
#define F64_MINUS_0 UINT64_C(0x8000000000000000)

/* The sample's pool starts with the empty string and "MIT", the value of metadata[0]; 2 is the offset of "IT". */
static const bad_value bad_values[] = {
    BAD_HEADER(0, 1, 0x88, LORAFMT_NOT_LORAFMT, "header.magic"),
    BAD_HEADER(12, 2, 0, LORAFMT_UNSUPPORTED, "header.version_major"),
    BAD_HEADER(12, 2, 2, LORAFMT_UNSUPPORTED, "header.version_major"),
    BAD_HEADER(16, 1, 1, LORAFMT_CORRUPT, "header.reserved"),
    BAD_HEADER(32, 1, 1, LORAFMT_CORRUPT, "header.reserved"),

    BAD_ROOT(0, 1, 'l', "root[0].magic"),
    BAD_ROOT(8, 8, 0, "root[0].generation"),
    BAD_ROOT(8, 8, 2, "root[0].generation"),
    BAD_ROOT(8, 8, UINT64_C(1) << 63 | 1, "root[0].generation"),
    BAD_AT(SLOT, 0, 16, 8, 1, LORAFMT_UNSUPPORTED, "root[0].incompatible"),
    BAD_ROOT(32, 8, 0, "root[0].index_offset"),
    BAD_ROOT(32, 8, 12288 + 8, "root[0].index_offset"),
    {IN(SLOT, 0, 0, 32), 8, UINT64_MAX - 63, LORAFMT_CORRUPT, IN(SLOT, 0, 0, 80), "root[0].file_end"},
    BAD_ROOT(40, 8, 152, "root[0].index_size"),
    BAD_ROOT(40, 8, 161, "root[0].index_size"),
    BAD_ROOT(40, 8, (UINT64_C(1) << 28) + 8, "root[0].index_size"),
    {IN(SLOT, 0, 0, 40), 8, 1 << 28, LORAFMT_CORRUPT, IN(SLOT, 0, 0, 80), "root[0].file_end"},
    BAD_ROOT(80, 8, 0, "root[0].file_end"),
    BAD_ROOT(80, 8, UINT64_MAX, "root[0].file_end"),
    BAD_ROOT(88, 1, 1, "root[0].reserved"),
    BAD_ROOT(128, 1, 1, "root[0].reserved"),

    BAD_INDEX(0, 1, 'l', "index.magic"),
    BAD_INDEX(8, 8, 3, "index.generation"),
    BAD_INDEX(16, 4, 7, "index.align_log2"),
    BAD_INDEX(16, 4, 0xffffffff, "index.align_log2"),
    BAD_INDEX(20, 4, 7, "index.n_sections"),
    BAD_INDEX(20, 4, 65, "index.n_sections"),
    BAD_ENTRY(2, 0, 4, 4, LORAFMT_CORRUPT, "section[2].id"),
    BAD_ENTRY(7, 0, 4, 9, LORAFMT_CORRUPT, "section[7].id"),
    BAD_ENTRY(0, 4, 4, 0, LORAFMT_CORRUPT, "section[0].record_size"),
    BAD_ENTRY(1, 4, 4, 96, LORAFMT_UNSUPPORTED, "section[1].record_size"),
    BAD_ENTRY(6, 4, 4, 40, LORAFMT_UNSUPPORTED, "section[6].record_size"),
    BAD_ENTRY(0, 8, 8, 0, LORAFMT_CORRUPT, "section[0].n_records"),
    BAD_ENTRY(1, 8, 8, 0, LORAFMT_CORRUPT, "section[1].n_records"),
    BAD_ENTRY(1, 8, 8, 1000, LORAFMT_CORRUPT, "section[1].n_records"),
    BAD_ENTRY(4, 8, 8, UINT64_MAX, LORAFMT_CORRUPT, "section[4].n_records"),
    BAD_ENTRY(4, 8, 8, UINT64_C(1) << 57, LORAFMT_CORRUPT, "section[4].n_records"),

    BAD_ELSEWHERE(1, 0, 0, 1, 'a', 6, 0, 4, "metadata[0].value"),
    BAD_ELSEWHERE(1, 1, 0, 1, 0, 6, 0, 4, "metadata[0].value"),
    BAD_ELSEWHERE(1, 1, 0, 1, 0xff, 6, 0, 4, "metadata[0].value"),
    BAD_ELSEWHERE(1, 1, 0, 1, 'z', 1, 5, 0, "names"), // no longer in order

    BAD(2, 0, 0, 4, 0, "adapter[0].name"),
    BAD(2, 0, 0, 4, 2, "adapter[0].name"),
    BAD(2, 1, 0, 4, 0xffffffff, "adapter[1].name"),
    BAD(2, 0, 4, 4, 2, "adapter[0].base_name"),
    BAD(2, 0, 8, 4, 1 << 20, "adapter[0].base_revision"),
    BAD(2, 0, 12, 4, 3, "adapter[0].flags"),
    BAD_ELSEWHERE(2, 0, 12, 4, 0, 2, 0, 64, "adapter[0].base_structure"),
    BAD(2, 0, 16, 4, 1, "adapter[0].first_site"),
    BAD(2, 0, 16, 4, 0xffffffff, "adapter[0].first_site"),
    BAD(2, 0, 20, 4, 0, "adapter[0].n_sites"),
    BAD(2, 0, 20, 4, 0xffffffff, "adapter[0].n_sites"),
    BAD(2, 1, 20, 4, 4, "adapter[1].n_sites"),
    BAD(2, 1, 20, 4, 2, "adapter[1].n_sites"),
    BAD_ELSEWHERE(2, 0, 20, 4, 3, 2, 1, 16, "adapter[1].first_site"),
    BAD_ELSEWHERE(2, 0, 20, 4, 5, 2, 1, 16, "adapter[1].first_site"),
    BAD(2, 1, 24, 4, 1, "adapter[1].first_metadata"),
    BAD(2, 0, 28, 4, 5, "adapter[0].n_metadata"),
    BAD(2, 1, 28, 4, 1, "adapter[1].n_metadata"),
    BAD(2, 0, 32, 1, 0, "adapter[0].adapter_id"),
    BAD(2, 1, 64, 1, 1, "adapter[1].base_structure"),
    BAD(2, 1, 96, 1, 1, "adapter[1].reserved"),

    BAD(3, 0, 0, 4, 0, "site[0].target"),
    BAD(3, 0, 0, 4, 2, "site[0].target"),
    BAD(3, 0, 0, 4, 1 << 30, "site[0].target"),
    BAD(3, 0, 4, 2, 0, "site[0].kind"),
    BAD(3, 0, 6, 1, 3, "site[0].orientation"),
    BAD(3, 1, 6, 1, 1, "site[1].orientation"),
    BAD(3, 0, 7, 1, 4, "site[0].scaling"),
    BAD(3, 0, 7, 1, 0, "site[0].scaling"),
    BAD(3, 1, 7, 1, 1, "site[1].scaling"),
    BAD(3, 5, 7, 1, 3, "site[5].scaling"),
    BAD(3, 0, 8, 4, 0, "site[0].rank"),
    BAD(3, 0, 8, 4, (1 << 20) + 1, "site[0].rank"),
    BAD(3, 6, 8, 4, (1 << 20) + 1, "site[6].rank"),
    BAD(3, 1, 8, 4, 1, "site[1].rank"),
    BAD(3, 0, 12, 4, 1 << 4, "site[0].flags"),
    BAD(3, 0, 16, 8, F64_NAN, "site[0].alpha"),
    BAD(3, 0, 16, 8, F64_INF, "site[0].alpha"),
    BAD(3, 1, 16, 8, F64_MINUS_0, "site[1].alpha"),
    BAD(3, 2, 16, 8, 1, "site[2].alpha"),
    BAD(3, 0, 24, 8, F64_NAN, "site[0].scale"),
    BAD(3, 2, 24, 8, F64_INF, "site[2].scale"),
    BAD(3, 1, 24, 8, 0, "site[1].scale"),
    BAD(3, 0, 32, 8, 1, "site[0].row_begin"),
    BAD_ELSEWHERE(3, 3, 32, 8, 8, 3, 3, 40, "site[3].row_end"),
    BAD(3, 3, 40, 8, 4, "site[3].row_end"),
    BAD(3, 0, 40, 8, 1, "site[0].row_end"),
    BAD(3, 2, 48, 8, 1, "site[2].col_begin"),
    BAD(3, 2, 56, 8, 1, "site[2].col_end"),
    BAD(3, 3, 56, 8, 1, "site[3].col_end"),
    BAD(3, 1, 64, 4, 3, "site[1].first_factor"),
    BAD(3, 1, 64, 4, 0xffffffff, "site[1].first_factor"),
    BAD(3, 0, 68, 4, 0, "site[0].n_factors"),
    BAD(3, 0, 68, 4, 17, "site[0].n_factors"),
    BAD(3, 6, 68, 4, 1, "site[6].n_factors"),
    BAD(3, 6, 68, 4, 3, "site[6].n_factors"),
    BAD(3, 0, 72, 1, 1, "site[0].base_sha256"),
    BAD_ELSEWHERE(3, 1, 0, 4, 5, 3, 1, 4, "site[1].kind"), // the target of site 0, but a lower kind

    BAD(4, 0, 0, 2, 0, "factor[0].role"),
    BAD(4, 1, 0, 2, 1, "factor[1].role"),
    BAD(4, 0, 2, 1, 1, "factor[0].reserved"),
    BAD(4, 0, 4, 4, SAMPLE_TENSORS, "factor[0].tensor"),
    BAD(4, 0, 4, 4, 0xffffffff, "factor[0].tensor"),
    BAD(4, 0, 4, 4, 1, "factor[0].tensor"), // not the first use of a new one

    BAD(5, 0, 0, 8, 12288 - 64, "tensor[0].offset"),
    BAD(5, 0, 0, 8, 12288 + 8, "tensor[0].offset"),
    BAD_ELSEWHERE(5, 0, 0, 8, UINT64_MAX - 63, 5, 0, 8, "tensor[0].stored_size"),
    BAD(5, 0, 8, 8, 0, "tensor[0].stored_size"),
    BAD(5, 0, 8, 8, UINT64_MAX, "tensor[0].stored_size"),
    BAD(5, 0, 8, 8, 31, "tensor[0].stored_size"),
    BAD(5, 0, 16, 8, 31, "tensor[0].decoded_size"),
    BAD_RECORD(5, 0, 24, 1, 23, LORAFMT_UNSUPPORTED, "tensor[0].dtype"),
    BAD_ELSEWHERE(5, 0, 24, 1, LORAFMT_F64, 5, 0, 16, "tensor[0].decoded_size"),
    BAD_RECORD(5, 0, 25, 1, 2, LORAFMT_UNSUPPORTED, "tensor[0].codec"),
    BAD(5, 9, 25, 1, LORAFMT_CODEC_SPLIT, "tensor[9].codec"), // U8
    BAD(5, 0, 26, 1, 9, "tensor[0].n_dims"),
    BAD_ELSEWHERE(5, 0, 26, 1, 1, 5, 0, 40, "tensor[0].shape"),
    BAD(5, 0, 27, 1, 1, "tensor[0].reserved"),
    BAD(5, 0, 32, 8, 0, "tensor[0].shape"),
    BAD(5, 0, 32, 8, (UINT64_C(1) << 48) + 1, "tensor[0].shape"),
    BAD_ELSEWHERE(5, 0, 32, 8, UINT64_C(1) << 48, 5, 0, 16, "tensor[0].decoded_size"), // of which the limit is passed
    BAD(5, 0, 48, 8, 1, "tensor[0].shape"),
    BAD_ELSEWHERE(5, 0, 96, 1, 0, 2, 0, 32, "adapter[0].adapter_id"),

    BAD(6, 0, 0, 4, 0, "metadata[0].key"),
    BAD(6, 0, 0, 4, 2, "metadata[0].key"),
    BAD(6, 0, 4, 4, 2, "metadata[0].value"),
    BAD(6, 0, 8, 4, 2, "metadata[0].flags"),
    BAD(6, 0, 12, 1, 1, "metadata[0].reserved"),
};

static uint64_t offset_of(const file *f, const spot *s)
{
    const uint64_t index = index_offset(f, 0);

    switch (s->place) {
    case HEADER:
        return s->at;
    case SLOT:
        return LF_SLOT_OFFSET(0) + s->at;
    case INDEX:
        return index + s->at;
    case ENTRY:
        return index + LF_INDEX_SECTION_TABLE + LF_SECTION_SIZE * s->i + s->at;
    case RECORD:
        return index + record_offset(f->bytes + index, s->section, s->i) + s->at;
    }
    return 0;
}

static void test_bad_values(void **state)
{
    file good = sample_file();
    (void)state;

    for (size_t i = 0; i < COUNT(bad_values); i++) {
        const bad_value *v = &bad_values[i];
        file f = file_copy(&good);
        store(f.bytes + offset_of(&good, &v->put), v->size, v->value);
        lf_store_u32le(f.bytes + LF_HEADER_CRC32, lf_crc32_of(f.bytes, LF_HEADER_CRC32));
        if (v->put.place == SLOT)
            seal_slot(&f, 0);
        else
            reseal(&f, 0);
        assert_fails(&f, v->status, v->field, offset_of(&good, &v->reported));
        free(f.bytes);
    }
    free(good.bytes);
}

/* --- records that are not there --- */

typedef lorafmt_status read_record(const lf_container *c, size_t i, lorafmt_error *err);

static lorafmt_status get_adapter(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint32_t first_site, metadata;
    lorafmt_adapter adapter;

    return lf_container_adapter(c, i, &adapter, &first_site, &metadata, err);
}

static lorafmt_status get_sites(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint32_t first, n;

    return lf_container_adapter_sites(c, i, &first, &n, err);
}

static lorafmt_status get_records(const lf_container *c, size_t i, lorafmt_error *err)
{
    lf_adapter_records records;
    lf_arena arena = {0};
    const lorafmt_status st = lf_container_read(c, i, &arena, &records, err);

    lf_arena_free(&arena);
    return st;
}

static lorafmt_status get_site(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_site site;
    uint32_t first;

    return lf_container_site(c, i, &site, &first, err);
}

static lorafmt_status get_factor(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_factor factor;
    uint32_t tensor;

    return lf_container_factor(c, i, &factor, &tensor, err);
}

static lorafmt_status get_tensor(const lf_container *c, size_t i, lorafmt_error *err)
{
    lf_tensor_record record;

    return lf_container_tensor(c, i, &record, err);
}

static lorafmt_status get_blocks(const lf_container *c, size_t i, lorafmt_error *err)
{
    lf_blocks blocks;

    return lf_container_blocks(c, i, &blocks, err);
}

static lorafmt_status get_decoded(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint8_t dst[64];

    return lf_container_decode_tensor(c, i, dst, err);
}

static lorafmt_status get_block(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint8_t dst[64];

    return lf_container_decode_block(c, i, 0, dst, err);
}

static lorafmt_status get_metadata(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_metadata metadata;

    return lf_container_metadata(c, i, &metadata, err);
}

static lorafmt_status get_earlier(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint64_t generation, file_end;

    return lf_container_earlier(c, i, &generation, &file_end, err);
}

/* The last one is there, the next is not. */
static void test_missing_records(void **state)
{
    static const struct {
        read_record *read;
        size_t n;
        const char *field, *text;
    } cases[] = {
        {get_adapter, 2, "adapters", "record 2, there are 2"},  {get_sites, 2, "adapters", "record 2, there are 2"},
        {get_records, 2, "adapters", "record 2, there are 2"},  {get_site, 7, "sites", "record 7, there are 7"},
        {get_factor, 13, "factors", "record 13, there are 13"}, {get_tensor, 10, "tensors", "record 10, there are 10"},
        {get_blocks, 10, "tensors", "record 10, there are 10"}, {get_decoded, 10, "tensors", "record 10, there are 10"},
        {get_block, 10, "tensors", "record 10, there are 10"},  {get_metadata, 4, "metadata", "record 4, there are 4"},
        {get_earlier, 0, "history", "record 0, there are 0"},
    };
    file f = sample_file();
    lf_container *c = open_ok(&f);
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        lorafmt_error err = {0};
        if (cases[i].n)
            assert_int_equal(cases[i].read(c, cases[i].n - 1, &err), LORAFMT_OK);
        assert_int_equal(cases[i].read(c, cases[i].n, &err), LORAFMT_MISUSE);
        assert_string_equal(err.field, cases[i].field);
        assert_string_equal(err.text, cases[i].text);
    }
    lf_container_free(c);
    free(f.bytes);
}

/* --- damage without a seal: every bit and every length --- */

static void test_every_bit(void **state)
{
    file good = sample_file(), f = file_copy(&good);
    (void)state;

    assert_ok(&good);
    for (size_t bit = 0; bit < 8 * good.size; bit++) {
        bool recovered = false;
        f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (examine(&f, 0, &recovered, NULL) == LORAFMT_OK)
            fail_msg("bit %zu of byte %zu can be flipped", bit % 8, bit / 8);
        // Damage to the empty slot must not keep anybody from reading.
        assert_int_equal(recovered, bit / 8 >= LF_SLOT_OFFSET(1) && bit / 8 < LF_SEGMENTS_OFFSET);
        examine(&f, LF_CONTAINER_DEFER_DIGEST, NULL, NULL);
        f.bytes[bit / 8] = good.bytes[bit / 8];
    }
    free(f.bytes);
    free(good.bytes);
}

static void test_every_length(void **state)
{
    file good = sample_file();
    (void)state;

    for (size_t size = 0; size < good.size; size++) {
        file f = {malloc(size ? size : 1), size}; // exactly so large, for the address sanitizer
        lorafmt_error err = {0};
        lf_container *c;
        memcpy(f.bytes, good.bytes, size);
        assert_int_equal(lf_container_open(f.bytes, size, 0, &c, &err), size < 12 ? LORAFMT_NOT_LORAFMT : LORAFMT_CORRUPT);
        assert_null(c);
        assert_string_equal(err.field, size < 12 ? "header.magic" : size < LF_SEGMENTS_OFFSET ? "header" : "root[0].file_end");
        free(f.bytes);
    }
    free(good.bytes);
}

static void test_not_lora(void **state)
{
    static const char *const texts[] = {"", "\x89lora", "version https://git-lfs.github.com/spec/v1\noid sha256:0",
                                        "<!doctype html>", "\x89lorafmt\n\x1a\n and so on"};
    (void)state;

    for (size_t i = 0; i < COUNT(texts); i++) {
        const file f = {(uint8_t *)strdup(texts[i]), strlen(texts[i])};
        assert_fails(&f, LORAFMT_NOT_LORAFMT, "header.magic", 0);
        free(f.bytes);
    }
}

/* --- the smallest file of spec 10 --- */

/* One line of the dump: "OFFSET  BYTES ; note", or "*": the line before is repeated up to the next offset. */
static void take_line(file *f, const char *line, uint8_t *last, size_t *n_last, bool *repeat)
{
    size_t offset;
    char *end;

    if (line[0] == '*') {
        *repeat = true;
        return;
    }
    offset = strtoul(line, &end, 16);
    while (*repeat && f->size < offset)
        file_append(f, last, *n_last);
    *repeat = false;
    assert_int_equal(f->size, offset);
    for (*n_last = 0; strspn(end, " ") && strspn(end + strspn(end, " "), "0123456789abcdef") == 2; (*n_last)++)
        last[*n_last] = (uint8_t)strtoul(end, &end, 16);
    file_append(f, last, *n_last);
}

static file spec_file(void)
{
    FILE *spec = fopen(spec_path, "r");
    uint8_t last[16];
    size_t n_last = 0;
    bool inside = false, repeat = false;
    char line[4096];
    file f = {0};

    assert_non_null(spec);
    while (fgets(line, sizeof line, spec)) {
        if (strncmp(line, "```", 3) == 0)
            inside = strncmp(line, "```lora-hex", 11) == 0;
        else if (inside)
            take_line(&f, line, last, &n_last, &repeat);
    }
    fclose(spec);
    assert_true(f.size > LF_SEGMENTS_OFFSET);
    return f;
}

static void test_smallest_file(void **state)
{
    static const uint8_t one[4] = {0, 0, 0x80, 0x3f}, two[4] = {0, 0, 0, 0x40};
    const lorafmt_factor factors[] = {{LORAFMT_ROLE_A, TENSOR(LORAFMT_F32, 2, 1, 1, one)},
                                      {LORAFMT_ROLE_B, TENSOR(LORAFMT_F32, 2, 1, 1, two)}};
    const lorafmt_site site = {.target = "w",
                               .kind = LORAFMT_KIND_LINEAR,
                               .scaling = LORAFMT_SCALING_ALPHA_R,
                               .rank = 1,
                               .alpha = 1,
                               .scale = 1,
                               .n_factors = 2,
                               .factors = factors};
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_adapter *const adapters[] = {&adapter};
    file written = encode(adapters, 1, 6), read;
    lf_container *c;
    (void)state;

    if (!spec_path)
        skip();
    read = spec_file();
    assert_int_equal(read.size, written.size);
    assert_memory_equal(read.bytes, written.bytes, written.size);
    assert_ok(&read);
    c = open_ok(&read);
    assert_same_adapter(c, 0, &adapter);
    lf_container_free(c);
    free(read.bytes);
    free(written.bytes);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_same_input_same_file),
        cmocka_unit_test(test_adapter_id),
        cmocka_unit_test(test_find_site),
        cmocka_unit_test(test_encode_bad_adapters),
        cmocka_unit_test(test_encode_failures),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_missing_records),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_not_lora),
        cmocka_unit_test(test_smallest_file),
    };

    spec_path = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
