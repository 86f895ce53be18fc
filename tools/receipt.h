/* SPDX-License-Identifier: MIT */
/* The receipt of a merge: every site and what became of it, as JSON for programs and as a few lines for people. */
#ifndef TOOLS_RECEIPT_H
#define TOOLS_RECEIPT_H

#include "tools/input.h"

#include "lorafmt/files.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A file of the base that has no place in the output. */
typedef struct left_behind {
    char *file;
    char *why;
} left_behind;

typedef struct receipt {
    const char *base_path;
    const lorafmt_model *model;
    const lorafmt_view *view;
    const input *inputs; /* one for each entry of the stack */
    const lorafmt_stack_entry *stack;
    size_t n_stack;
    const char *output; /* NULL when the command line names none */
    bool dry_run;
    lorafmt_merge_result result; /* of a dry run: tensors as they would be, nothing written */
    const left_behind *left;
    size_t n_left;
} receipt;

/* What a merge would do to the tensors. */
void receipt_foresee(const lorafmt_model *model, const lorafmt_view *view, lorafmt_merge_result *out);

void receipt_json(const receipt *r, FILE *to);
void receipt_print(const receipt *r);

#endif
