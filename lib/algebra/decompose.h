/* SPDX-License-Identifier: MIT */
/* The singular values of a matrix that is there element by element: all of them, or the large ones and how much the rest is. */
#ifndef LK_DECOMPOSE_H
#define LK_DECOMPOSE_H

#include "lib/algebra/sketch.h"
#include "lorakit/adapter.h"

/* Of the smaller side, for all values: beyond it LAPACK's int cannot hold the size of its own work space. */
#define LK_EXACT_MOST 20000

typedef struct lk_decomposition {
    size_t n_rows, n_cols, n;
    double *s;      /* [n] descending, and one more: the norm of what they do not have, 0 when they are all */
    bool exact;     /* all of them */
    double *u, *vt; /* then: the transposed matrix is u diag(s) vt */
    lk_thin thin;   /* else: what was sketched */
    lk_core core;
} lk_decomposition;

/* d [n_rows x n_cols], row-major and finite, is overwritten. LIMIT beyond LK_EXACT_MOST. */
lorafmt_status lk_decompose_exact(double *d, size_t n_rows, size_t n_cols, lk_decomposition *out, lorafmt_error *err);

lorafmt_status lk_decompose_sketch(const float *d, size_t n_rows, size_t n_cols, const lk_sketch_options *options,
                                   lk_decomposition *out, lorafmt_error *err);

/* In any case, also of a zeroed one. */
void lk_decomposition_free(lk_decomposition *d);

/* The rank that a rule chooses; false when it may need values that were not sketched well. */
bool lk_decomposition_rank(const lk_decomposition *d, const lorakit_rank *rule, size_t *out);

/* The Frobenius norm of what rank k leaves out. */
double lk_decomposition_left_out(const lk_decomposition *d, size_t k);

/* The best approximation of rank k, at most n, as left right', each with the root of s. lk_thin_free() in any case. */
lorafmt_status lk_decomposition_split(const lk_decomposition *d, size_t k, lk_thin *out, lorafmt_error *err);

#endif
