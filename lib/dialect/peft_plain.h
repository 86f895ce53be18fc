/* SPDX-License-Identifier: MIT */
/*
 * Keys of rank_pattern and alpha_pattern that are names: each stands for module paths that are it, or end with it after a dot, where a
 * dot of the key is any character. They are sorted from their ends, so that one look-up goes once along a path for all of them.
 */
#ifndef LF_DIALECT_PEFT_PLAIN_H
#define LF_DIALECT_PEFT_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lf_plain_key {
    const char *key;
    size_t length;
    size_t place; /* in the object */
} lf_plain_key;

typedef struct lf_plain_keys {
    size_t n;
    lf_plain_key *keys;
    uint64_t steps; /* that all look-ups together may take beyond the lengths of their paths */
} lf_plain_keys;

/* Once all keys are there. */
void lf_plain_keys_sort(lf_plain_keys *keys);

/* *place: the first in the object that stands for the path, or SIZE_MAX. false when no steps are left. */
bool lf_plain_keys_find(lf_plain_keys *keys, const char *path, size_t length, size_t *place);

#endif
