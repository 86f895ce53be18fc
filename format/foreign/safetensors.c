/* SPDX-License-Identifier: MIT */
#include "format/foreign/safetensors.h"

#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/recognise.h"
#include "format/base/text.h"
#include "format/foreign/json.h"
#include "format/foreign/json_scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define METADATA "__metadata__"

/* "{}" */
#define MIN_HEADER 2

/* "a":{"dtype":"","shape":[],"data_offsets":[]} */
#define MIN_ENTRY 45

lorafmt_status lf_safetensors_header_size(const uint8_t *head, size_t head_size, uint64_t file_size, uint64_t *out,
                                          lorafmt_error *err)
{
    const char *what = lf_recognise(head, head_size, LF_FILE_SAFETENSORS);
    uint64_t size;

    *out = 0;
    if (what)
        return lf_fail(err, LORAFMT_NOT_LORAFMT, 0, NULL, "this is %s", what);
    if (head_size < 8 || file_size < 8)
        return lf_fail(err, LORAFMT_CORRUPT, head_size, "header_size", "the file has %zu bytes, the size of its header takes 8",
                       head_size);
    if (head_size > 8 && head[8] != '{')
        return lf_fail(err, LORAFMT_NOT_LORAFMT, 8, NULL,
                       "not a safetensors file: byte 0x%02x where its JSON header begins with '{'", head[8]);
    size = lf_load_u64le(head);
    if (size > file_size - 8)
        return lf_fail(err, LORAFMT_CORRUPT, 0, "header_size", "a header of %" PRIu64 " bytes, the file has %" PRIu64 " after it",
                       size, file_size - 8);
    if (size > LF_SAFETENSORS_MAX_HEADER)
        return lf_fail(err, LORAFMT_LIMIT, 0, "header_size", "a header of %" PRIu64 " bytes, at most %" PRIu64 " are read", size,
                       LF_SAFETENSORS_MAX_HEADER);
    if (size < MIN_HEADER)
        return lf_fail(err, LORAFMT_CORRUPT, 0, "header_size", "a header of %" PRIu64 " bytes, must be at least %d", size,
                       MIN_HEADER);
    *out = size;
    return LORAFMT_OK;
}

/* Failures of one entry of the header get their offset in decode_header(). */
static lorafmt_status decode_dtype(const cJSON *value, lf_safetensors_tensor *t, lorafmt_error *err)
{
    if (!cJSON_IsString(value))
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "dtype must be a string");
    t->dtype = lorafmt_dtype_from_name(value->valuestring);
    if (!t->dtype)
        return lf_fail(err, LORAFMT_UNSUPPORTED, 0, t->name, "dtype \"%.40s\" is not known", value->valuestring);
    return LORAFMT_OK;
}

/* The parser let only whole numbers through, which a double holds. */
static lorafmt_status decode_numbers(const cJSON *value, uint64_t *numbers, uint32_t max, uint32_t *n, const char *name,
                                     lorafmt_error *err)
{
    *n = 0;
    if (!cJSON_IsArray(value))
        return lf_fail(err, LORAFMT_CORRUPT, 0, name, "%s must be an array of numbers", value->string);
    for (const cJSON *item = value->child; item; item = item->next) {
        if (!cJSON_IsNumber(item))
            return lf_fail(err, LORAFMT_CORRUPT, 0, name, "%s must be an array of numbers", value->string);
        if (*n == max)
            return lf_fail(err, LORAFMT_LIMIT, 0, name, "%s has more than %" PRIu32 " numbers", value->string, max);
        numbers[(*n)++] = (uint64_t)item->valuedouble;
    }
    return LORAFMT_OK;
}

/* t->offset and t->size, both still within the data. */
static lorafmt_status decode_data_offsets(const cJSON *value, lf_safetensors_tensor *t, lorafmt_error *err)
{
    uint64_t range[2];
    uint32_t n;

    LF_TRY(decode_numbers(value, range, 2, &n, t->name, err));
    if (n != 2)
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "data_offsets has %" PRIu32 " numbers, must have 2", n);
    if (range[0] > range[1])
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "data_offsets end at %" PRIu64 ", before they begin at %" PRIu64,
                       range[1], range[0]);
    t->offset = range[0];
    t->size = range[1] - range[0];
    return LORAFMT_OK;
}

/* dtype, shape and data_offsets, each once (the parser refused doubles), and nothing else. */
static lorafmt_status decode_members(const cJSON *entry, lf_safetensors_tensor *t, lorafmt_error *err)
{
    const cJSON *dtype = NULL, *shape = NULL, *data_offsets = NULL;

    for (const cJSON *member = entry->child; member; member = member->next) {
        if (strcmp(member->string, "dtype") == 0)
            dtype = member;
        else if (strcmp(member->string, "shape") == 0)
            shape = member;
        else if (strcmp(member->string, "data_offsets") == 0)
            data_offsets = member;
        else
            return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "unknown member \"%.80s\", allowed are dtype, shape, data_offsets",
                           member->string);
    }
    if (!dtype || !shape || !data_offsets)
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "%s is missing", !dtype ? "dtype" : !shape ? "shape" : "data_offsets");
    LF_TRY(decode_dtype(dtype, t, err));
    LF_TRY(decode_numbers(shape, t->shape, LORAFMT_MAX_DIMS, &t->n_dims, t->name, err));
    return decode_data_offsets(data_offsets, t, err);
}

