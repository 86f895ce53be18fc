/* SPDX-License-Identifier: MIT */
/* A receipt in memory: reading (receipt.c) and comparing (receipt_compare.c). */
#ifndef LF_FRONT_RECEIPT_H
#define LF_FRONT_RECEIPT_H

#include "format/base/arena.h"
#include "format/foreign/json.h"
#include "lorafmt/receipt.h"

struct lorafmt_receipt {
    lf_arena arena;
    cJSON *json;
    lorafmt_receipt_options options;
};

/* lorafmt_receipt_open() without the file. */
lorafmt_status lf_receipt_parse(const char *text, size_t size, lorafmt_receipt **out, lorafmt_error *err);

#endif
