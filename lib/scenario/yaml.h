/* SPDX-License-Identifier: MIT */
/*
 * The YAML that this library reads (spec/manifest.md 2): text of a person becomes a tree of mappings, sequences and scalars, each with
 * its place. What readers of YAML disagree about is refused, and what makes a small text mean a large one.
 *
 *   yaml_reader.c  bytes to a tree
 *   yaml_scalar.c  what a scalar without quotes may be taken for
 *   yaml_value.c   values out of a tree, or the reason why not
 */
#ifndef LK_YAML_H
#define LK_YAML_H

#include "format/base/arena.h"
#include "lorafmt/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lk_yaml_kind { LK_YAML_SCALAR, LK_YAML_SEQUENCE, LK_YAML_MAPPING } lk_yaml_kind;

typedef struct lk_yaml lk_yaml;
struct lk_yaml {
    lk_yaml_kind kind;
    bool plain;            /* a scalar without quotes */
    uint32_t line, column; /* from 1 */
    const char *file;
    const char *text; /* of a scalar: UTF-8 without NUL */
    const lk_yaml *parent;
    const lk_yaml *key; /* its key in a mapping; of a key, itself */
    size_t index;       /* among the values of its parent */
    size_t n;
    lk_yaml *const *value;        /* n of a sequence or mapping, as written */
    const lk_yaml *const *by_key; /* those of a mapping in ascending order of key */
    lk_yaml *next;                /* while its parent is being read */
};

/*
 * Read a file, or bytes that are said to be of it. The tree is the arena's; file must live as long. Every key is text (as
 * lk_yaml_text() has it) and in its mapping once.
 *
 * limits may be NULL. NOT_LORAFMT when it is no text of this kind at all, LIMIT beyond them, CORRUPT otherwise; what lf_file_load()
 * returns.
 */
lorafmt_status lk_yaml_load(const char *file, const lorafmt_limits *limits, lf_arena *arena, const lk_yaml **root,
                            lorafmt_error *err);
lorafmt_status lk_yaml_parse(const char *bytes, size_t size, const char *file, const lorafmt_limits *limits, lf_arena *arena,
                             const lk_yaml **root, lorafmt_error *err);

/* Say that something is wrong with a value, or with a key: err->file is "FILE:LINE:COLUMN", err->field the place by keys. */
__attribute__((format(printf, 4, 5))) lorafmt_status lk_yaml_fail(const lk_yaml *at, lorafmt_status status, lorafmt_error *err,
                                                                  const char *format, ...);

/* The value of a key, NULL when it is not there. */
const lk_yaml *lk_yaml_get(const lk_yaml *mapping, const char *key);

/* The value of a key that must be there. */
lorafmt_status lk_yaml_require(const lk_yaml *mapping, const char *key, const lk_yaml **out, lorafmt_error *err);

/* Is it a mapping, with no keys but these, which end with NULL? keys may be NULL: any. */
lorafmt_status lk_yaml_mapping(const lk_yaml *node, const char *const *keys, lorafmt_error *err);

lorafmt_status lk_yaml_sequence(const lk_yaml *node, lorafmt_error *err);

/*
 * Text of one line without control characters. Without quotes it must be text to every reader of YAML, which `no`, `1.0` and
 * `2024-01-01` are not. May be empty, in quotes; lk_yaml_nonempty() is not.
 */
lorafmt_status lk_yaml_text(const lk_yaml *node, const char **out, lorafmt_error *err);
lorafmt_status lk_yaml_nonempty(const lk_yaml *node, const char **out, lorafmt_error *err);

/* Text that is a key of a mapping, which may be NULL: which value it has. The message names those there are. */
lorafmt_status lk_yaml_find(const lk_yaml *mapping, const lk_yaml *name, size_t *out, lorafmt_error *err);

/* Text that is one of these, which end with NULL: which. */
lorafmt_status lk_yaml_choice(const lk_yaml *node, const char *const *words, size_t *out, lorafmt_error *err);

/* A number as JSON writes it, without quotes, that f64 can hold. */
lorafmt_status lk_yaml_number(const lk_yaml *node, double *out, lorafmt_error *err);

/* Digits without quotes and without leading zeros. */
lorafmt_status lk_yaml_u64(const lk_yaml *node, uint64_t *out, lorafmt_error *err);

/* 64 hexadecimal digits, small letters. */
lorafmt_status lk_yaml_sha256(const lk_yaml *node, uint8_t out[32], lorafmt_error *err);

/* Would a reader of YAML 1.1 or 1.2 take this scalar without quotes for something else? What for; NULL when it is text. */
const char *lk_yaml_taken_for(const char *plain);

/* Length of the UTF-8 character at p, of n > 0 bytes that are left; 0 when it is none, or one that no line of text has. */
size_t lk_yaml_character(const char *p, size_t n);

#endif
