/* SPDX-License-Identifier: MIT */
/* Which tensors of a base a new adapter is for. The rules are told in lorakit/init.h. */
#ifndef LK_TARGET_H
#define LK_TARGET_H

#include "lorakit/init.h"

/* A matrix of the base, as spec 4.4 sees it: of an embedding, the outputs are what a row holds and the inputs are the rows. */
typedef struct lk_target {
    const lorafmt_base_tensor *tensor;
    size_t index; /* of it in the base */
    lorafmt_kind kind;
    uint8_t orientation; /* lorafmt_orientation */
    uint64_t n_out, n_in;
} lk_target;

/* Options and base checked. An array of n > 0 targets in the order of the base, to be given to free(); NULL on failure. */
lorafmt_status lk_targets_find(const lorafmt_base *base, const lorakit_init_options *options, lk_target **out, size_t *n,
                               lorafmt_error *err);

#endif
