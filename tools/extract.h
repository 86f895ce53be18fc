/* SPDX-License-Identifier: MIT */
/* What the extract command found, and saying it. */
#ifndef TOOLS_EXTRACT_H
#define TOOLS_EXTRACT_H

#include "lorafmt/model.h"
#include "lorakit/extract.h"

typedef struct extract_result {
    const char *base_path, *tuned_path, *output;
    const lorafmt_base *tuned;
    const lorakit_extracted *tensors; /* of tuned */
    const lorafmt_adapter *adapter;
    const uint8_t *id; /* as the file has it */
} extract_result;

void extract_print(const extract_result *result, bool sites);
void extract_json(const extract_result *result);

#endif
