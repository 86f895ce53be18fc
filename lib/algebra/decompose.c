/* SPDX-License-Identifier: MIT */
#include "lib/algebra/decompose.h"

#include "format/base/error.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/rank.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

lorafmt_status lk_decompose_exact(double *d, size_t n_rows, size_t n_cols, lk_decomposition *out, lorafmt_error *err)
{
    const size_t n = smaller(n_rows, n_cols);

    *out = (lk_decomposition){.n_rows = n_rows, .n_cols = n_cols, .n = n, .exact = true};
    if (n > LK_EXACT_MOST)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL,
                       "all singular values of a %zu x %zu matrix, whose smaller side must be at most %d", n_rows, n_cols,
                       LK_EXACT_MOST);
    out->s = lk_matrix_new(n + 1, 1);
    out->u = lk_matrix_new(n_cols, n);
    out->vt = lk_matrix_new(n, n_rows);
    if (!out->s || !out->u || !out->vt)
        return lf_no_memory(err);
    return lk_svd(d, n_cols, n_rows, out->s, out->u, out->vt, err);
}

lorafmt_status lk_decompose_sketch(const float *d, size_t n_rows, size_t n_cols, const lk_sketch_options *options,
                                   lk_decomposition *out, lorafmt_error *err)
{
    double rest;

    *out = (lk_decomposition){.n_rows = n_rows, .n_cols = n_cols, .n = options->width};
    LF_TRY(lk_sketch(d, n_rows, n_cols, options, &out->thin, &rest, err));
    LF_TRY(lk_core_make(&out->thin, &out->core, err));
    out->s = lk_matrix_new(out->n + 1, 1);
    if (!out->s)
        return lf_no_memory(err);
    memcpy(out->s, out->core.s, out->n * sizeof *out->s);
    out->s[out->n] = rest;
    return LORAFMT_OK;
}

void lk_decomposition_free(lk_decomposition *d)
{
    lk_core_free(&d->core);
    lk_thin_free(&d->thin);
    free(d->s);
    free(d->u);
    free(d->vt);
    *d = (lk_decomposition){0};
}

/* Values above what rounding leaves of nothing: of f64, or of the products in f32. */
static size_t true_rank(const lk_decomposition *d)
{
    const double unit =
        d->exact ? DBL_EPSILON * (double)(d->n_rows > d->n_cols ? d->n_rows : d->n_cols) : 4 * (double)FLT_EPSILON;
    size_t k = 0;

    while (k < d->n && d->s[k] > d->s[0] * unit)
        k++;
    return k;
}

/* What was not sketched is one value more, so that sums are those of the whole; a rule that wants it wants more than there is. */
bool lk_decomposition_rank(const lk_decomposition *d, const lorakit_rank *rule, size_t *out)
{
    *out = lk_rank_choose(rule, d->s, d->n + 1, true_rank(d), smaller(d->n_rows, d->n_cols));
    if (d->exact && *out > d->n)
        *out = d->n;
    return d->exact || *out + LK_OVERSAMPLING <= d->n;
}

double lk_decomposition_left_out(const lk_decomposition *d, size_t k)
{
    return lk_tail(d->s, k, d->n + 1);
}

static lorafmt_status split_exact(const lk_decomposition *d, size_t k, lk_thin *out, lorafmt_error *err)
{
    LF_TRY(lk_thin_new(d->n_rows, d->n_cols, k, out, err));
    for (size_t p = 0; p < k; p++) {
        const double root = sqrt(d->s[p]);
        for (size_t j = 0; j < d->n_cols; j++)
            out->right[p * d->n_cols + j] = root * d->u[p * d->n_cols + j];
        for (size_t i = 0; i < d->n_rows; i++)
            out->left[p * d->n_rows + i] = root * d->vt[i * d->n + p];
    }
    return LORAFMT_OK;
}

lorafmt_status lk_decomposition_split(const lk_decomposition *d, size_t k, lk_thin *out, lorafmt_error *err)
{
    return d->exact ? split_exact(d, k, out, err) : lk_core_split(&d->core, k, out, err);
}
