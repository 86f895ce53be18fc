/* SPDX-License-Identifier: MIT */
/* What all fuzz targets share: the entry, what they promise of every input, and an input taken as a script. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool condition)
{
    if (!condition)
        abort();
}

/* A refusal says why, in a line that a terminal may show. */
static inline void require_refused(lorafmt_status status, const lorafmt_error *err)
{
    char line[sizeof *err];
    const size_t n = lorafmt_error_format(err, line, sizeof line);

    require(status != LORAFMT_OK && err->status == status && *lorafmt_status_name(status) != 'O' && err->text[0]);
    require(n > 0 && strlen(line) == n);
    for (size_t i = 0; i < n; i++)
        require((uint8_t)line[i] >= ' ' && line[i] != 0x7f);
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
