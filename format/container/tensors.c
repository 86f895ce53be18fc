/* SPDX-License-Identifier: MIT */
/* spec 4.6: tensor records */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdio.h>

static lorafmt_status decode_shape(const lf_record *r, lorafmt_tensor *t, lorafmt_error *err)
{
    if (t->n_dims > LORAFMT_MAX_DIMS)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_N_DIMS, "n_dims", err, "%" PRIu32 ", must be 0..%d", t->n_dims,
                              LORAFMT_MAX_DIMS);
    for (unsigned d = 0; d < LORAFMT_MAX_DIMS; d++) {
        const uint64_t n = t->shape[d] = lf_load_u64le(r->p + LF_TENSOR_SHAPE + 8 * d);
        if (d < t->n_dims ? n < 1 || n > LF_MAX_DIM : n != 0)
            return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_SHAPE + 8 * d, "shape", err,
                                  "dimension %u is %" PRIu64 ", must be %s", d, n, d < t->n_dims ? "1..2^48" : "0");
    }
    return LORAFMT_OK;
}

/* decoded_size, which the dtype and the shape say already. */
static lorafmt_status check_decoded_size(const lf_record *r, const lorafmt_tensor *t, lorafmt_error *err)
{
    uint64_t n_bytes = 0; // a tensor has at least one element

    if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &n_bytes) && lorafmt_dtype_bits(t->dtype) % 8)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_SHAPE, "shape", err, "no whole number of bytes up to 2^46 as %s",
                              lorafmt_dtype_name(t->dtype));
    if (n_bytes == 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_DECODED_SIZE, "decoded_size", err,
                              "%" PRIu64 " bytes, and the shape has more than 2^46 as %s", t->size, lorafmt_dtype_name(t->dtype));
    if (t->size != n_bytes)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_DECODED_SIZE, "decoded_size", err,
                              "%" PRIu64 " bytes, shape and dtype say %" PRIu64, t->size, n_bytes);
    return LORAFMT_OK;
}

/* Where and how the bytes of a tensor are stored. */
typedef struct stored {
    uint64_t offset, size;
    uint8_t codec;
} stored;

static lorafmt_status check_stored(const lf_record *r, const stored *s, lorafmt_error *err)
{
    const uint64_t align = UINT64_C(1) << r->container->align_log2, file_end = r->container->root.file_end;
    uint64_t end;

    if (s->offset < LF_SEGMENTS_OFFSET || (s->offset & (align - 1)))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_OFFSET, "offset", err,
                              "%" PRIu64 ", must be a multiple of %" PRIu64 " from %u on", s->offset, align, LF_SEGMENTS_OFFSET);
    if (s->size == 0)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_STORED_SIZE, "stored_size", err, "0, must be at least 1");
    if (!lf_add_u64(s->offset, s->size, &end) || end > file_end)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_STORED_SIZE, "stored_size", err,
                              "%" PRIu64 " bytes at %" PRIu64 " pass the file end %" PRIu64, s->size, s->offset, file_end);
    return LORAFMT_OK;
}

static lorafmt_status check_codec(const lf_record *r, const stored *s, const lorafmt_tensor *t, lorafmt_error *err)
{
    if (s->codec == LORAFMT_CODEC_RAW && s->size != t->size)
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_STORED_SIZE, "stored_size", err,
                              "%" PRIu64 " bytes, raw data of %" PRIu64 " bytes has that size", s->size, t->size);
    if (s->codec == LORAFMT_CODEC_SPLIT && !lf_dtype_is_real(t->dtype))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_CODEC, "codec", err, "split with %s, must be F16, BF16, F32 or F64",
                              lorafmt_dtype_name(t->dtype));
    // All planes but one are stored as they are, so data cannot shrink below half, and allocating it is no risk.
    if (s->codec == LORAFMT_CODEC_SPLIT && (s->size > t->size || s->size < t->size / 2))
        return lf_record_fail(r, LORAFMT_CORRUPT, LF_TENSOR_STORED_SIZE, "stored_size", err,
                              "%" PRIu64 " bytes, split data of %" PRIu64 " bytes has at most that and at least half", s->size,
                              t->size);
    if (s->codec > LORAFMT_CODEC_SPLIT)
        return lf_record_fail(r, LORAFMT_UNSUPPORTED, LF_TENSOR_CODEC, "codec", err, "codec %u, this reader knows 0 and 1",
                              s->codec);
    return LORAFMT_OK;
}

