/* SPDX-License-Identifier: MIT */
#include "backward.h"

#include "sample.h"
#include "score.h"
#include "vector.h"

#include <assert.h>
#include <lorafmt/train.h>
#include <math.h>
#include <string.h>

/* --- one layer of weights: dx += dy W, and what the adapter's update adds --- */

/* The gradient of the update is where its numbers are among all. The workspace was made for it, so this cannot fail. */
static void back_through_update(learner *l, const matrix *w, const lorafmt_updates *updates, const float *x, float *dy, size_t n,
                                float *dx)
{
    const trainable *t = l->trainable;
    const lorafmt_gradient gradient = {
        .da = l->gradient + ((const float *)updates->updates->a - t->numbers),
        .db = l->gradient + ((const float *)updates->updates->b - t->numbers),
    };
    const lorafmt_gradient *const gradients[] = {&gradient};
    const lorafmt_batch batch = unmerged_batch(&t->unmerged, w, NULL, x, n, dy);
    const lorafmt_status status = lorafmt_backward(l->session.workspace, &batch, gradients, dx, 0, NULL);

    assert(status == LORAFMT_OK);
    (void)status;
}

static void back(learner *l, const matrix *w, const matrix *w_transposed, const float *x, float *dy, size_t n, float *dx)
{
    const lorafmt_updates *updates = unmerged_layer(&l->trainable->unmerged, w->tensor);

    matrix_multiply(w_transposed, dy, n, l->session.row, l->through);
    add(dx, dx, l->through, n * w->in);
    if (updates->n)
        back_through_update(l, w, updates, x, dy, n, dx);
}

static void back_through_norm(learner *l, const matrix *weight, const float *x, size_t n)
{
    const model_config *c = &l->session.model->config;
    const float *w = matrix_row(weight, 0, l->session.row);

    for (size_t t = 0; t < n; t++)
        rms_norm_back(l->dx + t * c->hidden_size, l->dnormed + t * c->hidden_size, x + t * c->hidden_size, w, c->rms_norm_eps,
                      c->hidden_size);
}

/* What went into a layer, which is cheaper computed again than kept. */
static const float *normed_again(learner *l, const matrix *weight, const float *x, size_t n)
{
    const model_config *c = &l->session.model->config;
    const float *w = matrix_row(weight, 0, l->session.row);

    for (size_t t = 0; t < n; t++)
        rms_norm(l->session.normed + t * c->hidden_size, x + t * c->hidden_size, w, c->rms_norm_eps, c->hidden_size);
    memset(l->dnormed, 0, n * c->hidden_size * sizeof(float));
    return l->session.normed;
}

/* --- blocks, the last first --- */

static void back_through_mlp(learner *l, size_t layer_index, size_t n)
{
    session *s = &l->session;
    const layer *forth = &s->model->layers[layer_index], *back_layer = &l->transposed->layers[layer_index];
    const activations *a = &s->layers[layer_index];
    const size_t size = n * s->model->config.intermediate_size;
    const float *normed;

    swiglu(s->product, a->gate, a->up, size);
    memset(l->dproduct, 0, size * sizeof(float));
    back(l, &forth->down_proj, &back_layer->down_proj, s->product, l->dx, n, l->dproduct);
    swiglu_back(l->dgate, l->dup, l->dproduct, a->gate, a->up, size);
    normed = normed_again(l, &forth->post_attention_layernorm, a->between, n);
    back(l, &forth->gate_proj, &back_layer->gate_proj, normed, l->dgate, n, l->dnormed);
    back(l, &forth->up_proj, &back_layer->up_proj, normed, l->dup, n, l->dnormed);
    back_through_norm(l, &forth->post_attention_layernorm, a->between, n);
}

/* A query head that looked at the first n positions; rows of keys, values and their gradients are `step` apart. */
typedef struct head {
    const float *query, *keys, *values, *dmixed;
    float *dquery, *dkeys, *dvalues;
    size_t size, step, n;
} head;

static void back_through_head(learner *l, const head *h)
{
    const float scale = 1 / sqrtf((float)h->size);
    float *p = l->session.scores, *dp = l->dscores;

    for (size_t i = 0; i < h->n; i++)
        p[i] = dot(h->query, h->keys + i * h->step, h->size) * scale;
    softmax(p, h->n);
    for (size_t i = 0; i < h->n; i++) {
        dp[i] = dot(h->dmixed, h->values + i * h->step, h->size);
        add_scaled(h->dvalues + i * h->step, p[i], h->dmixed, h->size);
    }
    softmax_back(dp, p, h->n);
    for (size_t i = 0; i < h->n; i++) {
        add_scaled(h->dquery, dp[i] * scale, h->keys + i * h->step, h->size);
        add_scaled(h->dkeys + i * h->step, dp[i] * scale, h->query, h->size);
    }
}

