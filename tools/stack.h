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

/* Both return an exit code; stack_close() in any case. */
int stack_parse(const char *verb, const text_list *texts, adapter_stack *out);
int stack_open(const char *verb, const input_args *args, const lorafmt_model *base, bool quiet, adapter_stack *stack);

void stack_close(adapter_stack *stack);

#endif
