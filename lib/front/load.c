/* SPDX-License-Identifier: MIT */
#include "lib/front/load.h"

#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/container/format.h"
#include "lib/threads/parallel.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Less than this is done before another thread has started. */
#define BYTES_PER_THREAD (UINT64_C(4) << 20)

typedef struct block {
    size_t tensor;
    uint64_t number; /* in the tensor */
    uint8_t *decoded;
} block;

typedef struct loader {
    const lf_container *container;
    size_t n_tensors;
    const bool *wanted; /* NULL = all */
    bool defer;         /* digests of what is raw */
    const void **loaded;
    lf_arena *arena;
    size_t n_blocks;
    block *blocks;                /* of all tensors that are not raw */
    uint64_t n_decoded, n_hashed; /* bytes of those, and of all tensors whose digests are checked */
} loader;

static bool is_wanted(const loader *l, size_t i)
{
    return !l->wanted || l->wanted[i];
}

/*
 * Sizes before any memory is asked for or data looked at. Ranges that do not overlap fit into the file together; if others did
 * too, a small index could name the same bytes a million times.
 */
static lorafmt_status measure(loader *l, lorafmt_error *err)
{
    lorafmt_container_info info;
    uint64_t n_stored = 0;

    lf_container_info(l->container, &info);
    for (size_t i = 0; i < l->n_tensors; i++) {
        lf_tensor_record t;
        lf_blocks blocks;
        if (!is_wanted(l, i))
            continue;
        LF_TRY(lf_container_tensor(l->container, i, &t, err));
        n_stored += t.stored_size; // no more than the file each, so that it does not overflow before the check
        if (n_stored > info.file_end)
            return lf_fail(err, LORAFMT_CORRUPT, lf_container_tensor_offset(l->container, i) + LF_TENSOR_OFFSET, "tensors",
                           "together larger than the file, so that some overlap");
        if (!l->defer || !t.tensor.data)
            l->n_hashed += t.tensor.size;
        if (t.tensor.data)
            continue;
        LF_TRY(lf_container_blocks(l->container, i, &blocks, err));
        l->n_blocks += (size_t)blocks.n;
        l->n_decoded += t.tensor.size;
    }
    return LORAFMT_OK;
}

static lorafmt_status allocate(loader *l, lorafmt_error *err)
{
    size_t n = 0;

    l->loaded = lf_arena_alloc(l->arena, l->n_tensors, sizeof *l->loaded);
    l->blocks = lf_arena_alloc(l->arena, l->n_blocks, sizeof *l->blocks);
    if (!l->loaded || !l->blocks)
        return lf_no_memory(err);
    for (size_t i = 0; i < l->n_tensors; i++) {
        lf_tensor_record t;
        lf_blocks blocks;
        uint8_t *decoded;
        if (!is_wanted(l, i))
            continue;
        LF_TRY(lf_container_tensor(l->container, i, &t, err));
        l->loaded[i] = t.tensor.data;
        if (t.tensor.data)
            continue;
        LF_TRY(lf_container_blocks(l->container, i, &blocks, err));
        if (!(decoded = lf_arena_alloc_dirty(l->arena, (size_t)t.tensor.size, 1)))
            return lf_no_memory(err);
        for (uint64_t b = 0; b < blocks.n; b++)
            l->blocks[n++] = (block){i, b, decoded + b * blocks.size};
        l->loaded[i] = decoded;
    }
    return LORAFMT_OK;
}

static lorafmt_status decode(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const loader *l = ctx;
    const block *b = &l->blocks[i];

    (void)scratch;
    return lf_container_decode_block(l->container, b->tensor, b->number, b->decoded, err);
}

static lorafmt_status check_digest(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const loader *l = ctx;

    (void)scratch;
    if (!is_wanted(l, i))
        return LORAFMT_OK;
    if (l->defer) {
        lf_tensor_record t;
        LF_TRY(lf_container_tensor(l->container, i, &t, err));
        if (t.tensor.data)
            return LORAFMT_OK;
    }
    return lf_container_check_tensor(l->container, i, l->loaded[i], err);
}

static lorafmt_status run(loader *l, size_t n, uint64_t n_bytes, unsigned n_threads, lf_item *item, lorafmt_error *err)
{
    const uint64_t most = 1 + n_bytes / BYTES_PER_THREAD;

    return lf_parallel(n, n_threads < most ? n_threads : (unsigned)most, 0, item, l, err);
}

lorafmt_status lf_tensors_load(const lf_container *container, const bool *wanted, bool defer, unsigned n_threads, lf_arena *arena,
                               const void ***out, lorafmt_error *err)
{
    loader l = {.container = container,
                .wanted = wanted,
                .defer = defer,
                .n_tensors = lf_container_n_tensors(container),
                .arena = arena};

    *out = NULL;
    n_threads = lf_n_threads(n_threads);
    LF_TRY(measure(&l, err));
    LF_TRY(allocate(&l, err));
    LF_TRY(run(&l, l.n_blocks, l.n_decoded, n_threads, decode, err));
    LF_TRY(run(&l, l.n_tensors, l.n_hashed, n_threads, check_digest, err));
    *out = l.loaded;
    return LORAFMT_OK;
}
