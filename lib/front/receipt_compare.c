/* SPDX-License-Identifier: MIT */
/* Two receipts, value by value. */
#include "format/base/error.h"
#include "lib/front/receipt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of two orders of summing binary64; n 2^-53 is 1e-6 at n = 10^10 elements. */
#define TOLERANCE 1e-6

#define VALUE_TEXT_SIZE 320

/* Where the walk is. */
typedef struct walk {
    char path[256]; /* as "adapters[1].weight"; what is longer is cut */
    const char *of; /* the tensor, target or adapter that the nearest object is about, or NULL */
    lorafmt_error *err;
} walk;

/* What a value is, in a few words. */
static const char *value_text(const cJSON *value, char buf[VALUE_TEXT_SIZE])
{
    int precision = 15;

    if (cJSON_IsString(value)) {
        snprintf(buf, VALUE_TEXT_SIZE, "\"%.300s\"", value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        do
            snprintf(buf, VALUE_TEXT_SIZE, "%.*g", precision, value->valuedouble);
        while (precision++ < 17 && strtod(buf, NULL) != value->valuedouble);
    } else if (cJSON_IsArray(value)) {
        snprintf(buf, VALUE_TEXT_SIZE, "an array of %d", cJSON_GetArraySize(value));
    } else {
        const char *word = cJSON_IsNull(value) ? "null" : cJSON_IsObject(value) ? "an object" : NULL;
        snprintf(buf, VALUE_TEXT_SIZE, "%s", word ? word : cJSON_IsTrue(value) ? "true" : "false");
    }
    return buf;
}

static lorafmt_status differs(const walk *w, const cJSON *recorded, const cJSON *replayed)
{
    char before[VALUE_TEXT_SIZE], now[VALUE_TEXT_SIZE];

    return lf_fail(w->err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, w->path, "%s in the receipt, replaying gives %s%s%.300s%s",
                   recorded ? value_text(recorded, before) : "nothing", value_text(replayed, now), w->of ? " (" : "",
                   w->of ? w->of : "", w->of ? ")" : "");
}

static bool numbers_agree(const char *key, double a, double b)
{
    double size = fmax(fabs(a), fabs(b));

    if (a == b || !key)
        return a == b;
    if (strcmp(key, "projection") == 0)
        size = fmax(size, 1);
    else if (strcmp(key, "norm") != 0 && strcmp(key, "norm_realised") != 0)
        return false;
    return fabs(a - b) <= TOLERANCE * size;
}

static bool scalars_agree(const cJSON *a, const cJSON *b)
{
    if ((a->type & 0xff) != (b->type & 0xff))
        return false;
    if (cJSON_IsNumber(a))
        return numbers_agree(b->string, a->valuedouble, b->valuedouble);
    return !cJSON_IsString(a) || strcmp(a->valuestring, b->valuestring) == 0;
}

/* The thing that an object of a receipt is about. */
static const char *subject_of(const cJSON *object)
{
    static const char *const keys[] = {"tensor", "target", "name"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, keys[i]);
        if (cJSON_IsString(value))
            return value->valuestring;
    }
    return NULL;
}

static lorafmt_status compare_value(walk *w, const cJSON *recorded, const cJSON *replayed);

static lorafmt_status compare_object(walk *w, const cJSON *recorded, const cJSON *replayed)
{
    const size_t n = strlen(w->path);
    const char *outer = w->of, *subject = subject_of(recorded);

    w->of = subject ? subject : outer;
    for (const cJSON *member = replayed->child; member; member = member->next) {
        const cJSON *there = cJSON_GetObjectItemCaseSensitive(recorded, member->string);
        snprintf(w->path + n, sizeof w->path - n, "%s%s", n ? "." : "", member->string);
        if (!there)
            return differs(w, NULL, member);
        LF_TRY(compare_value(w, there, member));
        w->path[n] = '\0';
    }
    w->of = outer;
    return LORAFMT_OK;
}

static lorafmt_status compare_array(walk *w, const cJSON *recorded, const cJSON *replayed)
{
    const size_t n = strlen(w->path);
    const cJSON *there = recorded->child;
    size_t i = 0;

    if (cJSON_GetArraySize(recorded) != cJSON_GetArraySize(replayed))
        return differs(w, recorded, replayed);
    for (const cJSON *item = replayed->child; item; item = item->next, there = there->next) {
        snprintf(w->path + n, sizeof w->path - n, "[%zu]", i++);
        LF_TRY(compare_value(w, there, item));
        w->path[n] = '\0';
    }
    return LORAFMT_OK;
}

/* The parser bounds the depth. */
static lorafmt_status compare_value(walk *w, const cJSON *recorded, const cJSON *replayed)
{
    if (cJSON_IsObject(recorded) && cJSON_IsObject(replayed))
        return compare_object(w, recorded, replayed);
    if (cJSON_IsArray(recorded) && cJSON_IsArray(replayed))
        return compare_array(w, recorded, replayed);
    return scalars_agree(recorded, replayed) ? LORAFMT_OK : differs(w, recorded, replayed);
}

lorafmt_status lorafmt_receipt_compare(const lorafmt_receipt *receipt, const char *replayed, size_t size, lorafmt_error *err)
{
    walk w = {.err = err};
    cJSON *json;
    lorafmt_status st = lf_json_parse(replayed, size, 0, &json, err);

    if (st)
        return st == LORAFMT_CORRUPT ? lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "the replay is no JSON") : st;
    st = compare_value(&w, receipt->json, json);
    cJSON_Delete(json);
    return st;
}
