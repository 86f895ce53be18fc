/* SPDX-License-Identifier: MIT */
/* Standard output as a page to be read: 80 columns, bold and colour where the terminal has them, blocks where it knows UTF-8. */
#ifndef TOOLS_PAGE_H
#define TOOLS_PAGE_H

#include "tools/message.h"

#include <stdbool.h>
#include <stddef.h>

#define PAGE_COLUMNS 80

typedef struct page {
    bool colour; /* stdout is a terminal, TERM is not dumb and NO_COLOR is not set */
    bool utf8;   /* the locale's character set is UTF-8 */
} page;

typedef enum style {
    STYLE_PLAIN,
    STYLE_TITLE, /* bold */
    STYLE_QUIET, /* dim */
    STYLE_ODD,   /* yellow */
} style;

/* What stdout can show. */
page page_of_stdout(void);

/* A piece of a line in a style, names in it made safe to print. */
void page_print(const page *p, style s, const char *format, ...) MESSAGE_FORMAT(3);

/* The same as a whole line. */
void page_line(const page *p, style s, const char *format, ...) MESSAGE_FORMAT(3);

/* "  label       value": the value is shortened to fit, or wrapped below itself. */
#define FIELD_INDENT 14
void page_field(const page *p, const char *label, const char *value);
void page_field_wrapped(const page *p, const char *label, const char *value);

/* A bar of at most `width` columns, `share` of it filled; at least something is when share is above 0. Returns buf. */
#define BAR_TEXT_SIZE 256
const char *bar_text(const page *p, double share, size_t width, char buf[BAR_TEXT_SIZE]);

#endif
