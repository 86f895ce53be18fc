/* SPDX-License-Identifier: MIT */
/* spec 9, verification: everything that opening and decoding single records put off. */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* The walk over adapters, sites and factors in table order, which is also the order of what they own. */
typedef struct walk {
    const lf_container *c;
    size_t n_sites, n_factors, n_metadata; // seen so far
    size_t n_tensors;                      // used so far: the next new one must have this number
    uint64_t n_value_bytes;
} walk;

static lorafmt_status check_factor(walk *w, uint16_t previous_role, uint16_t *role, lf_sha256 *id, lorafmt_error *err)
{
    const size_t i = w->n_factors++;
    lf_tensor_record record;
    uint32_t tensor;

    LF_TRY(lf_factor_decode(w->c, i, role, &tensor, err));
    if (*role <= previous_role)
        return lf_record_corrupt(w->c, LF_FACTORS, i, LF_FACTOR_ROLE, "role", "the roles of a site must ascend", err);
    if (tensor > w->n_tensors)
        return lf_record_corrupt(w->c, LF_FACTORS, i, LF_FACTOR_TENSOR, "tensor", "tensors must be in order of first use", err);
    if (tensor == w->n_tensors)
        w->n_tensors++;
    LF_TRY(lf_container_tensor(w->c, tensor, &record, err));
    lf_adapter_id_factor(id, *role, &record.tensor, record.sha256);
    return LORAFMT_OK;
}

static lorafmt_status check_site(walk *w, const lorafmt_site *previous, lorafmt_site *site, lf_sha256 *id, lorafmt_error *err)
{
    const size_t i = w->n_sites++;
    uint32_t first_factor;
    uint16_t role = 0;

    LF_TRY(lf_container_site(w->c, i, site, &first_factor, err));
    if (previous && lf_site_compare(previous, site) >= 0) {
        const char *field;
        const unsigned at = lf_site_order_field(previous, site, &field);
        return lf_record_corrupt(w->c, LF_SITES, i, at, field, "sites must ascend by (target, kind, row_begin, col_begin)", err);
    }
    lf_adapter_id_site(id, site);
    for (uint32_t k = 0; k < site->n_factors; k++)
        LF_TRY(check_factor(w, role, &role, id, err));
    return LORAFMT_OK;
}

static lorafmt_status check_sites(walk *w, size_t n_sites, lf_sha256 *id, lorafmt_error *err)
{
    lorafmt_site site[2];

    for (size_t k = 0; k < n_sites; k++)
        LF_TRY(check_site(w, k ? &site[(k - 1) % 2] : NULL, &site[k % 2], id, err));
    return LORAFMT_OK;
}

static lorafmt_status check_metadata(walk *w, size_t n_metadata, lf_sha256 *id, lorafmt_error *err)
{
    const size_t first = w->n_metadata;
    const char *previous = ""; // keys are not empty
    lorafmt_metadata m;
    uint32_t n_semantic = 0;

    for (; w->n_metadata < first + n_metadata; w->n_metadata++) {
        LF_TRY(lf_container_metadata(w->c, w->n_metadata, &m, err));
        if (strcmp(previous, m.key) >= 0)
            return lf_record_corrupt(w->c, LF_METADATA, w->n_metadata, LF_METADATA_KEY, "key", "keys must be unique and ascend",
                                     err);
        w->n_value_bytes += strlen(m.value);
        if (w->n_value_bytes > LF_MAX_VALUES)
            return lf_record_corrupt(w->c, LF_METADATA, w->n_metadata, LF_METADATA_VALUE, "value",
                                     "all values together are longer than 2^28 bytes", err);
        previous = m.key;
        n_semantic += m.flags & LORAFMT_METADATA_SEMANTIC ? 1 : 0;
    }
    lf_sha256_u32(id, n_semantic);
    for (size_t i = first; i < first + n_metadata; i++) {
        LF_TRY(lf_container_metadata(w->c, i, &m, err));
        if (m.flags & LORAFMT_METADATA_SEMANTIC)
            lf_adapter_id_metadata(id, &m);
    }
    return LORAFMT_OK;
}

static lorafmt_status check_adapter(walk *w, size_t i, lorafmt_error *err)
{
    uint8_t sha256[LF_SHA256_SIZE];
    uint32_t first_site, first_metadata;
    lorafmt_adapter adapter;
    lf_sha256 id;

    LF_TRY(lf_container_adapter(w->c, i, &adapter, &first_site, &first_metadata, err));
    lf_adapter_id_begin(&id, &adapter);
    LF_TRY(check_sites(w, adapter.n_sites, &id, err));
    LF_TRY(check_metadata(w, adapter.n_metadata, &id, err));
    lf_sha256_final(&id, sha256);
    if (memcmp(sha256, adapter.id, sizeof sha256) != 0)
        return lf_record_corrupt(w->c, LF_ADAPTERS, i, LF_ADAPTER_ID, "adapter_id", "not the id of what the adapter holds", err);
    return LORAFMT_OK;
}

