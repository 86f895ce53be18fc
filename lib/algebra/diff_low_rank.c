/* SPDX-License-Identifier: MIT */
/*
 * dX = U_x diag(s_x) V_x' and dY alike: with C = U_x' U_y and D = V_x' V_y, whose singular values are the cosines of the
 * principal angles, <dX, dY> is the sum over i, j of s_x[i] s_y[j] C[i, j] D[i, j].
 */
#include "lib/algebra/diff.h"

#include "format/base/error.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/compare_elements.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/numbers.h"
#include "lib/algebra/rank.h"
#include "lib/algebra/thin.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One expert, or the only matrix, of one side. */
typedef struct half {
    lk_thin thin;
    lk_core core;
    size_t rank;   /* true one */
    double *u, *v; /* directions, `rank` of each */
} half;

static void half_free(half *h)
{
    lk_core_free(&h->core);
    lk_thin_free(&h->thin);
    free(h->u);
    free(h->v);
}

static size_t side_rank(const lk_side *side)
{
    size_t rank = 0;

    for (size_t i = 0; i < side->n; i++)
        rank += side->parts[i].site->rank;
    return rank;
}

/* The sum of a side's updates, scales among it. */
static lorafmt_status gather(const lk_side *side, size_t expert, lk_thin *out, lorafmt_error *err)
{
    size_t n_rows, n_cols, at = 0;

    lk_site_shape(side->parts[0].site, &n_rows, &n_cols);
    LF_TRY(lk_thin_new(n_rows, n_cols, side_rank(side), out, err));
    for (size_t i = 0; i < side->n; i++) {
        const lk_part *part = &side->parts[i];
        const lorafmt_status st = lk_thin_set(out, at, part->site, expert, lk_part_factor(part), 1, err);
        if (st)
            return lk_part_failure(part, st, err);
        at += part->site->rank;
    }
    return LORAFMT_OK;
}

