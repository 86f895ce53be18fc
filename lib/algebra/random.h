/* SPDX-License-Identifier: MIT */
/* Random numbers by place, the same on every machine: lorakit/init.h says which. Callers hold an lf_fpenv. */
#ifndef LK_RANDOM_H
#define LK_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* The key of the numbers that belong to a name. */
uint64_t lk_random_key(uint64_t seed, const char *name);

/* Numbers [at, at + n) of a key: uniform in (-1, 1), and standard normal. */
void lk_random_uniform(uint64_t key, uint64_t at, double *out, size_t n);
void lk_random_normal(uint64_t key, uint64_t at, double *out, size_t n);

#endif
