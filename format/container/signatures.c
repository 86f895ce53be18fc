/* SPDX-License-Identifier: MIT */
/* spec 4.10: records of signatures; whether one is genuine is for who has a key to say */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>

static lorafmt_status decode(const lf_record *r, lorafmt_signature *out, lorafmt_error *err)
{
    const size_t n_adapters = r->container->sections[LF_ADAPTERS].n_records;
    const uint32_t adapter = lf_load_u32le(r->p + LF_SIGNATURE_ADAPTER);

    out->algorithm = lf_load_u32le(r->p + LF_SIGNATURE_ALGORITHM);
    memcpy(out->public_key, r->p + LF_SIGNATURE_PUBLIC_KEY, sizeof out->public_key);
    memcpy(out->signature, r->p + LF_SIGNATURE_SIGNATURE, sizeof out->signature);
    if (adapter >= n_adapters)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SIGNATURE_ADAPTER, "adapter", err, "adapter %" PRIu32 ", there are %zu",
                              adapter, n_adapters);
    if (out->algorithm == 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SIGNATURE_ALGORITHM, "algorithm", err, "0, must be at least 1");
    LF_TRY(lf_record_check_reserved(r, LF_SIGNATURE_RESERVED, LF_SIGNATURE_PUBLIC_KEY - LF_SIGNATURE_RESERVED, err));
    return lf_record_check_reserved(r, LF_SIGNATURE_RESERVED_TAIL, LF_SIGNATURE_SIZE - LF_SIGNATURE_RESERVED_TAIL, err);
}

/* The order of two signatures, and the place of the field that decides it. */
static int compare(const uint8_t *a, const uint8_t *b, unsigned *field)
{
    const uint32_t adapter_a = lf_load_u32le(a + LF_SIGNATURE_ADAPTER), adapter_b = lf_load_u32le(b + LF_SIGNATURE_ADAPTER);
    const int keys =
        memcmp(a + LF_SIGNATURE_PUBLIC_KEY, b + LF_SIGNATURE_PUBLIC_KEY, LF_SIGNATURE_SIGNATURE - LF_SIGNATURE_PUBLIC_KEY);

    *field = adapter_a == adapter_b && keys ? LF_SIGNATURE_PUBLIC_KEY : LF_SIGNATURE_ADAPTER;
    return adapter_a == adapter_b ? keys : adapter_a < adapter_b ? -1 : 1;
}

/* Record i, which is one that follows the record before it. */
static lorafmt_status read_record(const lf_container *c, size_t i, lorafmt_signature *out, lorafmt_error *err)
{
    lf_record r;
    unsigned field;

    LF_TRY(lf_record_get(c, LF_SIGNATURES, i, &r, err));
    LF_TRY(decode(&r, out, err));
    if (i > 0 && compare(r.p - LF_SIGNATURE_SIZE, r.p, &field) >= 0)
        return lf_record_fail(&r, LORAFMT_CORRUPT, field, field == LF_SIGNATURE_ADAPTER ? "adapter" : "public_key", err,
                              "signatures must ascend by (adapter, public_key)");
    return LORAFMT_OK;
}

lorafmt_status lf_signatures_check(const lf_container *c, lorafmt_error *err)
{
    lorafmt_signature unused;

    for (size_t i = 0; i < c->sections[LF_SIGNATURES].n_records; i++)
        LF_TRY(read_record(c, i, &unused, err));
    return LORAFMT_OK;
}

static uint32_t adapter_of(const lf_container *c, size_t i)
{
    return lf_load_u32le(c->index + c->sections[LF_SIGNATURES].offset + i * LF_SIGNATURE_SIZE + LF_SIGNATURE_ADAPTER);
}

/* The first record from adapter i on. In a table out of order some are not found, and what is not found proves nothing. */
static size_t lower_bound(const lf_container *c, uint64_t adapter)
{
    size_t low = 0, high = c->sections[LF_SIGNATURES].n_records;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (adapter_of(c, middle) < adapter)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t lf_signatures_count(const lf_container *c, size_t adapter)
{
    const size_t first = lower_bound(c, adapter), end = lower_bound(c, (uint64_t)adapter + 1);

    return end > first ? end - first : 0;
}

lorafmt_status lf_signatures_read(const lf_container *c, size_t adapter, lf_arena *arena, const lorafmt_signature **out,
                                  lorafmt_error *err)
{
    const size_t first = lower_bound(c, adapter), n = lf_signatures_count(c, adapter);
    lorafmt_signature *signatures = lf_arena_alloc(arena, n, sizeof *signatures);

    if (!signatures)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        LF_TRY(read_record(c, first + i, &signatures[i], err));
    *out = signatures;
    return LORAFMT_OK;
}

void lf_signature_encode(const lorafmt_signature *signature, uint32_t adapter, uint8_t *p)
{
    memset(p, 0, LF_SIGNATURE_SIZE);
    lf_store_u32le(p + LF_SIGNATURE_ADAPTER, adapter);
    lf_store_u32le(p + LF_SIGNATURE_ALGORITHM, signature->algorithm);
    memcpy(p + LF_SIGNATURE_PUBLIC_KEY, signature->public_key, sizeof signature->public_key);
    memcpy(p + LF_SIGNATURE_SIGNATURE, signature->signature, sizeof signature->signature);
}
