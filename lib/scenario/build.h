/* SPDX-License-Identifier: MIT */
/*
 * Inside of a build. Of scenario S there are in OUTPUT/.lorafmt:
 *
 *   S-KEY/            finished files of the model with that key, the first 16 digits of the SHA-256 of its inputs
 *   S.ready/          a whole model on its way to OUTPUT/S, or what was there before
 *   S.ready~/         what was there before, where the file system does not exchange names
 *   S.next            the record of a model on its way
 *   S.model, S.lora   records: what OUTPUT/S or OUTPUT/S.lora was made from, and its files
 *   S.flock           held by whoever looks at and changes the above; not while files of a model are written
 */
#ifndef LK_SCENARIO_BUILD_H
#define LK_SCENARIO_BUILD_H

#include "lib/scenario/stack.h"
#include "lorafmt/image.h"
#include "lorakit/build.h"

#define LK_KEY_DIGITS 16

struct lorakit_build {
    lf_arena arena;
    lorakit_scenarios *set;
    lorakit_form form;
    lk_stack stack;
    lorafmt_view *view; /* of a model, as the image */
    lorafmt_image *image;
    lorakit_adapter *adapter;                                   /* of a lora */
    const char *inputs;                                         /* once they are known: lines "WHAT: VALUE" */
    const char *name;                                           /* of the result in OUTPUT */
    const char *target, *state, *record, *next, *ready, *flock; /* paths; state is OUTPUT/.lorafmt */
    const char *staging;                                        /* path, once the inputs are known */
};

/* What the result depends on: sets inputs and staging. */
lorafmt_status lk_build_inputs(lorakit_build *build, lorafmt_error *err);

/* "DIRECTORY/NAME" in the build's arena; NULL when out of memory. */
const char *lk_build_path(lorakit_build *build, const char *directory, const char *name);

/* Is file i of the image finished in the staging directory? */
bool lk_build_is_staged(lorakit_build *build, size_t file);

/* --- build_record.c --- */

typedef struct lk_built_file {
    const char *name;
    uint64_t size;
    int64_t mtime; /* nanoseconds since 1970 */
} lk_built_file;

typedef struct lk_record {
    char *inputs; /* NULL: there is no record */
    size_t n_files;
    lk_built_file *files;
} lk_record;

/* The record at path: that of the build, or its next. */
lorafmt_status lk_build_record_read(lorakit_build *build, const char *path, lk_record *out, lorafmt_error *err);
lorafmt_status lk_build_record_write(const lorakit_build *build, const char *path, const lk_built_file *files, size_t n_files,
                                     lorafmt_error *err);

/* Size and time of a file, links not followed. false when it is not there, or no file. */
bool lk_built_file_look(const char *directory, const char *name, lk_built_file *out);

/* The first file of a record that is not in a directory as it was; NULL when all are. */
const lk_built_file *lk_record_first_changed(const lk_record *record, const char *directory);

/* --- build_publish.c; under the lock --- */

/* End what a process that died began. */
lorafmt_status lk_build_recover(lorakit_build *build, lorafmt_error *err);

/* MISUSE when something is where the result goes that was not made here. */
lorafmt_status lk_build_check_own(lorakit_build *build, lorafmt_error *err);

/* Put a model whose tensor files are all staged in its place. */
lorafmt_status lk_build_publish(lorakit_build *build, lorafmt_error *err);

/* Remove a directory of files, if it is there. */
lorafmt_status lk_build_remove(const char *directory, lorafmt_error *err);

#endif
