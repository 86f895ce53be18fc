/* SPDX-License-Identifier: MIT */
/* Making a runtime, and its readers. */
#include "lib/runtime/runtime.h"

#include "format/base/error.h"

#include <stdlib.h>
#include <string.h>

lorafmt_status lf_runtime_run(const lorafmt_runtime *runtime, size_t n, lf_item *item, void *ctx, lorafmt_error *err)
{
    if (runtime->executor)
        return lf_parallel_on(runtime->executor, runtime->executor_ctx, n, item, ctx, err);
    return lf_parallel(n, runtime->n_threads, 0, item, ctx, err);
}

static lorafmt_status check_options(const lorafmt_base *base, const lorafmt_place *places, const lorafmt_runtime_options *options,
                                    lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(options->struct_size, sizeof *options, err));
    if (!base || base->struct_size != sizeof *base || (base->n_tensors && (!base->tensors || !places)))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                       "a runtime needs a base of this API version and a place for each of its tensors");
    if (options->is_loaded && options->load_by_swap)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "load_by_swap", "set, and so is is_loaded: one of them is wrong");
    if (options->n_sets > LORAFMT_MAX_SETS)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "n_sets", "%u, must be 0..%d", options->n_sets, LORAFMT_MAX_SETS);
    return LORAFMT_OK;
}

static lorafmt_status copy_base(lorafmt_runtime *rt, const lorafmt_base *base, lorafmt_error *err)
{
    lorafmt_base_tensor *tensors = lf_arena_alloc(&rt->arena, base->n_tensors, sizeof *tensors);

    rt->places = lf_arena_alloc(&rt->arena, base->n_tensors, sizeof *rt->places);
    for (unsigned s = 0; s < rt->n_sets; s++)
        rt->adapted[s] = lf_arena_alloc(&rt->arena, base->n_tensors, sizeof *rt->adapted[s]);
    if (!tensors || !rt->places || !rt->adapted[0] || !rt->adapted[rt->n_sets - 1])
        return lf_no_memory(err);
    if (base->n_tensors)
        memcpy(tensors, base->tensors, base->n_tensors * sizeof *tensors);
    rt->base = *base;
    rt->base.tensors = tensors;
    if (!base->read) {
        rt->base.read = lf_places_read;
        rt->base.ctx = rt;
    }
    return LORAFMT_OK;
}

/* Item i is a tensor: all its live sets. */
static lorafmt_status fill(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    const lorafmt_runtime *rt = ctx;
    const lf_place *place = &rt->places[i];

    (void)unused;
    (void)err;
    for (unsigned s = 0; s < rt->n_sets; s++)
        if (place->live[s])
            lf_place_restore(place, s, 0, place->n_rows);
    return LORAFMT_OK;
}

static lorafmt_status init(lorafmt_runtime *rt, const lorafmt_base *base, const lorafmt_place *places,
                           const lorafmt_runtime_options *options, lorafmt_error *err)
{
    rt->n_sets = options->n_sets ? options->n_sets : 1;
    rt->n_threads = lf_n_threads(options->n_threads);
    rt->executor = options->executor;
    rt->executor_ctx = options->executor_ctx;
    LF_TRY(copy_base(rt, base, err));
    for (size_t i = 0; i < base->n_tensors; i++)
        LF_TRY(lf_place_resolve(&base->tensors[i], &places[i], rt->n_sets, &rt->places[i], err));
    for (unsigned s = 0; s < rt->n_sets && options->load_by_swap; s++)
        for (size_t i = 0; i < base->n_tensors; i++)
            rt->adapted[s][i] = rt->places[i].live[s] != NULL;
    return options->is_loaded || options->load_by_swap ? LORAFMT_OK : lf_runtime_run(rt, base->n_tensors, fill, rt, err);
}

lorafmt_status lorafmt_runtime_new(const lorafmt_base *base, const lorafmt_place *places, const lorafmt_runtime_options *options,
                                   lorafmt_runtime **out, lorafmt_error *err)
{
    static const lorafmt_runtime_options defaults = {.struct_size = sizeof defaults};
    lorafmt_runtime *rt;
    lorafmt_status st;

    *out = NULL;
    options = options ? options : &defaults;
    LF_TRY(check_options(base, places, options, err));
    rt = calloc(1, sizeof *rt);
    if (!rt)
        return lf_no_memory(err);
    pthread_mutex_init(&rt->swapping, NULL);
    pthread_mutex_init(&rt->lock, NULL);
    pthread_cond_init(&rt->changed, NULL);
    st = init(rt, base, places, options, err);
    if (st)
        lorafmt_runtime_free(rt);
    else
        *out = rt;
    return st;
}

void lorafmt_runtime_free(lorafmt_runtime *rt)
{
    if (!rt)
        return;
    pthread_cond_destroy(&rt->changed);
    pthread_mutex_destroy(&rt->lock);
    pthread_mutex_destroy(&rt->swapping);
    lf_arena_free(&rt->arena);
    free(rt);
}

unsigned lorafmt_runtime_read_begin(lorafmt_runtime *rt)
{
    unsigned set;

    pthread_mutex_lock(&rt->lock);
    while (rt->writing)
        pthread_cond_wait(&rt->changed, &rt->lock);
    set = rt->set;
    rt->n_readers[set]++;
    pthread_mutex_unlock(&rt->lock);
    return set;
}

void lorafmt_runtime_read_end(lorafmt_runtime *rt, unsigned set)
{
    pthread_mutex_lock(&rt->lock);
    if (--rt->n_readers[set] == 0)
        pthread_cond_broadcast(&rt->changed);
    pthread_mutex_unlock(&rt->lock);
}

uint64_t lorafmt_runtime_generation(lorafmt_runtime *rt)
{
    uint64_t generation;

    pthread_mutex_lock(&rt->lock);
    generation = rt->generation;
    pthread_mutex_unlock(&rt->lock);
    return generation;
}
