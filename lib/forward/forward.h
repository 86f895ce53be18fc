/* SPDX-License-Identifier: MIT */
/*
 * Adapters that are not merged, and their gradients. Tokens of a batch are grouped by adapter; then the work is cut into tasks that
 * read a part of one adapter's factors for all tokens of its group.
 *
 *   workspace.c  room and threads, made once
 *   group.c      a batch is checked and its tokens are grouped
 *   project.c    h = A x, for forward and backward
 *   forward.c    y += scale · B h
 *   backward.c   gradients
 *   step.c       what an optimiser does with them
 */
#ifndef LF_FORWARD_H
#define LF_FORWARD_H

#include "lib/kernels/kernels.h"
#include "lib/threads/team.h"
#include "lorafmt/forward.h"
#include "lorafmt/train.h"

#include <stdbool.h>

/* What a thread works in: some blocks of numbers that stay in a second-level cache together. */
#define LF_BLOCK_SIZE 65536
typedef struct lf_scratch {
    float x[LF_BLOCK_SIZE], a[LF_BLOCK_SIZE], sums[LF_BLOCK_SIZE];
} lf_scratch;

/* The tokens of one adapter, which has something to do here: order[first .. first + n), ascending. */
typedef struct lf_group {
    const lorafmt_updates *updates;
    size_t adapter; /* in the batch */
    size_t first, n;
    size_t rank;       /* of the updates that contribute */
    size_t first_task; /* of what is being done */
} lf_group;

struct lorafmt_workspace {
    lf_kernels kernels;
    size_t max_tokens, max_adapters, max_rank;
    unsigned n_threads;
    lorafmt_executor executor;
    void *executor_ctx;
    lf_team *team;       /* the executor, when it is our own */
    lf_scratch *scratch; /* one for each thread */

    size_t n_groups;
    lf_group *groups; /* [max_adapters] */
    size_t *order;    /* [max_tokens] tokens of the batch, group after group */
    float *h, *u; /* [max_tokens x max_rank] each; of a group from first * max_rank on, update after update, [n x rank] each */
};

static inline size_t lf_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Does an update do anything? */
bool lf_update_contributes(const lorafmt_update *update);

/* Check a batch, and group its tokens. is_read: y too is only read. */
lorafmt_status lf_group_tokens(lorafmt_workspace *ws, const lorafmt_batch *batch, lorafmt_error *err);

/* The rows of a token in a batch. */
const uint8_t *lf_batch_x(const lorafmt_batch *batch, size_t token);
uint8_t *lf_batch_y(const lorafmt_batch *batch, size_t token);

/* What is done to a batch whose tokens are grouped. */
typedef struct lf_job {
    lorafmt_workspace *ws;
    const lorafmt_batch *batch;
} lf_job;

/* One of the tasks [0, n) of a job; the thread has scratch for itself. */
typedef void lf_task(void *job, size_t task, lf_scratch *scratch);

/* Do tasks [0, n) on as many threads as are worth it for n_bytes that are read: MISUSE when the executor did not run every item. */
lorafmt_status lf_run_tasks(lorafmt_workspace *ws, size_t n, size_t n_bytes, lf_task *task, void *job, lorafmt_error *err);

/* Number the tasks of all groups, each of which has as many as n_tasks() says; the sum. And the group that has a task. */
typedef size_t lf_count(const lorafmt_workspace *ws, const lf_group *group, const lorafmt_batch *batch);
size_t lf_number_tasks(lorafmt_workspace *ws, lf_count *n_tasks, const lorafmt_batch *batch);
const lf_group *lf_group_of_task(const lorafmt_workspace *ws, size_t task);

/* h = A x of all groups. */
lorafmt_status lf_project(lorafmt_workspace *ws, const lorafmt_batch *batch, lorafmt_error *err);

/* Where the numbers of a group's first update are; those of the next follow n * rank later. */
float *lf_group_numbers(const lorafmt_workspace *ws, float *numbers, const lf_group *group);

#endif
