/* SPDX-License-Identifier: MIT */
/*
 * dump_container FILE: what the container reader finds in a .lora file, as JSON under the names of the spec, for
 * tests that hold another reader against it. Everything is there when the verdict is good or recovered, else the refusal alone.
 */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/container/internal.h"
#include "format/foreign/json.h"
#include "lib/adapter/adapter.h"
#include "lib/front/load.h"
#include "lib/io/io.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lf_text_buffer out;

static void key(const char *name)
{
    lf_text_add(&out, "%s\"%s\": ", out.text[out.size - 1] == '{' || out.text[out.size - 1] == '[' ? "" : ", ", name);
}

static void comma(void)
{
    if (out.text[out.size - 1] != '[')
        lf_text_add(&out, ", ");
}

static void number(const char *name, uint64_t value)
{
    key(name);
    lf_text_add(&out, "%" PRIu64, value);
}

static void real(const char *name, double value)
{
    key(name);
    lf_text_add(&out, "%.17g", value);
}

static void text(const char *name, const char *value)
{
    key(name);
    lf_text_add_json_string(&out, value);
}

static void digest(const char *name, const uint8_t sha256[32])
{
    key(name);
    lf_text_add(&out, "\"");
    for (int i = 0; i < 32; i++)
        lf_text_add(&out, "%02x", sha256[i]);
    lf_text_add(&out, "\"");
}

static lorafmt_status dump_site(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_site s;
    uint32_t first;

    LF_TRY(lf_container_site(c, i, &s, &first, err));
    comma();
    lf_text_add(&out, "{");
    text("target", s.target);
    number("kind", s.kind);
    number("orientation", s.orientation);
    number("scaling", s.scaling);
    number("rank", s.rank);
    number("flags", s.flags);
    real("alpha", s.alpha);
    real("scale", s.scale);
    number("row_begin", s.row_begin);
    number("row_end", s.row_end);
    number("col_begin", s.col_begin);
    number("col_end", s.col_end);
    digest("base_sha256", s.base_sha256);
    key("factors");
    lf_text_add(&out, "[");
    for (uint32_t f = 0; f < s.n_factors; f++) {
        uint16_t role;
        uint32_t tensor;
        LF_TRY(lf_factor_decode(c, first + f, &role, &tensor, err));
        comma();
        lf_text_add(&out, "{\"role\": %u, \"tensor\": %" PRIu32 "}", role, tensor);
    }
    lf_text_add(&out, "]}");
    return LORAFMT_OK;
}

static lorafmt_status dump_metadata(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_metadata m;

    LF_TRY(lf_container_metadata(c, i, &m, err));
    comma();
    lf_text_add(&out, "{");
    text("key", m.key);
    text("value", m.value);
    number("flags", m.flags);
    lf_text_add(&out, "}");
    return LORAFMT_OK;
}

static lorafmt_status dump_adapter(const lf_container *c, size_t i, lorafmt_error *err)
{
    lorafmt_adapter a;
    uint32_t first_site, first_metadata;

    LF_TRY(lf_container_adapter(c, i, &a, &first_site, &first_metadata, err));
    comma();
    lf_text_add(&out, "{");
    text("name", a.name);
    text("base_name", a.base_name);
    text("base_revision", a.base_revision);
    number("flags", a.has_base_structure ? 1 : 0);
    digest("adapter_id", a.id);
    digest("base_structure", a.base_structure);
    key("sites");
    lf_text_add(&out, "[");
    for (size_t k = 0; k < a.n_sites; k++)
        LF_TRY(dump_site(c, first_site + k, err));
    lf_text_add(&out, "]");
    key("metadata");
    lf_text_add(&out, "[");
    for (size_t k = 0; k < a.n_metadata; k++)
        LF_TRY(dump_metadata(c, first_metadata + k, err));
    lf_text_add(&out, "]}");
    return LORAFMT_OK;
}

