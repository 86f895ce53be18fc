/* SPDX-License-Identifier: MIT */
/*
 * rank_pattern and alpha_pattern: PEFT tries `(.*\.)?(KEY)$` with Python's re.match on the module path, in the order of the
 * file, and when none matches takes KEY as a plain module path. Nearly all keys are module names in which only '.' means
 * something; those are in peft_plain.c. For the others PCRE2 reads what Python's re does, within limits: what patterns from
 * strangers may cost is bounded in number, memory and steps.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "format/base/error.h"
#include "lib/dialect/peft.h"
#include "lib/dialect/peft_plain.h"

#include <inttypes.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERNS 65536
#define MAX_REGEXES 256
#define MAX_PATTERN_SIZE 1024
#define MAX_CODE_SIZE (1u << 20) // of all compiled patterns of one object

/*
 * Backtracking steps of all look-ups together, of some 2 ns, and the range of what one match is given of them. A pattern of the kind
 * that people write needs two for a character of the path, and eight for a dot in it.
 */
#define TOTAL_STEPS (UINT64_C(1) << 25)
#define MIN_STEPS 256
#define MAX_STEPS 100000
#define MAX_MATCHES (TOTAL_STEPS / MIN_STEPS)
#define MAX_DEPTH 1000
#define MAX_HEAP_KIB 1024

/* Nobody asks what a group matched, and each step would carry that along. */
#define OPTIONS (PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE)

/* Where a dot of a plain name is not one of the path, a look-up takes steps; each may be 20 comparisons of characters. */
#define PLAIN_STEPS (1u << 17)

typedef struct regex {
    const char *key;
    pcre2_code *code;
    size_t place; // in the object
} regex;

struct lf_peft_patterns {
    const char *field;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    size_t code_size, n_regexes, n;
    lf_plain_keys plain;
    regex regexes[MAX_REGEXES];
    double values[]; // n, in the order of the object
};

static bool is_plain(const char *key)
{
    return key[strcspn(key, "\\^$*+?()[]{}|")] == '\0';
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

static lorafmt_status compile(lf_peft_patterns *patterns, regex *r, lorafmt_error *err)
{
    char text[MAX_PATTERN_SIZE + 16];
    PCRE2_SIZE offset;
    size_t size;
    int code;

    snprintf(text, sizeof text, "(.*\\.)?(%s)$", r->key);
    r->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, OPTIONS, &code, &offset, NULL);
    if (!r->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, patterns->field, "'%s' is no regular expression: %s", r->key,
                       (const char *)why);
    }
    pcre2_pattern_info(r->code, PCRE2_INFO_SIZE, &size);
    patterns->code_size += size;
    if (patterns->code_size > MAX_CODE_SIZE)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "the regular expressions need more than %u bytes",
                       MAX_CODE_SIZE);
    return LORAFMT_OK;
}

static lorafmt_status add_regex(lf_peft_patterns *patterns, const char *key, lorafmt_error *err)
{
    const char *different = reads_differently(key);
    regex *r;

    if (strlen(key) > MAX_PATTERN_SIZE || patterns->n_regexes == MAX_REGEXES)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field,
                       "more than %d regular expressions, or one of more than %d bytes", MAX_REGEXES, MAX_PATTERN_SIZE);
    if (different)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, patterns->field, "'%s' has %s, which is not supported", key,
                       different);
    r = &patterns->regexes[patterns->n_regexes++];
    *r = (regex){.key = key, .place = patterns->n};
    return compile(patterns, r, err);
}

static lorafmt_status add_pattern(lf_peft_patterns *patterns, const cJSON *item, lorafmt_error *err)
{
    const char *key = item->string;

    if (!cJSON_IsNumber(item))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, patterns->field, "'%s' must have a number", key);
    if (is_plain(key))
        patterns->plain.keys[patterns->plain.n++] = (lf_plain_key){key, strlen(key), patterns->n};
    else
        LF_TRY(add_regex(patterns, key, err));
    patterns->values[patterns->n++] = item->valuedouble;
    return LORAFMT_OK;
}

