/* SPDX-License-Identifier: MIT */
/* spec 2: the header page */
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/recognise.h"
#include "format/container/internal.h"
#include "lorafmt/version.h"

#include <inttypes.h>

static const uint8_t magic[12] = {0x89, 'l', 'o', 'r', 'a', 'f', 'm', 't', '\r', '\n', 0x1a, '\n'};

static lorafmt_status refuse_magic(const uint8_t *bytes, uint64_t size, lorafmt_error *err)
{
    const char *what = lf_recognise(bytes, size < LF_PAGE_SIZE ? (size_t)size : LF_PAGE_SIZE, LF_FILE_LORA);

    if (what)
        return lf_fail(err, LORAFMT_NOT_LORAFMT, LF_HEADER_MAGIC, "header.magic", "not a .lora file, but %s", what);
    return lf_fail(err, LORAFMT_NOT_LORAFMT, LF_HEADER_MAGIC, "header.magic", "not a .lora file%s",
                   size >= 8 && memcmp(bytes + 1, magic + 1, 7) == 0 ? ", or it was damaged by a transfer in text mode" : "");
}

lorafmt_status lf_header_page_decode(const uint8_t *bytes, uint64_t size, lorafmt_error *err)
{
    if (size < sizeof magic || memcmp(bytes + LF_HEADER_MAGIC, magic, sizeof magic) != 0)
        return refuse_magic(bytes, size, err);
    if (size < LF_SEGMENTS_OFFSET)
        return lf_fail(err, LORAFMT_CORRUPT, size, "header", "the file ends after %" PRIu64 " bytes, the least is %u", size,
                       LF_SEGMENTS_OFFSET);
    if (lf_load_u32le(bytes + LF_HEADER_CRC32) != lf_crc32_of(bytes, LF_HEADER_CRC32))
        return lf_fail(err, LORAFMT_CORRUPT, LF_HEADER_CRC32, "header.crc32", "the header does not match its checksum");
    if (lf_load_u16le(bytes + LF_HEADER_VERSION_MAJOR) != LORAFMT_FORMAT_MAJOR)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LF_HEADER_VERSION_MAJOR, "header.version_major",
                       "format version %u.%u, this reader knows %d.x", lf_load_u16le(bytes + LF_HEADER_VERSION_MAJOR),
                       lf_load_u16le(bytes + LF_HEADER_VERSION_MINOR), LORAFMT_FORMAT_MAJOR);
    if (!lf_all_zero(bytes + LF_HEADER_RESERVED, LF_HEADER_CRC32 - LF_HEADER_RESERVED))
        return lf_fail(err, LORAFMT_CORRUPT, LF_HEADER_RESERVED, "header.reserved", "reserved bytes are not zero");
    if (!lf_all_zero(bytes + LF_HEADER_RESERVED_TAIL, LF_PAGE_SIZE - LF_HEADER_RESERVED_TAIL))
        return lf_fail(err, LORAFMT_CORRUPT, LF_HEADER_RESERVED_TAIL, "header.reserved", "reserved bytes are not zero");
    return LORAFMT_OK;
}

void lf_header_page_encode(uint8_t page[LF_PAGE_SIZE])
{
    memset(page, 0, LF_PAGE_SIZE);
    memcpy(page + LF_HEADER_MAGIC, magic, sizeof magic);
    lf_store_u16le(page + LF_HEADER_VERSION_MAJOR, LORAFMT_FORMAT_MAJOR);
    lf_store_u16le(page + LF_HEADER_VERSION_MINOR, LORAFMT_FORMAT_MINOR);
    lf_store_u32le(page + LF_HEADER_CRC32, lf_crc32_of(page, LF_HEADER_CRC32));
}
