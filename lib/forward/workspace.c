/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"
#include "lib/forward/forward.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"
#include "lib/view/view.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* Less than this is done before a second thread has woken. */
#define BYTES_FOR_A_THREAD ((size_t)64 << 10)

static bool allocate(lorafmt_workspace *ws)
{
    if (ws->max_rank > SIZE_MAX / sizeof(float) / ws->max_tokens)
        return false;
    ws->scratch = calloc(ws->n_threads, sizeof *ws->scratch);
    ws->groups = calloc(ws->max_adapters, sizeof *ws->groups);
    ws->order = calloc(ws->max_tokens, sizeof *ws->order);
    ws->h = calloc(ws->max_tokens, ws->max_rank * sizeof *ws->h);
    ws->u = calloc(ws->max_tokens, ws->max_rank * sizeof *ws->u);
    return ws->scratch && ws->groups && ws->order && ws->h && ws->u;
}

static lorafmt_status start(lorafmt_workspace *ws, const lorafmt_workspace_options *o, lorafmt_error *err)
{
    ws->executor = o->executor;
    ws->executor_ctx = o->executor_ctx;
    if (!allocate(ws))
        return lf_no_memory(err);
    if (o->executor || ws->n_threads == 1)
        return LORAFMT_OK;
    LF_TRY(lf_team_new(ws->n_threads, &ws->team, err));
    ws->executor = lf_team_run;
    ws->executor_ctx = ws->team;
    return LORAFMT_OK;
}

static lorafmt_status check_options(const lorafmt_workspace_options *o, lorafmt_error *err)
{
    if (!o)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "a workspace needs options, with its sizes");
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (!o->max_tokens || !o->max_rank)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, o->max_tokens ? "max_rank" : "max_tokens",
                       "0, must be at least 1");
    return LORAFMT_OK;
}

lorafmt_status lorafmt_workspace_new(const lorafmt_workspace_options *options, lorafmt_workspace **out, lorafmt_error *err)
{
    lorafmt_workspace *ws;
    lorafmt_status status;

    *out = NULL;
    LF_TRY(check_options(options, err));
    if (!(ws = calloc(1, sizeof *ws)))
        return lf_no_memory(err);
    ws->max_tokens = options->max_tokens;
    ws->max_adapters = options->max_adapters ? options->max_adapters : options->max_tokens;
    ws->max_rank = options->max_rank;
    ws->n_threads = lf_n_threads(options->n_threads);
    status = lf_choose_kernels(options->cpu, &ws->kernels, err);
    if (status == LORAFMT_OK)
        status = start(ws, options, err);
    if (status != LORAFMT_OK) {
        lorafmt_workspace_free(ws);
        return status;
    }
    *out = ws;
    return LORAFMT_OK;
}

void lorafmt_workspace_free(lorafmt_workspace *ws)
{
    if (!ws)
        return;
    lf_team_free(ws->team);
    free(ws->scratch);
    free(ws->groups);
    free(ws->order);
    free(ws->h);
    free(ws->u);
    free(ws);
}

/* --- tasks --- */

typedef struct run {
    lorafmt_workspace *ws;
    size_t n;
    lf_task *task;
    void *job;
    atomic_size_t next, n_ran; // tasks taken; items run
} run;

static void run_item(void *ctx, size_t item)
{
    run *r = ctx;
    const lf_fpenv env = lf_fpenv_enter();
    size_t i;

    while ((i = atomic_fetch_add(&r->next, 1)) < r->n)
        r->task(r->job, i, &r->ws->scratch[item]);
    lf_fpenv_leave(env);
    atomic_fetch_add(&r->n_ran, 1);
}

lorafmt_status lf_run_tasks(lorafmt_workspace *ws, size_t n, size_t n_bytes, lf_task *task, void *job, lorafmt_error *err)
{
    const size_t n_items = lf_least(lf_least(n, ws->n_threads), n_bytes / BYTES_FOR_A_THREAD + 1);
    run r = {.ws = ws, .n = n, .task = task, .job = job};

    if (n_items > 1)
        ws->executor(ws->executor_ctx, n_items, run_item, &r);
    else if (n)
        run_item(&r, 0);
    if (n && r.n_ran != n_items)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "executor", "it ran %zu of %zu items", (size_t)r.n_ran, n_items);
    return LORAFMT_OK;
}

size_t lf_number_tasks(lorafmt_workspace *ws, lf_count *n_tasks, const lorafmt_batch *batch)
{
    size_t n = 0;

    for (size_t i = 0; i < ws->n_groups; i++) {
        ws->groups[i].first_task = n;
        n += n_tasks(ws, &ws->groups[i], batch);
    }
    return n;
}

const lf_group *lf_group_of_task(const lorafmt_workspace *ws, size_t task)
{
    size_t low = 0, high = ws->n_groups;

    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (ws->groups[middle].first_task <= task)
            low = middle;
        else
            high = middle;
    }
    return &ws->groups[low];
}
