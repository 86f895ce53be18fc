/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/extract.h"
#include "tools/input.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/path.h"
#include "tools/progress.h"

#include <stdlib.h>
#include <string.h>

#define NAME "extract"
#define MOST_LINES 20 /* of tensors that are refused or left out */

typedef struct extract_args {
    const char *base, *tuned, *output, *name;
    text_list targets;
    rank_args rank;
    unsigned others, orientation, dtype, n_powers, n_threads;
    const char *seed;
    bool exact, sites, force, json, quiet;
} extract_args;

static const option extract_options[] = {
    {"base", 0, "MODEL", OPTION_TEXT, offsetof(extract_args, base), "the model before tuning"},
    {"tuned", 0, "MODEL", OPTION_TEXT, offsetof(extract_args, tuned), "the model after it"},
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(extract_args, output), "the file to write"},
    RANK_OPTIONS(extract_args, rank),
    {"target", 0, "NAME,...", OPTION_LIST, offsetof(extract_args, targets),
     "matrices that become low-rank, as q_proj,v_proj or layers.0.*, or all-linear; else all that changed. May be given "
     "many times"},
    {"others", 0, "additive|replace|refuse|skip", OPTION_CHOICE, offsetof(extract_args, others),
     "what becomes of other tensors that changed: their difference or the tensor itself is kept whole, the command fails and names "
     "them (as it does without this option), or they are left out"},
    {"orientation", 0, "out-in|in-out", OPTION_CHOICE, offsetof(extract_args, orientation),
     "how the models store linear layers, as GPT-2 in-out; else out-in"},
    {"dtype", 0, "f32|bf16|f16", OPTION_CHOICE, offsetof(extract_args, dtype), "of the factors; else f32"},
    {"exact", 0, NULL, OPTION_FLAG, offsetof(extract_args, exact),
     "find all singular values of every matrix, which takes far more time and memory"},
    {"powers", 0, "N", OPTION_COUNT, offsetof(extract_args, n_powers), "power iterations of the sketch, 1 .. 16; else 2"},
    {"seed", 0, "N", OPTION_TEXT, offsetof(extract_args, seed), "of the sketch; else 0. The same seed gives the same file"},
    {"name", 0, "NAME", OPTION_TEXT, offsetof(extract_args, name), "name the result; else it is called extracted"},
    {"sites", 0, NULL, OPTION_FLAG, offsetof(extract_args, sites), "say of each site what it lost"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(extract_args, n_threads), "threads that compute; else one per CPU"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(extract_args, force), "replace a file that exists"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(extract_args, json), "print what was found and lost as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(extract_args, quiet), "print nothing but errors"},
    {0},
};

typedef struct extract_job {
    const extract_args *args;
    lorakit_extract_options options;
    char **target_memory;
    const char **targets;
    size_t n_refused, n_skipped;
    lorafmt_model *base, *tuned;
    lorakit_extracted *tensors;
    lorakit_adapter *result;
    uint8_t id[32];
} extract_job;

/* --- the command line --- */

static int parse_targets(extract_job *job)
{
    const text_list *given = &job->args->targets;
    size_t n_most = 0;

    for (size_t i = 0; i < given->n; i++)
        n_most += strlen(given->items[i]) / 2 + 1;
    job->target_memory = calloc(given->n + 1, sizeof *job->target_memory);
    job->targets = calloc(n_most + 1, sizeof *job->targets);
    if (!job->target_memory || !job->targets)
        return message_no_memory();
    for (size_t i = 0; i < given->n; i++) {
        char *rest = job->target_memory[i] = strdup(given->items[i]);
        if (!rest)
            return message_no_memory();
        for (char *end; rest; rest = end) {
            if ((end = strchr(rest, ',')))
                *end++ = '\0';
            if (!*rest)
                return message_usage(NAME, "--target %s: an empty name", given->items[i]);
            job->targets[job->options.n_targets++] = rest;
        }
    }
    job->options.targets = job->targets;
    return EXIT_DONE;
}

static int check_given(const extract_args *args)
{
    if (!args->base || !args->tuned)
        return message_usage(NAME, "--%s MODEL is missing", args->base ? "tuned" : "base");
    if (!args->output)
        return message_usage(NAME, "-o OUT.lora is missing");
    if (!args->rank.rank && !args->rank.energy.given && !args->rank.max_error.given)
        return message_usage(NAME, "--rank R, --energy E or --max-error E is missing");
    if (args->n_powers > 16)
        return message_usage(NAME, "--powers %u: must be 1 .. 16", args->n_powers);
    if (args->rank.max_error.given && args->rank.max_error.value >= 1)
        return message_usage(NAME, "--max-error %g: must be below 1", args->rank.max_error.value);
    return EXIT_DONE;
}

static void report(void *ctx, const char *tensor, bool refused, const char *text)
{
    extract_job *job = ctx;
    const size_t n = refused ? job->n_refused++ : job->n_skipped++;

    if (n < MOST_LINES && refused)
        message_error("%s: %s", tensor, text);
    else if (n < MOST_LINES && !job->args->quiet)
        message_warning("%s: %s; left out", tensor, text);
    else if (n == MOST_LINES && (refused || !job->args->quiet))
        message_note("and more");
}

