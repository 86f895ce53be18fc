/* SPDX-License-Identifier: MIT */
/* A key file: what is accepted is written again to the same key, what is refused gives none. */
#include "fuzz/fuzz.h"
#include "lib/origin/origin.h"

static void check(lf_key_kind kind, const char *text, size_t size)
{
    static const uint8_t none[LF_KEY_SIZE];
    uint8_t key[LF_KEY_SIZE], again[LF_KEY_SIZE];
    char written[LF_KEY_MAX_TEXT];
    lorafmt_error err;

    if (lf_key_parse(text, size, kind, key, &err) != LORAFMT_OK) {
        require_refused(err.status, &err);
        require(memcmp(key, none, sizeof key) == 0);
        return;
    }
    require(size <= LF_KEY_MAX_TEXT);
    require(lf_key_parse(written, lf_key_print(kind, key, written), kind, again, &err) == LORAFMT_OK);
    require(memcmp(key, again, sizeof key) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(LF_KEY_PUBLIC, (const char *)data, size);
    check(LF_KEY_PRIVATE, (const char *)data, size);
    return 0;
}
