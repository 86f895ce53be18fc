/* SPDX-License-Identifier: MIT */
/*
 * Two ways to the same basis. Where the columns are well apart, R is the Cholesky factor of their Gram matrix, which is one large
 * product and ten times faster; the basis is then orthonormal to 2^-52 times the square of the condition number. Else, and whenever
 * columns depend on each other, Householder reflections, which are exact to rounding whatever the columns are.
 */
#include "lib/algebra/basis.h"

#include "format/base/error.h"
#include "lib/algebra/lapack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of columns scaled to length 1: then orthonormal to about 1e-10, far below what a factor in f32 keeps. */
#define LEAST_CONDITION 1e-3

/* Lengths of the columns out of a Gram matrix, which is scaled to a diagonal of ones; false when one is nothing. */
static bool scale_gram(double *gram, size_t n, double *lengths)
{
    for (size_t j = 0; j < n; j++) {
        lengths[j] = sqrt(gram[j * n + j]);
        if (!(lengths[j] > 0) || !isfinite(lengths[j]))
            return false;
    }
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i <= j; i++)
            gram[j * n + i] /= lengths[i] * lengths[j];
    return true;
}

lorafmt_status lk_basis_from_gram(double *r, size_t n, bool *done, lorafmt_error *err)
{
    double *lengths = lk_matrix_new(n, 1), condition = 0;
    lorafmt_status st = LORAFMT_OK;

    *done = false;
    if (!lengths)
        return lf_no_memory(err);
    if (scale_gram(r, n, lengths) && lk_cholesky(r, n))
        st = lk_condition(r, n, &condition, err);
    *done = !st && condition >= LEAST_CONDITION;
    for (size_t j = 0; *done && j < n; j++)
        for (size_t i = 0; i < n; i++)
            r[j * n + i] = i <= j ? r[j * n + i] * lengths[j] : 0;
    free(lengths);
    return st;
}

static lorafmt_status reflect(lk_basis *b, lorafmt_error *err)
{
    b->t = lk_matrix_new(LK_BLOCK, b->rank);
    if (!b->t)
        return lf_no_memory(err);
    LF_TRY(lk_qr(b->matrix, b->n_rows, b->n_cols, b->t, err));
    for (size_t j = 0; j < b->n_cols; j++)
        for (size_t i = 0; i < b->rank; i++)
            b->r[j * b->rank + i] = i <= j ? b->matrix[j * b->n_rows + i] : 0;
    return LORAFMT_OK;
}

lorafmt_status lk_basis_make(double *matrix, size_t n_rows, size_t n_cols, lk_basis *out, lorafmt_error *err)
{
    bool done = false;

    *out = (lk_basis){.n_rows = n_rows, .n_cols = n_cols, .rank = n_rows < n_cols ? n_rows : n_cols, .matrix = matrix};
    out->r = lk_matrix_new(out->rank, n_cols);
    if (!out->r)
        return lf_no_memory(err);
    if (n_cols <= n_rows) {
        lk_gram(matrix, n_rows, n_cols, out->r);
        LF_TRY(lk_basis_from_gram(out->r, n_cols, &done, err));
    }
    return done ? LORAFMT_OK : reflect(out, err);
}

void lk_basis_free(lk_basis *b)
{
    free(b->r);
    free(b->t);
    *b = (lk_basis){0};
}

lorafmt_status lk_basis_apply(const lk_basis *b, const double *x, size_t k, double *out, lorafmt_error *err)
{
    double *solved;

    if (b->t) {
        memset(out, 0, b->n_rows * k * sizeof *out);
        for (size_t j = 0; j < k; j++)
            memcpy(out + j * b->n_rows, x + j * b->rank, b->rank * sizeof *out);
        return lk_qr_apply(b->matrix, b->n_rows, b->rank, b->t, out, k, err);
    }
    if (!(solved = lk_matrix_new(b->rank, k)))
        return lf_no_memory(err);
    memcpy(solved, x, b->rank * k * sizeof *x);
    lk_solve(b->r, b->rank, b->rank, solved, k);
    lk_multiply(LK_PLAIN, LK_PLAIN, b->n_rows, k, b->rank, 1, b->matrix, b->n_rows, solved, b->rank, 0, out, b->n_rows);
    free(solved);
    return LORAFMT_OK;
}
