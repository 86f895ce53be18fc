/* SPDX-License-Identifier: MIT */
#include "lib/pool/pool.h"

#include "format/base/error.h"

#include <stdlib.h>

static void append(lorafmt_pool *pool, lf_slot *slot)
{
    slot->is_ahead = true;
    slot->next_ahead = NULL;
    *(pool->last_ahead ? &pool->last_ahead->next_ahead : &pool->first_ahead) = slot;
    pool->last_ahead = slot;
    pthread_cond_signal(&pool->asked);
}

static lf_slot *take_first(lorafmt_pool *pool)
{
    lf_slot *slot = pool->first_ahead;

    if (slot) {
        pool->first_ahead = slot->next_ahead;
        if (!pool->first_ahead)
            pool->last_ahead = NULL;
    }
    return slot;
}

/* Its slot stays meanwhile, and with it the path. */
static void load(lorafmt_pool *pool, lf_slot *slot)
{
    lorafmt_pooled *p;

    pthread_mutex_unlock(&pool->lock);
    if (lf_pool_acquire(pool, slot->path, 0, false, &p, NULL) == LORAFMT_OK)
        lorafmt_pool_release(p);
    pthread_mutex_lock(&pool->lock);
    slot->is_ahead = false;
    lf_slots_tidy(&pool->slots, slot);
}

static void *go_on(void *arg)
{
    lorafmt_pool *pool = arg;
    lf_slot *slot;

    pthread_mutex_lock(&pool->lock);
    while (!pool->is_stopping)
        if ((slot = take_first(pool)))
            load(pool, slot);
        else
            pthread_cond_wait(&pool->asked, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

lorafmt_status lf_ahead_start(lorafmt_pool *pool, unsigned n_loaders, lorafmt_error *err)
{
    pool->loaders = calloc(n_loaders, sizeof *pool->loaders);
    if (!pool->loaders)
        return lf_no_memory(err);
    for (; pool->n_loaders < n_loaders; pool->n_loaders++)
        if (pthread_create(&pool->loaders[pool->n_loaders], NULL, go_on, pool) != 0)
            return lf_no_memory(err);
    return LORAFMT_OK;
}

void lf_ahead_stop(lorafmt_pool *pool)
{
    lf_slot *slot;

    pthread_mutex_lock(&pool->lock);
    pool->is_stopping = true;
    pthread_cond_broadcast(&pool->asked);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->n_loaders; i++)
        pthread_join(pool->loaders[i], NULL);
    free(pool->loaders);
    pthread_mutex_lock(&pool->lock);
    while ((slot = take_first(pool))) {
        slot->is_ahead = false;
        lf_slots_tidy(&pool->slots, slot);
    }
    pthread_mutex_unlock(&pool->lock);
}

lorafmt_status lorafmt_pool_prefetch(lorafmt_pool *pool, const char *path, lorafmt_error *err)
{
    lf_slot *slot;

    pthread_mutex_lock(&pool->lock);
    slot = lf_slots_add(&pool->slots, path);
    if (slot && !slot->current && !slot->is_ahead)
        append(pool, slot);
    pthread_mutex_unlock(&pool->lock);
    return slot ? LORAFMT_OK : lf_no_memory(err);
}
