/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/scenarios.h"
#include "tools/text.h"

#include <stddef.h>
#include <stdio.h>

#define NAME "lock"

typedef struct lock_args {
    bool update, json, quiet;
    unsigned n_threads;
    limit_args trust;
} lock_args;

static const option lock_options[] = {
    {"update", 0, NULL, OPTION_FLAG, offsetof(lock_args, update), "accept what is there, whatever an older lock says"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(lock_args, n_threads),
     "files of the base that are hashed at once; else one per CPU"},
    LIMIT_OPTIONS(lock_args, trust),
    {"json", 0, NULL, OPTION_FLAG, offsetof(lock_args, json),
     "print what the lock says, and what drifted, as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(lock_args, quiet), "print nothing but errors"},
    {0},
};

typedef struct lock_job {
    const lock_args *args;
    scenario_set s;
    lorakit_lock_state found; /* before */
    bool is_written;
} lock_job;

/* What --update replaces need not be readable. */
static int open_set(lock_job *job, const char *path)
{
    const lorakit_scenarios_options options = {.no_lock = job->args->update, .n_threads = job->args->n_threads};

    return scenarios_open(NAME, path, &job->args->trust, &options, true, job->args->quiet, &job->s);
}

static int write_lock(lock_job *job)
{
    lorakit_lock_state now;
    lorafmt_error err;

    if (lorakit_scenarios_lock(job->s.set, job->args->update, &job->found, &err))
        return scenarios_failure(&job->s, &err);
    job->is_written = job->found == LORAKIT_LOCK_ABSENT || (job->found == LORAKIT_LOCK_OTHER && job->args->update);
    if (job->is_written && !job->args->update && lorakit_scenarios_lock(job->s.set, true, &now, &err))
        return scenarios_failure(&job->s, &err);
    return job->found == LORAKIT_LOCK_OTHER && !job->is_written ? EXIT_FAILED : EXIT_DONE;
}

static const char *outcome(const lock_job *job)
{
    if (job->found == LORAKIT_LOCK_SAME)
        return "same";
    return !job->is_written ? "drifted" : job->found == LORAKIT_LOCK_ABSENT ? "written" : "updated";
}

static int json_result(const lock_job *job)
{
    const lorakit_manifest *m = lorakit_scenarios_manifest(job->s.set);
    json_out j = {.to = stdout};
    uint8_t digest[32];
    lorafmt_error err;

    if (lorakit_scenarios_base_sha256(job->s.set, digest, &err))
        return scenarios_failure(&job->s, &err);
    json_object(&j, NULL);
    json_text(&j, "manifest", job->s.path);
    json_text(&j, "lock", lorakit_scenarios_lock_path(job->s.set));
    json_text(&j, "outcome", outcome(job));
    json_u64(&j, "arithmetic", LORAKIT_ARITHMETIC);
    json_digest(&j, "base_sha256", digest);
    json_array(&j, "adapters");
    for (size_t i = 0; i < m->n_adapters; i++) {
        const lorafmt_adapter *adapter;
        if (lorakit_scenarios_adapter(job->s.set, i, &adapter, &err))
            return scenarios_failure(&job->s, &err);
        lorafmt_adapter_id(adapter, digest);
        json_object(&j, NULL);
        json_text(&j, "name", m->adapters[i].name);
        json_digest(&j, "id", digest);
        json_object_end(&j);
    }
    json_array_end(&j);
    scenarios_json_drift(&j, &job->s);
    json_object_end(&j);
    return EXIT_DONE;
}

static void print_result(const lock_job *job)
{
    const lorakit_manifest *m = lorakit_scenarios_manifest(job->s.set);
    const char *path = lorakit_scenarios_lock_path(job->s.set);

    if (job->found == LORAKIT_LOCK_SAME)
        print_line(stdout, "%s: nothing drifted, base and %zu adapter%s are as it says", path, m->n_adapters,
                   m->n_adapters == 1 ? "" : "s");
    else
        print_line(stdout, "%s: %s, with the base and %zu adapter%s", path, outcome(job), m->n_adapters,
                   m->n_adapters == 1 ? "" : "s");
}

static void say_drift(const lock_job *job)
{
    const char *path = lorakit_scenarios_lock_path(job->s.set);

    for (size_t i = 0; i < job->s.n_drift; i++)
        message_error("%s: %s: %s", path, job->s.drift[i].what, job->s.drift[i].text);
    message_error("%s: it is not what would be written now; --update accepts what is there", path);
}

static int run_lock(const void *args, size_t n_inputs, char *const *inputs)
{
    lock_job job = {.args = args};
    int code = open_set(&job, inputs[0]), said = EXIT_DONE;

    (void)n_inputs;
    if (code == EXIT_DONE)
        code = write_lock(&job);
    if (job.found == LORAKIT_LOCK_OTHER && !job.args->update)
        say_drift(&job);
    if (job.args->json && (code == EXIT_DONE || job.found == LORAKIT_LOCK_OTHER))
        said = json_result(&job);
    else if (code == EXIT_DONE && !job.args->quiet)
        print_result(&job);
    scenarios_close(&job.s);
    return code == EXIT_DONE ? said : code;
}

const command cmd_lock = {
    .name = NAME,
    .usage = "lock MANIFEST [--update]",
    .summary = "pin what a manifest names: the base and the adapters",
    .about =
        "Write beside a manifest, under its name with the extension .lock, what it names: the structure and the SHA-256 of the base's files, "
        "the ids of the adapters, the version of the arithmetic. From then on whatever opens the manifest refuses what is not so. When a "
        "lock is there that says something else, what drifted is listed, and --update accepts it.",
    .example = "lorapack lock lorafmt.yaml\n",
    .options = lock_options,
    .args_size = sizeof(lock_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_lock,
};
