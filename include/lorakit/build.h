/* SPDX-License-Identifier: MIT */
/**
 * Scenarios as files: merged models at OUTPUT/SCENARIO, or adapters at OUTPUT/SCENARIO.lora. What is up to date is left alone, what was
 * interrupted goes on, and several processes, on one machine or on many that share a file system, build parts of one model.
 *
 * Whatever is no result is in OUTPUT/.lorafmt: finished files of unfinished models, and for each result a record of what it was made
 * from. Only what has a record is ever replaced.
 */
#ifndef LORAKIT_BUILD_H
#define LORAKIT_BUILD_H

#include "lorafmt/files.h"
#include "lorakit/scenarios.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lorakit_form {
    LORAKIT_FORM_MODEL = 0, /**< a directory, byte for byte what lorafmt_merge() writes */
    LORAKIT_FORM_LORA,      /**< the exact sum of the adapters: lorakit_scenarios_compose() */
} lorakit_form;

/** How a scenario is there. */
typedef enum lorakit_built {
    LORAKIT_ABSENT = 0,
    LORAKIT_PARTIAL, /**< it is not, or stale, but some of its files are finished */
    LORAKIT_STALE,   /**< made from something else, changed since, or not made here */
    LORAKIT_FRESH,
} lorakit_built;

/** "absent" and so on; "unknown" for other numbers. Never NULL. */
LORAKIT_API const char *lorakit_built_name(lorakit_built built);

typedef struct lorakit_build_state {
    lorakit_built built;
    char why[512];     /**< of what is stale, a sentence; else empty */
    uint64_t n_bytes;  /**< of a model, all its files; of an adapter what is there */
    size_t n_files;    /**< that hold tensors */
    size_t n_finished; /**< of those */
} lorakit_build_state;

/** A scenario to be built. */
typedef struct lorakit_build lorakit_build;

/**
 * Bind a scenario to be built; nothing is written.
 *
 * @param set          must outlive the build; it is used by it
 * @param report       as in lorafmt_bind_options; may be NULL
 * @param left_behind  called with the name and reason of each file of the base that is not carried over; may be NULL
 * @param ctx          of both
 * @param out          to be freed with lorakit_build_free(); NULL on failure
 *
 * @return what lorakit_scenarios_bind() and lorafmt_image_open() return, or of a lora lorakit_scenarios_compose()
 */
LORAKIT_API lorafmt_status lorakit_build_open(lorakit_scenarios *set, size_t scenario, lorakit_form form,
                                              void (*report)(void *ctx, const char *adapter, const char *target,
                                                             const char *text),
                                              void (*left_behind)(void *ctx, const char *file, const char *why), void *ctx,
                                              lorakit_build **out, lorafmt_error *err);
LORAKIT_API void lorakit_build_free(lorakit_build *build);

/** Of a model; NULL of a lora. Borrowed, and not to be prepared. */
LORAKIT_API const lorafmt_view *lorakit_build_view(const lorakit_build *build);

/** Where the result is, there or not. */
LORAKIT_API const char *lorakit_build_path(const lorakit_build *build);

/** How the scenario is there. Hashes the base, if nobody did, when there is anything to judge. */
LORAKIT_API lorafmt_status lorakit_build_look(lorakit_build *build, lorakit_build_state *out, lorafmt_error *err);

typedef struct lorakit_build_options {
    size_t struct_size; /**< sizeof(lorakit_build_options) */
    bool force;         /**< make anew what is fresh or partial; not with parts */
    unsigned
        part; /**< 1 .. n_parts: write only every n_parts-th of a model's tensor files, and finish it if the others are there */
    unsigned n_parts;          /**< 0 or 1 = all of it */
    lorafmt_progress progress; /**< over the bytes that are written */
    void *progress_ctx;
} lorakit_build_options;

typedef struct lorakit_build_result {
    lorakit_build_state before, after;
    size_t n_written;         /**< tensor files */
    uint64_t n_bytes_written; /**< of them, or of the adapter */
    lorafmt_counts counts;    /**< of them */
} lorakit_build_result;

/**
 * Make a scenario up to date, or a part of it. Whoever is interrupted, even killed, leaves nothing but whole files, to go on from.
 *
 * @return LORAFMT_OK, with after.built PARTIAL while files of other parts are missing; MISUSE (options; something is where the result
 *         goes that was not made here); what lorafmt_image_write() or lorafmt_pack() returns; CANCELLED
 */
LORAKIT_API lorafmt_status lorakit_build_run(lorakit_build *build, const lorakit_build_options *options,
                                             lorakit_build_result *out, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
