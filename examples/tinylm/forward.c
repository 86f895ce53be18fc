/* SPDX-License-Identifier: MIT */
/* The architecture: examples/demo-model/README.md, "The model". */
#include "session.h"
#include "vector.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* What the adapters add to y = x W^T. The workspace was made for all that comes, so this cannot fail. */
static void adapt(session *s, const matrix *w, const float *x, size_t n, float *y)
{
    const lorafmt_batch batch = unmerged_batch(s->unmerged, w, s->adapters, x, n, y);
    const lorafmt_status status = lorafmt_forward(s->workspace, &batch, NULL);

    assert(status == LORAFMT_OK);
    (void)status;
}

/* y = x W^T for n rows of x, and what the adapters add. */
static void project(session *s, const matrix *w, const float *x, size_t n, float *y)
{
    matrix_multiply(w, x, n, s->row, y);
    if (s->unmerged)
        adapt(s, w, x, n, y);
}

static void normalise(session *s, const matrix *weight, const float *x, size_t n)
{
    const size_t hidden = s->model->config.hidden_size;
    const float *w = matrix_row(weight, 0, s->row);

    for (size_t t = 0; t < n; t++)
        rms_norm(s->normed + t * hidden, x + t * hidden, w, s->model->config.rms_norm_eps, hidden);
}

/* --- attention --- */

static void rotate_heads(const session *s, float *heads, size_t n_heads, size_t position)
{
    const size_t half = s->model->config.head_dim / 2;

    for (size_t h = 0; h < n_heads; h++)
        rotate(heads + h * 2 * half, s->cos + position * half, s->sin + position * half, half);
}

/* Each token gets its position, and its text keeps its key and value. */
static void keep(session *s, size_t layer_index, float *query, size_t n)
{
    const model_config *c = &s->model->config;
    const size_t key = config_key_size(c);

    for (size_t t = 0; t < n; t++) {
        const sequence *q = s->tokens[t].sequence;
        const size_t at = (layer_index * c->max_position_embeddings + s->positions[t]) * key;
        rotate_heads(s, query + t * config_query_size(c), c->num_attention_heads, s->positions[t]);
        rotate_heads(s, s->key + t * key, c->num_key_value_heads, s->positions[t]);
        memcpy(q->keys + at, s->key + t * key, key * sizeof(float));
        memcpy(q->values + at, s->value + t * key, key * sizeof(float));
    }
}

/* One query head looks at what its key/value head keeps of the first n positions. */
static void mix_head(session *s, const float *query, const float *keys, const float *values, size_t n, float *out)
{
    const model_config *c = &s->model->config;
    const size_t step = config_key_size(c);
    const float scale = 1 / sqrtf((float)c->head_dim);

    for (size_t p = 0; p < n; p++)
        s->scores[p] = dot(query, keys + p * step, c->head_dim) * scale;
    softmax(s->scores, n);
    memset(out, 0, c->head_dim * sizeof *out);
    for (size_t p = 0; p < n; p++)
        add_scaled(out, s->scores[p], values + p * step, c->head_dim);
}

/* Every token looks at itself and at those before it in its text. */
static void mix_values(session *s, size_t layer_index, const float *query, size_t n, float *mixed)
{
    const model_config *c = &s->model->config;
    const size_t group = c->num_attention_heads / c->num_key_value_heads;
    const size_t layer_at = layer_index * c->max_position_embeddings * config_key_size(c);

    for (size_t t = 0; t < n; t++)
        for (size_t h = 0; h < c->num_attention_heads; h++) {
            const sequence *q = s->tokens[t].sequence;
            const size_t at = t * config_query_size(c) + h * c->head_dim, shared = layer_at + h / group * c->head_dim;
            mix_head(s, query + at, q->keys + shared, q->values + shared, s->positions[t] + 1, mixed + at);
        }
}

static void attention(session *s, size_t layer_index, size_t n)
{
    const layer *l = &s->model->layers[layer_index];
    activations *a = &s->layers[layer_index];

    normalise(s, &l->input_layernorm, a->x, n);
    project(s, &l->q_proj, s->normed, n, a->query);
    project(s, &l->k_proj, s->normed, n, s->key);
    project(s, &l->v_proj, s->normed, n, s->value);
    keep(s, layer_index, a->query, n);
    mix_values(s, layer_index, a->query, n, a->mixed);
    project(s, &l->o_proj, a->mixed, n, s->added);
    add(a->between, a->x, s->added, n * s->model->config.hidden_size);
}

/* --- the rest --- */

static void mlp(session *s, size_t layer_index, size_t n)
{
    const model_config *c = &s->model->config;
    const layer *l = &s->model->layers[layer_index];
    activations *a = &s->layers[layer_index];

    normalise(s, &l->post_attention_layernorm, a->between, n);
    project(s, &l->gate_proj, s->normed, n, a->gate);
    project(s, &l->up_proj, s->normed, n, a->up);
    swiglu(s->product, a->gate, a->up, n * c->intermediate_size);
    project(s, &l->down_proj, s->product, n, s->added);
    add(a[1].x, a->between, s->added, n * c->hidden_size);
}

static void take_tokens(session *s, const token *tokens, size_t n)
{
    const size_t hidden = s->model->config.hidden_size;

    for (size_t t = 0; t < n; t++) {
        s->tokens[t] = tokens[t];
        s->positions[t] = tokens[t].sequence->n_seen++;
        s->adapters[t] = tokens[t].sequence->adapter;
        memcpy(s->layers[0].x + t * hidden, matrix_row(&s->model->embed_tokens, tokens[t].byte, s->row), hidden * sizeof(float));
    }
}

const float *session_feed(session *s, const token *tokens, size_t n)
{
    const model *m = s->model;

    take_tokens(s, tokens, n);
    for (size_t i = 0; i < m->config.num_hidden_layers; i++) {
        attention(s, i, n);
        mlp(s, i, n);
    }
    normalise(s, &m->norm, s->layers[m->config.num_hidden_layers].x, n);
    project(s, &m->lm_head, s->normed, n, s->logits);
    return s->logits;
}

const float *session_feed_bytes(session *s, sequence *q, const uint8_t *bytes, size_t n)
{
    for (size_t t = 0; t < n; t++)
        s->tokens[t] = (token){.sequence = q, .byte = bytes[t]};
    return session_feed(s, s->tokens, n);
}

const float *session_feed_all(session *s, sequence *q, const uint8_t *bytes, size_t n)
{
    for (; n > s->most; bytes += s->most, n -= s->most)
        session_feed_bytes(s, q, bytes, s->most);
    return session_feed_bytes(s, q, bytes, n) + (n - 1) * VOCAB_SIZE;
}
