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

/** The version of the merge arithmetic that a lock pins: 1 is section 7 of spec/lora-container.md. */
#define LORAKIT_ARITHMETIC 1

typedef struct lorakit_scenarios lorakit_scenarios;

typedef struct lorakit_scenarios_options {
    size_t struct_size;        /**< sizeof(lorakit_scenarios_options) */
    const char *output;        /**< where builds are, in place of the manifest's; NULL = that */
    bool no_lock;              /**< do not look for a lock */
    bool no_cache;             /**< do not write what the base's digests were to OUTPUT/.lorafmt */
    bool in_memory;            /**< read adapters into memory, so that whoever truncates their files does no harm */
    unsigned n_threads;        /**< 0 = one per CPU */
    lorakit_progress progress; /**< while the base is hashed: bytes */
    void *progress_ctx;

    /**
     * Called for each thing that is not as the lock says, as "adapters.legal" and a sentence; then that is no failure. NULL = the
     * first of them is.
     */
    void (*drift)(void *ctx, const char *what, const char *text);
    void *drift_ctx;

    const struct lorafmt_limits
        *limits;   /**< of manifest, lock and adapters; borrowed until the set is freed. NULL = lorafmt/limits.h */
    bool paranoid; /**< lorafmt_source_options.paranoid for each adapter */
} lorakit_scenarios_options;

/**
 * Read a manifest and its lock, and open the base: its headers. Adapters are opened when a scenario needs them.
 *
 * With a lock beside the manifest (spec/manifest.md 5) everything must be as it says, here and in what follows. Then, or when the
 * manifest says the base's digest, the base is hashed, unless it was before and its files are untouched since.
 *
 * @return LORAFMT_OK; what lorakit_manifest_open() and lorafmt_model_open() return; CORRUPT (a lock that is none); UNSUPPORTED
 *         (a newer one); MISUSE (a manifest with the name of its own lock, an empty output);
 *         MISMATCH (the base is not the one that the manifest or the lock says; LORAFMT_HINT_LOCK); what
 *         lorafmt_public_key_load() returns; CANCELLED
 */
LORAKIT_API lorafmt_status lorakit_scenarios_open(const char *path, const lorakit_scenarios_options *options,
                                                  lorakit_scenarios **out, lorafmt_error *err);
LORAKIT_API void lorakit_scenarios_free(lorakit_scenarios *set);

LORAKIT_API const lorakit_manifest *lorakit_scenarios_manifest(const lorakit_scenarios *set);
LORAKIT_API lorafmt_model *lorakit_scenarios_model(const lorakit_scenarios *set);

/** Where builds are. */
LORAKIT_API const char *lorakit_scenarios_output(const lorakit_scenarios *set);

/** SHA-256 of the base: spec/manifest.md 4. Hashed at the first call, if opening did not. */
LORAKIT_API lorafmt_status lorakit_scenarios_base_sha256(lorakit_scenarios *set, uint8_t out[32], lorafmt_error *err);

/**
 * Adapter i of the manifest, opened at the first call and borrowed from the set. Not from two threads at a time, as all functions that
 * follow.
 *
 * @return LORAFMT_OK; what lorafmt_source_open() returns, UNTRUSTED among it when the manifest requires signatures, and
 *         lorafmt_signature_load(); MISMATCH (another id than the manifest or the lock says; made for a base of
 *         another name or revision than the manifest says)
 */
LORAKIT_API lorafmt_status lorakit_scenarios_adapter(lorakit_scenarios *set, size_t adapter, const lorafmt_adapter **out,
                                                     lorafmt_error *err);

/**
 * The view of a scenario, with its weights and maps. To be freed before the set.
 *
 * @param report  as in lorafmt_bind_options; may be NULL
 *
 * @return what lorakit_scenarios_adapter() and lorafmt_bind() return; MISMATCH (weights for no target of their adapter)
 */
LORAKIT_API lorafmt_status lorakit_scenarios_bind(lorakit_scenarios *set, size_t scenario,
                                                  void (*report)(void *ctx, const char *adapter, const char *target,
                                                                 const char *text),
                                                  void *report_ctx, lorafmt_view **out, lorafmt_error *err);

/**
 * The scenario as one adapter, an exact sum (lorakit_compose()) that was bound to the base to see that it fits. It borrows from the
 * set.
 *
 * @return what lorakit_scenarios_bind() and lorakit_compose() return; UNSUPPORTED for what no single adapter says: no adapters, a map
 */
LORAKIT_API lorafmt_status lorakit_scenarios_compose(lorakit_scenarios *set, size_t scenario, lorakit_adapter **out,
                                                     lorafmt_error *err);

/** Path of the lock, there or not. */
LORAKIT_API const char *lorakit_scenarios_lock_path(const lorakit_scenarios *set);

typedef enum lorakit_lock_state {
    LORAKIT_LOCK_ABSENT = 0,
    LORAKIT_LOCK_SAME,  /**< it says what is there */
    LORAKIT_LOCK_OTHER, /**< something else; all that drifted was told to lorakit_scenarios_options.drift */
} lorakit_lock_state;

/**
 * What the lock says of all that the manifest names, and with `write` make it say what is there: whole or not at all. The same files
 * give the same bytes.
 *
 * @param set  opened with `drift`, or with no_lock, which finds no lock
 */
LORAKIT_API lorafmt_status lorakit_scenarios_lock(lorakit_scenarios *set, bool write, lorakit_lock_state *found,
                                                  lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
