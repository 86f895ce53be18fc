/* SPDX-License-Identifier: MIT */
/* Walking over JSON text by RFC 8259 without building a tree: the parser's check, and where the editors find their places. */
#ifndef LF_FOREIGN_JSON_SCAN_H
#define LF_FOREIGN_JSON_SCAN_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct lf_json_scan {
    const char *text;
    char *copy; /* of text: numbers that LF_JSON_NONFINITE lets through become 0 in it; or NULL */
    size_t size;
    size_t at;          /* the next byte */
    unsigned flags;     /* those of lf_json_parse() */
    unsigned depth;     /* arrays and objects that are open */
    unsigned max_depth; /* 0 = LF_JSON_MAX_DEPTH */
    size_t n_values;    /* seen so far */
    size_t max_values;  /* 0 = any number */
    size_t n_keys;
    size_t wanted_key; /* where the key of this number begins is kept in wanted_at */
    size_t wanted_at;
    lorafmt_error *err;
} lf_json_scan;

typedef struct lf_json_span {
    size_t begin, end;
} lf_json_span;

typedef struct lf_json_member {
    lf_json_span key; /* with its quotes */
    lf_json_span value;
} lf_json_member;

/* Each starts at s->at and stops behind what it names; on failure s->at means nothing. */
void lf_json_scan_space(lf_json_scan *s);
lorafmt_status lf_json_scan_value(lf_json_scan *s);
lorafmt_status lf_json_scan_member(lf_json_scan *s, lf_json_member *out);

/*
 * The next member of an object in a text that was checked: s->at is where the object begins, then where the member before it ends.
 * false behind the last one.
 */
bool lf_json_next_member(lf_json_scan *s, lf_json_member *out);

/* The whole text: one value with space around it. */
lorafmt_status lf_json_scan_text(lf_json_scan *s);

/* The member of that key in the object that begins at text[at], in a text that was checked. */
lorafmt_status lf_json_find_member(const char *text, size_t size, size_t at, const char *key, lf_json_member *out, bool *found,
                                   lorafmt_error *err);

/* A malloc()ed, NUL-terminated copy of a text with a span replaced. */
lorafmt_status lf_json_splice(const char *text, size_t size, lf_json_span span, const char *replacement, char **out,
                              size_t *out_size, lorafmt_error *err);

#endif
