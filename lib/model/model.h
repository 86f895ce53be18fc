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
};

/* CORRUPT when a file of the base was written to since it was opened: what was read is of no one model. */
lorafmt_status lf_model_check_unchanged(const lorafmt_model *model, lorafmt_error *err);

#endif
