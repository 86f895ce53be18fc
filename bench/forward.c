/* SPDX-License-Identifier: MIT */
/*
 * lorafmt_forward() against its limits, all in one process and in turns: reading the same factors, the multiply-adds at the peak of
 * this level, and, in F32, an sgemv or two sgemm of OpenBLAS for each adapter.
 *
 * usage: bench_forward [--json] [--quick] [--size N] [--rounds N] [--threads N]
 *
 * A layer is N x N (4096). Factors of many layers lie one after another, so that none is in a cache of its core when its turn comes;
 * x and y are the same for all, as a model has just had them in hand. --quick takes a few shapes of all. Medians over the rounds (7)
 * of ratios within a round: "stream" is the part of the time that reading the factors alone takes, one byte after the other, "pages"
 * the same of eight pages at once, which is the fastest that is known, "peak" that of the multiply-adds alone, "limit" that of
 * whichever takes longest of these two and of reading x and changing y, "blas" how many times as long OpenBLAS takes.
 */
#include "lorafmt/forward.h"
#include "bench/peak.h"
#include "lib/view/view.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_OPENBLAS
#include <cblas.h>
#include <unistd.h>
void openblas_set_num_threads(int n);
#endif

enum { MAX_ROUNDS = 99, MAX_ADAPTERS = 64, MAX_TOKENS = 64 * 128, MAX_THREADS = 64, MAX_RANK = 64 };

/* Of factors that are walked through: more than the caches of a core hold. */
static const size_t walk_size = (size_t)192 << 20;

typedef struct bench {
    size_t size, n_rounds;
    unsigned n_threads;
    bool json, quick;
    const level *level;
    uint8_t *factors;
    uint8_t *x, *y;
    float *h; // for OpenBLAS
    double forward[MAX_ROUNDS], stream[MAX_ROUNDS], pages[MAX_ROUNDS], peak[MAX_ROUNDS], moving[MAX_ROUNDS], blas[MAX_ROUNDS];
} bench;

/* What is measured. */
typedef struct shape {
    lorafmt_dtype dtype;
    const char *name;
    size_t rank, n_adapters, n_each; // tokens of each adapter
    bool scattered;                  // tokens of an adapter do not follow one another
} shape;

static size_t unit(const shape *s)
{
    return lorafmt_dtype_bits(s->dtype) / 8;
}

static size_t layer_size(const bench *b, const shape *s)
{
    return 2 * s->n_adapters * s->rank * b->size * unit(s);
}

static size_t n_layers(const bench *b, const shape *s)
{
    return walk_size / layer_size(b, s) ? walk_size / layer_size(b, s) : 1;
}

/* --- the limits --- */

typedef struct share {
    const uint8_t *data; // read
    uint8_t *changed;    // read and written, as many bytes
    size_t size, n_times;
    size_t n_pages; // read at once
    void (*peak)(size_t n_steps);
    size_t n_steps;
} share;

typedef struct line {
    uint64_t words[8];
} line;

enum { PAGE = 4096 };

/* Line by line of some pages at once. */
static void read_pages(const share *s, uint64_t sums[8])
{
    for (size_t done = 0; done + s->n_pages * PAGE <= s->size; done += s->n_pages * PAGE)
        for (size_t i = 0; i < PAGE; i += sizeof(line))
            for (size_t page = 0; page < s->n_pages; page++) {
                const line *l = (const line *)(const void *)(s->data + done + page * PAGE + i);
                for (size_t k = 0; k < 8; k++)
                    sums[k] ^= l->words[k];
            }
}

static void change_lines(const share *s)
{
    line *l = (line *)(void *)s->changed;

    for (size_t i = 0; i < s->size / sizeof *l; i++)
        for (size_t k = 0; k < 8; k++)
            l[i].words[k]++;
}

