/* SPDX-License-Identifier: MIT */
#include "lib/scenario/yaml.h"

#include "format/base/error.h"
#include "format/base/recognise.h"
#include "lib/io/io.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one that is looked at */
    const char *file;
    lf_arena *arena;
    size_t n_nodes, max_nodes;
    unsigned max_depth;
    lorafmt_error *err;
} reader;

/* A place that has no node yet. */
static lk_yaml place(const reader *r, yaml_mark_t mark, const lk_yaml *parent)
{
    return (lk_yaml){.file = r->file, .parent = parent, .line = (uint32_t)mark.line + 1, .column = (uint32_t)mark.column + 1};
}

/* --- bytes --- */

static lorafmt_status fail_character(const char *file, const char *p, size_t n, uint32_t line, uint32_t column,
                                     lorafmt_error *err)
{
    const lk_yaml at = {.file = file, .line = line, .column = column};
    const unsigned char first = (unsigned char)*p;

    if (line == 1 && column == 1 && n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, err, "begins with a byte order mark; save it as UTF-8 without one");
    if (first < 0x80)
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, err, "a control character, 0x%02x, which no text has", first);
    return lk_yaml_fail(
        &at, LORAFMT_CORRUPT, err,
        "0x%02x begins no character that text may have: not UTF-8, or a control character or line break that readers "
        "of YAML differ about",
        first);
}

static lorafmt_status check_characters(const char *bytes, size_t size, const char *file, lorafmt_error *err)
{
    uint32_t line = 1, column = 1;

    for (size_t i = 0; i < size;) {
        const char c = bytes[i];
        const bool space = c == '\n' || c == '\r' || c == '\t';
        const size_t length = space ? 1 : lk_yaml_character(bytes + i, size - i);
        if (!length)
            return fail_character(file, bytes + i, size - i, line, column, err);
        i += length;
        column++;
        if (c == '\n' || (c == '\r' && (i == size || bytes[i] != '\n'))) {
            line++;
            column = 1;
        }
    }
    return LORAFMT_OK;
}

/* --- events --- */

static lorafmt_status fail_syntax(const reader *r)
{
    const lk_yaml at = place(r, r->parser.problem_mark, NULL);
    const char *context = r->parser.context, *problem = r->parser.problem;

    if (r->parser.error == YAML_MEMORY_ERROR)
        return lf_no_memory(r->err);
    if (r->parser.error == YAML_SCANNER_ERROR && *r->parser.buffer.pointer == '\t')
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, r->err, "not YAML: a tab, where lines are indented with spaces");
    return lk_yaml_fail(&at, LORAFMT_CORRUPT, r->err, "not YAML: %s%s%s", context ? context : "", context ? ", " : "",
                        problem ? problem : "it cannot be read");
}

static lorafmt_status next_event(reader *r)
{
    yaml_event_delete(&r->event);
    return yaml_parser_parse(&r->parser, &r->event) ? LORAFMT_OK : fail_syntax(r);
}

/* --- nodes --- */

static lorafmt_status check_properties(const lk_yaml *at, const yaml_char_t *anchor, const yaml_char_t *tag, lorafmt_error *err)
{
    if (anchor)
        return lk_yaml_fail(at, LORAFMT_CORRUPT, err, "an anchor, &%.64s; anchors and aliases are not allowed: write it out",
                            (const char *)anchor);
    if (tag)
        return lk_yaml_fail(at, LORAFMT_CORRUPT, err, "a tag, %.64s; tags are not allowed: quotes make text of anything",
                            (const char *)tag);
    return LORAFMT_OK;
}

static lorafmt_status read_scalar(reader *r, lk_yaml *node)
{
    const char *value = (const char *)r->event.data.scalar.value;
    const size_t n = r->event.data.scalar.length;

    LF_TRY(check_properties(node, r->event.data.scalar.anchor, r->event.data.scalar.tag, r->err));
    if (memchr(value, '\0', n))
        return lk_yaml_fail(node, LORAFMT_CORRUPT, r->err, "has a NUL character, which no text has");
    node->kind = LK_YAML_SCALAR;
    node->plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = lf_arena_strndup(r->arena, value, n);
    return node->text ? LORAFMT_OK : lf_no_memory(r->err);
}

