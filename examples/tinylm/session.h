/* SPDX-License-Identifier: MIT */
/* The forward pass: bytes go in, logits come out, and keys and values of what was seen are kept. All of it is f32. */
#ifndef TINYLM_SESSION_H
#define TINYLM_SESSION_H

#include "model.h"

/* Bytes fed at once share the widening of a weight; more than this would leave the first-level cache. */
#define MOST_AT_ONCE 16

typedef struct session {
    const model *model;
    size_t n_seen;        /* bytes fed since the text began */
    float *keys, *values; /* [layer][position][key/value heads x head_dim] */
    float *cos, *sin;     /* RoPE: [position][head_dim / 2] */

    /* Of the bytes that are fed, one row each. */
    float *x;         /* the residual stream: hidden_size */
    float *normed;    /* hidden_size */
    float *query;     /* query heads x head_dim */
    float *mixed;     /* what attention made of values: query heads x head_dim */
    float *gate, *up; /* intermediate_size */
    float *added;     /* what a block adds to x: hidden_size */
    float *logits;    /* VOCAB_SIZE */

    float *row;    /* a row of a weight, widened */
    float *scores; /* of one query head, for each position */
} session;

/* s zeroed; to be freed with session_free() in any case. */
lorafmt_status session_start(const model *m, session *s, lorafmt_error *err);
void session_free(session *s);

/* Forget what was seen. */
void session_restart(session *s);

/*
 * Feed n <= MOST_AT_ONCE bytes, for which there must be room: n_seen + n <= max_position_embeddings.
 * Return the logits for what follows each of them, n rows of VOCAB_SIZE, good until the next call.
 */
const float *session_feed(session *s, const uint8_t *bytes, size_t n);

/* Feed n >= 1 bytes and return the logits for what follows the last of them. */
const float *session_feed_all(session *s, const uint8_t *bytes, size_t n);

#endif
