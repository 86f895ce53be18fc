/* SPDX-License-Identifier: MIT */
/*
 * The Frobenius norm of what a site adds, without forming it: |B A|^2 is the sum over p, q of (B'B)[p,q] (AA')[p,q], which takes
 * rank^2 (in + out) steps. Where forming B A block by block takes less (the rank is larger than the matrix), that is done.
 */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"
#include "lib/kernels/fpenv.h"
#include "lib/view/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements of a panel: 32 KiB, which stay in a first-level cache. */
#define PANEL 4096

/* Of B A, and of the rank. */
#define BLOCK_ROWS 32
#define BLOCK_COLS 64
#define BLOCK_DEPTH 32

/* A step by blocks takes about so many times one of the Gram matrices, of which half are the other half mirrored. */
#define BLOCK_COST 4.0

/* One expert's or the whole site's factors: B is [out x rank], A is [rank x in], a kernel flattened into it. */
typedef struct factors {
    lf_real a_type, b_type;
    const uint8_t *a, *b;
    size_t rank, in, out;
} factors;

/* Rows of A' or B in f64, `stride` elements apart, the rank padded with zeros; and the two Gram matrices. */
typedef struct gram_space {
    size_t stride, n_rows; /* rows that the panel holds */
    double *panel, *line, *gram_a, *gram_b;
} gram_space;

static bool gram_space_init(gram_space *s, size_t rank)
{
    s->stride = (rank + LF_GRAM_COLS - 1) / LF_GRAM_COLS * LF_GRAM_COLS;
    s->n_rows = PANEL / s->stride > 8 ? PANEL / s->stride : 8;
    s->panel = calloc(s->n_rows * s->stride, sizeof *s->panel);
    s->line = calloc(s->n_rows, sizeof *s->line);
    s->gram_a = calloc(s->stride * s->stride, sizeof *s->gram_a);
    s->gram_b = calloc(s->stride * s->stride, sizeof *s->gram_b);
    return s->panel && s->line && s->gram_a && s->gram_b;
}

static void gram_space_free(gram_space *s)
{
    free(s->panel);
    free(s->line);
    free(s->gram_a);
    free(s->gram_b);
}

/* Rows [first, first + n) of A': columns of A. */
static void load_a(const gram_space *s, const factors *f, size_t first, size_t n)
{
    for (size_t p = 0; p < f->rank; p++) {
        lf_widen_f64(f->a_type, f->a + (p * f->in + first) * lf_real_size(f->a_type), s->line, n);
        for (size_t i = 0; i < n; i++)
            s->panel[i * s->stride + p] = s->line[i];
    }
}

static void load_b(const gram_space *s, const factors *f, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lf_widen_f64(f->b_type, f->b + (first + i) * f->rank * lf_real_size(f->b_type), s->panel + i * s->stride, f->rank);
}

static double square_by_gram(const lf_kernels *kernels, const gram_space *s, const factors *f)
{
    double sum = 0;

    memset(s->gram_a, 0, s->stride * s->stride * sizeof *s->gram_a);
    memset(s->gram_b, 0, s->stride * s->stride * sizeof *s->gram_b);
    for (size_t i = 0; i < f->in; i += s->n_rows) {
        const size_t n = f->in - i < s->n_rows ? f->in - i : s->n_rows;
        load_a(s, f, i, n);
        kernels->gram_f64(s->gram_a, s->panel, n, s->stride);
    }
    for (size_t i = 0; i < f->out; i += s->n_rows) {
        const size_t n = f->out - i < s->n_rows ? f->out - i : s->n_rows;
        load_b(s, f, i, n);
        kernels->gram_f64(s->gram_b, s->panel, n, s->stride);
    }
    for (size_t p = 0; p < f->rank; p++) { // both are symmetric
        const double *a = s->gram_a + p * s->stride, *b = s->gram_b + p * s->stride;
        sum += a[p] * b[p];
        for (size_t q = p + 1; q < f->rank; q++)
            sum += 2 * (a[q] * b[q]);
    }
    return sum < 0 ? 0 : sum; // B A of opposite columns may cancel to less than nothing; NaN stays
}

