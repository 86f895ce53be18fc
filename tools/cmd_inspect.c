/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/inspect.h"
#include "tools/message.h"
#include "tools/spectrum.h"

#include <stdlib.h>

#define NAME "inspect"

typedef struct inspect_args {
    input_args input;
    const char *base;
    bool sites, spectrum, json;
} inspect_args;

static const option inspect_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(inspect_args, base),
     "a model: say whether the adapter fits it, and how much of it the adapter is"},
    {"sites", 0, NULL, OPTION_FLAG, offsetof(inspect_args, sites),
     "list every site: kind, rank, alpha, scale, norm, type, shapes, target"},
#ifdef WITH_KIT
    {"spectrum", 0, NULL, OPTION_FLAG, offsetof(inspect_args, spectrum),
     "instead of all that: how many directions each update really uses, from its singular values, and which rank would do"},
#endif
    INPUT_OPTIONS(inspect_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(inspect_args, json), "print everything as JSON (docs/json.md)"},
    {0},
};

static int gather(const lorafmt_adapter *adapter, const source_facts *source, const lorafmt_model *model, const char *base,
                  inspected *out)
{
    int code = adapter_facts_gather(adapter, source, &out->facts);

    if (code == EXIT_DONE)
        code = oddities_find(&out->facts, &out->oddities);
    if (code == EXIT_DONE && model)
        code = base_fit_find(model, base, adapter, &out->fit);
    return code;
}

/* All is known before anything is printed, so that a failure leaves stdout empty. */
static int inspect(const inspect_args *args, const input *in, const lorafmt_model *model)
{
    const lorafmt_adapter **adapters = NULL;
    source_facts source = {0};
    inspected *found = NULL;
    size_t n = 0;
    int code = input_adapters(in, &adapters, &n);

    if (code == EXIT_DONE && !(found = calloc(n, sizeof *found)))
        code = message_no_memory();
    if (code == EXIT_DONE)
        code = source_facts_gather(adapters, n, &source);
    if (code == EXIT_DONE)
        code = same_tensors_mark(&source.tensors);
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = gather(adapters[i], &source, model, args->base, &found[i]);
    if (code == EXIT_DONE)
        code = args->json ? inspect_json(in, found, n) : inspect_print(in, found, n, args->sites);
    for (size_t i = 0; found && i < n; i++) {
        oddities_free(&found[i].oddities);
        adapter_facts_free(&found[i].facts);
    }
    source_facts_free(&source);
    free(found);
    free(adapters);
    return code;
}

static int run_inspect(const void *args_, size_t n_inputs, char *const *inputs)
{
    const inspect_args *args = args_;
    lorafmt_model *model = NULL;
    input in;
    int code = input_parse(NAME, inputs[0], false, &in);

    (void)n_inputs;
    if (code == EXIT_DONE)
        code = input_open_base(args->base, &model);
    if (code == EXIT_DONE)
        code = input_open(NAME, &args->input, model, true, &in);
#ifdef WITH_KIT
    if (code == EXIT_DONE && args->spectrum)
        code = spectrum_show(&in, args->json);
#endif
    if (code == EXIT_DONE && !args->spectrum)
        code = inspect(args, &in, model);
    lorafmt_model_free(model);
    input_close(&in);
    return code;
}

const command cmd_inspect = {
    .name = NAME,
    .usage = "inspect IN[#NAME] [--base BASE] [--sites] [--json]",
    .summary = "what is in a file: adapters, sites, ranks, norms, oddities",
    .about =
        "Print what a .lora file, a PEFT directory or a .safetensors file holds: the adapters, what they change and by how much "
        "(the Frobenius norm of the update), by module type and by layer, which base they were made for, and what is odd "
        "about them. With --base only the base's headers are read; verify --base compares digests too.",
    .example = "lorapack inspect legal.lora --base model\n"
#ifdef WITH_KIT
               "lorapack inspect legal.lora --spectrum\n"
#endif
    ,
    .options = inspect_options,
    .args_size = sizeof(inspect_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_inspect,
};
