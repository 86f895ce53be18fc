/* SPDX-License-Identifier: MIT */
#include "format/foreign/json.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 256

/* Room for n bytes more and the NUL. */
static bool reserve(lf_text_buffer *buffer, size_t n)
{
    size_t capacity;
    char *text;

    if (buffer->failed)
        return false;
    if (n < buffer->capacity - buffer->size)
        return true;
    buffer->failed = 1;
    if (n > SIZE_MAX / 4 - buffer->size)
        return false;
    capacity = 2 * (buffer->size + n) + FIRST_CAPACITY;
    text = realloc(buffer->text, capacity);
    if (!text)
        return false;
    buffer->text = text;
    buffer->capacity = capacity;
    buffer->failed = 0;
    return true;
}

void lf_text_add_bytes(lf_text_buffer *buffer, const char *bytes, size_t size)
{
    if (!reserve(buffer, size))
        return;
    if (size)
        memcpy(buffer->text + buffer->size, bytes, size);
    buffer->size += size;
    buffer->text[buffer->size] = '\0';
}

void lf_text_add(lf_text_buffer *buffer, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        buffer->failed = 1;
    if (!reserve(buffer, n < 0 ? 0 : (size_t)n))
        return;
    va_start(args, format);
    vsnprintf(buffer->text + buffer->size, (size_t)n + 1, format, args);
    va_end(args);
    buffer->size += (size_t)n;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

void lf_text_add_json_string(lf_text_buffer *buffer, const char *s)
{
    lf_text_add_bytes(buffer, "\"", 1);
    while (*s) {
        size_t n = 0;
        while (is_plain(s[n]))
            n++;
        lf_text_add_bytes(buffer, s, n);
        s += n;
        if (*s == '"' || *s == '\\')
            lf_text_add(buffer, "\\%c", *s++);
        else if (*s)
            lf_text_add(buffer, "\\u%04x", (unsigned)*s++);
    }
    lf_text_add_bytes(buffer, "\"", 1);
}

void lf_text_free(lf_text_buffer *buffer)
{
    free(buffer->text);
    *buffer = (lf_text_buffer){0};
}
