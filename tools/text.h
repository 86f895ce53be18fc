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
void print_text_part(FILE *to, const char *text, size_t n_bytes);

/* The code point at s and its length in bytes; 0 when the bytes there are not UTF-8. */
size_t utf8_decode(const char *s, uint32_t *code);

/* The bytes of the first character, and the columns that printing it takes: 1, which is so for most scripts, or those of \xNN. */
size_t text_step(const char *s, size_t *columns);

/* The columns of all of it or of its first bytes; and the bytes of as much of it as `width` columns hold. */
size_t text_width(const char *text);
size_t text_part_width(const char *text, size_t n_bytes);
size_t text_fitting(const char *text, size_t width);

#define SHORT_TEXT_SIZE 512

/* Text of at most `width` columns, 8 .. 120: what is longer loses its middle. Returns buf. */
const char *text_shorten(const char *text, size_t width, char buf[SHORT_TEXT_SIZE]);

/* Add to the text in buf, which has room for size bytes; what is longer is cut. */
__attribute__((format(printf, 3, 4))) void text_append(char *buf, size_t size, const char *format, ...);

/* Add a path to a command that people may copy: as one word of a shell, in quotes where it needs them. */
void text_append_word(char *buf, size_t size, const char *path);

#define NUMBER_TEXT_SIZE 32

/* The shortest decimal that reads back as the same number; returns buf. */
const char *number_text(double number, char buf[NUMBER_TEXT_SIZE]);

/* "512 bytes", "1.5 MiB"; returns buf. */
const char *size_text(uint64_t n_bytes, char buf[NUMBER_TEXT_SIZE]);

/* "1234", "1.33 M"; returns buf. */
const char *count_text(uint64_t count, char buf[NUMBER_TEXT_SIZE]);

#define DIGEST_TEXT_SIZE 65

const char *digest_text(const uint8_t digest[32], char buf[DIGEST_TEXT_SIZE]);

#endif
