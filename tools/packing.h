/* SPDX-License-Identifier: MIT */
/* What pack and add do alike: adapters as they go into a file. */
#ifndef TOOLS_PACKING_H
#define TOOLS_PACKING_H

#include "tools/input.h"
#include "tools/option.h"
#include "tools/progress.h"

#include "lorafmt/files.h"

typedef struct packing_args {
    const char *name;
    unsigned codec, dtype; /* places in the options' choices */
    const char *base;
    text_list metadata;
    input_args input;
    bool headers_only;
} packing_args;

/* clang-format off */
#define PACKING_OPTIONS(args, member) \
    {"name", 0, "NAME", OPTION_TEXT, offsetof(args, member.name), \
     "name the adapter, when there is one; else each keeps its own"}, \
    {"codec", 0, "raw|split", OPTION_CHOICE, offsetof(args, member.codec), \
     "how tensors are stored: raw, which is used straight from the file, or split, which is smaller by a third (bf16) or a " \
     "sixth (f32) and decoded when opened; raw when not given"}, \
    {"dtype", 0, "f32|bf16|f16", OPTION_CHOICE, offsetof(args, member.dtype), \
     "convert the tensors, rounding to nearest even; else kept"}, \
    {"base", 0, "BASE", OPTION_TEXT, offsetof(args, member.base), \
     "the model the adapter is for: record its structure and the digests of the tensors that change, so that no other is " \
     "taken; an adapter of experts (target_parameters) needs it to say what is whose"}, \
    {"headers-only", 0, NULL, OPTION_FLAG, offsetof(args, member.headers_only), \
     "with --base: do not read its data, and record no digests"}, \
    {"meta", 0, "K=V", OPTION_LIST, offsetof(args, member.metadata), \
     "add metadata to every adapter; may be given many times"}, \
    INPUT_OPTIONS(args, member.input)
/* clang-format on */

/* Everything that is opened, in that order. */
typedef struct packing {
    const char *verb;
    const packing_args *args;
    bool quiet;
    lorafmt_metadata *metadata;
    char **metadata_memory; /* the keys and values of each entry of metadata */
    lorafmt_model *base;
    input *inputs;
    size_t n_inputs; /* that are open */
    const lorafmt_adapter **adapters;
    size_t n_adapters;
} packing;

/* Returns an exit code; packing_close() in any case. verb, args and quiet are set. */
int packing_open(packing *job, size_t n_inputs, char *const *inputs);
void packing_close(packing *job);

/* The options of the library, with progress that ends in *p. */
lorafmt_pack_options packing_options(const packing *job, progress *p);

/* Is codec split asked for? */
bool packing_splits(const packing_args *args);

/* A line about one adapter of a file: kinds, ranks, dtypes. */
void packing_print_adapter(const lorafmt_adapter *adapter);

#endif
