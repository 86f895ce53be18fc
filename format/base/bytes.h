/* SPDX-License-Identifier: MIT */
/* Little-endian loads and stores. File bytes are never cast to structs. */
#ifndef LF_BASE_BYTES_H
#define LF_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t lf_load_u16le(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t lf_load_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t lf_load_u64le(const uint8_t *p)
{
    return (uint64_t)lf_load_u32le(p) | (uint64_t)lf_load_u32le(p + 4) << 32;
}

static inline double lf_load_f64le(const uint8_t *p)
{
    const uint64_t bits = lf_load_u64le(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void lf_store_u16le(uint8_t *p, uint16_t x)
{
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
}

static inline void lf_store_u32le(uint8_t *p, uint32_t x)
{
    lf_store_u16le(p, (uint16_t)x);
    lf_store_u16le(p + 2, (uint16_t)(x >> 16));
}

static inline void lf_store_u64le(uint8_t *p, uint64_t x)
{
    lf_store_u32le(p, (uint32_t)x);
    lf_store_u32le(p + 4, (uint32_t)(x >> 32));
}

static inline void lf_store_f64le(uint8_t *p, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    lf_store_u64le(p, bits);
}

static inline bool lf_all_zero(const uint8_t *p, size_t n)
{
    uint64_t any = 0, eight;

    for (; n >= sizeof eight; n -= sizeof eight, p += sizeof eight) {
        memcpy(&eight, p, sizeof eight);
        any |= eight;
    }
    while (n)
        any |= p[--n];
    return any == 0;
}

#endif
