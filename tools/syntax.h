/* SPDX-License-Identifier: MIT */
/* The small texts of the command line that have parts of their own, taken apart. They know no files, and their callers complain. */
#ifndef TOOLS_SYNTAX_H
#define TOOLS_SYNTAX_H

#include <stdbool.h>

/* K/N, two whole numbers without signs and leading zeros: 0 <= K <= N, 1 <= N <= most. */
bool fraction_parse(const char *text, unsigned most, unsigned *k, unsigned *n);

/* NAME:PATTERN=W, cut in place at the first ':' and the last '='; W is finite and PATTERN not empty. */
bool weight_rule_cut(char *text, const char **pattern, double *weight);

#endif
