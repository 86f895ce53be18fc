/* SPDX-License-Identifier: MIT */
#include "model.h"

#include "fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a tensor of BF16. */
static size_t live_size(const lorafmt_base_tensor *t, lorafmt_dtype dtype)
{
    return (size_t)t->size / sizeof(uint16_t) * (lorafmt_dtype_bits(dtype) / 8);
}

static lorafmt_status measure(const char *folder, const lorafmt_base *base, lorafmt_dtype dtype, size_t *size, lorafmt_error *err)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_base_tensor *t = &base->tensors[i];
        if (t->dtype != LORAFMT_BF16)
            return fail(err, LORAFMT_UNSUPPORTED, folder, t->name, "%s, must be BF16", lorafmt_dtype_name(t->dtype));
        sum += t->size;
        if (sum >= SIZE_MAX / sizeof(float))
            return fail_memory(err);
        *size += live_size(t, dtype);
    }
    return LORAFMT_OK;
}

static lorafmt_status place_tensors(const char *folder, lorafmt_dtype dtype, model *m, lorafmt_error *err)
{
    size_t size = 0, at = 0;

    if (measure(folder, m->base, dtype, &size, err) || lorafmt_model_map(m->file, err))
        return err->status;
    m->live = malloc(size + 1);
    m->places = calloc(m->base->n_tensors + 1, sizeof *m->places);
    if (!m->live || !m->places)
        return fail_memory(err);
    for (size_t i = 0; i < m->base->n_tensors; i++) {
        m->places[i].pristine = lorafmt_model_data(m->file, i);
        m->places[i].live[0] = m->live + at;
        m->places[i].live_dtype = dtype;
        at += live_size(&m->base->tensors[i], dtype);
    }
    return LORAFMT_OK;
}

/* --- tensors by name --- */

static bool has_shape(const lorafmt_base_tensor *t, size_t rows, size_t cols)
{
    if (rows == 1)
        return t->n_dims == 1 && t->shape[0] == cols;
    return t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == cols;
}

/* rows 1: a vector */
static lorafmt_status take(model *m, const char *name, size_t rows, size_t cols, matrix *out, lorafmt_error *err)
{
    for (size_t i = 0; i < m->base->n_tensors; i++) {
        const lorafmt_base_tensor *t = &m->base->tensors[i];
        if (strcmp(t->name, name))
            continue;
        if (!has_shape(t, rows, cols))
            return fail(err, LORAFMT_CORRUPT, "", name, "not %zu x %zu, as config.json says", rows, cols);
        *out = (matrix){.out = rows, .in = cols, .dtype = m->places[i].live_dtype, .data = m->places[i].live[0], .tensor = i};
        m->n_taken++;
        return LORAFMT_OK;
    }
    return fail(err, LORAFMT_NOT_FOUND, "", name, "is not in the model");
}

static lorafmt_status take_layer(model *m, size_t index, lorafmt_error *err)
{
    const size_t hidden = m->config.hidden_size, intermediate = m->config.intermediate_size;
    const size_t query = config_query_size(&m->config), key = config_key_size(&m->config);
    layer *l = &m->layers[index];
    const struct {
        const char *name;
        size_t rows, cols;
        matrix *out;
    } parts[] = {
        {"input_layernorm", 1, hidden, &l->input_layernorm},
        {"self_attn.q_proj", query, hidden, &l->q_proj},
        {"self_attn.k_proj", key, hidden, &l->k_proj},
        {"self_attn.v_proj", key, hidden, &l->v_proj},
        {"self_attn.o_proj", hidden, query, &l->o_proj},
        {"post_attention_layernorm", 1, hidden, &l->post_attention_layernorm},
        {"mlp.gate_proj", intermediate, hidden, &l->gate_proj},
        {"mlp.up_proj", intermediate, hidden, &l->up_proj},
        {"mlp.down_proj", hidden, intermediate, &l->down_proj},
    };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", index, parts[i].name);
        if (take(m, name, parts[i].rows, parts[i].cols, parts[i].out, err))
            return err->status;
    }
    return LORAFMT_OK;
}

static lorafmt_status take_all(model *m, lorafmt_error *err)
{
    const size_t hidden = m->config.hidden_size;

    m->layers = calloc(m->config.num_hidden_layers, sizeof *m->layers);
    if (!m->layers)
        return fail_memory(err);
    if (take(m, "model.embed_tokens.weight", VOCAB_SIZE, hidden, &m->embed_tokens, err) ||
        take(m, "model.norm.weight", 1, hidden, &m->norm, err) || take(m, "lm_head.weight", VOCAB_SIZE, hidden, &m->lm_head, err))
        return err->status;
    for (size_t i = 0; i < m->config.num_hidden_layers; i++)
        if (take_layer(m, i, err))
            return err->status;
    if (m->n_taken != m->base->n_tensors)
        return fail(err, LORAFMT_UNSUPPORTED, "", "", "the model has %zu tensors, of which this program knows %zu",
                    m->base->n_tensors, m->n_taken);
    return LORAFMT_OK;
}

/* --- the whole --- */

lorafmt_status model_load(const char *folder, lorafmt_dtype dtype, model *out, lorafmt_error *err)
{
    const lorafmt_runtime_options options = {.struct_size = sizeof options, .load_by_swap = true};

    if (config_read(folder, &out->config, err) || lorafmt_model_open(folder, &out->file, err))
        return err->status;
    out->base = lorafmt_model_base(out->file);
    if (place_tensors(folder, dtype, out, err) || take_all(out, err))
        return err->status;
    return lorafmt_runtime_new(out->base, out->places, &options, &out->runtime, err);
}

void model_free(model *m)
{
    lorafmt_runtime_free(m->runtime);
    lorafmt_model_free(m->file);
    free(m->places);
    free(m->layers);
    free(m->live);
}

static void report_misfit(void *ctx, const char *adapter, const char *target, const char *text)
{
    (void)ctx;
    fprintf(stderr, "tinylm: %s: %s: %s\n", adapter, target, text);
}

static const lorafmt_bind_options bind_options = {.struct_size = sizeof bind_options, .report = report_misfit};

lorafmt_status model_swap(model *m, const stack *adapters, lorafmt_swap_result *result, lorafmt_error *err)
{
    const lorafmt_swap_options options = {.struct_size = sizeof options, .bind = &bind_options};

    return lorafmt_runtime_swap(m->runtime, adapters->entries, adapters->n, &options, result, NULL, err);
}

lorafmt_status model_bind(const model *m, const stack *adapters, lorafmt_view **out, lorafmt_error *err)
{
    return lorafmt_bind(m->base, adapters->entries, adapters->n, &bind_options, out, err);
}
