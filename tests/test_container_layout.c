/* SPDX-License-Identifier: MIT */
/* What a .lora file holds beside its records: generations, the history, other sections, and what lies where. */
#include "tests/container_files.h"

/* --- two generations --- */

static void test_appended(void **state)
{
    file f = appended_file();
    lf_container *c = open_ok(&f);
    lorafmt_container_info info;
    (void)state;

    lf_container_info(c, &info);
    assert_int_equal(info.generation, 2);
    assert_int_equal(info.file_end, f.size);
    assert_false(info.recovered);
    assert_int_equal(lf_container_n_adapters(c), 1);
    assert_same_adapter(c, 0, &second_adapter);
    lf_container_free(c);
    assert_ok(&f);

    file_append(&f, "left by an interrupted append", 29);
    assert_ok(&f);
    free(f.bytes);
}

/* The newest generation is damaged: the one before is there, and the file says so. */
static void assert_falls_back(const file *f, const char *field, uint64_t offset)
{
    lf_container *c = open_ok(f);
    lorafmt_container_info info;

    lf_container_info(c, &info);
    assert_int_equal(info.generation, 1);
    assert_true(info.recovered);
    assert_same_adapter(c, 0, &first_adapter);
    assert_same_adapter(c, 1, &second_adapter);
    lf_container_free(c);
    assert_fails(f, LORAFMT_CORRUPT, field, offset);
}

static void test_fallback(void **state)
{
    file good = appended_file(), f = file_copy(&good);
    const uint64_t first_end = lf_load_u64le(slot_of(&good, 0) + LF_ROOT_FILE_END);
    (void)state;

    slot_of(&f, 1)[50] ^= 1;
    assert_falls_back(&f, "root[1].crc32", LF_SLOT_OFFSET(1) + LF_ROOT_CRC32);
    slot_of(&f, 1)[50] ^= 1;
    for (f.size = (size_t)first_end; f.size < good.size; f.size += 31)
        assert_falls_back(&f, "root[1].file_end", LF_SLOT_OFFSET(1) + LF_ROOT_FILE_END);
    f.size = (size_t)first_end - 1;
    assert_fails(&f, LORAFMT_CORRUPT, "root[0].file_end", LF_SLOT_OFFSET(0) + LF_ROOT_FILE_END);
    free(f.bytes);
    free(good.bytes);
}

/* The older root is damaged: the newest generation is there, and the file says so. */
static void test_damaged_older_root(void **state)
{
    file f = appended_file();
    bool recovered;
    (void)state;

    slot_of(&f, 0)[4000] = 1;
    assert_int_equal(examine(&f, 0, &recovered, NULL), LORAFMT_CORRUPT);
    assert_true(recovered);
    memset(slot_of(&f, 0), 0, LF_PAGE_SIZE);
    assert_int_equal(examine(&f, 0, &recovered, NULL), LORAFMT_CORRUPT);
    assert_true(recovered);
    assert_fails(&f, LORAFMT_CORRUPT, "root[0]", LF_SLOT_OFFSET(0));
    memset(slot_of(&f, 1), 0, LF_PAGE_SIZE);
    assert_fails(&f, LORAFMT_CORRUPT, "root", LF_SLOT_OFFSET(0));
    free(f.bytes);
}

static void test_generations(void **state)
{
    static const struct {
        uint64_t generation[2];
        const char *field;
        unsigned slot;
    } cases[] = {{{1, 4}, "root[1].generation", 1}, {{5, 2}, "root[0].generation", 0}, {{2, 1}, "root[0].generation", 0}};
    file good = appended_file();
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        file f = file_copy(&good);
        for (unsigned slot = 0; slot < 2; slot++) {
            lf_store_u64le(slot_of(&f, slot) + LF_ROOT_GENERATION, cases[i].generation[slot]);
            seal_slot(&f, slot);
        }
        assert_fails(&f, LORAFMT_CORRUPT, cases[i].field, LF_SLOT_OFFSET(cases[i].slot) + LF_ROOT_GENERATION);
        free(f.bytes);
    }
    free(good.bytes);
}

static void test_features(void **state)
{
    file f = sample_file();
    (void)state;

    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_COMPATIBLE, UINT64_C(1) << 63);
    seal_slot(&f, 0);
    assert_ok(&f);
    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_INCOMPATIBLE, UINT64_C(1) << 63);
    seal_slot(&f, 0);
    assert_fails(&f, LORAFMT_UNSUPPORTED, "root[0].incompatible", LF_SLOT_OFFSET(0) + LF_ROOT_INCOMPATIBLE);
    free(f.bytes);
}

