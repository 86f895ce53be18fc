/* SPDX-License-Identifier: MIT */
/*
 * Composing, between its files: compose.c sorts out which sites of which terms make up a target, combine.c makes one site of the
 * low-rank ones.
 */
#ifndef LK_COMPOSE_H
#define LK_COMPOSE_H

#include "lib/algebra/elements.h"
#include "lib/algebra/result.h"
#include "lorakit/compose.h"

/* Where the work of a method is done. */
typedef enum lk_way {
    LK_WAY_SUM,     /* factors side by side, reduced */
    LK_WAY_CAT,     /* factors side by side */
    LK_WAY_SVD,     /* the same, approximated */
    LK_WAY_FACTORS, /* A and B apart */
    LK_WAY_DELTAS,  /* B A, element by element, approximated */
} lk_way;

typedef struct lk_method {
    const char *name;
    bool peft;
    lk_way way;
    lk_sparsity sparsity;
    bool elect;
} lk_method;

/* NULL for a number that is no method. */
const lk_method *lk_method_of(lorakit_method method);

/* A site of a term, and the weight that it has there. */
typedef struct lk_piece {
    size_t term;
    const lorafmt_site *site;
    double weight;
} lk_piece;

/* What holds for the whole of a composition. */
typedef struct lk_composition {
    const lorakit_compose_options *options;
    const lk_method *method;
    size_t largest_rank; /* of all terms: the limit where none is given */
    double peft_scale;   /* what PEFT multiplies the result with */
} lk_composition;

/* Low-rank pieces [n], alike in kind and shape, of weights other than 0, become a site. out->target is set. */
lorafmt_status lk_combine_pieces(const lk_composition *c, const lk_piece *pieces, size_t n, lk_made *made, lorakit_composed *out,
                                 lorafmt_error *err);

#endif
