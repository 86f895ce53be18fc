/* SPDX-License-Identifier: MIT */
/* A base model on disk, as lib/front sees it when it writes a merged one. */
#ifndef LF_MODEL_H
#define LF_MODEL_H

#include "format/foreign/safetensors.h"
#include "format/foreign/shard_index.h"
#include "lib/io/io.h"
#include "lorafmt/model.h"

#include <stdbool.h>
#include <sys/stat.h>

typedef struct lf_model_file {
    const char *name; /* within the directory */
    char *path;
    int fd;
    struct stat at_open; /* of fd */
    lf_safetensors *table;
    lf_map map; /* once lorafmt_model_map() was asked for */
} lf_model_file;

/* A file of the directory that holds no tensors of the model. */
typedef struct lf_side_file {
    const char *name;
    const char *path;
    int fd;              /* -1 with why_not */
    struct stat at_open; /* of fd */
    const char *why_not; /* it is not carried over into another model; NULL when it is */
} lf_side_file;

/* Where tensor i of base.tensors lies. */
typedef struct lf_model_place {
    size_t file;
    uint64_t offset;
} lf_model_place;

struct lorafmt_model {
    lf_arena arena;
    char *path; /* as given */
    bool is_directory;
    size_t n_files;
    lf_model_file *files; /* in ascending order of name */
    lorafmt_base base;
    lorafmt_base_tensor *tensors; /* base.tensors, ascending by name */
    lf_model_place *places;
    char *config; /* text of config.json, or NULL */
    size_t config_size;
    const char *index_name; /* name of the shard index, or NULL */
    char *index;            /* its text */
    size_t index_size;
    size_t n_side_files;
    lf_side_file *side_files; /* in ascending order of name, once they were asked for */
};

/* CORRUPT when a file was written to since it was opened: what was read is of no one model. */
lorafmt_status lf_check_unchanged(int fd, const char *path, const struct stat *at_open, lorafmt_error *err);
lorafmt_status lf_model_check_unchanged(const lorafmt_model *model, lorafmt_error *err); /* all of the base */

/* Open what lies beside the tensors of a directory, unless that was done. */
lorafmt_status lf_model_open_side_files(lorafmt_model *model, lorafmt_error *err);
void lf_model_close_side_files(lorafmt_model *model);

#endif