/* Of the second generation's first segment (section 7) and its history entry (section 8). */
static const struct {
    unsigned section, at, size;
    uint64_t value;
    const char *field;
    bool seals_entry; /* make the history entry's own checksum right */
} bad_past[] = {
    {7, 0, 8, 12288 - 64, "segment[0].offset", false},
    {7, 0, 8, 12288 + 64, "segment[1].offset", false}, // into the next one
    {7, 8, 8, 0, "segment[0].size", false},
    {7, 8, 8, UINT64_MAX, "segment[0].size", false},
    {7, 16, 8, 3, "segment[0].generation", false},
    {7, 24, 4, 0, "segment[0].kind", false},
    {7, 24, 4, 3, "segment[0].kind", false},
    {7, 24, 4, 2, "history[0].index_offset", false}, // a dead segment holds no index of the history
    {7, 28, 4, 1, "segment[0].reserved", false},
    {8, 0, 1, 'l', "history[0].magic", false},
    {8, 24, 8, 1, "history[0].crc32", false},
    {8, 24, 8, 1, "history[0]", true}, // not the record in slot 0
    {8, 8, 8, 2, "history[0].generation", true},
    {8, 8, 8, 0, "history[0].generation", true},
    {8, 32, 8, 0, "history[0].index_offset", true},
    {8, 80, 8, UINT64_MAX, "history[0].file_end", true},
    {8, 100, 1, 1, "history[0].reserved", true},
};

static void test_bad_past(void **state)
{
    file good = appended_file();
    const uint64_t index = index_offset(&good, 1);
    (void)state;

    for (size_t i = 0; i < COUNT(bad_past); i++) {
        file f = file_copy(&good);
        uint8_t *p = f.bytes + index + record_offset(good.bytes + index, bad_past[i].section, 0);
        lorafmt_error err = {0};
        store(p + bad_past[i].at, bad_past[i].size, bad_past[i].value);
        if (bad_past[i].seals_entry)
            lf_store_u32le(p + LF_ROOT_CRC32, lf_crc32_of(p, LF_ROOT_CRC32));
        reseal(&f, 1);
        assert_int_equal(examine(&f, 0, NULL, &err), LORAFMT_CORRUPT);
        assert_string_equal(err.field, bad_past[i].field);
        free(f.bytes);
    }
    free(good.bytes);
}

/* Of what one looks back with; a generation is not opened when its root is not to be believed. */
static void test_bad_earlier_root(void **state)
{
    static const struct {
        unsigned at, size;
        uint64_t value;
        bool is_sealed;
        lorafmt_status look, open;
        const char *field;
    } cases[] = {
        {LF_ROOT_MAGIC, 1, 'l', true, LORAFMT_CORRUPT, LORAFMT_CORRUPT, "history[0].magic"},
        {LF_ROOT_GENERATION, 8, 0, true, LORAFMT_CORRUPT, LORAFMT_CORRUPT, "history[0].generation"},
        {LF_ROOT_GENERATION, 8, 7, true, LORAFMT_CORRUPT, LORAFMT_CORRUPT, "history[0].generation"},
        {LF_ROOT_INCOMPATIBLE, 8, 1, true, LORAFMT_OK, LORAFMT_UNSUPPORTED, "history[0].incompatible"},
        {LF_ROOT_INDEX_OFFSET, 8, 0, true, LORAFMT_CORRUPT, LORAFMT_CORRUPT, "history[0].index_offset"},
        {LF_ROOT_INDEX_SHA256, 1, 0, true, LORAFMT_OK, LORAFMT_CORRUPT, "history[0].index_sha256"},
        {LF_ROOT_FILE_END, 8, 1 << 20, true, LORAFMT_CORRUPT, LORAFMT_CORRUPT, "history[0].file_end"},
        {LF_ROOT_FILE_END, 8, 1 << 20, false, LORAFMT_CORRUPT, LORAFMT_CORRUPT, "history[0].crc32"},
    };
    file good = appended_file();
    const uint64_t index = index_offset(&good, 1), entry = index + record_offset(good.bytes + index, 8, 0);
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        file f = file_copy(&good);
        uint8_t *p = f.bytes + entry;
        lorafmt_error err = {0};
        uint64_t generation, file_end;
        lf_container *c, *earlier;
        store(p + cases[i].at, cases[i].size, cases[i].value);
        if (cases[i].is_sealed)
            lf_store_u32le(p + LF_ROOT_CRC32, lf_crc32_of(p, LF_ROOT_CRC32));
        reseal(&f, 1);
        c = open_ok(&f);
        assert_int_equal(lf_container_earlier(c, 0, &generation, &file_end, NULL), cases[i].look);
        assert_int_equal(lf_container_open_earlier(c, 0, &earlier, &err), cases[i].open);
        assert_null(earlier);
        assert_string_equal(err.field, cases[i].field);
        lf_container_free(c);
        free(f.bytes);
    }
    free(good.bytes);
}

