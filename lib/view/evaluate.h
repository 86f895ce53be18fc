/* SPDX-License-Identifier: MIT */
#ifndef LF_VIEW_EVALUATE_H
#define LF_VIEW_EVALUATE_H

#include "lib/view/view.h"

/* Part of a tensor: some rows whole, or a part of one. */
typedef struct lf_region {
    uint64_t row, n_rows;
    size_t col, n_cols;
} lf_region;

/* lorafmt_view_evaluate() and, with change, lorafmt_view_measure() of a region; src and dst are its first element. */
lorafmt_status lf_view_evaluate(const lorafmt_view *view, size_t tensor, const lf_region *region, const lorafmt_rows *rows,
                                lf_tally *tally, lorafmt_change *change, lorafmt_error *err);

#endif
