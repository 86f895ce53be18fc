/* SPDX-License-Identifier: MIT */
/* Work that is cut into items, on several threads. */
#ifndef LF_THREADS_PARALLEL_H
#define LF_THREADS_PARALLEL_H

#include "lorafmt/error.h"
#include "lorafmt/runtime.h"

#include <stdbool.h>
#include <stddef.h>

/* One item. Items run at the same time, each once; scratch is the thread's own. */
typedef lorafmt_status lf_item(void *ctx, size_t i, void *scratch, lorafmt_error *err);

/*
 * Run items [0, n), taken in ascending order by n_threads threads, the caller's among them, or fewer; each with scratch_size
 * bytes. After a failure none is begun any more. What is reported is the failure of the lowest item that fails, whatever the
 * timing.
 */
lorafmt_status lf_parallel(size_t n, unsigned n_threads, size_t scratch_size, lf_item *item, void *ctx, lorafmt_error *err);

/*
 * The same on threads of the caller's, as its executor runs them; without scratch. A failed item keeps those above it from being
 * begun, if they were not yet. MISUSE when the executor did not run every item.
 */
lorafmt_status lf_parallel_on(lorafmt_executor executor, void *executor_ctx, size_t n, lf_item *item, void *ctx,
                              lorafmt_error *err);

/* What a caller asked for, where 0 is one per CPU. */
unsigned lf_n_threads(unsigned asked);

#endif
