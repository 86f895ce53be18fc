/* SPDX-License-Identifier: MIT */
#include "lib/pool/pool.h"

#include "format/base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* One call. */
typedef struct request {
    lorafmt_pool *pool;
    const char *path;
    bool may_wait; /* for room, until then */
    struct timespec until;
    bool is_counted;  /* as a hit or a miss, which it was not yet */
    bool is_measured; /* this is where it lies, and what it takes */
    lf_found found;
    uint64_t size;
} request;

static void count(request *r, uint64_t *hits_or_misses)
{
    *hits_or_misses += r->is_counted;
    r->is_counted = false;
}

/* --- room --- */

/* Unlocks meanwhile. */
static lorafmt_status measure(request *r, lorafmt_error *err)
{
    lorafmt_source_options options = r->pool->source;
    lorafmt_status st;

    pthread_mutex_unlock(&r->pool->lock);
    st = lf_find(r->path, &r->found, err);
    options.adapter = r->found.adapter;
    if (!st)
        st = lorafmt_source_measure(r->found.path, &options, &r->size, err);
    pthread_mutex_lock(&r->pool->lock);
    r->pool->statistics.n_failures += st != LORAFMT_OK;
    r->is_measured = !st;
    return st;
}

static lorafmt_status no_room(const request *r, lorafmt_error *err)
{
    const lorafmt_pool *pool = r->pool;
    lorafmt_status st;

    if (r->size > pool->budget)
        st = lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL,
                     "takes %" PRIu64 " bytes, more than the budget of the pool, which is %" PRIu64, r->size, pool->budget);
    else
        st = lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL,
                     "takes %" PRIu64 " bytes, and of the %" PRIu64 " of the pool %" PRIu64
                     " are of adapters that are held or pinned: release some, or have a larger budget",
                     r->size, pool->budget, pool->statistics.held - pool->idle - pool->going);
    lf_error_set_file(err, r->path);
    return st;
}

/* For others to release what they hold; false when it is too late. */
static bool wait_for_others(request *r)
{
    return r->may_wait && pthread_cond_timedwait(&r->pool->changed, &r->pool->lock, &r->until) == 0;
}

/* A step towards it; unlocks meanwhile, so that the adapter may be there afterwards. */
static lorafmt_status make_room(request *r, lorafmt_error *err)
{
    lorafmt_pool *pool = r->pool;
    const uint64_t soon = pool->budget - pool->statistics.held + pool->going;

    if (r->size <= soon)
        pthread_cond_wait(&pool->changed, &pool->lock);
    else if (r->size - soon <= pool->idle)
        lf_pool_evict(pool);
    else if (r->size > pool->budget || !wait_for_others(r)) {
        pool->statistics.n_refusals++;
        return no_room(r, err);
    }
    return LORAFMT_OK;
}

/* --- loading --- */

static lorafmt_pooled *new_pooled(const request *r)
{
    lorafmt_pooled *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->pool = r->pool;
    p->n_holders = 1;
    p->size = r->size;
    p->stamp = r->found.stamp;
    p->error = calloc(1, sizeof *p->error);
    if (p->error)
        return p;
    free(p);
    return NULL;
}

/* Takes it off the budget, where there is room. From now on the others who ask get this one. */
static lorafmt_status reserve(const request *r, lorafmt_pooled **out, lorafmt_error *err)
{
    lorafmt_pool_statistics *s = &r->pool->statistics;
    lf_slot *slot = lf_slots_add(&r->pool->slots, r->path);

    if (!slot)
        return lf_no_memory(err);
    slot->current = *out = new_pooled(r);
    if (!*out) {
        lf_slots_tidy(&r->pool->slots, slot);
        return lf_no_memory(err);
    }
    (*out)->slot = slot;
    s->held += r->size;
    s->n_adapters++;
    if (s->most_held < s->held)
        s->most_held = s->held;
    return LORAFMT_OK;
}

