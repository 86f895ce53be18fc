/* SPDX-License-Identifier: MIT */
/* spec 5: decoding tensor data */
#define ZLIB_CONST // next_in is const
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <stdio.h>
#include <zlib.h>

enum {
    BLOCK_LOG2 = 0,
    RESERVED = 4,
    END = 8,
    MIN_BLOCK_LOG2 = 18,
    MAX_BLOCK_LOG2 = 30,
    END_SIZE = 8,
};

/* Bytes of the topmost plane that are inflated at a time. */
#define CHUNK_SIZE 8192

typedef struct split {
    const uint8_t *stored;
    uint64_t offset; /* of stored in the file */
    size_t i;        /* tensor */
    unsigned width;  /* bytes of an element */
    uint64_t n_elements, block_size, n_blocks;
    const uint8_t *streams, *planes;
    lorafmt_error *err;
} split;

static lorafmt_status fail(const split *s, const uint8_t *at, const char *text)
{
    char path[48];

    snprintf(path, sizeof path, "tensor[%zu]", s->i);
    return lf_fail(s->err, LORAFMT_CORRUPT, s->offset + (uint64_t)(at - s->stored), path, "%s", text);
}

static uint64_t stream_end(const split *s, uint64_t block)
{
    return lf_load_u64le(s->stored + END + END_SIZE * block);
}

/* Are the parts where stored_size says they are? From here on sums cannot overflow. */
static lorafmt_status open_split(const lf_tensor_record *t, split *s)
{
    const uint64_t size = t->stored_size;
    uint64_t streams_size, previous = 0;
    uint32_t block_log2;

    s->width = lorafmt_dtype_bits(t->tensor.dtype) / 8;
    s->n_elements = t->tensor.size / s->width;
    block_log2 = size >= END ? lf_load_u32le(s->stored + BLOCK_LOG2) : 0;
    if (block_log2 < MIN_BLOCK_LOG2 || block_log2 > MAX_BLOCK_LOG2)
        return fail(s, s->stored + BLOCK_LOG2, "block_log2 is not in 18..30");
    if (!lf_all_zero(s->stored + RESERVED, END - RESERVED))
        return fail(s, s->stored + RESERVED, "reserved bytes are not zero");
    s->block_size = UINT64_C(1) << block_log2;
    s->n_blocks = (s->n_elements + s->block_size - 1) / s->block_size;
    if (s->n_blocks * END_SIZE > size - END || (s->width - 1) * s->n_elements > size - END - s->n_blocks * END_SIZE)
        return fail(s, s->stored, "the parts are larger than stored_size");
    streams_size = size - END - s->n_blocks * END_SIZE - (s->width - 1) * s->n_elements;
    for (uint64_t b = 0; b < s->n_blocks; b++) {
        const uint64_t end = stream_end(s, b);
        if (end <= previous || end > streams_size || (b == s->n_blocks - 1 && end != streams_size))
            return fail(s, s->stored + END + END_SIZE * b, "the ends of the streams do not ascend to the first plane");
        previous = end;
    }
    s->streams = s->stored + END + END_SIZE * s->n_blocks;
    s->planes = s->streams + streams_size;
    return LORAFMT_OK;
}

/* Put elements [first, first + n) together from their topmost bytes and the planes. */
static inline void join_elements(const split *s, const uint8_t *top, uint64_t first, size_t n, const unsigned width, uint8_t *dst)
{
    const unsigned bits = 8 * width;

    for (size_t k = 0; k < n; k++) {
        uint64_t rotated = top[k], x;
        for (unsigned plane = 0; plane < width - 1; plane++)
            rotated = rotated << 8 | s->planes[plane * s->n_elements + first + k];
        x = rotated >> 1 | (rotated & 1) << (bits - 1);
        for (unsigned b = 0; b < width; b++)
            dst[k * width + b] = (uint8_t)(x >> (8 * b));
    }
}

static void join(const split *s, const uint8_t *top, uint64_t first, size_t n, uint8_t *dst)
{
    dst += first * s->width;
    if (s->width == 2)
        join_elements(s, top, first, n, 2, dst);
    else if (s->width == 4)
        join_elements(s, top, first, n, 4, dst);
    else
        join_elements(s, top, first, n, 8, dst);
}

/* One stream: must decode to exactly n bytes and use all of its input. */
static lorafmt_status inflate_block(const split *s, z_stream *z, const uint8_t *in, uint64_t size, uint64_t first, uint64_t n,
                                    uint8_t *dst)
{
    uint8_t top[CHUNK_SIZE];
    const uint8_t *const in_end = in + size;
    uint64_t done = 0;
    int result = Z_OK;

    inflateReset(z);
    while (result != Z_STREAM_END) {
        const size_t piece = (size_t)(in_end - in) < UINT32_MAX / 2 ? (size_t)(in_end - in) : UINT32_MAX / 2;
        size_t got;
        z->next_in = in;
        z->avail_in = (uInt)piece;
        z->next_out = top;
        z->avail_out = sizeof top;
        result = inflate(z, Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END)
            return fail(s, in, "not a zlib stream, or one that ends early");
        in += piece - z->avail_in;
        got = sizeof top - z->avail_out;
        if (got > n - done)
            return fail(s, in, "a stream decodes to more than its block");
        join(s, top, first + done, got, dst);
        done += got;
    }
    if (done != n || in != in_end)
        return fail(s, in, "a stream decodes to less than its block, or has bytes left");
    return LORAFMT_OK;
}

static lorafmt_status decode_blocks(const split *s, z_stream *z, uint8_t *dst)
{
    uint64_t begin = 0;

    for (uint64_t b = 0; b < s->n_blocks; b++) {
        const uint64_t first = b * s->block_size, left = s->n_elements - first, end = stream_end(s, b);
        LF_TRY(inflate_block(s, z, s->streams + begin, end - begin, first, left < s->block_size ? left : s->block_size, dst));
        begin = end;
    }
    return LORAFMT_OK;
}

lorafmt_status lf_container_decode_tensor(const lf_container *c, size_t i, void *dst, lorafmt_error *err)
{
    split s = {.i = i, .err = err};
    z_stream z = {0};
    lf_tensor_record t;
    lorafmt_status status;

    LF_TRY(lf_container_tensor(c, i, &t, err));
    if (t.codec == LF_CODEC_RAW) {
        memcpy(dst, t.tensor.data, (size_t)t.tensor.size);
        return LORAFMT_OK;
    }
    s.stored = c->bytes + t.offset;
    s.offset = t.offset;
    LF_TRY(open_split(&t, &s));
    if (inflateInit(&z) != Z_OK)
        return lf_no_memory(err);
    status = decode_blocks(&s, &z, dst);
    inflateEnd(&z);
    return status;
}
