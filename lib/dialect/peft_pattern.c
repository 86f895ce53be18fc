/* SPDX-License-Identifier: MIT */
/*
 * rank_pattern and alpha_pattern: PEFT tries `(.*\.)?(KEY)$` with Python's re.match on the module path, in the order of the file.
 * PCRE2 reads what Python's re does here; its limits bound what a hostile pattern can cost.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "format/base/error.h"
#include "lib/dialect/peft.h"

#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERN 1024
#define MATCH_LIMIT 100000
#define DEPTH_LIMIT 1000
#define HEAP_LIMIT_KIB 1024

typedef struct pattern {
    const char *key;
    pcre2_code *code;
    double value;
} pattern;

struct lf_peft_patterns {
    const char *field;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    size_t n;
    pattern patterns[];
};

static lorafmt_status compile(pattern *p, const char *field, lorafmt_error *err)
{
    char text[MAX_PATTERN + 16];
    PCRE2_SIZE offset;
    int code;

    if (strlen(p->key) > MAX_PATTERN)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, field, "a pattern of %zu bytes, at most %d are taken", strlen(p->key),
                       MAX_PATTERN);
    snprintf(text, sizeof text, "(.*\\.)?(%s)$", p->key);
    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_UTF, &code, &offset, NULL);
    if (!p->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, field, "'%s' is no regular expression: %s", p->key,
                       (const char *)why);
    }
    return LORAFMT_OK;
}

lorafmt_status lf_peft_patterns_parse(const cJSON *object, const char *field, lf_peft_patterns **out, lorafmt_error *err)
{
    lf_peft_patterns *patterns;
    lorafmt_status st = LORAFMT_OK;
    const cJSON *item;

    *out = NULL;
    if (!object || cJSON_IsNull(object))
        return LORAFMT_OK;
    if (!cJSON_IsObject(object))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, field, "must be an object of patterns and numbers");
    patterns = calloc(1, sizeof *patterns + (size_t)cJSON_GetArraySize(object) * sizeof *patterns->patterns);
    if (!patterns)
        return lf_no_memory(err);
    patterns->field = field;
    patterns->limits = pcre2_match_context_create(NULL);
    patterns->match = pcre2_match_data_create(1, NULL);
    if (!patterns->limits || !patterns->match) {
        st = lf_no_memory(err);
        goto fail;
    }
    pcre2_set_match_limit(patterns->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(patterns->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(patterns->limits, HEAP_LIMIT_KIB);
    cJSON_ArrayForEach(item, object)
    {
        pattern *p = &patterns->patterns[patterns->n];
        if (!cJSON_IsNumber(item)) {
            st = lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, field, "'%s' must have a number", item->string);
            goto fail;
        }
        p->key = item->string;
        p->value = item->valuedouble;
        patterns->n++;
        if ((st = compile(p, field, err)))
            goto fail;
    }
    *out = patterns;
    return LORAFMT_OK;
fail:
    lf_peft_patterns_free(patterns);
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

lorafmt_status lf_peft_patterns_find(const lf_peft_patterns *patterns, const char *module, double *value, lorafmt_error *err)
{
    for (size_t i = 0; patterns && i < patterns->n; i++) {
        const pattern *p = &patterns->patterns[i];
        const int rc = pcre2_match(p->code, (PCRE2_SPTR)module, strlen(module), 0, 0, patterns->match, patterns->limits);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, patterns->field, "'%s' takes too long to match '%s'", p->key,
                           module);
        if (rc >= 0 || strcmp(p->key, module) == 0) {
            *value = p->value;
            break;
        }
    }
    return LORAFMT_OK;
}