static lorafmt_status decode_tensor(const cJSON *entry, lf_safetensors_tensor *t, lorafmt_error *err)
{
    char shape[LF_SHAPE_TEXT];
    uint64_t size;

    if (!*t->name || !lf_name_valid(t->name, strlen(t->name)))
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name,
                       "a tensor name must have 1 .. %d bytes and no control characters, this one has %zu bytes", LF_MAX_NAME,
                       strlen(t->name));
    if (!cJSON_IsObject(entry))
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "must be an object with dtype, shape and data_offsets");
    LF_TRY(decode_members(entry, t, err));
    lf_shape_text(t->n_dims, t->shape, shape);
    if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &size))
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "shape %s of %s is beyond 2^46 bytes or no whole number of bytes", shape,
                       lorafmt_dtype_name(t->dtype));
    if (size != t->size)
        return lf_fail(err, LORAFMT_CORRUPT, 0, t->name, "shape %s of %s needs %" PRIu64 " bytes, data_offsets give %" PRIu64,
                       shape, lorafmt_dtype_name(t->dtype), size, t->size);
    return LORAFMT_OK;
}

static lorafmt_status decode_metadata(const cJSON *object, lf_safetensors *table, lorafmt_error *err)
{
    if (!cJSON_IsObject(object))
        return lf_fail(err, LORAFMT_CORRUPT, 0, METADATA, "must be an object of strings");
    for (const cJSON *member = object->child; member; member = member->next)
        table->n_metadata++;
    table->metadata = lf_arena_alloc(&table->arena, table->n_metadata, sizeof *table->metadata);
    if (!table->metadata)
        return lf_no_memory(err);
    table->n_metadata = 0;
    for (const cJSON *member = object->child; member; member = member->next) {
        lf_safetensors_pair *pair = &table->metadata[table->n_metadata++];
        if (!cJSON_IsString(member))
            return lf_fail(err, LORAFMT_CORRUPT, 0, METADATA, "\"%.80s\" must be a string", member->string);
        pair->key = lf_arena_strdup(&table->arena, member->string);
        pair->value = lf_arena_strdup(&table->arena, member->valuestring);
        if (!pair->key || !pair->value)
            return lf_no_memory(err);
    }
    return LORAFMT_OK;
}

static lorafmt_status twice(const char *name, uint64_t key_offset, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_CORRUPT, key_offset, name, "this key is twice in one object");
}

/* One member of the header; offsets of tensors become offsets in the file. */
static lorafmt_status decode_entry(const char *name, uint64_t key_offset, const cJSON *value, lf_safetensors *table,
                                   lorafmt_error *err)
{
    lf_safetensors_tensor *t;

    if (strcmp(name, METADATA) == 0)
        return table->metadata ? twice(name, key_offset, err) : decode_metadata(value, table, err);
    t = &table->tensors[table->n_tensors++];
    t->key_offset = key_offset;
    t->name = lf_arena_strdup(&table->arena, name);
    if (!t->name)
        return lf_no_memory(err);
    LF_TRY(decode_tensor(value, t, err));
    t->offset += table->data_offset; // at most 2^53 + 8 + LF_SAFETENSORS_MAX_HEADER
    return LORAFMT_OK;
}

/* A part of the header as a tree, so that there never is one of the whole. */
static lorafmt_status parse_span(const char *text, lf_json_span span, cJSON **out, lorafmt_error *err)
{
    const lorafmt_status st = lf_json_parse(text + span.begin, span.end - span.begin, LF_JSON_WHOLE_NUMBERS, out, err);

    if (st && err && err->offset != LORAFMT_NO_OFFSET)
        err->offset += 8 + span.begin;
    return st;
}

static lorafmt_status decode_member(const char *text, const lf_json_member *member, lf_safetensors *table, lorafmt_error *err)
{
    cJSON *key = NULL, *value = NULL;
    lorafmt_status st = parse_span(text, member->key, &key, err);

    if (!st)
        st = parse_span(text, member->value, &value, err);
    if (!st) {
        st = decode_entry(key->valuestring, 8 + member->key.begin, value, table, err);
        if (st && st != LORAFMT_NO_MEMORY && err)
            err->offset = 8 + member->key.begin;
    }
    cJSON_Delete(value);
    cJSON_Delete(key);
    return st;
}

