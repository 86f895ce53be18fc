/* SPDX-License-Identifier: MIT */
/*
 * Times the decoding of codec split on one core, with its own decoder, with zlib alone and, where it is installed, with libdeflate
 * (which the library does not use: it takes streams that zlib refuses), beside copying the same bytes and beside
 * inflating all of them as one zlib stream of the default level. In every round each is done once; the medians are
 * printed with the range, in bytes decoded per second.
 *
 * usage: bench_decode [--json] ADAPTER...   the values of all their tensors, over and over, as F32 and as BF16
 */
#include "format/base/arena.h"
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/container/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zlib.h>
#if HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

enum { ROUNDS = 9 };

#define N_BYTES (UINT64_C(64) << 20)

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench_decode: %s\n", what);
        exit(1);
    }
}

typedef struct buffer {
    uint8_t *bytes;
    size_t size;
} buffer;

static lorafmt_status append(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    buffer *b = ctx;

    (void)err;
    b->bytes = realloc(b->bytes, b->size + size);
    require(b->bytes != NULL, "out of memory");
    memcpy(b->bytes + b->size, data, size);
    b->size += size;
    return LORAFMT_OK;
}

/* --- the data: what adapters hold, as F32 --- */

static void append_tensor(buffer *values, const lorafmt_tensor *t)
{
    const uint8_t *p = t->data;

    for (uint64_t i = 0; i < t->size && t->dtype == LORAFMT_BF16; i += 2)
        append(values, (const uint8_t[4]){0, 0, p[i], p[i + 1]}, 4, NULL);
    if (t->dtype == LORAFMT_F32)
        append(values, p, (size_t)t->size, NULL);
}

static void append_adapters(buffer *values, const char *path)
{
    lorafmt_source *source;

    require(lorafmt_source_open(path, NULL, &source, NULL) == LORAFMT_OK, path);
    for (size_t a = 0; a < lorafmt_source_n_adapters(source); a++) {
        const lorafmt_adapter *adapter = lorafmt_source_adapter(source, a);
        for (size_t i = 0; i < adapter->n_sites; i++)
            for (uint32_t k = 0; k < adapter->sites[i].n_factors; k++)
                append_tensor(values, &adapter->sites[i].factors[k].tensor);
    }
    lorafmt_source_free(source);
}

/* N_BYTES of the values, over and over; as BF16 the upper halves, which is near enough to rounding them. */
static uint8_t *make_data(const buffer *values, lorafmt_dtype dtype)
{
    const unsigned width = lorafmt_dtype_bits(dtype) / 8;
    uint8_t *data = malloc(N_BYTES);

    require(data && values->size, "no data");
    for (size_t i = 0, from = 0; i < N_BYTES; i += width, from = (from + 4) % values->size)
        memcpy(data + i, values->bytes + from + 4 - width, width);
    return data;
}

/* --- what is timed --- */

#if HAVE_LIBDEFLATE
static lf_inflate_result inflate_libdeflate(const uint8_t *in, size_t size, uint8_t *out, size_t n)
{
    static struct libdeflate_decompressor *decompressor;

    if (!decompressor)
        decompressor = libdeflate_alloc_decompressor();
    return libdeflate_zlib_decompress(decompressor, in, size, out, n, NULL) == LIBDEFLATE_SUCCESS ? LF_INFLATE_OK
                                                                                                  : LF_INFLATE_BAD;
}
#endif

typedef struct work {
    const char *name;
    lf_inflate *inflate; /* or NULL: see run() */
    double seconds[ROUNDS];
} work;

typedef struct subject {
    lf_container *container;
    const uint8_t *data;
    buffer deflated; /* all of data, as one stream */
    uint8_t *out;
} subject;

static void run(const subject *s, const work *w)
{
    uLongf size = N_BYTES;

    if (w->inflate)
        require(lf_tensor_decode(s->container, 0, w->inflate, s->out, NULL) == LORAFMT_OK, "decoding failed");
    else if (w->name[0] == 'm')
        memcpy(s->out, s->data, N_BYTES);
    else
        require(uncompress(s->out, &size, s->deflated.bytes, s->deflated.size) == Z_OK, "inflating failed");
}

