/* SPDX-License-Identifier: MIT */
#include "tools/base_fit.h"

#include "tools/command.h"
#include "tools/message.h"

#include <stdio.h>
#include <string.h>

static uint64_t count_parameters(const lorafmt_base *base)
{
    uint64_t n = 0;

    for (size_t i = 0; i < base->n_tensors; i++)
        n += base->tensors[i].size * 8 / lorafmt_dtype_bits(base->tensors[i].dtype);
    return n;
}

static void set_why_not(const lorafmt_error *err, base_fit *out)
{
    snprintf(out->why_not, sizeof out->why_not, "%s%s%s", err->field, err->field[0] ? ": " : "", err->text);
}

int base_fit_find(const lorafmt_model *model, const char *path, const lorafmt_adapter *adapter, base_fit *out)
{
    const lorafmt_base *base = lorafmt_model_base(model);
    const lorafmt_bind_options options = {.struct_size = sizeof options, .any_base = true, .check_only = true};
    const lorafmt_stack_entry entry = {.adapter = adapter, .weight = 1};
    uint8_t structure[32];
    lorafmt_view *view;
    lorafmt_error err;

    memset(out, 0, sizeof *out);
    out->path = path;
    out->n_parameters = count_parameters(base);
    if (lorafmt_base_structure(base, structure, &err))
        return message_failure(&err, path);
    out->same_structure = adapter->has_base_structure && !memcmp(structure, adapter->base_structure, sizeof structure);
    out->fits = lorafmt_bind(base, &entry, 1, &options, &view, &err) == LORAFMT_OK;
    if (out->fits)
        coverage_count(view, 0, &out->coverage);
    else if (err.status == LORAFMT_NO_MEMORY || err.status == LORAFMT_IO)
        return message_failure(&err, path);
    else
        set_why_not(&err, out);
    lorafmt_view_free(view);
    return EXIT_DONE;
}
