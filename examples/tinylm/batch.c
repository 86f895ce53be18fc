/* SPDX-License-Identifier: MIT */
#include "batch.h"

#include "fail.h"
#include "sample.h"
#include "vector.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static lorafmt_status read_file(FILE *file, const char *path, batch *out, lorafmt_error *err)
{
    struct stat facts;

    if (fstat(fileno(file), &facts))
        return fail_io(err, path);
    out->text_size = S_ISREG(facts.st_mode) && facts.st_size > 0 ? (size_t)facts.st_size : 0;
    if (out->text_size < WINDOW_SIZE)
        return fail(err, LORAFMT_CORRUPT, path, "", "has %zu bytes, must be a file of at least a window of %d", out->text_size,
                    WINDOW_SIZE);
    if (!(out->text = malloc(out->text_size)))
        return fail_memory(err);
    if (fread(out->text, 1, out->text_size, file) != out->text_size)
        return ferror(file) ? fail_io(err, path) : fail(err, LORAFMT_CORRUPT, path, "", "became shorter while it was read");
    return LORAFMT_OK;
}

static lorafmt_status read_text(const char *path, batch *out, lorafmt_error *err)
{
    FILE *file = fopen(path, "rb");
    lorafmt_status status;

    if (!file)
        return fail_io(err, path);
    status = read_file(file, path, out, err);
    fclose(file);
    return status;
}

lorafmt_status batch_start(const char *path, uint64_t seed, size_t n_threads, const model *m, const transposed *w,
                           const trainable *t, batch *out, lorafmt_error *err)
{
    out->chance = seed;
    out->n_threads = n_threads < BATCH_SIZE ? n_threads : BATCH_SIZE;
    if (m->config.max_position_embeddings < WINDOW_SIZE - 1)
        return fail(err, LORAFMT_UNSUPPORTED, "", "", "the model's context of %zu bytes is shorter than a window",
                    m->config.max_position_embeddings);
    if (read_text(path, out, err))
        return err->status;
    if (!(out->gradients = calloc(t->n, BATCH_SIZE * sizeof *out->gradients)))
        return fail_memory(err);
    for (size_t k = 0; k < out->n_threads; k++)
        if (learner_start(m, w, t, &out->learners[k], err))
            return err->status;
    return LORAFMT_OK;
}

void batch_free(batch *b)
{
    for (size_t k = 0; k < b->n_threads; k++)
        learner_free(&b->learners[k]);
    free(b->gradients);
    free(b->text);
}

/* --- threads --- */

typedef struct share {
    batch *batch;
    size_t first; /* this window, and each n_threads after it */
    pthread_t thread;
} share;

static void *learn_share(void *arg)
{
    const share *s = arg;
    batch *b = s->batch;
    learner *l = &b->learners[s->first];
    const size_t n = l->trainable->n;

    for (size_t i = s->first; i < BATCH_SIZE; i += b->n_threads) {
        float *gradient = b->gradients + i * n;
        memset(gradient, 0, n * sizeof *gradient);
        b->losses[i] = learner_learn(l, b->windows[i], WINDOW_SIZE - 1, gradient);
    }
    return NULL;
}

/* The calling thread has the first share. */
static lorafmt_status learn_on_threads(batch *b, lorafmt_error *err)
{
    share shares[BATCH_SIZE];
    size_t n_started = 1;
    int failure = 0;

    for (size_t k = 0; k < b->n_threads; k++)
        shares[k] = (share){.batch = b, .first = k};
    while (n_started < b->n_threads && !failure)
        if (!(failure = pthread_create(&shares[n_started].thread, NULL, learn_share, &shares[n_started])))
            n_started++;
    if (!failure)
        learn_share(&shares[0]);
    for (size_t k = 1; k < n_started; k++)
        pthread_join(shares[k].thread, NULL);
    return failure ? fail(err, LORAFMT_NO_MEMORY, "", "", "a thread could not be started: %s", strerror(failure)) : LORAFMT_OK;
}

lorafmt_status batch_learn(batch *b, double *lost, lorafmt_error *err)
{
    const size_t n = b->learners[0].trainable->n;

    for (size_t i = 0; i < BATCH_SIZE; i++)
        b->windows[i] = b->text + (size_t)(draw(&b->chance) * (double)(b->text_size - WINDOW_SIZE + 1));
    if (learn_on_threads(b, err))
        return err->status;
    *lost = b->losses[0] / BATCH_SIZE;
    for (size_t i = 1; i < BATCH_SIZE; i++) {
        *lost += b->losses[i] / BATCH_SIZE;
        add(b->gradients, b->gradients, b->gradients + i * n, n);
    }
    for (size_t i = 0; i < n; i++)
        b->gradients[i] /= BATCH_SIZE;
    return LORAFMT_OK;
}
