/* SPDX-License-Identifier: MIT */
/* JSON from outside: strictly checked first, then parsed by cJSON. */
#ifndef LF_FOREIGN_JSON_H
#define LF_FOREIGN_JSON_H

#include "lorafmt/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

/* Deepest nesting of arrays and objects. */
#define LF_JSON_MAX_DEPTH 64

/*
 * cJSON spends some 80 bytes on a value of two, and 144 on one with a key and a text. So a text may hold this many values, and one
 * more for each 24 bytes of it: what it takes stays below 3 MiB + 7 times its size. An object of names and numbers has as many bytes
 * for each, an index of shards twice.
 */
#define LF_JSON_FREE_VALUES (1u << 14)
#define LF_JSON_BYTES_PER_VALUE 24

/* cJSON copies a number into 64 bytes with the NUL. */
#define LF_JSON_MAX_NUMBER 63

/* Every number must be a whole number in 0 .. 2^53, without sign, point or exponent (cJSON keeps only a double). */
#define LF_JSON_WHOLE_NUMBERS 1u

/* NaN, Infinity and -Infinity, which Python writes, are read as 0: for files where nobody asks for those numbers. */
#define LF_JSON_NONFINITE 2u

/*
 * Parse text[0, size), which need not be NUL-terminated. Beyond what cJSON refuses: anything that is not RFC 8259 (with a
 * message of its own for NaN and Infinity), invalid UTF-8, \u0000, lone surrogates, the limits above, a key twice in
 * one object, trailing text. Offsets are in the text. *out is freed with cJSON_Delete().
 */
lorafmt_status lf_json_parse(const char *text, size_t size, unsigned flags, cJSON **out, lorafmt_error *err);

/* The same check of a text within smaller limits, without parsing it; what lf_json_parse() refuses may pass. */
lorafmt_status lf_json_check(const char *text, size_t size, unsigned max_depth, size_t max_values, lorafmt_error *err);

/* Where in the text that gave root the key of a member begins, for messages. Walks the text again. */
uint64_t lf_json_key_offset(const char *text, size_t size, const cJSON *root, const cJSON *member);

/*
 * A copy of a valid JSON object (which may hold NaN and Infinity) in which the value of a member is replaced by
 * value_text, every other byte kept; where there is no such member it becomes the first. path is a key, or "key.key" for a
 * member of a member object. *out is malloc()ed and NUL-terminated.
 */
lorafmt_status lf_json_set_member(const char *text, size_t size, const char *path, const char *value_text, char **out,
                                  size_t *out_size, lorafmt_error *err);

/* A text that grows; to be used all zero first. */
typedef struct lf_text_buffer {
    char *text; /* malloc()ed, NUL-terminated once anything was added */
    size_t size, capacity;
    int failed; /* out of memory at some point; further calls do nothing */
} lf_text_buffer;

__attribute__((format(printf, 2, 3))) void lf_text_add(lf_text_buffer *buffer, const char *format, ...);
void lf_text_add_bytes(lf_text_buffer *buffer, const char *bytes, size_t size);

/* Append s, which is UTF-8, as a JSON string with its quotes. */
void lf_text_add_json_string(lf_text_buffer *buffer, const char *s);
void lf_text_free(lf_text_buffer *buffer);

#endif
