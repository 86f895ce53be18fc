/* SPDX-License-Identifier: MIT */
/*
 * What a PEFT directory holds, as a whole: opened, held against its rules, bound to a base and computed. Input: adapter_config.json,
 * a NUL, bytes that decide about the base, at most SCRIPT_SIZE of them, and adapter_model.safetensors. Rows computed by themselves
 * are those of the whole tensor.
 *
 * The seeds are the smallest cases of tests/conformance of each kind.
 */
#include "fuzz/fitting_base.h"
#include "fuzz/fuzz.h"

#include <string.h>

#define SCRIPT_SIZE 16

static void evaluate(const lorafmt_view *view, size_t tensor, uint64_t row, uint64_t n_rows, const uint8_t *src, uint8_t *dst)
{
    const lorafmt_view_tensor *t = lorafmt_view_get_tensor(view, tensor);
    const size_t skip = (size_t)(row * t->row_size);
    lorafmt_error err;

    require(lorafmt_view_evaluate(view, tensor, row, n_rows, src ? src + skip : NULL, (size_t)t->row_size, dst + skip,
                                  (size_t)t->row_size, NULL, &err) == LORAFMT_OK);
}

static void compute(lorafmt_view *view, const fitting_base *b, size_t tensor)
{
    const lorafmt_view_tensor *t = lorafmt_view_get_tensor(view, tensor);
    const uint64_t half = t->n_rows / 2;
    const uint8_t *src = t->reads_base ? b->data[tensor] : NULL;
    uint8_t *whole, *parts;
    lorafmt_error err;

    require(t->n_rows * t->row_size == t->size);
    if (t->needs_prepare && lorafmt_view_prepare(view, tensor, &err) != LORAFMT_OK) {
        require(!b->base.read);
        return;
    }
    whole = malloc((size_t)t->size);
    parts = malloc((size_t)t->size);
    require(!t->size || (whole && parts));
    evaluate(view, tensor, 0, t->n_rows, src, whole);
    evaluate(view, tensor, half, t->n_rows - half, src, parts);
    evaluate(view, tensor, 0, half, src, parts);
    require(!t->size || memcmp(whole, parts, (size_t)t->size) == 0);
    free(whole);
    free(parts);
}

static void bind(const fitting_base *b, const lorafmt_adapter *adapter, script *s)
{
    const lorafmt_stack_entry stack = {adapter, 1};
    const lorafmt_bind_options options = {.struct_size = sizeof options, .allow_unmatched = next_byte(s) & 1};
    lorafmt_view *view;
    lorafmt_error err;

    if (lorafmt_bind(&b->base, &stack, 1, &options, &view, &err) != LORAFMT_OK) {
        require(!view);
        require_refused(err.status, &err);
        return;
    }
    for (size_t i = 0; i < lorafmt_view_n_tensors(view); i++)
        if (lorafmt_view_get_tensor(view, i)->size <= MAX_BASE_TENSOR_SIZE)
            compute(view, b, i);
    lorafmt_view_free(view);
}

static void use(const lorafmt_source *source, script *s)
{
    fitting_base b = {.fails = false};
    lorafmt_verify_result result;

    require(lorafmt_verify(source, &result, NULL) == LORAFMT_OK);
    for (size_t i = 0; i < lorafmt_source_n_adapters(source); i++)
        fitting_base_add(&b, lorafmt_source_adapter(source, i), s);
    fitting_base_finish(&b, s);
    for (size_t i = 0; i < lorafmt_source_n_adapters(source); i++)
        bind(&b, lorafmt_source_adapter(source, i), s);
    fitting_base_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = memchr(data, 0, size), *end = data + size;
    lorafmt_memory memory = {.config = (const char *)data};
    lorafmt_source *source;
    lorafmt_error err;
    script s;

    if (!nul || end - nul - 1 < SCRIPT_SIZE)
        return 0;
    s = (script){nul + 1, nul + 1 + SCRIPT_SIZE};
    memory.config_size = (size_t)(nul - data);
    memory.bytes = s.end;
    memory.size = (uint64_t)(end - s.end);
    if (lorafmt_source_open_memory(&memory, NULL, &source, &err) == LORAFMT_OK)
        use(source, &s);
    else
        require_refused(err.status, &err);
    lorafmt_source_free(source);
    return 0;
}
