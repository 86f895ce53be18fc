/* SPDX-License-Identifier: MIT */
/* Memory for the backward pass. */
#include "backward.h"
#include "fail.h"
#include "score.h"

#include <stdlib.h>

/* --- transposed weights --- */

static void transpose(const matrix *w, matrix *out, float **next)
{
    const float *data = w->data;
    float *to = *next;

    for (size_t i = 0; i < w->out; i++)
        for (size_t j = 0; j < w->in; j++)
            to[j * w->out + i] = data[i * w->in + j];
    *out = (matrix){.out = w->in, .in = w->out, .dtype = LORAFMT_F32, .data = to, .tensor = w->tensor};
    *next += w->out * w->in;
}

static void transpose_layer(const layer *l, layer *out, float **next)
{
    transpose(&l->q_proj, &out->q_proj, next);
    transpose(&l->k_proj, &out->k_proj, next);
    transpose(&l->v_proj, &out->v_proj, next);
    transpose(&l->o_proj, &out->o_proj, next);
    transpose(&l->gate_proj, &out->gate_proj, next);
    transpose(&l->up_proj, &out->up_proj, next);
    transpose(&l->down_proj, &out->down_proj, next);
}

lorafmt_status transposed_make(const model *m, transposed *out, lorafmt_error *err)
{
    size_t size = 0;
    float *next;

    for (size_t i = 0; i < m->base->n_tensors; i++)
        size += (size_t)m->base->tensors[i].size / sizeof(uint16_t);
    out->layers = calloc(m->config.num_hidden_layers, sizeof *out->layers);
    out->memory = malloc(size * sizeof *out->memory);
    if (!out->layers || !out->memory)
        return fail_memory(err);
    next = out->memory;
    for (size_t i = 0; i < m->config.num_hidden_layers; i++)
        transpose_layer(&m->layers[i], &out->layers[i], &next);
    transpose(&m->lm_head, &out->lm_head, &next);
    return LORAFMT_OK;
}

void transposed_free(transposed *t)
{
    free(t->layers);
    free(t->memory);
}

/* --- gradients --- */

static lorafmt_status make_room(const model_config *c, learner *l, lorafmt_error *err)
{
    const size_t n = WINDOW_SIZE - 1, hidden = c->hidden_size, intermediate = c->intermediate_size;
    const size_t query = config_query_size(c), key = config_key_size(c);
    const struct {
        float **out;
        size_t row;
    } parts[] = {
        {&l->dx, hidden},
        {&l->dnormed, hidden},
        {&l->dquery, query},
        {&l->dkey, key},
        {&l->dvalue, key},
        {&l->dmixed, query},
        {&l->dgate, intermediate},
        {&l->dup, intermediate},
        {&l->dproduct, intermediate},
        {&l->dlogits, VOCAB_SIZE},
        {&l->through, hidden + intermediate + query},
        {&l->dscores, 1},
    };
    size_t row = 0, used = 0;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        row += parts[i].row;
    if (!(l->memory = calloc(n, row * sizeof *l->memory)))
        return fail_memory(err);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        *parts[i].out = l->memory + used;
        used += n * parts[i].row;
    }
    return LORAFMT_OK;
}

lorafmt_status learner_start(const model *m, const transposed *w, const trainable *t, learner *out, lorafmt_error *err)
{
    const session_options options = {.most = WINDOW_SIZE - 1, .keeps = true, .unmerged = &t->unmerged};

    out->transposed = w;
    out->trainable = t;
    if (session_start(m, &options, &out->session, err) || sequence_start(m, 0, &out->sequence, err))
        return err->status;
    return make_room(&m->config, out, err);
}

void learner_free(learner *l)
{
    session_free(&l->session);
    sequence_free(&l->sequence);
    free(l->memory);
}
