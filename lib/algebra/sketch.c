/* SPDX-License-Identifier: MIT */
/*
 * Products are cut into blocks of rows or columns of the matrix, each computed by one thread as a whole: no sum is ever split,
 * so that the result does not depend on the number of threads. Measured, that is no slower than one product on a BLAS's own
 * threads.
 */
#include "lib/algebra/sketch.h"

#include "format/base/error.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/numbers.h"
#include "lib/algebra/orthonormal.h"
#include "lib/algebra/random.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * Rows or columns in a block: enough that preparing the thin matrix, which every block does again, is a small part of its
 * product.
 */
#define BLOCK 256
#define REST_BYTES ((size_t)4 << 20) /* of the rows whose rest is computed at once, by each thread */
#define REST_LEAST 16                /* but no fewer rows */

#define NUMBERS 512 /* random ones at once */

typedef struct sketch {
    const float *d;
    size_t n_rows, n_cols, rest_rows;
    const lk_sketch_options *options;
    float *left, *right; /* [n_rows x width], [n_cols x width], by columns */
    double *squares;     /* of the rest, per block */
} sketch;

/* --- numbers --- */

void lk_gaussian(uint64_t key, uint64_t first, float *out, size_t n)
{
    double x[NUMBERS];

    for (size_t i = 0; i < n; i += NUMBERS) {
        const size_t m = n - i < NUMBERS ? n - i : NUMBERS;
        lk_random_normal(key, first + i, x, m);
        for (size_t j = 0; j < m; j++)
            out[i + j] = (float)x[j];
    }
}

static lorafmt_status gaussian_column(void *ctx, size_t j, void *unused, lorafmt_error *err)
{
    const sketch *s = ctx;
    const lf_fpenv env = lf_fpenv_enter();

    (void)unused;
    (void)err;
    lk_gaussian(lk_random_key(s->options->seed + j, ""), 0, s->right + j * s->n_cols, s->n_cols);
    lf_fpenv_leave(env);
    return LORAFMT_OK;
}

/* --- passes over the matrix --- */

static size_t block_rows(size_t n, size_t i, size_t block)
{
    return n - i * block < block ? n - i * block : block;
}

/* left = D right; the row-major D is its transpose by columns. */
static lorafmt_status left_block(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    const sketch *s = ctx;
    const lf_fpenv env = lf_fpenv_enter();

    (void)unused;
    (void)err;
    lk_multiply_f32(LK_TRANSPOSED, LK_PLAIN, block_rows(s->n_rows, i, BLOCK), s->options->width, s->n_cols, 1,
                    s->d + i * BLOCK * s->n_cols, s->n_cols, s->right, s->n_cols, 0, s->left + i * BLOCK, s->n_rows);
    lf_fpenv_leave(env);
    return LORAFMT_OK;
}

/* right = D' left */
static lorafmt_status right_block(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    const sketch *s = ctx;
    const lf_fpenv env = lf_fpenv_enter();

    (void)unused;
    (void)err;
    lk_multiply_f32(LK_PLAIN, LK_PLAIN, block_rows(s->n_cols, i, BLOCK), s->options->width, s->n_rows, 1, s->d + i * BLOCK,
                    s->n_cols, s->left, s->n_rows, 0, s->right + i * BLOCK, s->n_cols);
    lf_fpenv_leave(env);
    return LORAFMT_OK;
}

static lorafmt_status rest_block(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const sketch *s = ctx;
    const lf_fpenv env = lf_fpenv_enter();
    const size_t first = i * s->rest_rows, n = block_rows(s->n_rows, i, s->rest_rows) * s->n_cols;
    float *rest = scratch;

    (void)err;
    memcpy(rest, s->d + first * s->n_cols, n * sizeof *rest);
    lk_multiply_f32(LK_PLAIN, LK_TRANSPOSED, s->n_cols, n / s->n_cols, s->options->width, -1, s->right, s->n_cols,
                    s->left + first, s->n_rows, 1, rest, s->n_cols);
    s->squares[i] = lk_square_sum_f32(rest, n);
    lf_fpenv_leave(env);
    return LORAFMT_OK;
}

static lorafmt_status pass(sketch *s, lf_item *item, size_t n_blocks, size_t scratch, lorafmt_error *err)
{
    const unsigned n_passes = 2 * s->options->n_powers + 3;

    LF_TRY(lf_parallel(n_blocks, s->options->n_threads, scratch, item, s, err));
    return s->options->meter ? lk_meter_add(s->options->meter, s->options->share / n_passes, err) : LORAFMT_OK;
}

static lorafmt_status to_left(sketch *s, lorafmt_error *err)
{
    return pass(s, left_block, (s->n_rows + BLOCK - 1) / BLOCK, 0, err);
}

static lorafmt_status to_right(sketch *s, lorafmt_error *err)
{
    return pass(s, right_block, (s->n_cols + BLOCK - 1) / BLOCK, 0, err);
}

static lorafmt_status find_rest(sketch *s, double *rest, lorafmt_error *err)
{
    const size_t row = s->n_cols * sizeof(float), wanted = REST_BYTES / row;
    size_t n_blocks;
    lorafmt_status st;
    double sum = 0;

    s->rest_rows = wanted < REST_LEAST ? REST_LEAST : wanted;
    if (s->rest_rows > s->n_rows)
        s->rest_rows = s->n_rows;
    n_blocks = (s->n_rows + s->rest_rows - 1) / s->rest_rows;
    s->squares = lk_matrix_new(n_blocks, 1);
    if (!s->squares)
        return lf_no_memory(err);
    st = pass(s, rest_block, n_blocks, s->rest_rows * row, err);
    for (size_t i = 0; i < n_blocks; i++)
        sum += s->squares[i];
    free(s->squares);
    *rest = st ? 0 : sqrt(sum);
    return st;
}

/* --- thin matrices --- */

static void widen(const float *x, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i];
}

static lorafmt_status iterate(sketch *s, lorafmt_error *err)
{
    const size_t width = s->options->width;

    LF_TRY(lf_parallel(width, s->options->n_threads, 0, gaussian_column, s, err));
    LF_TRY(to_left(s, err));
    LF_TRY(lk_orthonormalise(s->left, s->n_rows, width, s->options->n_threads, err));
    for (unsigned i = 0; i < s->options->n_powers; i++) {
        LF_TRY(to_right(s, err));
        LF_TRY(lk_orthonormalise(s->right, s->n_cols, width, s->options->n_threads, err));
        LF_TRY(to_left(s, err));
        LF_TRY(lk_orthonormalise(s->left, s->n_rows, width, s->options->n_threads, err));
    }
    return to_right(s, err);
}

lorafmt_status lk_sketch(const float *d, size_t n_rows, size_t n_cols, const lk_sketch_options *options, lk_thin *out,
                         double *rest, lorafmt_error *err)
{
    sketch s = {.d = d, .n_rows = n_rows, .n_cols = n_cols, .options = options};
    const size_t width = options->width;
    lorafmt_status st;

    *out = (lk_thin){0};
    *rest = 0;
    s.left = lk_matrix_new_f32(n_rows, width);
    s.right = lk_matrix_new_f32(n_cols, width);
    st = s.left && s.right ? iterate(&s, err) : lf_no_memory(err);
    if (!st)
        st = find_rest(&s, rest, err);
    if (!st)
        st = lk_thin_new(n_rows, n_cols, width, out, err);
    if (!st) {
        widen(s.left, out->left, n_rows * width);
        widen(s.right, out->right, n_cols * width);
    }
    free(s.left);
    free(s.right);
    return st;
}
