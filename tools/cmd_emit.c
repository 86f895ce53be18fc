/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/emit_jobs.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/path.h"
#include "tools/progress.h"
#include "tools/scenarios.h"
#include "tools/text.h"

#include "lorakit/emit.h"

#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#define NAME "emit"

/* The choices of --for: adapters for engines that serve them, then jobs for engines that run builds. */
enum { FIRST_JOB = LORAKIT_LORAX };

/* Of a command with two paths in it. */
#define COMMAND_SIZE 16384

/* A base may have any number of files, and each part has a cost of its own. */
enum { MOST_PARTS_OF_ITSELF = 16 };

typedef struct emit_args {
    unsigned engine; /* lorakit_engine, or FIRST_JOB + job_engine */
    const char *output, *image, *claim;
    unsigned parts, n_threads;
    bool json, quiet;
    limit_args trust;
} emit_args;

static const option emit_options[] = {
    {"for", 0, "peft|vllm|sglang|lorax|make|slurm|k8s", OPTION_CHOICE, offsetof(emit_args, engine),
     "what it is for; the first four serve adapters, the others run builds"},
    {"output", 'o', "OUT", OPTION_TEXT, offsetof(emit_args, output),
     "the directory to write, which must not be there yet; of make, slurm and k8s a file, else standard output"},
    {"parts", 0, "N", OPTION_COUNT, offsetof(emit_args, parts),
     "with make, slurm, k8s: parts of each build; else as many as the base has tensor files, at most 16"},
    {"image", 0, "IMAGE", OPTION_TEXT, offsetof(emit_args, image), "with k8s: the container's image, which has lorapack"},
    {"claim", 0, "NAME", OPTION_TEXT, offsetof(emit_args, claim),
     "with k8s: the volume claim that holds the manifest's directory"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(emit_args, n_threads), "targets that are worked on at once; else one per CPU"},
    LIMIT_OPTIONS(emit_args, trust),
    {"json", 0, NULL, OPTION_FLAG, offsetof(emit_args, json), "print what became of each scenario as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(emit_args, quiet), "print nothing but errors"},
    {0},
};

typedef struct emit_job {
    const emit_args *args;
    const char *path; /* of the manifest */
    char *const *names;
    size_t n_names;
    size_t *chosen; /* scenarios, n of them */
    size_t n;
} emit_job;

static bool is_for_jobs(const emit_args *args)
{
    return args->engine > FIRST_JOB;
}

static int check_args(const emit_args *args)
{
    const bool jobs = is_for_jobs(args);

    if (!args->engine)
        return message_usage(NAME, "--for is missing: peft, vllm, sglang, lorax, make, slurm or k8s");
    if (!jobs && !args->output)
        return message_usage(NAME, "-o OUT is missing, the directory to write");
    if (jobs && args->json && !args->output)
        return message_usage(NAME, "--json needs -o OUT, or both would be on standard output");
    if (jobs && args->n_threads)
        return message_usage(NAME, "--threads is for peft, vllm, sglang and lorax");
    if (jobs && (args->trust.limits.n || args->trust.paranoid))
        return message_usage(NAME, "--limit and --paranoid are for what opens adapters, as the builds that are written will");
    if (!jobs && args->parts)
        return message_usage(NAME, "--parts is for make, slurm and k8s");
    if (args->engine != FIRST_JOB + JOB_K8S && (args->image || args->claim))
        return message_usage(NAME, "%s is for k8s", args->image ? "--image" : "--claim");
    return EXIT_DONE;
}

static int choose(emit_job *job, const lorakit_manifest *manifest)
{
    return scenarios_choose(NAME, manifest, job->n_names, job->names, &job->chosen, &job->n);
}

/* --- jobs --- */

static int count_parts(const emit_job *job, const lorakit_manifest *manifest, unsigned *out)
{
    lorafmt_model *model;
    lorafmt_error err;
    size_t n;

    *out = job->args->parts;
    if (*out)
        return EXIT_DONE;
    if (lorakit_manifest_check_path(manifest, manifest->base.path, &err) || lorafmt_model_open(manifest->base.path, &model, &err))
        return message_failure(&err, manifest->base.path);
    n = lorafmt_model_n_files(model);
    lorafmt_model_free(model);
    *out = n < MOST_PARTS_OF_ITSELF ? (unsigned)n : MOST_PARTS_OF_ITSELF;
    return EXIT_DONE;
}

static int write_jobs(const emit_job *job, const job_list *list)
{
    const job_engine engine = (job_engine)(job->args->engine - FIRST_JOB);
    output_file out;
    int code;

    if (!job->args->output) {
        job_write(stdout, engine, list);
        return EXIT_DONE;
    }
    if ((code = output_begin(&out, job->args->output, "")))
        return code;
    job_write(out.stream, engine, list);
    return output_commit(&out);
}

static const char *const job_names[] = {[JOB_MAKE] = "make", [JOB_SLURM] = "slurm", [JOB_K8S] = "k8s"};

static void say_jobs(const emit_job *job, const job_list *list)
{
    const char *engine = job_names[job->args->engine - FIRST_JOB];
    json_out j = {.to = stdout};

    if (!job->args->json && job->args->output && !job->args->quiet)
        print_line(stdout, "%s: %s, %zu scenarios in %u parts each", job->args->output, engine, list->n_scenarios, list->parts);
    if (!job->args->json)
        return;
    json_object(&j, NULL);
    json_text(&j, "for", engine);
    json_text(&j, "output", job->args->output);
    json_u64(&j, "parts", list->parts);
    json_array(&j, "scenarios");
    for (size_t i = 0; i < list->n_scenarios; i++)
        json_text(&j, NULL, list->scenarios[i]);
    json_array_end(&j);
    json_object_end(&j);
}

static int emit_jobs_of(emit_job *job, const lorakit_manifest *manifest)
{
    const char *slash = strrchr(job->path, '/'), *refused;
    const char **names;
    job_list list = {.manifest = slash ? slash + 1 : job->path, .image = job->args->image, .claim = job->args->claim};
    int code = choose(job, manifest);

    if (code)
        return code;
    if ((refused = job_name_refused(list.manifest)))
        return message_error("%s: its name %s, and cannot be written in what others read", job->path, refused);
    if ((code = count_parts(job, manifest, &list.parts)))
        return code;
    if (!(names = calloc(job->n, sizeof *names)))
        return message_no_memory();
    for (size_t i = 0; i < job->n; i++)
        names[i] = manifest->scenarios[job->chosen[i]].name;
    list.scenarios = names;
    list.n_scenarios = job->n;
    code = write_jobs(job, &list);
    if (!code)
        say_jobs(job, &list);
    free(names);
    return code;
}

static int run_jobs(emit_job *job)
{
    lorakit_manifest *manifest;
    lorafmt_error err;
    int code;

    if (lorakit_manifest_open(job->path, NULL, &manifest, &err))
        return message_failure(&err, job->path);
    code = emit_jobs_of(job, manifest);
    lorakit_manifest_free(manifest);
    return code;
}

/* --- adapters --- */

/* The scenarios that are being worked on, one after the other. */
typedef struct emitting {
    const emit_job *job;
    const lorakit_manifest *manifest;
    progress bar;
} emitting;

static bool go_on(void *ctx, uint64_t done, uint64_t total)
{
    emitting *at = ctx;

    return progress_update(&at->bar, done, total);
}

static void report(void *ctx, const char *adapter, const char *target, const char *text)
{
    const emitting *at = ctx;

    message_error("%s: %s: %s: %s", at->manifest->scenarios[at->job->chosen[at->bar.done]].name, adapter, target, text);
}

/* What to do with a scenario that is no adapter. */
static void instead(const emit_job *job, const lorakit_manifest *manifest, const char *scenario, char buf[COMMAND_SIZE])
{
    const bool loads = job->args->engine == LORAKIT_PEFT;
    char model[COMMAND_SIZE / 2];

    snprintf(model, sizeof model, "%s/%s", manifest->output, scenario);
    buf[0] = '\0';
    text_append(buf, COMMAND_SIZE, "lorapack build ");
    text_append_word(buf, COMMAND_SIZE, job->path);
    text_append(buf, COMMAND_SIZE, " %s%s ", scenario, loads ? ", then load" : " &&");
    if (!loads)
        text_append(buf, COMMAND_SIZE, "%s ", lorakit_engine_start((lorakit_engine)job->args->engine));
    text_append_word(buf, COMMAND_SIZE, model);
    text_append(buf, COMMAND_SIZE, "%s", loads ? " without PEFT" : "");
}

static void print_emitted(const emit_job *job, const lorakit_manifest *manifest, const lorakit_emitted *e)
{
    const lorakit_scenario *scenario = &manifest->scenarios[e->scenario];
    char scale[NUMBER_TEXT_SIZE], buf[COMMAND_SIZE];

    buf[0] = '\0';
    switch (e->form) {
    case LORAKIT_NOT_EXPRESSED:
        instead(job, manifest, scenario->name, buf);
        print_line(stdout, "%s: no adapter: %s", scenario->name, e->why);
        print_line(stdout, "  as a model of its own: %s", buf);
        return;
    case LORAKIT_EXPRESSED_BASE:
        print_line(stdout, "%s: the base itself", scenario->name);
        return;
    case LORAKIT_EXPRESSED_AS_IS:
        print_line(stdout, "%s: the adapter as it is, rank %u", scenario->name, e->rank);
        return;
    case LORAKIT_EXPRESSED_ONE:
        text_append(buf, sizeof buf, "one adapter");
        break;
    case LORAKIT_EXPRESSED_SUM:
        text_append(buf, sizeof buf, "the sum of %zu adapters", scenario->n_adapters);
        break;
    }
    text_append(buf, sizeof buf, ", rank %u, scale %s", e->rank, number_text(e->scale, scale));
    if (e->n_filled)
        text_append(buf, sizeof buf, ", %zu layers filled up with zeros", e->n_filled);
    if (e->rounding > DBL_EPSILON)
        text_append(buf, sizeof buf, ", rounded by at most %.2g of an update", e->rounding);
    print_line(stdout, "%s: %s", scenario->name, buf);
}

static void json_emitted(json_out *j, const emit_job *job, const lorakit_manifest *manifest, const lorakit_emitted *e)
{
    const lorakit_scenario *scenario = &manifest->scenarios[e->scenario];
    const bool none = e->form == LORAKIT_NOT_EXPRESSED;
    char buf[COMMAND_SIZE];

    json_object(j, NULL);
    json_text(j, "name", scenario->name);
    json_text(j, "form", lorakit_expression_name(e->form));
    json_u64(j, "rank", none ? 0 : e->rank);
    json_double(j, "scale", none ? 0 : e->scale);
    json_u64(j, "n_filled", none ? 0 : e->n_filled);
    json_double(j, "rounding", none ? 0 : e->rounding);
    json_text(j, "why", none ? e->why : NULL);
    if (none)
        instead(job, manifest, scenario->name, buf);
    json_text(j, "instead", none ? buf : NULL);
    json_object_end(j);
}

static void say_adapters(const emit_job *job, const lorakit_manifest *manifest, const lorakit_emitted *emitted, bool written)
{
    const char *engine = lorakit_engine_name(job->args->engine), *output = job->args->output;
    json_out j = {.to = stdout};

    if (job->args->json) {
        json_object(&j, NULL);
        json_text(&j, "for", engine);
        json_text(&j, "output", written ? output : NULL);
        json_array(&j, "scenarios");
        for (size_t i = 0; i < job->n; i++)
            json_emitted(&j, job, manifest, &emitted[i]);
        json_array_end(&j);
        json_object_end(&j);
    } else if (!job->args->quiet) {
        for (size_t i = 0; i < job->n; i++)
            print_emitted(job, manifest, &emitted[i]);
        if (written)
            print_line(stdout, "%s: written for %s, %s/%s starts it", output, engine, output,
                       job->args->engine == LORAKIT_PEFT ? "load.py" : "serve.sh");
    }
}

static int emit_failure(const emit_job *job, const lorafmt_error *err)
{
    if (err->status == LORAFMT_CANCELLED)
        return message_error("%s: interrupted; what was written is removed", job->args->output);
    if (err->os_error == EEXIST)
        return message_error("%s: exists already, and is not replaced: remove it, or write another", job->args->output);
    return message_failure(err, job->path);
}

/* Where scenarios cannot be expressed, all that was found out is the result, though nothing is written. */
static int emit_adapters(emit_job *job, lorakit_scenarios *set)
{
    const lorakit_manifest *manifest = lorakit_scenarios_manifest(set);
    emitting at = {.job = job, .manifest = manifest};
    lorakit_emit_options options = {.struct_size = sizeof options,
                                    .report = report,
                                    .report_ctx = &at,
                                    .n_threads = job->args->n_threads,
                                    .progress = go_on,
                                    .progress_ctx = &at};
    lorakit_emitted *emitted;
    lorafmt_error err;
    lorafmt_status st;
    int code = choose(job, manifest);

    if (code)
        return code;
    if (!(emitted = calloc(job->n, sizeof *emitted)))
        return message_no_memory();
    options.scenarios = job->chosen;
    options.n_scenarios = job->n;
    options.all = job->n_names > 0;
    progress_start(&at.bar, NAME, true); // it counts bytes, of which nobody knows how many there are
    st = lorakit_emit(set, (lorakit_engine)job->args->engine, job->args->output, &options, emitted, &err);
    if (!st || st == LORAFMT_UNSUPPORTED)
        say_adapters(job, manifest, emitted, !st);
    if (st)
        code = emit_failure(job, &err);
    free(emitted);
    return code;
}

static int run_adapters(emit_job *job)
{
    const lorakit_scenarios_options options = {.n_threads = job->args->n_threads};
    scenario_set s;
    int code = scenarios_open(NAME, job->path, &job->args->trust, &options, false, job->args->quiet, &s);

    if (!code)
        code = emit_adapters(job, s.set);
    scenarios_close(&s);
    return code;
}

static int run_emit(const void *args, size_t n_inputs, char *const *inputs)
{
    emit_job job = {.args = args, .path = inputs[0], .names = inputs + 1, .n_names = n_inputs - 1};
    int code = check_args(job.args);

    if (!code)
        code = is_for_jobs(job.args) ? run_jobs(&job) : run_adapters(&job);
    free(job.chosen);
    return code;
}

const command cmd_emit = {
    .name = NAME,
    .usage = "emit MANIFEST [SCENARIO...] --for peft|vllm|sglang|lorax|make|slurm|k8s [-o OUT] [options]",
    .summary = "write scenarios in the form that others serve or build them from",
    .about =
        "For engines that serve adapters: a directory with an adapter for each scenario, brought to the one rank and scale that "
        "they read, and a script that starts them. It says how each scenario is expressed, and which cannot be and why; it fails "
        "when one that was named cannot. For make, Slurm and Kubernetes: the file by which they run all builds, in parts. "
        "docs/serving.md says more.",
    .example = "lorapack emit lorafmt.yaml --for vllm -o serving && sh serving/serve.sh\n"
               "lorapack emit lorafmt.yaml --for make -o builds.mk && make -j2 -f builds.mk\n",
    .options = emit_options,
    .args_size = sizeof(emit_args),
    .min_inputs = 1,
    .max_inputs = MANY_INPUTS,
    .algebra = true,
    .run = run_emit,
};
