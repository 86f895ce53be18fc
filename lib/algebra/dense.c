/* SPDX-License-Identifier: MIT */
#include "lib/algebra/dense.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/numbers.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements that are read at once. */
#define CHUNK ((size_t)1 << 16)

/* Room for them in both models as they are stored, and widened. */
typedef struct chunk {
    uint8_t base[CHUNK * sizeof(double)], tuned[CHUNK * sizeof(double)];
    double wide_base[CHUNK], wide_tuned[CHUNK];
    float narrow_base[CHUNK], narrow_tuned[CHUNK];
} chunk;

static const lorafmt_base_tensor *base_of(const lk_pair *pair)
{
    return &pair->base->tensors[pair->in_base];
}

static const lorafmt_base_tensor *tuned_of(const lk_pair *pair)
{
    return &pair->tuned->tensors[pair->in_tuned];
}

uint64_t lk_pair_n_elements(const lk_pair *pair)
{
    const lorafmt_base_tensor *t = tuned_of(pair);

    return t->size / (lorafmt_dtype_bits(t->dtype) / 8);
}

bool lk_pair_is_real(const lk_pair *pair)
{
    return lf_dtype_is_real(base_of(pair)->dtype) && lf_dtype_is_real(tuned_of(pair)->dtype);
}

static lorafmt_status read_some(const lorafmt_base *from, size_t tensor, uint64_t first, size_t n, void *dst, lorafmt_error *err)
{
    const size_t unit = lorafmt_dtype_bits(from->tensors[tensor].dtype) / 8;

    return from->read(from->ctx, tensor, first * unit, n * unit, dst, err);
}

static lorafmt_status read_pair(const lk_pair *pair, uint64_t first, size_t n, chunk *c, lorafmt_error *err)
{
    LF_TRY(read_some(pair->base, pair->in_base, first, n, c->base, err));
    return read_some(pair->tuned, pair->in_tuned, first, n, c->tuned, err);
}

static void widen_pair(const lk_pair *pair, size_t n, chunk *c)
{
    lk_widen(base_of(pair)->dtype, c->base, c->wide_base, n);
    lk_widen(tuned_of(pair)->dtype, c->tuned, c->wide_tuned, n);
}

/* --- does it differ? --- */

static bool differs_here(const lk_pair *pair, size_t n, chunk *c)
{
    const lorafmt_dtype dtype = tuned_of(pair)->dtype;

    if (dtype == base_of(pair)->dtype && memcmp(c->base, c->tuned, n * (lorafmt_dtype_bits(dtype) / 8)) == 0)
        return false;
    if (!lk_pair_is_real(pair))
        return true;
    widen_pair(pair, n, c);
    for (size_t i = 0; i < n; i++)
        if (c->wide_base[i] != c->wide_tuned[i])
            return true;
    return false;
}

/* In bytes, for dtypes whose elements are smaller. */
static lorafmt_status bytes_differ(const lk_pair *pair, chunk *c, bool *out, lorafmt_error *err)
{
    const uint64_t size = tuned_of(pair)->size;

    for (uint64_t at = 0; at < size && !*out; at += sizeof c->base) {
        const size_t n = size - at < sizeof c->base ? (size_t)(size - at) : sizeof c->base;
        LF_TRY(pair->base->read(pair->base->ctx, pair->in_base, at, n, c->base, err));
        LF_TRY(pair->tuned->read(pair->tuned->ctx, pair->in_tuned, at, n, c->tuned, err));
        *out = memcmp(c->base, c->tuned, n) != 0;
    }
    return LORAFMT_OK;
}

static lorafmt_status elements_differ(const lk_pair *pair, chunk *c, bool *out, lorafmt_error *err)
{
    const uint64_t n_elements = lk_pair_n_elements(pair);

    for (uint64_t at = 0; at < n_elements && !*out; at += CHUNK) {
        const size_t n = n_elements - at < CHUNK ? (size_t)(n_elements - at) : CHUNK;
        LF_TRY(read_pair(pair, at, n, c, err));
        *out = differs_here(pair, n, c);
    }
    return LORAFMT_OK;
}

lorafmt_status lk_pair_differs(const lk_pair *pair, bool *out, lorafmt_error *err)
{
    chunk *c = malloc(sizeof *c);
    lorafmt_status st;

    *out = false;
    if (!c)
        return lf_no_memory(err);
    st = lk_pair_is_real(pair) ? elements_differ(pair, c, out, err) : bytes_differ(pair, c, out, err);
    free(c);
    return st;
}

/* --- by how much? --- */

