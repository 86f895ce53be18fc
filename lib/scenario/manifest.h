/* SPDX-License-Identifier: MIT */
/* What the files of the manifest's reader share. */
#ifndef LK_MANIFEST_H
#define LK_MANIFEST_H

#include "lib/scenario/yaml.h"
#include "lorakit/manifest.h"

typedef struct lk_manifest {
    lorakit_manifest shown; /* first, so that it stands for all of this */
    lf_arena arena;
    const char **roots; /* room for all of those shown */
    const char *home;   /* the user's directory; NULL = none */
} lk_manifest;

/* spec/manifest.md 3.1: the manifest's directory, the key roots, which may be NULL, and the cache. */
lorafmt_status lk_manifest_read_roots(lk_manifest *m, const lk_yaml *roots, lorafmt_error *err);

/* A path in the manifest's directory, given one in the arena; NULL when out of memory. */
const char *lk_manifest_join(lk_manifest *m, const char *relative);

/* Does a path lead beneath the roots? It may be missing. `at` is where a message points. */
lorafmt_status lk_manifest_check_beneath(const lk_manifest *m, const char *path, const lk_yaml *at, lorafmt_error *err);

lorafmt_status lk_manifest_read_path(lk_manifest *m, const lk_yaml *node, const char **out, lorafmt_error *err);

/* spec/manifest.md 3.4: a dtype of models; the node may be NULL, which is 0. */
lorafmt_status lk_manifest_read_dtype(const lk_yaml *node, lorafmt_dtype *out, lorafmt_error *err);

/* Is its key a name of an adapter or a scenario? */
lorafmt_status lk_manifest_check_name(const lk_yaml *node, lorafmt_error *err);

/* spec/manifest.md 3.5: the scenarios, which may be NULL, with what they extend; the adapters are read. */
lorafmt_status lk_manifest_read_scenarios(lk_manifest *m, const lk_yaml *root, lorafmt_dtype default_dtype, lorafmt_error *err);

#endif
