/* SPDX-License-Identifier: MIT */
#include "lib/algebra/thin.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/numbers.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of B, which comes row by row and is wanted by columns, so many rows make a cache line of each column. */
#define ROWS_AT_ONCE 8
#define COLS_AT_ONCE 256

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const lorafmt_tensor *factor_of(const lorafmt_site *site, lorafmt_role role)
{
    return &lorafmt_site_factor(site, role)->tensor;
}

size_t lk_site_n_experts(const lorafmt_site *site)
{
    return site->kind == LORAFMT_KIND_EXPERTS ? (size_t)(factor_of(site, LORAFMT_ROLE_A)->shape[0] / site->rank) : 1;
}

void lk_site_shape(const lorafmt_site *site, size_t *n_rows, size_t *n_cols)
{
    const lorafmt_tensor *a = factor_of(site, LORAFMT_ROLE_A), *b = factor_of(site, LORAFMT_ROLE_B);

    *n_rows = (size_t)b->shape[0] / lk_site_n_experts(site);
    *n_cols = (size_t)(a->size / (lorafmt_dtype_bits(a->dtype) / 8) / a->shape[0]);
}

size_t lk_site_possible_rank(const lorafmt_site *site)
{
    size_t n_rows, n_cols;

    lk_site_shape(site, &n_rows, &n_cols);
    return least(n_rows, n_cols);
}

lorafmt_status lk_thin_new(size_t n_rows, size_t n_cols, size_t rank, lk_thin *out, lorafmt_error *err)
{
    *out = (lk_thin){.n_rows = n_rows, .n_cols = n_cols, .rank = rank};
    out->left = lk_matrix_new(n_rows, rank);
    out->right = lk_matrix_new(n_cols, rank);
    return out->left && out->right ? LORAFMT_OK : lf_no_memory(err);
}

void lk_thin_free(lk_thin *thin)
{
    free(thin->left);
    free(thin->right);
    *thin = (lk_thin){0};
}

/* Is every number finite? */
static bool scale(double *x, size_t n, double factor)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        x[i] *= factor;
        sum += x[i] * 0; // 0, or NaN
    }
    return sum == 0;
}

/* B [n_rows x rank] row by row into columns. */
static void set_left(lk_thin *thin, size_t at, const lorafmt_tensor *b, size_t first_row, size_t rank)
{
    const size_t unit = lorafmt_dtype_bits(b->dtype) / 8;
    double wide[ROWS_AT_ONCE][COLS_AT_ONCE];

    for (size_t i = 0; i < thin->n_rows; i += ROWS_AT_ONCE) {
        const size_t m = least(thin->n_rows - i, ROWS_AT_ONCE);
        for (size_t p = 0; p < rank; p += COLS_AT_ONCE) {
            const size_t n = least(rank - p, COLS_AT_ONCE);
            for (size_t k = 0; k < m; k++)
                lk_widen(b->dtype, (const uint8_t *)b->data + ((first_row + i + k) * rank + p) * unit, wide[k], n);
            for (size_t q = 0; q < n; q++)
                for (size_t k = 0; k < m; k++)
                    thin->left[(at + p + q) * thin->n_rows + i + k] = wide[k][q];
        }
    }
}

lorafmt_status lk_thin_set(lk_thin *thin, size_t at, const lorafmt_site *site, size_t expert, double left_factor,
                           double right_factor, lorafmt_error *err)
{
    const lorafmt_tensor *a = factor_of(site, LORAFMT_ROLE_A), *b = factor_of(site, LORAFMT_ROLE_B);
    double *left = thin->left + at * thin->n_rows, *right = thin->right + at * thin->n_cols;
    const size_t rank = site->rank, unit = lorafmt_dtype_bits(a->dtype) / 8;

    set_left(thin, at, b, expert * thin->n_rows, rank);
    lk_widen(a->dtype, (const uint8_t *)a->data + expert * rank * thin->n_cols * unit, right, rank * thin->n_cols);
    if (!scale(left, rank * thin->n_rows, left_factor) || !scale(right, rank * thin->n_cols, right_factor))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, site->target,
                       "A or B has a number that is NaN or infinite: lorapack inspect says where");
    return LORAFMT_OK;
}