static int by_place(const void *a, const void *b)
{
    const lf_safetensors_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The tensors, in order of offset, cover the data without holes and overlaps. */
static lorafmt_status check_layout(const lf_safetensors *table, lorafmt_error *err)
{
    uint64_t at = table->data_offset;

    for (size_t i = 0; i < table->n_tensors; i++) {
        const lf_safetensors_tensor *t = &table->tensors[i];
        if (t->offset > at)
            return lf_fail(err, LORAFMT_CORRUPT, at, t->name, "the %" PRIu64 " bytes before it belong to no tensor",
                           t->offset - at);
        if (t->offset < at)
            return lf_fail(err, LORAFMT_CORRUPT, t->offset, t->name, "overlaps \"%.200s\" by %" PRIu64 " bytes", t[-1].name,
                           at - t->offset);
        at += t->size;
        if (at > table->file_size)
            return lf_fail(err, LORAFMT_CORRUPT, table->file_size, t->name,
                           "its data end at %" PRIu64 ", the file at %" PRIu64 ": it was cut short", at, table->file_size);
    }
    if (at < table->file_size)
        return lf_fail(err, LORAFMT_CORRUPT, at, NULL, "the last %" PRIu64 " bytes of the file belong to no tensor",
                       table->file_size - at);
    return LORAFMT_OK;
}

static int by_name(const void *a, const void *b)
{
    const lf_safetensors_tensor *const *x = a, *const *y = b;
    const int order = strcmp((*x)->name, (*y)->name);

    return order ? order : (*x)->key_offset < (*y)->key_offset ? -1 : 1;
}

/* Each name is there once. */
static lorafmt_status check_names(const lf_safetensors *table, lorafmt_error *err)
{
    const size_t n = table->n_tensors;
    const lf_safetensors_tensor **sorted = calloc(n + 1, sizeof *sorted);
    lorafmt_status st = LORAFMT_OK;

    if (!sorted)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &table->tensors[i];
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 1; i < n && !st; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            st = twice(sorted[i]->name, sorted[i]->key_offset, err);
    free(sorted);
    return st;
}

/* Room for the tensors of a header: what is not a tensor's entry ends the decoding, and one takes MIN_ENTRY bytes. */
static lorafmt_status reserve(lf_json_scan scan, lf_safetensors *table, lorafmt_error *err)
{
    const size_t most = scan.size / MIN_ENTRY + 1;
    lf_json_member member;
    size_t n = 0;

    while (n < most && lf_json_next_member(&scan, &member))
        n++;
    table->tensors = lf_arena_alloc(&table->arena, n, sizeof *table->tensors);
    return table->tensors ? LORAFMT_OK : lf_no_memory(err);
}

/* The text was checked. */
static lorafmt_status decode_header(const char *text, size_t size, lf_safetensors *table, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size};
    lf_json_member member;

    LF_TRY(reserve(scan, table, err));
    while (lf_json_next_member(&scan, &member))
        LF_TRY(decode_member(text, &member, table, err));
    LF_TRY(check_names(table, err));
    if (table->n_tensors > 1)
        qsort(table->tensors, table->n_tensors, sizeof *table->tensors, by_place);
    return check_layout(table, err);
}

/* As JSON of whole numbers; the tree that its parts become is bounded part by part. */
static lorafmt_status check_text(const char *text, size_t size, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size, .flags = LF_JSON_WHOLE_NUMBERS, .err = err};
    const lorafmt_status st = lf_json_scan_text(&scan);

    if (st && err && err->offset != LORAFMT_NO_OFFSET)
        err->offset += 8;
    return st;
}

lorafmt_status lf_safetensors_parse(const uint8_t *header, uint64_t header_size, uint64_t file_size, lf_safetensors **out,
                                    lorafmt_error *err)
{
    const char *text = (const char *)header;
    const size_t size = (size_t)header_size;
    lf_safetensors *table;
    lorafmt_status st;

    *out = NULL;
    if (header_size > LF_SAFETENSORS_MAX_HEADER || file_size < 8 || header_size > file_size - 8)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "header_size", "must be what lf_safetensors_header_size() said");
    if (size == 0 || text[0] != '{')
        return lf_fail(err, LORAFMT_CORRUPT, 8, NULL, "the header must begin with '{'");
    LF_TRY(check_text(text, size, err));
    table = calloc(1, sizeof *table);
    if (!table)
        return lf_no_memory(err);
    table->data_offset = 8 + header_size;
    table->file_size = file_size;
    st = decode_header(text, size, table, err);
    if (st == LORAFMT_OK)
        *out = table;
    else
        lf_safetensors_free(table);
    return st;
}

void lf_safetensors_free(lf_safetensors *table)
{
    if (!table)
        return;
    lf_arena_free(&table->arena);
    free(table);
}

const char *lf_safetensors_metadata(const lf_safetensors *table, const char *key)
{
    for (size_t i = 0; i < table->n_metadata; i++)
        if (strcmp(table->metadata[i].key, key) == 0)
            return table->metadata[i].value;
    return NULL;
}
