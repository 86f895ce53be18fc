/* SPDX-License-Identifier: MIT */
#ifndef LF_VIEW_EVALUATE_H
#define LF_VIEW_EVALUATE_H

#include "lib/view/view.h"

/* Part of a tensor: some rows whole, or a part of one. */
typedef struct lf_region {
    uint64_t row, n_rows;
    size_t col, n_cols;
} lf_region;

/*
 * The right factors of a tensor as the kernels read them, kept by who evaluates few rows at a time: of rows [first_row, first_row +
 * n_rows), which are all of the tensor unless it has experts. All zero is none.
 */
typedef struct lf_right {
    uint64_t first_row, n_rows;
    float *panels; /* of all terms, one after the other */
    size_t capacity;
} lf_right;

/* Pack those of the row; n_rows is 0 where that is of no use, needs more than `most` floats, or memory is out. */
void lf_right_pack(const lorafmt_view *view, size_t tensor, uint64_t row, size_t most, lf_right *right);
void lf_right_free(lf_right *right);

/*
 * lorafmt_view_evaluate() and, with change, lorafmt_view_measure() of a region; src and dst are its first element. right may be NULL
 * or none; otherwise it is of all rows of the region, which begins at a multiple of LF_PANEL columns.
 */
lorafmt_status lf_view_evaluate(const lorafmt_view *view, size_t tensor, const lf_region *region, const lorafmt_rows *rows,
                                const lf_right *right, lf_tally *tally, lorafmt_change *change, lorafmt_error *err);

#endif
