/* SPDX-License-Identifier: MIT */
#include "tools/message.h"

#include "tools/command.h"
#include "tools/text.h"

#include <stdarg.h>
#include <string.h>

/* Room for two paths, a name and a sentence; what is longer is cut. */
#define LINE_SIZE 12288

static void print_va(FILE *to, const char *before, const char *format, va_list args)
{
    char line[LINE_SIZE];

    vsnprintf(line, sizeof line, format, args);
    fputs(before, to);
    print_text(to, line);
    fputc('\n', to);
}

void print_line(FILE *to, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_va(to, "", format, args);
    va_end(args);
}

int message_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_va(stderr, "lorapack: ", format, args);
    va_end(args);
    return EXIT_FAILED;
}

int message_usage(const char *verb, const char *format, ...)
{
    char text[LINE_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line(stderr, "lorapack: %s: %s (see lorapack %s --help)", verb, text, verb);
    return EXIT_USAGE;
}

void message_warning(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_va(stderr, "lorapack: warning: ", format, args);
    va_end(args);
}

void message_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_va(stderr, "lorapack: note: ", format, args);
    va_end(args);
}

int message_no_memory(void)
{
    return message_error("out of memory");
}

/* The way of this program to do what the library advises. */
static const char *hint_text(lorafmt_hint hint)
{
    switch (hint) {
    case LORAFMT_HINT_NONE:
        return "";
    case LORAFMT_HINT_BASE:
        return "; give it: --base BASE";
    case LORAFMT_HINT_ALPHA:
        return "; give it: --alpha X";
    case LORAFMT_HINT_EXPERTS:
        return "; say it: --experts-orientation out-in|in-out";
    case LORAFMT_HINT_ORIENTATION:
        return "; say it: --orientation out-in|in-out";
    case LORAFMT_HINT_MAP:
        return "; say how names correspond: --map OLD=NEW of merge and verify, or map of a manifest";
    case LORAFMT_HINT_ANY_BASE:
        return "; --any-base lets it pass";
    case LORAFMT_HINT_REPLACE:
        return "; --replace puts this one in its place, --name gives it another name";
    case LORAFMT_HINT_ROLLBACK:
        return "; lorapack rollback FILE --to that one accepts it";
    case LORAFMT_HINT_LOCK:
        return "; lorapack lock MANIFEST --update accepts it";
    }
    return "";
}

int message_failure(const lorafmt_error *err, const char *file)
{
    lorafmt_error placed = *err;
    char line[sizeof placed.file + sizeof placed.field + sizeof placed.text + 64];

    if (!placed.file[0] && file)
        snprintf(placed.file, sizeof placed.file, "%s", file);
    lorafmt_error_format(&placed, line, sizeof line);
    return message_error("%s%s", line, hint_text(err->hint));
}

int message_unread(const lorafmt_error *err, const char *output)
{
    lorafmt_error told = *err;

    snprintf(told.text, sizeof told.text, "is written, but cannot be read again: %.*s", (int)sizeof told.text / 2, err->text);
    return message_failure(&told, output);
}
