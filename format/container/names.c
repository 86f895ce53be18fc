/* SPDX-License-Identifier: MIT */
/* spec 4.2: the name pool */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *pool_bytes(const lf_container *c)
{
    return (const char *)c->index + c->sections[LF_NAMES].offset;
}

static lorafmt_status outside_pool(const lf_record *r, unsigned at, const char *field, uint32_t offset, lorafmt_error *err)
{
    return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "string at %" PRIu32 ", the name pool has %zu bytes", offset,
                          r->container->sections[LF_NAMES].n_records);
}

/* The offset at byte `at`, which must be the first byte of a string. */
static lorafmt_status string_offset(const lf_record *r, unsigned at, const char *field, uint32_t *out, lorafmt_error *err)
{
    const char *pool = pool_bytes(r->container);
    const size_t pool_size = r->container->sections[LF_NAMES].n_records;
    const uint32_t offset = lf_load_u32le(r->p + at);

    if (offset >= pool_size)
        return outside_pool(r, at, field, offset, err);
    // The only empty string is the first one.
    if (offset ? pool[offset - 1] != '\0' || pool[offset] == '\0' : pool[0] != '\0')
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "no string starts at %" PRIu32 " of the name pool", offset);
    *out = offset;
    return LORAFMT_OK;
}

/* A string of at most max bytes; looks at no more than that. */
static lorafmt_status string_at(const lf_record *r, unsigned at, const char *field, size_t max, const char **out, size_t *length,
                                lorafmt_error *err)
{
    const size_t pool_size = r->container->sections[LF_NAMES].n_records;
    const char *s, *end;
    uint32_t offset;
    size_t left;

    LF_TRY(string_offset(r, at, field, &offset, err));
    s = pool_bytes(r->container) + offset;
    left = pool_size - offset;
    end = memchr(s, '\0', left > max ? max + 1 : left);
    if (!end && left > max)
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "longer than %zu bytes", max);
    if (!end)
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "runs past the end of the name pool");
    *out = s;
    *length = (size_t)(end - s);
    return LORAFMT_OK;
}

lorafmt_status lf_record_name(const lf_record *r, unsigned at, const char *field, const char **out, lorafmt_error *err)
{
    size_t length;

    LF_TRY(string_at(r, at, field, LF_MAX_NAME, out, &length, err));
    if (!lf_name_valid(*out, length))
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "not UTF-8 without control characters");
    return LORAFMT_OK;
}

lorafmt_status lf_record_name_not_empty(const lf_record *r, unsigned at, const char *field, const char **out, lorafmt_error *err)
{
    LF_TRY(lf_record_name(r, at, field, out, err));
    if (!**out)
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "empty");
    return LORAFMT_OK;
}

lorafmt_status lf_record_value(const lf_record *r, unsigned at, const char *field, const char **out, lorafmt_error *err)
{
    size_t length;

    LF_TRY(string_at(r, at, field, LF_MAX_VALUE, out, &length, err));
    if (!lf_utf8_valid(*out, length))
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "not UTF-8");
    return LORAFMT_OK;
}

lorafmt_status lf_record_compare_name(const lf_record *r, unsigned at, const char *field, const char *name, int *order,
                                      lorafmt_error *err)
{
    const size_t pool_size = r->container->sections[LF_NAMES].n_records;
    const uint32_t offset = lf_load_u32le(r->p + at);

    if (offset >= pool_size)
        return outside_pool(r, at, field, offset, err);
    *order = strncmp(pool_bytes(r->container) + offset, name, pool_size - offset);
    return LORAFMT_OK;
}

static lorafmt_status pool_fail(const lf_container *c, size_t offset, lorafmt_error *err, const char *text)
{
    return lf_fail(err, LORAFMT_CORRUPT, c->root.index_offset + c->sections[LF_NAMES].offset + offset, "names", "%s", text);
}

static size_t last_string(const char *pool, size_t size)
{
    size_t i = size - 1;

    while (i && pool[i - 1] != '\0')
        i--;
    return i;
}

/* Every string of the pool, whether a record names it or not: an ignorable section may. */
lorafmt_status lf_name_pool_check(const lf_container *c, lorafmt_error *err)
{
    const char *pool = pool_bytes(c), *previous = pool;
    const size_t size = c->sections[LF_NAMES].n_records;

    if (pool[0] != '\0')
        return pool_fail(c, 0, err, "the first string must be empty");
    if (pool[size - 1] != '\0')
        return pool_fail(c, last_string(pool, size), err, "the last string must end with a NUL");
    for (size_t i = 1; i < size;) {
        const char *s = pool + i;
        const size_t length = strlen(s);
        if (strcmp(previous, s) >= 0)
            return pool_fail(c, i, err, "strings must be unique and in ascending order");
        if (length > LF_MAX_VALUE)
            return pool_fail(c, i, err, "a string is longer than 1 MiB");
        if (!lf_utf8_valid(s, length))
            return pool_fail(c, i, err, "a string is not UTF-8");
        previous = s;
        i += length + 1;
    }
    return LORAFMT_OK;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

lorafmt_status lf_name_pool_build(lf_name_pool *pool, lf_arena *arena, const char **strings, size_t n, lorafmt_error *err)
{
    qsort(strings, n, sizeof *strings, compare_strings);
    *pool = (lf_name_pool){.strings = strings, .offsets = lf_arena_alloc(arena, n, sizeof *pool->offsets)};
    if (!pool->offsets)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (pool->n && strcmp(strings[pool->n - 1], strings[i]) == 0)
            continue;
        pool->offsets[pool->n] = (uint32_t)pool->size;
        strings[pool->n++] = strings[i];
        pool->size += strlen(strings[i]) + 1;
        if (pool->size > LF_MAX_INDEX_SIZE)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, "names", "all strings together are longer than 2^28 bytes");
    }
    return LORAFMT_OK;
}

uint32_t lf_name_pool_find(const lf_name_pool *pool, const char *string)
{
    const char **found = bsearch(&string, pool->strings, pool->n, sizeof *pool->strings, compare_strings);
    return pool->offsets[found - pool->strings];
}

void lf_name_pool_encode(const lf_name_pool *pool, uint8_t *p)
{
    for (size_t i = 0; i < pool->n; i++)
        memcpy(p + pool->offsets[i], pool->strings[i], strlen(pool->strings[i]) + 1);
}
