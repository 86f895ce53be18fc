/* SPDX-License-Identifier: MIT */
/* How little is taken on trust: options of every command that reads what comes from outside. */
#ifndef TOOLS_LIMITS_H
#define TOOLS_LIMITS_H

#include "tools/option.h"

#include "lorafmt/limits.h"

#include <stdbool.h>

typedef struct limit_args {
    text_list limits;
    bool paranoid;
} limit_args;

/* clang-format off */
#define LIMIT_OPTIONS(args, member) \
    {"limit", 0, "NAME=N", OPTION_LIST, offsetof(args, member.limits), \
     "refuse what is beyond it, as rank=256 or tensor-size=64M (docs/limits.md)"}, \
    {"paranoid", 0, NULL, OPTION_FLAG, offsetof(args, member.paranoid), \
     "before using adapters check all that verify does; refuse NaN and infinity"}
/* clang-format on */

/* Returns an exit code, having said why it is not 0. */
int limits_parse(const char *verb, const limit_args *args, lorafmt_limits *out);

#endif
