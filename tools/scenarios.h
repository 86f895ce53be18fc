/* SPDX-License-Identifier: MIT */
/* A manifest that a command works on, opened. */
#ifndef TOOLS_SCENARIOS_H
#define TOOLS_SCENARIOS_H

#include "tools/json_out.h"
#include "tools/limits.h"
#include "tools/progress.h"

#include "lorakit/scenarios.h"

#include <stdbool.h>
#include <stddef.h>

/* What is not as the lock says. */
typedef struct drift_item {
    char *what, *text;
} drift_item;

typedef struct scenario_set {
    const char *path; /* of the manifest, as given */
    bool quiet;
    progress hashing; /* the base, when that is done */
    bool is_hashing;
    size_t n_drift;
    drift_item *drift;
    lorafmt_limits limits;
    lorakit_scenarios *set;
} scenario_set;

/*
 * Open a manifest with a bar while its base is hashed. options may lack what the bar and the drift need; `listed` collects drift, which
 * else is a failure. All return an exit code; scenarios_close() in any case.
 */
int scenarios_open(const char *verb, const char *path, const limit_args *trust, const lorakit_scenarios_options *options,
                   bool listed, bool quiet, scenario_set *out);
void scenarios_close(scenario_set *s);

/* Say what went wrong with it, an interruption too. Returns EXIT_FAILED. */
int scenarios_failure(const scenario_set *s, const lorafmt_error *err);

/* The scenarios of those names, or all of them without names; in an array that is the caller's, in any case. */
int scenarios_choose(const char *verb, const lorakit_manifest *manifest, size_t n_names, char *const *names, size_t **out,
                     size_t *n);

/* What drifted, as "drift". */
void scenarios_json_drift(json_out *j, const scenario_set *s);

/* Does something that a scenario is made of differ from the lock? */
bool scenarios_drifted(const scenario_set *s, const lorakit_scenario *scenario);

#endif
