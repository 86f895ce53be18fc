/* SPDX-License-Identifier: MIT */
/* Two runs of elements beside each other. Callers hold an lf_fpenv. */
#ifndef LK_COMPARE_ELEMENTS_H
#define LK_COMPARE_ELEMENTS_H

#include <stddef.h>
#include <stdint.h>

/* Of n elements of 1, 2, 4 or 8 bytes, those whose bits differ. */
uint64_t lk_count_differing(const void *a, const void *b, size_t unit, size_t n);

/* Sums over elements in f64, of two runs of numbers. */
typedef struct lk_element_sums {
    uint64_t n_differing;         /* as numbers; NaN equals NaN */
    double x, y, difference, dot; /* squares, and products, over those that are finite in both */
    double max_difference;
    uint64_t n_nan_x, n_inf_x, n_nan_y, n_inf_y;
} lk_element_sums;

/* Add n elements. */
void lk_element_sums_add(lk_element_sums *sums, const double *x, const double *y, size_t n);

#endif
