/* SPDX-License-Identifier: MIT */
/* What all fuzz targets share: the entry, what they promise of every input, and an input taken as a script. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool condition)
{
    if (!condition)
        abort();
}

/* Bytes that decide what is done, one after the other; behind the last of them all are 0. */
typedef struct script {
    const uint8_t *at, *end;
} script;

static inline uint8_t next_byte(script *s)
{
    return s->at < s->end ? *s->at++ : 0;
}

/* A number below n, which is at most 256. */
static inline size_t next_below(script *s, size_t n)
{
    return next_byte(s) % n;
}

#endif
