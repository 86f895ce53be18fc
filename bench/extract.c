/* SPDX-License-Identifier: MIT */
/*
 * The sketch of extracting, on a matrix whose singular values are known well enough: a planted update of rank 64 and noise.
 *
 * usage: bench_extract [--json] [--rows N] [--cols N] [--rank R] [--gap G] [--powers N] [--threads N] [--rounds N]
 *
 * D is N x N (4096 x 11008). The planted values fall evenly on a logarithmic scale, the first 30 times the last, and the last is
 * G (2) times the largest of the noise. "frobenius" is what rank R leaves out over the least that any matrix of that rank does,
 * "spectral" the same in the spectral norm; the best there is comes from a sketch four times as wide with ten powers. "time" is
 * that of the sketch and its singular values over that of as many multiply-adds in square products on as many threads, which
 * take turns with it.
 */
#include "lib/algebra/decompose.h"
#include "lib/algebra/lapack.h"
#include "lib/threads/parallel.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma weak openblas_set_num_threads
void openblas_set_num_threads(int n);

enum { SQUARE = 2048, MAX_ROUNDS = 99, NORM_WIDTH = 16, REFERENCE_POWERS = 10 };

typedef struct setting {
    bool json;
    size_t rows, cols, rank;
    double gap;
    unsigned powers, threads, rounds;
} setting;

typedef struct measured {
    double frobenius, spectral;
    double time[MAX_ROUNDS], gemm[MAX_ROUNDS]; /* seconds */
} measured;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(lorafmt_status st)
{
    if (st) {
        fprintf(stderr, "bench_extract: %s\n", lorafmt_status_name(st));
        exit(1);
    }
}

static float *drawn(uint64_t seed, size_t n_rows, size_t n_cols)
{
    float *x = lk_matrix_new_f32(n_rows, n_cols);

    must(x ? LORAFMT_OK : LORAFMT_NO_MEMORY);
    lk_gaussian(seed, 0, x, n_rows * n_cols);
    return x;
}

/*
 * Noise of deviation 1 has a largest singular value of sqrt(rows) + sqrt(cols); drawn columns are orthogonal but for 1 /
 * sqrt(rows).
 */
static float *plant(const setting *s)
{
    float *d = drawn(1, s->rows, s->cols), *left = drawn(2, s->rows, s->rank), *right = drawn(3, s->cols, s->rank);
    const double last = s->gap * (sqrt((double)s->rows) + sqrt((double)s->cols));
    const double unit = sqrt((double)s->rows) * sqrt((double)s->cols);

    for (size_t k = 0; k < s->rank; k++) {
        const double value = last * pow(30, 1 - (double)k / (double)(s->rank - 1));
        for (size_t i = 0; i < s->rows; i++)
            left[k * s->rows + i] *= (float)(value / unit);
    }
    lk_multiply_f32(LK_PLAIN, LK_TRANSPOSED, s->cols, s->rows, s->rank, 1, right, s->cols, left, s->rows, 1, d, s->cols);
    free(left);
    free(right);
    return d;
}

static lk_decomposition sketch(const setting *s, const float *d, size_t width, unsigned powers)
{
    const lk_sketch_options options = {.width = width, .n_powers = powers, .seed = 7, .n_threads = s->threads};
    lk_decomposition out;

    must(lk_decompose_sketch(d, s->rows, s->cols, &options, &out, NULL));
    return out;
}

/* The spectral norm of what a decomposition's rank leaves out; d is overwritten with it. */
static double spectral_rest(const setting *s, float *d, const lk_decomposition *found)
{
    lk_decomposition rest;
    lk_thin thin;
    float *sides[2];
    double norm;

    must(lk_decomposition_split(found, s->rank, &thin, NULL));
    for (int side = 0; side < 2; side++) {
        const size_t n = side ? s->cols : s->rows;
        const double *from = side ? thin.right : thin.left;
        must((sides[side] = lk_matrix_new_f32(n, s->rank)) ? LORAFMT_OK : LORAFMT_NO_MEMORY);
        for (size_t i = 0; i < n * s->rank; i++)
            sides[side][i] = (float)from[i];
    }
    lk_multiply_f32(LK_PLAIN, LK_TRANSPOSED, s->cols, s->rows, s->rank, -1, sides[1], s->cols, sides[0], s->rows, 1, d, s->cols);
    rest = sketch(s, d, NORM_WIDTH, REFERENCE_POWERS);
    norm = rest.s[0];
    lk_decomposition_free(&rest);
    lk_thin_free(&thin);
    free(sides[0]);
    free(sides[1]);
    return norm;
}