static void test_superseded_without_history(void **state)
{
    file first = sample_file(), f = rebuild(&first, &(rebuild_options){.before = &first, .no_history = true});
    const uint64_t segment = index_offset(&f, 1) + record_offset(f.bytes + index_offset(&f, 1), 7, 0);
    (void)state;

    assert_fails(&f, LORAFMT_CORRUPT, "segment[0].kind", segment + LF_SEGMENT_KIND);
    for (unsigned i = 0; i < 2; i++)
        lf_store_u32le(f.bytes + segment + LF_SEGMENT_SIZE * i + LF_SEGMENT_KIND, LF_SEGMENT_DEAD);
    reseal(&f, 1);
    assert_ok(&f);
    free(f.bytes);
    free(first.bytes);
}

/* Bytes of the index of an earlier generation. */
static void test_damaged_past(void **state)
{
    file f = appended_file();
    (void)state;

    f.bytes[LF_SEGMENTS_OFFSET + 300] ^= 4;
    assert_fails(&f, LORAFMT_CORRUPT, "history[0].index_sha256",
                 index_offset(&f, 1) + record_offset(f.bytes + index_offset(&f, 1), 8, 0) + LF_ROOT_INDEX_SHA256);
    free(f.bytes);
}

/* --- other sections --- */

static void test_ignorable_section(void **state)
{
    file fresh = sample_file();
    file f = rebuild(&fresh, &(rebuild_options){.extra_id = 0x80000007,
                                                .extra_record_size = 3,
                                                .extra_n_records = 3,
                                                .extra = (const uint8_t *)"ignore me"});
    const uint64_t index = index_offset(&f, 0), entry = index + LF_INDEX_SECTION_TABLE + 8 * LF_SECTION_SIZE;
    (void)state;

    assert_ok(&f);
    f.bytes[index + record_offset(f.bytes + index, 0x80000007, 0)] = 'I';
    reseal(&f, 0);
    assert_ok(&f);
    f.bytes[index + record_offset(f.bytes + index, 0x80000007, 3)] = 'p'; // the padding after it
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "index", index + record_offset(f.bytes + index, 0x80000007, 3));

    lf_store_u32le(f.bytes + entry + LF_SECTION_ID, 8);
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "section[8].id", entry + LF_SECTION_ID);
    lf_store_u32le(f.bytes + entry + LF_SECTION_ID, 9);
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_UNSUPPORTED, "section[8].id", entry + LF_SECTION_ID);
    free(f.bytes);
    free(fresh.bytes);
}

/* Signatures of a newer form are skipped, not refused. */
static void test_signatures_of_another_size(void **state)
{
    file fresh = sample_file();
    file f = rebuild(&fresh, &(rebuild_options){.extra_id = 0x80000001,
                                                .extra_record_size = LF_SIGNATURE_SIZE + 8,
                                                .extra_n_records = 0,
                                                .extra = (const uint8_t *)""});
    (void)state;

    assert_ok(&f);
    free(f.bytes);
    free(fresh.bytes);
}

static void test_index_size(void **state)
{
    file f = sample_file();
    const uint64_t size = lf_load_u64le(slot_of(&f, 0) + LF_ROOT_INDEX_SIZE);
    (void)state;

    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_INDEX_SIZE, size + 8);
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "root[0].index_size", LF_SLOT_OFFSET(0) + LF_ROOT_INDEX_SIZE);

    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_INDEX_SIZE, LF_MIN_INDEX_SIZE);
    lf_store_u32le(f.bytes + LF_SEGMENTS_OFFSET + LF_INDEX_N_SECTIONS, 64);
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "index.n_sections", LF_SEGMENTS_OFFSET + LF_INDEX_N_SECTIONS);
    free(f.bytes);
}

