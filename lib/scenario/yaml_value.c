/* SPDX-License-Identifier: MIT */
#include "lib/scenario/yaml.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/scenario/choices.h"
#include "lib/scenario/record.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"
#define SHOWN 64 /* bytes of a value that a message repeats */

/* --- errors --- */

/* "scenarios.legal.adapters[1]", for messages; what does not fit is cut. */
static void put_path(const lk_yaml *node, char *out, size_t size)
{
    size_t n;

    if (!node->parent)
        return;
    put_path(node->parent, out, size);
    n = strlen(out);
    if (node->key)
        snprintf(out + n, size - n, "%s%s", n ? "." : "", node->key->text);
    else if (node->parent->kind == LK_YAML_SEQUENCE)
        snprintf(out + n, size - n, "[%zu]", node->index);
}

lorafmt_status lk_yaml_fail(const lk_yaml *at, lorafmt_status status, lorafmt_error *err, const char *format, ...)
{
    char text[sizeof err->text], field[sizeof err->field] = "", file[sizeof err->file];
    const int room = (int)sizeof file - (int)sizeof ":4294967295:4294967295";
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put_path(at, field, sizeof field);
    snprintf(file, sizeof file, "%.*s:%u:%u", room, at->file, (unsigned)at->line, (unsigned)at->column);
    lf_fail(err, status, LORAFMT_NO_OFFSET, field, "%s", text);
    lf_error_set_file(err, file);
    return status;
}

static const char *kind_name(const lk_yaml *node)
{
    if (node->kind == LK_YAML_SCALAR)
        return node->plain && !*node->text ? "nothing" : "a scalar";
    return node->kind == LK_YAML_SEQUENCE ? "a sequence" : "a mapping";
}

static lorafmt_status fail_kind(const lk_yaml *node, const char *wanted, lorafmt_error *err)
{
    return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%s, must be %s", kind_name(node), wanted);
}

/* --- mappings and sequences --- */

const lk_yaml *lk_yaml_get(const lk_yaml *mapping, const char *key)
{
    size_t begin = 0, end = mapping->n;

    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        const int order = strcmp(key, mapping->by_key[middle]->key->text);
        if (order == 0)
            return mapping->by_key[middle];
        if (order < 0)
            end = middle;
        else
            begin = middle + 1;
    }
    return NULL;
}

lorafmt_status lk_yaml_require(const lk_yaml *mapping, const char *key, const lk_yaml **out, lorafmt_error *err)
{
    *out = lk_yaml_get(mapping, key);
    return *out ? LORAFMT_OK : lk_yaml_fail(mapping, LORAFMT_CORRUPT, err, "must have the key %s", key);
}

lorafmt_status lk_yaml_find(const lk_yaml *mapping, const lk_yaml *name, size_t *out, lorafmt_error *err)
{
    const lk_yaml *found;
    lk_choices choices;
    const char *text;

    *out = 0;
    LF_TRY(lk_yaml_nonempty(name, &text, err));
    found = mapping ? lk_yaml_get(mapping, text) : NULL;
    if (found) {
        *out = found->index;
        return LORAFMT_OK;
    }
    choices = lk_choices_begin(text);
    for (size_t i = 0; mapping && i < mapping->n; i++)
        lk_choices_add(&choices, mapping->value[i]->key->text);
    return lk_yaml_fail(name, LORAFMT_CORRUPT, err, "%.*s is not there; %s", SHOWN, text, lk_choices_end(&choices));
}

lorafmt_status lk_yaml_choice(const lk_yaml *node, const char *const *words, size_t *out, lorafmt_error *err)
{
    lk_choices choices;
    const char *text;

    *out = 0;
    LF_TRY(lk_yaml_nonempty(node, &text, err));
    choices = lk_choices_begin(text);
    for (size_t i = 0; words[i]; i++) {
        lk_choices_add(&choices, words[i]);
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return LORAFMT_OK;
        }
    }
    return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "unknown value %.*s; %s", SHOWN, text, lk_choices_end(&choices));
}

static lorafmt_status fail_key(const lk_yaml *key, const char *const *keys, lorafmt_error *err)
{
    lk_choices choices = lk_choices_begin(key->text);

    for (; *keys; keys++)
        lk_choices_add(&choices, *keys);
    return lk_yaml_fail(key, LORAFMT_CORRUPT, err, "unknown key; %s", lk_choices_end(&choices));
}

lorafmt_status lk_yaml_mapping(const lk_yaml *node, const char *const *keys, lorafmt_error *err)
{
    if (node->kind != LK_YAML_MAPPING)
        return fail_kind(node, "a mapping (KEY: VALUE)", err);
    for (size_t i = 0; keys && i < node->n; i++) {
        const char *const *key = keys;
        while (*key && strcmp(*key, node->value[i]->key->text) != 0)
            key++;
        if (!*key)
            return fail_key(node->value[i]->key, keys, err);
    }
    return LORAFMT_OK;
}

