/* SPDX-License-Identifier: MIT */
/*
 * A zlib stream, after two bytes that say how many it shall decode to: the fast decoder and zlib agree on whether it is one, and on
 * what it holds; the same once more when its checksum is made that of what the fast decoder reads.
 *
 * The seeds are streams of literals in codes of their own (as splitting writes them), in fixed codes and stored, and one with
 * matches.
 */
#include "fuzz/fuzz.h"

#include "format/base/bytes.h"
#include "format/container/internal.h"

#include <stdlib.h>
#include <zlib.h>

static void compare(const uint8_t *in, size_t size, uint8_t *fast, uint8_t *exact, size_t n)
{
    const lf_inflate_result result = lf_inflate_zlib(in, size, exact, n);

    require(lf_inflate_fast(in, size, fast, n) == result);
    if (result == LF_INFLATE_OK)
        require(memcmp(fast, exact, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t n = size < 2 ? 0 : lf_load_u16le(data) + (size_t)1, stream_size = n ? size - 2 : 0;
    uint8_t *stream = malloc(stream_size), *fast = calloc(n, 1), *exact = malloc(n);

    if (stream_size >= 4 && stream && fast && exact) {
        memcpy(stream, data + 2, stream_size);
        compare(stream, stream_size, fast, exact, n);
        memset(fast, 0, n);
        if (!lf_inflate_literals(stream, stream_size, fast, n)) {
            const uint32_t sum = (uint32_t)adler32(1, fast, (uInt)n);
            for (unsigned b = 0; b < 4; b++)
                stream[stream_size - 1 - b] = (uint8_t)(sum >> (8 * b));
            compare(stream, stream_size, fast, exact, n);
        }
    }
    free(stream);
    free(fast);
    free(exact);
    return 0;
}