static void *run_share(void *arg)
{
    const share *s = arg;
    uint64_t sums[8] = {0};

    if (s->peak)
        s->peak(s->n_steps);
    for (size_t k = 0; k < s->n_times; k++) {
        read_pages(s, sums);
        if (s->changed)
            change_lines(s);
    }
    for (size_t k = 0; k < 8; k++)
        sink += (float)(sums[k] & 1);
    return NULL;
}

static double run_shares(share *shares, unsigned n)
{
    const double start = now();
    pthread_t threads[MAX_THREADS];

    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, run_share, &shares[i]) != 0)
            exit(1);
    run_share(&shares[0]);
    for (unsigned i = 1; i < n; i++)
        pthread_join(threads[i], NULL);
    return now() - start;
}

/* n times: read, and change as much when there is anything to. */
static double move(const bench *b, const uint8_t *data, uint8_t *changed, size_t size, size_t n_pages, size_t n)
{
    share shares[MAX_THREADS];
    const size_t each = size / b->n_threads;

    for (unsigned i = 0; i < b->n_threads; i++)
        shares[i] = (share){.data = data + i * each,
                            .changed = changed ? changed + i * each : NULL,
                            .size = each,
                            .n_times = n,
                            .n_pages = n_pages};
    return run_shares(shares, b->n_threads);
}

static double multiply(const bench *b, double flops)
{
    share shares[MAX_THREADS];

    for (unsigned i = 0; i < b->n_threads; i++)
        shares[i] = (share){.peak = b->level->peak, .n_steps = (size_t)(flops / b->n_threads / (double)b->level->flops)};
    return run_shares(shares, b->n_threads);
}

/* --- the ways --- */

static const uint8_t *a_of(const bench *b, const shape *s, size_t layer, size_t adapter)
{
    return b->factors + layer * layer_size(b, s) + adapter * 2 * s->rank * b->size * unit(s);
}

static double forward(const bench *b, const shape *s, lorafmt_workspace *ws)
{
    static uint32_t adapters[MAX_TOKENS];
    const size_t n_tokens = s->n_adapters * s->n_each, n = n_layers(b, s);
    lorafmt_update updates[MAX_ADAPTERS];
    lorafmt_updates layer[MAX_ADAPTERS];
    const double start = now();

    for (size_t t = 0; t < n_tokens; t++)
        adapters[t] = (uint32_t)(s->scattered ? t % s->n_adapters : t / s->n_each);
    for (size_t k = 0; k < n; k++) {
        lorafmt_batch batch = {n_tokens, b->size, b->size, b->x, 0, s->dtype, b->y, 0, s->dtype, adapters, layer, s->n_adapters};
        for (size_t i = 0; i < s->n_adapters; i++) {
            const uint8_t *a = a_of(b, s, k, i);
            updates[i] = (lorafmt_update){b->size,           b->size,  a,   a + s->rank * b->size * unit(s), s->dtype, s->dtype,
                                          (uint32_t)s->rank, 0x1p-10f, NULL};
            layer[i] = (lorafmt_updates){&updates[i], 1};
        }
        if (lorafmt_forward(ws, &batch, NULL))
            exit(1);
    }
    return now() - start;
}

#ifdef HAVE_OPENBLAS
static double blas(const bench *b, const shape *s)
{
    const int size = (int)b->size, rank = (int)s->rank, n = (int)s->n_each;
    const double start = now();

    for (size_t k = 0; k < n_layers(b, s); k++)
        for (size_t i = 0; i < s->n_adapters; i++) {
            const float *a = (const float *)(const void *)a_of(b, s, k, i), *up = a + s->rank * b->size;
            const float *x = (const float *)(const void *)b->x + i * s->n_each * b->size;
            float *y = (float *)(void *)b->y + i * s->n_each * b->size;
            if (n == 1) {
                cblas_sgemv(CblasRowMajor, CblasNoTrans, rank, size, 1, a, size, x, 1, 0, b->h, 1);
                cblas_sgemv(CblasRowMajor, CblasNoTrans, size, rank, 0x1p-10f, up, rank, b->h, 1, 1, y, 1);
            } else {
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, rank, size, 1, x, size, a, size, 0, b->h, rank);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, size, rank, 0x1p-10f, b->h, rank, up, rank, 1, y, size);
            }
        }
    return now() - start;
}
#else
static double blas(const bench *b, const shape *s)
{
    (void)b, (void)s;
    return 0;
}
#endif

