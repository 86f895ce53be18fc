/* SPDX-License-Identifier: MIT */
/* Texts that the model goes on with, several in one batch. */
#ifndef TINYLM_TEXT_H
#define TINYLM_TEXT_H

#include "session.h"

typedef struct text {
    sequence sequence;
    uint8_t *bytes;  /* the prompt and what the model wrote after it */
    size_t n_prompt; /* 0 = nothing is to be written */
    size_t n_written;
    uint64_t chance;          /* the state of draw() */
    float logits[VOCAB_SIZE]; /* after the prompt */
} text;

/* prompt  or NULL; adapter: see sequence. out zeroed; to be freed with text_free() in any case. */
lorafmt_status text_start(const model *m, uint32_t adapter, const char *prompt, text *out, lorafmt_error *err);
void text_free(text *t);

typedef struct writing {
    size_t n_bytes;     /* of each text, or less where the model's context ends */
    double temperature; /* 0 = always the likeliest byte */
    uint64_t seed;      /* of chance, for each text */
} writing;

/* Begin anew after the prompts. */
void texts_write(session *s, text *texts, size_t n, const writing *how);

#endif
