/* SPDX-License-Identifier: MIT */
/* Sites that are tensors of their own: replaced ones and rows as they are, what is added with its scale. */
#include "lib/algebra/diff.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/compare_elements.h"
#include "lib/algebra/numbers.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Elements that are widened at once. */
#define TILE 512

static const lorafmt_tensor *value_of(const lk_side *side, size_t i)
{
    return &lorafmt_site_factor(side->parts[i].site, LORAFMT_ROLE_VALUE)->tensor;
}

/* Elements [at, at + n) of all that a side adds up, or of the one tensor that it puts there. */
static void widen(const lk_side *side, uint64_t at, double *out, size_t n)
{
    double one[TILE];

    memset(out, 0, n * sizeof *out);
    for (size_t i = 0; i < side->n; i++) {
        const lorafmt_tensor *t = value_of(side, i);
        const double factor = lk_part_factor(&side->parts[i]);
        lk_widen(t->dtype, (const uint8_t *)t->data + at * (lorafmt_dtype_bits(t->dtype) / 8), one, n);
        for (size_t k = 0; k < n; k++)
            out[k] += factor * one[k];
    }
}

/* Of x and y, or of x and zeros. */
static lk_element_sums sum_up(const lk_side *x, const lk_side *y, uint64_t n_elements)
{
    double wide_x[TILE], wide_y[TILE] = {0};
    lk_element_sums sums = {0};

    for (uint64_t at = 0; at < n_elements; at += TILE) {
        const size_t n = n_elements - at < TILE ? (size_t)(n_elements - at) : TILE;
        widen(x, at, wide_x, n);
        if (y)
            widen(y, at, wide_y, n);
        lk_element_sums_add(&sums, wide_x, wide_y, n);
    }
    return sums;
}

static bool is_real(const lk_side *side)
{
    for (size_t i = 0; i < side->n; i++)
        if (!lf_dtype_is_real(value_of(side, i)->dtype))
            return false;
    return true;
}

static lorafmt_status check_finite(const lk_side *side, lorafmt_error *err)
{
    for (size_t i = 0; i < side->n; i++)
        if (lf_count_nonfinite(value_of(side, i)))
            return lk_part_failure(&side->parts[i],
                                   lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, side->parts[i].site->target,
                                           "the value has a number that is NaN or infinite: lorapack inspect says where"),
                                   err);
    return LORAFMT_OK;
}

/* The sum over all elements of (u factor x)^2, as of factors; square is that without u, of all of them added up. */
static double rounding_square(const lk_side *side, double square)
{
    double sum = 0;

    for (size_t i = 0; i < side->n; i++) {
        const lk_side one = {&side->parts[i], 1};
        const lorafmt_tensor *t = value_of(side, i);
        const double u = lk_roundoff(t->dtype) + DBL_EPSILON * (double)side->n;
        sum += u * u * (side->n == 1 ? square : sum_up(&one, NULL, t->size / (lorafmt_dtype_bits(t->dtype) / 8)).x);
    }
    return sum;
}

/* Bits, where both are one tensor of one dtype; else numbers are what is counted. */
static void compare_bits(lk_site_diff *d)
{
    const lorafmt_tensor *x = value_of(&d->x, 0), *y = value_of(&d->y, 0);
    const size_t unit = lorafmt_dtype_bits(x->dtype) >= 8 ? lorafmt_dtype_bits(x->dtype) / 8 : 1;

    d->is.n_elements = x->size / unit;
    if (d->x.n == 1 && d->y.n == 1 && x->dtype == y->dtype)
        d->is.n_differing = lk_count_differing(x->data, y->data, unit, (size_t)d->is.n_elements);
}

static void compare_numbers(lk_site_diff *d)
{
    lorakit_site_diff *is = &d->is;
    const lk_element_sums sums = sum_up(&d->x, &d->y, is->n_elements);

    if (d->x.n != 1 || d->y.n != 1 || value_of(&d->x, 0)->dtype != value_of(&d->y, 0)->dtype)
        is->n_differing = sums.n_differing;
    is->norm_x = sqrt(sums.x);
    is->norm_y = sqrt(sums.y);
    is->norm_difference = sqrt(sums.difference);
    is->rounding = sqrt(rounding_square(&d->x, sums.x) + rounding_square(&d->y, sums.y));
    d->dot = sums.dot;
    if (is->norm_x > 0 && is->norm_y > 0)
        is->cosine = fmax(-1, fmin(1, d->dot / is->norm_x / is->norm_y));
}

static double norm_of(const lk_side *side)
{
    const lorafmt_tensor *t = side->n ? value_of(side, 0) : NULL;

    return t && is_real(side) ? sqrt(sum_up(side, NULL, t->size / (lorafmt_dtype_bits(t->dtype) / 8)).x) : NAN;
}

lorafmt_status lk_diff_whole(lk_site_diff *d, lorafmt_error *err)
{
    lorakit_site_diff *is = &d->is;

    if (is_real(&d->x))
        LF_TRY(check_finite(&d->x, err));
    if (is_real(&d->y))
        LF_TRY(check_finite(&d->y, err));
    if (is->state == LORAKIT_DIFF_NOT_COMPARED || is->state == LORAKIT_DIFF_OTHER_DTYPE)
        return LORAFMT_OK;
    if (is->state != LORAKIT_DIFF_COMPARED) {
        is->norm_x = norm_of(&d->x);
        is->norm_y = norm_of(&d->y);
        return LORAFMT_OK;
    }
    compare_bits(d);
    if (is_real(&d->x) && is_real(&d->y))
        compare_numbers(d);
    if (lk_same_bytes(d))
        is->same = LORAKIT_SAME_BYTES;
    else if (is->norm_difference <= is->rounding) // false when there are none
        is->same = LORAKIT_SAME_FUNCTION;
    return LORAFMT_OK;
}
