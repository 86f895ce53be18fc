/* SPDX-License-Identifier: MIT */
/* A file that another generation is appended to: opened, locked, checked, and then written in the order that a crash may break off. */
#ifndef LF_FRONT_APPEND_H
#define LF_FRONT_APPEND_H

#include "format/base/arena.h"
#include "format/container/container.h"
#include "lib/front/convert.h"
#include "lib/front/writer.h"
#include "lib/io/io.h"
#include "lorafmt/generations.h"

typedef struct lf_appender {
    const char *path; /* the caller's */
    int fd;           /* locked */
    lf_map map;
    lf_container *file;
    lf_arena arena;
    lf_adapter_list list; /* what the new generation is to hold: to be read, and changed, before writing */
} lf_appender;

/* Also on failure it is to be closed. accept_recovered: a damaged root slot is no reason to refuse. */
lorafmt_status lf_appender_open(lf_appender *appender, const char *path, bool accept_recovered, lorafmt_error *err);

/* Says in *err of which file a failure is, and returns the status. */
lorafmt_status lf_appender_close(lf_appender *appender, lorafmt_status status, lorafmt_error *err);

/* Write the generation; kept is the one whose tensors stay. options, for codec and progress, and out may be NULL. */
lorafmt_status lf_appender_write(lf_appender *appender, const lf_container *kept, const lorafmt_pack_options *options,
                                 lorafmt_append_result *out, lorafmt_error *err);

#endif
