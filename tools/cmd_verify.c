/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/stats.h"
#include "tools/text.h"

#include "lorafmt/adapter.h"

#include <inttypes.h>
#include <stdlib.h>

#define NAME "verify"

typedef struct verify_args {
    const char *base;
    binding_args binding;
    input_args input;
    bool json;
} verify_args;

static const option verify_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(verify_args, base), "a model that every adapter must fit"},
    BINDING_OPTIONS(verify_args, binding),
    INPUT_OPTIONS(verify_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(verify_args, json), "print the result as JSON (docs/json.md)"},
    {0},
};

typedef struct fit {
    const lorafmt_adapter *adapter;
    coverage coverage;
} fit;

/* Each alone: adapters of one file need not go together. */
static int bind_each(const verify_args *args, const lorafmt_model *model, const input *in, fit *fits, size_t n)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < n && code == EXIT_DONE; i++) {
        const lorafmt_stack_entry entry = {.adapter = fits[i].adapter, .weight = 1};
        lorafmt_view *view;
        code = binding_bind(NAME, &args->binding, true, model, &entry, 1, in->path, &view);
        if (code == EXIT_DONE)
            coverage_count(view, 0, &fits[i].coverage);
        lorafmt_view_free(view);
    }
    return code;
}

static void print_result(const verify_args *args, const input *in, const lorafmt_verify_result *v, const fit *fits, size_t n)
{
    const bool digests = lorafmt_source_get_kind(in->source) == LORAFMT_SOURCE_LORA;
    char size[NUMBER_TEXT_SIZE], text[COVERAGE_TEXT_SIZE];

    print_line(stdout, "%s: good, %zu adapter%s, %zu sites, %zu tensors, %s%s", in->path, v->n_adapters,
               v->n_adapters == 1 ? "" : "s", v->n_sites, v->n_tensors, size_text(v->n_bytes, size),
               digests ? ", every digest right" : "");
    for (size_t i = 0; args->base && i < n; i++)
        print_line(stdout, "%s: fits %s, %s", fits[i].adapter->name, args->base, coverage_text(&fits[i].coverage, text));
}

static void json_fits(json_out *j, const char *base, const fit *fits, size_t n)
{
    json_object(j, "fit");
    json_text(j, "base", base);
    json_array(j, "adapters");
    for (size_t i = 0; i < n; i++) {
        json_object(j, NULL);
        json_text(j, "name", fits[i].adapter->name);
        json_adapter_id(j, fits[i].adapter);
        json_u64(j, "matched", fits[i].coverage.n_matched);
        json_u64(j, "total", fits[i].coverage.n_total);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static void json_result(const verify_args *args, const input *in, const lorafmt_verify_result *v, const fit *fits, size_t n)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", in->path);
    json_text(&j, "source_kind", source_kind_name(lorafmt_source_get_kind(in->source)));
    json_u64(&j, "n_adapters", v->n_adapters);
    json_u64(&j, "n_sites", v->n_sites);
    json_u64(&j, "n_tensors", v->n_tensors);
    json_u64(&j, "n_bytes", v->n_bytes);
    json_u64(&j, "n_nonfinite", v->n_nonfinite);
    if (args->base)
        json_fits(&j, args->base, fits, n);
    else
        json_null(&j, "fit");
    json_object_end(&j);
}

static int verify(const verify_args *args, const lorafmt_model *model, const input *in, fit *fits, size_t n)
{
    lorafmt_verify_result result;
    lorafmt_error err;
    int code;

    if (lorafmt_verify(in->source, &result, &err))
        return message_failure(&err, in->path);
    if (model && (code = bind_each(args, model, in, fits, n)))
        return code;
    if (args->json)
        json_result(args, in, &result, fits, n);
    else
        print_result(args, in, &result, fits, n);
    if (result.n_nonfinite)
        message_warning("%s: %" PRIu64 " elements are NaN or infinite", in->path, result.n_nonfinite);
    return EXIT_DONE;
}

static int verify_adapters(const verify_args *args, const lorafmt_model *model, const input *in)
{
    const lorafmt_adapter **adapters;
    fit *fits;
    size_t n;
    int code = input_adapters(in, &adapters, &n);

    if (code != EXIT_DONE)
        return code;
    if ((fits = calloc(n, sizeof *fits))) {
        for (size_t i = 0; i < n; i++)
            fits[i].adapter = adapters[i];
        code = verify(args, model, in, fits, n);
    } else {
        code = message_no_memory();
    }
    free(fits);
    free(adapters);
    return code;
}

static int run_verify(const void *args_, size_t n_inputs, char *const *inputs)
{
    const verify_args *args = args_;
    input_base base = {NULL, args->binding.orientation};
    lorafmt_model *model = NULL;
    lorafmt_error err;
    input in;
    int code = input_parse(NAME, inputs[0], false, &in);

    (void)n_inputs;
    if (code == EXIT_DONE && args->base && lorafmt_model_open(args->base, &model, &err))
        code = message_failure(&err, args->base);
    base.model = model;
    if (code == EXIT_DONE)
        code = input_open(NAME, &args->input, &base, false, &in);
    if (code == EXIT_DONE)
        code = verify_adapters(args, model, &in);
    input_close(&in);
    lorafmt_model_free(model);
    return code;
}

const command cmd_verify = {
    .name = NAME,
    .usage = "verify IN[#NAME] [--base BASE] [options]",
    .summary = "check every digest and rule, and whether it fits a base",
    .about = "Check all there is to check: every digest, id, order and padding of a .lora file, every rule of "
             "other files. With --base, bind each adapter to that model as merging would, and print how many of its targets were "
             "found.",
    .example = "lorapack verify legal.lora --base model\n",
    .options = verify_options,
    .args_size = sizeof(verify_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_verify,
};