/* Writes each field of t once, where it stays: look-up is mostly this, and clearing or copying a tensor would double it. */
static lorafmt_status decode(const lf_record *r, stored *s, lorafmt_tensor *t, lorafmt_error *err)
{
    *s = (stored){lf_load_u64le(r->p + LF_TENSOR_OFFSET), lf_load_u64le(r->p + LF_TENSOR_STORED_SIZE), r->p[LF_TENSOR_CODEC]};
    t->dtype = (lorafmt_dtype)r->p[LF_TENSOR_DTYPE];
    t->n_dims = r->p[LF_TENSOR_N_DIMS];
    t->size = lf_load_u64le(r->p + LF_TENSOR_DECODED_SIZE);
    LF_TRY(lf_record_check_reserved(r, LF_TENSOR_RESERVED, LF_TENSOR_SHAPE - LF_TENSOR_RESERVED, err));
    LF_TRY(decode_shape(r, t, err));
    LF_TRY(check_stored(r, s, err));
    if (lorafmt_dtype_bits(t->dtype) == 0)
        return lf_record_fail(r, LORAFMT_UNSUPPORTED, LF_TENSOR_DTYPE, "dtype", err, "dtype %u is unknown to this reader",
                              r->p[LF_TENSOR_DTYPE]);
    LF_TRY(check_decoded_size(r, t, err));
    LF_TRY(check_codec(r, s, t, err));
    t->data = s->codec == LORAFMT_CODEC_RAW && r->container->bytes ? r->container->bytes + s->offset : NULL;
    return LORAFMT_OK;
}

lorafmt_status lf_container_tensor(const lf_container *c, size_t i, lf_tensor_record *out, lorafmt_error *err)
{
    lf_record r;
    stored s;

    LF_TRY(lf_record_get(c, LF_TENSORS, i, &r, err));
    LF_TRY(decode(&r, &s, &out->tensor, err));
    out->offset = s.offset;
    out->stored_size = s.size;
    out->codec = s.codec;
    memcpy(out->sha256, r.p + LF_TENSOR_SHA256, sizeof out->sha256);
    return LORAFMT_OK;
}

lorafmt_status lf_tensor_describe(const lf_container *c, size_t i, lorafmt_tensor *out, lorafmt_error *err)
{
    lf_record r;
    stored s;

    LF_TRY(lf_record_get(c, LF_TENSORS, i, &r, err));
    return decode(&r, &s, out, err);
}

int lf_tensor_compare_content(const void *a, const void *b)
{
    const uint8_t *p = *(const uint8_t *const *)a, *q = *(const uint8_t *const *)b;
    int order = memcmp(p + LF_TENSOR_SHAPE, q + LF_TENSOR_SHAPE,
                       LF_TENSOR_SIZE - LF_TENSOR_SHAPE); // with sha256, which decides nearly always

    if (order == 0)
        order = p[LF_TENSOR_DTYPE] - q[LF_TENSOR_DTYPE];
    return order ? order : p[LF_TENSOR_N_DIMS] - q[LF_TENSOR_N_DIMS];
}

void lf_tensor_encode(const lf_tensor_record *record, uint8_t *p)
{
    const lorafmt_tensor *tensor = &record->tensor;

    memset(p, 0, LF_TENSOR_SIZE);
    lf_store_u64le(p + LF_TENSOR_OFFSET, record->offset);
    lf_store_u64le(p + LF_TENSOR_STORED_SIZE, record->stored_size);
    lf_store_u64le(p + LF_TENSOR_DECODED_SIZE, tensor->size);
    p[LF_TENSOR_DTYPE] = (uint8_t)tensor->dtype;
    p[LF_TENSOR_CODEC] = record->codec;
    p[LF_TENSOR_N_DIMS] = (uint8_t)tensor->n_dims;
    for (uint32_t d = 0; d < tensor->n_dims; d++)
        lf_store_u64le(p + LF_TENSOR_SHAPE + 8 * d, tensor->shape[d]);
    memcpy(p + LF_TENSOR_SHA256, record->sha256, LF_SHA256_SIZE);
}

lorafmt_status lf_container_check_tensor(const lf_container *c, size_t i, const void *decoded, lorafmt_error *err)
{
    uint8_t digest[LF_SHA256_SIZE];
    lf_tensor_record t;
    char field[48];

    LF_TRY(lf_container_tensor(c, i, &t, err));
    lf_sha256_of(decoded, (size_t)t.tensor.size, digest);
    if (memcmp(digest, t.sha256, sizeof digest) == 0)
        return LORAFMT_OK;
    snprintf(field, sizeof field, "tensor[%zu].sha256", i);
    return lf_fail(err, LORAFMT_CORRUPT, lf_container_tensor_offset(c, i) + LF_TENSOR_SHA256, field,
                   "the data are not those that the digest was made of");
}
