/* SPDX-License-Identifier: MIT */
#include "score.h"

#include "fail.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double score_window(session *s, sequence *q, const uint8_t *window)
{
    double sum = 0;

    q->n_seen = 0;
    for (size_t at = 0; at < WINDOW_SIZE - 1; at += s->most) {
        const size_t left = WINDOW_SIZE - 1 - at, n = left < s->most ? left : s->most;
        const float *logits = session_feed_bytes(s, q, window + at, n);
        for (size_t t = 0; t < n; t++)
            sum += surprise(logits + t * VOCAB_SIZE, window[at + t + 1]);
    }
    return sum / (WINDOW_SIZE - 1);
}

static lorafmt_status add_window(session *s, sequence *q, const uint8_t *window, loss *out, lorafmt_error *err)
{
    double *windows = realloc(out->windows, (out->n_windows + 1) * sizeof *windows);

    if (!windows)
        return fail_memory(err);
    out->windows = windows;
    out->windows[out->n_windows++] = score_window(s, q, window);
    return LORAFMT_OK;
}

static lorafmt_status score_windows(session *s, sequence *q, FILE *file, const char *path, loss *out, lorafmt_error *err)
{
    uint8_t window[WINDOW_SIZE];
    size_t n;

    while ((n = fread(window, 1, WINDOW_SIZE, file)) == WINDOW_SIZE)
        if (add_window(s, q, window, out, err))
            return err->status;
    if (ferror(file))
        return fail_io(err, path);
    if (n || !out->n_windows)
        return fail(err, LORAFMT_CORRUPT, path, "", "ends with %zu bytes, must be whole windows of %d", n, WINDOW_SIZE);
    return LORAFMT_OK;
}

lorafmt_status score_file(session *s, sequence *q, const char *path, loss *out, lorafmt_error *err)
{
    FILE *file;
    lorafmt_status status;

    memset(out, 0, sizeof *out);
    if (s->model->config.max_position_embeddings < WINDOW_SIZE - 1)
        return fail(err, LORAFMT_UNSUPPORTED, path, "", "its windows are longer than the model's context");
    if (!(file = fopen(path, "rb")))
        return fail_io(err, path);
    status = score_windows(s, q, file, path, out, err);
    fclose(file);
    for (size_t i = 0; i < out->n_windows; i++)
        out->mean += out->windows[i] / (double)out->n_windows;
    return status;
}

void loss_free(loss *l)
{
    free(l->windows);
}
