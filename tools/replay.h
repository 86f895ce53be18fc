/* SPDX-License-Identifier: MIT */
/* Verifying a merged model against its receipt: the merge is done again, and compared with what is there. */
#ifndef TOOLS_REPLAY_H
#define TOOLS_REPLAY_H

#include "tools/option.h"

#include <stdbool.h>

typedef struct replay_args {
    const char *receipt, *base;
    const text_list *adapters;
    unsigned n_threads;
    bool json;
} replay_args;

/* Returns an exit code, having said why it is not 0. */
int replay(const char *verb, const replay_args *args, const char *output);

#endif
