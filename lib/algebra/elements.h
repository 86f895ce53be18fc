/* SPDX-License-Identifier: MIT */
/* Combining matrices of one shape element by element: magnitude pruning, DARE, TIES. */
#ifndef LK_ELEMENTS_H
#define LK_ELEMENTS_H

#include "lorafmt/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lk_sparsity {
    LK_DENSE,
    LK_LARGEST, /* keep the largest magnitudes */
    LK_DRAWN,   /* keep what is marked, and divide it by the density */
} lk_sparsity;

/* What is done to each matrix, and how they become one. */
typedef struct lk_elements {
    lk_sparsity sparsity;
    double density; /* (0, 1] */
    bool elect;     /* of each element only those of the elected sign, divided by how many they are */
    bool by_frequency;
    lorafmt_dtype rounded; /* matrices are rounded to it before and after they are made sparse; 0 = not */
} lk_elements;

/*
 * out [n] = all of x [n_terms][n], which are overwritten, with their weights. kept [n_terms][n] are the marks of LK_DRAWN, else NULL.
 * out may be x[0].
 */
lorafmt_status lk_combine(const lk_elements *how, double *const *x, const double *weights, size_t n_terms, size_t n,
                          const uint8_t *const *kept, double *out, lorafmt_error *err);

/*
 * The value that a share q of x [n_x] and y [n_y] together are below, between two neighbours on the line through them; n_x + n_y > 0.
 */
lorafmt_status lk_quantile(const double *x, size_t n_x, const double *y, size_t n_y, double q, double *out, lorafmt_error *err);

#endif
