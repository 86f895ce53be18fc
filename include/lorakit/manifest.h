/* SPDX-License-Identifier: MIT */
/**
 * The manifest (spec/manifest.md): one base, its adapters, and the scenarios made of them. Any bytes are ordinary input; the
 * environment is not read, and of files nothing but the manifest itself.
 */
#ifndef LORAKIT_MANIFEST_H
#define LORAKIT_MANIFEST_H

#include "lorafmt/limits.h"
#include "lorafmt/view.h"
#include "lorakit/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The base model that all scenarios are made from. */
typedef struct lorakit_manifest_base {
    const char *path;     /**< absolute, or beneath the manifest's directory as that was given; exists or not */
    const char *name;     /**< what adapters call it; NULL = not said */
    const char *revision; /**< NULL = not said */
    bool has_structure;
    uint8_t structure[32]; /**< spec/lora-container.md 6.2 */
    bool has_sha256;
    uint8_t sha256[32]; /**< of its tensor files: spec/manifest.md 4 */
} lorakit_manifest_base;

typedef struct lorakit_manifest_adapter {
    const char *name;
    const char *path;     /**< as that of the base */
    const char *selected; /**< which adapter of a file of several, NULL = its only one */
    bool has_id;
    uint8_t id[32];
    size_t n_map;
    const lorafmt_rename *map;
    const char *signature; /**< a detached one, path as that of the base; NULL = none */
} lorakit_manifest_adapter;

/** Another weight for some targets; of those that match, the last counts. */
typedef struct lorakit_weight_rule {
    const char *target; /**< a pattern as in lorakit_weight; NULL = every target */
    bool has_layers;
    uint32_t first_layer, last_layer; /**< both included. The layer of a target is its first component that is a number. */
    double weight;                    /**< in place of the layer's own */
} lorakit_weight_rule;

/** One adapter of a scenario. */
typedef struct lorakit_scenario_adapter {
    size_t adapter; /**< of the manifest */
    double weight;
    size_t n_rules;
    const lorakit_weight_rule *rules;
} lorakit_scenario_adapter;

typedef struct lorakit_label {
    const char *key;
    const char *value;
} lorakit_label;

/** A scenario with all that it extends, and the defaults, put in. */
typedef struct lorakit_scenario {
    const char *name;
    const char *description;                  /**< NULL = none */
    lorafmt_dtype dtype;                      /**< F32, F16 or BF16 of the model's numbers; 0 = the base's own */
    size_t n_adapters;                        /**< 0 is the base itself */
    const lorakit_scenario_adapter *adapters; /**< in the order they are added */
    size_t n_labels;
    const lorakit_label *labels; /**< ascending by key */
} lorakit_scenario;

/** All is borrowed from it. Immutable; usable by many threads. */
typedef struct lorakit_manifest {
    const char *path;      /**< as given */
    const char *directory; /**< that it lies in, as given: relative paths are relative to it */
    const char *output;    /**< where `build` puts models, as the base's path; defaults.output, or "build" */
    size_t n_roots;
    const char *const *roots; /**< absolute, links resolved: what paths must lie beneath */
    size_t n_keys;
    const char *const
        *keys; /**< of public keys, paths as that of the base: one must have signed each adapter; none = anybody may */
    lorakit_manifest_base base;
    size_t n_adapters;
    const lorakit_manifest_adapter *adapters; /**< in the order of the manifest */
    size_t n_scenarios;
    const lorakit_scenario *scenarios; /**< in the order of the manifest */
} lorakit_manifest;

/**
 * Read a manifest.
 *
 * @param path    of the file
 * @param limits  those of YAML count; NULL = the ones of lorafmt/limits.h
 * @param out     to be freed with lorakit_manifest_free(); NULL on failure
 *
 * @return LORAFMT_OK; NOT_FOUND (the file, a root); IO; NOT_LORAFMT (not a regular file, or a web page and the like); MISUSE (wrong
 *         limits); LIMIT (beyond them, or spec/manifest.md 6); UNSUPPORTED (another version); CORRUPT (everything else that
 *         spec/manifest.md does not allow); NO_MEMORY. err->file is "PATH:LINE:COLUMN" where there is a place, both counted from
 *         1, and err->field the place by keys, as "scenarios.legal.adapters[1].weight".
 */
LORAKIT_API lorafmt_status lorakit_manifest_open(const char *path, const lorafmt_limits *limits, lorakit_manifest **out,
                                                 lorafmt_error *err);
LORAKIT_API void lorakit_manifest_free(lorakit_manifest *manifest);

/**
 * Does a path of the manifest lie beneath its roots, links followed? To be asked just before it is opened: what is not there yet
 * cannot be judged when the manifest is read.
 *
 * @return LORAFMT_OK; NOT_FOUND; MISUSE with what it leads to and the roots; IO; NO_MEMORY
 */
LORAKIT_API lorafmt_status lorakit_manifest_check_path(const lorakit_manifest *manifest, const char *path, lorafmt_error *err);

/** The scenario of that name. NOT_FOUND lists the names. */
LORAKIT_API lorafmt_status lorakit_manifest_find(const lorakit_manifest *manifest, const char *name, size_t *out,
                                                 lorafmt_error *err);

/** The weight of a target in a scenario: that of the last rule that matches, else the adapter's own. */
LORAKIT_API double lorakit_scenario_weight(const lorakit_scenario_adapter *adapter, const char *target);

#ifdef __cplusplus
}
#endif

#endif
