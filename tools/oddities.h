/* SPDX-License-Identifier: MIT */
/* What is odd about an adapter: nothing that is against the rules, but something to know before using it. */
#ifndef TOOLS_ODDITIES_H
#define TOOLS_ODDITIES_H

#include "tools/facts.h"
#include "tools/message.h"

#include <stddef.h>

/* In the order they are listed: what spoils a model first. */
typedef enum odd {
    ODD_NOT_FINITE,
    ODD_HUGE_NORM,
    ODD_HUGE_SCALE,
    ODD_NEGATIVE_SCALE,
    ODD_NOTHING,
    ODD_ZERO_SCALE,
    ODD_ZERO_FACTOR,
    ODD_ABOVE_DIMENSIONS,
    ODD_SAME_TENSOR,
    ODD_MIXED_DTYPES,
    ODD_NEWER,
} odd;

#define ODDITY_TEXT_SIZE 160

typedef struct oddity {
    odd what;
    const char *target; /* NULL: the whole adapter */
    char text[ODDITY_TEXT_SIZE];
} oddity;

typedef struct oddity_list {
    oddity *items; /* by what, then by target */
    size_t n, capacity;
} oddity_list;

/* Above these, a scale or norm is huge. Trained adapters have scales of 0.25 to 32 (rank 64 with rsLoRA and alpha 256). */
#define HUGE_SCALE 64
#define HUGE_NORM_RATIO 100   /* to the median norm of the adapter */
#define FEWEST_FOR_A_MEDIAN 4 /* norms above zero */

/* Returns an exit code, having said why it is not 0; oddities_free() in any case. */
int oddities_find(const adapter_facts *facts, oddity_list *out);
void oddities_free(oddity_list *list);

/* For those who find them. An exit code. */
int oddity_add(oddity_list *list, odd what, const char *target, const char *format, ...) MESSAGE_FORMAT(4);

/* Find equal tensors of the table, once for all adapters; then an adapter's factors with the same data. Exit codes. */
int same_tensors_mark(tensor_table *tensors);
int same_tensors_find(const adapter_facts *facts, oddity_list *out);

/* "zero-factor" */
const char *odd_name(odd what);

/* A reason, and what to do about it; with the name it fits on a line. */
const char *odd_advice(odd what);

#endif
