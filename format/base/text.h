/* SPDX-License-Identifier: MIT */
/* Text from outside: UTF-8, what a name may be, and the format's limits. */
#ifndef LF_BASE_TEXT_H
#define LF_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of spec 4.2 to 4.7. */
#define LF_MAX_NAME 1024
#define LF_MAX_ADAPTER_NAME 255
#define LF_MAX_VALUE (1u << 20)
#define LF_MAX_VALUES (1u << 28) /* bytes of all metadata values of a file, each as often as it is named */
#define LF_MAX_RANK (1u << 20)

/* Valid UTF-8 without surrogates, overlong forms and NUL. */
bool lf_utf8_valid(const char *s, size_t n);

/* Valid UTF-8 without control characters, at most LF_MAX_NAME bytes; may be empty. */
bool lf_name_valid(const char *s, size_t n);

/* spec 4.3 */
bool lf_adapter_name_valid(const char *s);

bool lf_ends_with(const char *s, const char *suffix);

/* A digest as 64 hexadecimal digits in small letters; returns buf. */
#define LF_HEX_SIZE 65
const char *lf_hex(const uint8_t digest[32], char buf[LF_HEX_SIZE]);

/* n bytes of text against a pattern: * stands for any, ? for one, [a-c] and [!a-c] for one of those or not; \ before one takes it as it is. */
bool lf_glob_matches(const char *pattern, const char *text, size_t n);

/* A pattern against the name of a target, or that without its ".weight". */
bool lf_target_matches(const char *pattern, const char *target);

/* The layer of a target: its first component, between dots, that is a number of *n digits; NULL when there is none. */
const char *lf_target_layer(const char *target, size_t *n);

/* Insertions, deletions and changes from one text to the other, each at most LF_MAX_DISTANCE bytes. */
#define LF_MAX_DISTANCE 64
size_t lf_distance(const char *a, size_t n_a, const char *b, size_t n_b);

#endif