static double square_of(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* --- the difference --- */

double lk_roundoff(lorafmt_dtype dtype)
{
    switch (dtype) {
    case LORAFMT_F64:
        return 0x1p-53;
    case LORAFMT_F32:
        return 0x1p-24;
    case LORAFMT_F16:
        return 0x1p-11;
    default:
        return 0x1p-8; // BF16
    }
}

/* Square of what rounding the factors once may do. */
static double rounding_square(const lk_side *side, const lk_thin *thin)
{
    double sum = 0;
    size_t at = 0;

    for (size_t i = 0; i < side->n; i++) {
        const lorafmt_site *site = side->parts[i].site;
        const double a = lk_roundoff(lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor.dtype),
                     b = lk_roundoff(lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor.dtype);
        for (size_t p = 0; p < site->rank; p++, at++)
            sum += (a * a + b * b) * square_of(thin->left + at * thin->n_rows, thin->n_rows) *
                   square_of(thin->right + at * thin->n_cols, thin->n_cols);
    }
    return sum;
}

static void subtract(double *x, const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (a ? a[i] : 0) - b[i];
}

/*
 * X - Y as a product. Of equal ranks it is (L_x - L_y) R_x' + L_y (R_x - R_y)', so that factors that are nearly equal are
 * subtracted before anything is multiplied, and equal ones give 0; else L_x R_x' - L_y R_y'.
 */
static lorafmt_status set_difference(const lk_thin *x, const lk_thin *y, lk_thin *out, lorafmt_error *err)
{
    const size_t n_left = x->n_rows * x->rank, n_right = x->n_cols * x->rank;
    const bool aligned = x->rank == y->rank;

    LF_TRY(lk_thin_new(x->n_rows, x->n_cols, x->rank + y->rank, out, err));
    memcpy(out->right, x->right, n_right * sizeof *x->right);
    if (aligned) {
        subtract(out->left, x->left, y->left, n_left);
        memcpy(out->left + n_left, y->left, n_left * sizeof *y->left);
        subtract(out->right + n_right, x->right, y->right, n_right);
    } else {
        memcpy(out->left, x->left, n_left * sizeof *x->left);
        subtract(out->left + n_left, NULL, y->left, y->n_rows * y->rank);
        memcpy(out->right + n_right, y->right, y->n_cols * y->rank * sizeof *y->right);
    }
    return LORAFMT_OK;
}

/* The norm of a thin matrix, which is overwritten, and in *least what f64 may leave of nothing. */
static lorafmt_status thin_norm(lk_thin *thin, double *norm, double *least, lorafmt_error *err)
{
    lk_basis l = {0}, r = {0};
    double *middle = NULL;
    lorafmt_status st = lk_basis_make(thin->left, thin->n_rows, thin->rank, &l, err);

    if (!st)
        st = lk_basis_make(thin->right, thin->n_cols, thin->rank, &r, err);
    if (!st && !(middle = lk_matrix_new(l.rank, r.rank)))
        st = lf_no_memory(err);
    if (!st) {
        lk_multiply(LK_PLAIN, LK_TRANSPOSED, l.rank, r.rank, thin->rank, 1, l.r, l.rank, r.r, r.rank, 0, middle, l.rank);
        *norm = sqrt(square_of(middle, l.rank * r.rank));
        *least = sqrt(square_of(l.r, l.rank * thin->rank)) * sqrt(square_of(r.r, r.rank * thin->rank)) * DBL_EPSILON *
                 (double)(thin->rank + 8);
    }
    free(middle);
    lk_basis_free(&l);
    lk_basis_free(&r);
    return st;
}

static lorafmt_status add_difference(lk_site_diff *d, const lk_thin *x, const lk_thin *y, lorafmt_error *err)
{
    lk_thin thin = {0};
    double norm = 0, least = 0;
    lorafmt_status st = set_difference(x, y, &thin, err);

    if (!st)
        st = thin_norm(&thin, &norm, &least, err);
    lk_thin_free(&thin);
    d->is.norm_difference = hypot(d->is.norm_difference, norm);
    d->is.rounding = hypot(d->is.rounding, sqrt(rounding_square(&d->x, x) + rounding_square(&d->y, y)) + least);
    return st;
}

/* --- one side --- */

/* v [k columns] = Q times the first k rows of vt. */
static lorafmt_status right_directions(const lk_core *core, size_t k, double *out, lorafmt_error *err)
{
    const size_t n = core->right.rank;
    double *v = lk_matrix_new(n, k);
    lorafmt_status st;

    if (!v)
        return lf_no_memory(err);
    for (size_t j = 0; j < k; j++)
        for (size_t i = 0; i < n; i++)
            v[j * n + i] = core->vt[i * core->rank + j];
    st = lk_basis_apply(&core->right, v, k, out, err);
    free(v);
    return st;
}

static lorafmt_status directions(half *h, lorafmt_error *err)
{
    h->u = lk_matrix_new(h->thin.n_rows, h->rank);
    h->v = lk_matrix_new(h->thin.n_cols, h->rank);
    if (!h->u || !h->v)
        return lf_no_memory(err);
    LF_TRY(lk_basis_apply(&h->core.left, h->core.u, h->rank, h->u, err));
    return right_directions(&h->core, h->rank, h->v, err);
}

/* What one side alone is. The thin matrix is overwritten. */
static lorafmt_status measure(half *h, size_t n_experts, double *norm, size_t *true_rank, double *effective_rank,
                              lorafmt_error *err)
{
    LF_TRY(lk_core_make(&h->thin, &h->core, err));
    h->rank = lk_core_true_rank(&h->core);
    *norm = hypot(*norm, lk_tail(h->core.s, 0, h->core.rank));
    *true_rank = h->rank > *true_rank ? h->rank : *true_rank;
    *effective_rank += lk_effective_rank(h->core.s, h->core.rank) / (double)n_experts;
    return LORAFMT_OK;
}

/* --- both --- */

/* out [min(m, n)] = the singular values of c [m x n], which is overwritten. */
static lorafmt_status cosines_of(double *c, size_t m, size_t n, double *out, lorafmt_error *err)
{
    const size_t k = m < n ? m : n;
    double *u = lk_matrix_new(m, k), *vt = lk_matrix_new(k, n);
    lorafmt_status st = u && vt ? lk_svd(c, m, n, out, u, vt, err) : lf_no_memory(err);

    free(u);
    free(vt);
    for (size_t i = 0; !st && i < k; i++)
        out[i] = out[i] > 1 ? 1 : out[i];
    return st;
}

static void add_dot(lk_site_diff *d, const half *x, const half *y, const double *c, const double *e)
{
    for (size_t j = 0; j < y->rank; j++)
        for (size_t i = 0; i < x->rank; i++)
            d->dot += x->core.s[i] * y->core.s[j] * c[j * x->rank + i] * e[j * x->rank + i];
}

static lorafmt_status add_angles(lk_site_diff *d, half *x, half *y, lorafmt_error *err)
{
    const size_t m = x->rank, n = y->rank, k = m < n ? m : n;
    double *columns, *rows;
    lorafmt_status st;

    if (k == 0)
        return LORAFMT_OK;
    LF_TRY(directions(x, err));
    LF_TRY(directions(y, err));
    columns = lk_matrix_new(m, n);
    rows = lk_matrix_new(m, n);
    st = columns && rows ? LORAFMT_OK : lf_no_memory(err);
    if (!st) {
        lk_multiply(LK_TRANSPOSED, LK_PLAIN, m, n, x->thin.n_rows, 1, x->u, x->thin.n_rows, y->u, x->thin.n_rows, 0, columns, m);
        lk_multiply(LK_TRANSPOSED, LK_PLAIN, m, n, x->thin.n_cols, 1, x->v, x->thin.n_cols, y->v, x->thin.n_cols, 0, rows, m);
        add_dot(d, x, y, columns, rows);
        st = cosines_of(columns, m, n, d->cosines[0] + d->is.n_angles, err);
    }
    if (!st)
        st = cosines_of(rows, m, n, d->cosines[1] + d->is.n_angles, err);
    d->is.n_angles += st ? 0 : k;
    free(columns);
    free(rows);
    return st;
}

static lorafmt_status compare_expert(lk_site_diff *d, size_t e, size_t n_x, size_t n_y, half *x, half *y, lorafmt_error *err)
{
    lorakit_site_diff *is = &d->is;

    if (e < n_x)
        LF_TRY(gather(&d->x, e, &x->thin, err));
    if (e < n_y)
        LF_TRY(gather(&d->y, e, &y->thin, err));
    if (is->state == LORAKIT_DIFF_COMPARED)
        LF_TRY(add_difference(d, &x->thin, &y->thin, err));
    if (e < n_x)
        LF_TRY(measure(x, n_x, &is->norm_x, &is->true_rank_x, &is->effective_rank_x, err));
    if (e < n_y)
        LF_TRY(measure(y, n_y, &is->norm_y, &is->true_rank_y, &is->effective_rank_y, err));
    return is->state == LORAKIT_DIFF_COMPARED ? add_angles(d, x, y, err) : LORAFMT_OK;
}

static int descending(const void *a_, const void *b_)
{
    const double a = *(const double *)a_, b = *(const double *)b_;

    return (a < b) - (a > b);
}

static void finish(lk_site_diff *d)
{
    lorakit_site_diff *is = &d->is;
    const size_t n = is->n_angles;

    for (int i = 0; i < 2 && n; i++)
        qsort(d->cosines[i], n, sizeof **d->cosines, descending);
    is->column_cosines = n ? d->cosines[0] : NULL;
    is->row_cosines = n ? d->cosines[1] : NULL;
    is->column_overlap = n ? square_of(d->cosines[0], n) / (double)n : NAN;
    is->row_overlap = n ? square_of(d->cosines[1], n) / (double)n : NAN;
    if (is->norm_x > 0 && is->norm_y > 0)
        is->cosine = fmax(-1, fmin(1, d->dot / is->norm_x / is->norm_y));
}

/* --- DoRA --- */

static const lorafmt_tensor *magnitude_of(const lk_side *side)
{
    const lorafmt_factor *found = NULL;

    for (size_t i = 0; i < side->n; i++) {
        const lorafmt_factor *m = lorafmt_site_factor(side->parts[i].site, LORAFMT_ROLE_MAGNITUDE);
        found = m ? m : found;
    }
    return found ? &found->tensor : NULL;
}

static uint64_t n_elements(const lorafmt_tensor *t)
{
    return t->size / (lorafmt_dtype_bits(t->dtype) / 8);
}

static lorafmt_status compare_magnitudes(lk_site_diff *d, const lorafmt_tensor *x, const lorafmt_tensor *y, lorafmt_error *err)
{
    const size_t n = (size_t)n_elements(x);
    double *wide = lk_matrix_new(n, 2);
    lk_element_sums sums = {0};

    if (!wide)
        return lf_no_memory(err);
    lk_widen(x->dtype, x->data, wide, n);
    lk_widen(y->dtype, y->data, wide + n, n);
    lk_element_sums_add(&sums, wide, wide + n, n);
    free(wide);
    if (sums.n_nan_x + sums.n_inf_x + sums.n_nan_y + sums.n_inf_y)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, d->is.target,
                       "the magnitude has a number that is NaN or infinite: lorapack inspect says where");
    d->is.magnitude_difference = sums.difference > 0 ? sqrt(sums.difference / fmax(sums.x, sums.y)) : 0;
    return LORAFMT_OK;
}

