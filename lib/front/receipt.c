/* SPDX-License-Identifier: MIT */
#include "lib/front/receipt.h"

#include "format/base/error.h"
#include "lib/io/io.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tensor takes some 1000 bytes and 25 values; the largest model of today has 10^5 of them. */
#define MAX_SIZE (UINT64_C(256) << 20)

static const char *kind_of(const cJSON *value)
{
    return !value                  ? "is missing"
           : cJSON_IsNull(value)   ? "is null"
           : cJSON_IsBool(value)   ? "is true or false"
           : cJSON_IsNumber(value) ? "is a number"
           : cJSON_IsString(value) ? "is a text"
           : cJSON_IsArray(value)  ? "is an array"
                                   : "is an object";
}

static lorafmt_status refuse(const cJSON *value, const char *key, const char *allowed, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, key, "%s, must be %s in the receipt of a merge", kind_of(value),
                   allowed);
}

static lorafmt_status read_flag(const cJSON *object, const char *key, bool *out, lorafmt_error *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);

    if (!cJSON_IsBool(value))
        return refuse(value, key, "true or false", err);
    *out = cJSON_IsTrue(value);
    return LORAFMT_OK;
}

static lorafmt_status read_text(const cJSON *object, const char *key, const char **out, lorafmt_error *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);

    if (!cJSON_IsString(value) && !cJSON_IsNull(value))
        return refuse(value, key, "a text or null", err);
    *out = value->valuestring;
    return LORAFMT_OK;
}

static lorafmt_status read_number(const cJSON *object, const char *key, bool *given, double *out, lorafmt_error *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);

    *given = cJSON_IsNumber(value);
    if (!cJSON_IsNull(value) && !(*given && isfinite(value->valuedouble)))
        return refuse(value, key, "a finite number or null", err);
    *out = *given ? value->valuedouble : 0;
    return LORAFMT_OK;
}

static lorafmt_status read_map(lorafmt_receipt *r, const cJSON *object, lorafmt_error *err)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(object, "map");
    const size_t n = cJSON_IsArray(map) ? (size_t)cJSON_GetArraySize(map) : 0;
    const char **texts = lf_arena_alloc(&r->arena, n, sizeof *texts);

    if (!cJSON_IsArray(map))
        return refuse(map, "map", "an array", err);
    if (!texts)
        return lf_no_memory(err);
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item) || !strchr(item->valuestring, '=') || strcmp(item->valuestring, "=") == 0)
            return refuse(item, "map", "an array of OLD=NEW", err);
        texts[r->options.n_map++] = item->valuestring;
    }
    r->options.map = texts;
    return LORAFMT_OK;
}

static lorafmt_status read_options(lorafmt_receipt *r, lorafmt_error *err)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(r->json, "options");
    const cJSON *digests = cJSON_GetObjectItemCaseSensitive(r->json, "digests");
    lorafmt_receipt_options *o = &r->options;

    LF_TRY(read_flag(r->json, "dry_run", &o->dry_run, err));
    if (!cJSON_IsObject(given))
        return refuse(given, "options", "an object", err);
    LF_TRY(read_map(r, given, err));
    LF_TRY(read_text(given, "orientation", &o->orientation, err));
    LF_TRY(read_flag(given, "any_base", &o->any_base, err));
    LF_TRY(read_flag(given, "allow_unmatched", &o->allow_unmatched, err));
    LF_TRY(read_number(given, "alpha", &o->has_alpha, &o->alpha, err));
    LF_TRY(read_flag(given, "rslora", &o->rslora, err));
    LF_TRY(read_text(given, "experts_orientation", &o->experts_orientation, err));
    if (!cJSON_IsArray(digests) && !cJSON_IsNull(digests))
        return refuse(digests, "digests", "an array or null", err);
    o->has_digests = cJSON_IsArray(digests);
    return LORAFMT_OK;
}

lorafmt_status lf_receipt_parse(const char *text, size_t size, lorafmt_receipt **out, lorafmt_error *err)
{
    lorafmt_receipt *r = calloc(1, sizeof *r);
    lorafmt_status st;

    *out = NULL;
    if (!r)
        return lf_no_memory(err);
    st = lf_json_parse(text, size, 0, &r->json, err);
    if (!st)
        st = read_options(r, err);
    if (!st)
        *out = r;
    else
        lorafmt_receipt_free(r);
    return st;
}

lorafmt_status lorafmt_receipt_open(const char *path, lorafmt_receipt **out, lorafmt_error *err)
{
    lorafmt_status st;
    size_t size;
    char *text;

    *out = NULL;
    LF_TRY(lf_file_load(path, MAX_SIZE, &text, &size, err));
    if ((st = lf_receipt_parse(text, size, out, err)))
        lf_error_set_file(err, path);
    free(text);
    return st;
}

void lorafmt_receipt_free(lorafmt_receipt *receipt)
{
    if (!receipt)
        return;
    cJSON_Delete(receipt->json);
    lf_arena_free(&receipt->arena);
    free(receipt);
}

const lorafmt_receipt_options *lorafmt_receipt_get_options(const lorafmt_receipt *receipt)
{
    return &receipt->options;
}
