/* SPDX-License-Identifier: MIT */
#include "lib/pool/pool.h"

#include "format/base/error.h"

#include <stdlib.h>
#include <time.h>

static lorafmt_status misuse(const char *field, const char *text, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, field, "%s", text);
}

static lorafmt_status check_options(const lorafmt_pool_options *o, lorafmt_error *err)
{
    if (!o)
        return misuse(NULL, "a pool needs options, with a budget", err);
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (!o->budget)
        return misuse("budget", "0 bytes, must be at least 1", err);
    if (o->source)
        LF_TRY(lf_check_struct_size(o->source->struct_size, sizeof *o->source, err));
    if (o->source && o->source->adapter)
        return misuse("source.adapter", "is set, but FILE#NAME says it for each adapter", err);
    if (o->base)
        LF_TRY(lf_check_struct_size(o->base->struct_size, sizeof *o->base, err));
    if (o->bind)
        LF_TRY(lf_check_struct_size(o->bind->struct_size, sizeof *o->bind, err));
    if (o->bind && !o->base)
        return misuse("bind", "is set, but there is no base", err);
    if (o->bind && o->bind->check_only)
        return misuse("bind.check_only", "is set, so that nothing could be computed", err);
    return LORAFMT_OK;
}

static void init(lorafmt_pool *pool, const lorafmt_pool_options *o)
{
    pthread_condattr_t monotonic;

    pool->budget = o->budget;
    pool->source = o->source ? *o->source : (lorafmt_source_options){.struct_size = sizeof pool->source};
    pool->bind = o->bind ? *o->bind : (lorafmt_bind_options){.struct_size = sizeof pool->bind};
    pool->base = o->base;
    if (!pool->source.base)
        pool->source.base = o->base;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&pool->asked, NULL);
}

lorafmt_status lorafmt_pool_new(const lorafmt_pool_options *options, lorafmt_pool **out, lorafmt_error *err)
{
    lorafmt_pool *pool;
    lorafmt_status st;

    *out = NULL;
    LF_TRY(check_options(options, err));
    pool = calloc(1, sizeof *pool);
    if (!pool)
        return lf_no_memory(err);
    init(pool, options);
    st = lf_ahead_start(pool, options->n_loaders ? options->n_loaders : 1, err);
    if (st)
        lorafmt_pool_free(pool);
    else
        *out = pool;
    return st;
}

void lf_pool_unlock(lorafmt_pool *pool)
{
    const bool is_last = pool->is_closed && pool->statistics.n_adapters == 0;

    pthread_mutex_unlock(&pool->lock);
    if (!is_last)
        return;
    pthread_cond_destroy(&pool->asked);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->slots.first);
    free(pool);
}

static void forget(lorafmt_pool *pool, lf_slot *slot)
{
    lorafmt_pooled *current = slot->current;

    slot->is_pinned = false;
    if (!current) {
        lf_slots_tidy(&pool->slots, slot);
        return;
    }
    lf_pooled_detach(current);
    lf_pooled_settle(current);
}

void lorafmt_pool_free(lorafmt_pool *pool)
{
    if (!pool)
        return;
    lf_ahead_stop(pool);
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < pool->slots.n_places; i++)
        while (pool->slots.first[i])
            forget(pool, pool->slots.first[i]);
    pool->is_closed = true;
    lf_pool_unlock(pool);
}

lorafmt_status lorafmt_pool_acquire(lorafmt_pool *pool, const char *path, lorafmt_pooled **out, lorafmt_error *err)
{
    return lf_pool_acquire(pool, path, 0, true, out, err);
}

lorafmt_status lorafmt_pool_acquire_within(lorafmt_pool *pool, const char *path, uint32_t milliseconds, lorafmt_pooled **out,
                                           lorafmt_error *err)
{
    return lf_pool_acquire(pool, path, milliseconds, true, out, err);
}

void lorafmt_pool_release(lorafmt_pooled *pooled)
{
    lorafmt_pool *pool;

    if (!pooled)
        return;
    pool = pooled->pool;
    pthread_mutex_lock(&pool->lock);
    lf_pooled_let_go(pooled);
    lf_pool_unlock(pool);
}

const lorafmt_adapter *lorafmt_pooled_adapter(const lorafmt_pooled *pooled)
{
    return pooled->adapter;
}

const lorafmt_source *lorafmt_pooled_source(const lorafmt_pooled *pooled)
{
    return pooled->source;
}

const lorafmt_view *lorafmt_pooled_view(const lorafmt_pooled *pooled)
{
    return pooled->view;
}

/* What is held, unless it was forgotten meanwhile. */
static bool pin_held(lorafmt_pooled *p)
{
    lorafmt_pool *pool = p->pool;
    bool pinned;

    pthread_mutex_lock(&pool->lock);
    pinned = p->slot != NULL;
    if (pinned)
        p->slot->is_pinned = true;
    lf_pooled_let_go(p);
    pthread_mutex_unlock(&pool->lock);
    return pinned;
}

lorafmt_status lorafmt_pool_pin(lorafmt_pool *pool, const char *path, lorafmt_error *err)
{
    lorafmt_pooled *p;

    do {
        LF_TRY(lf_pool_acquire(pool, path, 0, false, &p, err));
    } while (!pin_held(p));
    return LORAFMT_OK;
}

void lorafmt_pool_unpin(lorafmt_pool *pool, const char *path)
{
    lf_slot *slot;

    pthread_mutex_lock(&pool->lock);
    slot = lf_slots_find(&pool->slots, path);
    if (slot) {
        slot->is_pinned = false;
        if (slot->current)
            lf_pooled_settle(slot->current);
        else
            lf_slots_tidy(&pool->slots, slot);
    }
    pthread_mutex_unlock(&pool->lock);
}

void lorafmt_pool_forget(lorafmt_pool *pool, const char *path)
{
    lf_slot *slot;

    pthread_mutex_lock(&pool->lock);
    slot = lf_slots_find(&pool->slots, path);
    if (slot)
        forget(pool, slot);
    pthread_mutex_unlock(&pool->lock);
}

void lorafmt_pool_get_statistics(lorafmt_pool *pool, lorafmt_pool_statistics *out)
{
    pthread_mutex_lock(&pool->lock);
    *out = pool->statistics;
    pthread_mutex_unlock(&pool->lock);
}
