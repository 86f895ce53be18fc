/* SPDX-License-Identifier: MIT */
/* Numbers that look random and are the same on every machine: splitmix64, keyed. */
#ifndef LK_RANDOM_H
#define LK_RANDOM_H

#include <stdint.h>

typedef struct lk_random {
    uint64_t state;
} lk_random;

/* A stream of its own for each seed, text and number. */
lk_random lk_random_of(uint64_t seed, const char *text, uint64_t number);

uint64_t lk_random_u64(lk_random *random);

/* In [0, 1), 53 bits. */
double lk_random_unit(lk_random *random);

#endif
