/* SPDX-License-Identifier: MIT */
#include "format/foreign/shard_index.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "format/foreign/json.h"
#include "format/foreign/json_scan.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_tensor(const void *a, const void *b)
{
    const lf_shard_entry *x = a, *y = b;
    return strcmp(x->tensor, y->tensor);
}

static int by_file(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* A shard lies beside the index, so its name must not lead anywhere else. */
static bool is_shard_name(const char *s)
{
    return lf_name_valid(s, strlen(s)) && strlen(s) > strlen(".safetensors") && lf_ends_with(s, ".safetensors") &&
           !strpbrk(s, "/\\") && !strstr(s, "..");
}

static lorafmt_status decode_entry(const cJSON *member, lf_shard_index *index, lorafmt_error *err)
{
    lf_shard_entry *entry = &index->entries[index->n_entries++];
    const char *name = member->string;

    if (!*name || !lf_name_valid(name, strlen(name)))
        return lf_fail(err, LORAFMT_CORRUPT, 0, name,
                       "a tensor name must have 1 .. %d bytes and no control characters, this one has %zu bytes", LF_MAX_NAME,
                       strlen(name));
    if (!cJSON_IsString(member))
        return lf_fail(err, LORAFMT_CORRUPT, 0, name, "must be the name of a file");
    if (!is_shard_name(member->valuestring))
        return lf_fail(err, LORAFMT_CORRUPT, 0, name, "file \"%.300s\", must be a plain name that ends in .safetensors",
                       member->valuestring);
    entry->tensor = lf_arena_strdup(&index->arena, name);
    entry->file = lf_arena_strdup(&index->arena, member->valuestring);
    return entry->tensor && entry->file ? LORAFMT_OK : lf_no_memory(err);
}

/* Each file once. */
static void collect_files(lf_shard_index *index)
{
    size_t n = 0;

    for (size_t i = 0; i < index->n_entries; i++)
        index->files[i] = index->entries[i].file;
    qsort(index->files, index->n_entries, sizeof *index->files, by_file);
    for (size_t i = 0; i < index->n_entries; i++)
        if (n == 0 || strcmp(index->files[n - 1], index->files[i]) != 0)
            index->files[n++] = index->files[i];
    index->n_files = n;
}

static lorafmt_status decode_index(const char *text, size_t size, const cJSON *root, lf_shard_index *index, lorafmt_error *err)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(root, "weight_map");
    size_t n = 0;

    if (!cJSON_IsObject(map) || !map->child)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "weight_map", "must be an object that names at least one tensor");
    for (const cJSON *member = map->child; member; member = member->next)
        n++;
    index->entries = lf_arena_alloc(&index->arena, n, sizeof *index->entries);
    index->files = lf_arena_alloc(&index->arena, n, sizeof *index->files);
    if (!index->entries || !index->files)
        return lf_no_memory(err);
    for (const cJSON *member = map->child; member; member = member->next) {
        const lorafmt_status st = decode_entry(member, index, err);
        if (st == LORAFMT_CORRUPT && err)
            err->offset = lf_json_key_offset(text, size, root, member);
        LF_TRY(st);
    }
    qsort(index->entries, n, sizeof *index->entries, by_tensor);
    collect_files(index);
    return LORAFMT_OK;
}

lorafmt_status lf_shard_index_parse(const char *text, size_t size, lf_shard_index **out, lorafmt_error *err)
{
    lf_shard_index *index;
    lorafmt_status st;
    cJSON *root;

    *out = NULL;
    LF_TRY(lf_json_parse(text, size, 0, &root, err));
    index = calloc(1, sizeof *index);
    st = index ? decode_index(text, size, root, index, err) : lf_no_memory(err);
    cJSON_Delete(root);
    if (st == LORAFMT_OK)
        *out = index;
    else
        lf_shard_index_free(index);
    return st;
}

