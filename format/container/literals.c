/* SPDX-License-Identifier: MIT */
/*
 * spec 5: the zlib streams that splitting writes, several bytes at a time.
 *
 * Such a stream is Huffman blocks (RFC 1951) of literals alone, each of two or three bits. General decoders look up one after
 * the other, and each look-up waits for the one before. Here one look-up gives all the literals that its bits hold. Streams with
 * matches, and whatever could be wrong with one, are left to zlib: what is accepted here zlib accepts with the same bytes.
 */
#define ZLIB_CONST
#include "format/base/bytes.h"
#include "format/container/internal.h"

#include <zlib.h>

enum {
    MAX_LENGTH = 15, // bits of a code
    END_OF_BLOCK = 256,
    MAX_SYMBOLS = 288,
    MAX_LITERAL_SYMBOLS = 286, // that a block's header may describe: RFC 1951, 3.2.7
    MAX_DISTANCE_SYMBOLS = 30,
    N_LENGTH_SYMBOLS = 19,
    TABLE_BITS = 10,  // and the tables 16 KiB: half of a small first-level cache
    MAX_LITERALS = 6, // in one entry of the table
    ENTRY_BYTES = 8,  // written for an entry, however many literals it has
    LOOK_UPS = 5,     // after each refill, which gives 56 bits
};

/* --- bits, the lowest of each byte first --- */

typedef struct reader {
    const uint8_t *in, *end;
    uint64_t buffer; // the next n bits, and perhaps some of those that follow
    unsigned n;
} reader;

/* At least 56 bits, if there are so many. */
static inline void refill(reader *r)
{
    if (r->end - r->in >= 8) {
        r->buffer |= lf_load_u64le(r->in) << r->n;
        r->in += (63 - r->n) / 8;
        r->n |= 56;
        return;
    }
    while (r->n < 56 && r->in < r->end) {
        r->buffer |= (uint64_t)*r->in++ << r->n;
        r->n += 8;
    }
}

static bool take(reader *r, unsigned n, unsigned *out)
{
    refill(r);
    if (r->n < n)
        return false;
    *out = (unsigned)(r->buffer & ((UINT64_C(1) << n) - 1));
    r->buffer >>= n;
    r->n -= n;
    return true;
}

/* Go on at the next whole byte. */
static void align(reader *r)
{
    r->in -= r->n / 8;
    r->buffer = r->n = 0;
}

/* --- codes --- */

/* A canonical Huffman code: how many symbols of each length, and the symbols in the order of their codes. */
typedef struct code {
    uint16_t n_of[MAX_LENGTH + 1];
    uint16_t symbols[MAX_SYMBOLS];
} code;

/* false unless every sequence of bits begins with exactly one code, which is what zlib asks of all but the simplest. */
static bool make_code(code *c, const uint8_t *lengths, unsigned n)
{
    uint16_t next[MAX_LENGTH + 2] = {0};
    int left = 1;

    memset(c->n_of, 0, sizeof c->n_of);
    for (unsigned i = 0; i < n; i++)
        c->n_of[lengths[i]]++;
    c->n_of[0] = 0;
    for (unsigned length = 1; length <= MAX_LENGTH; length++) {
        left = 2 * left - c->n_of[length];
        if (left < 0)
            return false;
        next[length + 1] = (uint16_t)(next[length] + c->n_of[length]);
    }
    for (unsigned i = 0; i < n; i++)
        if (lengths[i])
            c->symbols[next[lengths[i]]++] = (uint16_t)i;
    return left == 0;
}

/* The next symbol, bit by bit. */
static bool take_symbol(reader *r, const code *c, unsigned *out)
{
    unsigned bits = 0, first = 0, index = 0;

    refill(r);
    for (unsigned length = 1; length <= MAX_LENGTH && length <= r->n; length++) {
        bits = bits << 1 | (unsigned)(r->buffer >> (length - 1) & 1);
        if (bits - first < c->n_of[length]) {
            *out = c->symbols[index + bits - first];
            r->buffer >>= length;
            r->n -= length;
            return true;
        }
        index += c->n_of[length];
        first = (first + c->n_of[length]) << 1;
    }
    return false;
}

/* --- the table --- */

