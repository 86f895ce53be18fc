/* SPDX-License-Identifier: MIT */
/*
 * What it costs tinylm to leave adapters unmerged: writing with an adapter that is merged, beside writing with the base and the
 * adapter's low-rank updates, for one text and for batches. All texts of a merged batch have the one adapter, those of an unmerged one
 * have three by turns. In every round each is done once, one after the other; medians are printed, of the ratio that of the rounds'.
 *
 * usage: bench_unmerged [--json] DEMO_MODEL   --json: a line for each number of texts
 */
#include "examples/tinylm/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 15, N_BYTES = 32, N_ADAPTERS = 3 };

static const char *const adapters[N_ADAPTERS] = {"scripture", "tang", "legal"};
static const size_t batches[] = {1, 3, MOST_AT_ONCE};

/* A model with texts to write. */
typedef struct writer {
    model model;
    session session;
    text texts[MOST_AT_ONCE];
} writer;

static void must(lorafmt_status status, const lorafmt_error *err)
{
    char message[2048];

    if (status == LORAFMT_OK)
        return;
    lorafmt_error_format(err, message, sizeof message);
    fprintf(stderr, "bench_unmerged: %s\n", message);
    exit(1);
}

static void start(writer *w, const char *folder, const stack *merged, const unmerged *u)
{
    const session_options options = {.most = MOST_AT_ONCE, .unmerged = u};
    lorafmt_swap_result result;
    lorafmt_error err;
    char path[4096];

    snprintf(path, sizeof path, "%s/base", folder);
    must(model_load(path, LORAFMT_BF16, &w->model, &err), &err);
    must(model_swap(&w->model, merged, &result, &err), &err);
    must(session_start(&w->model, &options, &w->session, &err), &err);
    for (uint32_t i = 0; i < MOST_AT_ONCE; i++)
        must(text_start(&w->model, i % N_ADAPTERS, "And he said ", &w->texts[i], &err), &err);
}

static void end(writer *w)
{
    for (size_t i = 0; i < MOST_AT_ONCE; i++)
        text_free(&w->texts[i]);
    session_free(&w->session);
    model_free(&w->model);
}

/* Seconds of the one thread for each byte written, the prompts' share among them. */
static double measure(writer *w, size_t n)
{
    const writing how = {.n_bytes = N_BYTES};
    struct timespec start, end;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    texts_write(&w->session, w->texts, n, &how);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    return ((double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9) / (double)(n * N_BYTES);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *x)
{
    qsort(x, ROUNDS, sizeof *x, compare);
    return x[ROUNDS / 2];
}

static void compare_ways(writer *merged, writer *mixed, size_t n, bool json)
{
    double times[2][ROUNDS], ratios[ROUNDS];

    for (size_t i = 0; i < ROUNDS; i++) {
        times[0][i] = measure(merged, n);
        times[1][i] = measure(mixed, n);
        ratios[i] = times[1][i] / times[0][i];
    }
    median(ratios);
    printf(json ? "{\"texts\": %zu, \"merged_us\": %.1f, \"unmerged_us\": %.1f, \"unmerged_over_merged\": [%.3f, %.3f, %.3f]}\n"
                : "%2zu texts: %.1f us for each byte merged, %.1f us unmerged, %.3f x (%.3f .. %.3f)\n",
           n, median(times[0]) * 1e6, median(times[1]) * 1e6, ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
}

static void open_adapter(const char *folder, size_t i, const lorafmt_base *base, stack *out)
{
    static char paths[N_ADAPTERS][4096];
    lorafmt_error err;

    snprintf(paths[i], sizeof paths[i], "%s/adapters/%s", folder, adapters[i]);
    if (stack_add(out, paths[i]) != PARSED)
        must(LORAFMT_NO_MEMORY, &(lorafmt_error){.text = "the adapters' paths cannot be taken"});
    must(stack_open(out, base, &err), &err);
}

int main(int argc, char **argv)
{
    static writer merged, mixed;
    const bool json = argc == 3 && !strcmp(argv[1], "--json");
    const char *folder = argv[argc - 1];
    const stack base = {0};
    stack stacks[N_ADAPTERS] = {{0}};
    lorafmt_view *views[N_ADAPTERS];
    unmerged u = {0};
    lorafmt_error err;
    lorafmt_model *file;
    char path[4096];

    if (argc != 2 && !json) {
        fprintf(stderr, "usage: bench_unmerged [--json] DEMO_MODEL\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/base", folder);
    must(lorafmt_model_open(path, &file, &err), &err);
    for (size_t i = 0; i < N_ADAPTERS; i++) {
        open_adapter(folder, i, lorafmt_model_base(file), &stacks[i]);
        must(lorafmt_bind(lorafmt_model_base(file), stacks[i].entries, 1, NULL, &views[i], &err), &err);
        must(unmerged_prepare(views[i], &err), &err);
    }
    must(unmerged_make(views, N_ADAPTERS, &u, &err), &err);
    start(&merged, folder, &stacks[0], NULL);
    start(&mixed, folder, &base, &u);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
        compare_ways(&merged, &mixed, batches[i], json);
    end(&merged);
    end(&mixed);
    unmerged_free(&u);
    for (size_t i = 0; i < N_ADAPTERS; i++) {
        lorafmt_view_free(views[i]);
        stack_free(&stacks[i]);
    }
    lorafmt_model_free(file);
    return 0;
}
