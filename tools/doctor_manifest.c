/* SPDX-License-Identifier: MIT */
/* A manifest with all that it names, and its lock. */
#include "tools/doctor.h"
#include "tools/path.h"

#include "lorakit/scenarios.h"

#include <stdio.h>
#include <string.h>

/* What the lock says otherwise; all commands refuse it. */
static void add_drift(void *ctx, const char *what, const char *text)
{
    add_finding(ctx, &cause_drift, "%s: %s", what, text);
}

/* "PATH:LINE:COLUMN", of the manifest or its lock, is no file. */
static void add_named(diagnosis *d, const lorafmt_error *err)
{
    add_failure(d, err);
    if (path_exists(err->file) && strcmp(err->file, d->manifest) != 0 && strcmp(err->file, d->path) != 0)
        advise_command(d, (const char *const[]){"lorapack", "doctor", err->file, NULL});
}

static void examine_scenarios(diagnosis *d, lorakit_scenarios *set)
{
    const lorakit_manifest *m = lorakit_scenarios_manifest(set);
    lorafmt_error err;
    lorafmt_view *view;

    for (size_t i = 0; i < m->n_scenarios; i++) {
        if (lorakit_scenarios_bind(set, i, NULL, NULL, &view, &err))
            add_named(d, &err);
        lorafmt_view_free(view);
    }
    snprintf(d->is, sizeof d->is, "a manifest: a base, %zu adapter%s, %zu scenario%s", m->n_adapters,
             m->n_adapters == 1 ? "" : "s", m->n_scenarios, m->n_scenarios == 1 ? "" : "s");
    if (d->level < LEVEL_BROKEN)
        snprintf(d->checked, sizeof d->checked, "that each scenario fits the base%s",
                 path_exists(lorakit_scenarios_lock_path(set)) ? ", and that all is as the lock says" : "");
}

void examine_manifest(diagnosis *d, const char *path)
{
    const lorakit_scenarios_options options = {.struct_size = sizeof options,
                                               .no_cache = true,
                                               .drift = add_drift,
                                               .drift_ctx = d};
    lorakit_scenarios *set;
    lorafmt_error err;

    d->subject = SUBJECT_MANIFEST;
    d->manifest = path;
    snprintf(d->is, sizeof d->is, "a manifest of scenarios");
    if (lorakit_scenarios_open(path, &options, &set, &err))
        add_named(d, &err);
    else
        examine_scenarios(d, set);
    lorakit_scenarios_free(set);
}

void examine_lock(diagnosis *d)
{
    static const char *const suffixes[] = {".yaml", ".yml"};
    char path[SIDE_PATH_SIZE];

    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (path_exists(side_path(d->path, suffixes[i], path))) {
            examine_manifest(d, path);
            d->subject = SUBJECT_LOCK;
            d->manifest = NULL;
            snprintf(d->is, sizeof d->is, "the lock of %.256s", path);
            return;
        }
    d->subject = SUBJECT_LOCK;
    snprintf(d->is, sizeof d->is, "a lock by its name");
    add_finding(d, &cause_no_manifest, "there is no manifest beside it, %.900s", side_path(d->path, suffixes[0], path));
}
