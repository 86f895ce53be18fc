/* SPDX-License-Identifier: MIT */
#include "tools/appended.h"
#include "tools/command.h"
#include "tools/message.h"
#include "tools/text.h"

#include "lorafmt/generations.h"

#include <string.h>

#define NAME "remove"

typedef struct remove_args {
    bool json, quiet;
} remove_args;

static const option remove_options[] = {
    {"json", 0, NULL, OPTION_FLAG, offsetof(remove_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(remove_args, quiet), "print nothing but errors"},
    {0},
};

/* A name, and not where it is. Returns an exit code. */
static int check_name(const char *name)
{
    const char *hash = strrchr(name, '#');

    if (!hash)
        return EXIT_DONE;
    return message_usage(NAME, "\"%s\": the file is named before, here is only the name of the adapter: \"%s\"", name, hash + 1);
}

static int run_remove(const void *args_, size_t n_inputs, char *const *inputs)
{
    const remove_args *args = args_;
    const char *const *names = (const char *const *)inputs + 1;
    lorafmt_append_result result;
    char what[SHORT_TEXT_SIZE] = "removed";
    lorafmt_error err;
    lorafmt_status st;

    for (size_t i = 1; i < n_inputs; i++)
        if (check_name(inputs[i]))
            return EXIT_USAGE;
    st = lorafmt_remove(inputs[0], names, n_inputs - 1, &result, &err);
    for (size_t i = 1; i < n_inputs; i++)
        text_append(what, sizeof what, "%s %s", i > 1 ? "," : "", inputs[i]);
    return appended_report(inputs[0], st, &err, &result, what, args->json, args->quiet);
}

const command cmd_remove = {
    .name = NAME,
    .usage = "remove FILE.lora NAME [NAME2 ...] [options]",
    .summary = "remove adapters from a .lora file",
    .about =
        "Remove adapters from a .lora file by another generation that does not have them. Their bytes stay in the file, so that "
        "lorapack rollback can bring them back; lorapack compact takes them away for good.",
    .example = "lorapack remove all.lora legal\n",
    .options = remove_options,
    .args_size = sizeof(remove_args),
    .min_inputs = 2,
    .max_inputs = MANY_INPUTS,
    .run = run_remove,
};