static lorafmt_status square_product(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    float *const *m = ctx;

    (void)unused;
    (void)err;
    lk_multiply_f32(LK_PLAIN, LK_PLAIN, SQUARE, SQUARE, SQUARE, 1, m[0], SQUARE, m[1], SQUARE, 0, m[2 + i], SQUARE);
    return LORAFMT_OK;
}

/* Seconds for a multiply and an add, on all threads. */
static double seconds_per_step(const setting *s, float **m)
{
    const double start = now();

    must(lf_parallel(s->threads, s->threads, 0, square_product, m, NULL));
    return (now() - start) / ((double)s->threads * SQUARE * SQUARE * SQUARE);
}

static void measure(const setting *s, measured *out)
{
    const size_t width = s->rank + LK_OVERSAMPLING;
    const double steps = (double)s->rows * (double)s->cols * (double)width * (2 * s->powers + 3);
    float *d = plant(s), *m[2 + 64];

    for (size_t i = 0; i < 2 + s->threads; i++)
        m[i] = drawn(i, SQUARE, SQUARE);
    for (unsigned round = 0; round < s->rounds; round++) {
        const double start = now();
        lk_decomposition found = sketch(s, d, width, s->powers), best;
        out->time[round] = now() - start;
        out->gemm[round] = steps * seconds_per_step(s, m);
        if (round + 1 == s->rounds) {
            best = sketch(s, d, 4 * s->rank, REFERENCE_POWERS);
            out->frobenius = lk_decomposition_left_out(&found, s->rank) / lk_decomposition_left_out(&best, s->rank);
            out->spectral = spectral_rest(s, d, &found) / best.s[s->rank];
            lk_decomposition_free(&best);
        }
        lk_decomposition_free(&found);
    }
    for (size_t i = 0; i < 2 + s->threads; i++)
        free(m[i]);
    free(d);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print(const setting *s, const measured *m)
{
    double ratio[MAX_ROUNDS], time[MAX_ROUNDS];
    const unsigned n = s->rounds;

    for (unsigned i = 0; i < n; i++)
        ratio[i] = m->time[i] / m->gemm[i];
    memcpy(time, m->time, sizeof time);
    qsort(ratio, n, sizeof *ratio, compare);
    qsort(time, n, sizeof *time, compare);
    printf(
        s->json
            ? "{\"rows\": %zu, \"cols\": %zu, \"rank\": %zu, \"gap\": %g, \"powers\": %u, \"threads\": %u, \"frobenius\": %.6f, "
              "\"spectral\": %.6f, \"seconds\": %.3f, \"time\": %.3f, \"time_least\": %.3f, \"time_most\": %.3f}\n"
            : "%zu x %zu, rank %zu, gap %g, %u powers, %u threads: frobenius %.6f, spectral %.6f, %.3f s, time %.3f (%.3f .. "
              "%.3f)\n",
        s->rows, s->cols, s->rank, s->gap, s->powers, s->threads, m->frobenius, m->spectral, time[n / 2], ratio[n / 2], ratio[0],
        ratio[n - 1]);
}

static double number(char **argv, int *i)
{
    const char *name = argv[*i], *text = argv[++*i];
    char *end;
    const double x = text ? strtod(text, &end) : -1;

    if (!text || *end || !(x >= 0)) {
        fprintf(stderr, "bench_extract: %s: bad option\n", name);
        exit(2);
    }
    return x;
}

int main(int argc, char **argv)
{
    setting s = {false, 4096, 11008, 64, 2, LK_N_POWERS, lf_n_threads(0), 5};
    static measured m;

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--json"))
            s.json = true;
        else if (!strcmp(name, "--rows"))
            s.rows = (size_t)number(argv, &i);
        else if (!strcmp(name, "--cols"))
            s.cols = (size_t)number(argv, &i);
        else if (!strcmp(name, "--rank"))
            s.rank = (size_t)number(argv, &i);
        else if (!strcmp(name, "--gap"))
            s.gap = number(argv, &i);
        else if (!strcmp(name, "--powers"))
            s.powers = (unsigned)number(argv, &i);
        else if (!strcmp(name, "--threads"))
            s.threads = (unsigned)number(argv, &i);
        else
            s.rounds = (unsigned)number(argv, &i);
    }
    if (s.rank < 2 || s.rows < 8 * s.rank || s.cols < 8 * s.rank || s.threads < 1 || s.threads > 64 || s.rounds < 1 ||
        s.rounds > MAX_ROUNDS) {
        fprintf(stderr, "bench_extract: rank 2 or more, sides 8 times as much, 1..64 threads, 1..%d rounds\n", MAX_ROUNDS);
        return 2;
    }
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    measure(&s, &m);
    print(&s, &m);
    return 0;
}