static lorafmt_status read_node(reader *r, const lk_yaml *parent, const lk_yaml *key, size_t index, unsigned depth,
                                lk_yaml **out);

static lorafmt_status read_key(reader *r, const lk_yaml *mapping, lk_yaml **out)
{
    const lk_yaml at = place(r, r->event.start_mark, mapping);
    const char *text;

    if (r->event.type != YAML_SCALAR_EVENT && r->event.type != YAML_ALIAS_EVENT)
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, r->err, "a key must be text");
    LF_TRY(read_node(r, mapping, NULL, mapping->n, 0, out));
    (*out)->key = *out;
    if ((*out)->plain && strcmp((*out)->text, "<<") == 0)
        return lk_yaml_fail(*out, LORAFMT_CORRUPT, r->err, "a merge key; it is not allowed: write out what it stands for");
    return lk_yaml_text(*out, &text, r->err);
}

/* The next value of a sequence, or of a mapping after its key. */
static lorafmt_status read_value(reader *r, const lk_yaml *node, unsigned depth, lk_yaml **out)
{
    lk_yaml *key = NULL;

    if (node->kind == LK_YAML_MAPPING) {
        LF_TRY(read_key(r, node, &key));
        LF_TRY(next_event(r));
    }
    return read_node(r, node, key, node->n, depth, out);
}

/* What follows the start of a sequence or mapping, with the event that ends it. */
static lorafmt_status read_values(reader *r, lk_yaml *node, yaml_event_type_t end, unsigned depth)
{
    lk_yaml **last = &node->next, *first, **value;

    LF_TRY(next_event(r));
    while (r->event.type != end) {
        LF_TRY(read_value(r, node, depth, last));
        last = &(*last)->next;
        node->n++;
        LF_TRY(next_event(r));
    }
    first = node->next;
    node->next = NULL;
    node->value = value = lf_arena_alloc(r->arena, node->n, sizeof *value);
    if (!value)
        return lf_no_memory(r->err);
    for (; first; first = first->next)
        *value++ = first;
    return LORAFMT_OK;
}

static int by_key(const void *a, const void *b)
{
    const lk_yaml *const *x = a, *const *y = b;
    const int order = strcmp((*x)->key->text, (*y)->key->text);

    return order ? order : (*x)->index < (*y)->index ? -1 : 1;
}

/* Of keys that are there twice, the one that comes first in the text. */
static lorafmt_status sort_keys(reader *r, lk_yaml *node)
{
    const lk_yaml **sorted = lf_arena_alloc(r->arena, node->n, sizeof *sorted), *first = NULL, *second = NULL;

    if (!sorted)
        return lf_no_memory(r->err);
    for (size_t i = 0; i < node->n; i++)
        sorted[i] = node->value[i];
    qsort(sorted, node->n, sizeof *sorted, by_key);
    for (size_t i = 1; i < node->n; i++)
        if (strcmp(sorted[i - 1]->key->text, sorted[i]->key->text) == 0 && (!second || sorted[i]->index < second->index)) {
            first = sorted[i - 1];
            second = sorted[i];
        }
    node->by_key = sorted;
    if (second)
        return lk_yaml_fail(second->key, LORAFMT_CORRUPT, r->err, "this key was there already, in line %u", first->key->line);
    return LORAFMT_OK;
}

static lorafmt_status read_collection(reader *r, lk_yaml *node, unsigned depth)
{
    if (depth > r->max_depth)
        return lk_yaml_fail(node, LORAFMT_LIMIT, r->err, "nested more than %u deep", r->max_depth);
    if (r->event.type == YAML_SEQUENCE_START_EVENT) {
        node->kind = LK_YAML_SEQUENCE;
        LF_TRY(check_properties(node, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag, r->err));
        return read_values(r, node, YAML_SEQUENCE_END_EVENT, depth + 1);
    }
    node->kind = LK_YAML_MAPPING;
    LF_TRY(check_properties(node, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag, r->err));
    LF_TRY(read_values(r, node, YAML_MAPPING_END_EVENT, depth + 1));
    return sort_keys(r, node);
}