static int parse(extract_job *job)
{
    static const lorakit_others others[] = {LORAKIT_OTHERS_REFUSE, LORAKIT_OTHERS_ADDITIVE, LORAKIT_OTHERS_REPLACE,
                                            LORAKIT_OTHERS_REFUSE, LORAKIT_OTHERS_SKIP};
    const extract_args *args = job->args;
    lorakit_extract_options *o = &job->options;
    int code = check_given(args);

    o->struct_size = sizeof *o;
    o->others = others[args->others];
    o->orientation = args->orientation == 2 ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
    o->dtype = factor_dtype(args->dtype);
    o->exact = args->exact;
    o->n_powers = args->n_powers;
    o->name = args->name;
    o->n_threads = args->n_threads;
    o->report = report;
    o->report_ctx = job;
    if (code == EXIT_DONE)
        code = seed_parse(NAME, args->seed, &o->seed);
    if (code == EXIT_DONE)
        code = rank_parse(NAME, &args->rank, &o->rank);
    if (o->rank.rule == LORAKIT_FIXED)
        o->rank.rule = LORAKIT_LOSSLESS; // less where the difference has less
    return code == EXIT_DONE ? parse_targets(job) : code;
}

/* --- the work --- */

static int fail(const extract_job *job, const progress *bar, const lorafmt_error *err)
{
    if (job->n_refused && job->options.others == LORAKIT_OTHERS_REFUSE)
        return message_error("%s: changed tensors that are no low-rank updates: %zu; --others says what becomes of them",
                             job->args->tuned, job->n_refused);
    if (job->n_refused)
        return message_error("%s: tensors that do not fit: %zu", job->args->tuned, job->n_refused);
    return progress_failure(bar, err, job->args->tuned);
}

/* What would only be found when all is computed. */
static int check_output(const extract_args *args)
{
    if (!args->force && path_exists(args->output))
        return message_error("%s: exists already; --force replaces it", args->output);
    if (!path_parent_exists(args->output))
        return message_error("%s: there is no such directory", args->output);
    return EXIT_DONE;
}

static int extract(extract_job *job)
{
    const lorafmt_base *tuned = lorafmt_model_base(job->tuned);
    progress bar = {0};
    lorafmt_error err;
    lorafmt_status st;

    job->tensors = calloc(tuned->n_tensors + 1, sizeof *job->tensors);
    if (!job->tensors)
        return message_no_memory();
    interrupt_catch();
    progress_start(&bar, "extracting", job->args->quiet);
    job->options.progress = progress_update;
    job->options.progress_ctx = &bar;
    st = lorakit_extract(lorafmt_model_base(job->base), tuned, &job->options, job->tensors, &job->result, &err);
    progress_end(&bar);
    return st ? fail(job, &bar, &err) : EXIT_DONE;
}

static void say(const extract_job *job)
{
    const extract_result result = {.base_path = job->args->base,
                                   .tuned_path = job->args->tuned,
                                   .output = job->args->output,
                                   .tuned = lorafmt_model_base(job->tuned),
                                   .tensors = job->tensors,
                                   .adapter = lorakit_adapter_get(job->result),
                                   .id = job->id};

    if (job->args->json)
        extract_json(&result);
    else if (!job->args->quiet)
        extract_print(&result, job->args->sites);
}

static void close_all(extract_job *job)
{
    lorakit_adapter_free(job->result);
    free(job->tensors);
    lorafmt_model_free(job->base);
    lorafmt_model_free(job->tuned);
    for (size_t i = 0; job->target_memory && i < job->args->targets.n; i++)
        free(job->target_memory[i]);
    free(job->target_memory);
    free(job->targets);
}

static int run_extract(const void *args, size_t n_inputs, char *const *inputs)
{
    extract_job job = {.args = args};
    int code = parse(&job);

    (void)n_inputs;
    (void)inputs;
    if (code == EXIT_DONE)
        code = check_output(job.args);
    if (code == EXIT_DONE)
        code = input_open_base(job.args->base, &job.base);
    if (code == EXIT_DONE)
        code = input_open_base(job.args->tuned, &job.tuned);
    if (code == EXIT_DONE)
        code = extract(&job);
    if (code == EXIT_DONE)
        code = kit_write(lorakit_adapter_get(job.result), job.base, job.args->output, job.args->force, job.id);
    if (code == EXIT_DONE)
        say(&job);
    close_all(&job);
    return code;
}

const command cmd_extract = {
    .name = NAME,
    .usage = "extract --base MODEL --tuned MODEL -o OUT.lora --rank R | --energy E | --max-error E [options]",
    .summary = "make an adapter of what tuning changed in a model",
    .about =
        "Write the difference of two models as an adapter: for each matrix that changed, the best low-rank approximation of the "
        "difference, and how much of it is lost. Equal tensors are left out; what changed and is no matrix is refused unless "
        "--others says what becomes of it. Merging the result into the base gives the tuned model, up to what is said to be lost.",
    .example = "lorapack extract --base base --tuned tuned --rank 32 -o tuned.lora\n"
               "lorapack extract --base base --tuned tuned --energy 0.95 --target all-linear --others replace -o tuned.lora\n",
    .options = extract_options,
    .args_size = sizeof(extract_args),
    .min_inputs = 0,
    .max_inputs = 0,
    .algebra = true,
    .run = run_extract,
};
