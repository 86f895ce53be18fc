/* SPDX-License-Identifier: MIT */
/* The two checksums of the format: SHA-256 (Nettle) and CRC-32 (zlib). */
#ifndef LF_BASE_DIGEST_H
#define LF_BASE_DIGEST_H

#include <nettle/sha2.h>
#include <stddef.h>
#include <stdint.h>

#define LF_SHA256_SIZE 32

typedef uint8_t lf_digest[LF_SHA256_SIZE];

typedef struct sha256_ctx lf_sha256;

static inline void lf_sha256_init(lf_sha256 *h)
{
    sha256_init(h);
}

static inline void lf_sha256_update(lf_sha256 *h, const void *data, size_t size)
{
    sha256_update(h, size, data);
}

static inline void lf_sha256_final(lf_sha256 *h, uint8_t out[LF_SHA256_SIZE])
{
    sha256_digest(h, LF_SHA256_SIZE, out);
}

/* Numbers and strings as spec 6 feeds them to an identity: little-endian, strings with their length as u32. */
void lf_sha256_u8(lf_sha256 *h, uint8_t x);
void lf_sha256_u16(lf_sha256 *h, uint16_t x);
void lf_sha256_u32(lf_sha256 *h, uint32_t x);
void lf_sha256_u64(lf_sha256 *h, uint64_t x);
void lf_sha256_f64(lf_sha256 *h, double x);
void lf_sha256_str(lf_sha256 *h, const char *s);

void lf_sha256_of(const void *data, size_t size, uint8_t out[LF_SHA256_SIZE]);
uint32_t lf_crc32_of(const void *data, size_t size);

#endif
