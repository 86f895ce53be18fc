/* SPDX-License-Identifier: MIT */
#include "tools/option.h"

#include "tools/message.h"
#include "tools/text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 80
#define HELP_COLUMN 26

static const option help_option = {"help", 'h', NULL, OPTION_FLAG, 0, "print this text"};

static size_t count(const option *options)
{
    size_t n = 0;

    while (options[n].name)
        n++;
    return n;
}

/* Levenshtein's distance of two short names. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32];
    const size_t n_a = strlen(a), n_b = strlen(b);

    if (n_a >= 32 || n_b >= 32)
        return SIZE_MAX;
    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            const size_t shorter = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[n_b];
}

const char *nearest_name(const char *typed, const char *const *names, size_t stride, size_t n)
{
    const char *best = NULL;
    size_t least = strlen(typed) < 4 ? 2 : 4;

    for (size_t i = 0; i < n; i++) {
        const char *name = *(const char *const *)(const void *)((const char *)names + i * stride);
        const size_t d = distance(typed, name);
        if (d < least) {
            least = d;
            best = name;
        }
    }
    return best;
}

bool parse_number(const char *text, double *out)
{
    char *end;

    if (!*text || !strchr("+-.0123456789nNiI", *text))
        return false;
    *out = strtod(text, &end);
    return !*end;
}

bool parse_whole(const char *text, uint64_t most, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *out <= most;
}

bool parse_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    const double number = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    double bytes = number;

    for (const char *u = units; unit && u <= unit; u++)
        bytes *= 1024;
    if (end == text || (*end && (!unit || end[1])) || !(bytes >= 1) || bytes > 0x1p62)
        return false;
    *out = (uint64_t)bytes;
    return true;
}

/* '_' will do for '-', as in the names that others have for the same. */
static bool is_name(const char *name, const char *typed, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (name[i] != (typed[i] == '_' ? '-' : typed[i])) // the end of name, too
            return false;
    return !name[length];
}

static const option *find_long(const option *options, const char *name, size_t length)
{
    for (size_t i = 0; i < count(options); i++)
        if (is_name(options[i].name, name, length))
            return &options[i];
    return length == 4 && !memcmp(name, "help", 4) ? &help_option : NULL;
}

static const option *find_letter(const option *options, char letter)
{
    for (size_t i = 0; i < count(options); i++)
        if (options[i].letter == letter)
            return &options[i];
    return letter == help_option.letter ? &help_option : NULL;
}

static option_result wrong_name(const char *verb, const option *options, const char *typed)
{
    char name[64];
    const char *near;

    snprintf(name, sizeof name, "%.*s", (int)strcspn(typed, "="), typed);
    near = name[0] == '-' && name[1] == '-' ? nearest_name(name + 2, &options->name, sizeof *options, count(options)) : NULL;
    if (near)
        message_usage(verb, "unknown option %s, did you mean --%s?", name, near);
    else
        message_usage(verb, "unknown option %s", name);
    return OPTION_WRONG;
}

static option_result twice(const char *verb, const option *o)
{
    message_usage(verb, "--%s is given twice", o->name);
    return OPTION_WRONG;
}

static option_result set_choice(const char *verb, const option *o, const char *text, unsigned *out)
{
    const size_t length = strlen(text);
    const char *at = o->value;

    if (*out)
        return twice(verb, o);
    for (unsigned place = 1;; place++) {
        const size_t n = strcspn(at, "|");
        if (n == length && !memcmp(at, text, n)) {
            *out = place;
            return OPTION_PARSED;
        }
        if (!at[n])
            break;
        at += n + 1;
    }
    message_usage(verb, "--%s %s: must be one of %s", o->name, text, o->value);
    return OPTION_WRONG;
}

static option_result set_number(const char *verb, const option *o, const char *text, option_number *out)
{
    if (out->given)
        return twice(verb, o);
    if (!parse_number(text, &out->value) || !isfinite(out->value)) {
        message_usage(verb, "--%s %s: must be a finite number", o->name, text);
        return OPTION_WRONG;
    }
    out->given = true;
    return OPTION_PARSED;
}

static option_result set_count(const char *verb, const option *o, const char *text, unsigned *out)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);

    if (*out)
        return twice(verb, o);
    if (*text < '0' || *text > '9' || *end || n < 1 || n > OPTION_COUNT_MAX) {
        message_usage(verb, "--%s %s: must be 1 .. %d", o->name, text, OPTION_COUNT_MAX);
        return OPTION_WRONG;
    }
    *out = (unsigned)n;
    return OPTION_PARSED;
}

