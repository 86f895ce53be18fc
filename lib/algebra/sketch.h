/* SPDX-License-Identifier: MIT */
/*
 * The large singular values of a large matrix: randomized subspace iteration (Halko, Martinsson and Tropp 2011, arXiv:0909.4061,
 * algorithms 4.4 and 5.1). The matrix is in f32 and only multiplied with; thin matrices are made orthonormal in f64.
 */
#ifndef LK_SKETCH_H
#define LK_SKETCH_H

#include "lib/algebra/thin.h"
#include "lib/algebra/work.h"

/*
 * Values that are sketched beyond those that are wanted, and powers of D D'. Measured by bench_extract on a planted rank 64 in
 * noise: see there. Two powers find its subspace within 1.01 of the best, in the Frobenius and in the spectral norm, where the
 * last planted value is twice the first of the noise; with one that holds for the Frobenius norm alone.
 */
#define LK_OVERSAMPLING 10
#define LK_N_POWERS 2

typedef struct lk_sketch_options {
    size_t width; /* columns of the sketch, less than both sides of the matrix */
    unsigned n_powers;
    uint64_t seed;
    unsigned n_threads; /* the result does not depend on it */
    lk_meter *meter;    /* or NULL; gets `share` over the passes */
    uint64_t share;
} lk_sketch_options;

/*
 * d [n_rows x n_cols], row-major and finite, = left right' + rest, left orthonormal.
 *
 * out   of rank width; lk_thin_free() in any case
 * rest  the Frobenius norm of what is not in out, from the elements themselves: good down to rounding of d
 */
lorafmt_status lk_sketch(const float *d, size_t n_rows, size_t n_cols, const lk_sketch_options *options, lk_thin *out,
                         double *rest, lorafmt_error *err);

/* n numbers of a standard normal distribution; number i depends on seed and i alone. first is even. */
void lk_gaussian(uint64_t seed, uint64_t first, float *out, size_t n);

#endif
