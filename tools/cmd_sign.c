/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/origin.h"
#include "tools/progress.h"
#include "tools/text.h"

#include "lorafmt/generations.h"

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

/* What is signed, and by whom. */
typedef struct signing {
    const input *in;
    const lorafmt_adapter *adapter;
    uint8_t id[32];
    const lorafmt_public_key *key;
    bool already; /* in the file, by the same key */
} signing;

static void json_result(const sign_args *args, const signing *s)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", s->in->path);
    json_object(&j, "adapter");
    json_text(&j, "name", s->adapter->name);
    json_digest(&j, "id", s->id);
    json_object_end(&j);
    json_fingerprint(&j, s->key);
    json_text(&j, "signature", args->output);
    json_bool(&j, "already_signed", s->already);
    json_object_end(&j);
}

static void print_result(const signing *s)
{
    char id[DIGEST_TEXT_SIZE], key[DIGEST_TEXT_SIZE];

    print_line(stdout, "%s: adapter %s, id %s", s->in->path, s->adapter->name, digest_text(s->id, id));
    print_line(stdout, "signed%s by key %s", s->already ? " already" : "", fingerprint_text(s->key, key));
}

static bool is_signed_already(const signing *s)
{
    const lorafmt_policy by_key = {.struct_size = sizeof by_key, .n_keys = 1, .keys = s->key};
    size_t key;

    return lorafmt_policy_check(&by_key, s->adapter, &key, NULL) == LORAFMT_OK;
}

static int put_into_file(signing *s, const lorafmt_signature *signature)
{
    const char *path = s->in->path;
    lorafmt_append_result result;
    lorafmt_error err;

    if (lorafmt_source_get_kind(s->in->source) != LORAFMT_SOURCE_LORA)
        return message_error("%s: only a .lora file has room for signatures; --detached -o FILE writes one to a file of its own",
                             path);
    s->already = is_signed_already(s);
    if (!s->already && lorafmt_add_signature(path, s->adapter->name, signature, &result, &err))
        return message_failure(&err, path);
    return EXIT_DONE;
}

static int put_beside(const sign_args *args, const lorafmt_signature *signature)
{
    lorafmt_error err;

    if (lorafmt_signature_save(signature, args->output, args->force, &err))
        return message_failure(&err, args->output);
    return EXIT_DONE;
}

static int sign(const sign_args *args, const lorafmt_private_key *key, const input *in)
{
    signing s = {.in = in, .key = lorafmt_private_key_public(key)};
    lorafmt_signature signature;
    int code;

    if ((code = input_choose(in, &s.adapter)))
        return code;
    lorafmt_adapter_id(s.adapter, s.id);
    lorafmt_sign(key, s.id, &signature);
    interrupt_catch(); /* finish what was begun */
    code = args->detached ? put_beside(args, &signature) : put_into_file(&s, &signature);
    if (code != EXIT_DONE)
        return code;
    if (args->json)
        json_result(args, &s);
    else
        print_result(&s);
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
