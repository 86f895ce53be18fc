/* SPDX-License-Identifier: MIT */
/* Sites of two stacks that do the same kind of thing to the same target, and how they are compared. Callers hold an lf_fpenv. */
#ifndef LK_DIFF_H
#define LK_DIFF_H

#include "lorakit/diff.h"

/* A site of a stack. */
typedef struct lk_part {
    const lorafmt_adapter *adapter;
    const lorafmt_site *site;
    double weight;
    bool of_y;
    size_t order; /* in its stack */
} lk_part;

typedef struct lk_side {
    const lk_part *parts;
    size_t n;
} lk_side;

typedef struct lk_site_diff {
    lorakit_site_diff is;
    lk_side x, y;
    double dot;         /* <dX, dY> */
    double *cosines[2]; /* of columns and of rows; is.n_angles of each */
} lk_site_diff;

/* What a low-rank or additive site is multiplied with. */
double lk_part_factor(const lk_part *part);

/* Put the adapter's name before what is wrong with a part. Returns st. */
lorafmt_status lk_part_failure(const lk_part *part, lorafmt_status st, lorafmt_error *err);

/* Do both sides have one site each, with the same factors, bit for bit, and the same scale and weight? */
bool lk_same_bytes(const lk_site_diff *d);

/* Fill what is known of low-rank sites, or of others. One side may be empty. */
lorafmt_status lk_diff_low_rank(lk_site_diff *d, lorafmt_error *err);
lorafmt_status lk_diff_whole(lk_site_diff *d, lorafmt_error *err);

/* The unit roundoff of F64, F32, F16 or BF16. */
double lk_roundoff(lorafmt_dtype dtype);

#endif
