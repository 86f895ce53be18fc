/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/message.h"
#include "tools/path.h"
#include "tools/progress.h"
#include "tools/receipt.h"
#include "tools/stack.h"
#include "tools/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NAME "merge"

typedef struct merge_args {
    const char *base;
    text_list adapters;
    const char *output;
    unsigned dtype;
    unsigned n_threads;
    binding_args binding;
    input_args input;
    bool dry_run, force, json, quiet;
    const char *receipt;
    bool receipt_digests;
} merge_args;

static const option merge_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(merge_args, base),
     "the model: a .safetensors file, or a directory with one or with shards"},
    {"adapter", 0, "IN[#NAME][=WEIGHT]", OPTION_LIST, offsetof(merge_args, adapters),
     "a .lora file, a PEFT directory or a .safetensors file; NAME chooses from several, WEIGHT multiplies the scale; may be "
     "given many times, and the order counts"},
    {"output", 'o', "OUT", OPTION_TEXT, offsetof(merge_args, output), "a directory when the base is one, else a file"},
    {"dtype", 0, "f32|bf16|f16", OPTION_CHOICE, offsetof(merge_args, dtype),
     "write all of the model's numbers in it, rounded once; else they stay in the base's"},
    {"dry-run", 0, NULL, OPTION_FLAG, offsetof(merge_args, dry_run), "find out whether and how all fits, write no model"},
    {"receipt", 0, "FILE.json", OPTION_TEXT, offsetof(merge_args, receipt),
     "write what became of every site and tensor (docs/json.md); verify --receipt holds the model against it"},
    {"receipt-digests", 0, NULL, OPTION_FLAG, offsetof(merge_args, receipt_digests),
     "with --receipt or --json: the SHA-256 of every tensor, too"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(merge_args, json), "print the receipt instead of a summary"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(merge_args, force), "replace what exists"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(merge_args, n_threads),
     "threads to compute with; the result does not depend on it"},
    CPU_OPTION(merge_args, binding),
    BINDING_OPTIONS(merge_args, binding),
    INPUT_OPTIONS(merge_args, input),
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(merge_args, quiet), "print nothing but errors"},
    {0},
};

/* Everything a merge opens, in the order it is opened. */
typedef struct merge_job {
    const merge_args *args;
    lorafmt_model *model;
    adapter_stack stack;
    lorafmt_view *view;
    receipt_structure structure;
    lorafmt_change *changes; /* for the receipt, or NULL */
    uint8_t (*digests)[32];  /* the same */
    left_behind *left;
    size_t n_left;
    lorafmt_merge_result result;
} merge_job;

static int check_args(const merge_args *args)
{
    if (!args->base)
        return message_usage(NAME, "--base is missing");
    if (!args->adapters.n)
        return message_usage(NAME, "--adapter is missing");
    if (!args->output && !args->dry_run)
        return message_usage(NAME, "-o OUT is missing (or --dry-run)");
    if (args->dtype && (args->receipt || args->json))
        return message_usage(NAME,
                             "--dtype goes with neither --receipt nor --json: a receipt tells what became of the base's own "
                             "dtypes");
    if (args->receipt_digests && !args->receipt && !args->json)
        return message_usage(NAME, "--receipt-digests needs --receipt or --json");
    if (args->receipt_digests && args->dry_run)
        return message_usage(NAME, "--receipt-digests: a dry run writes nothing that has digests");
    return EXIT_DONE;
}

/* The receipt may lie in the output; otherwise its directory must be there before the work. */
static int check_receipt(const merge_args *args)
{
    bool within = false;
    int code = EXIT_DONE;

    if (args->receipt && args->output && !args->dry_run)
        code = path_within(args->receipt, args->output, &within);
    if (code == EXIT_DONE && args->receipt && !within && !path_parent_exists(args->receipt))
        code = message_error("%s: cannot be written: its directory is not there", args->receipt);
    return code;
}

/* Said before the work, and not after it. */
static int check_absent(const merge_args *args, const char *path)
{
    if (path && !args->force && path_exists(path))
        return message_error("%s: exists already; --force replaces it", path);
    return EXIT_DONE;
}

/* With --force the output would take an adapter away that lies in it. */
static int check_adapters(const merge_job *job)
{
    const char *output = job->args->output;
    bool within = false;
    int code = EXIT_DONE;

    for (size_t i = 0; output && i < job->stack.n && code == EXIT_DONE; i++) {
        code = path_within(job->stack.inputs[i].path, output, &within);
        if (within)
            return message_usage(NAME, "%s: the output must not hold the adapter %s", output, job->stack.inputs[i].path);
    }
    return code;
}

static int open_all(merge_job *job)
{
    const merge_args *args = job->args;
    int code = stack_parse(NAME, &args->adapters, &job->stack);

    if (code == EXIT_DONE)
        code = input_open_base(args->base, &job->model);
    if (code == EXIT_DONE)
        code = stack_open(NAME, &args->input, job->model, args->quiet, &job->stack);
    return code == EXIT_DONE ? check_adapters(job) : code;
}

/* What cannot be kept for the receipt is said at once. */
static void collect_left(void *ctx, const char *file, const char *why)
{
    merge_job *job = ctx;
    left_behind *more = realloc(job->left, (job->n_left + 1) * sizeof *more);
    left_behind *entry;

    if (!more) {
        message_note("%s: %s is not carried over: %s", job->args->base, file, why);
        return;
    }
    job->left = more;
    entry = &more[job->n_left++];
    entry->file = strdup(file);
    entry->why = strdup(why);
}

