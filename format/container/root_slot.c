/* SPDX-License-Identifier: MIT */
/* spec 3: root records, and which of the two slots counts */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const uint8_t magic[8] = {'L', 'O', 'R', 'A', 'R', 'O', 'O', 'T'};

/* Where a root record is, for messages. */
typedef struct place {
    uint64_t offset;
    const char *name;
    lorafmt_error *err;
} place;

__attribute__((format(printf, 4, 5))) static lorafmt_status fail(const place *at, unsigned byte, const char *field,
                                                                 const char *format, ...)
{
    char path[48], text[160];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s.%s", at->name, field);
    return lf_fail(at->err, LORAFMT_CORRUPT, at->offset + byte, path, "%s", text);
}

static void load(const uint8_t *p, lf_root *out)
{
    out->generation = lf_load_u64le(p + LF_ROOT_GENERATION);
    out->incompatible = lf_load_u64le(p + LF_ROOT_INCOMPATIBLE);
    out->compatible = lf_load_u64le(p + LF_ROOT_COMPATIBLE);
    out->index_offset = lf_load_u64le(p + LF_ROOT_INDEX_OFFSET);
    out->index_size = lf_load_u64le(p + LF_ROOT_INDEX_SIZE);
    memcpy(out->index_sha256, p + LF_ROOT_INDEX_SHA256, sizeof out->index_sha256);
    out->file_end = lf_load_u64le(p + LF_ROOT_FILE_END);
}

lorafmt_status lf_root_decode(const uint8_t *p, uint64_t offset, const char *name, lf_root *out, lorafmt_error *err)
{
    const place at = {offset, name, err};
    uint64_t index_end;

    load(p, out);
    if (memcmp(p + LF_ROOT_MAGIC, magic, sizeof magic) != 0)
        return fail(&at, LF_ROOT_MAGIC, "magic", "not a root record");
    if (lf_load_u32le(p + LF_ROOT_CRC32) != lf_crc32_of(p, LF_ROOT_CRC32))
        return fail(&at, LF_ROOT_CRC32, "crc32", "the root does not match its checksum");
    if (out->generation < 1 || out->generation > LF_MAX_GENERATION)
        return fail(&at, LF_ROOT_GENERATION, "generation", "generation %" PRIu64 ", must be 1..2^63-1", out->generation);
    if (out->index_offset < LF_SEGMENTS_OFFSET || out->index_offset % LF_INDEX_ALIGN)
        return fail(&at, LF_ROOT_INDEX_OFFSET, "index_offset", "index at %" PRIu64 ", must be a multiple of %u from %u on",
                    out->index_offset, LF_INDEX_ALIGN, LF_SEGMENTS_OFFSET);
    if (out->index_size < LF_MIN_INDEX_SIZE || out->index_size > LF_MAX_INDEX_SIZE || out->index_size % 8)
        return fail(&at, LF_ROOT_INDEX_SIZE, "index_size", "index of %" PRIu64 " bytes, must be a multiple of 8 in %u..2^28",
                    out->index_size, LF_MIN_INDEX_SIZE);
    if (!lf_add_u64(out->index_offset, out->index_size, &index_end) || out->file_end < index_end)
        return fail(&at, LF_ROOT_FILE_END, "file_end", "file end %" PRIu64 " lies before the end of the index", out->file_end);
    if (!lf_all_zero(p + LF_ROOT_RESERVED, LF_ROOT_CRC32 - LF_ROOT_RESERVED))
        return fail(&at, LF_ROOT_RESERVED, "reserved", "reserved bytes are not zero");
    return LORAFMT_OK;
}

static const char *const slot_names[2] = {"root[0]", "root[1]"};

/* Is the slot valid, and if not, why not? */
static lorafmt_status decode_slot(const uint8_t *p, uint64_t size, unsigned slot, lf_root *out, lorafmt_error *err)
{
    const place at = {LF_SLOT_OFFSET(slot), slot_names[slot], err};

    LF_TRY(lf_root_decode(p, at.offset, at.name, out, err));
    if (out->generation % 2 == slot)
        return fail(&at, LF_ROOT_GENERATION, "generation", "generation %" PRIu64 " in slot %u, odd ones belong to slot 0",
                    out->generation, slot);
    if (out->file_end > size)
        return fail(&at, LF_ROOT_FILE_END, "file_end",
                    "file end %" PRIu64 ", but the file has only %" PRIu64 " bytes: it was truncated", out->file_end, size);
    if (!lf_all_zero(p + LF_ROOT_SIZE, LF_PAGE_SIZE - LF_ROOT_SIZE))
        return fail(&at, LF_ROOT_SIZE, "reserved", "reserved bytes are not zero");
    return LORAFMT_OK;
}

