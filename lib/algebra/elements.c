/* SPDX-License-Identifier: MIT */
#include "lib/algebra/elements.h"

#include "format/base/error.h"
#include "lib/algebra/numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512 // elements that are rounded at once

static void swap(double *a, double *b)
{
    const double t = *a;

    *a = *b;
    *b = t;
}

/* The element that would be at place k if x [n] were in descending order. Quickselect, with the middle of three as pivot. */
static double select_descending(double *x, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        size_t i = low, j = high;
        double pivot;
        if (x[middle] > x[low])
            swap(&x[middle], &x[low]);
        if (x[high] > x[low])
            swap(&x[high], &x[low]);
        if (x[high] > x[middle])
            swap(&x[high], &x[middle]);
        pivot = x[middle];
        while (i <= j) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i > j)
                break;
            swap(&x[i++], &x[j]);
            if (j == 0)
                break;
            j--;
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return x[k];
}

/* Of equal magnitudes at the threshold the first ones are kept. */
static lorafmt_status keep_largest(double *x, size_t n, double density, lorafmt_error *err)
{
    const size_t k = (size_t)(density * (double)n);
    double *magnitudes, threshold;
    size_t n_above = 0;

    if (k >= n)
        return LORAFMT_OK;
    if (k == 0) {
        memset(x, 0, n * sizeof *x);
        return LORAFMT_OK;
    }
    if (!(magnitudes = malloc(n * sizeof *magnitudes)))
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        magnitudes[i] = fabs(x[i]);
    threshold = select_descending(magnitudes, n, k - 1);
    free(magnitudes);
    for (size_t i = 0; i < n; i++)
        n_above += fabs(x[i]) > threshold;
    for (size_t i = 0; i < n; i++) {
        const bool at = fabs(x[i]) == threshold;
        if (fabs(x[i]) < threshold || (at && n_above >= k))
            x[i] = 0;
        n_above += at;
    }
    return LORAFMT_OK;
}

static void keep_drawn(double *x, size_t n, double density, const uint8_t *kept)
{
    for (size_t i = 0; i < n; i++)
        x[i] = kept[i] ? x[i] / density : 0;
}

/* The sign that an element of all terms has on the whole, before weights; nothing counts as plus. */
static bool is_minus(const lk_elements *how, double *const *x, size_t n_terms, size_t i)
{
    double sum = 0;

    for (size_t t = 0; t < n_terms; t++)
        sum += how->by_frequency ? (x[t][i] > 0) - (x[t][i] < 0) : x[t][i];
    return sum < 0;
}

static double elected(const lk_elements *how, double *const *x, const double *weights, size_t n_terms, size_t i)
{
    const bool minus = is_minus(how, x, n_terms, i);
    double sum = 0;
    size_t n = 0;

    for (size_t t = 0; t < n_terms; t++)
        if (minus ? x[t][i] < 0 : x[t][i] > 0) {
            sum += weights[t] * x[t][i];
            n++;
        }
    return n ? sum / (double)n : 0;
}

static double weighted(double *const *x, const double *weights, size_t n_terms, size_t i)
{
    double sum = 0;

    for (size_t t = 0; t < n_terms; t++)
        sum += weights[t] * x[t][i];
    return sum;
}

static void round_all(lorafmt_dtype dtype, double *x, size_t n)
{
    uint8_t rounded[BLOCK * sizeof(double)];

    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t m = n - i < BLOCK ? n - i : BLOCK;
        lk_narrow(dtype, x + i, rounded, m);
        lk_widen(dtype, rounded, x + i, m);
    }
}

lorafmt_status lk_combine(const lk_elements *how, double *const *x, const double *weights, size_t n_terms, size_t n,
                          const uint8_t *const *kept, double *out, lorafmt_error *err)
{
    for (size_t t = 0; t < n_terms; t++) {
        if (how->rounded)
            round_all(how->rounded, x[t], n);
        if (how->sparsity == LK_LARGEST)
            LF_TRY(keep_largest(x[t], n, how->density, err));
        else if (how->sparsity == LK_DRAWN && how->density < 1)
            keep_drawn(x[t], n, how->density, kept[t]);
        if (how->rounded && how->sparsity == LK_DRAWN)
            round_all(how->rounded, x[t], n);
    }
    for (size_t i = 0; i < n; i++)
        out[i] = how->elect ? elected(how, x, weights, n_terms, i) : weighted(x, weights, n_terms, i);
    return LORAFMT_OK;
}

lorafmt_status lk_quantile(const double *x, size_t n_x, const double *y, size_t n_y, double q, double *out, lorafmt_error *err)
{
    const size_t n = n_x + n_y;
    const double at = q * (double)(n - 1);
    const size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    double *all = malloc(n * sizeof *all), below;

    if (!all)
        return lf_no_memory(err);
    memcpy(all, x, n_x * sizeof *x);
    memcpy(all + n_x, y, n_y * sizeof *y);
    below = select_descending(all, n, n - 1 - low);
    *out = below + (at - (double)low) * (select_descending(all, n, n - 1 - high) - below);
    free(all);
    return LORAFMT_OK;
}
