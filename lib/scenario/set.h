/* SPDX-License-Identifier: MIT */
/* Inside of an opened manifest. */
#ifndef LK_SCENARIO_SET_H
#define LK_SCENARIO_SET_H

#include "format/base/arena.h"
#include "lib/scenario/lock.h"
#include "lorafmt/origin.h"
#include "lorakit/scenarios.h"

#define LK_STATE_DIRECTORY ".lorafmt" /* in OUTPUT: whatever is not a result */

/* An adapter of the manifest once it was asked for. */
typedef struct lk_opened {
    lorafmt_source *source; /* or NULL */
    const lorafmt_adapter *adapter;
    uint8_t id[32];
} lk_opened;

struct lorakit_scenarios {
    lf_arena arena;
    lorakit_scenarios_options options;
    lorakit_manifest *manifest;
    lorafmt_model *model;
    const char *output;
    const char *lock_path;
    bool has_lock;
    lk_lock lock;
    uint8_t structure[32]; /* of the base */
    size_t n_files;
    lk_base_file *files;      /* of the base, once it was hashed; else NULL */
    lk_opened *adapters;      /* of the manifest */
    lorafmt_public_key *keys; /* that the manifest requires signatures of */
};

/* Hash the base, or know its digests from before: set->files. */
lorafmt_status lk_base_digest(lorakit_scenarios *set, lorafmt_error *err);

/* Adapter i, opened and checked. */
lorafmt_status lk_set_adapter(lorakit_scenarios *set, size_t i, const lk_opened **out, lorafmt_error *err);

/* Read the keys whose signatures the manifest requires. */
lorafmt_status lk_policy_open(lorakit_scenarios *set, lorafmt_error *err);

/* What adapter i must be signed by, when there are keys; `signature` is room for a detached one, which *out borrows. */
lorafmt_status lk_policy_of(const lorakit_scenarios *set, size_t i, uint8_t signature[LORAFMT_SIGNATURE_SIZE],
                            lorafmt_policy *out, lorafmt_error *err);

/* Make OUTPUT and its directory for what is no result. */
lorafmt_status lk_make_directories(const lorakit_scenarios *set, lorafmt_error *err);

/* Make a directory in which files are replaced and removed, or see that it is one: a link might lead to somebody else's. */
lorafmt_status lk_make_own_directory(const char *path, lorafmt_error *err);

/* Hold the base, and adapter i, against the lock. */
lorafmt_status lk_lock_check_base(lorakit_scenarios *set, lorafmt_error *err);
lorafmt_status lk_lock_check_adapter(const lorakit_scenarios *set, size_t i, const uint8_t id[32], lorafmt_error *err);

/* Adapters that only the lock knows, which do no harm. */
lorafmt_status lk_lock_check_removed(const lorakit_scenarios *set, lorafmt_error *err);

#endif
