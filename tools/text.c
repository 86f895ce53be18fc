/* SPDX-License-Identifier: MIT */
#include "tools/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ESCAPE_WIDTH 4 /* "\\xNN" */

size_t utf8_decode(const char *s, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)s;
    const size_t n = b[0] < 0x80 ? 1 : b[0] < 0xc0 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf8 ? 4 : 0;

    *code = n == 1 ? b[0] : n ? b[0] & (0x7fu >> n) : 0;
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (b[i] & 0x3f);
    }
    if (*code < least[n] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000))
        return 0;
    return n;
}

static bool printable(uint32_t code)
{
    const bool control = code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029;
    const bool turns = (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);

    return !control && !turns;
}

size_t text_step(const char *s, size_t *columns)
{
    uint32_t code;
    const size_t n = utf8_decode(s, &code), length = n ? n : 1;

    *columns = n && printable(code) ? 1 : length * ESCAPE_WIDTH;
    return length;
}

void print_text_part(FILE *to, const char *text, size_t n_bytes)
{
    const char *end = text + n_bytes;

    while (text < end) {
        size_t columns;
        const size_t length = text_step(text, &columns);
        if (columns == 1)
            fwrite(text, 1, length, to);
        else
            for (size_t i = 0; i < length; i++)
                fprintf(to, "\\x%02x", (unsigned)(unsigned char)text[i]);
        text += length;
    }
}

void print_text(FILE *to, const char *text)
{
    print_text_part(to, text, strlen(text));
}

size_t text_part_width(const char *text, size_t n_bytes)
{
    size_t width = 0, columns;

    for (const char *end = text + n_bytes; text < end; width += columns)
        text += text_step(text, &columns);
    return width;
}

size_t text_width(const char *text)
{
    return text_part_width(text, strlen(text));
}

size_t text_fitting(const char *text, size_t width)
{
    size_t n_bytes = 0, columns;

    while (text[n_bytes]) {
        const size_t length = text_step(text + n_bytes, &columns);
        if (columns > width)
            break;
        width -= columns;
        n_bytes += length;
    }
    return n_bytes;
}

const char *text_shorten(const char *text, size_t width, char buf[SHORT_TEXT_SIZE])
{
    static const char gap[] = "...";
    const size_t kept = width - strlen(gap), tail = kept / 2;
    const char *rest = text;
    size_t left = text_width(text), columns;

    if (left <= width) {
        snprintf(buf, SHORT_TEXT_SIZE, "%s", text);
        return buf;
    }
    for (; left > tail; left -= columns)
        rest += text_step(rest, &columns);
    snprintf(buf, SHORT_TEXT_SIZE, "%.*s%s%s", (int)text_fitting(text, kept - tail), text, gap, rest);
    return buf;
}

void text_append(char *buf, size_t size, const char *format, ...)
{
    const size_t length = strlen(buf);
    va_list args;

    va_start(args, format);
    vsnprintf(buf + length, size - length, format, args);
    va_end(args);
}

void text_append_word(char *buf, size_t size, const char *path)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-,:=@%";

    if (*path && !path[strspn(path, safe)]) {
        text_append(buf, size, "%s", path);
        return;
    }
    text_append(buf, size, "'");
    for (; *path; path++)
        text_append(buf, size, *path == '\'' ? "'\\''" : "%c", *path);
    text_append(buf, size, "'");
}

const char *number_text(double number, char buf[NUMBER_TEXT_SIZE])
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(buf, NUMBER_TEXT_SIZE, "%.*g", digits, number);
        if (strtod(buf, NULL) == number)
            break;
    }
    return buf;
}

const char *size_text(uint64_t n_bytes, char buf[NUMBER_TEXT_SIZE])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double size = (double)n_bytes / 1024;
    size_t unit = 0;

    if (n_bytes < 1024) {
        snprintf(buf, NUMBER_TEXT_SIZE, "%" PRIu64 " byte%s", n_bytes, n_bytes == 1 ? "" : "s");
        return buf;
    }
    for (; size >= 999.5 && unit < 5; unit++)
        size /= 1024;
    snprintf(buf, NUMBER_TEXT_SIZE, size < 9.95 ? "%.1f %s" : "%.0f %s", size, units[unit]);
    return buf;
}

const char *count_text(uint64_t count, char buf[NUMBER_TEXT_SIZE])
{
    static const char units[] = "MGTPE";
    double millions = (double)count / 1e6;
    size_t unit = 0;

    if (count < 1000000) {
        snprintf(buf, NUMBER_TEXT_SIZE, "%" PRIu64, count);
        return buf;
    }
    for (; millions >= 999.5 && unit < 4; unit++)
        millions /= 1000;
    snprintf(buf, NUMBER_TEXT_SIZE, "%.3g %c", millions, units[unit]);
    return buf;
}

const char *digest_text(const uint8_t digest[32], char buf[DIGEST_TEXT_SIZE])
{
    for (size_t i = 0; i < 32; i++)
        snprintf(buf + 2 * i, 3, "%02x", digest[i]);
    return buf;
}
