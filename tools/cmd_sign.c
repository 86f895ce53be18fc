/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/origin.h"
#include "tools/stats.h"
#include "tools/text.h"

#define NAME "sign"

typedef struct sign_args {
    const char *key, *output, *base;
    bool detached, force, json;
    input_args input;
} sign_args;

static const option sign_options[] = {
    {"key", 'k', "KEY.pem", OPTION_TEXT, offsetof(sign_args, key), "the private key to sign with"},
    {"detached", 0, NULL, OPTION_FLAG, offsetof(sign_args, detached),
     "write the signature to a file of its own, as openssl does"},
    {"output", 'o', "FILE", OPTION_TEXT, offsetof(sign_args, output), "with --detached: the file to write"},
    {"base", 0, "BASE", OPTION_TEXT, offsetof(sign_args, base),
     "the model the adapter is for; only a PEFT directory of experts (target_parameters) needs it"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(sign_args, force), "with --detached: replace a file that exists"},
    INPUT_OPTIONS(sign_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(sign_args, json), "print the result as JSON (docs/json.md)"},
    {0},
};

static void json_result(const sign_args *args, const input *in, const lorafmt_adapter *adapter, const lorafmt_public_key *key)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", in->path);
    json_object(&j, "adapter");
    json_text(&j, "name", adapter->name);
    json_adapter_id(&j, adapter);
    json_object_end(&j);
    json_fingerprint(&j, key);
    json_text(&j, "signature", args->output);
    json_object_end(&j);
}

static void print_result(const input *in, const lorafmt_adapter *adapter, const uint8_t id[32], const lorafmt_public_key *key)
{
    char id_text[DIGEST_TEXT_SIZE], key_text[DIGEST_TEXT_SIZE];

    print_line(stdout, "%s: adapter %s, id %s", in->path, adapter->name, digest_text(id, id_text));
    print_line(stdout, "signed by key %s", fingerprint_text(key, key_text));
}

static int sign(const sign_args *args, const lorafmt_private_key *key, const input *in)
{
    const lorafmt_adapter *adapter;
    lorafmt_signature signature;
    lorafmt_error err;
    uint8_t id[32];
    int code;

    if ((code = input_choose(in, &adapter)))
        return code;
    lorafmt_adapter_id(adapter, id);
    lorafmt_sign(key, id, &signature);
    if (lorafmt_signature_save(&signature, args->output, args->force, &err))
        return message_failure(&err, args->output);
    if (args->json)
        json_result(args, in, adapter, lorafmt_private_key_public(key));
    else
        print_result(in, adapter, id, lorafmt_private_key_public(key));
    return EXIT_DONE;
}

static int check_args(const sign_args *args)
{
    if (!args->key)
        return message_usage(NAME, "--key KEY.pem is missing");
    if (args->detached && !args->output)
        return message_usage(NAME, "--detached needs -o FILE");
    if (!args->detached && (args->output || args->force))
        return message_usage(NAME, "-o and --force need --detached");
    return EXIT_DONE;
}

static int sign_input(const sign_args *args, const lorafmt_private_key *key, const char *text)
{
    lorafmt_model *model = NULL;
    input in;
    int code = input_parse(NAME, text, false, &in);

    if (code == EXIT_DONE)
        code = input_open_base(args->base, &model);
    if (code == EXIT_DONE)
        code = input_open(NAME, &args->input, model, false, &in);
    if (code == EXIT_DONE)
        code = sign(args, key, &in);
    input_close(&in);
    lorafmt_model_free(model);
    return code;
}

static int run_sign(const void *args_, size_t n_inputs, char *const *inputs)
{
    const sign_args *args = args_;
    lorafmt_private_key *key;
    lorafmt_error err;
    int code = check_args(args);

    (void)n_inputs;
    if (code != EXIT_DONE)
        return code;
    if (lorafmt_private_key_load(args->key, &key, &err))
        return message_failure(&err, args->key);
    code = sign_input(args, key, inputs[0]);
    lorafmt_private_key_free(key);
    return code;
}

const command cmd_sign = {
    .name = NAME,
    .usage = "sign IN[#NAME] --key KEY.pem [--detached -o FILE]",
    .summary = "say with a key that an adapter is yours",
    .about =
        "Sign an adapter: what it does and the base it claims to fit, not how it is stored, so that packing it again keeps the "
        "signature and any change of it does not. The signature goes into the .lora file, beside those of others, or, of "
        "whatever holds an adapter, into a file of its own, which openssl makes and checks too (docs/signing.md).",
    .example = "lorapack sign legal.lora --key alice.pem\n"
               "lorapack sign legal-peft --key alice.pem --detached -o legal.sig\n",
    .options = sign_options,
    .args_size = sizeof(sign_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_sign,
};
