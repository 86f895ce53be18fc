/* SPDX-License-Identifier: MIT */
/**
 * Many adapters for a server: those that are asked for are loaded, and stay as long as there is room, under a budget of bytes that
 * is never exceeded.
 *
 *     lorafmt_pool_acquire(pool, "legal.lora") ─▶ an adapter that is held ─▶ lorafmt_pooled_view() ─▶ lorafmt_forward()
 *                                                          └─▶ lorafmt_pool_release()
 *
 * An adapter is named by its path: anything that lorafmt_source_open() takes, or FILE#NAME for one of several in a `.lora`, where
 * no file has that name. The same file by two paths is two adapters.
 *
 * What counts against the budget is what lorafmt_source_measure() says: tensors, decoded, and index. It is known before an adapter
 * is loaded and taken off the budget before that begins; if there is no room, adapters are forgotten that nobody holds and nobody
 * pinned, the least recently released first. Not counted are some hundred bytes for each site and, of a view, for each tensor of
 * the base, and what DoRA is multiplied with, four bytes for each output.
 *
 * All functions may be called from any threads at any time, but lorafmt_pool_free(). Nothing that takes long is done under a lock:
 * while an adapter is loaded, others are acquired and released.
 */
#ifndef LORAFMT_POOL_H
#define LORAFMT_POOL_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"
#include "lorafmt/view.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorafmt_pool_options {
    size_t struct_size; /**< sizeof(lorafmt_pool_options) */
    uint64_t budget;    /**< bytes; at least 1 */
    unsigned n_loaders; /**< threads that prefetch, which wait for work as long as the pool lives; 0 = 1 */
    /** How to open adapters; copied, but for what it points to. Without `adapter`; a base that it has not is the one below. */
    const lorafmt_source_options *source;
    /**
     * Bind each adapter to it when it is loaded, so that what can be loaded can be computed with, unmerged. What it points to must
     * outlive the pool and all that is held. NULL = do not bind.
     */
    const lorafmt_base *base;
    /**
     * With base: how to bind; copied, but for what it points to, and of stacks of one adapter. Not check_only; `report` is called
     * from all threads that load.
     */
    const lorafmt_bind_options *bind;
} lorafmt_pool_options;

typedef struct lorafmt_pool lorafmt_pool;

/** An adapter in a pool, held by one or more: the same pointer for all. */
typedef struct lorafmt_pooled lorafmt_pooled;

/**
 * @param options  copied, with the structs that it points to
 * @param out      to be freed with lorafmt_pool_free(); NULL on failure
 *
 * @return LORAFMT_OK; MISUSE (options); NO_MEMORY, also when threads cannot be started
 */
LORAFMT_API lorafmt_status lorafmt_pool_new(const lorafmt_pool_options *options, lorafmt_pool **out, lorafmt_error *err);

/**
 * Stop loading ahead and forget all. What is still held stays until it is released, as ever, also while this runs; nothing else may be
 * called from now on.
 */
LORAFMT_API void lorafmt_pool_free(lorafmt_pool *pool);

/**
 * Hold an adapter, loading it unless it is in memory. Threads that ask for the same one while it is loaded wait for it, and get
 * the same error if that fails; a failure is not remembered. A file that is not what was loaded (another device, inode, size or
 * time of change; of a PEFT directory both files) is loaded anew, and who holds the old one keeps it.
 *
 * When it is in memory already this takes a look at its file and allocates nothing.
 *
 * @param path  see above
 * @param out   to be released with lorafmt_pool_release(); NULL on failure
 *
 * @return LORAFMT_OK; LIMIT when it is larger than the budget, or there is no room because too much is held or pinned; what
 *         lorafmt_source_open() returns, MISUSE for a file of several adapters; with a base, what lorafmt_bind(),
 *         lorafmt_view_prepare() and lorafmt_view_check_unmerged() return; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_pool_acquire(lorafmt_pool *pool, const char *path, lorafmt_pooled **out, lorafmt_error *err);

/**
 * The same, but wait for room until others have released enough, and then be refused. Who holds adapters and waits for more may wait
 * for others who do the same: acquire what a batch needs before the next batch, and in one order.
 *
 * @param milliseconds  the longest to wait for room; loading takes as long as it takes
 */
LORAFMT_API lorafmt_status lorafmt_pool_acquire_within(lorafmt_pool *pool, const char *path, uint32_t milliseconds,
                                                       lorafmt_pooled **out, lorafmt_error *err);

/** Once for each acquire. It stays in memory until there is need of its room. NULL is fine. */
LORAFMT_API void lorafmt_pool_release(lorafmt_pooled *pooled);

/** What is held, usable by many threads until it is released. */
LORAFMT_API const lorafmt_adapter *lorafmt_pooled_adapter(const lorafmt_pooled *pooled);
LORAFMT_API const lorafmt_source *lorafmt_pooled_source(const lorafmt_pooled *pooled); /**< of that adapter alone */
LORAFMT_API const lorafmt_view *lorafmt_pooled_view(const lorafmt_pooled *pooled);     /**< prepared; NULL without a base */

/**
 * Load an adapter, as acquiring does, and never forget it, until it is unpinned or forgotten by name. Pinning what is pinned changes
 * nothing, nor does unpinning what is not. A pinned adapter whose file changes is loaded anew all the same, and is pinned then.
 */
LORAFMT_API lorafmt_status lorafmt_pool_pin(lorafmt_pool *pool, const char *path, lorafmt_error *err);
LORAFMT_API void lorafmt_pool_unpin(lorafmt_pool *pool, const char *path);

/** Have the next acquire load it anew; it is not pinned any more. Who holds it keeps it. */
LORAFMT_API void lorafmt_pool_forget(lorafmt_pool *pool, const char *path);

/**
 * Load an adapter on one of the pool's threads, unless it is in memory. What comes of it, acquiring tells; a failure, or that there
 * is no room, is counted and changes nothing.
 *
 * @return LORAFMT_OK, before it is loaded; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_pool_prefetch(lorafmt_pool *pool, const char *path, lorafmt_error *err);

typedef struct lorafmt_pool_statistics {
    uint64_t n_hits;      /**< calls of acquire that found the adapter in memory */
    uint64_t n_misses;    /**< those that did not, whatever came of them */
    uint64_t n_loads;     /**< adapters that were loaded, acquired, pinned or prefetched */
    uint64_t n_failures;  /**< of those that were not, but for lack of room */
    uint64_t n_refusals;  /**< for lack of room */
    uint64_t n_evictions; /**< adapters forgotten to make room */
    uint64_t held;        /**< bytes off the budget now */
    uint64_t most_held;   /**< the most ever */
    size_t n_adapters;    /**< that these bytes are of, those that are just being loaded among them */
} lorafmt_pool_statistics;

LORAFMT_API void lorafmt_pool_get_statistics(lorafmt_pool *pool, lorafmt_pool_statistics *out);

#ifdef __cplusplus
}
#endif

#endif
