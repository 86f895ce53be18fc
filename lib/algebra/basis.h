/* SPDX-License-Identifier: MIT */
/* An orthonormal basis of the columns of a tall matrix: matrix = Q R. Q is never formed, only multiplied with. */
#ifndef LK_BASIS_H
#define LK_BASIS_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct lk_basis {
    size_t n_rows, n_cols;
    size_t rank;    /* columns of Q: min(n_rows, n_cols) */
    double *matrix; /* borrowed: as it was, or the reflectors of its QR */
    double *r;      /* [rank x n_cols], zero below the diagonal */
    double *t;      /* of the reflectors; NULL = Q is matrix R^-1 */
} lk_basis;

/* matrix [n_rows x n_cols], finite, is borrowed and may be overwritten. lk_basis_free() in any case. */
lorafmt_status lk_basis_make(double *matrix, size_t n_rows, size_t n_cols, lk_basis *out, lorafmt_error *err);
void lk_basis_free(lk_basis *basis);

/* out [n_rows x k] = Q x, x [rank x k]. */
lorafmt_status lk_basis_apply(const lk_basis *basis, const double *x, size_t k, double *out, lorafmt_error *err);

/*
 * r [n x n], whose upper triangle is the Gram matrix of the columns, becomes R with zeros below the diagonal; *done is false,
 * and r anything, where they are too near to depending on each other.
 */
lorafmt_status lk_basis_from_gram(double *r, size_t n, bool *done, lorafmt_error *err);

#endif
