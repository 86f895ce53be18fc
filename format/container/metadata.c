/* SPDX-License-Identifier: MIT */
/* spec 4.7: metadata records */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>

lorafmt_status lf_container_metadata(const lf_container *c, size_t i, lorafmt_metadata *out, lorafmt_error *err)
{
    lf_record r;

    LF_TRY(lf_record_get(c, LF_METADATA, i, &r, err));
    *out = (lorafmt_metadata){.flags = lf_load_u32le(r.p + LF_METADATA_FLAGS)};
    LF_TRY(lf_record_name_not_empty(&r, LF_METADATA_KEY, "key", &out->key, err));
    LF_TRY(lf_record_value(&r, LF_METADATA_VALUE, "value", &out->value, err));
    if (out->flags & ~(uint32_t)LORAFMT_METADATA_SEMANTIC)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_METADATA_FLAGS, "flags", err, "0x%" PRIx32 ", only bit 0 may be set",
                              out->flags);
    return lf_record_check_reserved(&r, LF_METADATA_RESERVED, LF_METADATA_SIZE - LF_METADATA_RESERVED, err);
}

void lf_metadata_encode(const lorafmt_metadata *metadata, const lf_name_pool *pool, uint8_t *p)
{
    lf_store_u32le(p + LF_METADATA_KEY, lf_name_pool_find(pool, metadata->key));
    lf_store_u32le(p + LF_METADATA_VALUE, lf_name_pool_find(pool, metadata->value));
    lf_store_u32le(p + LF_METADATA_FLAGS, metadata->flags);
    lf_store_u32le(p + LF_METADATA_RESERVED, 0);
}
