/* SPDX-License-Identifier: MIT */
/* How lorafmt_model_open() is made: choose the files, open them, collect their tensors, read the config. */
#ifndef LF_MODEL_PARTS_H
#define LF_MODEL_PARTS_H

#include "lib/model/model.h"

/* What a directory is read from: a shard index or one file. */
typedef struct lf_model_choice {
    const char *index; /* NULL when there is one file */
    const char *file;
    bool has_config; /* there is a config.json */
} lf_model_choice;

/* Texts live in the arena. Fails for a directory that holds no base, saying what it holds instead. */
lorafmt_status lf_model_choose(const char *directory, lf_arena *arena, lf_model_choice *out, lorafmt_error *err);

/* Room for n files, none open. */
lorafmt_status lf_model_reserve_files(lorafmt_model *model, size_t n_files, lorafmt_error *err);

/* Open a file and read its header. name must live as long as the model; path is taken over, and NULL means out of memory. */
lorafmt_status lf_model_open_file(lf_model_file *file, const char *name, char *path, lorafmt_error *err);

/* Open all shards that the index names, collect their tensors, and compare the two. */
lorafmt_status lf_model_open_shards(lorafmt_model *model, const char *index_name, lorafmt_error *err);

/* tensors and places, from the open files. */
lorafmt_status lf_model_collect(lorafmt_model *model, lorafmt_error *err);

/* config.json of a directory: its text, tied, vocab_size, quantization. */
lorafmt_status lf_model_read_config(lorafmt_model *model, lorafmt_error *err);

#endif
