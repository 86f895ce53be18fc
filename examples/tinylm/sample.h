/* SPDX-License-Identifier: MIT */
/* From logits to a byte, and to how surprising a byte is. Logits are VOCAB_SIZE of them. */
#ifndef TINYLM_SAMPLE_H
#define TINYLM_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* The next number in [0, 1): the top 53 bits of splitmix64. */
double draw(uint64_t *state);

/* The likeliest byte. */
uint8_t choose_best(const float *logits);

/* The byte at u, in [0, 1), of the cumulative distribution at a temperature > 0. */
uint8_t choose_at(const float *logits, double temperature, double u);

/* -log p(byte), in nats */
double surprise(const float *logits, uint8_t byte);

/* The n <= VOCAB_SIZE likeliest bytes, likeliest first. */
void choose_several(const float *logits, size_t n, uint8_t *out);

#endif
