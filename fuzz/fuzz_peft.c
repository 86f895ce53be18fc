/* SPDX-License-Identifier: MIT */
/*
 * An adapter_config.json and the names and shapes of tensors. Input: the config, a NUL, then for each tensor its name, a NUL, a
 * byte for the dtype, a byte for the number of dimensions, and a byte for each. What imports must export, and come back as the
 * same.
 */
#include "lib/dialect/peft.h"

#include "format/base/dtype.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t zeros[1u << 16];

/* The next tensor of the input; false when there is none left. */
static bool next_tensor(const uint8_t **p, const uint8_t *end, lf_peft_tensor *out)
{
    const uint8_t *nul = memchr(*p, 0, (size_t)(end - *p));
    lorafmt_tensor t = {.data = zeros};

    if (!nul || end - nul < 3 || end - nul < 3 + nul[2] || nul[2] > LORAFMT_MAX_DIMS)
        return false;
    out->name = (const char *)*p;
    t.dtype = (lorafmt_dtype)nul[1];
    t.n_dims = nul[2];
    for (uint32_t i = 0; i < t.n_dims; i++)
        t.shape[i] = nul[3 + i];
    *p = nul + 3 + t.n_dims;
    if (!lf_tensor_measure(t.dtype, t.n_dims, t.shape, &t.size) || t.size > sizeof zeros)
        return false;
    out->tensor = t;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size, *nul = memchr(data, 0, size), *p;
    lf_peft_tensor tensors[MAX_TENSORS], *exported;
    lf_arena arena = {0};
    lf_notes notes = {0};
    lorafmt_adapter adapter;
    lorafmt_error err;
    const char *config;
    size_t n = 0, n_exported;

    if (!nul)
        return 0;
    for (p = nul + 1; n < MAX_TENSORS && next_tensor(&p, end, &tensors[n]);)
        n++;
    if (lf_peft_import((const char *)data, (size_t)(nul - data), NULL, tensors, n, "x", &arena, &adapter, &notes, &err) ==
        LORAFMT_OK) {
        if (lf_peft_export(&adapter, &arena, &config, &exported, &n_exported, &err) != LORAFMT_OK || n_exported + notes.n != n)
            abort();
        if (strlen(config) != (size_t)(nul - data) || memcmp(config, data, strlen(config)) != 0)
            abort(); // a config that imports says the truth, so it comes back to the byte
    }
    lf_arena_free(&arena);
    return 0;
}
