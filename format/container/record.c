/* SPDX-License-Identifier: MIT */
/* What all records of an index have in common: where they are, and how a failed check names its place. */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

lorafmt_status lf_record_missing(const lf_container *c, lf_section_number section, size_t i, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, lf_section_types[section].name, "record %zu, there are %zu", i,
                   c->sections[section].n_records);
}

static uint64_t offset_of(const lf_container *c, lf_section_number section, size_t i)
{
    return c->root.index_offset + c->sections[section].offset + i * (uint64_t)lf_section_types[section].record_size;
}

uint64_t lf_container_adapter_offset(const lf_container *c, size_t i)
{
    return offset_of(c, LF_ADAPTERS, i);
}

uint64_t lf_container_site_offset(const lf_container *c, size_t i)
{
    return offset_of(c, LF_SITES, i);
}

uint64_t lf_container_factor_offset(const lf_container *c, size_t i)
{
    return offset_of(c, LF_FACTORS, i);
}

uint64_t lf_container_tensor_offset(const lf_container *c, size_t i)
{
    return offset_of(c, LF_TENSORS, i);
}

uint64_t lf_container_metadata_offset(const lf_container *c, size_t i)
{
    return offset_of(c, LF_METADATA, i);
}

lorafmt_status lf_record_fail(const lf_record *r, lorafmt_status status, unsigned at, const char *field, lorafmt_error *err,
                              const char *format, ...)
{
    const uint64_t offset = r->container->root.index_offset + (uint64_t)(r->p - r->container->index) + at;
    char path[64], text[512];
    va_list args;

    if (!err)
        return status;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s[%zu]%s%s", lf_section_types[r->section].record, r->i, field ? "." : "", field ? field : "");
    return lf_fail(err, status, offset, path, "%s", text);
}

lorafmt_status lf_record_corrupt(const lf_container *c, lf_section_number section, size_t i, unsigned at, const char *field,
                                 const char *text, lorafmt_error *err)
{
    lf_record r;

    LF_TRY(lf_record_get(c, section, i, &r, err));
    return lf_record_fail(&r, LORAFMT_CORRUPT, at, field, err, "%s", text);
}

lorafmt_status lf_record_not_reserved(const lf_record *r, unsigned at, lorafmt_error *err)
{
    return lf_record_fail(r, LORAFMT_CORRUPT, at, "reserved", err, "reserved bytes are not zero");
}

lorafmt_status lf_record_digest(const lf_record *r, unsigned at, const char *field, bool present, uint8_t out[LF_SHA256_SIZE],
                                lorafmt_error *err)
{
    if (!present && !lf_all_zero(r->p + at, LF_SHA256_SIZE))
        return lf_record_fail(r, LORAFMT_CORRUPT, at, field, err, "a digest without its flag, must be zero");
    memcpy(out, r->p + at, LF_SHA256_SIZE);
    return LORAFMT_OK;
}

lorafmt_status lf_record_check_part(const lf_record *r, unsigned first_at, const char *first_field, unsigned n_at,
                                    const char *n_field, lf_section_number section, lorafmt_error *err)
{
    const lf_section *own = &r->container->sections[r->section], *parted = &r->container->sections[section];
    const uint8_t *previous = r->p - lf_section_types[r->section].record_size;
    const uint64_t first = lf_load_u32le(r->p + first_at), end = first + lf_load_u32le(r->p + n_at);
    const uint64_t begin = r->i ? (uint64_t)lf_load_u32le(previous + first_at) + lf_load_u32le(previous + n_at) : 0;

    if (first != begin)
        return lf_record_fail(r, LORAFMT_CORRUPT, first_at, first_field, err, "%" PRIu64 ", must be %" PRIu64, first, begin);
    if (end > parted->n_records || (r->i == own->n_records - 1 && end != parted->n_records))
        return lf_record_fail(r, LORAFMT_CORRUPT, n_at, n_field, err,
                              "records up to %" PRIu64 " of section %s, which has %zu and none to spare", end,
                              lf_section_types[section].name, parted->n_records);
    return LORAFMT_OK;
}
