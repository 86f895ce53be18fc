/* SPDX-License-Identifier: MIT */
#include "lib/algebra/lapack.h"

#include "format/base/error.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* LAPACK's own names, which are Fortran's: everything is passed by address. */
// NOLINTBEGIN(readability-identifier-naming)
void dgemm_(const char *, const char *, const int *, const int *, const int *, const double *, const double *, const int *,
            const double *, const int *, const double *, double *, const int *);
void sgemm_(const char *, const char *, const int *, const int *, const int *, const float *, const float *, const int *,
            const float *, const int *, const float *, float *, const int *);
void dsyrk_(const char *, const char *, const int *, const int *, const double *, const double *, const int *, const double *,
            double *, const int *);
void dtrsm_(const char *, const char *, const char *, const char *, const int *, const int *, const double *, const double *,
            const int *, double *, const int *);
void dpotrf_(const char *, const int *, double *, const int *, int *);
void dtrcon_(const char *, const char *, const char *, const int *, const double *, const int *, double *, double *, int *,
             int *);
void dgeqrt_(const int *, const int *, const int *, double *, const int *, double *, const int *, double *, int *);
void dgemqrt_(const char *, const char *, const int *, const int *, const int *, const int *, const double *, const int *,
              const double *, const int *, double *, const int *, double *, int *);
void dgesdd_(const char *, const int *, const int *, double *, const int *, double *, double *, const int *, double *,
             const int *, double *, const int *, int *, int *);
// NOLINTEND(readability-identifier-naming)

static int to_int(size_t n)
{
    return (int)n; // lk_matrix_new() made no larger one
}

static int at_least_1(size_t n)
{
    return n ? to_int(n) : 1;
}

double *lk_matrix_new(size_t n_rows, size_t n_cols)
{
    const size_t n = n_rows * n_cols;

    if (n_rows > INT_MAX || n_cols > INT_MAX || (n_cols && n_rows > SIZE_MAX / sizeof(double) / n_cols))
        return NULL;
    return calloc(n > 0 ? n : 1, sizeof(double));
}

float *lk_matrix_new_f32(size_t n_rows, size_t n_cols)
{
    const size_t n = n_rows * n_cols;

    if (n_rows > INT_MAX || n_cols > INT_MAX || (n_cols && n_rows > SIZE_MAX / sizeof(float) / n_cols))
        return NULL;
    return malloc((n > 0 ? n : 1) * sizeof(float));
}

void lk_multiply(lk_op op_a, lk_op op_b, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b,
                 size_t ldb, double beta, double *c, size_t ldc)
{
    const int m_ = to_int(m), n_ = to_int(n), k_ = to_int(k), lda_ = at_least_1(lda), ldb_ = at_least_1(ldb),
              ldc_ = at_least_1(ldc);

    dgemm_(op_a == LK_PLAIN ? "N" : "T", op_b == LK_PLAIN ? "N" : "T", &m_, &n_, &k_, &alpha, a, &lda_, b, &ldb_, &beta, c,
           &ldc_);
}

void lk_multiply_f32(lk_op op_a, lk_op op_b, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                     const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    const int m_ = to_int(m), n_ = to_int(n), k_ = to_int(k), lda_ = at_least_1(lda), ldb_ = at_least_1(ldb),
              ldc_ = at_least_1(ldc);

    sgemm_(op_a == LK_PLAIN ? "N" : "T", op_b == LK_PLAIN ? "N" : "T", &m_, &n_, &k_, &alpha, a, &lda_, b, &ldb_, &beta, c,
           &ldc_);
}

void lk_gram(const double *a, size_t k, size_t n, double *c)
{
    const int n_ = to_int(n), k_ = to_int(k), lda = at_least_1(k), ldc = at_least_1(n);
    const double one = 1, zero = 0;

    dsyrk_("U", "T", &n_, &k_, &one, a, &lda, &zero, c, &ldc);
}

bool lk_cholesky(double *a, size_t n)
{
    const int n_ = to_int(n), lda = at_least_1(n);
    int info;

    dpotrf_("U", &n_, a, &lda, &info);
    return info == 0;
}

lorafmt_status lk_condition(const double *r, size_t n, double *out, lorafmt_error *err)
{
    double *work = lk_matrix_new(3, n);
    int *integers = calloc(n + 1, sizeof *integers);
    const int n_ = to_int(n), ld = at_least_1(n);
    const bool ready = work && integers;
    int info;

    if (ready)
        dtrcon_("1", "U", "N", &n_, r, &ld, out, work, integers, &info);
    free(work);
    free(integers);
    return ready ? LORAFMT_OK : lf_no_memory(err);
}

void lk_solve(const double *r, size_t ldr, size_t n, double *x, size_t k)
{
    const int n_ = to_int(n), k_ = to_int(k), ldr_ = at_least_1(ldr), ldx = at_least_1(n);
    const double one = 1;

    dtrsm_("L", "U", "N", "N", &n_, &k_, &one, r, &ldr_, x, &ldx);
}

/* Reflectors are taken together so many at a time; LAPACK wants no more than there are. */
static int block_of(size_t n)
{
    return n < LK_BLOCK ? at_least_1(n) : LK_BLOCK;
}

lorafmt_status lk_qr(double *a, size_t m, size_t n, double *t, lorafmt_error *err)
{
    double *work = lk_matrix_new(LK_BLOCK, n);
    const int m_ = to_int(m), n_ = to_int(n), block = block_of(m < n ? m : n), lda = at_least_1(m), ldt = LK_BLOCK;
    int info;

    if (!work)
        return lf_no_memory(err);
    if (m && n)
        dgeqrt_(&m_, &n_, &block, a, &lda, t, &ldt, work, &info);
    free(work);
    return LORAFMT_OK;
}

lorafmt_status lk_qr_apply(const double *a, size_t m, size_t n, const double *t, double *c, size_t k, lorafmt_error *err)
{
    double *work = lk_matrix_new(LK_BLOCK, k);
    const int m_ = to_int(m), n_ = to_int(n), k_ = to_int(k), block = block_of(n), ld = at_least_1(m), ldt = LK_BLOCK;
    int info;

    if (!work)
        return lf_no_memory(err);
    if (m && n && k)
        dgemqrt_("L", "N", &m_, &k_, &n_, &block, a, &ld, t, &ldt, c, &ld, work, &info);
    free(work);
    return LORAFMT_OK;
}

lorafmt_status lk_svd(double *a, size_t m, size_t n, double *s, double *u, double *vt, lorafmt_error *err)
{
    const size_t k = m < n ? m : n;
    const int m_ = to_int(m), n_ = to_int(n), lda = at_least_1(m), ldvt = at_least_1(k), ask = -1;
    int *integers = calloc(8 * k + 1, sizeof *integers), n_work, info = 0;
    double best = 0, *work = NULL;

    if (k == 0) {
        free(integers);
        return LORAFMT_OK;
    }
    dgesdd_("S", &m_, &n_, a, &lda, s, u, &lda, vt, &ldvt, &best, &ask, integers, &info);
    if (best > INT_MAX) {
        free(integers);
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "a %zu x %zu matrix is too large for LAPACK's numbers", m, n);
    }
    n_work = (int)best;
    work = integers ? lk_matrix_new((size_t)n_work, 1) : NULL;
    if (work)
        dgesdd_("S", &m_, &n_, a, &lda, s, u, &lda, vt, &ldvt, work, &n_work, integers, &info);
    free(integers);
    if (!work)
        return lf_no_memory(err);
    free(work);
    if (info)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "the singular values of a %zu x %zu matrix were not found", m,
                       n);
    return LORAFMT_OK;
}