/* Sums of several DoRA updates have no magnitude of their own. */
static lorafmt_status look_at_magnitudes(lk_site_diff *d, bool *same, lorafmt_error *err)
{
    const lorafmt_tensor *x = magnitude_of(&d->x), *y = magnitude_of(&d->y);

    d->is.has_magnitude_x = x != NULL;
    d->is.has_magnitude_y = y != NULL;
    *same = !x && !y;
    if (!x || !y || d->x.n > 1 || d->y.n > 1 || d->is.state != LORAKIT_DIFF_COMPARED || n_elements(x) != n_elements(y))
        return LORAFMT_OK;
    LF_TRY(compare_magnitudes(d, x, y, err));
    *same = d->is.magnitude_difference <= lk_roundoff(x->dtype) + lk_roundoff(y->dtype);
    return LORAFMT_OK;
}

static lorafmt_status prepare(lk_site_diff *d, size_t n_experts, lorafmt_error *err)
{
    lorakit_site_diff *is = &d->is;

    is->rank_x = side_rank(&d->x);
    is->rank_y = side_rank(&d->y);
    is->norm_x = is->effective_rank_x = d->x.n ? 0 : NAN;
    is->norm_y = is->effective_rank_y = d->y.n ? 0 : NAN;
    if (is->state != LORAKIT_DIFF_COMPARED)
        return LORAFMT_OK;
    is->norm_difference = is->rounding = 0;
    for (int i = 0; i < 2; i++)
        if (!(d->cosines[i] = lk_matrix_new(n_experts, (size_t)(is->rank_x < is->rank_y ? is->rank_x : is->rank_y))))
            return lf_no_memory(err);
    return LORAFMT_OK;
}

lorafmt_status lk_diff_low_rank(lk_site_diff *d, lorafmt_error *err)
{
    const size_t n_x = d->x.n ? lk_site_n_experts(d->x.parts[0].site) : 0,
                 n_y = d->y.n ? lk_site_n_experts(d->y.parts[0].site) : 0;
    bool same_magnitude = false;

    LF_TRY(prepare(d, n_x, err));
    LF_TRY(look_at_magnitudes(d, &same_magnitude, err));
    for (size_t e = 0; e < n_x || e < n_y; e++) {
        half x = {0}, y = {0};
        const lorafmt_status st = compare_expert(d, e, n_x, n_y, &x, &y, err);
        half_free(&x);
        half_free(&y);
        LF_TRY(st);
    }
    finish(d);
    if (d->is.state == LORAKIT_DIFF_COMPARED && lk_same_bytes(d))
        d->is.same = LORAKIT_SAME_BYTES;
    else if (d->is.state == LORAKIT_DIFF_COMPARED && same_magnitude && d->is.norm_difference <= d->is.rounding)
        d->is.same = LORAKIT_SAME_FUNCTION;
    return LORAFMT_OK;
}
