/* SPDX-License-Identifier: MIT */
/* spec 4.9: the roots of earlier generations */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

lorafmt_status lf_history_decode(const lf_container *c, size_t i, lf_root *out, lorafmt_error *err)
{
    char name[32];
    lf_record r;

    LF_TRY(lf_record_get(c, LF_HISTORY, i, &r, err));
    snprintf(name, sizeof name, "history[%zu]", i);
    return lf_root_decode(r.p, c->root.index_offset + (uint64_t)(r.p - c->index), name, out, err);
}

/* Does a superseded segment hold the whole index of an earlier root? Segments are in order and checked. */
static lorafmt_status check_superseded(const lf_container *c, size_t i, const lf_root *root, lorafmt_error *err)
{
    size_t low = 0, high = c->sections[LF_SEGMENTS].n_records;
    lf_segment s;

    while (low < high) { // the last segment that starts at or before the index is before `low`
        const size_t middle = low + (high - low) / 2;
        LF_TRY(lf_segment_decode(c, middle, &s, err));
        if (s.offset <= root->index_offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0) {
        LF_TRY(lf_segment_decode(c, low - 1, &s, err));
        if (s.kind == LF_SEGMENT_SUPERSEDED && root->index_offset + root->index_size <= s.offset + s.size)
            return LORAFMT_OK;
    }
    return lf_record_corrupt(c, LF_HISTORY, i, LF_ROOT_INDEX_OFFSET, "index_offset", "no superseded segment holds that index",
                             err);
}

/*
 * Entry i, which must come before the one after it in time. Each generation was appended to the one before it, so their indexes cannot
 * overlap, and looking at all of them is linear.
 */
static lorafmt_status decode_in_order(const lf_container *c, size_t i, const lf_root *newer, lf_root *out, lorafmt_error *err)
{
    lf_record r;

    LF_TRY(lf_history_decode(c, i, out, err));
    LF_TRY(lf_record_get(c, LF_HISTORY, i, &r, err));
    if (out->generation >= newer->generation)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_ROOT_GENERATION, "generation", err, "generations must descend");
    if (out->file_end > newer->index_offset)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_ROOT_FILE_END, "file_end", err,
                              "beyond the index of the generation after it");
    return LORAFMT_OK;
}

static lorafmt_status check_entry(const lf_container *c, size_t i, lf_root *newer, lorafmt_error *err)
{
    uint8_t sha256[LF_SHA256_SIZE];
    lf_record r;
    lf_root root;

    LF_TRY(decode_in_order(c, i, newer, &root, err));
    LF_TRY(lf_record_get(c, LF_HISTORY, i, &r, err));
    if (!c->is_earlier && !c->recovered && root.generation == c->root.generation - 1 &&
        memcmp(r.p, c->other_root, LF_ROOT_SIZE) != 0)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_ROOT_MAGIC, NULL, err, "not the root of the other slot");
    LF_TRY(check_superseded(c, i, &root, err));
    lf_sha256_of(c->bytes + root.index_offset, (size_t)root.index_size, sha256);
    if (memcmp(sha256, root.index_sha256, sizeof sha256) != 0)
        return lf_record_fail(&r, LORAFMT_CORRUPT, LF_ROOT_INDEX_SHA256, "index_sha256", err,
                              "the index does not match its digest");
    *newer = root;
    return LORAFMT_OK;
}

lorafmt_status lf_history_check(const lf_container *c, lorafmt_error *err)
{
    lf_root newer = c->root;

    for (size_t i = 0; i < c->sections[LF_HISTORY].n_records; i++)
        LF_TRY(check_entry(c, i, &newer, err));
    return LORAFMT_OK;
}

size_t lf_container_n_earlier(const lf_container *c)
{
    return c->sections[LF_HISTORY].n_records;
}

/* Entry i, in order with its neighbour. */
static lorafmt_status read_entry(const lf_container *c, size_t i, lf_root *out, lorafmt_error *err)
{
    lf_root newer = c->root;

    if (i > 0)
        LF_TRY(lf_history_decode(c, i - 1, &newer, err));
    return decode_in_order(c, i, &newer, out, err);
}

lorafmt_status lf_container_earlier(const lf_container *c, size_t i, uint64_t *generation, uint64_t *file_end, lorafmt_error *err)
{
    lf_root root;

    LF_TRY(read_entry(c, i, &root, err));
    *generation = root.generation;
    *file_end = root.file_end;
    return LORAFMT_OK;
}

lorafmt_status lf_container_find_earlier(const lf_container *c, uint64_t generation, size_t *out, lorafmt_error *err)
{
    lf_root root;

    for (*out = 0; *out < c->sections[LF_HISTORY].n_records; ++*out) {
        LF_TRY(lf_history_decode(c, *out, &root, err));
        if (root.generation == generation)
            return LORAFMT_OK;
    }
    return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "there is no generation %" PRIu64 " in its history",
                   generation);
}

lorafmt_status lf_container_open_earlier(const lf_container *c, size_t i, lf_container **out, lorafmt_error *err)
{
    lf_container earlier = {.bytes = c->bytes, .size = c->size, .slot = c->slot, .is_earlier = true};

    *out = NULL;
    LF_TRY(read_entry(c, i, &earlier.root, err));
    snprintf(earlier.root_name, sizeof earlier.root_name, "history[%zu]", i);
    earlier.root_at = c->root.index_offset + c->sections[LF_HISTORY].offset + i * LF_ROOT_SIZE;
    earlier.index = c->bytes + earlier.root.index_offset;
    LF_TRY(lf_root_check_features(&earlier, err));
    LF_TRY(lf_container_check_digest(&earlier, err));
    LF_TRY(lf_index_decode(&earlier, err));
    if (!(*out = malloc(sizeof **out)))
        return lf_no_memory(err);
    **out = earlier;
    return LORAFMT_OK;
}