/*
 * The literals that some bits begin with: from the lowest byte on, up to MAX_LITERALS of them, then in a byte each how many they
 * are and of how many bits. Zero where the bits begin with something else than a literal, or with a longer code.
 */
typedef uint64_t entry;

enum { COUNT_AT = 48, BITS_AT = 56 };

/* The literal, of a code of that length, and then what the entry has. */
static inline entry prepend(unsigned literal, unsigned length, entry e)
{
    const entry literals = e & ((UINT64_C(1) << COUNT_AT) - 1);

    return (literals << 8 | literal) + (e - literals) + (UINT64_C(1) << COUNT_AT) + ((uint64_t)length << BITS_AT);
}

static unsigned reverse(unsigned bits, unsigned n)
{
    unsigned reversed = 0;

    for (; n; n--, bits >>= 1)
        reversed = reversed << 1 | (bits & 1);
    return reversed;
}

static unsigned shortest_length(const code *c)
{
    unsigned length = 1;

    while (c->n_of[length] == 0)
        length++;
    return length;
}

/*
 * Level t is for t bits and starts at entry 2^t: a literal and then, from a lower level, what its code leaves of the bits. A level
 * within the cap has less than MAX_LITERALS, so that there is room for one more.
 */
static const entry *make_table(entry levels[2 << TABLE_BITS], const code *c)
{
    const unsigned shortest = shortest_length(c), cap = MAX_LITERALS * shortest - 1;

    for (unsigned t = 0; t <= TABLE_BITS; t++) {
        entry *const level = levels + (1u << t);
        unsigned bits = 0, index = 0;
        if (t < TABLE_BITS && (t > cap || t + shortest > TABLE_BITS))
            continue; // not asked for
        memset(level, 0, sizeof *level << t);
        for (unsigned length = 1; length <= t; length++, bits <<= 1)
            for (unsigned k = 0; k < c->n_of[length]; k++, bits++, index++) {
                const unsigned left = t - length < cap ? t - length : cap, reversed = reverse(bits, length);
                if (c->symbols[index] >= END_OF_BLOCK)
                    continue;
                for (unsigned j = 0; j < 1u << (t - length); j++)
                    level[reversed | j << length] =
                        prepend(c->symbols[index], length, levels[(1u << left) + (j & ((1u << left) - 1))]);
            }
    }
    return levels + (1u << TABLE_BITS);
}

/* --- blocks: false when zlib has to look at it --- */

typedef struct output {
    uint8_t *next, *end;
} output;

/* As many literals as there are in a row, while neither input nor output is near its end. */
static void take_literals(reader *in, output *out, const entry *table)
{
    reader r = *in;
    uint8_t *next = out->next;
    entry e = 1;

    while (e && r.end - r.in >= 8 && out->end - next >= LOOK_UPS * MAX_LITERALS + ENTRY_BYTES) {
        refill(&r);
        for (unsigned i = 0; i < LOOK_UPS; i++) { // where a look-up finds nothing the next ones do neither
            e = table[r.buffer & ((1u << TABLE_BITS) - 1)];
            lf_store_u64le(next, e);
            next += e >> COUNT_AT & 0xff;
            r.buffer >>= e >> BITS_AT;
            r.n -= (unsigned)(e >> BITS_AT);
        }
    }
    *in = r;
    out->next = next;
}

static bool inflate_symbols(reader *r, output *out, const code *c)
{
    enum { WORTH_A_TABLE = 512 }; // making one takes as long as so many symbols bit by bit
    entry levels[2 << TABLE_BITS];
    const entry *table = out->end - out->next < WORTH_A_TABLE ? NULL : make_table(levels, c);
    unsigned symbol;

    for (;;) {
        if (table)
            take_literals(r, out, table);
        if (!take_symbol(r, c, &symbol) || symbol > END_OF_BLOCK)
            return false;
        if (symbol == END_OF_BLOCK)
            return true;
        if (out->next == out->end)
            return false;
        *out->next++ = (uint8_t)symbol;
    }
}

static bool inflate_fixed(reader *r, output *out)
{
    uint8_t lengths[MAX_SYMBOLS];
    code literals;

    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    return make_code(&literals, lengths, MAX_SYMBOLS) && inflate_symbols(r, out, &literals);
}

