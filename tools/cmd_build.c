/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/progress.h"
#include "tools/scenarios.h"
#include "tools/syntax.h"
#include "tools/text.h"

#include "lorakit/build.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "build"
#define MOST_PARTS 1000000

typedef struct build_args {
    const char *output, *part;
    unsigned form, n_threads;
    bool force, json, quiet;
    limit_args trust;
} build_args;

static const option build_options[] = {
    {"output", 'o', "DIR", OPTION_TEXT, offsetof(build_args, output), "where the results are; else where the manifest says"},
    {"as", 0, "model|lora", OPTION_CHOICE, offsetof(build_args, form),
     "what to make: a merged model, which is so when not given, or one adapter that is the exact sum of the scenario's"},
    {"part", 0, "K/N", OPTION_TEXT, offsetof(build_args, part),
     "write only every N-th tensor file, from the K-th; whichever part finds all of them there finishes the model"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(build_args, force), "make anew what is fresh"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(build_args, n_threads),
     "threads to compute with; the result does not depend on it"},
    LIMIT_OPTIONS(build_args, trust),
    {"json", 0, NULL, OPTION_FLAG, offsetof(build_args, json), "print what became of each scenario as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(build_args, quiet), "print nothing but errors"},
    {0},
};

/* What became of a scenario. */
typedef struct outcome {
    const char *name;
    char *path; /* or NULL, as when it could not be bound */
    bool failed;
    char error[sizeof((lorafmt_error *)0)->text + 1024];
    lorakit_build_result result;
} outcome;

typedef struct build_job {
    const build_args *args;
    lorakit_build_options options;
    scenario_set s;
    size_t n;
    size_t *scenarios;
    outcome *outcomes;
    size_t n_done; /* outcomes that are there */
    bool stopped;
} build_job;

/* --- the command line --- */

static int parse_part(build_job *job)
{
    const char *text = job->args->part;
    lorakit_build_options *o = &job->options;

    if (!text)
        return EXIT_DONE;
    if (!fraction_parse(text, MOST_PARTS, &o->part, &o->n_parts) || o->part < 1)
        return message_usage(NAME, "--part %s: must be K/N, as 1/4, with K from 1 to N and N at most %d", text, MOST_PARTS);
    if (job->args->force)
        return message_usage(NAME, "--part with --force: a part does not know which files of the others are old");
    if (job->args->form == 2)
        return message_usage(NAME, "--part: an adapter is made in one part");
    return EXIT_DONE;
}

/* --- building --- */

static void say_problem(void *ctx, const char *adapter, const char *target, const char *text)
{
    const outcome *o = ctx;

    message_error("%s: %s: %s: %s", o->name, adapter, target, text);
}

static void say_left(void *ctx, const char *file, const char *why)
{
    const outcome *o = ctx;

    message_note("%s: %s is not carried over: %s", o->name, file, why);
}

static int fail(build_job *job, outcome *o, const lorafmt_error *err)
{
    lorafmt_error placed = *err;

    o->failed = true;
    job->stopped = err->status == LORAFMT_CANCELLED;
    lorafmt_error_format(err, o->error, sizeof o->error);
    snprintf(placed.file, sizeof placed.file, "%s%s%.400s", o->name, err->file[0] ? ": " : "", err->file);
    return message_failure(&placed, NULL);
}

static int fail_building(build_job *job, outcome *o, const progress *bar, const lorafmt_error *err)
{
    char done[NUMBER_TEXT_SIZE], total[NUMBER_TEXT_SIZE];

    if (err->status != LORAFMT_CANCELLED)
        return fail(job, o, err);
    job->stopped = o->failed = true;
    snprintf(o->error, sizeof o->error, "interrupted");
    if (!bar->total) // of a model whose base was still being hashed
        return scenarios_failure(&job->s, err);
    return message_error(
        "%s: interrupted after %s of %s; files that were finished are kept, and the same command goes on from there", o->path,
        size_text(bar->done, done), size_text(bar->total, total));
}

static int run_build_of(build_job *job, outcome *o, lorakit_build *build)
{
    lorakit_build_options options = job->options;
    progress bar;
    lorafmt_error err;
    lorafmt_status st;

    if (!(o->path = strdup(lorakit_build_path(build))))
        return message_no_memory();
    progress_start(&bar, o->name, job->args->quiet);
    options.progress = progress_update;
    options.progress_ctx = &bar;
    st = lorakit_build_run(build, &options, &o->result, &err);
    progress_end(&bar);
    return st ? fail_building(job, o, &bar, &err) : EXIT_DONE;
}

static int build_one(build_job *job, size_t scenario, outcome *o)
{
    const lorakit_form form = job->args->form == 2 ? LORAKIT_FORM_LORA : LORAKIT_FORM_MODEL;
    lorakit_build *build;
    lorafmt_error err;
    int code;

    o->name = lorakit_scenarios_manifest(job->s.set)->scenarios[scenario].name;
    if (lorakit_build_open(job->s.set, scenario, form, say_problem, job->args->quiet ? NULL : say_left, o, &build, &err))
        return fail(job, o, &err);
    code = run_build_of(job, o, build);
    lorakit_build_free(build);
    return code;
}

/* --- saying it --- */

static void print_outcome(const outcome *o)
{
    const lorakit_build_state *before = &o->result.before, *after = &o->result.after;
    char size[NUMBER_TEXT_SIZE];

    if (after->built != LORAKIT_FRESH)
        print_line(stdout, "%s: %s, %zu of %zu files are finished, %zu now; other parts finish it", o->path,
                   lorakit_built_name(after->built), after->n_finished, after->n_files, o->result.n_written);
    else if (before->built == LORAKIT_FRESH && !o->result.n_written)
        print_line(stdout, "%s: fresh", o->path);
    else
        print_line(stdout, "%s: built, %s%s%s", o->path, size_text(after->n_bytes, size),
                   before->why[0] ? "; it was stale, " : "", before->why);
}

static void json_state(json_out *j, const char *key, const lorakit_build_state *state)
{
    json_object(j, key);
    json_text(j, "state", lorakit_built_name(state->built));
    json_text(j, "why", state->why[0] ? state->why : NULL);
    json_u64(j, "n_files", state->n_files);
    json_u64(j, "n_finished", state->n_finished);
    json_u64(j, "n_bytes", state->n_bytes);
    json_object_end(j);
}

static void json_outcome(json_out *j, const outcome *o)
{
    json_object(j, NULL);
    json_text(j, "name", o->name);
    json_text(j, "path", o->path);
    json_text(j, "error", o->failed ? o->error : NULL);
    json_state(j, "before", &o->result.before);
    json_state(j, "after", &o->result.after);
    json_u64(j, "n_written", o->result.n_written);
    json_u64(j, "n_bytes_written", o->result.n_bytes_written);
    json_object(j, "counts");
    json_u64(j, "nan", o->result.counts.n_nan);
    json_u64(j, "inf", o->result.counts.n_inf);
    json_object_end(j);
    json_object_end(j);
}

static void json_result(const build_job *job)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "manifest", job->s.path);
    json_text(&j, "output", lorakit_scenarios_output(job->s.set));
    json_text(&j, "form", job->args->form == 2 ? "lora" : "model");
    json_array(&j, "scenarios");
    for (size_t i = 0; i < job->n_done; i++)
        json_outcome(&j, &job->outcomes[i]);
    json_array_end(&j);
    json_object_end(&j);
}

