/* SPDX-License-Identifier: MIT */
/* lorafmt/index.h: what it finds, what it refuses, and what stays checked when the digest of the index is deferred. */
#include "tests/container_files.h"

#include "lorafmt/index.h"

static lorafmt_status open_index(const file *f, bool defer_digest, lorafmt_index **out, lorafmt_error *err)
{
    const lorafmt_index_options options = {.struct_size = sizeof options, .defer_digest = defer_digest};

    return lorafmt_index_open(f->bytes, f->size, &options, out, err);
}

static lorafmt_index *index_ok(const file *f, bool defer_digest)
{
    lorafmt_error err = {0};
    lorafmt_index *index;

    if (open_index(f, defer_digest, &index, &err) != LORAFMT_OK)
        fail_msg("%s: %s", err.field, err.text);
    return index;
}

static void assert_error(const lorafmt_error *err, lorafmt_status status, const char *field, uint64_t offset)
{
    assert_int_equal(err->status, status);
    assert_string_equal(err->field, field);
    assert_int_equal(err->offset, offset);
}

/* --- what is in the file --- */

static void assert_site(const lorafmt_index *index, size_t i, const lorafmt_site *want)
{
    lorafmt_factor factors[LORAFMT_MAX_FACTORS];
    lorafmt_error err = {0};
    lorafmt_site got;

    if (lorafmt_index_site(index, i, &got, factors, &err) != LORAFMT_OK)
        fail_msg("%s: %s", err.field, err.text);
    assert_string_equal(got.target, want->target);
    assert_int_equal(got.kind, want->kind);
    assert_true(got.alpha == want->alpha && got.scale == want->scale);
    assert_memory_equal(got.base_sha256, want->base_sha256, 32);
    assert_int_equal(got.n_factors, want->n_factors);
    assert_ptr_equal(got.factors, factors);
    for (uint32_t k = 0; k < want->n_factors; k++) {
        assert_int_equal(factors[k].role, want->factors[k].role);
        assert_same_tensor(&factors[k].tensor, &want->factors[k].tensor);
        assert_int_equal(lorafmt_index_load(index, i, k, NULL, NULL), LORAFMT_OK);
    }
}

static void test_sites(void **state)
{
    file f = sample_file();
    (void)state;

    for (int defer = 0; defer < 2; defer++) {
        lorafmt_index *index = index_ok(&f, defer);
        lorafmt_container_info info;
        assert_int_equal(lorafmt_index_n_adapters(index), 2);
        lorafmt_index_info(index, &info);
        assert_int_equal(info.n_tensors, SAMPLE_TENSORS);
        for (size_t a = 0; a < 2; a++) {
            const lorafmt_adapter *want = sample_adapters[a];
            size_t first, n, found = 0;
            lorafmt_adapter got;
            assert_int_equal(lorafmt_index_adapter(index, a, &got, &first, &n, NULL), LORAFMT_OK);
            assert_string_equal(got.name, want->name);
            assert_string_equal(got.base_name, want->base_name);
            assert_true(got.n_sites == 0 && got.sites == NULL && got.n_metadata == 0 && got.metadata == NULL);
            assert_int_equal(n, want->n_sites);
            for (size_t i = 0; i < n; i++) {
                assert_site(index, first + i, &want->sites[i]);
                assert_int_equal(lorafmt_index_find(index, a, want->sites[i].target, &found, NULL), LORAFMT_OK);
                assert_string_equal(want->sites[found - first].target, want->sites[i].target);
            }
            assert_int_equal(lorafmt_index_find(index, a, "nowhere", &found, NULL), LORAFMT_NOT_FOUND);
        }
        assert_int_equal(lorafmt_index_check_digest(index, NULL), LORAFMT_OK);
        lorafmt_index_free(index);
    }
    free(f.bytes);
}

