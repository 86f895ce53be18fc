/* SPDX-License-Identifier: MIT */
/* The adapters of a command line, opened, in the order they are added. */
#ifndef TOOLS_STACK_H
#define TOOLS_STACK_H

#include "tools/input.h"

#include "lorafmt/view.h"

#include <stddef.h>

typedef struct adapter_stack {
    size_t n;
    input *inputs;
    lorafmt_stack_entry *entries;
} adapter_stack;

/* All return an exit code; stack_close() in any case. */
int stack_parse(const char *verb, const text_list *texts, adapter_stack *out);
int stack_parse_sum(const char *verb, const char *text, adapter_stack *out); /* several joined by + */
int stack_open(const char *verb, const input_args *args, const lorafmt_model *base, bool quiet, adapter_stack *stack);

/* The text up to a mark, or all of it when that is a file of its own; *rest is what follows, or NULL. */
char *stack_next(char **rest, const char *mark);

void stack_close(adapter_stack *stack);

#endif
