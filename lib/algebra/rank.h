/* SPDX-License-Identifier: MIT */
/* Choosing ranks from singular values. */
#ifndef LK_RANK_H
#define LK_RANK_H

#include "lorakit/adapter.h"

/* Is it a rule, with a value of its range? */
lorafmt_status lk_rank_check(const lorakit_rank *rule, lorafmt_error *err);

/*
 * At least 1, at most `most` when that is not 0. s [n] descending, of which true_rank are more than rounding errors; n_all is
 * min(out, in) of the matrix, whose other values are 0.
 */
size_t lk_rank_choose(const lorakit_rank *rule, const double *s, size_t n, size_t true_rank, size_t n_all);

/* MISUSE for a fixed rank above `most`, the largest that any matrix can have. */
lorafmt_status lk_rank_check_possible(const lorakit_rank *rule, size_t most, lorafmt_error *err);

/* The root of the sum of squares of s from k on. */
double lk_tail(const double *s, size_t k, size_t n);

/* exp of the entropy of s / sum s; 0 when all of them are. */
double lk_effective_rank(const double *s, size_t n);

#endif
