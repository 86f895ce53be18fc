/* SPDX-License-Identifier: MIT */
/* What lorapack says: results on stdout, talk on stderr, every line safe for a terminal. */
#ifndef TOOLS_MESSAGE_H
#define TOOLS_MESSAGE_H

#include "lorafmt/error.h"

#include <stdio.h>

#if defined(__GNUC__)
#define MESSAGE_FORMAT(at) __attribute__((format(printf, at, at + 1)))
#else
#define MESSAGE_FORMAT(at)
#endif

/* One line of any stream; the newline is added, names in it are made safe to print. */
void print_line(FILE *to, const char *format, ...) MESSAGE_FORMAT(2);

/* "lorapack: ..." on stderr; returns EXIT_FAILED. */
int message_error(const char *format, ...) MESSAGE_FORMAT(1);

/* "lorapack: COMMAND: ..., see ..." on stderr; returns EXIT_USAGE. */
int message_usage(const char *verb, const char *format, ...) MESSAGE_FORMAT(2);

void message_warning(const char *format, ...) MESSAGE_FORMAT(1);
void message_note(const char *format, ...) MESSAGE_FORMAT(1);

int message_no_memory(void);

/* "lorapack: FILE: FIELD at 0xOFFSET: TEXT"; file stands in when the error names none. Returns EXIT_FAILED. */
int message_failure(const lorafmt_error *err, const char *file);

/* The same of an output that is in its place and was to be read for what is said of it. */
int message_unread(const lorafmt_error *err, const char *output);

#endif
