/* SPDX-License-Identifier: MIT */
/* The receipt of a merge: every site and what became of it, as JSON for programs and as a few lines for people. */
#ifndef TOOLS_RECEIPT_H
#define TOOLS_RECEIPT_H

#include "tools/binding.h"
#include "tools/stack.h"

#include "lorafmt/files.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A file of the base that has no place in the output. */
typedef struct left_behind {
    char *file;
    char *why;
} left_behind;

/* The fingerprint of the base's structure, if its names have one. */
typedef struct receipt_structure {
    bool known;
    uint8_t sha256[32];
} receipt_structure;

typedef struct receipt {
    const char *base_path;
    const lorafmt_model *model;
    receipt_structure structure;
    const lorafmt_view *view;
    const adapter_stack *stack;
    const binding_args *binding;
    const input_args *input;
    const char *output; /* NULL when the command line names none */
    bool dry_run;
    lorafmt_merge_result result;   /* of a dry run: tensors as they would be, nothing written */
    const lorafmt_change *changes; /* of all tensors of the view, or NULL */
    uint8_t (*digests)[32];        /* the same */
    const left_behind *left;
    size_t n_left;
} receipt;

/* False when out of memory. */
bool receipt_find_structure(const lorafmt_model *model, receipt_structure *out);

/* What a merge would do to the tensors. */
void receipt_foresee(const lorafmt_model *model, const lorafmt_view *view, lorafmt_merge_result *out);

void receipt_json(const receipt *r, FILE *to);

/*
 * What a replay knows, and without what may be otherwise each time: paths, options, what was left behind. Before a bind (view is
 * NULL) that is the base and the adapters; before tensors are compared (changes is NULL) what became of every site, too.
 */
void receipt_replay_json(const receipt *r, FILE *to);

void receipt_print(const receipt *r);

#endif
