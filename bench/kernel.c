/* SPDX-License-Identifier: MIT */
/*
 * The kernel that merges blocks of rows against its limits, all in one process and in turns: a pass of rank 0, which moves and
 * converts the same bytes, and the time that the multiply-adds take at the peak of this level.
 *
 * usage: bench_kernel [--json] [--size N] [--rounds N]
 *
 * W is N x N (8192), updated in place, the factors lie in panels; medians over the rounds (7). "sum" is the time divided by (rank
 * 0 + flops / peak), "max" by the larger of the two.
 */
#include "lib/kernels/fpenv.h"
#include "lib/kernels/kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MAX_RANK = 128, MAX_ROUNDS = 99, MAX_THREADS = 2 };

static const size_t ranks[] = {0, 4, 8, 16, 32, 64, 128};
enum { N_RANKS = sizeof ranks / sizeof *ranks };

typedef struct level {
    const char *name;
    unsigned flags;
    size_t flops; // of one call of peak(), for each thread
    void (*peak)(void);
} level;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define PEAK_STEPS 2000000

#define SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#if defined(__x86_64__)
static volatile float sink;

#define ZERO(i) __m256 s##i = _mm256_set1_ps((float)(i));
#define STEP(i) s##i = _mm256_fmadd_ps(s##i, x, y);
#define TAKE(i) total = _mm256_add_ps(total, s##i);
__attribute__((target("avx2,fma"))) static void peak_avx2(void)
{
    __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(sink), total = _mm256_setzero_ps();
    SUMS(ZERO)
    for (size_t k = 0; k < PEAK_STEPS; k++) {
        SUMS(STEP)
    }
    SUMS(TAKE)
    sink = _mm256_cvtss_f32(total);
}
#undef ZERO
#undef STEP
#undef TAKE
#endif

static const level levels[] = {
#if defined(__x86_64__)
    {"avx2", LF_CPU_FMA, (size_t)PEAK_STEPS * 12 * 8 * 2, peak_avx2},
#endif
    {NULL, 0, 0, NULL},
};

/* What a thread does: its rows, or its share of the peak. */
typedef struct work {
    const lf_kernels *kernels;
    lf_block block;
    void (*peak)(void);
} work;

static void *run(void *arg)
{
    const work *w = arg;
    const lf_fpenv env = lf_fpenv_enter();
    lf_tally tally = {0};

    if (w->peak)
        w->peak();
    else
        w->kernels->merge_block(&w->block, &tally);
    lf_fpenv_leave(env);
    return NULL;
}

static double run_all(work *works, unsigned n)
{
    const double start = now();
    pthread_t threads[MAX_THREADS];

    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, run, &works[i]) != 0)
            exit(1);
    run(&works[0]);
    for (unsigned i = 1; i < n; i++)
        pthread_join(threads[i], NULL);
    return now() - start;
}

typedef struct bench {
    size_t size, n_rounds;
    bool json;
    uint8_t *w;
    float *left, *panels[N_RANKS];
    lf_kernels kernels;
    double seconds[N_RANKS][MAX_ROUNDS], peak[MAX_ROUNDS];
} bench;

static double pass(bench *b, lf_real type, unsigned n_threads, size_t r)
{
    const lf_update u = {b->left, b->panels[r], ranks[r], 0x1p-10f};
    const size_t stride = b->size * lf_real_size(type), n_rows = b->size / n_threads;
    work works[MAX_THREADS];

    for (unsigned i = 0; i < n_threads; i++)
        works[i] = (work){.kernels = &b->kernels,
                          .block = {.from = type,
                                    .to = type,
                                    .src = b->w + i * n_rows * stride,
                                    .dst = b->w + i * n_rows * stride,
                                    .src_stride = stride,
                                    .dst_stride = stride,
                                    .n_rows = n_rows,
                                    .n_cols = b->size,
                                    .updates = &u,
                                    .n_updates = 1}};
    return run_all(works, n_threads);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *values, size_t n)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* Median, least and most of what each round's time is over its limits. */
