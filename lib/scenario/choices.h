/* SPDX-License-Identifier: MIT */
/* "did you mean X? Known are X, Y, Z": what a message says of a name that is none of those there are. */
#ifndef LK_CHOICES_H
#define LK_CHOICES_H

#include <stddef.h>

typedef struct lk_choices {
    const char *typed;
    const char *nearest; /* NULL while none is near */
    size_t distance;     /* of the nearest */
    char all[384];       /* what does not fit becomes "..." */
    char text[512];
} lk_choices;

lk_choices lk_choices_begin(const char *typed);
void lk_choices_add(lk_choices *choices, const char *name);

/* The text, which is part of choices. */
const char *lk_choices_end(lk_choices *choices);

#endif
