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

static void print_json(const char *path, uint64_t n_before, uint64_t n_bytes)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", path);
    json_u64(&j, "n_bytes_before", n_before);
    json_u64(&j, "n_bytes", n_bytes);
    json_object_end(&j);
}

/* The bytes that its generations have together. Returns an exit code. */
static int measure(const char *path, uint64_t *n_bytes)
{
    lorafmt_container_info info;
    lorafmt_history *history;
    lorafmt_error err;

    if (lorafmt_history_open(path, &history, &err))
        return message_failure(&err, path);
    lorafmt_history_container(history, &info);
    *n_bytes = info.file_end;
    lorafmt_history_free(history);
    return EXIT_DONE;
}

static int run_compact(const void *args_, size_t n_inputs, char *const *inputs)
{
    const compact_args *args = args_;
    const char *path = args->output ? args->output : inputs[0];
    char before[NUMBER_TEXT_SIZE], after[NUMBER_TEXT_SIZE];
    uint64_t n_before, n_bytes;
    lorafmt_error err;
    int code;

    (void)n_inputs;
    if ((code = measure(inputs[0], &n_before)))
        return code;
    interrupt_catch();
    if (lorafmt_compact(inputs[0], args->output, args->force, &n_bytes, &err))
        return message_failure(&err, path);
    if (args->json)
        print_json(path, n_before, n_bytes);
    else if (!args->quiet)
        print_line(stdout, "%s: %s, of %s", path, size_text(n_bytes, after), size_text(n_before, before));
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