/* With the digest of what the reader decodes, which is not taken from the record. */
static lorafmt_status dump_tensor(const lf_container *c, size_t i, lorafmt_error *err)
{
    uint8_t sha256[LF_SHA256_SIZE];
    lf_tensor_record t;
    void *data;
    lorafmt_status st;

    LF_TRY(lf_container_tensor(c, i, &t, err));
    data = malloc((size_t)t.tensor.size);
    st = data ? lf_container_decode_tensor(c, i, data, err) : LORAFMT_NO_MEMORY;
    if (!st)
        lf_sha256_of(data, (size_t)t.tensor.size, sha256);
    free(data);
    LF_TRY(st);
    comma();
    lf_text_add(&out, "{");
    number("offset", t.offset);
    number("stored_size", t.stored_size);
    number("decoded_size", t.tensor.size);
    text("dtype", lorafmt_dtype_name(t.tensor.dtype));
    number("codec", t.codec);
    key("shape");
    lf_text_add(&out, "[");
    for (uint32_t d = 0; d < t.tensor.n_dims; d++) {
        comma();
        lf_text_add(&out, "%" PRIu64, t.tensor.shape[d]);
    }
    lf_text_add(&out, "]");
    digest("sha256", sha256);
    lf_text_add(&out, "}");
    return LORAFMT_OK;
}

static void dump_file(const lf_container *c)
{
    key("file");
    lf_text_add(&out, "{");
    number("generation", c->root.generation);
    number("slot", c->slot);
    number("incompatible", c->root.incompatible);
    number("compatible", c->root.compatible);
    number("index_offset", c->root.index_offset);
    number("index_size", c->root.index_size);
    digest("index_sha256", c->root.index_sha256);
    number("file_end", c->root.file_end);
    number("align_log2", c->align_log2);
    lf_text_add(&out, "}");
}

static lorafmt_status dump_records(const lf_container *c, lorafmt_error *err)
{
    dump_file(c);
    key("adapters");
    lf_text_add(&out, "[");
    for (size_t i = 0; i < lf_container_n_adapters(c); i++)
        LF_TRY(dump_adapter(c, i, err));
    lf_text_add(&out, "]");
    key("tensors");
    lf_text_add(&out, "[");
    for (size_t i = 0; i < lf_container_n_tensors(c); i++)
        LF_TRY(dump_tensor(c, i, err));
    lf_text_add(&out, "]");
    return LORAFMT_OK;
}

/* What records say, which is checked apart from their bytes. */
static lorafmt_status check_meaning(const lf_container *c, lorafmt_error *err)
{
    lf_arena arena = {0};
    const void **loaded;
    lorafmt_status st = lf_tensors_load(c, NULL, false, 0, &arena, &loaded, err);
    lf_adapter_reader reader = {.container = c, .arena = &arena, .loaded = loaded, .row_indexes = {.arena = &arena}};

    for (size_t i = 0; !st && i < lf_container_n_adapters(c); i++) {
        lorafmt_adapter adapter;
        st = lf_adapter_read(&reader, i, &adapter, err);
    }
    lf_arena_free(&arena);
    return st;
}

/* All that the spec asks of a file. Its damaged slot, which is complained of last, is no error here. */
static lorafmt_status check(const lf_container *c, bool *recovered, lorafmt_error *err)
{
    lorafmt_verify_result result;
    const lorafmt_status st = lf_container_check(c, &result, err);

    *recovered = result.recovered;
    return st && !*recovered ? st : check_meaning(c, err);
}

static const char *verdict_of(lorafmt_status st, bool recovered)
{
    switch (st) {
    case LORAFMT_OK:
        return recovered ? "recovered" : "good";
    case LORAFMT_NOT_LORAFMT:
        return "not a lora file";
    case LORAFMT_UNSUPPORTED:
        return "unsupported";
    case LORAFMT_CORRUPT:
        return "corrupt";
    default:
        return lorafmt_status_name(st);
    }
}

int main(int argc, char **argv)
{
    lf_map map = {0};
    lf_container *c = NULL;
    lorafmt_error err = {.offset = LORAFMT_NO_OFFSET};
    bool recovered = false;
    lorafmt_status st;

    if (argc != 2 || lf_map_open(argv[1], false, UINT64_MAX, &map, &err)) {
        fprintf(stderr, "dump_container: %s\n", argc == 2 ? err.text : "one FILE is needed");
        return 2;
    }
    lf_text_add(&out, "{");
    if (!(st = lf_container_open(map.bytes, map.size, 0, &c, &err)) && !(st = check(c, &recovered, &err)))
        st = dump_records(c, &err);
    text("verdict", verdict_of(st, recovered));
    if (st) {
        text("field", err.field);
        text("text", err.text);
        number("offset", err.offset == LORAFMT_NO_OFFSET ? 0 : err.offset);
    }
    lf_text_add(&out, "}");
    puts(out.text);
    lf_text_free(&out);
    lf_container_free(c);
    lf_map_close(&map);
    return st ? 1 : 0;
}