static void back_through_heads(learner *l, size_t layer_index, size_t n)
{
    const model_config *c = &l->session.model->config;
    const size_t query = config_query_size(c), key = config_key_size(c);
    const size_t group = c->num_attention_heads / c->num_key_value_heads;
    const size_t kept = layer_index * c->max_position_embeddings * key;

    memset(l->dquery, 0, n * query * sizeof(float));
    memset(l->dkey, 0, n * key * sizeof(float));
    memset(l->dvalue, 0, n * key * sizeof(float));
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < c->num_attention_heads; i++) {
            const size_t at = t * query + i * c->head_dim, shared = i / group * c->head_dim;
            const head h = {
                .query = l->session.layers[layer_index].query + at,
                .keys = l->sequence.keys + kept + shared,
                .values = l->sequence.values + kept + shared,
                .dmixed = l->dmixed + at,
                .dquery = l->dquery + at,
                .dkeys = l->dkey + shared,
                .dvalues = l->dvalue + shared,
                .size = c->head_dim,
                .step = key,
                .n = t + 1,
            };
            back_through_head(l, &h);
        }
}

static void rotate_heads_back(const session *s, float *heads, size_t n_heads, size_t position)
{
    const size_t half = s->model->config.head_dim / 2;

    for (size_t h = 0; h < n_heads; h++)
        rotate_back(heads + h * 2 * half, s->cos + position * half, s->sin + position * half, half);
}

static void back_through_attention(learner *l, size_t layer_index, size_t n)
{
    const session *s = &l->session;
    const model_config *c = &s->model->config;
    const layer *forth = &s->model->layers[layer_index], *back_layer = &l->transposed->layers[layer_index];
    const activations *a = &s->layers[layer_index];
    const float *normed;

    memset(l->dmixed, 0, n * config_query_size(c) * sizeof(float));
    back(l, &forth->o_proj, &back_layer->o_proj, a->mixed, l->dx, n, l->dmixed);
    back_through_heads(l, layer_index, n);
    for (size_t t = 0; t < n; t++) {
        rotate_heads_back(s, l->dquery + t * config_query_size(c), c->num_attention_heads, t);
        rotate_heads_back(s, l->dkey + t * config_key_size(c), c->num_key_value_heads, t);
    }
    normed = normed_again(l, &forth->input_layernorm, a->x, n);
    back(l, &forth->q_proj, &back_layer->q_proj, normed, l->dquery, n, l->dnormed);
    back(l, &forth->k_proj, &back_layer->k_proj, normed, l->dkey, n, l->dnormed);
    back(l, &forth->v_proj, &back_layer->v_proj, normed, l->dvalue, n, l->dnormed);
    back_through_norm(l, &forth->input_layernorm, a->x, n);
}

/* --- the whole --- */

/* The mean loss; its gradient with respect to logits is (softmax - 1 at the byte that came) / n. */
static double lose(learner *l, const float *logits, const uint8_t *next, size_t n)
{
    double sum = 0;

    for (size_t t = 0; t < n; t++) {
        float *d = l->dlogits + t * VOCAB_SIZE;
        sum += surprise(logits + t * VOCAB_SIZE, next[t]) / (double)n;
        memcpy(d, logits + t * VOCAB_SIZE, VOCAB_SIZE * sizeof *d);
        softmax(d, VOCAB_SIZE);
        d[next[t]] -= 1;
        for (size_t i = 0; i < VOCAB_SIZE; i++)
            d[i] /= (float)n;
    }
    return sum;
}

double learner_learn(learner *l, const uint8_t *bytes, size_t n, float *gradient)
{
    session *s = &l->session;
    const model *m = s->model;
    const size_t n_layers = m->config.num_hidden_layers;
    const float *x = s->layers[n_layers].x, *normed;
    double lost;

    l->gradient = gradient;
    l->sequence.n_seen = 0;
    lost = lose(l, session_feed_bytes(s, &l->sequence, bytes, n), bytes + 1, n);
    normed = normed_again(l, &m->norm, x, n);
    back(l, &m->lm_head, &l->transposed->lm_head, normed, l->dlogits, n, l->dnormed);
    memset(l->dx, 0, n * m->config.hidden_size * sizeof(float));
    back_through_norm(l, &m->norm, x, n);
    for (size_t i = n_layers; i-- > 0;) {
        back_through_mlp(l, i, n);
        back_through_attention(l, i, n);
    }
    return lost;
}
