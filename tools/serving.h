/* SPDX-License-Identifier: MIT */
/* What the commands that mount share: signals that become words to the mount, and what it says. */
#ifndef TOOLS_SERVING_H
#define TOOLS_SERVING_H

#include "tools/limits.h"

#include "lorakit/mount.h"

#include <stdbool.h>

/* What a mount says goes to stderr, or to the system's log once the process is in the background. */
typedef struct serving {
    lorakit_mount *mount;
    lorafmt_limits limits;
    bool quiet, in_background;
    int control[2]; /* a pipe: what is written to its second end is told to the mount */
} serving;

/*
 * Open and mount; options need neither struct_size nor any of the callbacks. Says why, and returns an exit code. serving_close() in
 * any case.
 */
int serving_open(serving *s, const char *verb, const char *manifest, const char *directory, const limit_args *trust,
                 lorakit_mount_options *options);

/* Have a signal tell the mount a letter. For one serving at a time. */
void serving_catch(const serving *s, int signal, char letter);

/* Tell the mount; also from a signal handler. */
void serving_tell(int control, char letter);

/* Until it ends. Returns an exit code. */
int serving_run(serving *s);

void serving_close(serving *s);

#endif
