/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/nonfinite.h"
#include "tools/origin.h"
#include "tools/replay.h"
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
    bool finite, json;
    const char *receipt;
    text_list adapters;
    unsigned n_threads;
    text_list keys;
    const char *signature;
} verify_args;

static const option verify_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(verify_args, base), "a model that every adapter must fit"},
    BINDING_OPTIONS(verify_args, binding),
    {"finite", 0, NULL, OPTION_FLAG, offsetof(verify_args, finite), "fail when an element is NaN or infinite, and say where"},
    {"key", 'k', "KEY.pub.pem", OPTION_LIST, offsetof(verify_args, keys),
     "a public key: every adapter must be signed by one of them"},
    {"signature", 0, "FILE", OPTION_TEXT, offsetof(verify_args, signature), "with --key: a signature in a file of its own"},
    INPUT_OPTIONS(verify_args, input),
    {"receipt", 0, "FILE.json", OPTION_TEXT, offsetof(verify_args, receipt),
     "IN is a merged model: merge again as this receipt says, and compare"},
    {"adapter", 0, "IN[#NAME][=WEIGHT]", OPTION_LIST, offsetof(verify_args, adapters),
     "with --receipt: an adapter of the merge; all, in their order"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(verify_args, n_threads), "with --receipt: threads to compute with"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(verify_args, json), "print the result as JSON (docs/json.md)"},
    {0},
};

typedef struct fit {
    const lorafmt_adapter *adapter;
    coverage coverage;
} fit;

typedef struct verified {
    const lorafmt_model *model; /* --base, or NULL */
    const key_ring *ring;       /* --key, or NULL; the input was opened under its policy */
    lorafmt_verify_result result;
    nonfinite_list nonfinite;
    fit *fits; /* one for each adapter that was asked for */
    size_t n_fits;
} verified;

/* Each alone: adapters of one file need not go together. */
static int bind_each(const verify_args *args, const input *in, const verified *v)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < v->n_fits && code == EXIT_DONE; i++) {
        const lorafmt_stack_entry entry = {.adapter = v->fits[i].adapter, .weight = 1};
        lorafmt_view *view;
        code = binding_bind(NAME, &args->binding, true, v->model, &entry, 1, in->path, &view);
        if (code == EXIT_DONE)
            coverage_count(view, 0, &v->fits[i].coverage);
        lorafmt_view_free(view);
    }
    return code;
}

static void print_signers(const verified *v)
{
    char text[DIGEST_TEXT_SIZE];

    for (size_t i = 0; v->ring && i < v->n_fits; i++) {
        const size_t key = key_ring_signer(v->ring, v->fits[i].adapter);
        print_line(stdout, "%s: signed by %s, key %s", v->fits[i].adapter->name, v->ring->paths[key],
                   fingerprint_text(&v->ring->keys[key], text));
    }
}

static void print_result(const verify_args *args, const input *in, const verified *v)
{
    const bool digests = lorafmt_source_get_kind(in->source) == LORAFMT_SOURCE_LORA;
    const lorafmt_verify_result *r = &v->result;
    char size[NUMBER_TEXT_SIZE], text[COVERAGE_TEXT_SIZE];

    print_line(stdout, "%s: good, %zu adapter%s, %zu sites, %zu tensors, %s%s%s", in->path, r->n_adapters,
               r->n_adapters == 1 ? "" : "s", r->n_sites, r->n_tensors, size_text(r->n_bytes, size),
               digests ? ", every digest right" : "", args->finite ? ", every element finite" : "");
    for (size_t i = 0; args->base && i < v->n_fits; i++)
        print_line(stdout, "%s: fits %s, %s", v->fits[i].adapter->name, args->base, coverage_text(&v->fits[i].coverage, text));
    print_signers(v);
}

