/* SPDX-License-Identifier: MIT */
/* What appending a generation to a file came to. */
#ifndef TOOLS_APPENDED_H
#define TOOLS_APPENDED_H

#include "lorafmt/generations.h"

#include <stdbool.h>

/* Returns an exit code: `st` may be a failure, which is said. what: "added legal"; in the plain text only. */
int appended_report(const char *path, lorafmt_status st, const lorafmt_error *err, const lorafmt_append_result *result,
                    const char *what, bool json, bool quiet);

#endif
