/* SPDX-License-Identifier: MIT */
/* The architecture: examples/demo-model/README.md, "The model". */
#include "session.h"
#include "vector.h"

#include <math.h>
#include <string.h>

/* y = x W^T for n rows of x, each `in` long; W is `out` rows of as many. */
static void project(session *s, weights w, size_t in, size_t out, const float *x, size_t n, float *y)
{
    for (size_t o = 0; o < out; o++) {
        widen(s->row, w + o * in, in);
        for (size_t t = 0; t < n; t++)
            y[t * out + o] = dot(s->row, x + t * in, in);
    }
}

static void normalise(session *s, weights weight, size_t n)
{
    const model_config *c = &s->model->config;

    for (size_t t = 0; t < n; t++)
        rms_norm(s->normed + t * c->hidden_size, s->x + t * c->hidden_size, weight, c->rms_norm_eps, c->hidden_size);
}

static void add_to_stream(session *s, size_t n)
{
    add_scaled(s->x, 1, s->added, n * s->model->config.hidden_size);
}

/* --- attention --- */

/* The keys or values of a layer, from a position on. */
static float *cached(const session *s, float *cache, size_t layer_index, size_t position)
{
    const model_config *c = &s->model->config;

    return cache + (layer_index * c->max_position_embeddings + position) * config_key_size(c);
}

static void rotate_heads(const session *s, float *heads, size_t n_heads, size_t position)
{
    const size_t half = s->model->config.head_dim / 2;

    for (size_t h = 0; h < n_heads; h++)
        rotate(heads + h * 2 * half, s->cos + position * half, s->sin + position * half, half);
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

/* Every byte looks at itself and at those before it. */
static void mix_values(session *s, size_t layer_index, size_t n)
{
    const model_config *c = &s->model->config;
    const size_t group = c->num_attention_heads / c->num_key_value_heads;

    for (size_t t = 0; t < n; t++)
        for (size_t h = 0; h < c->num_attention_heads; h++) {
            const size_t at = t * config_query_size(c) + h * c->head_dim, shared = h / group * c->head_dim;
            mix_head(s, s->query + at, cached(s, s->keys, layer_index, 0) + shared, cached(s, s->values, layer_index, 0) + shared,
                     s->n_seen + t + 1, s->mixed + at);
        }
}

static void attention(session *s, size_t layer_index, size_t n)
{
    const model_config *c = &s->model->config;
    const layer *l = &s->model->layers[layer_index];
    const size_t hidden = c->hidden_size, query = config_query_size(c), key = config_key_size(c);
    float *keys = cached(s, s->keys, layer_index, s->n_seen), *values = cached(s, s->values, layer_index, s->n_seen);

    normalise(s, l->input_layernorm, n);
    project(s, l->q_proj, hidden, query, s->normed, n, s->query);
    project(s, l->k_proj, hidden, key, s->normed, n, keys);
    project(s, l->v_proj, hidden, key, s->normed, n, values);
    for (size_t t = 0; t < n; t++) {
        rotate_heads(s, s->query + t * query, c->num_attention_heads, s->n_seen + t);
        rotate_heads(s, keys + t * key, c->num_key_value_heads, s->n_seen + t);
    }
    mix_values(s, layer_index, n);
    project(s, l->o_proj, query, hidden, s->mixed, n, s->added);
    add_to_stream(s, n);
}

/* --- the rest --- */

static void mlp(session *s, const layer *l, size_t n)
{
    const model_config *c = &s->model->config;

    normalise(s, l->post_attention_layernorm, n);
    project(s, l->gate_proj, c->hidden_size, c->intermediate_size, s->normed, n, s->gate);
    project(s, l->up_proj, c->hidden_size, c->intermediate_size, s->normed, n, s->up);
    swiglu(s->gate, s->up, n * c->intermediate_size);
    project(s, l->down_proj, c->intermediate_size, c->hidden_size, s->gate, n, s->added);
    add_to_stream(s, n);
}

const float *session_feed(session *s, const uint8_t *bytes, size_t n)
{
    const model *m = s->model;
    const size_t hidden = m->config.hidden_size;

    for (size_t t = 0; t < n; t++)
        widen(s->x + t * hidden, m->embed_tokens + bytes[t] * hidden, hidden);
    for (size_t i = 0; i < m->config.num_hidden_layers; i++) {
        attention(s, i, n);
        mlp(s, &m->layers[i], n);
    }
    normalise(s, m->norm, n);
    project(s, m->lm_head, hidden, VOCAB_SIZE, s->normed, n, s->logits);
    s->n_seen += n;
    return s->logits;
}

const float *session_feed_all(session *s, const uint8_t *bytes, size_t n)
{
    for (; n > MOST_AT_ONCE; bytes += MOST_AT_ONCE, n -= MOST_AT_ONCE)
        session_feed(s, bytes, MOST_AT_ONCE);
    return session_feed(s, bytes, n) + (n - 1) * VOCAB_SIZE;
}
