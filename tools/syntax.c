/* SPDX-License-Identifier: MIT */
#include "tools/syntax.h"

#include "tools/option.h"

#include <math.h>
#include <string.h>

/* Digits up to `most`; what follows them, or NULL. */
static const char *whole_number(const char *text, unsigned most, unsigned *out)
{
    const size_t n = strspn(text, "0123456789");

    if (n == 0 || (n > 1 && *text == '0'))
        return NULL;
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned digit = (unsigned)(text[i] - '0');
        if (digit > most || *out > (most - digit) / 10)
            return NULL;
        *out = 10 * *out + digit;
    }
    return text + n;
}

bool fraction_parse(const char *text, unsigned most, unsigned *k, unsigned *n)
{
    const char *at = whole_number(text, most, k);

    at = at && *at == '/' ? whole_number(at + 1, most, n) : NULL;
    return at && !*at && *n >= 1 && *k <= *n;
}

bool weight_rule_cut(char *text, const char **pattern, double *weight)
{
    char *colon = strchr(text, ':'), *equals = strrchr(text, '=');

    if (!colon || !equals || equals < colon + 2 || !parse_number(equals + 1, weight) || !isfinite(*weight))
        return false;
    *colon = *equals = '\0';
    *pattern = colon + 1;
    return true;
}
