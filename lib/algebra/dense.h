/* SPDX-License-Identifier: MIT */
/* The difference of a tensor in two models, element by element, from the widened values. */
#ifndef LK_DENSE_H
#define LK_DENSE_H

#include "lorafmt/view.h"

#include <stdbool.h>

/* A tensor of the same shape in two models, and its place in each. */
typedef struct lk_pair {
    const lorafmt_base *base, *tuned;
    size_t in_base, in_tuned;
} lk_pair;

uint64_t lk_pair_n_elements(const lk_pair *pair);

/* Both F32, F16, BF16 or F64? */
bool lk_pair_is_real(const lk_pair *pair);

/* Is any element another number (or, of dtypes that are not real, another pattern of bits)? A NaN is another one than any. */
lorafmt_status lk_pair_differs(const lk_pair *pair, bool *out, lorafmt_error *err);

/*
 * Elements of tuned - base, in f64, which holds the difference of any two F16 exactly, and all but always of two BF16 or F32.
 * CORRUPT when one is NaN or infinite, saying which.
 *
 * dst     n_elements, row-major
 * square  the sum of their squares
 */
lorafmt_status lk_pair_subtract(const lk_pair *pair, unsigned n_threads, double *dst, double *square, lorafmt_error *err);

/* The same, each rounded once to f32; LIMIT when one is too large for it. */
lorafmt_status lk_pair_subtract_f32(const lk_pair *pair, unsigned n_threads, float *dst, double *square, lorafmt_error *err);

#endif
