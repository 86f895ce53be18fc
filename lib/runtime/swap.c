/* SPDX-License-Identifier: MIT */
/* A switch: first all that can fail, which writes nothing live, and then the writing, which cannot. */
#include "format/base/error.h"
#include "lib/kernels/real.h"
#include "lib/runtime/runtime.h"
#include "lib/view/evaluate.h"
#include "lib/view/view.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NANOSECONDS 1000000000L
#define ASKED_EVERY (NANOSECONDS / 50) // how long a caller who may want to stop waits to be asked

/* Held rows of one tensor. */
typedef struct task {
    size_t tensor;
    uint64_t row, n_rows;
    lf_tally tally;
} task;

typedef struct swap {
    lorafmt_runtime *runtime;
    lorafmt_view *view; /* NULL = the base */
    const lorafmt_swap_options *options;
    unsigned set; /* that is written */
    size_t n_tasks;
    task *tasks;
    pthread_mutex_t asking; /* one thread at a time calls the caller back */
} swap;

static bool is_computed(const swap *s, size_t tensor)
{
    return s->view && lorafmt_view_get_tensor(s->view, tensor)->touched;
}

/* Tensors that the new stack, or the one in the set, touches. */
static bool is_written(const swap *s, size_t tensor)
{
    return is_computed(s, tensor) || s->runtime->adapted[s->set][tensor];
}

/* In what a view says there may be more than live weights can become. */
static lorafmt_status check_tensor(const swap *s, size_t i, lorafmt_error *err)
{
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(s->view, i);
    const lf_place *place = &s->runtime->places[i];

    if (memcmp(info->shape, s->runtime->base.tensors[i].shape, sizeof info->shape) != 0)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, info->name,
                       "the adapters change its number of rows, which live weights cannot: merge them into a model");
    if (!place->live[0])
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, info->name,
                       "the adapters change it, but the loader has no live weights for it");
    return LORAFMT_OK;
}

static lorafmt_status check_view(const swap *s, lorafmt_error *err)
{
    const size_t n = s->runtime->base.n_tensors;

    if (lorafmt_view_n_tensors(s->view) > n)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, lorafmt_view_get_tensor(s->view, n)->name,
                       "the adapters bring a tensor that the loader does not have: merge them into a model");
    for (size_t i = 0; i < n; i++)
        if (is_computed(s, i))
            LF_TRY(check_tensor(s, i, err));
    return LORAFMT_OK;
}

static lorafmt_status go_on(swap *s, lorafmt_error *err)
{
    bool yes;

    if (!s->options->go_on)
        return LORAFMT_OK;
    pthread_mutex_lock(&s->asking);
    yes = s->options->go_on(s->options->go_on_ctx);
    pthread_mutex_unlock(&s->asking);
    return yes ? LORAFMT_OK : lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL, "stopped before anything was changed");
}

/* Item i is a tensor. */
static lorafmt_status prepare(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    swap *s = ctx;

    (void)unused;
    LF_TRY(go_on(s, err));
    if (!is_computed(s, i) || !lorafmt_view_get_tensor(s->view, i)->needs_prepare)
        return LORAFMT_OK;
    if (!s->options->prepare)
        return lorafmt_view_prepare(s->view, i, err);
    LF_TRY(s->options->prepare(s->options->prepare_ctx, s->view, i, err));
    if (!s->view->plans[i].prepared)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, s->runtime->base.tensors[i].name,
                       "the caller's prepare left it as it was, without factors");
    return LORAFMT_OK;
}

static lorafmt_status bind(swap *s, const lorafmt_stack_entry *stack, size_t n_stack, lorafmt_error *err)
{
    const lorafmt_bind_options *options = s->options->bind;

    if (options && options->check_only)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "check_only", "set, but a switch computes");
    if (n_stack == 0)
        return go_on(s, err);
    LF_TRY(lorafmt_bind(&s->runtime->base, stack, n_stack, options, &s->view, err));
    LF_TRY(check_view(s, err));
    return lf_runtime_run(s->runtime, s->runtime->base.n_tensors, prepare, s, err);
}

/*
 * The rows of a held part that a view has, which is another number when the tensor turns out to be experts: each row of the place
 * is then many of the view's, and must be there whole.
 */
