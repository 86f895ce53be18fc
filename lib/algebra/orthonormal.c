/* SPDX-License-Identifier: MIT */
/*
 * As in basis.c, by the Gram matrix where the columns allow it: that is summed over blocks of rows, and each block is
 * multiplied.
 */
#include "lib/algebra/orthonormal.h"

#include "format/base/error.h"
#include "lib/algebra/basis.h"
#include "lib/algebra/lapack.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"

#include <stdlib.h>

#define LEAST_BLOCK 512 /* rows; and so many columns' worth that the Gram matrices of all blocks are half as large as x */
#define BLOCK_COLUMNS 4

typedef struct job {
    float *x;
    size_t n, width, block, n_blocks;
    double *gram;    /* [width x width] of each block, then their sum, then R */
    double *inverse; /* of R */
} job;

static size_t rows_of(const job *j, size_t i)
{
    return j->n - i * j->block < j->block ? j->n - i * j->block : j->block;
}

static void widen_block(const job *j, size_t i, double *wide)
{
    const size_t n = rows_of(j, i);

    for (size_t k = 0; k < j->width; k++)
        for (size_t row = 0; row < n; row++)
            wide[k * n + row] = j->x[k * j->n + i * j->block + row];
}

static lorafmt_status gram_block(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const job *j = ctx;
    const lf_fpenv env = lf_fpenv_enter();

    (void)err;
    widen_block(j, i, scratch);
    lk_gram(scratch, rows_of(j, i), j->width, j->gram + i * j->width * j->width);
    lf_fpenv_leave(env);
    return LORAFMT_OK;
}

static lorafmt_status multiply_block(void *ctx, size_t i, void *scratch, lorafmt_error *err)
{
    const job *j = ctx;
    const lf_fpenv env = lf_fpenv_enter();
    const size_t n = rows_of(j, i);
    double *wide = scratch, *q = wide + j->block * j->width;

    (void)err;
    widen_block(j, i, wide);
    lk_multiply(LK_PLAIN, LK_PLAIN, n, j->width, j->width, 1, wide, n, j->inverse, j->width, 0, q, n);
    for (size_t k = 0; k < j->width; k++)
        for (size_t row = 0; row < n; row++)
            j->x[k * j->n + i * j->block + row] = (float)q[k * n + row];
    lf_fpenv_leave(env);
    return LORAFMT_OK;
}

static void set_one(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i * n + i] = 1;
}

static lorafmt_status by_gram(job *j, unsigned n_threads, bool *done, lorafmt_error *err)
{
    const size_t square = j->width * j->width, block = j->block * j->width * sizeof(double);

    LF_TRY(lf_parallel(j->n_blocks, n_threads, block, gram_block, j, err));
    for (size_t i = 1; i < j->n_blocks; i++)
        for (size_t k = 0; k < square; k++)
            j->gram[k] += j->gram[i * square + k];
    LF_TRY(lk_basis_from_gram(j->gram, j->width, done, err));
    if (!*done)
        return LORAFMT_OK;
    set_one(j->inverse, j->width);
    lk_solve(j->gram, j->width, j->width, j->inverse, j->width);
    return lf_parallel(j->n_blocks, n_threads, 2 * block, multiply_block, j, err);
}

static lorafmt_status by_reflections(const job *j, lorafmt_error *err)
{
    double *wide = lk_matrix_new(j->n, j->width), *q = lk_matrix_new(j->n, j->width), *one = lk_matrix_new(j->width, j->width);
    lk_basis basis = {0};
    lorafmt_status st = wide && q && one ? LORAFMT_OK : lf_no_memory(err);

    if (!st) {
        for (size_t i = 0; i < j->n * j->width; i++)
            wide[i] = j->x[i];
        set_one(one, j->width);
        st = lk_basis_make(wide, j->n, j->width, &basis, err);
    }
    if (!st)
        st = lk_basis_apply(&basis, one, j->width, q, err);
    for (size_t i = 0; !st && i < j->n * j->width; i++)
        j->x[i] = (float)q[i];
    lk_basis_free(&basis);
    free(wide);
    free(q);
    free(one);
    return st;
}

lorafmt_status lk_orthonormalise(float *x, size_t n, size_t width, unsigned n_threads, lorafmt_error *err)
{
    job j = {.x = x, .n = n, .width = width};
    bool done = false;
    lorafmt_status st;

    j.block = BLOCK_COLUMNS * width > LEAST_BLOCK ? BLOCK_COLUMNS * width : LEAST_BLOCK;
    j.n_blocks = (n + j.block - 1) / j.block;
    j.gram = lk_matrix_new(j.n_blocks * width, width);
    j.inverse = lk_matrix_new(width, width);
    st = j.gram && j.inverse ? by_gram(&j, n_threads, &done, err) : lf_no_memory(err);
    free(j.gram);
    free(j.inverse);
    return st || done ? st : by_reflections(&j, err);
}
