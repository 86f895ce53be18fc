/* SPDX-License-Identifier: MIT */
#include "matrix.h"

#include "vector.h"

/* Rows of x that share a row of weights: more would leave the first-level cache. */
#define BLOCK 16

const float *matrix_row(const matrix *w, size_t row, float *room)
{
    if (w->dtype == LORAFMT_F32)
        return (const float *)w->data + row * w->in;
    widen(room, (const uint16_t *)w->data + row * w->in, w->in);
    return room;
}

void matrix_multiply(const matrix *w, const float *x, size_t n, float *room, float *y)
{
    for (size_t first = 0; first < n; first += BLOCK) {
        const size_t end = n - first < BLOCK ? n : first + BLOCK;
        for (size_t o = 0; o < w->out; o++) {
            const float *row = matrix_row(w, o, room);
            for (size_t t = first; t < end; t++)
                y[t * w->out + o] = dot(row, x + t * w->in, w->in);
        }
    }
}
