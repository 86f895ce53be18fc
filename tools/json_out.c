/* SPDX-License-Identifier: MIT */
#include "tools/json_out.h"

#include "tools/text.h"

#include <inttypes.h>
#include <math.h>

#define INDENT 2

static void write_char(FILE *to, const char *s, size_t n, uint32_t code)
{
    if (n == 0)
        fputs("\\ufffd", to); /* JSON is UTF-8; a path need not be */
    else if (code == '"' || code == '\\')
        fprintf(to, "\\%c", (int)code);
    else if (code < 0x20 || code == 0x7f)
        fprintf(to, "\\u%04x", (unsigned)code);
    else
        fwrite(s, 1, n, to);
}

static void write_string(FILE *to, const char *s)
{
    fputc('"', to);
    while (*s) {
        uint32_t code;
        const size_t n = utf8_decode(s, &code);
        write_char(to, s, n, code);
        s += n ? n : 1;
    }
    fputc('"', to);
}

static void begin(json_out *j, const char *key)
{
    if (j->depth)
        fprintf(j->to, "%s\n%*s", j->has_items ? "," : "", (int)j->depth * INDENT, "");
    j->has_items = true;
    if (key) {
        write_string(j->to, key);
        fputs(": ", j->to);
    }
}

static void open_bracket(json_out *j, const char *key, char bracket)
{
    begin(j, key);
    fputc(bracket, j->to);
    j->depth++;
    j->has_items = false;
}

static void close_bracket(json_out *j, char bracket)
{
    j->depth--;
    if (j->has_items)
        fprintf(j->to, "\n%*s", (int)j->depth * INDENT, "");
    fputc(bracket, j->to);
    if (!j->depth)
        fputc('\n', j->to);
    j->has_items = true;
}

void json_object(json_out *j, const char *key)
{
    open_bracket(j, key, '{');
}

void json_object_end(json_out *j)
{
    close_bracket(j, '}');
}

void json_array(json_out *j, const char *key)
{
    open_bracket(j, key, '[');
}

void json_array_end(json_out *j)
{
    close_bracket(j, ']');
}

void json_text(json_out *j, const char *key, const char *value)
{
    begin(j, key);
    if (value)
        write_string(j->to, value);
    else
        fputs("null", j->to);
}

void json_bool(json_out *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->to);
}

void json_u64(json_out *j, const char *key, uint64_t value)
{
    begin(j, key);
    fprintf(j->to, "%" PRIu64, value);
}

void json_double(json_out *j, const char *key, double value)
{
    char buf[NUMBER_TEXT_SIZE];

    begin(j, key);
    fputs(isfinite(value) ? number_text(value, buf) : "null", j->to);
}

void json_null(json_out *j, const char *key)
{
    json_text(j, key, NULL);
}

void json_digest(json_out *j, const char *key, const uint8_t digest[32])
{
    char buf[DIGEST_TEXT_SIZE];

    json_text(j, key, digest ? digest_text(digest, buf) : NULL);
}

void json_u64_array(json_out *j, const char *key, const uint64_t *values, size_t n)
{
    begin(j, key);
    fputc('[', j->to);
    for (size_t i = 0; i < n; i++)
        fprintf(j->to, "%s%" PRIu64, i ? ", " : "", values[i]);
    fputc(']', j->to);
}
