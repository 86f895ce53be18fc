/* SPDX-License-Identifier: MIT */
/**
 * Scenarios as directories of files that are computed where they are read: the FUSE front end of a view (Linux).
 *
 *     DIR/base/          the base as it is
 *     DIR/SCENARIO/      every file that merging the scenario writes: lorafmt/image.h
 *
 * Read-only. A file that was opened keeps its bytes; what is opened after the manifest changed is of the new one.
 */
#ifndef LORAKIT_MOUNT_H
#define LORAKIT_MOUNT_H

#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorakit_mount lorakit_mount;

typedef struct lorakit_mount_options {
    size_t struct_size;        /**< sizeof(lorakit_mount_options) */
    const char *scenario;      /**< show this one alone, as DIR itself; NULL = all, and the base */
    bool allow_other;          /**< other users may read too, as the permissions of the base's files say */
    bool unmount_on_death;     /**< with the help of fusermount3: the mount goes when the process dies, however that happens */
    unsigned n_threads;        /**< that answer; 0 = two more than CPUs, at most 12 */
    lorakit_progress progress; /**< while opening, as the base is hashed: bytes */
    void *progress_ctx;

    /** Called from any thread, one at a time, with what is worth knowing: files left out, read errors, new generations. */
    void (*report)(void *ctx, const char *text);
    void *report_ctx;

    /** Called for each thing of a scenario that does not fit, before opening fails; may be NULL. */
    void (*problem)(void *ctx, const char *scenario, const char *adapter, const char *target, const char *text);
    void *problem_ctx;

    const struct lorafmt_limits *limits; /**< as in lorakit_scenarios_options; borrowed until closed */
    bool paranoid;
} lorakit_mount_options;

/**
 * Open all that the manifest names, bind every scenario, and mount. Nobody can read before lorakit_mount_serve(), but wait. No thread
 * is left running, so that the process may fork between the two.
 *
 * @param manifest   path; a lock beside it counts
 * @param directory  an empty one; what a dead process left mounted there is taken away first
 * @param out        to be closed with lorakit_mount_close(); NULL on failure
 *
 * @return LORAFMT_OK; what lorakit_scenarios_open() and _bind() return; NOT_FOUND (no such scenario, no directory); MISUSE (not an empty
 *         directory, something is mounted there); UNSUPPORTED (no /dev/fuse); IO
 */
LORAKIT_API lorafmt_status lorakit_mount_open(const char *manifest, const char *directory, const lorakit_mount_options *options,
                                              lorakit_mount **out, lorafmt_error *err);

/**
 * Answer until somebody unmounts, or until told to stop. A manifest or lock that changes is read again; as long as anything about it
 * is wrong, what was there before stays.
 *
 * @param control  a descriptor that is read from: 'r' = read the manifest again, anything else or its end = stop
 */
LORAKIT_API lorafmt_status lorakit_mount_serve(lorakit_mount *mount, int control, lorafmt_error *err);

/** Unmount, also what is in use, and free. NULL is fine. */
LORAKIT_API void lorakit_mount_close(lorakit_mount *mount);

#ifdef __cplusplus
}
#endif

#endif