static lorafmt_status region_of(const swap *s, const task *t, lf_region *out, lorafmt_error *err)
{
    const lf_place *place = &s->runtime->places[t->tensor];
    const lorafmt_view_tensor *info = lorafmt_view_get_tensor(s->view, t->tensor);
    const uint64_t all = s->runtime->base.tensors[t->tensor].shape[0], each = info->n_rows > 1 && all ? info->n_rows / all : 1;

    *out = (lf_region){place->row + t->row, t->n_rows, place->col, place->n_cols};
    if (each <= 1)
        return LORAFMT_OK;
    *out = (lf_region){out->row * each, out->n_rows * each, 0, place->n_cols / (size_t)each};
    if (place->row_size * all != info->size)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, info->name,
                       "its experts are not held whole; hold some of them, but those with all their rows and columns");
    if (place->pristine_stride != place->row_size || place->live_stride != place->live_row_size)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, info->name, "its experts do not follow one another");
    return LORAFMT_OK;
}

static lorafmt_status add_tasks(swap *s, size_t tensor, lorafmt_error *err)
{
    const lf_place *place = &s->runtime->places[tensor];
    const uint64_t at_once = lf_place_rows_at_once(place);
    lf_region unused;

    for (uint64_t row = 0; row < place->n_rows; row += at_once) {
        const uint64_t n = place->n_rows - row < at_once ? place->n_rows - row : at_once;
        s->tasks[s->n_tasks] = (task){.tensor = tensor, .row = row, .n_rows = n};
        if (is_computed(s, tensor))
            LF_TRY(region_of(s, &s->tasks[s->n_tasks], &unused, err));
        s->n_tasks++;
    }
    return LORAFMT_OK;
}

static lorafmt_status plan(swap *s, lorafmt_error *err)
{
    const lorafmt_runtime *rt = s->runtime;
    size_t n = 0;

    for (size_t i = 0; i < rt->base.n_tensors; i++)
        if (is_written(s, i))
            n += (size_t)(rt->places[i].n_rows / lf_place_rows_at_once(&rt->places[i]) + 1);
    s->tasks = calloc(n ? n : 1, sizeof *s->tasks);
    if (!s->tasks)
        return lf_no_memory(err);
    for (size_t i = 0; i < rt->base.n_tensors; i++)
        if (is_written(s, i))
            LF_TRY(add_tasks(s, i, err));
    return LORAFMT_OK;
}

static void compute(const swap *s, task *t)
{
    const lf_place *place = &s->runtime->places[t->tensor];
    lorafmt_rows rows = {.src = place->pristine + t->row * place->pristine_stride,
                         .src_stride = place->pristine_stride,
                         .src_dtype = place->dtype,
                         .dst = place->live[s->set] + t->row * place->live_stride,
                         .dst_stride = place->live_stride,
                         .dst_dtype = place->live_dtype};
    lf_region region;
    lorafmt_status st = region_of(s, t, &region, NULL);

    if (region.n_rows != t->n_rows && t->n_rows) {
        rows.src_stride = place->row_size / (size_t)(region.n_rows / t->n_rows);
        rows.dst_stride = place->live_row_size / (size_t)(region.n_rows / t->n_rows);
    }
    st = st ? st : lf_view_evaluate(s->view, t->tensor, &region, &rows, NULL, &t->tally, NULL, NULL);
    assert(st == LORAFMT_OK);
    (void)st;
}

static lorafmt_status write_task(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    swap *s = ctx;
    task *t = &s->tasks[i];

    (void)unused;
    (void)err;
    if (is_computed(s, t->tensor))
        compute(s, t);
    else
        lf_place_restore(&s->runtime->places[t->tensor], s->set, t->row, t->n_rows);
    return LORAFMT_OK;
}

static void publish(swap *s, bool done)
{
    lorafmt_runtime *rt = s->runtime;

    pthread_mutex_lock(&rt->lock);
    rt->writing = false;
    if (done) {
        rt->set = s->set;
        rt->generation++;
    }
    pthread_cond_broadcast(&rt->changed);
    pthread_mutex_unlock(&rt->lock);
}

