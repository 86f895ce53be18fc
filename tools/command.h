/* SPDX-License-Identifier: MIT */
/* The commands of lorapack: what each one is called, takes and says about itself. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include "tools/option.h"

#include <stddef.h>

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1, /* the file or the operation failed */
    EXIT_USAGE = 2,  /* the command line makes no sense */
};

#define MANY_INPUTS ((size_t)-1)

typedef struct command {
    const char *name;
    const char *usage;     /* after "lorapack " */
    const char *summary;   /* half a line for the list of commands */
    const char *about;     /* one paragraph for --help */
    const char *example;   /* lines of a shell, each ended by a newline */
    const option *options; /* ended by an option without a name; --help is added to all */
    size_t args_size;      /* of the zeroed struct that the options' offsets lie in */
    size_t min_inputs, max_inputs;
    bool algebra; /* needs LAPACK at its best */
    int (*run)(const void *args, size_t n_inputs, char *const *inputs);
} command;

extern const command cmd_pack, cmd_unpack, cmd_inspect, cmd_verify, cmd_merge, cmd_apply;
extern const command cmd_add, cmd_compact, cmd_doctor, cmd_history, cmd_remove, cmd_rollback;
extern const command cmd_keygen, cmd_sign;

/* With liblorakit. */
extern const command cmd_build, cmd_compose, cmd_diff, cmd_emit, cmd_extract, cmd_init, cmd_lock, cmd_plan, cmd_resize;

/* With its mount. */
extern const command cmd_mount, cmd_run;

#endif