static option_result append(text_list *list, const char *text, size_t capacity)
{
    if (!list->items && !(list->items = calloc(capacity, sizeof *list->items)))
        return OPTION_NO_MEMORY;
    list->items[list->n++] = text;
    return OPTION_PARSED;
}

/* capacity: no list gets longer than the command line. */
static option_result set(const char *verb, const option *o, const char *text, void *args, size_t capacity)
{
    void *member = (char *)args + o->offset;

    switch (o->type) {
    case OPTION_FLAG:
        *(bool *)member = true;
        return OPTION_PARSED;
    case OPTION_TEXT:
        if (*(const char **)member)
            return twice(verb, o);
        *(const char **)member = text;
        return OPTION_PARSED;
    case OPTION_LIST:
        return append(member, text, capacity);
    case OPTION_CHOICE:
        return set_choice(verb, o, text, member);
    case OPTION_NUMBER:
        return set_number(verb, o, text, member);
    case OPTION_COUNT:
        return set_count(verb, o, text, member);
    }
    return OPTION_WRONG;
}

/* The option that an argument names, and the value that is part of the argument. */
static const option *find(const option *options, const char *argument, const char **value)
{
    const char *name = argument + 2;
    const size_t length = strcspn(name, "=");

    if (argument[1] != '-') {
        *value = argument[2] ? argument + 2 + (argument[2] == '=') : NULL;
        return find_letter(options, argument[1]);
    }
    *value = name[length] ? name + length + 1 : NULL;
    return find_long(options, name, length);
}

/* argv[*at] is an option; its value may be the argument after it. */
static option_result parse_one(const char *verb, const option *options, size_t argc, char **argv, size_t *at, void *args)
{
    const char *value;
    const option *o = find(options, argv[*at], &value);

    if (!o)
        return wrong_name(verb, options, argv[*at]);
    if (o->type == OPTION_FLAG && value) {
        message_usage(verb, "--%s takes no value", o->name);
        return OPTION_WRONG;
    }
    if (o == &help_option)
        return OPTION_HELP;
    if (o->type != OPTION_FLAG && !value) {
        if (*at + 1 == argc) {
            message_usage(verb, "--%s needs a value, %s", o->name, o->value);
            return OPTION_WRONG;
        }
        value = argv[++*at];
    }
    return set(verb, o, value, args, argc);
}

option_result options_parse(const char *verb, const option *options, size_t argc, char **argv, void *args, size_t *n_inputs)
{
    bool only_inputs = false;

    *n_inputs = 0;
    for (size_t at = 0; at < argc; at++) {
        if (only_inputs || argv[at][0] != '-' || !argv[at][1]) {
            argv[(*n_inputs)++] = argv[at];
        } else if (!strcmp(argv[at], "--")) {
            only_inputs = true;
        } else {
            const option_result result = parse_one(verb, options, argc, argv, &at, args);
            if (result != OPTION_PARSED)
                return result;
        }
    }
    return OPTION_PARSED;
}

void options_free(const option *options, void *args)
{
    for (size_t i = 0; i < count(options); i++)
        if (options[i].type == OPTION_LIST)
            free(((text_list *)(void *)((char *)args + options[i].offset))->items);
}

/* The bytes of the word that text begins with; one that no line holds is cut. */
static size_t word_length(const char *text, size_t width)
{
    const size_t word = strcspn(text, " "), most = text_fitting(text, width);

    return word < most ? word : most;
}

void print_wrapped(FILE *to, const char *text, size_t indent)
{
    size_t column = indent;

    while (*text) {
        const size_t length = word_length(text, COLUMNS - 1 - indent);
        const size_t width = text_part_width(text, length);
        if (column > indent && column + 1 + width >= COLUMNS) {
            fprintf(to, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', to);
            column++;
        }
        print_text_part(to, text, length);
        column += width;
        text += length + (text[length] == ' ');
    }
    fputc('\n', to);
}

static void help_one(FILE *to, const option *o)
{
    char left[64];

    if (o->letter)
        snprintf(left, sizeof left, "  -%c, --%s%s%s", o->letter, o->name, o->value ? " " : "", o->value ? o->value : "");
    else
        snprintf(left, sizeof left, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    fprintf(to, "%-*s", HELP_COLUMN, left);
    if (strlen(left) + 2 > HELP_COLUMN)
        fprintf(to, "\n%*s", HELP_COLUMN, "");
    print_wrapped(to, o->help, HELP_COLUMN);
}

void options_help(FILE *to, const option *options)
{
    for (size_t i = 0; i < count(options); i++)
        help_one(to, &options[i]);
    help_one(to, &help_option);
}
