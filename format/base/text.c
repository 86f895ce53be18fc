/* SPDX-License-Identifier: MIT */
#include "format/base/text.h"

#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 sequence at p, of at most n bytes; 0 when it is not well-formed (Unicode 15, table 3-7). */
static size_t sequence_length(const unsigned char *p, size_t n)
{
    size_t length;

    if (p[0] < 0x80)
        return p[0] ? 1 : 0;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) // overlong; surrogates
        return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) // overlong; above U+10FFFF
        return 0;
    return length;
}

bool lf_utf8_valid(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;

    for (size_t i = 0; i < n;) {
        const size_t length = sequence_length(p + i, n - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

/* Are these eight bytes ASCII without control characters? Names nearly always are, and a file has many. */
static bool is_plain(const char *s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = 0x80 * ones;
    uint64_t x, del;

    memcpy(&x, s, sizeof x);
    del = x ^ 0x7f * ones;                                   // a byte that is 0 here is 0x7f there
    return !((x | (x - 0x20 * ones) | (del - ones)) & tops); // a top bit: not ASCII, or borrowed, as what is below borrows
}

bool lf_name_valid(const char *s, size_t n)
{
    size_t plain = 0;

    if (n > LF_MAX_NAME)
        return false;
    while (n - plain >= 8 && is_plain(s + plain))
        plain += 8;
    if (n >= 8 && n - plain < 8 && is_plain(s + n - 8))
        return true;
    for (size_t i = plain; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return false;
    return lf_utf8_valid(s + plain, n - plain);
}

bool lf_adapter_name_valid(const char *s)
{
    const size_t n = strlen(s);

    if (n == 0 || n > LF_MAX_ADAPTER_NAME || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        return false;
    return !strpbrk(s, "/\\#=") && lf_name_valid(s, n);
}

bool lf_ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}