static void test_signatures_section(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
        const char *field; // of the second of two signatures; NULL = it is fine
    } cases[] = {{32, 2, NULL},
                 {0, 1, NULL},
                 {4, 2, NULL}, // an algorithm of the future
                 {32, 0, "signature[1].adapter"},
                 {0, 2, "signature[1].adapter"},
                 {4, 0, "signature[1].algorithm"},
                 {8, 1, "signature[1].reserved"},
                 {159, 1, "signature[1].reserved"}};
    file fresh = sample_file();
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t records[2][LF_SIGNATURE_SIZE] = {{0}};
        lorafmt_error err = {0};
        file f;
        records[0][LF_SIGNATURE_ALGORITHM] = records[1][LF_SIGNATURE_ALGORITHM] = 1;
        records[1][LF_SIGNATURE_PUBLIC_KEY] = 1;
        records[1][cases[i].at] = cases[i].value;
        f = rebuild(&fresh, &(rebuild_options){.extra_id = 0x80000001,
                                               .extra_record_size = LF_SIGNATURE_SIZE,
                                               .extra_n_records = 2,
                                               .extra = records[0]});
        assert_int_equal(examine(&f, 0, NULL, &err), cases[i].field ? LORAFMT_CORRUPT : LORAFMT_OK);
        assert_string_equal(err.field, cases[i].field ? cases[i].field : "");
        free(f.bytes);
    }
    free(fresh.bytes);
}

/* --- what lies where --- */

static void test_layout(void **state)
{
    file good = sample_file(), f = file_copy(&good);
    const uint64_t first = lf_load_u64le(tensor_record(&good, 0) + LF_TENSOR_OFFSET);
    (void)state;

    lf_store_u64le(tensor_record(&f, 1) + LF_TENSOR_OFFSET, first); // overlaps tensor 0
    reseal(&f, 0);
    assert_int_equal(examine(&f, 0, NULL, NULL), LORAFMT_CORRUPT);
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[0].offset", (uint64_t)(tensor_record(&f, 0) - f.bytes) + LF_TENSOR_OFFSET);

    free(f.bytes);
    f = file_copy(&good);
    lf_store_u64le(tensor_record(&f, 0) + LF_TENSOR_OFFSET, LF_SEGMENTS_OFFSET); // overlaps the index
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[0].offset", (uint64_t)(tensor_record(&f, 0) - f.bytes) + LF_TENSOR_OFFSET);

    free(f.bytes);
    f = file_copy(&good);
    f.bytes[first + 32 + 5] = 1; // after the 32 bytes of tensor 0
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[1]", first + 32);

    free(f.bytes);
    f = file_copy(&good);
    file_pad_to(&f, good.size + 1);
    lf_store_u64le(slot_of(&f, 0) + LF_ROOT_FILE_END, f.size); // a byte that belongs to nothing
    seal_slot(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "root[0].file_end", LF_SLOT_OFFSET(0) + LF_ROOT_FILE_END);

    free(f.bytes);
    f = file_copy(&good);
    f.bytes[first] ^= 1;
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[0].sha256", (uint64_t)(tensor_record(&f, 0) - f.bytes) + LF_TENSOR_SHA256);
    free(f.bytes);
    free(good.bytes);
}

/* A and B in two sites, but the second A is stored apart from the first: as by a writer that does not look. */
static void test_tensor_table(void **state)
{
    static const uint8_t other_a_data[32] = {9};
    lorafmt_factor factors[2] = {linear_factors[0], linear_factors[1]};
    lorafmt_site sites[2] = {first_sites[0], first_sites[0]};
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 2, .sites = sites};
    const lorafmt_adapter *const adapters[] = {&adapter};
    uint8_t *index;
    file f;
    (void)state;

    factors[0].tensor.data = other_a_data;
    sites[1].target = "b.weight";
    sites[1].factors = factors;
    f = encode(adapters, 1, 6); // tensors A, B, other A
    index = f.bytes + index_offset(&f, 0);
    factors[0].tensor.data = a_data;
    lf_adapter_id(&adapter, NULL, index + record_offset(index, 2, 0) + LF_ADAPTER_ID);
    memcpy(f.bytes + lf_load_u64le(tensor_record(&f, 2) + LF_TENSOR_OFFSET), a_data, sizeof a_data);
    lf_sha256_of(a_data, sizeof a_data, tensor_record(&f, 2) + LF_TENSOR_SHA256);
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[2].sha256", (uint64_t)(tensor_record(&f, 2) - f.bytes) + LF_TENSOR_SHA256);

    lf_store_u32le(index + record_offset(index, 4, 2) + LF_FACTOR_TENSOR, 0); // now nobody uses it
    reseal(&f, 0);
    assert_fails(&f, LORAFMT_CORRUPT, "tensor[2]", (uint64_t)(tensor_record(&f, 2) - f.bytes));
    free(f.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appended),
        cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_damaged_older_root),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_bad_past),
        cmocka_unit_test(test_bad_earlier_root),
        cmocka_unit_test(test_superseded_without_history),
        cmocka_unit_test(test_damaged_past),
        cmocka_unit_test(test_ignorable_section),
        cmocka_unit_test(test_signatures_of_another_size),
        cmocka_unit_test(test_index_size),
        cmocka_unit_test(test_signatures_section),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_tensor_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
