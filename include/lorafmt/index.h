/* SPDX-License-Identifier: MIT */
/**
 * The index of a `.lora` file, looked up where it lies: for a loader that has the bytes of the file, knows the names of its own
 * tensors, and wants what an adapter does to each. Opening takes microseconds and two small allocations, whatever the file's
 * size; a site is decoded and checked when it is asked for; data is neither read nor copied.
 *
 * lorafmt_source_open() is the other way: it reads any kind of adapter and has checked everything when it returns.
 *
 * Whatever the bytes are, nothing here reads outside them: that rests on checks of each record, never on a digest. Every site
 * that is returned keeps the rules of spec 4.3 to 4.6 that can be told from its own records. Three rules are about more than one
 * record and are left to lorafmt_source_open() and lorafmt_verify(): the order of sites, the adapter id, and ranges of data that
 * overlap. In a file that breaks the first, lorafmt_index_find() may miss a site, while going through all of them misses none.
 */
#ifndef LORAFMT_INDEX_H
#define LORAFMT_INDEX_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An opened index. It is never modified: all functions on one may run concurrently. */
typedef struct lorafmt_index lorafmt_index;

typedef struct lorafmt_index_options {
    size_t struct_size; /**< sizeof(lorafmt_index_options) */
    /**
     * Do not hash the index now, which takes most of the time of opening. Header page and root slots are checked by their CRC-32
     * all the same, counts and sizes against the bytes there are, and each record when it is asked for; what is not noticed is
     * damage that leaves every rule intact, such as another scale, until lorafmt_index_check_digest() is called.
     */
    bool defer_digest;
} lorafmt_index_options;

/**
 * @param bytes    the whole file, [bytes, bytes + size); borrowed until lorafmt_index_free(), and must not change meanwhile
 * @param options  may be NULL
 * @param out      to be freed with lorafmt_index_free(); NULL on failure
 *
 * @return LORAFMT_OK; NOT_LORAFMT, UNSUPPORTED, CORRUPT for what is in the bytes; NO_MEMORY, MISUSE
 */
LORAFMT_API lorafmt_status lorafmt_index_open(const void *bytes, uint64_t size, const lorafmt_index_options *options,
                                              lorafmt_index **out, lorafmt_error *err);
LORAFMT_API void lorafmt_index_free(lorafmt_index *index);

/** The index against the digest that its root has of it: spec 3. LORAFMT_OK or CORRUPT. */
LORAFMT_API lorafmt_status lorafmt_index_check_digest(const lorafmt_index *index, lorafmt_error *err);

LORAFMT_API void lorafmt_index_info(const lorafmt_index *index, lorafmt_container_info *out);

LORAFMT_API size_t lorafmt_index_n_adapters(const lorafmt_index *index);

/**
 * What an adapter says of itself: spec 4.3.
 *
 * @param i           [0, n_adapters)
 * @param out         without sites and metadata; the id is as the file states it
 * @param first_site  its sites are [first_site, first_site + n_sites) of the file's
 *
 * @return LORAFMT_OK; CORRUPT; MISUSE. On failure *out and the numbers are zero.
 */
LORAFMT_API lorafmt_status lorafmt_index_adapter(const lorafmt_index *index, size_t i, lorafmt_adapter *out, size_t *first_site,
                                                 size_t *n_sites, lorafmt_error *err);

/** The most factors that a site can have: spec 4.4. */
#define LORAFMT_MAX_FACTORS 16

/**
 * One site with its factors.
 *
 * @param i    a site of the file, of whichever adapter
 * @param out  out->factors is `factors`. Strings and the data of tensors lie in the bytes of the file; tensor.data is NULL when it
 *             is compressed
 *
 * @return LORAFMT_OK; CORRUPT; UNSUPPORTED (a dtype or codec of a newer format); MISUSE. On failure *out is zero.
 */
LORAFMT_API lorafmt_status lorafmt_index_site(const lorafmt_index *index, size_t i, lorafmt_site *out,
                                              lorafmt_factor factors[LORAFMT_MAX_FACTORS], lorafmt_error *err);

/**
 * Find an adapter's first site of that target by binary search; others of the target follow it.
 *
 * @param site  in: where to look first. The site found last is a good place, which makes walking a model in its own order
 *              quicker; any number will do. Out: the site, when there is one.
 *
 * @return LORAFMT_OK; NOT_FOUND (with no text in err); CORRUPT; MISUSE. On failure *site is unchanged.
 */
LORAFMT_API lorafmt_status lorafmt_index_find(const lorafmt_index *index, size_t adapter, const char *target, size_t *site,
                                              lorafmt_error *err);

/**
 * The data of one factor of a site, decoded if it is compressed, and held against its digest. The numbers of a row_index are not
 * looked at: lorafmt_bind() holds them against the base. A file may give one tensor to many sites, each of which is loaded by
 * itself: load what fits a tensor of yours, and the sizes of yours bound the work.
 *
 * @param factor  [0, n_factors) of the site
 * @param dst     tensor.size bytes, which never are more than twice what the file holds of it; when tensor.data is not NULL,
 *                dst may be: then that is checked where it lies
 *
 * @return LORAFMT_OK; CORRUPT; UNSUPPORTED; NO_MEMORY; MISUSE. On failure anything may be left in dst.
 */
LORAFMT_API lorafmt_status lorafmt_index_load(const lorafmt_index *index, size_t site, uint32_t factor, void *dst,
                                              lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
