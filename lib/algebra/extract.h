/* SPDX-License-Identifier: MIT */
/* Parts of extracting: what is to be made of which tensor, and making it. */
#ifndef LK_EXTRACT_H
#define LK_EXTRACT_H

#include "lib/algebra/dense.h"
#include "lib/algebra/result.h"
#include "lib/algebra/work.h"
#include "lorakit/extract.h"

#define LK_NOT_THERE SIZE_MAX

/* A tensor that becomes a site; in_base is LK_NOT_THERE for a new one. */
typedef struct lk_planned {
    lk_pair pair;
    lorakit_outcome outcome;
} lk_planned;

typedef struct lk_extraction {
    const lorafmt_base *base, *tuned;
    const lorakit_extract_options *options;
    unsigned n_threads;
    lorakit_extracted *tensors; /* of tuned */
    size_t n_planned;
    lk_planned *planned; /* in the order of tuned */
    float *d;            /* the difference of a large matrix: of the largest so far, for one after the other */
    size_t d_size;       /* elements */
    lk_meter meter;      /* bytes of both models that are planned */
} lk_extraction;

/*
 * Hold both models against each other and fill planned and the outcome of every tensor, having reported what is refused or left
 * out. planned and d are to be freed in any case.
 */
lorafmt_status lk_extract_plan(lk_extraction *x, lorafmt_error *err);

/* Is it so small that several are worked on at once? */
bool lk_planned_is_small(const lk_extraction *x, const lk_planned *p);

/*
 * Make the site of a planned tensor, with as many threads. Small ones may be made at the same time, others one after the other.
 * Callers hold an lf_fpenv.
 */
lorafmt_status lk_extract_site(lk_extraction *x, const lk_planned *p, unsigned n_threads, lk_made *made, lorafmt_error *err);

#endif
