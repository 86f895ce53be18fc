/* SPDX-License-Identifier: MIT */
/*
 * rank_pattern and alpha_pattern: PEFT tries `(.*\.)?(KEY)$` with Python's re.match on the module path, in the order of the
 * file, and when none matches takes KEY as a plain module path. Nearly all keys are module names in which only '.' means
 * something; those are compared here. For the others PCRE2 reads what Python's re does, within limits: what patterns from
 * strangers may cost is bounded in number, memory and steps.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "format/base/error.h"
#include "lib/dialect/peft.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERNS 65536
#define MAX_REGEXES 256
#define MAX_PATTERN_SIZE 1024
#define MAX_CODE_SIZE (4u << 20) // of all compiled patterns of one object

/* Backtracking steps of all look-ups together, and the range of what one match is given of them. */
#define TOTAL_STEPS 200000000u
#define MIN_STEPS 1000u
#define MAX_STEPS 100000u
#define MAX_DEPTH 1000
#define MAX_HEAP_KIB 1024

/* Comparisons of plain names, of all look-ups together. */
#define MAX_COMPARISONS (UINT64_C(1) << 29)

typedef struct pattern {
    const char *key;
    size_t length;
    pcre2_code *code; // NULL for a plain name
    double value;
} pattern;

struct lf_peft_patterns {
    const char *field;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    size_t code_size, n_regexes;
    size_t n;
    pattern patterns[];
};

static bool is_plain(const char *key)
{
    return key[strcspn(key, "\\^$*+?()[]{}|")] == '\0';
}

/* A plain key as a pattern: the whole module path or its end after a dot, with '.' for any character. */
static bool plain_matches(const pattern *p, const char *module, size_t length)
{
    size_t n = p->length, m = length;

    for (; n; n--) {
        if (!m-- || (p->key[n - 1] != '.' && p->key[n - 1] != module[m]))
            return false;
        while (p->key[n - 1] == '.' && m && ((unsigned char)module[m] & 0xC0) == 0x80)
            m--; // the rest of a character of UTF-8
    }
    return m == 0 || module[m - 1] == '.';
}

/* What both take and read in different ways, or NULL. Nobody writes these for names of modules. */
static const char *reads_differently(const char *key)
{
    bool in_class = false;

    for (const char *at = key; *at; at++) {
        if (*at == '\\') {
            at++;
            if (!*at ||
                (!strchr("AbBdDsSwWnrtf", *at) && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *at)))
                return "an escape that is neither of \\A \\b \\B \\d \\D \\s \\S \\w \\W \\n \\r \\t \\f nor of a sign";
        } else if (in_class) {
            if (*at == '[' && strchr(":.=", at[1]) && at[1])
                return "[: or [. or [= in a class";
            in_class = *at != ']' || at[-1] == '[' || (at[-1] == '^' && at[-2] == '[');
        } else if (*at == '{' && (at[1] == ',' || at[1] == ' ')) {
            return "a count without its least";
        } else if (*at == '(' && (at[1] == '*' || (at[1] == '?' && (!at[2] || !strchr(":=!", at[2]))))) {
            return "a group that is none of ( (?: (?= and (?!";
        } else {
            in_class = *at == '[';
        }
    }
    return NULL;
}

static lorafmt_status compile(lf_peft_patterns *patterns, pattern *p, lorafmt_error *err)
{
    char text[MAX_PATTERN_SIZE + 16];
    const char *different = reads_differently(p->key);
    PCRE2_SIZE offset;
    size_t size;
    int code;

    if (strlen(p->key) > MAX_PATTERN_SIZE || ++patterns->n_regexes > MAX_REGEXES)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field,
                       "more than %d regular expressions, or one of more than %d bytes", MAX_REGEXES, MAX_PATTERN_SIZE);
    if (different)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, patterns->field, "'%s' has %s, which is not supported",
                       p->key, different);
    snprintf(text, sizeof text, "(.*\\.)?(%s)$", p->key);
    p->code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (!p->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, patterns->field, "'%s' is no regular expression: %s", p->key,
                       (const char *)why);
    }
    pcre2_pattern_info(p->code, PCRE2_INFO_SIZE, &size);
    patterns->code_size += size;
    if (patterns->code_size > MAX_CODE_SIZE)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "the regular expressions need more than %u bytes",
                       MAX_CODE_SIZE);
    return LORAFMT_OK;
}