static void test_misuse(void **state)
{
    const lorafmt_index_options old = {.struct_size = 4};
    file f = sample_file();
    lorafmt_index *index = index_ok(&f, false);
    lorafmt_factor factors[LORAFMT_MAX_FACTORS];
    size_t first, n, found = 0;
    lorafmt_adapter adapter;
    lorafmt_site site;
    (void)state;

    assert_int_equal(lorafmt_index_adapter(index, 2, &adapter, &first, &n, NULL), LORAFMT_MISUSE);
    assert_true(adapter.name == NULL && first == 0 && n == 0);
    assert_int_equal(lorafmt_index_site(index, 7, &site, factors, NULL), LORAFMT_MISUSE);
    assert_true(site.target == NULL && site.n_factors == 0);
    assert_int_equal(lorafmt_index_find(index, 2, "a.weight", &found, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_index_load(index, 7, 0, NULL, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorafmt_index_load(index, 0, 2, NULL, NULL), LORAFMT_MISUSE);
    lorafmt_index_free(index);
    assert_int_equal(lorafmt_index_open(f.bytes, f.size, &old, &index, NULL), LORAFMT_MISUSE);
    assert_null(index);
    assert_int_equal(lorafmt_index_open("not a .lora file", 16, NULL, &index, NULL), LORAFMT_NOT_LORAFMT);
    assert_null(index);
    lorafmt_index_free(NULL);
    free(f.bytes);
}

/* --- data --- */

static void test_load(void **state)
{
    static float values[2][256]; // rank 1, 256 to 256: large enough that split stores it smaller
    static const lorafmt_factor two[] = {{LORAFMT_ROLE_A, TENSOR(LORAFMT_F32, 2, 1, 256, values[0])},
                                         {LORAFMT_ROLE_B, TENSOR(LORAFMT_F32, 2, 256, 1, values[1])}};
    static const lorafmt_site site = {.target = "w",
                                      .kind = LORAFMT_KIND_LINEAR,
                                      .scaling = LORAFMT_SCALING_EXPLICIT,
                                      .rank = 1,
                                      .scale = 1,
                                      .n_factors = 2,
                                      .factors = two};
    static const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_adapter *const adapters[] = {&adapter};
    (void)state;

    for (unsigned i = 0; i < 512; i++)
        values[i / 256][i % 256] = 1 + (float)i / 4096;
    for (lorafmt_codec codec = LORAFMT_CODEC_RAW; codec <= LORAFMT_CODEC_SPLIT; codec++) {
        lorafmt_factor factors[LORAFMT_MAX_FACTORS];
        lorafmt_error err = {0};
        uint8_t loaded[1024];
        lorafmt_site got;
        lorafmt_index *index;
        uint64_t size;
        file f = {0};

        assert_int_equal(lf_container_encode(adapters, 1, 6, codec, to_file, &f, &size, NULL), LORAFMT_OK);
        index = index_ok(&f, true);
        assert_int_equal(lorafmt_index_site(index, 0, &got, factors, NULL), LORAFMT_OK);
        assert_int_equal(factors[1].tensor.data == NULL, codec == LORAFMT_CODEC_SPLIT);
        assert_int_equal(lorafmt_index_load(index, 0, 1, NULL, NULL), codec == LORAFMT_CODEC_RAW ? LORAFMT_OK : LORAFMT_MISUSE);
        assert_int_equal(lorafmt_index_load(index, 0, 1, loaded, NULL), LORAFMT_OK);
        assert_memory_equal(loaded, values[1], sizeof loaded);
        f.bytes[lf_load_u64le(tensor_record(&f, 1) + LF_TENSOR_OFFSET) + tensor_record(&f, 1)[LF_TENSOR_STORED_SIZE] / 2] ^= 1;
        f.bytes[f.size - 1] ^= 0x10; // the last plane, which codec split stores as it is
        assert_int_equal(lorafmt_index_load(index, 0, 1, loaded, &err), LORAFMT_CORRUPT);
        lorafmt_index_free(index);
        free(f.bytes);
    }
}

/* --- what is refused --- */

/* Damage that breaks no rule is the digest's to find: at opening, or when it is asked. */
static void test_deferred_digest(void **state)
{
    file f = sample_file();
    uint8_t *index_bytes = f.bytes + index_offset(&f, 0), *site = index_bytes + record_offset(index_bytes, 3, 2);
    const uint64_t digest = LF_SLOT_OFFSET(0) + LF_ROOT_INDEX_SHA256;
    lorafmt_factor factors[LORAFMT_MAX_FACTORS];
    lorafmt_error err = {0};
    lorafmt_index *index;
    lorafmt_site got;
    (void)state;

    lf_store_f64le(site + LF_SITE_SCALE, 0.5); // explicit, so any will do
    assert_int_equal(open_index(&f, false, &index, &err), LORAFMT_CORRUPT);
    assert_error(&err, LORAFMT_CORRUPT, "root[0].index_sha256", digest);
    assert_null(index);
    index = index_ok(&f, true);
    assert_int_equal(lorafmt_index_site(index, 2, &got, factors, NULL), LORAFMT_OK);
    assert_true(got.scale == 0.5);
    err = (lorafmt_error){0};
    assert_int_equal(lorafmt_index_check_digest(index, &err), LORAFMT_CORRUPT);
    assert_error(&err, LORAFMT_CORRUPT, "root[0].index_sha256", digest);
    lorafmt_index_free(index);
    free(f.bytes);
}

/* A checksum is not deferred. */
static void test_deferred_checksum(void **state)
{
    file f = sample_file();
    lorafmt_error err = {0};
    lorafmt_index *index;
    (void)state;

    slot_of(&f, 0)[LF_ROOT_INDEX_SIZE] ^= 8;
    assert_int_equal(open_index(&f, true, &index, &err), LORAFMT_CORRUPT);
    assert_error(&err, LORAFMT_CORRUPT, "root[0].crc32", LF_SLOT_OFFSET(0) + LF_ROOT_CRC32);
    free(f.bytes);
}

/* Rules about several records of one site, which each record by itself keeps. */
static void test_meaning(void **state)
{
    static const struct {
        unsigned section, field, size;
        size_t record;
        uint64_t value;
        const char *target;
    } cases[] = {
        {3, LF_SITE_RANK, 4, 0, 3, "a.weight"},                             // A has two rows: its shape is blamed
        {3, LF_SITE_SCALE, 8, 0, UINT64_C(0x4008000000000000), "a.weight"}, // 3, but alpha / rank is 2
        {3, LF_SITE_ROW_END, 8, 2, 5, "b.weight"},                          // B has four rows
        {4, LF_FACTOR_ROLE, 2, 1, LORAFMT_ROLE_VALUE, "a.weight"},
        {4, LF_FACTOR_ROLE, 2, 0, LORAFMT_ROLE_MID, "a.weight"}, // not ascending
    };
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        file f = sample_file();
        uint8_t *index_bytes = f.bytes + index_offset(&f, 0);
        const uint64_t at = record_offset(index_bytes, cases[i].section, cases[i].record) + cases[i].field;
        lorafmt_factor factors[LORAFMT_MAX_FACTORS];
        lorafmt_error err = {0};
        lorafmt_index *index;
        lorafmt_site got;

        store(index_bytes + at, cases[i].size, cases[i].value);
        reseal(&f, 0);
        index = index_ok(&f, false);
        assert_int_equal(lorafmt_index_site(index, cases[i].record == 2 ? 2 : 0, &got, factors, &err), LORAFMT_CORRUPT);
        assert_string_equal(err.field, cases[i].target);
        assert_true(got.target == NULL && got.factors == NULL);
        if (i == 0)
            assert_int_equal(err.offset, (uint64_t)(tensor_record(&f, 0) - f.bytes) + LF_TENSOR_SHAPE);
        else if (i < 4)
            assert_int_equal(err.offset, index_offset(&f, 0) + at);
        lorafmt_index_free(index);
        free(f.bytes);
    }
}

/* With no digest in the way, every bit of an index wrong in turn: all is read, nothing past the bytes (the sanitizers look). */
static void test_every_bit(void **state)
{
    file f = sample_file();
    const size_t begin = (size_t)index_offset(&f, 0);
    const size_t end = begin + (size_t)lf_load_u64le(slot_of(&f, 0) + LF_ROOT_INDEX_SIZE);
    (void)state;

    for (size_t bit = 8 * begin; bit < 8 * end; bit++) {
        file copy = file_copy(&f);
        lorafmt_index *index;
        copy.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (open_index(&copy, true, &index, NULL) == LORAFMT_OK) {
            lorafmt_factor factors[LORAFMT_MAX_FACTORS];
            uint8_t loaded[64];
            lorafmt_site site;
            for (size_t i = 0; i < 8; i++) {
                size_t found = i;
                lorafmt_index_find(index, i % 2, "b.weight", &found, NULL);
                if (lorafmt_index_site(index, i, &site, factors, NULL) == LORAFMT_OK)
                    for (uint32_t k = 0; k < site.n_factors; k++)
                        if (factors[k].tensor.size <= sizeof loaded)
                            lorafmt_index_load(index, i, k, loaded, NULL);
            }
            assert_int_equal(lorafmt_index_check_digest(index, NULL), LORAFMT_CORRUPT);
        }
        lorafmt_index_free(index);
        free(copy.bytes);
    }
    free(f.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sites),     cmocka_unit_test(test_misuse),          cmocka_unit_test(test_load),
        cmocka_unit_test(test_meaning),   cmocka_unit_test(test_deferred_digest), cmocka_unit_test(test_deferred_checksum),
        cmocka_unit_test(test_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
