/* SPDX-License-Identifier: MIT */
#include "tools/appended.h"
#include "tools/command.h"
#include "tools/message.h"

#include "lorafmt/generations.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define NAME "rollback"

typedef struct rollback_args {
    option_number to;
    bool json, quiet;
} rollback_args;

static const option rollback_options[] = {
    {"to", 0, "N", OPTION_NUMBER, offsetof(rollback_args, to),
     "the generation to go back to; else the one before the current one"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(rollback_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(rollback_args, quiet), "print nothing but errors"},
    {0},
};

/* The one that is asked for; 0: the one before the current one. Returns an exit code. */
static int choose(const rollback_args *args, uint64_t *out)
{
    const double to = args->to.value;

    *out = 0;
    if (!args->to.given)
        return EXIT_DONE;
    if (to < 1 || to > 9007199254740992.0 || to != floor(to))
        return message_usage(NAME, "--to %g: must be the number of a generation, which lorapack history lists", to);
    *out = (uint64_t)to;
    return EXIT_DONE;
}

static int run_rollback(const void *args_, size_t n_inputs, char *const *inputs)
{
    const rollback_args *args = args_;
    lorafmt_append_result result;
    lorafmt_error err;
    lorafmt_status st;
    uint64_t generation;
    char what[64];
    int code;

    (void)n_inputs;
    if ((code = choose(args, &generation)))
        return code;
    st = lorafmt_rollback(inputs[0], generation, &result, &err);
    snprintf(what, sizeof what, "as generation %" PRIu64 " was", st ? 0 : result.restored);
    return appended_report(inputs[0], st, &err, &result, what, args->json, args->quiet);
}

const command cmd_rollback = {
    .name = NAME,
    .usage = "rollback FILE.lora [--to N] [options]",
    .summary = "go back to an earlier state of a .lora file",
    .about =
        "Go back to what a .lora file held in an earlier generation, which is verified first. That is another generation, so "
        "going back can be undone, too. Of a file with a damaged root slot, --to the generation that is shown accepts that state.",
    .example = "lorapack rollback all.lora --to 2\n",
    .options = rollback_options,
    .args_size = sizeof(rollback_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_rollback,
};