/* Rows [i, i + n_rows) of columns [j, j + n_cols) of B A, a few of the rank at a time so that all stays in a first-level cache. */
static double block_square(const lf_kernels *kernels, const factors *f, size_t i, size_t n_rows, size_t j, size_t n_cols)
{
    double block[BLOCK_ROWS][BLOCK_COLS] = {{0}}, a[BLOCK_DEPTH][BLOCK_COLS], b[BLOCK_DEPTH], sum = 0;

    for (size_t p = 0; p < f->rank; p += BLOCK_DEPTH) {
        const size_t depth = f->rank - p < BLOCK_DEPTH ? f->rank - p : BLOCK_DEPTH;
        for (size_t q = 0; q < depth; q++)
            lf_widen_f64(f->a_type, f->a + ((p + q) * f->in + j) * lf_real_size(f->a_type), a[q], n_cols);
        for (size_t r = 0; r < n_rows; r++) {
            lf_widen_f64(f->b_type, f->b + ((i + r) * f->rank + p) * lf_real_size(f->b_type), b, depth);
            kernels->multiply_f64(block[r], n_cols, b, a[0], BLOCK_COLS, depth);
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t k = 0; k < n_cols; k++)
            sum += block[r][k] * block[r][k];
    return sum;
}

static double square_by_blocks(const lf_kernels *kernels, const factors *f)
{
    double sum = 0;

    for (size_t i = 0; i < f->out; i += BLOCK_ROWS)
        for (size_t j = 0; j < f->in; j += BLOCK_COLS)
            sum += block_square(kernels, f, i, f->out - i < BLOCK_ROWS ? f->out - i : BLOCK_ROWS, j,
                                f->in - j < BLOCK_COLS ? f->in - j : BLOCK_COLS);
    return sum;
}

/* From one expert to the next. */
static void advance(factors *f)
{
    f->a += f->rank * f->in * lf_real_size(f->a_type);
    f->b += f->out * f->rank * lf_real_size(f->b_type);
}

static lorafmt_status sum_by_gram(const lf_kernels *kernels, factors f, size_t n, double *sum, lorafmt_error *err)
{
    gram_space space;
    const bool ready = gram_space_init(&space, f.rank);

    for (size_t i = 0; ready && i < n; i++, advance(&f))
        *sum += square_by_gram(kernels, &space, &f);
    gram_space_free(&space);
    return ready ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status low_rank_square(const lorafmt_site *site, double *sum, lorafmt_error *err)
{
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    const size_t n = (size_t)a->shape[0] / site->rank; // experts; else 1
    const lf_real a_type = lf_real_of(a->dtype), b_type = lf_real_of(b->dtype);
    factors f = {.a_type = a_type,
                 .b_type = b_type,
                 .a = a->data,
                 .b = b->data,
                 .rank = site->rank,
                 .in = (size_t)(a->size / lf_real_size(a_type) / a->shape[0]),
                 .out = (size_t)b->shape[0] / n};
    lf_kernels kernels;

    lf_kernels_init(&kernels, lf_cpu_flags());
    if ((double)f.rank * ((double)f.in + (double)f.out) < BLOCK_COST * (double)f.in * (double)f.out)
        return sum_by_gram(&kernels, f, n, sum, err);
    for (size_t i = 0; i < n; i++, advance(&f))
        *sum += square_by_blocks(&kernels, &f);
    return LORAFMT_OK;
}

static double value_square(const lorafmt_tensor *value)
{
    const lf_real type = lf_real_of(value->dtype);
    const size_t unit = lf_real_size(type), n = (size_t)value->size / unit;
    double sum = 0, wide[LF_TILE];

    for (size_t i = 0; i < n; i += LF_TILE) {
        const size_t block = n - i < LF_TILE ? n - i : LF_TILE;
        lf_widen_f64(type, (const uint8_t *)value->data + i * unit, wide, block);
        for (size_t k = 0; k < block; k++)
            sum += wide[k] * wide[k];
    }
    return sum;
}

/* Why the norm of a site is not known, or NULL. */
static const char *unknown_norm(const lorafmt_site *site)
{
    if (site->kind == 0 || lf_site_is_newer(site))
        return "the norm of a part of a newer format is not known";
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MID))
        return "the norm of an update with a Tucker core is not known"; // nothing that is read by this version has one
    if (site->kind < LORAFMT_KIND_ADDITIVE)
        return "the norm of a replacement depends on the base";
    if (site->kind == LORAFMT_KIND_ADDITIVE && !lf_dtype_is_real(lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor.dtype))
        return "the norm of a value that is not F32, F16, BF16 or F64 is not known";
    return NULL;
}

lorafmt_status lorafmt_site_norm(const lorafmt_site *site, double *norm_out, lorafmt_error *err)
{
    const char *unknown = unknown_norm(site);
    const lf_fpenv env = lf_fpenv_enter();
    lorafmt_status st = LORAFMT_OK;
    double sum = 0;

    *norm_out = 0;
    if (unknown)
        st = lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, site->target, "%s", unknown);
    else if (site->kind == LORAFMT_KIND_ADDITIVE)
        sum = value_square(&lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor);
    else
        st = low_rank_square(site, &sum, err);
    if (!st)
        *norm_out = fabs(site->scale) * sqrt(sum);
    lf_fpenv_leave(env);
    return st;
}
