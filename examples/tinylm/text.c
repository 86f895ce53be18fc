/* SPDX-License-Identifier: MIT */
#include "text.h"

#include "fail.h"
#include "sample.h"

#include <stdlib.h>
#include <string.h>

lorafmt_status text_start(const model *m, uint32_t adapter, const char *prompt, text *out, lorafmt_error *err)
{
    const size_t context = m->config.max_position_embeddings;

    out->n_prompt = prompt ? strlen(prompt) : 0;
    if (out->n_prompt > context)
        return fail(err, LORAFMT_LIMIT, "", "", "the prompt has %zu bytes, the model's context %zu", out->n_prompt, context);
    if (!(out->bytes = malloc(context)))
        return fail_memory(err);
    if (out->n_prompt)
        memcpy(out->bytes, prompt, out->n_prompt);
    return sequence_start(m, adapter, &out->sequence, err);
}

void text_free(text *t)
{
    sequence_free(&t->sequence);
    free(t->bytes);
}

static bool is_complete(const session *s, const text *t, const writing *how)
{
    return !t->n_prompt || t->n_written == how->n_bytes || t->n_prompt + t->n_written == s->model->config.max_position_embeddings;
}

static void write_byte(text *t, const float *logits, const writing *how)
{
    t->bytes[t->n_prompt + t->n_written++] =
        how->temperature > 0 ? choose_at(logits, how->temperature, draw(&t->chance)) : choose_best(logits);
}

static void begin(session *s, text *t, const writing *how)
{
    t->sequence.n_seen = 0;
    t->n_written = 0;
    t->chance = how->seed;
    if (!t->n_prompt)
        return;
    memcpy(t->logits, session_feed_all(s, &t->sequence, t->bytes, t->n_prompt), sizeof t->logits);
    if (!is_complete(s, t, how))
        write_byte(t, t->logits, how);
}

/* Those that are not complete go on by a byte, all in one pass. @return false when there is none */
static bool go_on(session *s, text *texts, size_t n, const writing *how)
{
    token tokens[MOST_AT_ONCE];
    text *open[MOST_AT_ONCE];
    size_t n_open = 0;
    const float *logits;

    for (size_t i = 0; i < n; i++)
        if (!is_complete(s, &texts[i], how)) {
            open[n_open] = &texts[i];
            tokens[n_open++] = (token){&texts[i].sequence, texts[i].bytes[texts[i].n_prompt + texts[i].n_written - 1]};
        }
    if (!n_open)
        return false;
    logits = session_feed(s, tokens, n_open);
    for (size_t i = 0; i < n_open; i++)
        write_byte(open[i], logits + i * VOCAB_SIZE, how);
    return true;
}

void texts_write(session *s, text *texts, size_t n, const writing *how)
{
    for (; n > MOST_AT_ONCE; texts += MOST_AT_ONCE, n -= MOST_AT_ONCE)
        texts_write(s, texts, MOST_AT_ONCE, how);
    for (size_t i = 0; i < n; i++)
        begin(s, &texts[i], how);
    while (go_on(s, texts, n, how))
        ;
}