/* --- all --- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

typedef struct spread {
    double median, least, most;
} spread;

static spread ratios(const bench *b, const double *over, const double *under)
{
    double r[MAX_ROUNDS];

    for (size_t i = 0; i < b->n_rounds; i++)
        r[i] = over[i] / under[i];
    qsort(r, b->n_rounds, sizeof *r, compare);
    return (spread){r[b->n_rounds / 2], r[0], r[b->n_rounds - 1]};
}

static double longest(double a, double b, double c)
{
    return a > b ? (a > c ? a : c) : b > c ? b : c;
}

static void report(const bench *b, const shape *s)
{
    double limit[MAX_ROUNDS], time = b->forward[0];
    spread stream, pages, peak, both, other;

    for (size_t i = 0; i < b->n_rounds; i++) {
        limit[i] = longest(b->pages[i], b->moving[i], b->peak[i]);
        time = b->forward[i] < time ? b->forward[i] : time;
    }
    stream = ratios(b, b->stream, b->forward);
    pages = ratios(b, b->pages, b->forward);
    peak = ratios(b, b->peak, b->forward);
    both = ratios(b, limit, b->forward);
    other = ratios(b, b->blas, b->forward);
    printf(
        b->json
            ? "{\"level\": \"%s\", \"dtype\": \"%s\", \"threads\": %u, \"rank\": %zu, \"adapters\": %zu, \"tokens\": %zu, "
              "\"scattered\": %d, \"us\": %.1f, \"stream\": [%.3f, %.3f, %.3f], \"pages\": [%.3f, %.3f, %.3f], "
              "\"peak\": [%.3f, %.3f, %.3f], \"limit\": [%.3f, %.3f, %.3f], \"blas\": [%.3f, %.3f, %.3f]}\n"
            : "%-6s %-4s %u  r %2zu  %2zu adapters x %3zu tokens %d  %9.1f us  stream %.3f (%.3f-%.3f)  pages %.3f (%.3f-%.3f)  "
              "peak %.3f (%.3f-%.3f)  limit %.3f (%.3f-%.3f)  blas %.2f (%.2f-%.2f)\n",
        b->level->name, s->name, b->n_threads, s->rank, s->n_adapters, s->n_each, s->scattered,
        1e6 * time / (double)n_layers(b, s), stream.median, stream.least, stream.most, pages.median, pages.least, pages.most,
        peak.median, peak.least, peak.most, both.median, both.least, both.most, other.median, other.least, other.most);
    fflush(stdout);
}

static void measure(bench *b, const shape *s)
{
    const size_t n_tokens = s->n_adapters * s->n_each, n = n_layers(b, s);
    const lorafmt_workspace_options options = {.struct_size = sizeof options,
                                               .max_tokens = n_tokens,
                                               .max_rank = s->rank,
                                               .n_threads = b->n_threads,
                                               .cpu = b->level->cpu};
    const double flops = 4.0 * (double)(n_tokens * s->rank * b->size) * (double)n;
    lorafmt_workspace *ws;

    if (lorafmt_workspace_new(&options, &ws, NULL))
        exit(1);
    for (size_t i = 0; i < b->n_rounds; i++) {
        memset(b->y, 0x11, n_tokens * b->size * unit(s)); // whose numbers are of another type otherwise
        b->forward[i] = forward(b, s, ws);
        b->stream[i] = move(b, b->factors, NULL, n * layer_size(b, s), 1, 1);
        b->pages[i] = move(b, b->factors, NULL, n * layer_size(b, s), 8, 1);
        b->peak[i] = multiply(b, flops);
        b->moving[i] = move(b, b->x, b->y, n_tokens * b->size * unit(s), 8, n);
        b->blas[i] = s->dtype == LORAFMT_F32 && !s->scattered ? blas(b, s) : 0;
    }
    lorafmt_workspace_free(ws);
    report(b, s);
}

static void measure_all(bench *b)
{
    static const size_t ranks[] = {8, 16, 32, 64}, adapters[] = {1, 8, 64}, tokens[] = {1, 4, 64, 2, 128};
    static const shape dtypes[] = {{LORAFMT_F32, "f32", 0, 0, 0, false},
                                   {LORAFMT_F16, "f16", 0, 0, 0, false},
                                   {LORAFMT_BF16, "bf16", 0, 0, 0, false}};

    const size_t step = b->quick ? 2 : 1;

    for (size_t d = 0; d < 3; d += step)
        for (size_t t = 0; t < (b->quick ? 3 : 5); t++)
            for (size_t a = 0; a < 3; a += step)
                for (size_t r = 0; r < 4; r += step) {
                    shape s = dtypes[d];
                    s.rank = ranks[r];
                    s.n_adapters = adapters[a];
                    s.n_each = tokens[t];
                    measure(b, &s);
                    s.scattered = true;
                    if (s.rank == 16 && s.n_adapters == 8 && s.n_each > 1)
                        measure(b, &s);
                }
}

static bool set_number(const char *text, size_t most, size_t *out)
{
    *out = strtoul(text, NULL, 10);
    return *out >= 1 && *out <= most;
}

#ifdef HAVE_OPENBLAS
/* Its threads would go on looking for work long after they had any, in the way of all others; it asks before main() begins. */
static void have_blas_sleep(char **argv)
{
    if (getenv("OPENBLAS_THREAD_TIMEOUT"))
        return;
    setenv("OPENBLAS_THREAD_TIMEOUT", "4", 1);
    execv("/proc/self/exe", argv);
}
#endif

