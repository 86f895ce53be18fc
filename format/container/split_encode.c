/* SPDX-License-Identifier: MIT */
/* spec 5: encoding tensor data */
#define ZLIB_CONST // next_in is const
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/planes.h"
#include "format/container/internal.h"

#include <stdlib.h>
#include <zlib.h>

/*
 * The least that the format allows. A stream costs 14 bytes (its end, zlib's header and checksum) and, since deflate starts a new
 * Huffman table every 32 K symbols anyway, nothing else: 0.02 % here. Small blocks are spread over threads more evenly, and
 * what a decoder works on at a time stays in its cache.
 */
#define BLOCK_LOG2 LF_SPLIT_MIN_BLOCK_LOG2
#define BLOCK_SIZE (UINT64_C(1) << BLOCK_LOG2)

/*
 * Exponents have a skew distribution and no repeats: looking for matches only finds chance ones, which cost more than they save
 * (1.18 x instead of 1.20 x on f32). Runs are what a tensor of zeros has, as a fresh B; they are tried where there are any.
 */
static const int strategies[] = {Z_HUFFMAN_ONLY, Z_RLE};
#define N_STRATEGIES (sizeof strategies / sizeof strategies[0])

struct lf_splitter {
    z_stream deflaters[N_STRATEGIES];
    uint8_t plane[BLOCK_SIZE];
    size_t capacity; // of each stream
    uint8_t *streams[N_STRATEGIES];
};

void lf_splitter_free(lf_splitter *s)
{
    for (size_t i = 0; s && i < N_STRATEGIES; i++) {
        deflateEnd(&s->deflaters[i]);
        free(s->streams[i]);
    }
    free(s);
}

static lorafmt_status init(lf_splitter *s, lorafmt_error *err)
{
    const int mem_level = 9, window_bits = 15; // the most symbols under one Huffman table, and room for as many bytes

    for (size_t i = 0; i < N_STRATEGIES; i++) {
        z_stream *z = &s->deflaters[i];
        if (deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, mem_level, strategies[i]) != Z_OK)
            return lf_no_memory(err);
        s->capacity = deflateBound(z, BLOCK_SIZE); // the same for all
        if (!(s->streams[i] = malloc(s->capacity)))
            return lf_no_memory(err);
    }
    return LORAFMT_OK;
}

lorafmt_status lf_splitter_new(lf_splitter **out, lorafmt_error *err)
{
    lf_splitter *s = calloc(1, sizeof *s);
    const lorafmt_status status = s ? init(s, err) : lf_no_memory(err);

    if (status != LORAFMT_OK) {
        lf_splitter_free(s);
        s = NULL;
    }
    *out = s;
    return status;
}

/* Is one byte of 64 or more within a run of eight? By chance it is one of a thousand. */
static bool has_runs(const uint8_t *plane, size_t n)
{
    size_t length = 0, n_within = 0;

    for (size_t i = 1; i < n; i++) {
        length = plane[i] == plane[i - 1] ? length + 1 : 0;
        n_within += length >= 7;
    }
    return n_within >= n / 64 + 1;
}

/* The shortest stream of plane[0, n). */
static size_t deflate_block(lf_splitter *s, size_t n, const uint8_t **stream)
{
    const size_t n_tried = has_runs(s->plane, n) ? N_STRATEGIES : 1;
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < n_tried; i++) {
        z_stream *z = &s->deflaters[i];
        deflateReset(z);
        z->next_in = s->plane;
        z->avail_in = (uInt)n;
        z->next_out = s->streams[i];
        z->avail_out = (uInt)s->capacity;
        deflate(z, Z_FINISH); // ends, since there is room for any stream
        if (s->capacity - z->avail_out < least) {
            least = s->capacity - z->avail_out;
            *stream = s->streams[i];
        }
    }
    return least;
}

/* Block b of the tensor: its elements, and how many. */
static const uint8_t *block_of(const lorafmt_tensor *t, unsigned width, uint64_t b, size_t *n)
{
    const uint64_t first = b * BLOCK_SIZE, left = t->size / width - first;

    *n = (size_t)(left < BLOCK_SIZE ? left : BLOCK_SIZE);
    return (const uint8_t *)t->data + first * width;
}

static lorafmt_status encode_block(lf_splitter *s, const lorafmt_tensor *t, uint64_t b, lf_arena *arena, lf_split *out,
                                   uint64_t *end, lorafmt_error *err)
{
    const unsigned width = lorafmt_dtype_bits(t->dtype) / 8;
    const uint8_t *elements, *stream;
    size_t n, size;

    elements = block_of(t, width, b, &n);
    lf_plane_take(s->plane, elements, n, width, 0);
    size = deflate_block(s, n, &stream);
    if (!(out->streams[b] = lf_arena_alloc(arena, size, 1)))
        return lf_no_memory(err);
    memcpy(out->streams[b], stream, size);
    *end += size;
    lf_store_u64le(out->front + LF_SPLIT_END + LF_SPLIT_END_SIZE * b, *end);
    return LORAFMT_OK;
}

lorafmt_status lf_split_encode(lf_splitter *s, const lorafmt_tensor *t, lf_arena *arena, lf_split *out, lorafmt_error *err)
{
    const unsigned width = lorafmt_dtype_bits(t->dtype) / 8;
    uint64_t end = 0;

    *out = (lf_split){.n_blocks = lf_split_n_blocks(t->size / width, BLOCK_LOG2)};
    out->front_size = LF_SPLIT_END + LF_SPLIT_END_SIZE * (size_t)out->n_blocks;
    out->front = lf_arena_alloc(arena, out->front_size, 1);
    out->streams = lf_arena_alloc(arena, (size_t)out->n_blocks, sizeof *out->streams);
    if (!out->front || !out->streams)
        return lf_no_memory(err);
    lf_store_u32le(out->front + LF_SPLIT_BLOCK_LOG2, BLOCK_LOG2);
    for (uint64_t b = 0; b < out->n_blocks; b++)
        LF_TRY(encode_block(s, t, b, arena, out, &end, err));
    out->stored_size = out->front_size + end + t->size / width * (width - 1);
    return LORAFMT_OK;
}

lorafmt_status lf_split_write(lf_splitter *s, const lorafmt_tensor *t, const lf_split *split, lf_sink sink, void *ctx,
                              lorafmt_error *err)
{
    const unsigned width = lorafmt_dtype_bits(t->dtype) / 8;
    uint64_t begin = 0;
    size_t n;

    LF_TRY(sink(ctx, split->front, split->front_size, err));
    for (uint64_t b = 0; b < split->n_blocks; b++) {
        const uint64_t end = lf_load_u64le(split->front + LF_SPLIT_END + LF_SPLIT_END_SIZE * b);
        LF_TRY(sink(ctx, split->streams[b], (size_t)(end - begin), err));
        begin = end;
    }
    for (unsigned plane = 1; plane < width; plane++)
        for (uint64_t b = 0; b < split->n_blocks; b++) {
            const uint8_t *elements = block_of(t, width, b, &n);
            lf_plane_take(s->plane, elements, n, width, plane);
            LF_TRY(sink(ctx, s->plane, n, err));
        }
    return LORAFMT_OK;
}
