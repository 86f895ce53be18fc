/* SPDX-License-Identifier: MIT */
/* How long work goes on: a bar on a terminal, and stopping cleanly on SIGINT, SIGTERM and SIGHUP. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    const char *what;
    bool shown;   /* stderr is a terminal and nobody asked for quiet */
    double start; /* seconds of the monotonic clock */
    double drawn; /* when the bar was last drawn */
    uint64_t done, total;
} progress;

/*
 * From here on a SIGHUP and a first SIGINT or SIGTERM only set a flag, so that outputs can be removed; a second one of these
 * two kills. What is ignored stays so.
 */
void interrupt_catch(void);

void progress_start(progress *p, const char *what, bool quiet);

/* A lorafmt_progress whose ctx is a progress: false once a signal came. */
bool progress_update(void *ctx, uint64_t done, uint64_t total);

/* Take the bar away. */
void progress_end(const progress *p);

/* Say why a long operation failed; an interrupted one says where it stood. Returns EXIT_FAILED. */
int progress_failure(const progress *p, const lorafmt_error *err, const char *output);

#endif
