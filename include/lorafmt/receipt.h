/* SPDX-License-Identifier: MIT */
/**
 * The receipt of a merge, as `lorapack merge --receipt` writes it (docs/json.md), read back to be held against a replay: the same
 * merge done again. Any bytes are ordinary input.
 */
#ifndef LORAFMT_RECEIPT_H
#define LORAFMT_RECEIPT_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Immutable; usable by many threads. */
typedef struct lorafmt_receipt lorafmt_receipt;

/** What a replay must know before it starts: how adapters were read and bound. All is borrowed from the receipt. */
typedef struct lorafmt_receipt_options {
    bool dry_run;     /**< nothing was written, so nothing can be compared */
    bool has_digests; /**< of all tensors of the output */

    /* The options of the command line, in its words. */
    size_t n_map;
    const char *const *map;  /**< OLD=NEW */
    const char *orientation; /**< NULL = not given */
    bool any_base;
    bool allow_unmatched;
    bool has_alpha;
    double alpha;
    bool rslora;
    const char *experts_orientation; /**< NULL = not given */
} lorafmt_receipt_options;

/**
 * Read a receipt.
 *
 * @return LORAFMT_OK; NOT_FOUND; IO; LIMIT (more than 256 MiB or 2^22 values); CORRUPT (not JSON, or not a receipt: a member of
 *         lorafmt_receipt_options is missing or of another type); NOT_LORAFMT (not a regular file); NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_receipt_open(const char *path, lorafmt_receipt **out, lorafmt_error *err);
LORAFMT_API void lorafmt_receipt_free(lorafmt_receipt *receipt);

LORAFMT_API const lorafmt_receipt_options *lorafmt_receipt_get_options(const lorafmt_receipt *receipt);

/**
 * Does the receipt say what the receipt of a replay says, as far as that goes? Every member of its objects must be in the receipt
 * with the same value, and arrays must be equally long; what else is in the receipt is not looked at. Equal means exactly, but for
 * `norm` and `norm_realised`, which may be off by 1e-6 of their size, and `projection`, by 1e-6: they are sums whose order is not
 * fixed.
 *
 * @param replayed  size bytes of JSON
 *
 * @return LORAFMT_OK; MISMATCH with the first place (err->field, as "adapters[1].weight") and both values; MISUSE (replayed is no
 *         JSON); LIMIT; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_receipt_compare(const lorafmt_receipt *receipt, const char *replayed, size_t size,
                                                   lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
