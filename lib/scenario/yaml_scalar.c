/* SPDX-License-Identifier: MIT */
/* YAML 1.1 (yaml.org/type) and the core schema of YAML 1.2, taken together: what either resolves is not text. */
#include "lib/scenario/yaml.h"

#include "format/base/text.h"

#include <string.h>

#define DIGITS "0123456789"

static bool is_one_of(const char *s, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(s, *words) == 0)
            return true;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* 0x1f, 0b10, 0o17 */
static bool is_based(const char *s)
{
    const char *digits = s[0] != '0'   ? NULL
                         : s[1] == 'x' ? DIGITS "abcdefABCDEF_"
                         : s[1] == 'b' ? "01_"
                         : s[1] == 'o' ? "01234567"
                                       : NULL;

    return digits && s[2] && s[2 + strspn(s + 2, digits)] == '\0';
}

/* 12, 1_000, 1.5, .5, 1., 1e9, 007 */
static bool is_decimal(const char *s)
{
    if (!is_digit(s[0]) && !(s[0] == '.' && is_digit(s[1])))
        return false;
    s += strspn(s, DIGITS "_");
    if (*s == '.')
        s += 1 + strspn(s + 1, DIGITS "_");
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '-' || s[1] == '+');
        if (!is_digit(*s))
            return false;
        s += strspn(s, DIGITS);
    }
    return *s == '\0';
}

/* 190:20:30, 20:30.15 */
static bool is_sexagesimal(const char *s)
{
    if (!is_digit(*s))
        return false;
    s += strspn(s, DIGITS "_");
    if (*s != ':')
        return false;
    while (*s == ':' && is_digit(s[1]))
        s += is_digit(s[2]) ? 3 : 2;
    if (*s == '.')
        s += 1 + strspn(s + 1, DIGITS "_");
    return *s == '\0';
}

static bool is_number(const char *s)
{
    static const char *const infinities[] = {".inf", ".Inf", ".INF", NULL}, *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    const char *unsigned_s = s + (*s == '-' || *s == '+');

    return is_based(unsigned_s) || is_decimal(unsigned_s) || is_sexagesimal(unsigned_s) || is_one_of(unsigned_s, infinities) ||
           is_one_of(s, nans);
}

/* At most two digits, at least one. */
static const char *skip_short(const char *s)
{
    return !is_digit(s[0]) ? NULL : is_digit(s[1]) ? s + 2 : s + 1;
}

/* 2001-12-15, 2001-12-14T21:59:43.10-05:00, 2001-12-14 21:59:43 */
static bool is_timestamp(const char *s)
{
    if (strspn(s, DIGITS) != 4 || s[4] != '-' || !(s = skip_short(s + 5)) || *s != '-' || !(s = skip_short(s + 1)))
        return false;
    return *s == '\0' || ((*s == 'T' || *s == 't' || *s == ' ' || *s == '\t') && is_digit(s[1 + strspn(s + 1, " \t")]));
}

const char *lk_yaml_taken_for(const char *plain)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const booleans[] = {"y",  "Y",  "yes",  "Yes",  "YES",  "n",     "N",     "no",
                                           "No", "NO", "true", "True", "TRUE", "false", "False", "FALSE",
                                           "on", "On", "ON",   "off",  "Off",  "OFF",   NULL};
    static const char *const operators[] = {"=", "<<", NULL};

    if (is_one_of(plain, nulls))
        return "nothing";
    if (is_one_of(plain, booleans))
        return "a boolean";
    if (is_one_of(plain, operators))
        return "an operator";
    return is_number(plain) ? "a number" : is_timestamp(plain) ? "a date" : NULL;
}

/* C1 controls, the line breaks of YAML 1.1 that 1.2 has no more, the byte order mark, and what is no character. */
static bool is_unwanted(const unsigned char *p, size_t n)
{
    if (n == 1)
        return p[0] < 0x20 || p[0] == 0x7f;
    if (n == 2)
        return p[0] == 0xc2 && p[1] < 0xa0;
    if (n == 3)
        return (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) ||
               (p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf) || (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe);
    return false;
}

size_t lk_yaml_character(const char *p, size_t n)
{
    const unsigned char first = (unsigned char)p[0];
    const size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    return length <= n && lf_utf8_valid(p, length) && !is_unwanted((const unsigned char *)p, length) ? length : 0;
}