lorafmt_status lf_root_check_features(const lf_container *c, lorafmt_error *err)
{
    if (c->root.incompatible)
        return lf_root_fail(c, LORAFMT_UNSUPPORTED, LF_ROOT_INCOMPATIBLE, "incompatible", err,
                            "features 0x%" PRIx64 " are needed, this reader knows none", c->root.incompatible);
    return LORAFMT_OK;
}

lorafmt_status lf_container_check_appendable(const lf_container *c, lorafmt_error *err)
{
    if (c->root.compatible)
        return lf_root_fail(c, LORAFMT_UNSUPPORTED, LF_ROOT_COMPATIBLE, "compatible", err,
                            "features 0x%" PRIx64 ", which a writer must know, and this one knows none", c->root.compatible);
    return LORAFMT_OK;
}

/*
 * Somebody may append to the file meanwhile, so each slot is looked at once, as a copy: what was checked is then what is used.
 */
lorafmt_status lf_root_choose(lf_container *c, lorafmt_error *err)
{
    uint8_t page[2][LF_PAGE_SIZE];
    lf_root root[2];
    bool valid[2], empty[2];
    unsigned slot;

    for (unsigned i = 0; i < 2; i++) {
        memcpy(page[i], c->bytes + LF_SLOT_OFFSET(i), LF_PAGE_SIZE);
        empty[i] = lf_all_zero(page[i], LF_PAGE_SIZE);
        valid[i] = decode_slot(page[i], c->size, i, &root[i], NULL) == LORAFMT_OK;
    }
    if (empty[0] && empty[1])
        return lf_fail(err, LORAFMT_CORRUPT, LF_SLOT_OFFSET(0), "root", "both root slots are empty");
    if (!valid[0] && !valid[1])
        return decode_slot(page[empty[0] ? 1 : 0], c->size, empty[0] ? 1 : 0, &c->root, err);
    slot = valid[0] && (!valid[1] || root[0].generation > root[1].generation) ? 0 : 1;
    c->root = root[slot];
    strcpy(c->root_name, slot_names[slot]);
    c->root_at = LF_SLOT_OFFSET(slot);
    c->slot = slot;
    c->recovered = !valid[1 - slot] && (!empty[1 - slot] || c->root.generation > 1);
    memcpy(c->other_root, page[1 - slot], LF_ROOT_SIZE);
    if (valid[1 - slot] && c->root.generation - root[1 - slot].generation != 1)
        return lf_root_fail(c, LORAFMT_CORRUPT, LF_ROOT_GENERATION, "generation", err,
                            "generations %" PRIu64 " and %" PRIu64 ", must differ by one", root[0].generation,
                            root[1].generation);
    return lf_root_check_features(c, err);
}

lorafmt_status lf_root_check_other_slot(const lf_container *c, lorafmt_error *err)
{
    const unsigned other = 1 - c->slot;
    const uint8_t *page = c->bytes + LF_SLOT_OFFSET(other);
    lf_root root;

    if (lf_all_zero(page, LF_PAGE_SIZE))
        return lf_fail(err, LORAFMT_CORRUPT, LF_SLOT_OFFSET(other), slot_names[other],
                       "empty, though the other slot is of generation %" PRIu64, c->root.generation);
    return decode_slot(page, c->size, other, &root, err);
}

lorafmt_status lf_root_fail(const lf_container *c, lorafmt_status status, unsigned at, const char *field, lorafmt_error *err,
                            const char *format, ...)
{
    char path[64], text[160];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s.%s", c->root_name, field);
    return lf_fail(err, status, c->root_at + at, path, "%s", text);
}

void lf_root_encode(const lf_root *root, uint8_t *p)
{
    memset(p, 0, LF_ROOT_SIZE);
    memcpy(p + LF_ROOT_MAGIC, magic, sizeof magic);
    lf_store_u64le(p + LF_ROOT_GENERATION, root->generation);
    lf_store_u64le(p + LF_ROOT_INCOMPATIBLE, root->incompatible);
    lf_store_u64le(p + LF_ROOT_COMPATIBLE, root->compatible);
    lf_store_u64le(p + LF_ROOT_INDEX_OFFSET, root->index_offset);
    lf_store_u64le(p + LF_ROOT_INDEX_SIZE, root->index_size);
    memcpy(p + LF_ROOT_INDEX_SHA256, root->index_sha256, sizeof root->index_sha256);
    lf_store_u64le(p + LF_ROOT_FILE_END, root->file_end);
    lf_store_u32le(p + LF_ROOT_CRC32, lf_crc32_of(p, LF_ROOT_CRC32));
}