lorafmt_status lk_thin_of(const lorafmt_site *site, size_t expert, lk_thin *out, lorafmt_error *err)
{
    size_t n_rows, n_cols;

    lk_site_shape(site, &n_rows, &n_cols);
    LF_TRY(lk_thin_new(n_rows, n_cols, site->rank, out, err));
    return lk_thin_set(out, 0, site, expert, 1, 1, err);
}

static lorafmt_status decompose(lk_core *core, lorafmt_error *err)
{
    const lk_basis *l = &core->left, *r = &core->right;
    double *middle = lk_matrix_new(l->rank, r->rank);
    lorafmt_status st;

    core->rank = l->rank < r->rank ? l->rank : r->rank;
    core->s = lk_matrix_new(core->rank, 1);
    core->u = lk_matrix_new(l->rank, core->rank);
    core->vt = lk_matrix_new(core->rank, r->rank);
    st = middle && core->s && core->u && core->vt ? LORAFMT_OK : lf_no_memory(err);
    if (!st) {
        lk_multiply(LK_PLAIN, LK_TRANSPOSED, l->rank, r->rank, l->n_cols, 1, l->r, l->rank, r->r, r->rank, 0, middle, l->rank);
        st = lk_svd(middle, l->rank, r->rank, core->s, core->u, core->vt, err);
    }
    free(middle);
    return st;
}

lorafmt_status lk_core_make(lk_thin *thin, lk_core *out, lorafmt_error *err)
{
    *out = (lk_core){0};
    LF_TRY(lk_basis_make(thin->left, thin->n_rows, thin->rank, &out->left, err));
    LF_TRY(lk_basis_make(thin->right, thin->n_cols, thin->rank, &out->right, err));
    return decompose(out, err);
}

void lk_core_free(lk_core *core)
{
    lk_basis_free(&core->left);
    lk_basis_free(&core->right);
    free(core->s);
    free(core->u);
    free(core->vt);
    *core = (lk_core){0};
}

/*
 * Backward errors of QR and SVD are small multiples of 2^-52 of the factors' norms, not of the product's, which may be far smaller
 * where terms cancel.
 */
size_t lk_core_true_rank(const lk_core *core)
{
    const size_t n = core->left.n_cols;
    double left = 0, right = 0, least;
    size_t rank = 0;

    for (size_t i = 0; i < core->left.rank * n; i++)
        left += core->left.r[i] * core->left.r[i];
    for (size_t i = 0; i < core->right.rank * n; i++)
        right += core->right.r[i] * core->right.r[i];
    least = sqrt(left) * sqrt(right) * DBL_EPSILON * (double)(n + 8);
    while (rank < core->rank && core->s[rank] > least)
        rank++;
    return rank;
}

/* out [basis->n_rows x k] = Q x diag(root of s), x [basis->rank x k] given by column or by row. */
static lorafmt_status split_side(const lk_basis *basis, const lk_core *core, const double *x, bool by_row, size_t k, double *out,
                                 lorafmt_error *err)
{
    double *scaled = lk_matrix_new(basis->rank, k);
    lorafmt_status st;

    if (!scaled)
        return lf_no_memory(err);
    for (size_t j = 0; j < k; j++)
        for (size_t i = 0; i < basis->rank; i++)
            scaled[j * basis->rank + i] = sqrt(core->s[j]) * (by_row ? x[i * core->rank + j] : x[j * basis->rank + i]);
    st = lk_basis_apply(basis, scaled, k, out, err);
    free(scaled);
    return st;
}

lorafmt_status lk_core_split(const lk_core *core, size_t k, lk_thin *out, lorafmt_error *err)
{
    const size_t n = least(k, core->rank);

    LF_TRY(lk_thin_new(core->left.n_rows, core->right.n_rows, k, out, err));
    LF_TRY(split_side(&core->left, core, core->u, false, n, out->left, err));
    return split_side(&core->right, core, core->vt, true, n, out->right, err);
}