static lorafmt_status set_limits(lf_peft_patterns *patterns, size_t n_lookups, lorafmt_error *err)
{
    const uint64_t n_matches = (uint64_t)patterns->n_regexes * n_lookups, share = TOTAL_STEPS / (n_matches ? n_matches : 1);

    if (n_matches > MAX_MATCHES)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field,
                       "%zu regular expressions for %zu tensors, at most %" PRIu64 " matches are tried: write names instead",
                       patterns->n_regexes, n_lookups, MAX_MATCHES);
    patterns->limits = pcre2_match_context_create(NULL);
    patterns->match = pcre2_match_data_create(1, NULL);
    if (!patterns->limits || !patterns->match)
        return lf_no_memory(err);
    pcre2_set_match_limit(patterns->limits, share > MAX_STEPS ? MAX_STEPS : (uint32_t)share);
    pcre2_set_depth_limit(patterns->limits, MAX_DEPTH);
    pcre2_set_heap_limit(patterns->limits, MAX_HEAP_KIB);
    return LORAFMT_OK;
}

static lorafmt_status new_patterns(const char *field, size_t n, lf_peft_patterns **out, lorafmt_error *err)
{
    lf_peft_patterns *patterns = calloc(1, sizeof *patterns + n * sizeof *patterns->values);

    *out = patterns;
    if (!patterns || !(patterns->plain.keys = calloc(n + 1, sizeof *patterns->plain.keys)))
        return lf_no_memory(err);
    patterns->field = field;
    patterns->plain.steps = PLAIN_STEPS;
    return LORAFMT_OK;
}

static lorafmt_status add_patterns(lf_peft_patterns *patterns, const cJSON *object, size_t n_lookups, lorafmt_error *err)
{
    for (const cJSON *item = object->child; item; item = item->next)
        LF_TRY(add_pattern(patterns, item, err));
    lf_plain_keys_sort(&patterns->plain);
    return set_limits(patterns, n_lookups, err);
}

lorafmt_status lf_peft_patterns_parse(const cJSON *object, const char *field, size_t n_lookups, lf_peft_patterns **out,
                                      lorafmt_error *err)
{
    lorafmt_status st;
    size_t n;

    *out = NULL;
    if (!object || cJSON_IsNull(object))
        return LORAFMT_OK;
    if (!cJSON_IsObject(object))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, field, "must be an object of patterns and numbers");
    n = (size_t)cJSON_GetArraySize(object);
    if (n > MAX_PATTERNS)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, field, "%zu patterns, at most %d are taken", n, MAX_PATTERNS);
    st = new_patterns(field, n, out, err);
    if (!st)
        st = add_patterns(*out, object, n_lookups, err);
    if (st) {
        lf_peft_patterns_free(*out);
        *out = NULL;
    }
    return st;
}

void lf_peft_patterns_free(lf_peft_patterns *patterns)
{
    if (!patterns)
        return;
    for (size_t i = 0; i < patterns->n_regexes; i++)
        pcre2_code_free(patterns->regexes[i].code);
    pcre2_match_data_free(patterns->match);
    pcre2_match_context_free(patterns->limits);
    free(patterns->plain.keys);
    free(patterns);
}

static lorafmt_status matches(const lf_peft_patterns *patterns, const regex *r, const char *module, size_t length, bool *out,
                              lorafmt_error *err)
{
    const int rc = pcre2_match(r->code, (PCRE2_SPTR)module, length, 0, PCRE2_NO_UTF_CHECK, patterns->match, patterns->limits);

    *out = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "'%s' takes too long to match '%s'", r->key,
                       module);
    return LORAFMT_OK;
}

/* The first pattern that matches: SIZE_MAX when none does. */
static lorafmt_status find(lf_peft_patterns *patterns, const char *module, size_t *place, lorafmt_error *err)
{
    const size_t length = strlen(module);

    if (!lf_plain_keys_find(&patterns->plain, module, length, place))
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "too many keys for a look at '%s'", module);
    for (size_t i = 0; i < patterns->n_regexes && patterns->regexes[i].place < *place; i++) {
        bool found;
        LF_TRY(matches(patterns, &patterns->regexes[i], module, length, &found, err));
        if (found)
            *place = patterns->regexes[i].place;
    }
    return LORAFMT_OK;
}

lorafmt_status lf_peft_patterns_find(lf_peft_patterns *patterns, const char *module, double *value, lorafmt_error *err)
{
    size_t place;

    if (!patterns)
        return LORAFMT_OK;
    LF_TRY(find(patterns, module, &place, err));
    for (size_t i = 0; i < patterns->n_regexes && place == SIZE_MAX; i++) // as a name, when it matches nothing
        if (strcmp(patterns->regexes[i].key, module) == 0)
            place = patterns->regexes[i].place;
    if (place != SIZE_MAX)
        *value = patterns->values[place];
    return LORAFMT_OK;
}
