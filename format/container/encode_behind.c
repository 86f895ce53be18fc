/* SPDX-License-Identifier: MIT */
/* spec 4.8 and 4.9 as written: what the file has behind it when a generation is appended, and what of that no longer counts. */
#include "format/base/arith.h"
#include "format/base/error.h"
#include "format/container/encode.h"

#include <stdlib.h>

/* A range of the file that stays as it is. */
typedef struct range {
    uint64_t begin, end;
} range;

static int compare_ranges(const void *a, const void *b)
{
    const range *x = a, *y = b;

    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* The tensors that stay where they are, in order of place. */
static lorafmt_status collect_live(lf_plan *p, range **out, size_t *n_out, lorafmt_error *err)
{
    range *live = lf_arena_alloc(&p->arena, (size_t)p->n_records[LF_TENSORS], sizeof *live);
    size_t n = 0;

    if (!live)
        return lf_no_memory(err);
    for (size_t i = 0; i < p->n_records[LF_TENSORS]; i++) {
        const lf_tensor_record *record = &p->tensors[i].record;
        if (lf_plan_stays(p, &p->tensors[i]))
            live[n++] = (range){record->offset, record->offset + record->stored_size};
    }
    qsort(live, n, sizeof *live, compare_ranges);
    *out = live;
    *n_out = n;
    return LORAFMT_OK;
}

/* What a generation wrote, [begin, end), and whether a root of the history reaches it. */
typedef struct region {
    range range;
    uint64_t generation; /* 0 = unknown */
    uint32_t kind;
} region;

static void add_region(region *regions, size_t *n, uint64_t begin, uint64_t end, uint64_t generation, uint32_t kind)
{
    if (begin < end)
        regions[(*n)++] = (region){{begin, end}, generation, kind};
}

/*
 * All of the file up to the new generation, cut where one generation ends and where the current index calls something dead, which
 * it then stays: no root that is left reaches it.
 */
static lorafmt_status collect_regions(lf_plan *p, region **out, size_t *n_out, lorafmt_error *err)
{
    const lf_container *c = p->file;
    const size_t n_history = c->sections[LF_HISTORY].n_records, n_segments = c->sections[LF_SEGMENTS].n_records;
    region *regions = lf_arena_alloc(&p->arena, n_history + 2 * n_segments + 1, sizeof *regions);
    uint64_t at = LF_SEGMENTS_OFFSET;
    size_t n = 0, s = 0;

    if (!regions)
        return lf_no_memory(err);
    for (size_t h = n_history + 1; h-- > 0;) { // from the oldest one on, the current one last
        lf_root root = c->root;
        lf_segment segment;
        if (h > 0)
            LF_TRY(lf_history_decode(c, h - 1, &root, err));
        for (; s < n_segments; s++) {
            LF_TRY(lf_segment_decode(c, s, &segment, err));
            if (segment.offset >= root.file_end)
                break;
            if (segment.kind != LF_SEGMENT_DEAD || segment.offset < at)
                continue;
            add_region(regions, &n, at, segment.offset, root.generation, LF_SEGMENT_SUPERSEDED);
            add_region(regions, &n, segment.offset, segment.offset + segment.size, segment.generation, LF_SEGMENT_DEAD);
            at = segment.offset + segment.size;
        }
        add_region(regions, &n, at, root.file_end, root.generation, LF_SEGMENT_SUPERSEDED);
        at = at > root.file_end ? at : root.file_end;
    }
    *out = regions;
    *n_out = n;
    return LORAFMT_OK;
}

static void add_segment(lf_plan *p, const region *r, uint64_t begin, uint64_t end)
{
    if (begin < end)
        p->segments[p->n_records[LF_SEGMENTS]++] = (lf_segment){begin, end - begin, r->generation, r->kind};
}

/* What lies between two live tensors may be padding: short, and zero. */
static bool is_padding(const lf_plan *p, uint64_t begin, uint64_t end)
{
    return end - begin < UINT64_C(1) << p->align_log2 && lf_all_zero(p->file->bytes + begin, (size_t)(end - begin));
}

/* The parts of a region that are not live are segments; *at is where the one before it, or what is live of it, ends. */
static void cut_region(lf_plan *p, const region *r, const range *live, size_t n_live, size_t *next, uint64_t *at)
{
    bool after_live = false;

    *at = *at > r->range.begin ? *at : r->range.begin;
    for (; *next < n_live && live[*next].begin < r->range.end; ++*next, after_live = true) {
        if (!after_live || !is_padding(p, *at, live[*next].begin))
            add_segment(p, r, *at, live[*next].begin);
        *at = live[*next].end;
    }
    add_segment(p, r, *at, r->range.end);
}

lorafmt_status lf_plan_behind(lf_plan *p, lorafmt_error *err)
{
    size_t n_live, n_regions, next = 0;
    uint64_t at = 0;
    region *regions;
    range *live;

    p->n_records[LF_HISTORY] = (uint64_t)p->file->sections[LF_HISTORY].n_records + 1;
    LF_TRY(collect_live(p, &live, &n_live, err));
    LF_TRY(collect_regions(p, &regions, &n_regions, err));
    p->segments = lf_arena_alloc(&p->arena, n_live + n_regions, sizeof *p->segments);
    if (!p->segments)
        return lf_no_memory(err);
    for (size_t i = 0; i < n_regions; i++)
        cut_region(p, &regions[i], live, n_live, &next, &at);
    return LORAFMT_OK;
}

void lf_history_encode(const lf_container *file, uint8_t *p)
{
    const lf_section *history = &file->sections[LF_HISTORY];

    lf_root_encode(&file->root, p);
    memcpy(p + LF_ROOT_SIZE, file->index + history->offset, history->n_records * LF_ROOT_SIZE);
}
