/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/doctor.h"
#include "tools/message.h"

#include <stdlib.h>

#define NAME "doctor"

typedef struct doctor_args {
    bool json;
} doctor_args;

static const option doctor_options[] = {
    {"json", 0, NULL, OPTION_FLAG, offsetof(doctor_args, json), "print the diagnosis as JSON (docs/json.md)"},
    {0},
};

static int run_doctor(const void *args_, size_t n_inputs, char *const *inputs)
{
    const doctor_args *args = args_;
    diagnosis *d = calloc(1, sizeof *d);
    int code;

    (void)n_inputs;
    if (!d)
        return message_no_memory();
    d->path = inputs[0];
    code = doctor_examine(d);
    if (code == EXIT_DONE) {
        if (args->json)
            doctor_json(d);
        else
            doctor_print(d);
        code = d->level == LEVEL_BROKEN ? EXIT_FAILED : EXIT_DONE;
    }
    free(d);
    return code;
}

const command cmd_doctor = {
    .name = NAME,
    .usage = "doctor X [--json]",
    .summary = "what is wrong with a file, in words, and what to do",
    .about =
        "Say what X is, what is wrong or suspicious about it and where, what that usually comes from, what of it can still be read, "
        "and what to do, in words that take no knowledge of its format. X may be anything: a .lora file, a PEFT directory, a "
        "safetensors file, a base model, "
#ifdef WITH_KIT
        "a manifest, a lock, "
#endif
        "or nothing of all that. Nothing is written. The exit status is 0 for what is sound, and for what is suspicious.",
    .example = "lorapack doctor legal.lora\n",
    .options = doctor_options,
    .args_size = sizeof(doctor_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_doctor,
};
