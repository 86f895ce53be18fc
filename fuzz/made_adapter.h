/* SPDX-License-Identifier: MIT */
/* An adapter that a script describes, opened from a `.lora` in memory. */
#ifndef FUZZ_MADE_ADAPTER_H
#define FUZZ_MADE_ADAPTER_H

#include "fuzz/fuzz.h"
#include "lorafmt/adapter.h"

typedef struct made_adapter {
    uint8_t *bytes;
    size_t size;
    lorafmt_source *source;
    const lorafmt_adapter *adapter; /* NULL when what the script describes is none */
} made_adapter;

/* out starts at zero. */
void made_adapter_open(made_adapter *out, script *s);
void made_adapter_close(made_adapter *made);

#endif
