/* SPDX-License-Identifier: MIT */
/* Small files that nobody else reads: lines of text, and at the end their SHA-256. One that is damaged is as good as none. */
#ifndef LK_SCENARIO_RECORD_H
#define LK_SCENARIO_RECORD_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Text that is being written to memory. */
typedef struct lk_text {
    FILE *stream;
    char *bytes; /* once finished; free() it in any case */
    size_t size;
} lk_text;

lorafmt_status lk_text_begin(lk_text *text, lorafmt_error *err);
lorafmt_status lk_text_finish(lk_text *text, lorafmt_error *err);

/* A finite number by which it can be read back, with a point whatever the locale has. */
void lk_put_number(FILE *to, double number);

/* lf_hex() back: exactly 64 lower-case digits, which end at the NUL or a blank. */
bool lk_hex_parse(const char *hex, uint8_t digest[32]);

/* Write lines, whole or not at all. */
lorafmt_status lk_record_write(const char *path, const lk_text *lines, lorafmt_error *err);

/* The lines, malloc()ed; NULL when there is no such file, or no whole one. NO_MEMORY, and no other failure. */
lorafmt_status lk_record_load(const char *path, char **out, lorafmt_error *err);

/* The next line of *lines, its end cut off; NULL at the end. */
char *lk_record_line(char **lines);

/* A number of a line and the blank after it, as the 64 bits that it was printed from, with a sign or without; moves *at behind them. */
bool lk_record_number(char **at, uint64_t *out);

#endif