/* Wait for a reader to end, or for as long as a caller who may want to stop is not asked. */
static void wait_a_while(swap *s)
{
    lorafmt_runtime *rt = s->runtime;
    struct timespec until;

    if (!s->options->go_on) {
        pthread_cond_wait(&rt->changed, &rt->lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ASKED_EVERY;
    until.tv_sec += until.tv_nsec / NANOSECONDS;
    until.tv_nsec %= NANOSECONDS;
    pthread_cond_timedwait(&rt->changed, &rt->lock, &until);
}

/* Nobody may read the set that is to be written; when it is the only one, nobody may begin to. */
static lorafmt_status wait_for_readers(swap *s, lorafmt_error *err)
{
    lorafmt_runtime *rt = s->runtime;
    lorafmt_status st = LORAFMT_OK;

    pthread_mutex_lock(&rt->lock);
    rt->writing = rt->n_sets == 1;
    while (rt->n_readers[s->set] && !st) {
        wait_a_while(s);
        pthread_mutex_unlock(&rt->lock); // the caller may end a reader when asked
        st = go_on(s, err);
        pthread_mutex_lock(&rt->lock);
    }
    pthread_mutex_unlock(&rt->lock);
    if (st)
        publish(s, false);
    return st;
}

static void tell(const swap *s, lorafmt_swap_result *out)
{
    const lorafmt_runtime *rt = s->runtime;

    for (size_t i = 0; s->view && i < lorafmt_view_n_sites(s->view); i++) {
        out->n_sites++;
        out->n_bound += lorafmt_view_get_site(s->view, i)->match != LORAFMT_MATCH_NONE;
    }
    for (size_t i = 0; i < rt->base.n_tensors; i++) {
        out->n_computed += is_computed(s, i);
        out->n_restored += is_written(s, i) && !is_computed(s, i);
    }
    for (size_t i = 0; i < s->n_tasks; i++) {
        out->n_bytes += s->tasks[i].n_rows * rt->places[s->tasks[i].tensor].live_row_size;
        out->counts.n_nan += s->tasks[i].tally.n_nan;
        out->counts.n_inf += s->tasks[i].tally.n_inf;
    }
}

/* Everything that can fail is behind us, but for the memory that threads take, which is asked for before the first item runs. */
static lorafmt_status write_all(swap *s, lorafmt_swap_result *result, lorafmt_error *err)
{
    lorafmt_runtime *rt = s->runtime;
    lorafmt_status st;

    LF_TRY(wait_for_readers(s, err));
    st = lf_runtime_run(rt, s->n_tasks, write_task, s, err);
    if (!st)
        tell(s, result);
    for (size_t i = 0; i < rt->base.n_tensors; i++)
        rt->adapted[s->set][i] = st ? is_written(s, i) : is_computed(s, i);
    publish(s, !st);
    return st;
}

static lorafmt_status run_swap(swap *s, const lorafmt_stack_entry *stack, size_t n_stack, lorafmt_swap_result *result,
                               lorafmt_error *err)
{
    LF_TRY(bind(s, stack, n_stack, err));
    LF_TRY(plan(s, err));
    return write_all(s, result, err);
}

lorafmt_status lorafmt_runtime_swap(lorafmt_runtime *rt, const lorafmt_stack_entry *stack, size_t n_stack,
                                    const lorafmt_swap_options *options, lorafmt_swap_result *result, lorafmt_view **view,
                                    lorafmt_error *err)
{
    static const lorafmt_swap_options defaults = {.struct_size = sizeof defaults};
    swap s = {.runtime = rt, .options = options ? options : &defaults, .asking = PTHREAD_MUTEX_INITIALIZER};
    lorafmt_swap_result found = {0};
    lorafmt_status st;

    if (result)
        *result = found;
    if (view)
        *view = NULL;
    LF_TRY(lf_check_struct_size(s.options->struct_size, sizeof defaults, err));
    pthread_mutex_lock(&rt->swapping);
    s.set = rt->n_sets == 1 ? 0 : !rt->set;
    st = run_swap(&s, stack, n_stack, &found, err);
    pthread_mutex_unlock(&rt->swapping);
    if (!st && result)
        *result = found;
    if (!st && view)
        *view = s.view;
    else
        lorafmt_view_free(s.view);
    free(s.tasks);
    return st;
}
