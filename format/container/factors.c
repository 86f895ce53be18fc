/* SPDX-License-Identifier: MIT */
/* spec 4.5: factor records */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>

lorafmt_status lf_factor_decode(const lf_container *c, size_t i, uint16_t *role, uint32_t *tensor, lorafmt_error *err)
{
    const size_t n_tensors = c->sections[LF_TENSORS].n_records;
    lf_record r;

    LF_TRY(lf_record_get(c, LF_FACTORS, i, &r, err));
    *role = lf_load_u16le(r.p + LF_FACTOR_ROLE);
    *tensor = lf_load_u32le(r.p + LF_FACTOR_TENSOR);
    if (*role == 0)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_FACTOR_ROLE, "role", err, "0, must be at least 1");
    LF_TRY(lf_record_check_reserved(&r, LF_FACTOR_RESERVED, LF_FACTOR_TENSOR - LF_FACTOR_RESERVED, err));
    if (*tensor >= n_tensors)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_FACTOR_TENSOR, "tensor", err, "tensor %" PRIu32 ", there are %zu", *tensor,
                              n_tensors);
    return LORAFMT_OK;
}

lorafmt_status lf_container_factor(const lf_container *c, size_t i, lorafmt_factor *out, uint32_t *tensor, lorafmt_error *err)
{
    LF_TRY(lf_factor_decode(c, i, &out->role, tensor, err));
    return lf_tensor_describe(c, *tensor, &out->tensor, err);
}

void lf_factor_encode(uint16_t role, uint32_t tensor, uint8_t *p)
{
    lf_store_u16le(p + LF_FACTOR_ROLE, role);
    lf_store_u16le(p + LF_FACTOR_RESERVED, 0);
    lf_store_u32le(p + LF_FACTOR_TENSOR, tensor);
}
