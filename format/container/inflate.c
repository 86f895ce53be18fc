/* SPDX-License-Identifier: MIT */
/* spec 5: one zlib stream (RFC 1950) of a known size, all at once */
#define ZLIB_CONST // next_in is const
#include "format/container/internal.h"

#include <limits.h>
#include <zlib.h>

lf_inflate_result lf_inflate_zlib(const uint8_t *in, size_t size, uint8_t *out, size_t n)
{
    const uint8_t *const end = in + size;
    z_stream z = {.next_in = in, .next_out = out, .avail_out = (uInt)n};
    int result = inflateInit(&z);

    if (result != Z_OK)
        return LF_INFLATE_NO_MEMORY;
    do { // once, but for streams of more than 4 GiB
        z.avail_in = (size_t)(end - z.next_in) < UINT_MAX ? (uInt)(end - z.next_in) : UINT_MAX;
        result = inflate(&z, Z_FINISH); // so zlib knows that it need not keep what it wrote
    } while (result == Z_BUF_ERROR && z.avail_in == 0 && z.next_in != end);
    inflateEnd(&z);
    if (result == Z_MEM_ERROR)
        return LF_INFLATE_NO_MEMORY;
    return result == Z_STREAM_END && z.avail_out == 0 && z.next_in == end ? LF_INFLATE_OK : LF_INFLATE_BAD;
}
