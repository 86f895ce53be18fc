/* SPDX-License-Identifier: MIT */
#include "tools/page.h"

#include "tools/option.h"
#include "tools/text.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

page page_of_stdout(void)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    page p;

    setlocale(LC_CTYPE, "");
    p.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
    p.colour = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 && !(no_color && *no_color);
    return p;
}

static const char *escape_of(style s)
{
    switch (s) {
    case STYLE_PLAIN:
        return "";
    case STYLE_TITLE:
        return "\033[1m";
    case STYLE_QUIET:
        return "\033[2m";
    case STYLE_ODD:
        return "\033[33m";
    }
    return "";
}

static void print_va(const page *p, style s, const char *format, va_list args)
{
    const bool styled = p->colour && s != STYLE_PLAIN;
    char text[2048];

    vsnprintf(text, sizeof text, format, args);
    if (styled)
        fputs(escape_of(s), stdout);
    print_text(stdout, text);
    if (styled)
        fputs("\033[0m", stdout);
}

void page_print(const page *p, style s, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_va(p, s, format, args);
    va_end(args);
}

void page_line(const page *p, style s, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_va(p, s, format, args);
    va_end(args);
    putchar('\n');
}

static void print_label(const page *p, const char *label)
{
    page_print(p, STYLE_QUIET, "  %-*s", FIELD_INDENT - 2, label);
}

void page_field(const page *p, const char *label, const char *value)
{
    char text[SHORT_TEXT_SIZE];

    print_label(p, label);
    page_line(p, STYLE_PLAIN, "%s", text_shorten(value, PAGE_COLUMNS - FIELD_INDENT, text));
}

void page_field_wrapped(const page *p, const char *label, const char *value)
{
    print_label(p, label);
    print_wrapped(stdout, value, FIELD_INDENT);
}

const char *bar_text(const page *p, double share, size_t width, char buf[BAR_TEXT_SIZE])
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const size_t steps = p->utf8 ? 8 : 1;
    size_t filled = (size_t)(share * (double)(width * steps) + 0.5);

    if (share > 0 && !filled)
        filled = 1;
    buf[0] = '\0';
    for (size_t i = 0; i < filled / steps; i++)
        text_append(buf, BAR_TEXT_SIZE, "%s", p->utf8 ? "█" : "#");
    text_append(buf, BAR_TEXT_SIZE, "%s", eighths[filled % steps]);
    return buf;
}
