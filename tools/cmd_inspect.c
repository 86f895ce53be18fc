/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/inspect.h"

#include <stdlib.h>

#define NAME "inspect"

typedef struct inspect_args {
    input_args input;
    bool sites, json;
} inspect_args;

static const option inspect_options[] = {
    {"sites", 0, NULL, OPTION_FLAG, offsetof(inspect_args, sites),
     "list every site: kind, rank, alpha, scale, type, shapes, target"},
    INPUT_OPTIONS(inspect_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(inspect_args, json), "print everything as JSON (docs/json.md)"},
    {0},
};

static int run_inspect(const void *args_, size_t n_inputs, char *const *inputs)
{
    const inspect_args *args = args_;
    const lorafmt_adapter **adapters = NULL;
    input in;
    size_t n;
    int code = input_parse(NAME, inputs[0], false, &in);

    (void)n_inputs;
    if (code == EXIT_DONE)
        code = input_open(NAME, &args->input, NULL, args->json, &in);
    if (code == EXIT_DONE)
        code = input_adapters(&in, &adapters, &n);
    if (code == EXIT_DONE)
        code = args->json ? inspect_json(&in, adapters, n) : inspect_print(&in, adapters, n, args->sites);
    free(adapters);
    input_close(&in);
    return code;
}

const command cmd_inspect = {
    .name = NAME,
    .usage = "inspect IN[#NAME] [--sites] [--json]",
    .summary = "what is in a file: adapters, sites, ranks, scales, identity",
    .about =
        "Print what a .lora file, a PEFT directory or a .safetensors file holds: the adapters, what they change and how, and "
        "which base they were made for.",
    .example = "lorapack inspect legal.lora --sites\n",
    .options = inspect_options,
    .args_size = sizeof(inspect_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_inspect,
};
