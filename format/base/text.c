/* SPDX-License-Identifier: MIT */
#include "format/base/text.h"

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

const char *lf_hex(const uint8_t digest[32], char buf[LF_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 32; i++) {
        buf[2 * i] = digits[digest[i] >> 4];
        buf[2 * i + 1] = digits[digest[i] & 15];
    }
    buf[64] = '\0';
    return buf;
}

bool lf_ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

static unsigned char next_of_set(const char **p)
{
    *p += (*p)[0] == '\\' && (*p)[1];
    return (unsigned char)*(*p)++;
}

/* Where the set ends that begins at p, after its bracket, and whether c is in it; NULL when it does not end. */
static const char *match_set(const char *p, unsigned char c, bool *in)
{
    const bool inverted = *p == '!' || *p == '^';
    const char *first = p + inverted;

    *in = inverted;
    for (p = first; *p && (*p != ']' || p == first);) {
        const unsigned char low = next_of_set(&p);
        unsigned char high = low;
        if (p[0] == '-' && p[1] && p[1] != ']') {
            p++;
            high = next_of_set(&p);
        }
        if (low <= c && c <= high)
            *in = !inverted;
    }
    return *p ? p + 1 : NULL;
}

/* What follows the part of a pattern that stands for one byte, when it stands for c; else NULL. */
static const char *match_one(const char *p, char c)
{
    const char *end;
    bool in;

    if (*p == '?')
        return p + 1;
    if (*p == '[' && (end = match_set(p + 1, (unsigned char)c, &in)))
        return in ? end : NULL;
    p += p[0] == '\\' && p[1];
    return *p && *p == c ? p + 1 : NULL;
}

/* Going back to the last star is enough. */
bool lf_glob_matches(const char *pattern, const char *text, size_t n)
{
    const char *star = NULL, *from = NULL, *next;
    const char *end = text + n;

    while (text < end) {
        if (*pattern == '*') {
            star = pattern++;
            from = text;
        } else if ((next = match_one(pattern, *text))) {
            pattern = next;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool lf_target_matches(const char *pattern, const char *target)
{
    static const char weight[] = ".weight";
    const size_t n = strlen(target);

    return lf_glob_matches(pattern, target, n) ||
           (lf_ends_with(target, weight) && lf_glob_matches(pattern, target, n - (sizeof weight - 1)));
}

const char *lf_target_layer(const char *target, size_t *n)
{
    for (const char *at = target; at; at = strchr(at, '.')) {
        at += *at == '.';
        *n = strspn(at, "0123456789");
        if (*n && (at[*n] == '.' || !at[*n]))
            return at;
    }
    return NULL;
}

size_t lf_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t row[LF_MAX_DISTANCE + 1];

    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            const size_t change = diagonal + (a[i - 1] != b[j - 1]), either = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = change < either ? change : either;
        }
    }
    return row[n_b];
}
