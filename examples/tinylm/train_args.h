/* SPDX-License-Identifier: MIT */
/* What the command line of tinylm-train asks for. */
#ifndef TINYLM_TRAIN_ARGS_H
#define TINYLM_TRAIN_ARGS_H

#include <lorafmt/tensor.h>

typedef struct train_args {
    const char *model;
    const char *text;
    const char *heldout; /* or NULL */
    const char *output;
    size_t n_targets;
    const char **targets;
    uint32_t rank;
    double alpha;
    uint64_t n_steps; /* 0 = as many as take about so many seconds */
    uint64_t seconds;
    double rate;
    uint64_t seed;
    lorafmt_dtype dtype;
    size_t n_threads;
} train_args;

typedef enum train_args_result {
    TRAIN_ARGS_PARSED,
    TRAIN_ARGS_HELPED, /* --help was asked for and printed */
    TRAIN_ARGS_WRONG,  /* and said so */
    TRAIN_ARGS_NO_MEMORY,
} train_args_result;

/* out zeroed; it borrows from argv. free() its targets in any case. */
train_args_result train_args_parse(int argc, char **argv, train_args *out);

#endif
