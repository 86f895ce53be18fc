/* SPDX-License-Identifier: MIT */
/*
 * The forward pass: tokens go in, logits come out. Tokens of any number of texts go through it together, each text with its own
 * keys, values and adapter: one text is a batch of one. All of it is f32.
 */
#ifndef TINYLM_SESSION_H
#define TINYLM_SESSION_H

#include "model.h"
#include "unmerged.h"

/* Tokens to feed at once: they share the widening of a weight. */
#define MOST_AT_ONCE 16

/* A text, as far as it was seen. */
typedef struct sequence {
    uint32_t adapter;     /* which of the session's, or LORAFMT_NO_ADAPTER */
    size_t n_seen;        /* bytes fed since the text began: 0 forgets it */
    float *keys, *values; /* [layer][position][key/value heads x head_dim] */
} sequence;

/* out zeroed; to be freed with sequence_free() in any case. */
lorafmt_status sequence_start(const model *m, uint32_t adapter, sequence *out, lorafmt_error *err);
void sequence_free(sequence *q);

typedef struct token {
    sequence *sequence;
    uint8_t byte;
} token;

/* What a layer makes of the tokens that are fed, one row each. A session that keeps has this of every layer, else it is the same memory. */
typedef struct activations {
    float *x;         /* the residual stream as it comes: hidden_size */
    float *query;     /* query heads x head_dim */
    float *mixed;     /* what attention made of values: query heads x head_dim */
    float *between;   /* the residual stream after attention: hidden_size */
    float *gate, *up; /* intermediate_size */
} activations;

typedef struct session {
    const model *model;
    const unmerged *unmerged; /* or NULL */
    lorafmt_workspace *workspace;
    size_t most;         /* tokens at once */
    float *memory;       /* where all numbers below are */
    float *cos, *sin;    /* RoPE: [position][head_dim / 2] */
    activations *layers; /* and after them one whose x is what comes out of the last */

    /* Of the tokens that are fed, one each. */
    token *tokens;
    size_t *positions; /* in their texts */
    uint32_t *adapters;

    /* The same, one row each. */
    float *normed;      /* hidden_size */
    float *key, *value; /* key/value heads x head_dim */
    float *product;     /* of gate and up: intermediate_size */
    float *added;       /* what a block adds to x: hidden_size */
    float *logits;      /* VOCAB_SIZE */

    float *row;    /* a row of a weight, widened */
    float *scores; /* of one query head, for each position */
} session;

typedef struct session_options {
    size_t most;              /* tokens at once */
    bool keeps;               /* activations of all layers, to go back through them */
    const unmerged *unmerged; /* what sequences may choose from; NULL = nothing, the model is used as it is */
} session_options;

/* s zeroed; to be freed with session_free() in any case. */
lorafmt_status session_start(const model *m, const session_options *options, session *s, lorafmt_error *err);
void session_free(session *s);

/*
 * Feed n <= most tokens, those of a text in their order, for which there must be room: at most max_position_embeddings in each.
 * Return the logits for what follows each of them, n rows of VOCAB_SIZE, good until the next call.
 */
const float *session_feed(session *s, const token *tokens, size_t n);

/* The same with n <= most bytes of one text. */
const float *session_feed_bytes(session *s, sequence *q, const uint8_t *bytes, size_t n);

/* Feed n >= 1 bytes of one text and return the logits for what follows the last of them. */
const float *session_feed_all(session *s, sequence *q, const uint8_t *bytes, size_t n);

#endif