static void warn_of(const outcome *o)
{
    const lorafmt_counts *counts = &o->result.counts;

    if (counts->n_nan || counts->n_inf)
        message_warning("%s: %" PRIu64 " computed elements are NaN and %" PRIu64 " are infinite", o->path, counts->n_nan,
                        counts->n_inf);
}

static int build_all(build_job *job)
{
    int code = EXIT_DONE;

    if (!(job->outcomes = calloc(job->n + 1, sizeof *job->outcomes)))
        return message_no_memory();
    for (size_t i = 0; i < job->n && !job->stopped; i++) {
        outcome *o = &job->outcomes[job->n_done++];
        if (build_one(job, job->scenarios[i], o) != EXIT_DONE) {
            code = EXIT_FAILED;
            continue;
        }
        if (!job->args->json && !job->args->quiet)
            print_outcome(o);
        if (!job->args->quiet)
            warn_of(o);
    }
    if (job->args->json)
        json_result(job);
    return code;
}

static int run_build(const void *args, size_t n_inputs, char *const *inputs)
{
    build_job job = {.args = args};
    const lorakit_scenarios_options options = {.output = job.args->output, .n_threads = job.args->n_threads};
    int code = parse_part(&job);

    job.options.struct_size = sizeof job.options;
    job.options.force = job.args->force;
    if (code == EXIT_DONE)
        code = scenarios_open(NAME, inputs[0], &job.args->trust, &options, false, job.args->quiet, &job.s);
    if (code == EXIT_DONE)
        code = scenarios_choose(NAME, lorakit_scenarios_manifest(job.s.set), n_inputs - 1, inputs + 1, &job.scenarios, &job.n);
    if (code == EXIT_DONE)
        code = build_all(&job);
    for (size_t i = 0; i < job.n_done; i++)
        free(job.outcomes[i].path);
    free(job.outcomes);
    free(job.scenarios);
    scenarios_close(&job.s);
    return code;
}

const command cmd_build = {
    .name = NAME,
    .usage = "build MANIFEST [SCENARIO...] [-o DIR] [--as model|lora] [--part K/N]",
    .summary = "make models, or adapters, of a manifest's scenarios",
    .about =
        "Write scenarios of a manifest, or all of them, as merged models, the same bytes as merge writes. What is fresh, made from the same "
        "base, adapters, maps and weights, is left alone. What was interrupted goes on with the files that are not finished yet. Parts of a "
        "model can be built at the same time, on machines that share the file system, in any order.",
    .example = "lorapack build lorafmt.yaml legal\nlorapack build lorafmt.yaml legal --part 2/4\n",
    .options = build_options,
    .args_size = sizeof(build_args),
    .min_inputs = 1,
    .max_inputs = MANY_INPUTS,
    .algebra = true,
    .run = run_build,
};
