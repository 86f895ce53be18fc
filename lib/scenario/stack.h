/* SPDX-License-Identifier: MIT */
/* A scenario as the stack of adapters that it is. */
#ifndef LK_SCENARIO_STACK_H
#define LK_SCENARIO_STACK_H

#include "lib/scenario/set.h"
#include "lorafmt/view.h"

typedef struct lk_stack {
    lf_arena arena;
    const lorakit_scenario *scenario;
    const lk_opened **opened;
    lorafmt_stack_entry *entries;
    lorafmt_entry_options *options; /* each with weights where its adapter has rules, else NULL */
} lk_stack;

/* lk_stack_free() in any case. */
lorafmt_status lk_stack_open(lorakit_scenarios *set, size_t scenario, lk_stack *out, lorafmt_error *err);
void lk_stack_free(lk_stack *stack);

#endif
