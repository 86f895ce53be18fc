/* SPDX-License-Identifier: MIT */
/* A patch: a few rows and columns of a tensor in its working type, which everything but plain low-rank updates goes through. */
#ifndef LF_VIEW_PATCH_H
#define LF_VIEW_PATCH_H

#include "lib/view/view.h"

/* Columns are whole panels; a patch, and what is added to it, stay in a first- and a second-level cache. */
#define LF_PATCH_ROWS 32
#define LF_PATCH_COLS 64

typedef union lf_acc {
    float f32[LF_PATCH_ROWS][LF_PATCH_COLS];
    double f64[LF_PATCH_ROWS][LF_PATCH_COLS];
} lf_acc;

/* No patch goes over the edge between two experts. */
typedef struct lf_patch {
    uint64_t row;
    size_t n_rows, col, n_cols;
    lf_acc acc;
} lf_patch;

/* Rows of the base, as many as the patch has and from its first row and column on; ignored where none are read. */
typedef struct lf_base_rows {
    const uint8_t *data;
    size_t stride; /* bytes */
    lf_real type;
} lf_base_rows;

/*
 * Elements [first, first + n) of a replacement in the dtype it will have, n <= LF_TILE. Copied when the dtypes are equal, else
 * both are real and each element is rounded once (spec 7.3).
 */
void lf_value_convert(const lorafmt_tensor *value, lorafmt_dtype to, uint64_t first, size_t n, void *dst, lf_tally *tally);

/* Where elements [*first ...) of a row come from when not from the base: a replaced row or the replacement; else NULL. */
const lorafmt_tensor *lf_replacement_of(const lf_plan *plan, uint64_t row, uint64_t *first);

/* Rows from `row` on, at most n, that no edge between two experts parts. */
uint64_t lf_rows_together(const lf_plan *plan, uint64_t row, uint64_t n);

/* The steps of evaluating a patch. */
void lf_patch_start(const lf_plan *plan, const lf_base_rows *base, lf_patch *patch);
void lf_patch_add(const lf_kernels *kernels, const lf_plan *plan, const lf_term *term, lf_patch *patch);
void lf_patch_apply_dora(const lf_plan *plan, const lf_dora *dora, lf_patch *patch);

/* A factor of the expert that `row` belongs to. */
lf_matrix lf_left_of(const lf_term *term, uint64_t row);
lf_matrix lf_right_of(const lf_plan *plan, const lf_term *term, uint64_t row);

#endif
