/* SPDX-License-Identifier: MIT */
/* How well a model foretells a text that it has not seen. */
#ifndef TINYLM_SCORE_H
#define TINYLM_SCORE_H

#include "session.h"

/* Windows are read each on their own, positions from 0. */
#define WINDOW_SIZE 256

typedef struct loss {
    double mean; /* of the windows */
    size_t n_windows;
    double *windows; /* nats per byte: bytes 1 .. 255 of a window foretold from those before them */
} loss;

/* Score a file of whole windows, at least one, with what q has of its own. out is to be freed with loss_free() in any case. */
lorafmt_status score_file(session *s, sequence *q, const char *path, loss *out, lorafmt_error *err);
void loss_free(loss *l);

#endif
