/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/path.h"
#include "tools/progress.h"
#include "tools/stats.h"

#include "lorafmt/files.h"

#define NAME "unpack"

typedef struct unpack_args {
    const char *output;
    const char *base;
    input_args input;
    bool force, json, quiet;
} unpack_args;

static const option unpack_options[] = {
    {"output", 'o', "DIR", OPTION_TEXT, offsetof(unpack_args, output), "the directory to make"},
    {"base", 0, "BASE", OPTION_TEXT, offsetof(unpack_args, base),
     "the model the adapter is for; only a PEFT directory of experts (target_parameters) needs it"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(unpack_args, force), "replace a directory that exists"},
    INPUT_OPTIONS(unpack_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(unpack_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(unpack_args, quiet), "print nothing but errors"},
    {0},
};

static void json_result(const unpack_args *args, const input *in, const lorafmt_adapter *adapter)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", args->output);
    json_text(&j, "source", in->path);
    json_object(&j, "adapter");
    json_text(&j, "name", adapter->name);
    json_adapter_id(&j, adapter);
    json_u64(&j, "n_sites", adapter->n_sites);
    json_object_end(&j);
    json_object_end(&j);
}

static int unpack(const unpack_args *args, const input *in)
{
    const lorafmt_adapter *adapter;
    progress none = {0};
    lorafmt_error err;
    bool within;
    int code;

    if ((code = input_choose(in, &adapter)) || (code = path_within(in->path, args->output, &within)))
        return code;
    if (within)
        return message_usage(NAME, "%s: the output must not hold the input %s", args->output, in->path);
    interrupt_catch(); /* an adapter is small: finish what was begun rather than leave half of it */
    if (lorafmt_unpack(adapter, args->output, args->force, &err))
        return progress_failure(&none, &err, args->output);
    if (args->json)
        json_result(args, in, adapter);
    else if (!args->quiet)
        print_line(stdout, "%s: adapter %s, %zu sites", args->output, adapter->name, adapter->n_sites);
    return EXIT_DONE;
}

static int run_unpack(const void *args_, size_t n_inputs, char *const *inputs)
{
    const unpack_args *args = args_;
    lorafmt_model *model = NULL;
    input in;
    int code;

    (void)n_inputs;
    if (!args->output)
        return message_usage(NAME, "-o DIR is missing");
    code = input_parse(NAME, inputs[0], false, &in);
    if (code == EXIT_DONE)
        code = input_open_base(args->base, &model);
    if (code == EXIT_DONE)
        code = input_open(NAME, &args->input, model, args->quiet, &in);
    if (code == EXIT_DONE)
        code = unpack(args, &in);
    input_close(&in);
    lorafmt_model_free(model);
    return code;
}

const command cmd_unpack = {
    .name = NAME,
    .usage = "unpack IN[#NAME] -o DIR [options]",
    .summary = "write an adapter as a PEFT directory",
    .about =
        "Write one adapter as a PEFT directory, adapter_config.json and adapter_model.safetensors, with bit-identical tensors. "
        "IN is a .lora file or anything else that can be packed; NAME chooses from several adapters.",
    .example = "lorapack unpack both.lora#legal -o legal\n",
    .options = unpack_options,
    .args_size = sizeof(unpack_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_unpack,
};