static void report(const bench *b, const level *l, const char *dtype, unsigned n_threads, size_t r)
{
    const double flops = 2.0 * (double)ranks[r] * (double)b->size * (double)b->size;
    double sum[MAX_ROUNDS], max[MAX_ROUNDS];

    for (size_t i = 0; i < b->n_rounds; i++) {
        const double move = b->seconds[0][i], multiply = flops / b->peak[i];
        sum[i] = b->seconds[r][i] / (move + multiply);
        max[i] = b->seconds[r][i] / (move > multiply ? move : multiply);
    }
    qsort(sum, b->n_rounds, sizeof *sum, compare);
    qsort(max, b->n_rounds, sizeof *max, compare);
    printf(b->json ? "{\"level\": \"%s\", \"dtype\": \"%s\", \"threads\": %u, \"rank\": %zu, \"ms\": %.3f, \"rank_0_ms\": %.3f, "
                     "\"peak_gflops\": %.1f, \"sum\": %.3f, \"sum_least\": %.3f, \"sum_most\": %.3f, \"max\": %.3f}\n"
                   : "%-7s %-4s %u  r %3zu  %8.2f ms   rank 0 %7.2f ms   peak %6.1f GFLOP/s   sum %.3f (%.3f-%.3f)   max %.3f\n",
           l->name, dtype, n_threads, ranks[r], 1e3 * median(b->seconds[r], b->n_rounds),
           1e3 * median(b->seconds[0], b->n_rounds), 1e-9 * median(b->peak, b->n_rounds), median(sum, b->n_rounds), sum[0],
           sum[b->n_rounds - 1], median(max, b->n_rounds));
}

static void measure(bench *b, const level *l, lf_real type, const char *dtype, unsigned n_threads)
{
    work peak[MAX_THREADS];

    lf_kernels_init(&b->kernels, l->flags);
    memset(b->w, 0, b->size * b->size * lf_real_size(type));
    for (unsigned i = 0; i < n_threads; i++)
        peak[i] = (work){.peak = l->peak};
    for (size_t i = 0; i < b->n_rounds; i++) {
        for (size_t r = 0; r < N_RANKS; r++)
            b->seconds[r][i] = pass(b, type, n_threads, r);
        b->peak[i] = (double)(n_threads * l->flops) / run_all(peak, n_threads);
    }
    for (size_t r = 1; r < N_RANKS; r++)
        report(b, l, dtype, n_threads, r);
    fflush(stdout);
}

static float *draw(size_t n)
{
    float *x = aligned_alloc(64, n * sizeof *x);

    if (!x)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return x;
}

int main(int argc, char **argv)
{
    static const lf_real types[] = {LF_REAL_BF16, LF_REAL_F16, LF_REAL_F32};
    static const char *const names[] = {"bf16", "f16", "f32"};
    static bench b = {.size = 8192, .n_rounds = 7};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            b.json = true;
        else if (strcmp(argv[i], "--size") == 0 && i + 1 < argc)
            b.size = strtoul(argv[++i], NULL, 10) / 64 * 64;
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            b.n_rounds = strtoul(argv[++i], NULL, 10);
        else
            return 2;
    }
    if (!b.size || !b.n_rounds || b.n_rounds > MAX_ROUNDS)
        return 2;
    b.w = aligned_alloc(64, b.size * b.size * sizeof(float));
    b.left = draw(b.size * MAX_RANK);
    for (size_t r = 0; r < N_RANKS; r++)
        b.panels[r] = draw(lf_panels_size(ranks[r] ? ranks[r] : 1, b.size));
    if (!b.w)
        return 1;
    for (const level *l = levels; l->name; l++)
        for (size_t t = 0; !(l->flags & ~lf_cpu_flags()) && t < sizeof types / sizeof *types; t++)
            for (unsigned n_threads = 1; n_threads <= MAX_THREADS; n_threads++)
                measure(&b, l, types[t], names[t], n_threads);
    free(b.w);
    free(b.left);
    for (size_t r = 0; r < N_RANKS; r++)
        free(b.panels[r]);
    return 0;
}
