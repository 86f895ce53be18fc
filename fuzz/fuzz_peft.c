/* SPDX-License-Identifier: MIT */
/*
 * An adapter_config.json and the names and shapes of tensors. Input: the config, a NUL, then for each tensor its name, a NUL, a
 * byte for the dtype, a byte for the number of dimensions, and a byte for each. A name that starts with '@' is a tensor of the
 * base. What imports must export, and come back as the same.
 */
#include "fuzz/fuzz.h"

#include "lib/dialect/peft.h"

#include "format/base/dtype.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 64

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

static lorafmt_base_tensor base_tensor(const lf_peft_tensor *t)
{
    lorafmt_base_tensor out = {.name = t->name + 1, .dtype = t->tensor.dtype, .n_dims = t->tensor.n_dims};

    memcpy(out.shape, t->tensor.shape, sizeof out.shape);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size, *nul = memchr(data, 0, size), *p;
    lf_peft_tensor tensors[MAX_TENSORS], *exported;
    lorafmt_base_tensor base_tensors[MAX_TENSORS];
    lorafmt_base base = {.struct_size = sizeof base, .tensors = base_tensors};
    lf_peft_input in = {.config_text = (const char *)data, .tensors = tensors, .name = "x", .base = &base};
    lf_arena arena = {0};
    lf_notes notes = {0};
    lorafmt_adapter adapter;
    lorafmt_error err;
    const char *config;
    size_t n_exported;

    if (!nul)
        return 0;
    in.config_size = (size_t)(nul - data);
    for (p = nul + 1; in.n_tensors < MAX_TENSORS && base.n_tensors < MAX_TENSORS && next_tensor(&p, end, &tensors[in.n_tensors]);)
        if (tensors[in.n_tensors].name[0] == '@')
            base_tensors[base.n_tensors++] = base_tensor(&tensors[in.n_tensors]);
        else
            in.n_tensors++;
    if (lf_peft_import(&in, &arena, &adapter, &notes, &err) == LORAFMT_OK) {
        if (lf_peft_export(&adapter, &arena, &config, &exported, &n_exported, &err) != LORAFMT_OK)
            abort();
        if (notes.n == 0 && n_exported != in.n_tensors) // what is left out is said
            abort();
        if (strlen(config) != in.config_size || memcmp(config, data, in.config_size) != 0)
            abort(); // a config that imports says the truth, so it comes back to the byte
    }
    lf_arena_free(&arena);
    return 0;
}
