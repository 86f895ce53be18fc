/* SPDX-License-Identifier: MIT */
/* spec 4.10: the shape of the signatures section; whether a signature is good is for who has a key to say */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>

static lorafmt_status check_signature(const lf_record *r, lorafmt_error *err)
{
    const size_t n_adapters = r->container->sections[LF_ADAPTERS].n_records;
    const uint32_t adapter = lf_load_u32le(r->p + LF_SIGNATURE_ADAPTER);

    if (adapter >= n_adapters)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_SIGNATURE_ADAPTER, "adapter", err, "adapter %" PRIu32 ", there are %zu",
                              adapter, n_adapters);
    if (lf_load_u32le(r->p + LF_SIGNATURE_ALGORITHM) == 0)
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

lorafmt_status lf_signatures_check(const lf_container *c, lorafmt_error *err)
{
    for (size_t i = 0; i < c->sections[LF_SIGNATURES].n_records; i++) {
        lf_record r;
        unsigned field;
        LF_TRY(lf_record_get(c, LF_SIGNATURES, i, &r, err));
        LF_TRY(check_signature(&r, err));
        if (i > 0 && compare(r.p - LF_SIGNATURE_SIZE, r.p, &field) >= 0)
            return lf_record_fail(&r, LORAFMT_CORRUPT, field, field == LF_SIGNATURE_ADAPTER ? "adapter" : "public_key", err,
                                  "signatures must ascend by (adapter, public_key)");
    }
    return LORAFMT_OK;
}
