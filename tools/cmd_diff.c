/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/diff.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/progress.h"

#define NAME "diff"

typedef struct diff_args {
    const char *base, *tuned;
    unsigned n_threads;
    input_args input;
    bool sites, exit_code, json, quiet;
} diff_args;

static const option diff_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(diff_args, base),
     "with --tuned: the model before; else the base of adapters of experts, which do not say by themselves what is whose"},
    {"tuned", 0, "MODEL", OPTION_TEXT, offsetof(diff_args, tuned), "compare this model with the base, instead of adapters"},
    {"sites", 0, NULL, OPTION_FLAG, offsetof(diff_args, sites), "list every site or tensor, not only those that differ most"},
    {"exit-code", 0, NULL, OPTION_FLAG, offsetof(diff_args, exit_code),
     "exit with 1 when they differ: adapters in what they do, models in any bit"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(diff_args, n_threads), "threads to compute with; else one per CPU"},
    INPUT_OPTIONS(diff_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(diff_args, json), "print everything as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(diff_args, quiet), "print nothing but errors"},
    {0},
};

static int exit_code_of(const diff_args *args, bool differ)
{
    return args->exit_code && differ ? EXIT_FAILED : EXIT_DONE;
}

/* "diff: interrupted", or why it failed; what was wrong is in which of the two is in the text. */
static int say_failure(const lorafmt_error *err)
{
    return err->status == LORAFMT_CANCELLED ? message_error("%s: interrupted", NAME) : message_failure(err, NULL);
}

static lorakit_diff_options options_of(const diff_args *args, progress *bar)
{
    return (lorakit_diff_options){.struct_size = sizeof(lorakit_diff_options),
                                  .n_threads = args->n_threads,
                                  .progress = progress_update,
                                  .progress_ctx = bar};
}

/* --- adapters --- */

static int compare_adapters(const diff_args *args, adapter_diff *d)
{
    const adapter_stack *x = &d->x.stack, *y = &d->y.stack;
    progress bar = {0};
    const lorakit_diff_options options = options_of(args, &bar);
    lorafmt_error err;

    interrupt_catch();
    progress_start(&bar, "comparing", true); // a bar of bytes; this is a matter of seconds
    if (lorakit_diff_stacks(x->entries, x->n, y->entries, y->n, &options, &d->diff, &err))
        return say_failure(&err);
    return adapter_diff_survey(d);
}

static int open_adapters(const diff_args *args, const lorafmt_model *base, char *const *inputs, adapter_diff *d)
{
    int code = EXIT_DONE;

    for (int i = 0; i < 2 && code == EXIT_DONE; i++) {
        diff_side *side = i ? &d->y : &d->x;
        side->text = inputs[i];
        code = stack_parse_sum(NAME, inputs[i], &side->stack);
        if (code == EXIT_DONE)
            code = stack_open(NAME, &args->input, base, args->quiet, &side->stack);
    }
    return code;
}

static int diff_adapters(const diff_args *args, char *const *inputs)
{
    adapter_diff d = {0};
    lorafmt_model *base = NULL;
    int code = input_open_base(args->base, &base);

    if (code == EXIT_DONE)
        code = open_adapters(args, base, inputs, &d);
    if (code == EXIT_DONE)
        code = compare_adapters(args, &d);
    if (code == EXIT_DONE) {
        if (args->json)
            adapter_diff_json(&d);
        else if (!args->quiet)
            adapter_diff_print(&d, args->sites);
        code = exit_code_of(args, lorakit_diff_get_totals(d.diff)->same == LORAKIT_DIFFERENT);
    }
    diff_rows_free(&d.rows);
    lorakit_diff_free(d.diff);
    stack_close(&d.x.stack);
    stack_close(&d.y.stack);
    lorafmt_model_free(base);
    return code;
}

/* --- models --- */

static int compare_models(const diff_args *args, const lorafmt_model *base, const lorafmt_model *tuned, model_diff *d)
{
    progress bar = {0};
    const lorakit_diff_options options = options_of(args, &bar);
    lorafmt_error err;
    lorafmt_status st;

    interrupt_catch();
    progress_start(&bar, "comparing", args->quiet);
    st = lorakit_diff_models(lorafmt_model_base(base), lorafmt_model_base(tuned), &options, &d->diff, &err);
    progress_end(&bar);
    return st ? say_failure(&err) : model_diff_survey(d);
}

static int diff_models(const diff_args *args)
{
    model_diff d = {.base = args->base, .tuned = args->tuned};
    lorafmt_model *base = NULL, *tuned = NULL;
    int code = input_open_base(args->base, &base);

    if (code == EXIT_DONE)
        code = input_open_base(args->tuned, &tuned);
    if (code == EXIT_DONE)
        code = compare_models(args, base, tuned, &d);
    if (code == EXIT_DONE) {
        if (args->json)
            model_diff_json(&d);
        else if (!args->quiet)
            model_diff_print(&d, args->sites);
        code = exit_code_of(args, !lorakit_model_diff_get_totals(d.diff)->equal);
    }
    diff_rows_free(&d.rows);
    lorakit_model_diff_free(d.diff);
    lorafmt_model_free(base);
    lorafmt_model_free(tuned);
    return code;
}

static int run_diff(const void *args_, size_t n_inputs, char *const *inputs)
{
    const diff_args *args = args_;

    if (args->tuned && !args->base)
        return message_usage(NAME, "--tuned needs --base, the model to compare it with");
    if (args->tuned && n_inputs)
        return message_usage(NAME, "--tuned compares models, and %s is not one of them", inputs[0]);
    if (args->tuned && input_is_asked(&args->input))
        return message_usage(NAME, "--tuned compares models: --alpha, --limit, --paranoid and their like are for adapters");
    if (!args->tuned && n_inputs != 2)
        return message_usage(NAME, "two adapters must be given, or --base and --tuned");
    return args->tuned ? diff_models(args) : diff_adapters(args, inputs);
}

const command cmd_diff = {
    .name = NAME,
    .usage = "diff STACK STACK [options]\n"
             "       lorapack diff --base BASE --tuned MODEL [options]",
    .summary = "what tells two adapters, stacks or models apart",
    .about =
        "Compare what two adapters, or sums of adapters, add to a base: a STACK is IN[#NAME][=WEIGHT], or several joined by +. It says how large the difference is, whether they "
        "point the same way and work in the same spaces, by module type, by layer and site by site, the most different first. "
        "Different factors of the same function are recognised. With --base and --tuned, compare two models element by element.",
    .example = "lorapack diff legal.lora legal-small.lora\n"
               "lorapack diff legal.lora tang.lora=0.5+scripture.lora=0.5 --sites\n"
               "lorapack diff --base llama --tuned llama-legal\n",
    .options = diff_options,
    .args_size = sizeof(diff_args),
    .min_inputs = 0,
    .max_inputs = 2,
    .algebra = true,
    .run = run_diff,
};
