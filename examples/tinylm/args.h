/* SPDX-License-Identifier: MIT */
/* What the command line asks for. */
#ifndef TINYLM_ARGS_H
#define TINYLM_ARGS_H

#include "stack.h"

typedef struct args {
    const char *model;
    size_t n_prompts; /* 0, 1 for all stacks, or one for each */
    const char **prompts;
    bool unmerged; /* all stacks side by side, not one after another */
    bool f32;      /* live weights are F32 */
    size_t n_bytes;
    double temperature; /* 0 = always the likeliest byte */
    uint64_t seed;
    size_t n_logits;
    bool digest;
    bool json;
    size_t n_scores;
    const char **scores;
    size_t n_stacks;
    stack *stacks; /* the first is applied when loading, the others are switched to one after another, unless unmerged */
} args;

typedef enum args_result {
    ARGS_PARSED,
    ARGS_HELPED, /* --help was asked for and printed */
    ARGS_WRONG,  /* and said so */
    ARGS_NO_MEMORY,
} args_result;

/* out zeroed; it borrows from argv, which is cut in places. args_free() in any case. */
args_result args_parse(int argc, char **argv, args *out);
void args_free(args *a);

#endif
