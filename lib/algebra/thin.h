/* SPDX-License-Identifier: MIT */
/*
 * A matrix as the product of two thin ones, in f64, and what its singular value decomposition is: two bases and a core whose side
 * is the rank. The matrix itself is never formed.
 */
#ifndef LK_THIN_H
#define LK_THIN_H

#include "lib/algebra/basis.h"
#include "lorafmt/adapter.h"

/* left [n_rows x rank] times the transpose of right [n_cols x rank], column-major. Rows are outputs, as in spec 4.5. */
typedef struct lk_thin {
    size_t n_rows, n_cols, rank;
    double *left, *right;
} lk_thin;

/* Experts of a low-rank site, each with a matrix of its own; 1 for other kinds. */
size_t lk_site_n_experts(const lorafmt_site *site);

/* Outputs and inputs of the logical matrix, of one expert. */
void lk_site_shape(const lorafmt_site *site, size_t *n_rows, size_t *n_cols);

/* The largest rank that the matrix can have: the smaller of the two. */
size_t lk_site_possible_rank(const lorafmt_site *site);

/* Zero, for lk_thin_set(). lk_thin_free() in any case. */
lorafmt_status lk_thin_new(size_t n_rows, size_t n_cols, size_t rank, lk_thin *out, lorafmt_error *err);
void lk_thin_free(lk_thin *thin);

/* Put left_factor B and right_factor A of an expert at [at, at + site->rank) of the rank. CORRUPT when a number is not finite. */
lorafmt_status lk_thin_set(lk_thin *thin, size_t at, const lorafmt_site *site, size_t expert, double left_factor,
                           double right_factor, lorafmt_error *err);

/* Of one site: B A, without its scale. */
lorafmt_status lk_thin_of(const lorafmt_site *site, size_t expert, lk_thin *out, lorafmt_error *err);

/* u and v are within the bases of left and right: thin = (Q_left u) diag(s) (Q_right v)'. */
typedef struct lk_core {
    lk_basis left, right;
    size_t rank; /* singular values, descending: min of the bases' ranks */
    double *s, *u, *vt;
} lk_core;

/* The thin matrix's memory is borrowed, and overwritten. lk_core_free() in any case. */
lorafmt_status lk_core_make(lk_thin *thin, lk_core *out, lorafmt_error *err);
void lk_core_free(lk_core *core);

/* How many singular values are more than what rounding leaves of nothing. */
size_t lk_core_true_rank(const lk_core *core);

/*
 * left [n_rows x k] and right [n_cols x k] with the best approximation of rank k = left right': each gets the root of s. Beyond the
 * core's rank they are zero.
 */
lorafmt_status lk_core_split(const lk_core *core, size_t k, lk_thin *out, lorafmt_error *err);

#endif
