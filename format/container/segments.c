/* SPDX-License-Identifier: MIT */
/* spec 4.8: segments, the ranges of the file that no longer count */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>

lorafmt_status lf_segment_decode(const lf_container *c, size_t i, lf_segment *out, lorafmt_error *err)
{
    uint64_t end;
    lf_record r;

    LF_TRY(lf_record_get(c, LF_SEGMENTS, i, &r, err));
    out->offset = lf_load_u64le(r.p + LF_SEGMENT_OFFSET);
    out->size = lf_load_u64le(r.p + LF_SEGMENT_LENGTH);
    out->generation = lf_load_u64le(r.p + LF_SEGMENT_GENERATION);
    out->kind = lf_load_u32le(r.p + LF_SEGMENT_KIND);
    if (out->offset < LF_SEGMENTS_OFFSET)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_SEGMENT_OFFSET, "offset", err, "%" PRIu64 ", must be at least %u",
                              out->offset, LF_SEGMENTS_OFFSET);
    if (out->size == 0 || !lf_add_u64(out->offset, out->size, &end) || end > c->root.file_end)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_SEGMENT_LENGTH, "size", err,
                              "%" PRIu64 " bytes at %" PRIu64 ", must be at least 1 and not pass the file end %" PRIu64,
                              out->size, out->offset, c->root.file_end);
    if (out->generation > c->root.generation)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_SEGMENT_GENERATION, "generation", err, "%" PRIu64 " in generation %" PRIu64,
                              out->generation, c->root.generation);
    if (out->kind != LF_SEGMENT_SUPERSEDED && out->kind != LF_SEGMENT_DEAD)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_SEGMENT_KIND, "kind", err, "%" PRIu32 ", must be 1 or 2", out->kind);
    if (out->kind == LF_SEGMENT_SUPERSEDED && c->sections[LF_HISTORY].n_records == 0)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_SEGMENT_KIND, "kind", err, "superseded, but the history is empty");
    return lf_record_check_reserved(&r, LF_SEGMENT_RESERVED, LF_SEGMENT_SIZE - LF_SEGMENT_RESERVED, err);
}

void lf_segment_encode(const lf_segment *segment, uint8_t *p)
{
    memset(p, 0, LF_SEGMENT_SIZE);
    lf_store_u64le(p + LF_SEGMENT_OFFSET, segment->offset);
    lf_store_u64le(p + LF_SEGMENT_LENGTH, segment->size);
    lf_store_u64le(p + LF_SEGMENT_GENERATION, segment->generation);
    lf_store_u32le(p + LF_SEGMENT_KIND, segment->kind);
}

lorafmt_status lf_segments_check(const lf_container *c, lorafmt_error *err)
{
    uint64_t end = 0;

    for (size_t i = 0; i < c->sections[LF_SEGMENTS].n_records; i++) {
        lf_segment s;
        LF_TRY(lf_segment_decode(c, i, &s, err));
        if (s.offset < end)
            return lf_record_corrupt(c, LF_SEGMENTS, i, LF_SEGMENT_OFFSET, "offset", "must ascend without overlap", err);
        end = s.offset + s.size;
    }
    return LORAFMT_OK;
}
