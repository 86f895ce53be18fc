/* SPDX-License-Identifier: MIT */
#include "format/foreign/json.h"

#include "format/base/error.h"
#include "format/base/recognise.h"
#include "format/foreign/json_scan.h"

#include <stdlib.h>
#include <string.h>

/* The members of one object at a time, sorted by key. */
typedef struct members {
    const cJSON **member;
    size_t capacity;
} members;

static int by_key(const void *a, const void *b)
{
    const cJSON *const *x = a, *const *y = b;
    return strcmp((*x)->string, (*y)->string);
}

static bool members_reserve(members *m, size_t n)
{
    const cJSON **grown;

    if (n <= m->capacity)
        return true;
    grown = realloc(m->member, 2 * n * sizeof *grown); // 2n: fewer steps; n is less than the size of the text
    if (!grown)
        return false;
    m->member = grown;
    m->capacity = 2 * n;
    return true;
}

/* The second member of that key. */
static const cJSON *second_of(const cJSON *object, const char *key)
{
    const cJSON *member = object->child;

    while (strcmp(member->string, key) != 0)
        member = member->next;
    do
        member = member->next;
    while (strcmp(member->string, key) != 0);
    return member;
}

/* *twice is the second member of a key that an object has twice; NULL when there is none. false: out of memory. */
static bool find_twice(const cJSON *value, members *scratch, const cJSON **twice)
{
    size_t n = 0;

    for (const cJSON *child = value->child; child; child = child->next)
        n++;
    if (cJSON_IsObject(value) && n > 1) {
        size_t i = 0;
        if (!members_reserve(scratch, n))
            return false;
        for (const cJSON *child = value->child; child; child = child->next)
            scratch->member[i++] = child;
        qsort(scratch->member, n, sizeof *scratch->member, by_key);
        for (i = 1; i < n; i++)
            if (strcmp(scratch->member[i - 1]->string, scratch->member[i]->string) == 0) {
                *twice = second_of(value, scratch->member[i]->string);
                return true;
            }
    }
    for (const cJSON *child = value->child; child; child = child->next)
        if (!find_twice(child, scratch, twice) || *twice)
            return *twice != NULL;
    return true;
}

/* Adds to *n the keys before that of the member, in the order of the text. */
static bool count_keys(const cJSON *value, const cJSON *member, size_t *n)
{
    for (const cJSON *child = value->child; child; child = child->next) {
        if (child == member)
            return true;
        if (child->string)
            (*n)++;
        if (count_keys(child, member, n))
            return true;
    }
    return false;
}

uint64_t lf_json_key_offset(const char *text, size_t size, const cJSON *root, const cJSON *member)
{
    lf_json_scan scan = {.text = text, .size = size, .flags = LF_JSON_NONFINITE};

    count_keys(root, member, &scan.wanted_key);
    return lf_json_scan_text(&scan) == LORAFMT_OK ? scan.wanted_at : 0;
}

static lorafmt_status refuse_twice(const char *text, size_t size, const cJSON *root, lorafmt_error *err)
{
    members scratch = {0};
    const cJSON *twice = NULL;
    const bool done = find_twice(root, &scratch, &twice);

    free(scratch.member);
    if (!done)
        return lf_no_memory(err);
    if (twice)
        return lf_fail(err, LORAFMT_CORRUPT, lf_json_key_offset(text, size, root, twice), twice->string,
                       "this key is twice in one object");
    return LORAFMT_OK;
}

static lorafmt_status parse_scanned(lf_json_scan *scan, cJSON **out, lorafmt_error *err)
{
    const char *text = scan->copy ? scan->copy : scan->text;
    const size_t size = scan->size;
    cJSON *root;
    lorafmt_status st;

    LF_TRY(lf_json_scan_text(scan));
    root = cJSON_ParseWithLength(text, size);
    if (!root) // it takes everything that the scan lets through
        return lf_no_memory(err);
    st = refuse_twice(text, size, root, err);
    if (st == LORAFMT_OK)
        *out = root;
    else
        cJSON_Delete(root);
    return st;
}

static lorafmt_status refuse_other(const char *text, size_t size, lorafmt_error *err)
{
    const char *what = lf_recognise((const uint8_t *)text, size, LF_FILE_JSON);

    return what ? lf_fail(err, LORAFMT_NOT_LORAFMT, 0, NULL, "this is %s", what) : LORAFMT_OK;
}

lorafmt_status lf_json_check(const char *text, size_t size, unsigned max_depth, size_t max_values, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size, .max_depth = max_depth, .max_values = max_values, .err = err};

    LF_TRY(refuse_other(text, size, err));
    return lf_json_scan_text(&scan);
}

lorafmt_status lf_json_parse(const char *text, size_t size, unsigned flags, cJSON **out, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text,
                         .size = size,
                         .flags = flags,
                         .max_values = LF_JSON_FREE_VALUES + size / LF_JSON_BYTES_PER_VALUE,
                         .err = err};
    lorafmt_status st;

    *out = NULL;
    LF_TRY(refuse_other(text, size, err));
    if (flags & LF_JSON_NONFINITE) {
        scan.copy = malloc(size ? size : 1);
        if (!scan.copy)
            return lf_no_memory(err);
        memcpy(scan.copy, text, size);
    }
    st = parse_scanned(&scan, out, err);
    free(scan.copy);
    return st;
}
