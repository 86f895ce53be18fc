/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/path.h"
#include "tools/progress.h"
#include "tools/text.h"

#include "lorafmt/generations.h"

#define NAME "compact"

typedef struct compact_args {
    const char *output;
    bool force, json, quiet;
} compact_args;

static const option compact_options[] = {
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(compact_args, output), "the file to write; else FILE.lora is replaced"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(compact_args, force), "replace an output that exists"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(compact_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(compact_args, quiet), "print nothing but errors"},
    {0},
};

static void print_json(const char *path, const lorafmt_compact_result *result)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", path);
    json_bool(&j, "recovered", result->recovered);
    json_u64(&j, "n_bytes_before", result->n_bytes_before);
    json_u64(&j, "n_bytes", result->n_bytes);
    json_object_end(&j);
}

static void report(const char *input, const char *path, const lorafmt_compact_result *result, const compact_args *args)
{
    char before[NUMBER_TEXT_SIZE], after[NUMBER_TEXT_SIZE];

    if (result->recovered)
        message_warning("%s: recovered: a root slot is damaged and the other one is used", input);
    if (args->json)
        print_json(path, result);
    else if (!args->quiet)
        print_line(stdout, "%s: %s, of %s", path, size_text(result->n_bytes, after), size_text(result->n_bytes_before, before));
}

/* Until there is something to remove, a signal may end it. */
static bool update(void *ctx, uint64_t done, uint64_t total)
{
    if (done == 0)
        interrupt_catch();
    return progress_update(ctx, done, total);
}

static int run_compact(const void *args_, size_t n_inputs, char *const *inputs)
{
    const compact_args *args = args_;
    const char *path = args->output ? args->output : inputs[0];
    progress p;
    const lorafmt_compact_options options = {.struct_size = sizeof options,
                                             .force = args->force,
                                             .progress = update,
                                             .progress_ctx = &p};
    lorafmt_compact_result result;
    lorafmt_error err;
    lorafmt_status st;

    (void)n_inputs;
    progress_start(&p, NAME, args->quiet);
    st = lorafmt_compact(inputs[0], args->output, &options, &result, &err);
    progress_end(&p);
    if (st)
        return progress_failure(&p, &err, path);
    report(inputs[0], path, &result, args);
    return EXIT_DONE;
}

const command cmd_compact = {
    .name = NAME,
    .usage = "compact FILE.lora [-o OUT.lora] [options]",
    .summary = "take earlier generations out of a .lora file",
    .about = "Write the current state of a .lora file, which is verified first, as a file of one generation: what was removed or "
             "replaced is gone, and there is nothing to go back to. Ids, signatures and stored bytes stay as they are.",
    .example = "lorapack compact all.lora\n",
    .options = compact_options,
    .args_size = sizeof(compact_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_compact,
};
