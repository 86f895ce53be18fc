/* SPDX-License-Identifier: MIT */
/* What a command works on: IN[#NAME][=WEIGHT], opened. */
#ifndef TOOLS_INPUT_H
#define TOOLS_INPUT_H

#include "tools/limits.h"
#include "tools/option.h"

#include "lorafmt/adapter.h"
#include "lorafmt/model.h"
#include "lorafmt/origin.h"

#include <stdbool.h>

/* How a source is read; part of every command's arguments. */
typedef struct input_args {
    option_number alpha;
    bool rslora;
    unsigned experts_orientation; /* place in the option's choices */
    bool defer_digests;
    limit_args trust;
    const lorafmt_policy *policy; /* whose adapters may be opened; NULL = anybody's */
} input_args;

/* clang-format off */
#define INPUT_OPTIONS(args, member) \
    {"alpha", 0, "X", OPTION_NUMBER, offsetof(args, member.alpha), "alpha of a .safetensors file that does not say it"}, \
    {"rslora", 0, NULL, OPTION_FLAG, offsetof(args, member.rslora), "with --alpha: the scale is alpha / sqrt(rank)"}, \
    {"experts-orientation", 0, "out-in|in-out", OPTION_CHOICE, offsetof(args, member.experts_orientation), \
     "with --base: how it stores experts that are square, whose shape does not tell"}, \
    LIMIT_OPTIONS(args, member.trust)
/* clang-format on */

/* Is any of these options given? */
bool input_is_asked(const input_args *args);

typedef struct input {
    char *path;
    const char *name; /* of one adapter, inside path's memory; NULL = not given */
    double weight;    /* 1 when not given */
    lorafmt_source *source;
} input;

/*
 * Take the text of the command line apart: the last '=' followed by a number is the weight, when `weighted`; what is left is
 * a path when such a file exists, else it is cut at the last '#'. input_close() in any case. Returns an exit code, having
 * said why it is not 0.
 */
int input_parse(const char *verb, const char *text, bool weighted, input *out);

/*
 * Open what was parsed. base may be NULL; an adapter of experts needs one, which says what is whose. The source's notes go to
 * stderr unless quiet. Returns an exit code.
 */
int input_open(const char *verb, const input_args *args, const lorafmt_model *base, bool quiet, input *in);

/* --base, or NULL when path is. Returns an exit code. */
int input_open_base(const char *path, lorafmt_model **out);

/* The adapter that was named, or the only one. Returns an exit code. */
int input_choose(const input *in, const lorafmt_adapter **out);

/*
 * The adapters of a source; and those that the input stands for, the named one or all. In an array that is the caller's, NULL on
 * failure. Both return an exit code.
 */
int source_adapters(const lorafmt_source *source, const lorafmt_adapter ***out, size_t *n);
int input_adapters(const input *in, const lorafmt_adapter ***out, size_t *n);

void input_close(input *in);

const char *source_kind_name(lorafmt_source_kind kind);

#endif