typedef struct subtraction {
    const lk_pair *pair;
    uint64_t n_elements;
    double *wide; /* or NULL, then f32 */
    float *narrow;
    double *squares; /* of each chunk, so that their sum is the same with any number of threads */
} subtraction;

/* The place of the first element that is not finite. */
static lorafmt_status not_finite(const lk_pair *pair, uint64_t first, const double *d, size_t n, lorafmt_error *err)
{
    const lorafmt_base_tensor *t = tuned_of(pair);
    char at[LF_SHAPE_TEXT];
    uint64_t index[LORAFMT_MAX_DIMS];
    uint64_t element = first;

    for (size_t i = 0; i < n && isfinite(d[i]); i++)
        element++;
    if (element == first + n)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, t->name, "the difference is too large: its squares overflow");
    for (uint32_t k = t->n_dims; k > 0; k--) {
        index[k - 1] = element % t->shape[k - 1];
        element /= t->shape[k - 1];
    }
    return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, t->name, "tuned - base is NaN or infinite, first at %s",
                   lf_shape_text(t->n_dims, index, at));
}

static lorafmt_status subtract_wide(const subtraction *s, uint64_t first, size_t n, chunk *c, double *square, lorafmt_error *err)
{
    double *d = c->wide_tuned;

    widen_pair(s->pair, n, c);
    for (size_t k = 0; k < n; k++)
        d[k] -= c->wide_base[k];
    *square = lk_square_sum(d, n);
    if (!isfinite(*square))
        return not_finite(s->pair, first, d, n, err);
    if (s->wide)
        memcpy(s->wide + first, d, n * sizeof *d);
    else if (!lk_narrow(LORAFMT_F32, d, s->narrow + first, n))
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, tuned_of(s->pair)->name, "tuned - base is too large for f32");
    return LORAFMT_OK;
}

/* Of dtypes that f32 holds the difference is rounded once in f32 too. */
static lorafmt_status subtract_narrow(const subtraction *s, uint64_t first, size_t n, chunk *c, double *square,
                                      lorafmt_error *err)
{
    float *d = s->narrow + first;

    lk_widen_f32(base_of(s->pair)->dtype, c->base, c->narrow_base, n);
    lk_widen_f32(tuned_of(s->pair)->dtype, c->tuned, c->narrow_tuned, n);
    for (size_t k = 0; k < n; k++)
        d[k] = c->narrow_tuned[k] - c->narrow_base[k];
    *square = lk_square_sum_f32(d, n);
    return isfinite(*square) ? LORAFMT_OK : subtract_wide(s, first, n, c, square, err); // which says why
}

static lorafmt_status subtract_chunk(const subtraction *s, size_t i, chunk *c, lorafmt_error *err)
{
    const bool f64 = s->wide || base_of(s->pair)->dtype == LORAFMT_F64 || tuned_of(s->pair)->dtype == LORAFMT_F64;
    const uint64_t first = (uint64_t)i * CHUNK;
    const size_t n = s->n_elements - first < CHUNK ? (size_t)(s->n_elements - first) : CHUNK;

    LF_TRY(read_pair(s->pair, first, n, c, err));
    return f64 ? subtract_wide(s, first, n, c, &s->squares[i], err) : subtract_narrow(s, first, n, c, &s->squares[i], err);
}

static lorafmt_status subtract_item(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const lf_fpenv env = lf_fpenv_enter();
    const lorafmt_status st = subtract_chunk(ctx, i, scratch, err);

    lf_fpenv_leave(env);
    return st;
}

static lorafmt_status subtract(subtraction *s, unsigned n_threads, double *square, lorafmt_error *err)
{
    size_t n_chunks;
    lorafmt_status st;

    *square = 0;
    s->n_elements = lk_pair_n_elements(s->pair);
    n_chunks = (size_t)((s->n_elements + CHUNK - 1) / CHUNK);
    s->squares = calloc(n_chunks + 1, sizeof *s->squares);
    if (!s->squares)
        return lf_no_memory(err);
    st = lf_parallel(n_chunks, n_threads, sizeof(chunk), subtract_item, s, err);
    for (size_t i = 0; i < n_chunks; i++)
        *square += s->squares[i];
    free(s->squares);
    return st;
}

lorafmt_status lk_pair_subtract(const lk_pair *pair, unsigned n_threads, double *dst, double *square, lorafmt_error *err)
{
    subtraction s = {.pair = pair, .wide = dst};

    return subtract(&s, n_threads, square, err);
}

lorafmt_status lk_pair_subtract_f32(const lk_pair *pair, unsigned n_threads, float *dst, double *square, lorafmt_error *err)
{
    subtraction s = {.pair = pair, .narrow = dst};

    return subtract(&s, n_threads, square, err);
}