static void json_signers(json_out *j, const verified *v)
{
    json_array(j, "signed_by");
    for (size_t i = 0; i < v->n_fits; i++) {
        const size_t key = key_ring_signer(v->ring, v->fits[i].adapter);
        json_object(j, NULL);
        json_text(j, "name", v->fits[i].adapter->name);
        json_adapter_id(j, v->fits[i].adapter);
        json_text(j, "key", v->ring->paths[key]);
        json_fingerprint(j, &v->ring->keys[key]);
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_fits(json_out *j, const char *base, const verified *v)
{
    json_object(j, "fit");
    json_text(j, "base", base);
    json_array(j, "adapters");
    for (size_t i = 0; i < v->n_fits; i++) {
        json_object(j, NULL);
        json_text(j, "name", v->fits[i].adapter->name);
        json_adapter_id(j, v->fits[i].adapter);
        json_u64(j, "matched", v->fits[i].coverage.n_matched);
        json_u64(j, "total", v->fits[i].coverage.n_total);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static void json_result(const verify_args *args, const input *in, const verified *v)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", in->path);
    json_text(&j, "source_kind", source_kind_name(lorafmt_source_get_kind(in->source)));
    json_u64(&j, "n_adapters", v->result.n_adapters);
    json_u64(&j, "n_sites", v->result.n_sites);
    json_u64(&j, "n_tensors", v->result.n_tensors);
    json_u64(&j, "n_bytes", v->result.n_bytes);
    json_u64(&j, "n_nonfinite", v->result.n_nonfinite);
    nonfinite_json(&j, &v->nonfinite);
    if (args->base)
        json_fits(&j, args->base, v);
    else
        json_null(&j, "fit");
    if (v->ring)
        json_signers(&j, v);
    else
        json_null(&j, "signed_by");
    json_object_end(&j);
}

static int find_nonfinite(const lorafmt_source *source, nonfinite_list *out)
{
    const lorafmt_adapter **adapters;
    size_t n;
    int code = source_adapters(source, &adapters, &n);

    if (code == EXIT_DONE)
        code = nonfinite_find(adapters, n, out);
    free(adapters);
    return code;
}

static int fail_nonfinite(const input *in, const verified *v)
{
    nonfinite_print(&v->nonfinite);
    return message_error("%s: %" PRIu64 " elements are NaN or infinite, --finite allows none", in->path, v->result.n_nonfinite);
}

static int verify(const verify_args *args, const input *in, verified *v)
{
    lorafmt_error err;
    int code;

    if (lorafmt_verify(in->source, &v->result, &err)) {
        if (v->result.recovered)
            message_note("%s: all else in it is right; lorapack pack writes it anew", in->path);
        return message_failure(&err, in->path);
    }
    if (v->result.n_nonfinite && (code = find_nonfinite(in->source, &v->nonfinite)))
        return code;
    if (args->finite && v->result.n_nonfinite)
        return fail_nonfinite(in, v);
    if (v->model && (code = bind_each(args, in, v)))
        return code;
    if (args->json)
        json_result(args, in, v);
    else
        print_result(args, in, v);
    if (v->result.n_nonfinite)
        message_warning("%s: %" PRIu64 " elements are NaN or infinite; --finite lists them", in->path, v->result.n_nonfinite);
    return EXIT_DONE;
}

static int verify_adapters(const verify_args *args, const lorafmt_model *model, const key_ring *ring, const input *in)
{
    verified v = {.model = model, .ring = ring};
    const lorafmt_adapter **adapters;
    int code = input_adapters(in, &adapters, &v.n_fits);

    if (code != EXIT_DONE)
        return code;
    if ((v.fits = calloc(v.n_fits, sizeof *v.fits))) {
        for (size_t i = 0; i < v.n_fits; i++)
            v.fits[i].adapter = adapters[i];
        code = verify(args, in, &v);
    } else {
        code = message_no_memory();
    }
    nonfinite_free(&v.nonfinite);
    free(v.fits);
    free(adapters);
    return code;
}

static int run_replay(const verify_args *args, const char *output)
{
    const replay_args with = {args->receipt, args->base, &args->adapters, args->n_threads, args->json};

    if (!args->base)
        return message_usage(NAME, "--receipt needs --base");
    if (!args->adapters.n)
        return message_usage(NAME, "--receipt needs --adapter, as often as the merge had it");
    if (args->finite || args->keys.n || args->signature || binding_is_asked(&args->binding) || input_is_asked(&args->input))
        return message_usage(NAME,
                             "the receipt says how to read and bind: with --receipt go --base, --adapter, --threads, --json");
    return replay(NAME, &with, output);
}

static int check_args(const verify_args *args)
{
    if (args->adapters.n || args->n_threads)
        return message_usage(NAME, "--adapter and --threads need --receipt");
    if (!args->base && binding_is_asked(&args->binding))
        return message_usage(NAME, "--map, --orientation, --any-base and --allow-unmatched need --base");
    if (args->signature && !args->keys.n)
        return message_usage(NAME, "--signature needs --key");
    return EXIT_DONE;
}

static int verify_input(const verify_args *args, const key_ring *ring, input *in)
{
    input_args how = args->input;
    lorafmt_model *model = NULL;
    int code = input_open_base(args->base, &model);

    how.policy = ring ? &ring->policy : NULL;
    if (code == EXIT_DONE)
        code = input_open(NAME, &how, model, false, in);
    if (code == EXIT_DONE)
        code = verify_adapters(args, model, ring, in);
    lorafmt_model_free(model);
    return code;
}

static int run_verify(const void *args_, size_t n_inputs, char *const *inputs)
{
    const verify_args *args = args_;
    key_ring ring = {0};
    input in;
    int code;

    (void)n_inputs;
    if (args->receipt)
        return run_replay(args, inputs[0]);
    code = input_parse(NAME, inputs[0], false, &in);
    if (code == EXIT_DONE)
        code = check_args(args);
    if (code == EXIT_DONE)
        code = key_ring_open(&args->keys, args->signature, &ring);
    if (code == EXIT_DONE)
        code = verify_input(args, args->keys.n ? &ring : NULL, &in);
    key_ring_close(&ring);
    input_close(&in);
    return code;
}

const command cmd_verify = {
    .name = NAME,
    .usage = "verify IN[#NAME] [--base BASE] [--key KEY.pub.pem] [--finite] [options]",
    .summary = "check every digest and rule, and whether it fits a base",
    .about = "Check all there is to check: every digest, id, order and padding of a .lora file, every rule of "
             "other files. With --base, bind each adapter to that model as merging would, and print how many of its targets were "
             "found. With --key, fail unless each adapter is signed by one of the keys, and print by which. "
             "NaN and infinite elements are allowed, unless --finite is given. With --receipt, IN is a model that merge wrote: "
             "everything is computed again from base and adapters as the receipt says, and every byte of IN and every number of "
             "the receipt compared. Side files are not.",
    .example = "lorapack verify legal.lora --base model\n"
               "lorapack verify --receipt receipt.json --base model --adapter legal.lora merged\n",
    .options = verify_options,
    .args_size = sizeof(verify_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_verify,
};
