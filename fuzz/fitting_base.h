/* SPDX-License-Identifier: MIT */
/* A small base in memory, made for the targets of adapters: each fits, unless the script decides otherwise. */
#ifndef FUZZ_FITTING_BASE_H
#define FUZZ_FITTING_BASE_H

#include "fuzz/fuzz.h"
#include "lorafmt/view.h"

#define MAX_BASE_TENSORS 24
#define MAX_BASE_TENSOR_SIZE (1u << 16)

typedef struct fitting_base {
    lorafmt_base base;
    lorafmt_base_tensor tensors[MAX_BASE_TENSORS];
    uint8_t *data[MAX_BASE_TENSORS]; /* blocks of exactly each tensor's size */
    bool fails;                      /* reading it does */
} fitting_base;

/* Add the targets of an adapter that are not there yet and are not too large. The adapter must live as long. */
void fitting_base_add(fitting_base *b, const lorafmt_adapter *adapter, script *s);

/* All but the tensors and `fails`; call it last. */
void fitting_base_finish(fitting_base *b, script *s);

void fitting_base_free(fitting_base *b);

#endif
