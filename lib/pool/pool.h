/* SPDX-License-Identifier: MIT */
/*
 * Adapters in memory under a budget. What an adapter is and how it is read is for lorafmt/adapter.h, what it does for lorafmt/view.h.
 *
 *   find.c     where a path leads to, and whether that is still the same
 *   slots.c    what the pool knows by path
 *   load.c     open, bind and prepare one
 *   idle.c     those that nobody holds, and giving memory back
 *   acquire.c  one for the caller: found, waited for, or room made for it and loaded
 *   ahead.c    threads that do the same before anybody asks
 *   pool.c     the rest of lorafmt/pool.h
 */
#ifndef LF_POOL_H
#define LF_POOL_H

#include "lorafmt/pool.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>

/* A file as it was at a moment; all zero when there is none. Without padding, so that bytes can be compared. */
typedef struct lf_file_state {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds; /* of its last change */
} lf_file_state;

/* Both files of a PEFT directory; a file, and the config that may lie beside it. */
typedef struct lf_stamp {
    lf_file_state tensors, config;
} lf_stamp;

/* What a path leads to. */
typedef struct lf_found {
    char path[PATH_MAX]; /* of the source */
    const char *adapter; /* of those in it, within what was asked for; NULL = the only one */
    lf_stamp stamp;
} lf_found;

/* IO for a path that is too long; that nothing is there is no failure, and for others to say. */
lorafmt_status lf_find(const char *path, lf_found *out, lorafmt_error *err);
bool lf_stamp_is_same(const lf_stamp *a, const lf_stamp *b);

typedef enum lf_pooled_state {
    LF_LOADING, /* by whom put it in its slot */
    LF_READY,
    LF_CHANGED, /* its file is not what it was: look again */
    LF_FAILED,
} lf_pooled_state;

/* While it is in a slot, or held, or both. Guarded by the pool's lock; from LF_READY on what was loaded does not change. */
struct lorafmt_pooled {
    lorafmt_pool *pool;
    struct lf_slot *slot; /* NULL when it was forgotten, or is going to be when nobody holds it any more */
    lf_pooled_state state;
    size_t n_holders;
    bool is_idle;                  /* in a slot, ready, not pinned and not held: it may be forgotten */
    lorafmt_pooled *older, *newer; /* idle ones that were released before and after it */

    uint64_t size; /* off the budget */
    lf_stamp stamp;
    lorafmt_source *source;
    const lorafmt_adapter *adapter;
    lorafmt_view *view;
    lorafmt_status status; /* of loading */
    lorafmt_error *error;  /* its own; NULL when it is loaded */
};

/* What the pool knows by a path: there as long as anything of this is. */
typedef struct lf_slot {
    struct lf_slot *next; /* with the same place in the table */
    uint64_t hash;
    lorafmt_pooled *current; /* whom the next to ask will get, or NULL */
    bool is_pinned;
    bool is_ahead; /* to be loaded by a thread of the pool's, which may have begun */
    struct lf_slot *next_ahead;
    char path[];
} lf_slot;

typedef struct lf_slots {
    lf_slot **first; /* of each place; as many as a power of two, or none */
    size_t n_places, n;
} lf_slots;

lf_slot *lf_slots_find(const lf_slots *slots, const char *path);
lf_slot *lf_slots_add(lf_slots *slots, const char *path); /* found or new; NULL when out of memory */
void lf_slots_tidy(lf_slots *slots, lf_slot *slot);       /* remove it if there is nothing to know any more */

struct lorafmt_pool {
    uint64_t budget;
    lorafmt_source_options source;
    const lorafmt_base *base;
    lorafmt_bind_options bind;

    pthread_mutex_t lock;               /* guards what follows */
    pthread_cond_t changed;             /* something was loaded, given back or became idle */
    bool is_closed;                     /* the last one that is given back takes the pool with it */
    lorafmt_pool_statistics statistics; /* of which `held` is at most the budget */
    uint64_t idle, going;               /* bytes of those held: that may be given back, that are being given back */
    lorafmt_pooled *oldest, *newest;    /* idle */
    lf_slots slots;

    pthread_cond_t asked; /* for the threads that load ahead */
    bool is_stopping;
    lf_slot *first_ahead, *last_ahead;
    size_t n_loaders;
    pthread_t *loaders;
};

/* Fills in all that is loaded, even when it fails. Without lock. */
lorafmt_status lf_pooled_load(lorafmt_pooled *pooled, const lf_found *found, lorafmt_error *err);

/* For the rest the pool is locked. */

void lf_pooled_hold(lorafmt_pooled *pooled);
void lf_pooled_let_go(lorafmt_pooled *pooled); /* unlocks meanwhile when it is given back */
void lf_pooled_settle(lorafmt_pooled *pooled); /* after a change: when nobody holds it, it becomes idle or is given back */
void lf_pooled_detach(lorafmt_pooled *pooled); /* the next to ask will not get it; settle it afterwards */
void lf_pool_evict(lorafmt_pool *pool);        /* the oldest; unlocks meanwhile */

/* Unlock, and free a pool that is closed and empty. */
void lf_pool_unlock(lorafmt_pool *pool);

/* lorafmt_pool_acquire_within() without lock; is_counted as a hit or a miss. */
lorafmt_status lf_pool_acquire(lorafmt_pool *pool, const char *path, uint32_t milliseconds, bool is_counted, lorafmt_pooled **out,
                               lorafmt_error *err);

/* Without lock. */
lorafmt_status lf_ahead_start(lorafmt_pool *pool, unsigned n_loaders, lorafmt_error *err);
void lf_ahead_stop(lorafmt_pool *pool);

#endif