static lorafmt_status add_pattern(lf_peft_patterns *patterns, const cJSON *item, lorafmt_error *err)
{
    pattern *p = &patterns->patterns[patterns->n];

    if (!cJSON_IsNumber(item))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, patterns->field, "'%s' must have a number", item->string);
    p->key = item->string;
    p->length = strlen(p->key);
    p->value = item->valuedouble;
    patterns->n++;
    return is_plain(p->key) ? LORAFMT_OK : compile(patterns, p, err);
}

static lorafmt_status set_limits(lf_peft_patterns *patterns, size_t n_lookups, lorafmt_error *err)
{
    const uint64_t n_matches = (uint64_t)patterns->n_regexes * n_lookups, share = TOTAL_STEPS / (n_matches ? n_matches : 1);

    if (n_lookups && patterns->n > MAX_COMPARISONS / n_lookups)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "%zu patterns for %zu tensors are too many",
                       patterns->n, n_lookups);
    patterns->limits = pcre2_match_context_create(NULL);
    patterns->match = pcre2_match_data_create(1, NULL);
    if (!patterns->limits || !patterns->match)
        return lf_no_memory(err);
    pcre2_set_match_limit(patterns->limits, share < MIN_STEPS ? MIN_STEPS : share > MAX_STEPS ? MAX_STEPS : (uint32_t)share);
    pcre2_set_depth_limit(patterns->limits, MAX_DEPTH);
    pcre2_set_heap_limit(patterns->limits, MAX_HEAP_KIB);
    return LORAFMT_OK;
}

lorafmt_status lf_peft_patterns_parse(const cJSON *object, const char *field, size_t n_lookups, lf_peft_patterns **out,
                                      lorafmt_error *err)
{
    lf_peft_patterns *patterns;
    lorafmt_status st = LORAFMT_OK;
    const cJSON *item;
    size_t n = 0;

    *out = NULL;
    if (!object || cJSON_IsNull(object))
        return LORAFMT_OK;
    if (!cJSON_IsObject(object))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, field, "must be an object of patterns and numbers");
    n = (size_t)cJSON_GetArraySize(object);
    if (n > MAX_PATTERNS)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, field, "%zu patterns, at most %d are taken", n, MAX_PATTERNS);
    patterns = calloc(1, sizeof *patterns + n * sizeof *patterns->patterns);
    if (!patterns)
        return lf_no_memory(err);
    patterns->field = field;
    cJSON_ArrayForEach(item, object)
    {
        if (!st)
            st = add_pattern(patterns, item, err);
    }
    if (!st)
        st = set_limits(patterns, n_lookups, err);
    if (st)
        lf_peft_patterns_free(patterns);
    else
        *out = patterns;
    return st;
}

void lf_peft_patterns_free(lf_peft_patterns *patterns)
{
    if (!patterns)
        return;
    for (size_t i = 0; i < patterns->n; i++)
        pcre2_code_free(patterns->patterns[i].code);
    pcre2_match_data_free(patterns->match);
    pcre2_match_context_free(patterns->limits);
    free(patterns);
}

static lorafmt_status matches(const lf_peft_patterns *patterns, const pattern *p, const char *module, size_t length, bool *out,
                              lorafmt_error *err)
{
    int rc;

    if (!p->code) {
        *out = plain_matches(p, module, length);
        return LORAFMT_OK;
    }
    rc = pcre2_match(p->code, (PCRE2_SPTR)module, length, 0, 0, patterns->match, patterns->limits);
    *out = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "'%s' takes too long to match '%s'", p->key,
                       module);
    return LORAFMT_OK;
}

lorafmt_status lf_peft_patterns_find(const lf_peft_patterns *patterns, const char *module, double *value, lorafmt_error *err)
{
    const size_t n = patterns ? patterns->n : 0, length = strlen(module);

    for (size_t i = 0; i < n; i++) {
        bool found;
        LF_TRY(matches(patterns, &patterns->patterns[i], module, length, &found, err));
        if (found) {
            *value = patterns->patterns[i].value;
            return LORAFMT_OK;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (strcmp(patterns->patterns[i].key, module) == 0)
            *value = patterns->patterns[i].value;
    return LORAFMT_OK;
}
