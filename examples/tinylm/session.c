/* SPDX-License-Identifier: MIT */
#include "session.h"

#include "fail.h"

#include <math.h>
#include <stdlib.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void fill_rope(const model_config *c, session *s)
{
    const size_t half = c->head_dim / 2;

    for (size_t position = 0; position < c->max_position_embeddings; position++)
        for (size_t i = 0; i < half; i++) {
            const float inv_freq = 1 / powf(c->rope_theta, (float)(2 * i) / (float)c->head_dim);
            s->cos[position * half + i] = cosf((float)position * inv_freq);
            s->sin[position * half + i] = sinf((float)position * inv_freq);
        }
}

lorafmt_status session_start(const model *m, session *s, lorafmt_error *err)
{
    const model_config *c = &m->config;
    const size_t hidden = c->hidden_size, intermediate = c->intermediate_size;
    const size_t query = config_query_size(c), key = config_key_size(c);
    const size_t context = c->max_position_embeddings, n_cached = c->num_hidden_layers * context;
    const struct {
        float **out;
        size_t n_rows, row;
    } buffers[] = {
        {&s->keys, n_cached, key},
        {&s->values, n_cached, key},
        {&s->cos, context, c->head_dim / 2},
        {&s->sin, context, c->head_dim / 2},
        {&s->x, MOST_AT_ONCE, hidden},
        {&s->normed, MOST_AT_ONCE, hidden},
        {&s->query, MOST_AT_ONCE, query},
        {&s->mixed, MOST_AT_ONCE, query},
        {&s->gate, MOST_AT_ONCE, intermediate},
        {&s->up, MOST_AT_ONCE, intermediate},
        {&s->added, MOST_AT_ONCE, hidden},
        {&s->logits, MOST_AT_ONCE, VOCAB_SIZE},
        {&s->row, 1, larger(larger(hidden, intermediate), query)},
        {&s->scores, 1, context},
    };

    s->model = m;
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        if (!(*buffers[i].out = calloc(buffers[i].n_rows, buffers[i].row * sizeof(float))))
            return fail_memory(err);
    fill_rope(c, s);
    return LORAFMT_OK;
}

void session_free(session *s)
{
    float *const all[] = {s->keys,  s->values, s->cos, s->sin,   s->x,      s->normed, s->query,
                          s->mixed, s->gate,   s->up,  s->added, s->logits, s->row,    s->scores};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

void session_restart(session *s)
{
    s->n_seen = 0;
}
