/* SPDX-License-Identifier: MIT */
#include "tools/appended.h"
#include "tools/command.h"
#include "tools/message.h"
#include "tools/packing.h"
#include "tools/progress.h"
#include "tools/text.h"

#include "lorafmt/generations.h"

#include <errno.h>
#include <stdio.h>

#define NAME "add"

typedef struct add_args {
    packing_args packing;
    bool replace, json, quiet;
} add_args;

static const option add_options[] = {
    {"replace", 0, NULL, OPTION_FLAG, offsetof(add_args, replace), "an adapter takes the place of one that has its name"},
    PACKING_OPTIONS(add_args, packing),
    {"json", 0, NULL, OPTION_FLAG, offsetof(add_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(add_args, quiet), "print nothing but errors"},
    {0},
};

static int add(const packing *job, const add_args *args, const char *path)
{
    progress p;
    lorafmt_pack_options options = packing_options(job, &p);
    lorafmt_append_result result;
    char what[SHORT_TEXT_SIZE] = "added";
    lorafmt_error err;
    lorafmt_status st;

    options.force = args->replace;
    interrupt_catch();
    progress_start(&p, NAME, args->quiet);
    st = lorafmt_add(path, job->adapters, job->n_adapters, &options, &result, &err);
    progress_end(&p);
    if (st == LORAFMT_CANCELLED)
        return progress_failure(&p, &err, path);
    if (st && err.os_error == ENOENT)
        return message_error("%s: there is no such file to add to; lorapack pack IN -o %s makes one", path, path);
    for (size_t i = 0; i < job->n_adapters; i++)
        text_append(what, sizeof what, "%s %s", i ? "," : "", options.name ? options.name : job->adapters[i]->name);
    return appended_report(path, st, &err, &result, what, args->json, args->quiet);
}

static int run_add(const void *args_, size_t n_inputs, char *const *inputs)
{
    const add_args *args = args_;
    packing job = {.verb = NAME, .args = &args->packing, .quiet = args->quiet};
    int code = packing_open(&job, n_inputs - 1, inputs + 1);

    if (code == EXIT_DONE)
        code = add(&job, args, inputs[0]);
    packing_close(&job);
    return code;
}

const command cmd_add = {
    .name = NAME,
    .usage = "add FILE.lora IN [IN2 ...] [options]",
    .summary = "add adapters to a .lora file",
    .about =
        "Add adapters to a .lora file that exists, by another generation behind what is there: whoever has the file open keeps what "
        "it saw, a crash leaves the file as it was, and lorapack rollback undoes it. Tensors that the file has already are not "
        "stored again. IN is what pack takes.",
    .example = "lorapack add all.lora adapters/legal\n",
    .options = add_options,
    .args_size = sizeof(add_args),
    .min_inputs = 2,
    .max_inputs = MANY_INPUTS,
    .run = run_add,
};
