/* SPDX-License-Identifier: MIT */
/* Numbers, digests and names from outside as text that is safe to print. */
#ifndef TOOLS_TEXT_H
#define TOOLS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Print a text from outside: bytes that are no UTF-8, control characters and what turns the direction of writing come out as
 * \xNN, so that a name cannot command the terminal or look like another line.
 */
void print_text(FILE *to, const char *text);

/* The code point at s and its length in bytes; 0 when the bytes there are not UTF-8. */
size_t utf8_decode(const char *s, uint32_t *code);

/* Characters, which is columns for most scripts. */
size_t text_width(const char *text);

/* Add to the text in buf, which has room for size bytes; what is longer is cut. */
__attribute__((format(printf, 3, 4))) void text_append(char *buf, size_t size, const char *format, ...);

#define NUMBER_TEXT_SIZE 32

/* The shortest decimal that reads back as the same number; returns buf. */
const char *number_text(double number, char buf[NUMBER_TEXT_SIZE]);

/* "512 bytes", "1.5 MiB"; returns buf. */
const char *size_text(uint64_t n_bytes, char buf[NUMBER_TEXT_SIZE]);

#define DIGEST_TEXT_SIZE 65

const char *digest_text(const uint8_t digest[32], char buf[DIGEST_TEXT_SIZE]);

#endif
