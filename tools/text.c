/* SPDX-License-Identifier: MIT */
#include "tools/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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

void print_text(FILE *to, const char *text)
{
    while (*text) {
        uint32_t code;
        const size_t n = utf8_decode(text, &code);
        const size_t length = n ? n : 1;
        if (n && printable(code))
            fwrite(text, 1, n, to);
        else
            for (size_t i = 0; i < length; i++)
                fprintf(to, "\\x%02x", (unsigned)(unsigned char)text[i]);
        text += length;
    }
}

size_t text_width(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void text_append(char *buf, size_t size, const char *format, ...)
{
    const size_t length = strlen(buf);
    va_list args;

    va_start(args, format);
    vsnprintf(buf + length, size - length, format, args);
    va_end(args);
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

const char *digest_text(const uint8_t digest[32], char buf[DIGEST_TEXT_SIZE])
{
    for (size_t i = 0; i < 32; i++)
        snprintf(buf + 2 * i, 3, "%02x", digest[i]);
    return buf;
}