/* The lengths of n codes, by a code of their own. */
static bool take_lengths(reader *r, uint8_t *lengths, unsigned n, const code *c)
{
    static const uint8_t repeat_bits[] = {2, 3, 7}, repeat_least[] = {3, 3, 11}; // symbols 16 to 18
    unsigned i = 0, symbol, repeat;

    while (i < n) {
        if (!take_symbol(r, c, &symbol))
            return false;
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if ((symbol == 16 && i == 0) || !take(r, repeat_bits[symbol - 16], &repeat))
            return false;
        repeat += repeat_least[symbol - 16];
        if (repeat > n - i)
            return false;
        memset(lengths + i, symbol == 16 ? lengths[i - 1] : 0, repeat);
        i += repeat;
    }
    return true;
}

static bool inflate_dynamic(reader *r, output *out)
{
    static const uint8_t order[N_LENGTH_SYMBOLS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[MAX_LITERAL_SYMBOLS + MAX_DISTANCE_SYMBOLS], own[N_LENGTH_SYMBOLS] = {0};
    unsigned n_literals, n_distances, n_own, length;
    code c;

    if (!take(r, 5, &n_literals) || !take(r, 5, &n_distances) || !take(r, 4, &n_own))
        return false;
    n_literals += 257;
    n_distances += 1;
    if (n_literals > MAX_LITERAL_SYMBOLS || n_distances > MAX_DISTANCE_SYMBOLS)
        return false;
    for (unsigned i = 0; i < n_own + 4; i++) {
        if (!take(r, 3, &length))
            return false;
        own[order[i]] = (uint8_t)length;
    }
    if (!make_code(&c, own, N_LENGTH_SYMBOLS) || !take_lengths(r, lengths, n_literals + n_distances, &c) ||
        lengths[END_OF_BLOCK] == 0)
        return false;
    // no distance is ever read here, but zlib looks whether they are a code
    return make_code(&c, lengths + n_literals, n_distances) && make_code(&c, lengths, n_literals) && inflate_symbols(r, out, &c);
}

static bool inflate_stored(reader *r, output *out)
{
    size_t n;

    align(r);
    if (r->end - r->in < 4)
        return false;
    n = lf_load_u16le(r->in);
    if ((n ^ lf_load_u16le(r->in + 2)) != 0xffff || n > (size_t)(r->end - r->in - 4) || n > (size_t)(out->end - out->next))
        return false;
    memcpy(out->next, r->in + 4, n);
    r->in += 4 + n;
    out->next += n;
    return true;
}

static bool inflate_blocks(reader *r, output *out)
{
    unsigned is_last, type;
    bool good;

    do {
        if (!take(r, 1, &is_last) || !take(r, 2, &type))
            return false;
        good = type == 0 ? inflate_stored(r, out) : type == 1 ? inflate_fixed(r, out) : type == 2 && inflate_dynamic(r, out);
    } while (good && !is_last);
    return good;
}

/* RFC 1950 around RFC 1951: a header of two bytes, and the checksum, which comes with its highest byte first. */
bool lf_inflate_literals(const uint8_t *in, size_t size, uint8_t *out, size_t n)
{
    output o = {out, out + n};
    reader r = {.in = in, .end = in + size};
    uint32_t sum;

    if (size < 2 || (in[0] & 0x0f) != 8 || in[0] >> 4 > 7 || (in[0] << 8 | in[1]) % 31 != 0 || in[1] & 0x20)
        return false;
    r.in += 2;
    if (!inflate_blocks(&r, &o) || o.next != o.end)
        return false;
    align(&r);
    if (r.end - r.in != 4) // all of the input is used
        return false;
    sum = (uint32_t)r.in[0] << 24 | (uint32_t)r.in[1] << 16 | (uint32_t)r.in[2] << 8 | r.in[3];
    return adler32_z(1, out, n) == sum;
}

lf_inflate_result lf_inflate_fast(const uint8_t *in, size_t size, uint8_t *out, size_t n)
{
    return lf_inflate_literals(in, size, out, n) ? LF_INFLATE_OK : lf_inflate_zlib(in, size, out, n);
}
