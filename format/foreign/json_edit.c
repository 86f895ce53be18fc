/* SPDX-License-Identifier: MIT */
#include "format/base/arena.h"
#include "format/base/error.h"
#include "format/foreign/json.h"
#include "format/foreign/json_scan.h"

#include <string.h>

/* Does the key in that span say `key`? It may be spelled with escapes. */
static lorafmt_status key_is(const char *text, lf_json_span span, const char *key, bool *is, lorafmt_error *err)
{
    const size_t n = span.end - span.begin;
    cJSON *string;

    if (!memchr(text + span.begin, '\\', n)) {
        *is = n - 2 == strlen(key) && memcmp(text + span.begin + 1, key, n - 2) == 0;
        return LORAFMT_OK;
    }
    string = cJSON_ParseWithLength(text + span.begin, n);
    if (!string)
        return lf_no_memory(err);
    *is = strcmp(string->valuestring, key) == 0;
    cJSON_Delete(string);
    return LORAFMT_OK;
}

lorafmt_status lf_json_find_member(const char *text, size_t size, size_t at, const char *key, lf_json_member *out, bool *found,
                                   lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size, .at = at, .flags = LF_JSON_NONFINITE};

    *found = false;
    while (!*found && lf_json_next_member(&scan, out))
        LF_TRY(key_is(text, out->key, key, found, err));
    return LORAFMT_OK;
}

lorafmt_status lf_json_splice(const char *text, size_t size, lf_json_span span, const char *replacement, char **out,
                              size_t *out_size, lorafmt_error *err)
{
    lf_text_buffer buffer = {0};

    lf_text_add_bytes(&buffer, text, span.begin);
    lf_text_add_bytes(&buffer, replacement, strlen(replacement));
    lf_text_add_bytes(&buffer, text + span.end, size - span.end);
    *out = NULL;
    *out_size = 0;
    if (buffer.failed) {
        lf_text_free(&buffer);
        return lf_no_memory(err);
    }
    *out = buffer.text;
    *out_size = buffer.size;
    return LORAFMT_OK;
}

/* Put a member first into the object at text[at], in the way the object lays out the member that was first. */
static lorafmt_status insert_member(const char *text, size_t size, size_t at, const char *key, const char *value_text, char **out,
                                    size_t *out_size, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size, .at = at + 1};
    lf_text_buffer member = {0};
    lorafmt_status st;

    lf_json_scan_space(&scan);
    if (text[scan.at] != '}')
        lf_text_add_bytes(&member, text + at + 1, scan.at - at - 1);
    lf_text_add_json_string(&member, key);
    lf_text_add(&member, ": %s%s", value_text, text[scan.at] == '}' ? "" : ",");
    if (member.failed)
        st = lf_no_memory(err);
    else
        st = lf_json_splice(text, size, (lf_json_span){at + 1, at + 1}, member.text, out, out_size, err);
    lf_text_free(&member);
    return st;
}

static lorafmt_status set_in_object(const char *text, size_t size, size_t at, const char *key, const char *value_text, char **out,
                                    size_t *out_size, lorafmt_error *err)
{
    lf_json_member member;
    bool found;

    LF_TRY(lf_json_find_member(text, size, at, key, &member, &found, err));
    if (found)
        return lf_json_splice(text, size, member.value, value_text, out, out_size, err);
    return insert_member(text, size, at, key, value_text, out, out_size, err);
}

/* The member `inner` of the object that is the member `outer`. */
static lorafmt_status set_inner(const char *text, size_t size, size_t at, const char *outer, const char *inner,
                                const char *value_text, char **out, size_t *out_size, lorafmt_error *err)
{
    lf_text_buffer object = {0};
    lf_json_member member;
    lorafmt_status st;
    bool found;

    LF_TRY(lf_json_find_member(text, size, at, outer, &member, &found, err));
    if (found && text[member.value.begin] != '{')
        return lf_fail(err, LORAFMT_CORRUPT, member.value.begin, outer, "must be an object");
    if (found)
        return set_in_object(text, size, member.value.begin, inner, value_text, out, out_size, err);
    lf_text_add(&object, "{");
    lf_text_add_json_string(&object, inner);
    lf_text_add(&object, ": %s}", value_text);
    st = object.failed ? lf_no_memory(err) : insert_member(text, size, at, outer, object.text, out, out_size, err);
    lf_text_free(&object);
    return st;
}

/* Where the object begins that the whole text must be. */
static lorafmt_status check_object(const char *text, size_t size, size_t *at, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size};
    cJSON *root;

    LF_TRY(lf_json_parse(text, size, LF_JSON_NONFINITE, &root, err));
    cJSON_Delete(root);
    lf_json_scan_space(&scan);
    *at = scan.at;
    return text[*at] == '{' ? LORAFMT_OK : lf_fail(err, LORAFMT_CORRUPT, *at, NULL, "must be an object");
}

lorafmt_status lf_json_set_member(const char *text, size_t size, const char *path, const char *value_text, char **out,
                                  size_t *out_size, lorafmt_error *err)
{
    lf_json_scan value = {.text = value_text, .size = strlen(value_text)};
    const char *dot = strchr(path, '.');
    lf_arena arena = {0};
    const char *outer;
    lorafmt_status st;
    size_t at;

    *out = NULL;
    *out_size = 0;
    if (lf_json_scan_text(&value))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, path, "the new value is not JSON");
    LF_TRY(check_object(text, size, &at, err));
    if (!dot)
        return set_in_object(text, size, at, path, value_text, out, out_size, err);
    outer = lf_arena_strndup(&arena, path, (size_t)(dot - path));
    if (!outer)
        return lf_no_memory(err);
    st = set_inner(text, size, at, outer, dot + 1, value_text, out, out_size, err);
    lf_arena_free(&arena);
    return st;
}
