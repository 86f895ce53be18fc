/* SPDX-License-Identifier: MIT */
#include "lib/pool/pool.h"

#include <stdlib.h>

static void become_idle(lorafmt_pooled *p)
{
    lorafmt_pool *pool = p->pool;

    p->is_idle = true;
    p->older = pool->newest;
    p->newer = NULL;
    *(p->older ? &p->older->newer : &pool->oldest) = p;
    pool->newest = p;
    pool->idle += p->size;
    pthread_cond_broadcast(&pool->changed);
}

static void stop_being_idle(lorafmt_pooled *p)
{
    lorafmt_pool *pool = p->pool;

    if (!p->is_idle)
        return;
    p->is_idle = false;
    *(p->older ? &p->older->newer : &pool->oldest) = p->newer;
    *(p->newer ? &p->newer->older : &pool->newest) = p->older;
    pool->idle -= p->size;
}

/* Its bytes are held until they are given back. */
static void give_back(lorafmt_pooled *p)
{
    lorafmt_pool *pool = p->pool;

    pool->going += p->size;
    pthread_mutex_unlock(&pool->lock);
    lorafmt_view_free(p->view);
    lorafmt_source_free(p->source);
    pthread_mutex_lock(&pool->lock);
    pool->going -= p->size;
    pool->statistics.held -= p->size;
    pool->statistics.n_adapters--;
    pthread_cond_broadcast(&pool->changed);
    free(p->error);
    free(p);
}

void lf_pooled_settle(lorafmt_pooled *p)
{
    if (p->n_holders)
        return;
    if (!p->slot)
        give_back(p);
    else if (!p->slot->is_pinned && !p->is_idle)
        become_idle(p);
}

void lf_pooled_hold(lorafmt_pooled *p)
{
    stop_being_idle(p);
    p->n_holders++;
}

void lf_pooled_let_go(lorafmt_pooled *p)
{
    p->n_holders--;
    lf_pooled_settle(p);
}

void lf_pooled_detach(lorafmt_pooled *p)
{
    lf_slot *slot = p->slot;

    if (!slot)
        return;
    stop_being_idle(p);
    p->slot = NULL;
    slot->current = NULL;
    lf_slots_tidy(&p->pool->slots, slot);
}

void lf_pool_evict(lorafmt_pool *pool)
{
    lorafmt_pooled *p = pool->oldest;

    pool->statistics.n_evictions++;
    lf_pooled_detach(p);
    lf_pooled_settle(p);
}
