/* SPDX-License-Identifier: MIT */
#include "format/foreign/json_scan.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "format/foreign/json.h"

#include <stdint.h>
#include <string.h>

#define MAX_WHOLE_NUMBER (UINT64_C(1) << 53)

/* What is at the cursor is not what may be there. */
static lorafmt_status unexpected(lf_json_scan *s, const char *allowed)
{
    unsigned char c;

    if (s->at == s->size)
        return lf_fail(s->err, LORAFMT_CORRUPT, s->at, NULL, "the text ends, expected %s", allowed);
    c = (unsigned char)s->text[s->at];
    if (c > 0x20 && c < 0x7f)
        return lf_fail(s->err, LORAFMT_CORRUPT, s->at, NULL, "found '%c', expected %s", c, allowed);
    return lf_fail(s->err, LORAFMT_CORRUPT, s->at, NULL, "found byte 0x%02x, expected %s", c, allowed);
}

static bool take(lf_json_scan *s, char c)
{
    if (s->at == s->size || s->text[s->at] != c)
        return false;
    s->at++;
    return true;
}

static bool take_word(lf_json_scan *s, const char *word)
{
    const size_t n = strlen(word);

    if (s->size - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

static bool take_digits(lf_json_scan *s)
{
    const size_t begin = s->at;

    while (s->at < s->size && s->text[s->at] >= '0' && s->text[s->at] <= '9')
        s->at++;
    return s->at > begin;
}

void lf_json_scan_space(lf_json_scan *s)
{
    while (take(s, ' ') || take(s, '\n') || take(s, '\r') || take(s, '\t'))
        ;
}

static lorafmt_status check_whole(lf_json_scan *s, size_t begin)
{
    const int n = (int)(s->at - begin);
    uint64_t value = 0;

    for (int i = 0; i < n; i++) {
        const char c = s->text[begin + i];
        if (c < '0' || c > '9')
            return lf_fail(s->err, LORAFMT_CORRUPT, begin, NULL, "number %.*s, must be a whole number without sign", n,
                           s->text + begin);
        value = value * 10 + (uint64_t)(c - '0');
        if (value > MAX_WHOLE_NUMBER) // and so far from wrapping in the next round
            return lf_fail(s->err, LORAFMT_LIMIT, begin, NULL, "number %.*s, must be at most 2^53", n, s->text + begin);
    }
    return LORAFMT_OK;
}

/* The word that begins there is a number to Python. */
static lorafmt_status take_nonfinite(lf_json_scan *s, size_t begin)
{
    const size_t n = s->at - begin;

    if (!(s->flags & LF_JSON_NONFINITE))
        return lf_fail(s->err, LORAFMT_CORRUPT, begin, NULL, "%.*s is not a number JSON can hold", (int)n, s->text + begin);
    if (s->copy) {
        memset(s->copy + begin, ' ', n);
        s->copy[begin] = '0';
    }
    return LORAFMT_OK;
}

static lorafmt_status scan_number(lf_json_scan *s)
{
    const size_t begin = s->at;

    take(s, '-');
    if (take_word(s, "Infinity"))
        return take_nonfinite(s, begin);
    if (!take(s, '0') && !take_digits(s))
        return unexpected(s, "a digit");
    if (take(s, '.') && !take_digits(s))
        return unexpected(s, "a digit");
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            take(s, '-');
        if (!take_digits(s))
            return unexpected(s, "a digit");
    }
    if (s->at - begin > LF_JSON_MAX_NUMBER)
        return lf_fail(s->err, LORAFMT_LIMIT, begin, NULL, "a number of %zu characters, at most %d are read", s->at - begin,
                       LF_JSON_MAX_NUMBER);
    return s->flags & LF_JSON_WHOLE_NUMBERS ? check_whole(s, begin) : LORAFMT_OK;
}

/* The UTF-16 unit of a \uXXXX at the cursor; -1 when there is none. */
static int take_unit(lf_json_scan *s)
{
    int unit = 0;

    if (s->size - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u')
        return -1;
    for (size_t i = 2; i < 6; i++) {
        const char c = s->text[s->at + i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    s->at += 6;
    return unit;
}

static lorafmt_status scan_escape(lf_json_scan *s)
{
    const size_t begin = s->at;
    int unit, second;

    if (s->size - s->at >= 2 && memchr("\"\\/bfnrt", s->text[s->at + 1], 8)) {
        s->at += 2;
        return LORAFMT_OK;
    }
    unit = take_unit(s);
    if (unit < 0)
        return lf_fail(s->err, LORAFMT_CORRUPT, begin, NULL,
                       "a backslash must be followed by one of \"\\/bfnrt, or by u and four hex digits");
    if (unit == 0)
        return lf_fail(s->err, LORAFMT_CORRUPT, begin, NULL, "\\u0000 is not allowed in a string");
    if (unit < 0xd800 || unit > 0xdfff)
        return LORAFMT_OK;
    second = unit < 0xdc00 ? take_unit(s) : -1;
    if (second < 0xdc00 || second > 0xdfff)
        return lf_fail(s->err, LORAFMT_CORRUPT, begin, NULL, "\\u%04x is half of a surrogate pair without the other half",
                       (unsigned)unit);
    return LORAFMT_OK;
}

/* One character that is not ASCII. */
static lorafmt_status scan_utf8(lf_json_scan *s)
{
    const unsigned char lead = (unsigned char)s->text[s->at];
    const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if (s->size - s->at < length || !lf_utf8_valid(s->text + s->at, length))
        return lf_fail(s->err, LORAFMT_CORRUPT, s->at, NULL, "byte 0x%02x does not begin a character of UTF-8", lead);
    s->at += length;
    return LORAFMT_OK;
}

static lorafmt_status scan_string(lf_json_scan *s)
{
    s->at++;
    while (s->at < s->size) {
        const unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            s->at++;
            return LORAFMT_OK;
        }
        if (c < 0x20)
            return lf_fail(s->err, LORAFMT_CORRUPT, s->at, NULL, "control character 0x%02x in a string, must be escaped", c);
        if (c == '\\')
            LF_TRY(scan_escape(s));
        else if (c >= 0x80)
            LF_TRY(scan_utf8(s));
        else
            s->at++;
    }
    return lf_fail(s->err, LORAFMT_CORRUPT, s->at, NULL, "the text ends inside a string");
}

lorafmt_status lf_json_scan_member(lf_json_scan *s, lf_json_member *out)
{
    if (s->at == s->size || s->text[s->at] != '"')
        return unexpected(s, "a key in quotes");
    if (s->n_keys++ == s->wanted_key)
        s->wanted_at = s->at;
    out->key.begin = s->at;
    LF_TRY(scan_string(s));
    out->key.end = s->at;
    lf_json_scan_space(s);
    if (!take(s, ':'))
        return unexpected(s, "':'");
    lf_json_scan_space(s);
    out->value.begin = s->at;
    LF_TRY(lf_json_scan_value(s));
    out->value.end = s->at;
    return LORAFMT_OK;
}

bool lf_json_next_member(lf_json_scan *s, lf_json_member *out)
{
    lf_json_scan_space(s);
    s->at++; // the brace or comma before it, or the brace behind the last
    lf_json_scan_space(s);
    return s->at < s->size && s->text[s->at] == '"' && lf_json_scan_member(s, out) == LORAFMT_OK;
}

/* An object or an array, by the character that closes it. */
static lorafmt_status scan_container(lf_json_scan *s, char close)
{
    const unsigned max_depth = s->max_depth ? s->max_depth : LF_JSON_MAX_DEPTH;
    lf_json_member member;

    if (s->depth == max_depth)
        return lf_fail(s->err, LORAFMT_LIMIT, s->at, NULL, "nested deeper than %u arrays and objects", max_depth);
    s->depth++;
    s->at++;
    lf_json_scan_space(s);
    if (!take(s, close)) {
        do {
            lf_json_scan_space(s);
            LF_TRY(close == '}' ? lf_json_scan_member(s, &member) : lf_json_scan_value(s));
            lf_json_scan_space(s);
        } while (take(s, ','));
        if (!take(s, close))
            return unexpected(s, close == '}' ? "',' or '}'" : "',' or ']'");
    }
    s->depth--;
    return LORAFMT_OK;
}

static lorafmt_status scan_word(lf_json_scan *s)
{
    const size_t begin = s->at;

    if (take_word(s, "true") || take_word(s, "false") || take_word(s, "null"))
        return LORAFMT_OK;
    if (take_word(s, "NaN") || take_word(s, "Infinity"))
        return take_nonfinite(s, begin);
    return unexpected(s, "a value");
}

lorafmt_status lf_json_scan_value(lf_json_scan *s)
{
    const char c = s->at < s->size ? s->text[s->at] : '\0';

    if (++s->n_values > s->max_values && s->max_values)
        return lf_fail(s->err, LORAFMT_LIMIT, s->at, NULL, "more than %zu values, the most that are read of these %zu bytes",
                       s->max_values, s->size);
    if (c == '{')
        return scan_container(s, '}');
    if (c == '[')
        return scan_container(s, ']');
    if (c == '"')
        return scan_string(s);
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(s);
    return scan_word(s);
}

lorafmt_status lf_json_scan_text(lf_json_scan *s)
{
    lf_json_scan_space(s);
    LF_TRY(lf_json_scan_value(s));
    lf_json_scan_space(s);
    return s->at == s->size ? LORAFMT_OK : unexpected(s, "the end of the text");
}