/* The node that the event begins. */
static lorafmt_status read_node(reader *r, const lk_yaml *parent, const lk_yaml *key, size_t index, unsigned depth, lk_yaml **out)
{
    lk_yaml *node = lf_arena_alloc(r->arena, 1, sizeof *node);

    if (!node)
        return lf_no_memory(r->err);
    *node = place(r, r->event.start_mark, parent);
    node->key = key;
    node->index = index;
    *out = node;
    if (++r->n_nodes > r->max_nodes)
        return lk_yaml_fail(node, LORAFMT_LIMIT, r->err, "more than %zu keys and values", r->max_nodes);
    if (r->event.type == YAML_ALIAS_EVENT)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, r->err, "an alias, *%.64s; anchors and aliases are not allowed: write it out",
                            (const char *)r->event.data.alias.anchor);
    return r->event.type == YAML_SCALAR_EVENT ? read_scalar(r, node) : read_collection(r, node, depth);
}

/* --- the document --- */

static lorafmt_status begin_document(reader *r)
{
    const yaml_event_t *e = &r->event;
    lk_yaml at;

    LF_TRY(next_event(r)); // the start of the stream
    LF_TRY(next_event(r));
    at = place(r, e->start_mark, NULL);
    if (e->type == YAML_STREAM_END_EVENT)
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, r->err, "nothing in it");
    if (e->data.document_start.version_directive ||
        e->data.document_start.tag_directives.start != e->data.document_start.tag_directives.end)
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, r->err,
                            "a directive, which is not allowed: leave out the line that begins with %%");
    return next_event(r);
}

static lorafmt_status end_document(reader *r)
{
    lk_yaml at;

    LF_TRY(next_event(r)); // the end of the document
    LF_TRY(next_event(r));
    at = place(r, r->event.start_mark, NULL);
    if (r->event.type != YAML_STREAM_END_EVENT)
        return lk_yaml_fail(&at, LORAFMT_CORRUPT, r->err, "a second document; there must be one");
    return LORAFMT_OK;
}

static lorafmt_status read_document(reader *r, const lk_yaml **root)
{
    lk_yaml *node;

    LF_TRY(begin_document(r));
    LF_TRY(read_node(r, NULL, NULL, 0, 1, &node));
    LF_TRY(end_document(r));
    *root = node;
    return LORAFMT_OK;
}

lorafmt_status lk_yaml_parse(const char *bytes, size_t size, const char *file, const lorafmt_limits *limits, lf_arena *arena,
                             const lk_yaml **root, lorafmt_error *err)
{
    const uint64_t max_size = lorafmt_limits_get(limits, LORAFMT_LIMIT_YAML_SIZE);
    reader r = {.file = file,
                .arena = arena,
                .max_depth = (unsigned)lorafmt_limits_get(limits, LORAFMT_LIMIT_YAML_DEPTH),
                .max_nodes = (size_t)lorafmt_limits_get(limits, LORAFMT_LIMIT_YAML_VALUES),
                .err = err};
    const lk_yaml whole = {.file = file, .line = 1, .column = 1};
    const char *what = lf_recognise((const uint8_t *)bytes, size, LF_FILE_JSON); // which YAML may look like
    lorafmt_status st;

    *root = NULL;
    if (size > max_size)
        return lk_yaml_fail(&whole, LORAFMT_LIMIT, err, "%zu bytes, at most %" PRIu64 " are read", size, max_size);
    if (what)
        return lk_yaml_fail(&whole, LORAFMT_NOT_LORAFMT, err, "this is %s", what);
    LF_TRY(check_characters(bytes, size, file, err));
    if (!yaml_parser_initialize(&r.parser))
        return lf_no_memory(err);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)bytes, size);
    st = read_document(&r, root);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return st;
}

lorafmt_status lk_yaml_load(const char *file, const lorafmt_limits *limits, lf_arena *arena, const lk_yaml **root,
                            lorafmt_error *err)
{
    lorafmt_status st;
    size_t size;
    char *bytes;

    *root = NULL;
    LF_TRY(lf_file_load(file, lorafmt_limits_get(limits, LORAFMT_LIMIT_YAML_SIZE), &bytes, &size, err));
    st = lk_yaml_parse(bytes, size, file, limits, arena, root, err);
    free(bytes);
    return st;
}