void lf_shard_index_free(lf_shard_index *index)
{
    if (!index)
        return;
    lf_arena_free(&index->arena);
    free(index);
}

/* Put entries behind the last one of the weight_map, which is not empty, laid out as its first one. */
static lorafmt_status add_entries(const char *text, size_t size, const lf_shard_entry *added, size_t n_added, char **out,
                                  size_t *out_size, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size};
    lf_text_buffer entries = {0};
    lf_json_member map;
    lorafmt_status st;
    size_t end;
    bool found;

    lf_json_scan_space(&scan);
    LF_TRY(lf_json_find_member(text, size, scan.at, "weight_map", &map, &found, err));
    scan.at = map.value.begin + 1;
    lf_json_scan_space(&scan);
    for (size_t i = 0; i < n_added; i++) {
        lf_text_add_bytes(&entries, ",", 1);
        lf_text_add_bytes(&entries, text + map.value.begin + 1, scan.at - map.value.begin - 1);
        lf_text_add_json_string(&entries, added[i].tensor);
        lf_text_add(&entries, ": ");
        lf_text_add_json_string(&entries, added[i].file);
    }
    for (end = map.value.end - 1; strchr(" \t\r\n", text[end - 1]); end--)
        ;
    if (entries.failed)
        st = lf_no_memory(err);
    else
        st = lf_json_splice(text, size, (lf_json_span){end, end}, entries.text ? entries.text : "", out, out_size, err);
    lf_text_free(&entries);
    return st;
}

/* Is there a metadata.total_size, in a text that was checked? */
static lorafmt_status has_total_size(const char *text, size_t size, bool *has, lorafmt_error *err)
{
    lf_json_scan scan = {.text = text, .size = size};
    lf_json_member member;

    lf_json_scan_space(&scan);
    LF_TRY(lf_json_find_member(text, size, scan.at, "metadata", &member, has, err));
    if (*has && text[member.value.begin] == '{')
        return lf_json_find_member(text, size, member.value.begin, "total_size", &member, has, err);
    *has = false;
    return LORAFMT_OK;
}

static lorafmt_status set_total_size(char **text, size_t *size, uint64_t total_size, lorafmt_error *err)
{
    char number[24], *old = *text;
    const size_t old_size = *size;
    lorafmt_status st;
    bool has;

    LF_TRY(has_total_size(old, old_size, &has, err));
    if (!has)
        return LORAFMT_OK;
    snprintf(number, sizeof number, "%" PRIu64, total_size);
    st = lf_json_set_member(old, old_size, "metadata.total_size", number, text, size, err);
    free(old);
    return st;
}

/* What comes out must be an index again: it is not when a tensor was there already, or a name is none. */
static lorafmt_status check_extended(const char *text, size_t size, lorafmt_error *err)
{
    lf_shard_index *index;
    const lorafmt_status st = lf_shard_index_parse(text, size, &index, err);

    lf_shard_index_free(index);
    if (st == LORAFMT_CORRUPT && err)
        err->status = LORAFMT_MISUSE;
    return st == LORAFMT_CORRUPT ? LORAFMT_MISUSE : st;
}

lorafmt_status lf_shard_index_extend(const char *text, size_t size, const lf_shard_entry *added, size_t n_added,
                                     uint64_t total_size, char **out, size_t *out_size, lorafmt_error *err)
{
    lf_shard_index *index;
    lorafmt_status st;

    *out = NULL;
    *out_size = 0;
    LF_TRY(lf_shard_index_parse(text, size, &index, err));
    lf_shard_index_free(index);
    LF_TRY(add_entries(text, size, added, n_added, out, out_size, err));
    st = check_extended(*out, *out_size, err);
    if (st == LORAFMT_OK)
        st = set_total_size(out, out_size, total_size, err);
    if (st != LORAFMT_OK) {
        free(*out);
        *out = NULL;
        *out_size = 0;
    }
    return st;
}
