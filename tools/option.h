/* SPDX-License-Identifier: MIT */
/* Options: one array gives both the parser and the help. */
#ifndef TOOLS_OPTION_H
#define TOOLS_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum option_type {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char *, NULL = not given */
    OPTION_LIST,   /* text_list; may be given many times */
    OPTION_CHOICE, /* unsigned: place in `value`, counted from 1; 0 = not given */
    OPTION_NUMBER, /* option_number: finite */
    OPTION_COUNT,  /* unsigned, 1 .. OPTION_COUNT_MAX; 0 = not given */
} option_type;

#define OPTION_COUNT_MAX 1024

typedef struct text_list {
    const char **items;
    size_t n;
} text_list;

typedef struct option_number {
    bool given;
    double value;
} option_number;

typedef struct option {
    const char *name;  /* without the dashes */
    char letter;       /* or 0 */
    const char *value; /* what the help calls the value; the choices as "a|b|c"; NULL for a flag */
    option_type type;
    size_t offset; /* of the member of the command's arguments */
    const char *help;
} option;

typedef enum option_result {
    OPTION_PARSED,
    OPTION_HELP,  /* --help was asked for */
    OPTION_WRONG, /* and said so */
    OPTION_NO_MEMORY,
} option_result;

/*
 * Parse argv[0 .. argc). Values are borrowed from argv; whatever is no option is moved to its front.
 *
 * args      zeroed arguments of the command; options_free() them in any case
 * n_inputs  how many of argv are no options
 */
option_result options_parse(const char *verb, const option *options, size_t argc, char **argv, void *args, size_t *n_inputs);
void options_free(const option *options, void *args);

void options_help(FILE *to, const option *options);

/* A paragraph, wrapped to 80 columns; the cursor is at `indent` already. */
void print_wrapped(FILE *to, const char *text, size_t indent);

/* The name that is closest to what was typed, or NULL when none is close. names[i] is at names + i * stride. */
const char *nearest_name(const char *typed, const char *const *names, size_t stride, size_t n);

/* The whole of text as a finite or other number: not empty, no blanks. */
bool parse_number(const char *text, double *out);

/* The same for digits and nothing else, up to `most`. */
bool parse_whole(const char *text, uint64_t most, uint64_t *out);

/* The whole of text as a number of bytes from 1 to 2^62: 20000, 512K, 20M, 1.5G. */
bool parse_bytes(const char *text, uint64_t *out);

#endif