lorafmt_status lk_yaml_sequence(const lk_yaml *node, lorafmt_error *err)
{
    return node->kind == LK_YAML_SEQUENCE ? LORAFMT_OK : fail_kind(node, "a sequence ([A, B], or lines that begin with -)", err);
}

/* --- scalars --- */

static lorafmt_status check_text(const lk_yaml *node, lorafmt_error *err)
{
    const size_t n = strlen(node->text);

    for (size_t i = 0, length; i < n; i += length) {
        length = lk_yaml_character(node->text + i, n - i);
        if (length)
            continue;
        if (node->text[i] == '\n')
            return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "has a line break; must be one line, which >- makes of several");
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "has a control character at byte %zu of the text", i);
    }
    return LORAFMT_OK;
}

lorafmt_status lk_yaml_text(const lk_yaml *node, const char **out, lorafmt_error *err)
{
    const char *taken_for;

    *out = NULL;
    if (node->kind != LK_YAML_SCALAR)
        return fail_kind(node, "text", err);
    taken_for = node->plain ? lk_yaml_taken_for(node->text) : NULL;
    if (taken_for && !*node->text)
        return fail_kind(node, "text; write \"\" for an empty one", err);
    if (taken_for)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%.*s is %s to readers of YAML, must be text: write \"%.*s\"", SHOWN,
                            node->text, taken_for, SHOWN, node->text);
    LF_TRY(check_text(node, err));
    *out = node->text;
    return LORAFMT_OK;
}

lorafmt_status lk_yaml_nonempty(const lk_yaml *node, const char **out, lorafmt_error *err)
{
    LF_TRY(lk_yaml_text(node, out, err));
    if (**out)
        return LORAFMT_OK;
    *out = NULL;
    return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "empty text");
}

static const char *skip_digits(const char *s)
{
    const size_t n = strspn(s, DIGITS);
    return n ? s + n : NULL;
}

/* RFC 8259, section 6 */
static bool is_json_number(const char *s)
{
    s += *s == '-';
    if (s[0] == '0')
        s++;
    else if (!(s = skip_digits(s)))
        return false;
    if (*s == '.' && !(s = skip_digits(s + 1)))
        return false;
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '-' || s[1] == '+');
        if (!(s = skip_digits(s)))
            return false;
    }
    return *s == '\0';
}

/* strtod() in the C locale, whatever that of the program is. */
static bool parse_number(const char *text, double *out)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);

    if (!c)
        return false;
    *out = strtod_l(text, NULL, c);
    freelocale(c);
    return true;
}

static lorafmt_status check_plain(const lk_yaml *node, const char *wanted, lorafmt_error *err)
{
    if (node->kind != LK_YAML_SCALAR || (node->plain && !*node->text))
        return fail_kind(node, wanted, err);
    if (!node->plain)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "in quotes, must be %s without them", wanted);
    return LORAFMT_OK;
}

lorafmt_status lk_yaml_number(const lk_yaml *node, double *out, lorafmt_error *err)
{
    *out = 0;
    LF_TRY(check_plain(node, "a number", err));
    if (!is_json_number(node->text))
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%.*s, must be a number as JSON writes it, like 1, -0.5 or 2e-3", SHOWN,
                            node->text);
    if (!parse_number(node->text, out))
        return lf_no_memory(err);
    if (isfinite(*out))
        return LORAFMT_OK;
    *out = 0;
    return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%.*s, must be a finite number", SHOWN, node->text);
}

lorafmt_status lk_yaml_u64(const lk_yaml *node, uint64_t *out, lorafmt_error *err)
{
    uint64_t value = 0;
    const char *s;

    *out = 0;
    LF_TRY(check_plain(node, "a whole number", err));
    for (s = node->text; *s >= '0' && *s <= '9'; s++) {
        const unsigned digit = (unsigned)(*s - '0');
        if (value > (UINT64_MAX - digit) / 10)
            break;
        value = 10 * value + digit;
    }
    if (*s || (node->text[0] == '0' && node->text[1]))
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%.*s, must be a whole number, 0..2^64-1", SHOWN, node->text);
    *out = value;
    return LORAFMT_OK;
}

lorafmt_status lk_yaml_sha256(const lk_yaml *node, uint8_t out[32], lorafmt_error *err)
{
    const char *text;

    memset(out, 0, 32);
    LF_TRY(lk_yaml_text(node, &text, err));
    if (strlen(text) == LF_HEX_SIZE - 1 && lk_hex_parse(text, out))
        return LORAFMT_OK;
    memset(out, 0, 32);
    return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "%.*s, must be 64 hexadecimal digits in small letters", SHOWN, text);
}
