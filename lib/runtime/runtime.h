/* SPDX-License-Identifier: MIT */
/*
 * Live weights of a loader, and switching them from one stack of adapters to another. What a stack makes of them is lib/view's
 * business; whose buffers they are, the loader's.
 *
 *   places.c   where tensors lie: checks, reading and restoring what is pristine
 *   runtime.c  making one, and its readers
 *   digest.c   what is live, in a few bytes
 *   swap.c     a switch: all that can fail, then the writing
 */
#ifndef LF_RUNTIME_H
#define LF_RUNTIME_H

#include "format/base/arena.h"
#include "lib/threads/parallel.h"
#include "lorafmt/runtime.h"

#include <pthread.h>
#include <stdbool.h>

/* The held part of a tensor, all of it said: no 0 for "all". */
typedef struct lf_place {
    uint64_t row, n_rows;
    size_t col, n_cols;
    const uint8_t *pristine;
    uint8_t *live[LORAFMT_MAX_SETS]; /* NULL when the tensor cannot be adapted */
    size_t pristine_stride, live_stride;
    lorafmt_dtype dtype, live_dtype;
    size_t row_size, live_row_size; /* bytes of the held part of a row */
    bool is_whole;                  /* all rows and columns are held */
} lf_place;

struct lorafmt_runtime {
    lf_arena arena;
    lorafmt_base base; /* with tensors of its own, and always a way to read */
    lf_place *places;
    unsigned n_sets, n_threads;
    lorafmt_executor executor;
    void *executor_ctx;

    pthread_mutex_t swapping;        /* one switch at a time; guards what follows */
    bool *adapted[LORAFMT_MAX_SETS]; /* tensors whose live bytes are not the base's, by set */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    unsigned set; /* the one that readers get */
    bool writing; /* it is being written, or soon will be: readers wait */
    size_t n_readers[LORAFMT_MAX_SETS];
    uint64_t generation;
};

/* A caller's place, checked and completed. */
lorafmt_status lf_place_resolve(const lorafmt_base_tensor *tensor, const lorafmt_place *place, unsigned n_sets, lf_place *out,
                                lorafmt_error *err);

/* Held rows [row, row + n_rows) of a set as they are in the base. */
void lf_place_restore(const lf_place *place, unsigned set, uint64_t row, uint64_t n_rows);

/* The read callback of a base that has none: out of the pristine bytes. ctx is the runtime. */
lorafmt_status lf_places_read(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err);

/* Run items on the runtime's threads or the caller's: lf_parallel(). */
lorafmt_status lf_runtime_run(const lorafmt_runtime *runtime, size_t n, lf_item *item, void *ctx, lorafmt_error *err);

/* Rows that are written at once: about four megabytes, so that packing factors for them does not count. */
uint64_t lf_place_rows_at_once(const lf_place *place);

#endif