static double timed(const subject *s, const work *w)
{
    struct timespec begin, end;

    memset(s->out, 0, N_BYTES);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run(s, w);
    clock_gettime(CLOCK_MONOTONIC, &end);
    require(memcmp(s->out, s->data, N_BYTES) == 0, "decoded to other bytes");
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(lorafmt_dtype dtype, size_t file_size, const subject *s, work *works, size_t n, bool json)
{
    if (!json)
        printf("%s, %d MiB of values: split %.3f times smaller, deflate %.3f\n", lorafmt_dtype_name(dtype), (int)(N_BYTES >> 20),
               (double)N_BYTES / (double)file_size, (double)N_BYTES / (double)s->deflated.size);
    for (size_t i = 0; i < n; i++)
        qsort(works[i].seconds, ROUNDS, sizeof works[i].seconds[0], compare);
    for (size_t i = 0; i < n; i++) {
        const double *t = works[i].seconds;
        const double speeds[] = {N_BYTES / t[ROUNDS / 2] / 1e9, N_BYTES / t[ROUNDS - 1] / 1e9, N_BYTES / t[0] / 1e9};
        const double over_memcpy = t[ROUNDS / 2] / works[0].seconds[ROUNDS / 2];
        if (json)
            printf(
                "{\"dtype\": \"%s\", \"way\": \"%s\", \"gb_s\": [%.3f, %.3f, %.3f], \"over_memcpy\": %.3f, \"smaller\": %.3f}\n",
                lorafmt_dtype_name(dtype), works[i].name, speeds[0], speeds[1], speeds[2], over_memcpy,
                (double)N_BYTES / (double)file_size);
        else
            printf("  %-18s %6.2f GB/s  (%.2f .. %.2f)  %5.1f x the time of memcpy\n", works[i].name, speeds[0], speeds[1],
                   speeds[2], over_memcpy);
    }
}

static void measure(const buffer *values, lorafmt_dtype dtype, bool json)
{
    uint8_t *data = make_data(values, dtype);
    const lorafmt_factor factor =
        {LORAFMT_ROLE_VALUE,
         {.dtype = dtype, .n_dims = 1, .shape = {N_BYTES * 8 / lorafmt_dtype_bits(dtype)}, .size = N_BYTES, .data = data}};
    const lorafmt_site site = {.target = "w", .kind = LORAFMT_KIND_SAVED, .scale = 1, .n_factors = 1, .factors = &factor};
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_adapter *const adapters[] = {&adapter};
    work works[] =
    { {.name = "memcpy"},
      {.name = "inflate of all"},
      {.name = "split, zlib", .inflate = lf_inflate_zlib},
#if HAVE_LIBDEFLATE
      {.name = "split, libdeflate", .inflate = inflate_libdeflate},
#endif
      {.name = "split", .inflate = lf_inflate_fast},
    };
    const size_t n = sizeof works / sizeof works[0];
    subject s = {.data = data, .out = malloc(N_BYTES)};
    uLongf deflated_size = compressBound(N_BYTES);
    buffer file = {0};
    uint64_t file_size;

    require(lf_container_encode(adapters, 1, 6, LORAFMT_CODEC_SPLIT, append, &file, &file_size, NULL) == LORAFMT_OK, "encoding");
    require(lf_container_open(file.bytes, file.size, 0, &s.container, NULL) == LORAFMT_OK, "opening");
    require(s.out && (s.deflated.bytes = malloc(deflated_size)), "out of memory");
    require(compress(s.deflated.bytes, &deflated_size, data, N_BYTES) == Z_OK, "deflating");
    s.deflated.size = deflated_size;
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < n; i++)
            works[i].seconds[round] = timed(&s, &works[i]);
    report(dtype, file.size, &s, works, n, json);
    lf_container_free(s.container);
    free(s.deflated.bytes);
    free(s.out);
    free(file.bytes);
    free(data);
}

int main(int argc, char **argv)
{
    const bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    buffer values = {0};

    for (int i = 1 + json; i < argc; i++)
        append_adapters(&values, argv[i]);
    measure(&values, LORAFMT_F32, json);
    measure(&values, LORAFMT_BF16, json);
    free(values.bytes);
    return 0;
}