int main(int argc, char **argv)
{
    static bench b = {.size = 4096, .n_rounds = 7};
    size_t n_threads = 1;

#ifdef HAVE_OPENBLAS
    have_blas_sleep(argv);
#endif

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            b.json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            b.quick = true;
        else if (i + 1 < argc && strcmp(argv[i], "--size") == 0      ? !set_number(argv[++i], 1u << 16, &b.size)
                 : i + 1 < argc && strcmp(argv[i], "--rounds") == 0  ? !set_number(argv[++i], MAX_ROUNDS, &b.n_rounds)
                 : i + 1 < argc && strcmp(argv[i], "--threads") == 0 ? !set_number(argv[++i], MAX_THREADS, &n_threads)
                                                                     : true)
            return 2;
    }
    b.n_threads = (unsigned)n_threads;
    b.factors = aligned_alloc(4096, walk_size + 2 * MAX_ADAPTERS * MAX_RANK * b.size * sizeof(float));
    b.x = aligned_alloc(4096, MAX_TOKENS * b.size * sizeof(float));
    b.y = aligned_alloc(4096, MAX_TOKENS * b.size * sizeof(float));
    b.h = aligned_alloc(4096, MAX_TOKENS * MAX_RANK * sizeof(float));
    if (!b.factors || !b.x || !b.y || !b.h)
        return 1;
    memset(b.factors, 0x11, walk_size + 2 * MAX_ADAPTERS * MAX_RANK * b.size * sizeof(float));
    memset(b.x, 0x11, MAX_TOKENS * b.size * sizeof(float));
    memset(b.y, 0x11, MAX_TOKENS * b.size * sizeof(float));
#ifdef HAVE_OPENBLAS
    openblas_set_num_threads((int)n_threads);
#endif
    for (const level *l = levels; l->name; l++)
        if (!(l->flags & ~lf_cpu_flags()))
            b.level = l; // the best
    if (b.level)
        measure_all(&b);
    free(b.factors);
    free(b.x);
    free(b.y);
    free(b.h);
    return 0;
}