static lorafmt_status check_tables(const lf_container *c, lorafmt_error *err)
{
    walk w = {.c = c};

    for (size_t i = 0; i < lf_container_n_adapters(c); i++)
        LF_TRY(check_adapter(&w, i, err));
    if (w.n_tensors < lf_container_n_tensors(c))
        return lf_record_corrupt(c, LF_TENSORS, w.n_tensors, LF_TENSOR_OFFSET, NULL, "no factor uses it", err);
    return LORAFMT_OK;
}

/* Strings are unique in the pool, so equal names have equal offsets. */
static int compare_names(const void *a, const void *b)
{
    const uint32_t x = lf_load_u32le(*(const uint8_t *const *)a + LF_ADAPTER_NAME);
    const uint32_t y = lf_load_u32le(*(const uint8_t *const *)b + LF_ADAPTER_NAME);
    return (x > y) - (x < y);
}

/* Which record of a section is a duplicate in the order of `compare`? Says its number, or n_records for none. */
static lorafmt_status find_duplicate(const lf_container *c, lf_section_number section, int (*compare)(const void *, const void *),
                                     lf_arena *arena, size_t *duplicate, lorafmt_error *err)
{
    const size_t n = c->sections[section].n_records, size = lf_section_types[section].record_size;
    const uint8_t *table = c->index + c->sections[section].offset;
    const uint8_t **records = lf_arena_alloc(arena, n, sizeof *records);

    if (!records)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        records[i] = table + i * size;
    qsort(records, n, sizeof *records, compare);
    *duplicate = n;
    for (size_t i = 1; i < n && *duplicate == n; i++)
        if (compare(&records[i - 1], &records[i]) == 0)
            *duplicate = (size_t)((records[i] > records[i - 1] ? records[i] : records[i - 1]) - table) / size;
    return LORAFMT_OK;
}

static lorafmt_status check_unique(const lf_container *c, lf_arena *arena, lorafmt_error *err)
{
    size_t i;

    LF_TRY(find_duplicate(c, LF_ADAPTERS, compare_names, arena, &i, err));
    if (i < lf_container_n_adapters(c))
        return lf_record_corrupt(c, LF_ADAPTERS, i, LF_ADAPTER_NAME, "name", "another adapter has that name", err);
    LF_TRY(find_duplicate(c, LF_TENSORS, lf_tensor_compare_content, arena, &i, err));
    if (i < lf_container_n_tensors(c))
        return lf_record_corrupt(c, LF_TENSORS, i, LF_TENSOR_SHA256, "sha256", "another tensor has that content", err);
    return LORAFMT_OK;
}

lorafmt_status lf_check_records(const lf_container *c, lf_arena *arena, lorafmt_error *err)
{
    LF_TRY(lf_name_pool_check(c, err));
    LF_TRY(check_tables(c, err));
    LF_TRY(lf_signatures_check(c, err));
    return check_unique(c, arena, err);
}

static lorafmt_status check_but_data(const lf_container *c, lf_arena *arena, lorafmt_error *err)
{
    LF_TRY(lf_container_check_digest(c, err));
    LF_TRY(lf_index_check_padding(c, err));
    LF_TRY(lf_check_records(c, arena, err));
    LF_TRY(lf_segments_check(c, err));
    LF_TRY(lf_check_coverage(c, arena, err));
    return lf_history_check(c, err);
}

/* Hashing data comes last: only then are ranges known not to overlap, so that a small index cannot ask for much work. */
static lorafmt_status check_all(const lf_container *c, lf_arena *arena, lorafmt_verify_result *result, lorafmt_error *err)
{
    LF_TRY(check_but_data(c, arena, err));
    for (size_t i = 0; i < lf_container_n_tensors(c); i++)
        LF_TRY(lf_check_tensor_data(c, i, &result->n_bytes, &result->n_nonfinite, err));
    return LORAFMT_OK;
}

lorafmt_status lf_container_check_but_data(const lf_container *c, lorafmt_error *err)
{
    lf_arena arena = {0};
    const lorafmt_status status = check_but_data(c, &arena, err);

    lf_arena_free(&arena);
    return status;
}

lorafmt_status lf_container_check_generation(const lf_container *c, lorafmt_verify_result *out, lorafmt_error *err)
{
    lorafmt_verify_result result = {
        .n_adapters = lf_container_n_adapters(c),
        .n_sites = c->sections[LF_SITES].n_records,
        .n_tensors = lf_container_n_tensors(c),
    };
    lf_arena arena = {0};
    const lorafmt_status status = check_all(c, &arena, &result, err);

    lf_arena_free(&arena);
    if (out)
        *out = status == LORAFMT_OK ? result : (lorafmt_verify_result){0};
    return status;
}

lorafmt_status lf_container_check(const lf_container *c, lorafmt_verify_result *out, lorafmt_error *err)
{
    lorafmt_status status = lf_container_check_generation(c, out, err);

    if (status == LORAFMT_OK && c->recovered) { // said last, after what else is wrong
        if (out)
            *out = (lorafmt_verify_result){.recovered = true};
        status = lf_root_check_other_slot(c, err);
    }
    return status;
}
