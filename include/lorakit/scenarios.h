/* SPDX-License-Identifier: MIT */
/**
 * A manifest with what it names opened: the base, the adapters, and the lock that pins them.
 */
#ifndef LORAKIT_SCENARIOS_H
#define LORAKIT_SCENARIOS_H

#include "lorafmt/model.h"
#include "lorakit/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorakit_scenarios lorakit_scenarios;

typedef struct lorakit_scenarios_options {
    size_t struct_size;        /**< sizeof(lorakit_scenarios_options) */
    bool no_lock;              /**< do not look for a lock: for whoever writes it */
    bool in_memory;            /**< read adapters into memory, so that whoever truncates their files does no harm */
    unsigned n_threads;        /**< 0 = one per CPU */
    lorakit_progress progress; /**< while the base is hashed: bytes */
    void *progress_ctx;
} lorakit_scenarios_options;

/**
 * Read a manifest and its lock, and open the base: its headers. Adapters are opened when a scenario needs them.
 *
 * With a lock beside the manifest (its name with the extension .lock) everything must be as it says, here and in what follows.
 *
 * @return LORAFMT_OK; what lorakit_manifest_open() and lorafmt_model_open() return; MISMATCH (the base is not the one that the
 *         manifest or the lock says; the lock does not know it)
 */
LORAKIT_API lorafmt_status lorakit_scenarios_open(const char *path, const lorakit_scenarios_options *options,
                                                  lorakit_scenarios **out, lorafmt_error *err);
LORAKIT_API void lorakit_scenarios_free(lorakit_scenarios *set);

LORAKIT_API const lorakit_manifest *lorakit_scenarios_manifest(const lorakit_scenarios *set);
LORAKIT_API lorafmt_model *lorakit_scenarios_model(const lorakit_scenarios *set);

/**
 * Adapter i of the manifest, opened at the first call and borrowed from the set. Not from two threads at a time.
 *
 * @return LORAFMT_OK; what lorafmt_source_open() returns; MISMATCH (another id than the manifest or the lock says)
 */
LORAKIT_API lorafmt_status lorakit_scenarios_adapter(lorakit_scenarios *set, size_t adapter, const lorafmt_adapter **out,
                                                     lorafmt_error *err);

/**
 * The view of a scenario, with its weights and maps. To be freed before the set. Not from two threads at a time.
 *
 * @param report  as in lorafmt_bind_options; may be NULL
 */
LORAKIT_API lorafmt_status lorakit_scenarios_bind(lorakit_scenarios *set, size_t scenario,
                                                  void (*report)(void *ctx, const char *adapter, const char *target,
                                                                 const char *text),
                                                  void *report_ctx, lorafmt_view **out, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
