/* SPDX-License-Identifier: MIT */
#include "tools/stack.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/path.h"

#include <stdlib.h>
#include <string.h>

int stack_parse(const char *verb, const text_list *texts, adapter_stack *out)
{
    int code = EXIT_DONE;

    out->inputs = calloc(texts->n, sizeof *out->inputs);
    out->entries = calloc(texts->n, sizeof *out->entries);
    if (!out->inputs || !out->entries)
        return message_no_memory();
    for (; out->n < texts->n && code == EXIT_DONE; out->n++)
        code = input_parse(verb, texts->items[out->n], true, &out->inputs[out->n]);
    return code;
}

char *stack_next(char **rest, const char *mark)
{
    char *part = *rest;
    const size_t n = path_exists(part) ? strlen(part) : strcspn(part, mark);

    *rest = part[n] ? part + n + 1 : NULL;
    part[n] = '\0';
    return part;
}

int stack_parse_sum(const char *verb, const char *text, adapter_stack *out)
{
    text_list parts = {calloc(strlen(text) + 1, sizeof *parts.items), 0};
    char *copy = strdup(text), *rest = copy;
    int code = parts.items && copy ? EXIT_DONE : message_no_memory();

    while (code == EXIT_DONE && rest)
        parts.items[parts.n++] = stack_next(&rest, "+");
    if (code == EXIT_DONE)
        code = stack_parse(verb, &parts, out);
    free(parts.items);
    free(copy);
    return code;
}

int stack_open(const char *verb, const input_args *args, const lorafmt_model *base, bool quiet, adapter_stack *stack)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < stack->n && code == EXIT_DONE; i++) {
        stack->entries[i].weight = stack->inputs[i].weight;
        code = input_open(verb, args, base, quiet, &stack->inputs[i]);
        if (code == EXIT_DONE)
            code = input_choose(&stack->inputs[i], &stack->entries[i].adapter);
    }
    return code;
}

void stack_close(adapter_stack *stack)
{
    for (size_t i = 0; i < stack->n; i++)
        input_close(&stack->inputs[i]);
    free(stack->inputs);
    free(stack->entries);
    memset(stack, 0, sizeof *stack);
}
