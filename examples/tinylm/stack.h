/* SPDX-License-Identifier: MIT */
/* A stack of adapters as the command line names it: PATH[=WEIGHT], several joined with +. */
#ifndef TINYLM_STACK_H
#define TINYLM_STACK_H

#include <lorafmt/adapter.h>
#include <lorafmt/view.h>

typedef struct stack_item {
    const char *path;
    double weight;
    uint64_t file_size; /* once opened */
    lorafmt_source *source;
} stack_item;

/* n 0 is the base. */
typedef struct stack {
    size_t n;
    stack_item *items;
    lorafmt_stack_entry *entries; /* once opened */
} stack;

typedef enum parse_result {
    PARSED,
    PARSE_WRONG, /* an empty path, or a weight that is not finite */
    PARSE_NO_MEMORY,
} parse_result;

/* Add what text names, which is cut in place and borrowed. Zeroed at first; stack_free() in any case. */
parse_result stack_add(stack *s, char *text);
void stack_free(stack *s);

/* Its paths as the command line has them, cut to size. */
void stack_name(const stack *s, char *out, size_t size);

/* Open all adapters; base tells what adapters of experts do not say themselves. Once a switch is done, stack_close(). */
lorafmt_status stack_open(stack *s, const lorafmt_base *base, lorafmt_error *err);
void stack_close(stack *s);

#endif
