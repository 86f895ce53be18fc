/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include "config.h"

#include <math.h>
#include <stdbool.h>

double draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

uint8_t choose_best(const float *logits)
{
    size_t best = 0;

    for (size_t i = 1; i < VOCAB_SIZE; i++)
        if (logits[i] > logits[best])
            best = i;
    return (uint8_t)best;
}

/* p in proportion to exp(logit / temperature), the likeliest being 1; returns their sum. */
static double likelihoods(const float *logits, double temperature, double *p)
{
    const float most = logits[choose_best(logits)];
    double sum = 0;

    for (size_t i = 0; i < VOCAB_SIZE; i++) {
        p[i] = exp(((double)logits[i] - most) / temperature);
        sum += p[i];
    }
    return sum;
}

uint8_t choose_at(const float *logits, double temperature, double u)
{
    double p[VOCAB_SIZE], below = 0;
    const double sum = likelihoods(logits, temperature, p);
    size_t i = 0;

    for (; i < VOCAB_SIZE - 1; i++) {
        below += p[i] / sum;
        if (below > u)
            break;
    }
    return (uint8_t)i;
}

double surprise(const float *logits, uint8_t byte)
{
    double p[VOCAB_SIZE];
    const double sum = likelihoods(logits, 1, p);

    return log(sum) + logits[choose_best(logits)] - logits[byte];
}

void choose_several(const float *logits, size_t n, uint8_t *out)
{
    float left[VOCAB_SIZE];

    for (size_t i = 0; i < VOCAB_SIZE; i++)
        left[i] = logits[i];
    for (size_t k = 0; k < n; k++) {
        out[k] = choose_best(left);
        left[out[k]] = -INFINITY;
    }
}
