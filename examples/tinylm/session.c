/* SPDX-License-Identifier: MIT */
#include "session.h"

#include "fail.h"

#include <math.h>
#include <stdlib.h>

/* --- texts --- */

lorafmt_status sequence_start(const model *m, uint32_t adapter, sequence *out, lorafmt_error *err)
{
    const size_t n_cached = m->config.num_hidden_layers * m->config.max_position_embeddings;
    const size_t key_size = config_key_size(&m->config) * sizeof(float);

    out->adapter = adapter;
    out->keys = calloc(n_cached, key_size);
    out->values = calloc(n_cached, key_size);
    return out->keys && out->values ? LORAFMT_OK : fail_memory(err);
}

void sequence_free(sequence *q)
{
    free(q->keys);
    free(q->values);
}

/* --- room to work in --- */

typedef struct room {
    float *memory; /* NULL: to find out how much there must be */
    uint64_t used; /* a sum of products of three numbers below 2^15 and one of 2: no overflow */
} room;

static float *take(room *r, size_t n_rows, size_t row)
{
    float *at = r->memory ? r->memory + r->used : NULL;

    r->used += (uint64_t)n_rows * row;
    return at;
}

static activations lay_out_layer(const model_config *c, size_t n, room *r)
{
    const size_t hidden = c->hidden_size, query = config_query_size(c);

    return (activations){
        .x = take(r, n, hidden),
        .query = take(r, n, query),
        .mixed = take(r, n, query),
        .between = take(r, n, hidden),
        .gate = take(r, n, c->intermediate_size),
        .up = take(r, n, c->intermediate_size),
    };
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void lay_out(session *s, bool keeps, room *r)
{
    const model_config *c = &s->model->config;
    const size_t n = s->most, hidden = c->hidden_size, key = config_key_size(c);

    for (size_t i = 0; i <= c->num_hidden_layers; i++)
        s->layers[i] = i && !keeps ? s->layers[0] : lay_out_layer(c, n, r);
    s->cos = take(r, c->max_position_embeddings, c->head_dim / 2);
    s->sin = take(r, c->max_position_embeddings, c->head_dim / 2);
    s->normed = take(r, n, hidden);
    s->key = take(r, n, key);
    s->value = take(r, n, key);
    s->product = take(r, n, c->intermediate_size);
    s->added = take(r, n, hidden);
    s->logits = take(r, n, VOCAB_SIZE);
    s->row = take(r, 1, larger(larger(hidden, c->intermediate_size), config_query_size(c)));
    s->scores = take(r, 1, c->max_position_embeddings);
}

static lorafmt_status make_room(session *s, bool keeps, lorafmt_error *err)
{
    room r = {0};

    s->layers = calloc(s->model->config.num_hidden_layers + 1, sizeof *s->layers);
    s->tokens = calloc(s->most, sizeof *s->tokens);
    s->positions = calloc(s->most, sizeof *s->positions);
    s->adapters = calloc(s->most, sizeof *s->adapters);
    if (!s->layers || !s->tokens || !s->positions || !s->adapters)
        return fail_memory(err);
    lay_out(s, keeps, &r);
    if (r.used > SIZE_MAX / sizeof(float) || !(s->memory = malloc((size_t)r.used * sizeof(float))))
        return fail_memory(err);
    r = (room){.memory = s->memory};
    lay_out(s, keeps, &r);
    return LORAFMT_OK;
}

/* --- the whole --- */

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

lorafmt_status session_start(const model *m, const session_options *options, session *s, lorafmt_error *err)
{
    s->model = m;
    s->unmerged = options->unmerged;
    s->most = options->most;
    if (make_room(s, options->keeps, err))
        return err->status;
    fill_rope(&m->config, s);
    return s->unmerged ? unmerged_make_workspace(s->unmerged, s->most, &s->workspace, err) : LORAFMT_OK;
}

void session_free(session *s)
{
    lorafmt_workspace_free(s->workspace);
    free(s->layers);
    free(s->tokens);
    free(s->positions);
    free(s->adapters);
    free(s->memory);
}