/* Room for what the receipt says of tensors. */
static int reserve_receipt(merge_job *job)
{
    const size_t n = lorafmt_view_n_tensors(job->view) + 1;

    if ((job->args->receipt || job->args->json) && !(job->changes = calloc(n, sizeof *job->changes)))
        return message_no_memory();
    if (job->args->receipt_digests && !(job->digests = calloc(n, sizeof *job->digests)))
        return message_no_memory();
    return EXIT_DONE;
}

static int write_model(merge_job *job)
{
    static const lorafmt_dtype dtypes[] = {0, LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16}; // in the order of the option's choices
    const merge_args *args = job->args;
    progress p;
    const lorafmt_merge_options options = {.struct_size = sizeof options,
                                           .n_threads = args->n_threads,
                                           .force = args->force,
                                           .dtype = dtypes[args->dtype],
                                           .progress = progress_update,
                                           .progress_ctx = &p,
                                           .changes = job->changes,
                                           .digests = job->digests};
    lorafmt_error err;
    lorafmt_status st;

    interrupt_catch();
    progress_start(&p, NAME, args->quiet);
    st = lorafmt_merge(job->model, job->view, args->output, &options, collect_left, job, &job->result, &err);
    progress_end(&p);
    return st ? progress_failure(&p, &err, args->output) : EXIT_DONE;
}

static void say_left(const merge_job *job)
{
    for (size_t i = 0; i < job->n_left; i++)
        message_note("%s: %s is not carried over: %s", job->args->base, job->left[i].file ? job->left[i].file : "a file",
                     job->left[i].why ? job->left[i].why : "out of memory");
}

static int write_receipt(const receipt *r, const char *path)
{
    output_file out;
    int code = output_begin(&out, path, r->dry_run ? "" : "; the model is written");

    if (code != EXIT_DONE)
        return code;
    receipt_json(r, out.stream);
    return output_commit(&out);
}

static int report(const merge_job *job)
{
    const merge_args *args = job->args;
    const lorafmt_counts *counts = &job->result.counts;
    const receipt r = {.base_path = args->base,
                       .model = job->model,
                       .structure = job->structure,
                       .view = job->view,
                       .stack = &job->stack,
                       .binding = &args->binding,
                       .input = &args->input,
                       .output = args->output,
                       .dry_run = args->dry_run,
                       .result = job->result,
                       .changes = job->changes,
                       .digests = job->digests,
                       .left = job->left,
                       .n_left = job->n_left};
    int code;

    if (args->receipt && (code = write_receipt(&r, args->receipt)))
        return code;
    if (args->json)
        receipt_json(&r, stdout);
    else if (!args->quiet)
        receipt_print(&r);
    if (!args->quiet) {
        say_left(job);
        for (size_t i = 0; i < job->stack.n; i++)
            tokenizer_compare(args->base, job->stack.inputs[i].path);
    }
    if (!args->quiet && (counts->n_nan || counts->n_inf))
        message_warning("%s: %" PRIu64 " computed elements are NaN and %" PRIu64 " are infinite", args->output, counts->n_nan,
                        counts->n_inf);
    return EXIT_DONE;
}

static int merge(merge_job *job)
{
    const merge_args *args = job->args;
    int code;

    if ((code = open_all(job)))
        return code;
    if ((code = binding_bind(NAME, &args->binding, false, job->model, job->stack.entries, job->stack.n,
                             job->stack.n == 1 ? job->stack.inputs[0].path : args->base, &job->view)))
        return code;
    if ((args->receipt || args->json) && !receipt_find_structure(job->model, &job->structure))
        return message_no_memory();
    if (args->dry_run)
        receipt_foresee(job->model, job->view, &job->result);
    else if ((code = reserve_receipt(job)) || (code = write_model(job)))
        return code;
    return report(job);
}

static void close_all(merge_job *job)
{
    lorafmt_view_free(job->view);
    stack_close(&job->stack);
    for (size_t i = 0; i < job->n_left; i++) {
        free(job->left[i].file);
        free(job->left[i].why);
    }
    free(job->left);
    free(job->changes);
    free(job->digests);
    lorafmt_model_free(job->model);
}

static int run_merge(const void *args_, size_t n_inputs, char *const *inputs)
{
    const merge_args *args = args_;
    merge_job job = {.args = args};
    int code;

    (void)n_inputs;
    (void)inputs;
    if ((code = check_args(args)) || (args->output && (code = path_check_output(NAME, args->base, args->output))) ||
        (code = check_receipt(args)))
        return code;
    if ((code = check_absent(args, args->dry_run ? NULL : args->output)) || (code = check_absent(args, args->receipt)))
        return code;
    code = merge(&job);
    close_all(&job);
    return code;
}

const command cmd_merge = {
    .name = NAME,
    .usage = "merge --base BASE --adapter IN[#NAME][=WEIGHT] [--adapter ...] -o OUT [options]",
    .summary = "add adapters into a base model and write the result",
    .about =
        "Add adapters to a base model, in one pass with one rounding, and write a new model with the shards, tensor order and "
        "side files of the base. Every site of every adapter must find exactly one tensor of the right shape; otherwise "
        "nothing is written and what does not fit is listed.",
    .example = "lorapack merge --base model --adapter legal.lora=0.5 --adapter tang.lora=0.5 -o merged\n",
    .options = merge_options,
    .args_size = sizeof(merge_args),
    .run = run_merge,
};
