/* SPDX-License-Identifier: MIT */
/* spec 5: decoding tensor data */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/planes.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* A tensor of codec split, whose parts fit into what is stored: from here on sums cannot overflow. */
typedef struct split {
    const uint8_t *stored;
    uint64_t offset; /* of stored in the file */
    size_t i;        /* tensor */
    unsigned width;  /* bytes of an element */
    uint64_t n_elements, block_size, n_blocks;
    uint64_t streams_size;
    const uint8_t *streams, *planes;
} split;

static lorafmt_status fail(const split *s, const uint8_t *at, const char *text, lorafmt_error *err)
{
    char path[48];

    snprintf(path, sizeof path, "tensor[%zu]", s->i);
    return lf_fail(err, LORAFMT_CORRUPT, s->offset + (uint64_t)(at - s->stored), path, "%s", text);
}

static lorafmt_status bad_size(const lf_container *c, size_t i, lorafmt_error *err)
{
    return lf_record_corrupt(c, LF_TENSORS, i, LF_TENSOR_STORED_SIZE, "stored_size", "not what the parts of the data add up to",
                             err);
}

static lorafmt_status open_split(const lf_container *c, size_t i, const lf_tensor_record *t, split *s, lorafmt_error *err)
{
    const unsigned width = lorafmt_dtype_bits(t->tensor.dtype) / 8;
    const uint64_t size = t->stored_size;
    uint32_t block_log2;

    *s = (split){.stored = c->bytes + t->offset, .offset = t->offset, .i = i, .width = width};
    s->n_elements = t->tensor.size / width;
    if (size < LF_SPLIT_END)
        return bad_size(c, i, err);
    block_log2 = lf_load_u32le(s->stored + LF_SPLIT_BLOCK_LOG2);
    if (block_log2 < LF_SPLIT_MIN_BLOCK_LOG2 || block_log2 > LF_SPLIT_MAX_BLOCK_LOG2 ||
        (block_log2 > LF_SPLIT_MIN_BLOCK_LOG2 && UINT64_C(1) << block_log2 >= s->n_elements))
        return fail(s, s->stored + LF_SPLIT_BLOCK_LOG2, "block_log2 must be 18, or 19..30 for blocks smaller than the tensor",
                    err);
    if (!lf_all_zero(s->stored + LF_SPLIT_RESERVED, LF_SPLIT_END - LF_SPLIT_RESERVED))
        return fail(s, s->stored + LF_SPLIT_RESERVED, "reserved bytes are not zero", err);
    s->block_size = UINT64_C(1) << block_log2;
    s->n_blocks = lf_split_n_blocks(s->n_elements, block_log2);
    s->streams_size = size - LF_SPLIT_END;
    if (s->n_blocks * LF_SPLIT_END_SIZE + (width - 1) * s->n_elements > s->streams_size)
        return bad_size(c, i, err);
    s->streams_size -= s->n_blocks * LF_SPLIT_END_SIZE + (width - 1) * s->n_elements;
    s->streams = s->stored + LF_SPLIT_END + s->n_blocks * LF_SPLIT_END_SIZE;
    s->planes = s->streams + s->streams_size;
    return LORAFMT_OK;
}

/* Where the stream of a block begins and ends, from the first one's start. */
static lorafmt_status find_stream(const lf_container *c, const split *s, uint64_t block, uint64_t *begin, uint64_t *end,
                                  lorafmt_error *err)
{
    const uint8_t *const p = s->stored + LF_SPLIT_END + block * LF_SPLIT_END_SIZE;

    *begin = block ? lf_load_u64le(p - LF_SPLIT_END_SIZE) : 0;
    *end = lf_load_u64le(p);
    if (*end <= *begin)
        return fail(s, p, "the ends of the streams do not ascend", err);
    if (*end > s->streams_size || (block == s->n_blocks - 1 && *end != s->streams_size))
        return bad_size(c, s->i, err);
    return LORAFMT_OK;
}

/* All ends, before any stream is looked at. */
static lorafmt_status check_ends(const lf_container *c, const split *s, lorafmt_error *err)
{
    uint64_t begin, end;

    for (uint64_t b = 0; b < s->n_blocks; b++)
        LF_TRY(find_stream(c, s, b, &begin, &end, err));
    return LORAFMT_OK;
}

static lorafmt_status decode_block(const lf_container *c, const split *s, uint64_t block, lf_inflate *inflate, uint8_t *dst,
                                   lorafmt_error *err)
{
    const uint64_t first = block * s->block_size, left = s->n_elements - first;
    const size_t n = (size_t)(left < s->block_size ? left : s->block_size);
    uint8_t *const top = dst + (s->width - 1) * n; // joining needs no other memory
    uint64_t begin, end;

    LF_TRY(find_stream(c, s, block, &begin, &end, err));
    switch (inflate(s->streams + begin, (size_t)(end - begin), top, n)) {
    case LF_INFLATE_OK:
        break;
    case LF_INFLATE_BAD:
        return fail(s, s->streams + begin, "not a zlib stream of exactly a byte for each element of its block", err);
    case LF_INFLATE_NO_MEMORY:
        return lf_no_memory(err);
    }
    lf_planes_join(dst, top, s->planes + first, (size_t)s->n_elements, n, s->width);
    return LORAFMT_OK;
}

lorafmt_status lf_container_blocks(const lf_container *c, size_t i, lf_blocks *out, lorafmt_error *err)
{
    lf_tensor_record t;
    split s;

    LF_TRY(lf_container_tensor(c, i, &t, err));
    *out = (lf_blocks){1, t.tensor.size};
    if (t.codec == LORAFMT_CODEC_RAW)
        return LORAFMT_OK;
    LF_TRY(open_split(c, i, &t, &s, err));
    LF_TRY(check_ends(c, &s, err));
    *out = (lf_blocks){s.n_blocks, s.block_size * s.width};
    return LORAFMT_OK;
}

lorafmt_status lf_container_decode_block(const lf_container *c, size_t i, uint64_t block, void *dst, lorafmt_error *err)
{
    lf_tensor_record t;
    split s = {.n_blocks = 1};

    LF_TRY(lf_container_tensor(c, i, &t, err));
    if (t.codec != LORAFMT_CODEC_RAW)
        LF_TRY(open_split(c, i, &t, &s, err));
    if (block >= s.n_blocks)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "tensor", "block %" PRIu64 ", there are %" PRIu64, block,
                       s.n_blocks);
    if (t.codec != LORAFMT_CODEC_RAW)
        return decode_block(c, &s, block, lf_inflate_fast, dst, err);
    memcpy(dst, t.tensor.data, (size_t)t.tensor.size);
    return LORAFMT_OK;
}

lorafmt_status lf_tensor_decode(const lf_container *c, size_t i, lf_inflate *inflate, void *dst, lorafmt_error *err)
{
    lf_tensor_record t;
    split s;

    LF_TRY(lf_container_tensor(c, i, &t, err));
    if (t.codec == LORAFMT_CODEC_RAW) {
        memcpy(dst, t.tensor.data, (size_t)t.tensor.size);
        return LORAFMT_OK;
    }
    LF_TRY(open_split(c, i, &t, &s, err));
    LF_TRY(check_ends(c, &s, err));
    for (uint64_t b = 0; b < s.n_blocks; b++)
        LF_TRY(decode_block(c, &s, b, inflate, (uint8_t *)dst + b * s.block_size * s.width, err));
    return LORAFMT_OK;
}

lorafmt_status lf_container_decode_tensor(const lf_container *c, size_t i, void *dst, lorafmt_error *err)
{
    return lf_tensor_decode(c, i, lf_inflate_fast, dst, err);
}
