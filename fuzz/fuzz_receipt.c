/* SPDX-License-Identifier: MIT */
/* The receipt of a merge: what is accepted has options that hold together, and says what it says itself. */
#include "fuzz/fuzz.h"

#include "lib/front/receipt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_options(const lorafmt_receipt_options *o)
{
    for (size_t i = 0; i < o->n_map; i++)
        require(strchr(o->map[i], '=') != NULL);
    require(o->has_alpha ? isfinite(o->alpha) : o->alpha == 0);
}

/* Against a text that may differ in any place: an error has its texts, however long what it is about. */
static void check_compare(const lorafmt_receipt *receipt, const char *text, size_t size, lorafmt_status expected)
{
    lorafmt_error err;
    const lorafmt_status status = lorafmt_receipt_compare(receipt, text, size, &err);

    require(status == expected);
    require(status == LORAFMT_OK || err.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char other[] = "{\"options\": {\"map\": [[]]}}";
    lorafmt_receipt *receipt;
    lorafmt_error err;

    if (lf_receipt_parse((const char *)data, size, &receipt, &err) != LORAFMT_OK) {
        require(receipt == NULL && err.text[0]);
        return 0;
    }
    check_options(lorafmt_receipt_get_options(receipt));
    check_compare(receipt, (const char *)data, size, LORAFMT_OK);
    check_compare(receipt, other, sizeof other - 1, LORAFMT_MISMATCH);
    lorafmt_receipt_free(receipt);
    return 0;
}