/* What it leads to is not what was loaded, or was not while that was going on. */
static bool has_changed(const request *r, const lorafmt_pooled *p)
{
    lf_found now;

    return lf_find(r->path, &now, NULL) != LORAFMT_OK || !lf_stamp_is_same(&now.stamp, &p->stamp);
}

/* Unlocks meanwhile. */
static void load(const request *r, lorafmt_pooled *p)
{
    lorafmt_pool *pool = r->pool;
    bool changed;

    pthread_mutex_unlock(&pool->lock);
    p->status = lf_pooled_load(p, &r->found, p->error);
    changed = has_changed(r, p);
    pthread_mutex_lock(&pool->lock);
    p->state = changed ? LF_CHANGED : p->status ? LF_FAILED : LF_READY;
    pool->statistics.n_loads += p->state == LF_READY;
    pool->statistics.n_failures += p->state == LF_FAILED;
    if (p->state != LF_READY)
        lf_pooled_detach(p);
    else {
        free(p->error);
        p->error = NULL;
    }
    pthread_cond_broadcast(&pool->changed);
}

/* --- one for the caller --- */

/* Hands out what is held, or says why not. When it has changed neither: the caller looks again. */
static lorafmt_status conclude(request *r, lorafmt_pooled *p, lorafmt_pooled **out, lorafmt_error *err)
{
    const lorafmt_status st = p->state == LF_FAILED ? p->status : LORAFMT_OK;

    if (p->state == LF_READY) {
        *out = p;
        return LORAFMT_OK;
    }
    if (st && err)
        *err = *p->error;
    r->is_measured = false;
    lf_pooled_let_go(p);
    return st;
}

/* Unlocks meanwhile. */
static void look_again(const request *r, lorafmt_pooled *p)
{
    bool changed;

    pthread_mutex_unlock(&r->pool->lock);
    changed = has_changed(r, p);
    pthread_mutex_lock(&r->pool->lock);
    if (changed) {
        p->state = LF_CHANGED;
        lf_pooled_detach(p);
    }
}

/* What is there already, or is being loaded. */
static lorafmt_status join(request *r, lorafmt_pooled *p, lorafmt_pooled **out, lorafmt_error *err)
{
    lorafmt_pool_statistics *s = &r->pool->statistics;
    const bool was_ready = p->state == LF_READY;

    lf_pooled_hold(p);
    if (was_ready)
        look_again(r, p);
    count(r, was_ready && p->state == LF_READY ? &s->n_hits : &s->n_misses);
    while (p->state == LF_LOADING)
        pthread_cond_wait(&r->pool->changed, &r->pool->lock);
    return conclude(r, p, out, err);
}

static lorafmt_status step(request *r, lorafmt_pooled **out, lorafmt_error *err)
{
    lorafmt_pool *pool = r->pool;
    const lf_slot *slot = lf_slots_find(&pool->slots, r->path);
    lorafmt_pooled *p;

    if (slot && slot->current)
        return join(r, slot->current, out, err);
    count(r, &pool->statistics.n_misses);
    if (!r->is_measured)
        return measure(r, err);
    if (r->size > pool->budget - pool->statistics.held)
        return make_room(r, err);
    LF_TRY(reserve(r, &p, err));
    load(r, p);
    return conclude(r, p, out, err);
}

static struct timespec after(uint32_t milliseconds)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += milliseconds / 1000;
    t.tv_nsec += (long)(milliseconds % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

lorafmt_status lf_pool_acquire(lorafmt_pool *pool, const char *path, uint32_t milliseconds, bool is_counted, lorafmt_pooled **out,
                               lorafmt_error *err)
{
    request r = {.pool = pool, .path = path, .may_wait = milliseconds > 0, .is_counted = is_counted};
    lorafmt_status st = LORAFMT_OK;

    *out = NULL;
    if (r.may_wait)
        r.until = after(milliseconds);
    pthread_mutex_lock(&pool->lock);
    while (!st && !*out)
        st = step(&r, out, err);
    pthread_mutex_unlock(&pool->lock);
    return st;
}
