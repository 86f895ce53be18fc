/* SPDX-License-Identifier: MIT */
#include "format/base/digest.h"

#include "format/base/bytes.h"

#include <string.h>
#include <zlib.h>

void lf_sha256_u8(lf_sha256 *h, uint8_t x)
{
    lf_sha256_update(h, &x, 1);
}

void lf_sha256_u16(lf_sha256 *h, uint16_t x)
{
    uint8_t b[2];
    lf_store_u16le(b, x);
    lf_sha256_update(h, b, sizeof b);
}

void lf_sha256_u32(lf_sha256 *h, uint32_t x)
{
    uint8_t b[4];
    lf_store_u32le(b, x);
    lf_sha256_update(h, b, sizeof b);
}

void lf_sha256_u64(lf_sha256 *h, uint64_t x)
{
    uint8_t b[8];
    lf_store_u64le(b, x);
    lf_sha256_update(h, b, sizeof b);
}

void lf_sha256_f64(lf_sha256 *h, double x)
{
    uint8_t b[8];
    lf_store_f64le(b, x);
    lf_sha256_update(h, b, sizeof b);
}

void lf_sha256_str(lf_sha256 *h, const char *s)
{
    const size_t n = strlen(s);
    lf_sha256_u32(h, (uint32_t)n);
    lf_sha256_update(h, s, n);
}

void lf_sha256_of(const void *data, size_t size, uint8_t out[LF_SHA256_SIZE])
{
    lf_sha256 h;
    lf_sha256_init(&h);
    lf_sha256_update(&h, data, size);
    lf_sha256_final(&h, out);
}

uint32_t lf_crc32_of(const void *data, size_t size)
{
    return (uint32_t)crc32_z(0, data, size);
}
