/* SPDX-License-Identifier: MIT */
/*
 * Evaluating a matrix against its limits, all in one process and in turns: a pass of rank 0, which moves and converts the same
 * bytes, and the time that the multiply-adds take at the peak of this level.
 *
 * usage: bench_kernel [--json] [--size N] [--rounds N]
 *
 * W is N x N (8192), updated in place, and so are factors of its dtype as an adapter has them; each thread takes as many rows.
 * Medians over the rounds (7). "sum" is the time divided by (rank 0 + flops / peak), "max" by the larger of the two.
 */
#include "bench/peak.h"
#include "lib/kernels/fpenv.h"
#include "lib/view/view.h"
#include "tests/adapters.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANK = 128, MAX_ROUNDS = 99, MAX_THREADS = 2 };

static const size_t ranks[] = {0, 4, 8, 16, 32, 64, 128};
enum { N_RANKS = sizeof ranks / sizeof *ranks };

/* What a thread does: rows of a view, rows of rank 0, or its share of the peak. */
typedef struct work {
    const lorafmt_view *view;
    size_t row, n_rows, stride;
    uint8_t *w;
    const lf_kernels *kernels;
    lf_real type;
    void (*peak)(size_t n_steps);
    size_t n_steps;
} work;

static void move(const work *w)
{
    const lf_fpenv env = lf_fpenv_enter();
    const lf_update u = {.scale = 1};
    const lf_block block = {.from = w->type,
                            .to = w->type,
                            .src = w->w,
                            .dst = w->w,
                            .src_stride = w->stride,
                            .dst_stride = w->stride,
                            .n_rows = w->n_rows,
                            .n_cols = w->stride / lf_real_size(w->type),
                            .updates = &u,
                            .n_updates = 1};
    lf_tally tally = {0};

    w->kernels->merge_block(&block, &tally);
    lf_fpenv_leave(env);
}

static void *run(void *arg)
{
    const work *w = arg;

    if (w->peak)
        w->peak(w->n_steps);
    else if (!w->view)
        move(w);
    else if (lorafmt_view_evaluate(w->view, 0, w->row, w->n_rows, w->w, w->stride, w->w, w->stride, NULL, NULL))
        exit(1);
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
    void *factor; // as A and as B, of any rank
    lf_kernels kernels;
    lorafmt_view *views[N_RANKS];
    double seconds[MAX_ROUNDS], moving[MAX_ROUNDS], multiplying[MAX_ROUNDS];
} bench;

