/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/message.h"
#include "tools/origin.h"
#include "tools/text.h"

#include <stdlib.h>
#include <string.h>

#define NAME "keygen"

typedef struct keygen_args {
    const char *output;
    bool json;
} keygen_args;

static const option keygen_options[] = {
    {"output", 'o', "NAME", OPTION_TEXT, offsetof(keygen_args, output), "write NAME.pem and NAME.pub.pem"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(keygen_args, json), "print the result as JSON (docs/json.md)"},
    {0},
};

static void json_result(const char *private_path, const char *public_path, const lorafmt_public_key *key)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "private_key", private_path);
    json_text(&j, "public_key", public_path);
    json_fingerprint(&j, key);
    json_object_end(&j);
}

static int generate(const keygen_args *args, const char *private_path, const char *public_path)
{
    char text[DIGEST_TEXT_SIZE];
    lorafmt_public_key key;
    lorafmt_error err;

    if (lorafmt_key_generate(private_path, public_path, &key, &err))
        return message_failure(&err, private_path);
    if (args->json) {
        json_result(private_path, public_path, &key);
        return EXIT_DONE;
    }
    print_line(stdout, "%s: the private key, for you alone", private_path);
    print_line(stdout, "%s: the public key, for everybody; fingerprint %s", public_path, fingerprint_text(&key, text));
    return EXIT_DONE;
}

static int run_keygen(const void *args_, size_t n_inputs, char *const *inputs)
{
    const keygen_args *args = args_;
    const size_t size = args->output ? strlen(args->output) + sizeof ".pub.pem" : 0;
    char *private_path, *public_path;
    int code;

    (void)n_inputs, (void)inputs;
    if (!args->output || !*args->output)
        return message_usage(NAME, "-o NAME is missing");
    private_path = malloc(size);
    public_path = malloc(size);
    if (private_path && public_path) {
        snprintf(private_path, size, "%s.pem", args->output);
        snprintf(public_path, size, "%s.pub.pem", args->output);
        code = generate(args, private_path, public_path);
    } else {
        code = message_no_memory();
    }
    free(private_path);
    free(public_path);
    return code;
}

const command cmd_keygen = {
    .name = NAME,
    .usage = "keygen -o NAME [--json]",
    .summary = "make a pair of keys to sign with",
    .about =
        "Make an Ed25519 key: NAME.pem, which signs and which nobody else may have, and NAME.pub.pem, with which others check. Both "
        "are PEM files that openssl reads too. Tell people the fingerprint on another way than the key.",
    .example = "lorapack keygen -o alice\n",
    .options = keygen_options,
    .args_size = sizeof(keygen_args),
    .run = run_keygen,
};
