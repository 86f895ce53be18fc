/* SPDX-License-Identifier: MIT */
/* spec/manifest.md 5: what a manifest meant when it was locked. */
#ifndef LK_SCENARIO_LOCK_H
#define LK_SCENARIO_LOCK_H

#include "format/base/arena.h"
#include "lorafmt/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A tensor file of the base. */
typedef struct lk_base_file {
    const char *name;
    uint64_t size;
    uint8_t sha256[32];
} lk_base_file;

typedef struct lk_locked_adapter {
    const char *name;
    uint8_t id[32];
} lk_locked_adapter;

typedef struct lk_lock {
    uint32_t arithmetic;
    uint8_t structure[32];
    size_t n_files;
    lk_base_file *files;
    size_t n_adapters;
    lk_locked_adapter *adapters;
} lk_lock;

/* Read a lock. *found is false when there is no such file. */
lorafmt_status lk_lock_read(const char *path, const lorafmt_limits *limits, lf_arena *arena, bool *found, lk_lock *out,
                            lorafmt_error *err);

#endif