static double pass(bench *b, lf_real type, unsigned n_threads, size_t r)
{
    const size_t stride = b->size * lf_real_size(type), n_rows = b->size / n_threads;
    work works[MAX_THREADS];

    for (unsigned i = 0; i < n_threads; i++)
        works[i] = (work){.view = b->views[r],
                          .row = i * n_rows,
                          .n_rows = n_rows,
                          .stride = stride,
                          .w = b->w + i * n_rows * stride,
                          .kernels = &b->kernels,
                          .type = type};
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

/* What each round's time is over its limits: median, least and most. */
static void report(const bench *b, const level *l, const char *dtype, unsigned n_threads, size_t r)
{
    const double flops = 2.0 * (double)ranks[r] * (double)b->size * (double)b->size;
    double sum[MAX_ROUNDS], max[MAX_ROUNDS];

    for (size_t i = 0; i < b->n_rounds; i++) {
        sum[i] = b->seconds[i] / (b->moving[i] + b->multiplying[i]);
        max[i] = b->seconds[i] / (b->moving[i] > b->multiplying[i] ? b->moving[i] : b->multiplying[i]);
    }
    qsort(sum, b->n_rounds, sizeof *sum, compare);
    qsort(max, b->n_rounds, sizeof *max, compare);
    printf(b->json ? "{\"level\": \"%s\", \"dtype\": \"%s\", \"threads\": %u, \"rank\": %zu, \"ms\": %.3f, \"rank_0_ms\": %.3f, "
                     "\"peak_gflops\": %.1f, \"sum\": %.3f, \"sum_least\": %.3f, \"sum_most\": %.3f, \"max\": %.3f}\n"
                   : "%-7s %-4s %u  r %3zu  %8.2f ms   rank 0 %7.2f ms   peak %6.1f GFLOP/s   sum %.3f (%.3f-%.3f)   max %.3f\n",
           l->name, dtype, n_threads, ranks[r], 1e3 * median(b->seconds, b->n_rounds), 1e3 * median(b->moving, b->n_rounds),
           1e-9 * flops / median(b->multiplying, b->n_rounds), median(sum, b->n_rounds), sum[0], sum[b->n_rounds - 1],
           median(max, b->n_rounds));
    fflush(stdout);
}

/* As many multiply-adds as a rank takes, all in registers. */
static double multiply(const bench *b, const level *l, unsigned n_threads, size_t r)
{
    work works[MAX_THREADS];

    for (unsigned i = 0; i < n_threads; i++)
        works[i] = (work){.peak = l->peak, .n_steps = 2 * ranks[r] * b->size * b->size / n_threads / l->flops};
    return run_all(works, n_threads);
}

/* A rank and its limits, one right after the other: other work on the machine comes and goes. */
static void measure(bench *b, const level *l, lf_real type, const char *dtype, unsigned n_threads, size_t r)
{
    for (size_t i = 0; i < b->n_rounds; i++) {
        b->moving[i] = pass(b, type, n_threads, 0);
        b->seconds[i] = pass(b, type, n_threads, r);
        b->multiplying[i] = multiply(b, l, n_threads, r);
    }
    report(b, l, dtype, n_threads, r);
}

/* Views of W with an adapter of every rank; rank 0 has none. */
static void measure_dtype(bench *b, const level *l, lorafmt_dtype dtype, const char *name)
{
    const uint64_t n = b->size;
    const lorafmt_base_tensor w = {.name = "w",
                                   .dtype = dtype,
                                   .n_dims = 2,
                                   .shape = {n, n},
                                   .size = n * n * lorafmt_dtype_bits(dtype) / 8};
    const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 1, .tensors = &w};
    const lorafmt_bind_options options = {.struct_size = sizeof options, .cpu = l->cpu};
    const lf_real type = lf_real_of(dtype);
    lf_tally unused = {0};

    for (size_t i = 0; i < n * MAX_RANK; i++) {
        const float x = 0x1p-5f * (float)rand() / (float)RAND_MAX;
        lf_narrow_f32(type, &x, (uint8_t *)b->factor + i * lf_real_size(type), 1, &unused);
    }
    for (size_t r = 1; r < N_RANKS; r++) {
        const uint32_t rank = (uint32_t)ranks[r];
        lorafmt_factor f[2];
        lorafmt_site site = test_low_rank("w", LORAFMT_KIND_LINEAR, rank, n, n, NULL, NULL, f);
        const lorafmt_adapter adapter = test_adapter("x", &site, 1);
        const lorafmt_stack_entry entry = {&adapter, 1.0};
        f[0].tensor = test_tensor(dtype, rank, n, b->factor);
        f[1].tensor = test_tensor(dtype, n, rank, b->factor);
        if (lorafmt_bind(&base, &entry, 1, &options, &b->views[r], NULL))
            exit(1);
    }
    lf_kernels_init(&b->kernels, l->flags);
    memset(b->w, 0, n * n * lf_real_size(type));
    for (unsigned n_threads = 1; n_threads <= MAX_THREADS; n_threads++)
        for (size_t r = 1; r < N_RANKS; r++)
            measure(b, l, type, name, n_threads, r);
    for (size_t r = 1; r < N_RANKS; r++)
        lorafmt_view_free(b->views[r]);
}

int main(int argc, char **argv)
{
    static const lorafmt_dtype dtypes[] = {LORAFMT_BF16, LORAFMT_F16, LORAFMT_F32};
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
    b.factor = malloc(b.size * MAX_RANK * sizeof(float));
    if (!b.w || !b.factor)
        return 1;
    for (const level *l = levels; l->name; l++)
        for (size_t t = 0; !(l->flags & ~lf_cpu_flags()) && t < sizeof dtypes / sizeof *dtypes; t++)
            measure_dtype(&b, l, dtypes[t], names[t]);
    free(b.w);
    free(b.factor);
    return 0;
}
