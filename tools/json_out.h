/* SPDX-License-Identifier: MIT */
/*
 * JSON as it is written: nothing is kept, so nothing can run out of memory. Integers are exact, doubles the shortest that read
 * back the same. `key` is NULL inside an array and for the outermost value. Write errors stay with the stream.
 */
#ifndef TOOLS_JSON_OUT_H
#define TOOLS_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json_out {
    FILE *to;
    unsigned depth;
    bool has_items; /* in the object or array that is open */
} json_out;

void json_object(json_out *j, const char *key);
void json_object_end(json_out *j);
void json_array(json_out *j, const char *key);
void json_array_end(json_out *j);

void json_text(json_out *j, const char *key, const char *value); /* NULL is null */
void json_bool(json_out *j, const char *key, bool value);
void json_u64(json_out *j, const char *key, uint64_t value);
void json_double(json_out *j, const char *key, double value); /* null unless finite */
void json_null(json_out *j, const char *key);
void json_digest(json_out *j, const char *key, const uint8_t digest[32]); /* NULL is null */

/* On one line, as a shape is read. */
void json_u64_array(json_out *j, const char *key, const uint64_t *values, size_t n);

#endif
