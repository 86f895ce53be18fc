/* SPDX-License-Identifier: MIT */
#include "lib/algebra/compare_elements.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint64_t load(const uint8_t *p, size_t unit)
{
    uint64_t bits = 0;

    memcpy(&bits, p, unit);
    return bits;
}

/* With a unit that the compiler knows, where this is a loop of loads. */
static inline uint64_t count(const uint8_t *a, const uint8_t *b, size_t unit, size_t n)
{
    uint64_t differing = 0;

    for (size_t i = 0; i < n; i++)
        differing += load(a + i * unit, unit) != load(b + i * unit, unit);
    return differing;
}

uint64_t lk_count_differing(const void *a, const void *b, size_t unit, size_t n)
{
    if (!memcmp(a, b, n * unit))
        return 0;
    return unit == 1 ? count(a, b, 1, n) : unit == 2 ? count(a, b, 2, n) : unit == 4 ? count(a, b, 4, n) : count(a, b, 8, n);
}

/* Of n finite elements, with nothing to ask of each. When some are not, or are too large: false, and nothing is added. */
static bool add_finite(lk_element_sums *s, const double *x, const double *y, size_t n)
{
    double xx = 0, yy = 0, dd = 0, xy = 0, most = 0;
    uint64_t n_differing = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = x[i] - y[i], size = fabs(d);
        n_differing += x[i] != y[i];
        xx += x[i] * x[i];
        yy += y[i] * y[i];
        dd += d * d;
        xy += x[i] * y[i];
        most = size > most ? size : most;
    }
    if (!isfinite(xx) || !isfinite(yy))
        return false;
    s->n_differing += n_differing;
    s->x += xx;
    s->y += yy;
    s->difference += dd;
    s->dot += xy;
    s->max_difference = fmax(s->max_difference, most);
    return true;
}

static void add_any(lk_element_sums *s, const double *x, const double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double a = x[i], b = y[i], d = a - b;
        s->n_differing += a != b && !(isnan(a) && isnan(b));
        s->n_nan_x += isnan(a) != 0;
        s->n_inf_x += isinf(a) != 0;
        s->n_nan_y += isnan(b) != 0;
        s->n_inf_y += isinf(b) != 0;
        if (!isfinite(a) || !isfinite(b))
            continue;
        s->x += a * a;
        s->y += b * b;
        s->difference += d * d;
        s->dot += a * b;
        s->max_difference = fmax(s->max_difference, fabs(d));
    }
}

void lk_element_sums_add(lk_element_sums *s, const double *x, const double *y, size_t n)
{
    if (!add_finite(s, x, y, n))
        add_any(s, x, y, n);
}
