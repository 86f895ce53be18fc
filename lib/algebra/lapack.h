/* SPDX-License-Identifier: MIT */
/*
 * The routines of BLAS and LAPACK that the algebra needs, on column-major f64, and products in f32. Dimensions are checked
 * against LAPACK's int where matrices are made (lk_matrix_new()); work space is asked for here.
 */
#ifndef LK_LAPACK_H
#define LK_LAPACK_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>

/* n_rows x n_cols numbers, zero; NULL when out of memory or when a dimension or the number of bytes is too large. */
double *lk_matrix_new(size_t n_rows, size_t n_cols);

/* c [m x n] = alpha op(a) op(b) + beta c, where the product is over k; ld* are elements from a column to the next. */
typedef enum lk_op { LK_PLAIN, LK_TRANSPOSED } lk_op;
void lk_multiply(lk_op op_a, lk_op op_b, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b,
                 size_t ldb, double beta, double *c, size_t ldc);

/* The same in f32, for matrices as large as a model's; their elements are any numbers at first. */
float *lk_matrix_new_f32(size_t n_rows, size_t n_cols);
void lk_multiply_f32(lk_op op_a, lk_op op_b, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                     const float *b, size_t ldb, float beta, float *c, size_t ldc);

/* The upper triangle of c [n x n] = a' a, a [k x n]. */
void lk_gram(const double *a, size_t k, size_t n, double *c);

/* a [n x n], upper triangle, becomes r with r' r = a; false when it is not positive definite. */
bool lk_cholesky(double *a, size_t n);

/* The estimated reciprocal of an upper triangle's condition number, in the 1-norm. */
lorafmt_status lk_condition(const double *r, size_t n, double *out, lorafmt_error *err);

/* x [n x k] becomes r^-1 x, r [n x n] an upper triangle. */
void lk_solve(const double *r, size_t ldr, size_t n, double *x, size_t k);

/* a [m x n] becomes reflectors below its diagonal and R on and above; t [LK_BLOCK x min(m, n)] is theirs. */
#define LK_BLOCK 32
lorafmt_status lk_qr(double *a, size_t m, size_t n, double *t, lorafmt_error *err);

/* c [m x k] becomes Q c, where Q is of the first n reflectors of a [m x ...]. */
lorafmt_status lk_qr_apply(const double *a, size_t m, size_t n, const double *t, double *c, size_t k, lorafmt_error *err);

/* a [m x n], which is overwritten, = u diag(s) vt with u [m x k], s [k] descending, vt [k x n], k = min(m, n). */
lorafmt_status lk_svd(double *a, size_t m, size_t n, double *s, double *u, double *vt, lorafmt_error *err);

#endif
