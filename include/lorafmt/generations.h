/* SPDX-License-Identifier: MIT */
/**
 * Living files: a `.lora` changes by another *generation* that is appended to it (spec 1, 3 and 4.9). What is there stays where it
 * is: who has the file open keeps the state that it saw, a crash at any moment leaves the generation before, and one can go back
 * to any that the file remembers.
 *
 * The functions that write lock the file against each other, by flock(): while one works another fails at once, IO with os_error
 * EWOULDBLOCK. What they build on is checked first, all but the data of tensors. A file of which a root slot is damaged
 * (lorafmt_container_info.recovered) is CORRUPT for all but lorafmt_rollback() to a generation that is named and lorafmt_compact()
 * to another path.
 *
 * On failure the file holds what it held. There may be bytes behind its end, which count for nothing and which the next one to
 * append writes over: also those of a generation that was there for a moment, until the disk refused its root. Two failures are
 * different, and the text says so: a generation that could not be taken back may be there after all, and one that was written while
 * somebody else put another file in the place of this one (IO, EWOULDBLOCK) is in the old file.
 */
#ifndef LORAFMT_GENERATIONS_H
#define LORAFMT_GENERATIONS_H

#include "lorafmt/files.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorafmt_append_result {
    uint64_t generation;       /**< that was written */
    uint64_t n_bytes;          /**< that the file grew by, beside the root slot */
    size_t n_ignored_sections; /**< of a newer format, in the generation before, which the new one does not have */
    uint64_t restored;         /**< of lorafmt_rollback(): the generation that it went back to; else 0 */
} lorafmt_append_result;

/**
 * Add adapters. Tensors that the file has already are not stored again.
 *
 * @param options  as for lorafmt_pack(), NULL for none; `align` must be 0, since the file has its own; `force` is for adapters: one
 *                 of a name that is taken takes that one's place
 * @param out      may be NULL
 *
 * @return LORAFMT_OK; MISUSE (a name that is taken, without force); NOT_LORAFMT, UNSUPPORTED, CORRUPT, LIMIT for what is in the
 *         file; what lorafmt_pack() says of adapters and options; IO; NOT_FOUND; NO_MEMORY; CANCELLED
 */
LORAFMT_API lorafmt_status lorafmt_add(const char *path, const lorafmt_adapter *const *adapters, size_t n_adapters,
                                       const lorafmt_pack_options *options, lorafmt_append_result *out, lorafmt_error *err);

/** Remove adapters by name. NOT_FOUND for a name that is not there, MISUSE for all of them and for one twice; else as lorafmt_add(). */
LORAFMT_API lorafmt_status lorafmt_remove(const char *path, const char *const *names, size_t n_names, lorafmt_append_result *out,
                                          lorafmt_error *err);

/**
 * Add a signature to an adapter of that name. It takes the place of one by the same key. Whether it is genuine is not looked at.
 * As lorafmt_remove().
 */
LORAFMT_API lorafmt_status lorafmt_add_signature(const char *path, const char *adapter, const lorafmt_signature *signature,
                                                 lorafmt_append_result *out, lorafmt_error *err);

/**
 * Go back: append a generation that holds what an earlier one held, all of which is verified first.
 *
 * @param generation  one of lorafmt_history_open(); 0 is the newest before the current one, of a file that is not recovered. The
 *                    current one is only for a file that is recovered: that accepts its state, and gives up what the damaged slot
 *                    led to.
 * @return NOT_FOUND for a generation that is not there; MISUSE for the current one of a sound file; else as lorafmt_add()
 */
LORAFMT_API lorafmt_status lorafmt_rollback(const char *path, uint64_t generation, lorafmt_append_result *out,
                                            lorafmt_error *err);

typedef struct lorafmt_compact_options {
    size_t struct_size; /**< sizeof(lorafmt_compact_options) */
    bool force;         /**< replace an output that exists */
    /** Called first when all is verified and nothing is written yet, with 0 of 0 bytes. */
    lorafmt_progress progress;
    void *progress_ctx;
} lorafmt_compact_options;

typedef struct lorafmt_compact_result {
    uint64_t n_bytes;        /**< of the new file */
    uint64_t n_bytes_before; /**< of all generations together */
    bool recovered;          /**< a root slot was damaged: there may have been a newer state than the one that was written */
} lorafmt_compact_result;

/**
 * Write the current state, all of which is verified first, as a new file of one generation: without history and without what no
 * longer counts. Ids, signatures and stored bytes stay.
 *
 * @param output   the new file; NULL puts it in place of the old one, of which readers keep what they have open. Then it gets the
 *                 permissions of the old one, and its owner where the process may give files away.
 * @param options  may be NULL
 * @param out      may be NULL
 * @return MISUSE for an output that is the file itself; IO, EWOULDBLOCK, when somebody else replaced the file meanwhile, which then
 *         stays; else as lorafmt_add()
 */
LORAFMT_API lorafmt_status lorafmt_compact(const char *path, const char *output, const lorafmt_compact_options *options,
                                           lorafmt_compact_result *out, lorafmt_error *err);

/** The generations of a file, newest first. Functions on const handles may run concurrently. */
typedef struct lorafmt_history lorafmt_history;

typedef struct lorafmt_generation {
    uint64_t number;
    uint64_t n_bytes;  /**< of the file, that it wrote */
    size_t n_adapters; /**< that it holds; 0 when its index is damaged */
    const lorafmt_adapter
        *adapters;      /**< ids as the file states them; sites, metadata and signatures are NULL, their numbers told */
    const char *damage; /**< what is wrong with its index; NULL when nothing is */
} lorafmt_generation;

/** NOT_LORAFMT, UNSUPPORTED, CORRUPT, NOT_FOUND, IO, NO_MEMORY. A damaged generation is told by it, unless it is the current one. */
LORAFMT_API lorafmt_status lorafmt_history_open(const char *path, lorafmt_history **out, lorafmt_error *err);
LORAFMT_API void lorafmt_history_free(lorafmt_history *history);

/** At least 1; number 0 is the current one. */
LORAFMT_API size_t lorafmt_history_n_generations(const lorafmt_history *history);

/** NULL when there is no generation i. */
LORAFMT_API const lorafmt_generation *lorafmt_history_generation(const lorafmt_history *history, size_t i);

/**
 * lorafmt_verify() of one generation alone. A root slot that is damaged (recovered) says nothing of a generation that the other one
 * leads to.
 *
 * @param out  may be NULL; recovered is never set
 * @return LORAFMT_OK: lorafmt_rollback() would find it whole; CORRUPT; UNSUPPORTED; NOT_FOUND when there is no generation i; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_history_verify(const lorafmt_history *history, size_t i, lorafmt_verify_result *out,
                                                  lorafmt_error *err);

LORAFMT_API void lorafmt_history_container(const lorafmt_history *history, lorafmt_container_info *out);

#ifdef __cplusplus
}
#endif

#endif
