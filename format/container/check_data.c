/* SPDX-License-Identifier: MIT */
/* spec 4.8 and 9: what lies where in the file, and whether tensor data is what its digest says. */
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Something that occupies bytes of the file: what record i of a section names, or the index. */
typedef struct range {
    uint64_t offset, end;
    lf_section_number section; /* tensors or segments */
    size_t i;                  /* or THE_INDEX */
} range;

#define THE_INDEX SIZE_MAX

static int compare_ranges(const void *a, const void *b)
{
    const range *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* All ranges but the header pages, in any order. */
static lorafmt_status collect(const lf_container *c, range *ranges, lorafmt_error *err)
{
    size_t n = 0;

    ranges[n++] = (range){c->root.index_offset, c->root.index_offset + c->root.index_size, LF_N_SECTIONS, THE_INDEX};
    for (size_t i = 0; i < c->sections[LF_TENSORS].n_records; i++) {
        lf_tensor_record t;
        LF_TRY(lf_container_tensor(c, i, &t, err));
        ranges[n++] = (range){t.offset, t.offset + t.stored_size, LF_TENSORS, i};
    }
    for (size_t i = 0; i < c->sections[LF_SEGMENTS].n_records; i++) {
        lf_segment s;
        LF_TRY(lf_segment_decode(c, i, &s, err));
        ranges[n++] = (range){s.offset, s.offset + s.size, LF_SEGMENTS, i};
    }
    return LORAFMT_OK;
}

static const char *name_of(const range *r, char name[48])
{
    if (r->i == THE_INDEX)
        return "index";
    snprintf(name, 48, "%s[%zu]", lf_section_types[r->section].record, r->i);
    return name;
}

static lorafmt_status fail(const range *r, uint64_t offset, const char *text, lorafmt_error *err)
{
    char name[48];

    return lf_fail(err, LORAFMT_CORRUPT, offset, name_of(r, name), "%s", text);
}

/* Two ranges share bytes: the record of the later one is blamed, or of the other one if that is the index. */
static lorafmt_status overlap(const lf_container *c, const range *before, const range *later, lorafmt_error *err)
{
    const range *blamed = later->i == THE_INDEX ? before : later, *other = blamed == later ? before : later;
    const unsigned field = blamed->section == LF_SEGMENTS ? LF_SEGMENT_OFFSET : LF_TENSOR_OFFSET;
    char name[48];
    lf_record r;

    LF_TRY(lf_record_get(c, blamed->section, blamed->i, &r, err));
    return lf_record_fail(&r, LORAFMT_CORRUPT, field, "offset", err, "%" PRIu64 " .. %" PRIu64 " overlaps %s", blamed->offset,
                          blamed->end, name_of(other, name));
}

/* What lies between two ranges, or before the first, which starts behind the header pages. */
static lorafmt_status check_gap(const lf_container *c, const range *before, const range *r, lorafmt_error *err)
{
    const uint64_t begin = before ? before->end : LF_SEGMENTS_OFFSET;

    if (before && r->offset < begin)
        return overlap(c, before, r, err);
    if (r->offset - begin >= UINT64_C(1) << c->align_log2)
        return fail(r, begin, "a gap before it that is longer than padding can be", err);
    if (!lf_all_zero(c->bytes + begin, (size_t)(r->offset - begin)))
        return fail(r, begin, "the padding before it is not zero", err);
    return LORAFMT_OK;
}

lorafmt_status lf_check_coverage(const lf_container *c, lf_arena *arena, lorafmt_error *err)
{
    const size_t n = 1 + c->sections[LF_TENSORS].n_records + c->sections[LF_SEGMENTS].n_records;
    range *ranges = lf_arena_alloc(arena, n, sizeof *ranges);
    uint64_t end;

    if (!ranges)
        return lf_no_memory(err);
    LF_TRY(collect(c, ranges, err));
    qsort(ranges, n, sizeof *ranges, compare_ranges);
    for (size_t i = 0; i < n; i++)
        LF_TRY(check_gap(c, i ? &ranges[i - 1] : NULL, &ranges[i], err));
    end = ranges[n - 1].end;
    if (end != c->root.file_end)
        return lf_root_fail(c, LORAFMT_CORRUPT, LF_ROOT_FILE_END, "file_end", err,
                            "file end %" PRIu64 ", but the last range ends at %" PRIu64, c->root.file_end, end);
    return LORAFMT_OK;
}

/* Decoded data: where it lies, or in memory that the caller frees. */
static lorafmt_status decode(const lf_container *c, size_t i, lf_tensor_record *t, void **memory, lorafmt_error *err)
{
    LF_TRY(lf_container_tensor(c, i, t, err));
    if (t->tensor.data)
        return LORAFMT_OK;
    *memory = malloc((size_t)t->tensor.size);
    if (!*memory)
        return lf_no_memory(err);
    t->tensor.data = *memory;
    return lf_tensor_decode(c, i, lf_inflate_zlib, *memory, err); // a verdict that does not rest on our own decoder
}

lorafmt_status lf_check_tensor_data(const lf_container *c, size_t i, uint64_t *n_bytes, uint64_t *n_nonfinite, lorafmt_error *err)
{
    uint8_t sha256[LF_SHA256_SIZE];
    void *memory = NULL;
    lf_tensor_record t;
    lorafmt_status status = decode(c, i, &t, &memory, err);

    if (status == LORAFMT_OK) {
        lf_sha256_of(t.tensor.data, (size_t)t.tensor.size, sha256);
        if (memcmp(sha256, t.sha256, sizeof sha256) != 0)
            status = lf_record_corrupt(c, LF_TENSORS, i, LF_TENSOR_SHA256, "sha256", "the data does not match its digest", err);
    }
    if (status == LORAFMT_OK) {
        *n_bytes += t.tensor.size;
        *n_nonfinite += lf_count_nonfinite(&t.tensor);
    }
    free(memory);
    return status;
}
