/* SPDX-License-Identifier: MIT */
#include "train.h"

#include "batch.h"
#include "fail.h"

#include <errno.h>
#include <inttypes.h>
#include <lorafmt/train.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST_NORM 1.0 /* of a gradient: longer ones are made so long */
#define WARM_UP 0.05  /* the share of steps in which the rate rises */
#define N_REPORTS 10  /* on the way */

typedef struct training {
    const train_args *args;
    model model;
    trainable trainable;
    transposed transposed;
    batch batch;
    uint64_t n_steps;
    float *m, *v; /* what AdamW remembers of each number */
    double start;
} training;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- what is told --- */

/* 1402704 is 1,402,704. */
static const char *with_commas(uint64_t n, char out[32])
{
    char digits[32];
    const size_t length = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t k = 0;

    for (size_t i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            out[k++] = ',';
        out[k++] = digits[i];
    }
    out[k] = '\0';
    return out;
}

static void tell_share(const training *t)
{
    char trained[32], all[32];
    uint64_t n = 0;

    for (size_t i = 0; i < t->model.base->n_tensors; i++)
        n += t->model.base->tensors[i].size / sizeof(uint16_t);
    printf("%s of %s parameters are trained, %.1f %%\n", with_commas(t->trainable.n, trained), with_commas(n, all),
           100 * (double)t->trainable.n / (double)n);
    fflush(stdout);
}

static void tell_progress(const training *t, uint64_t step, double lost, float rate)
{
    const double each = (now() - t->start) / (double)step;

    if (step != t->n_steps && step % ((t->n_steps + N_REPORTS - 1) / N_REPORTS))
        return;
    fprintf(stderr, "step %" PRIu64 "/%" PRIu64 "  loss %.4f  rate %.2e  %.0f tokens/s  %.0f s left\n", step, t->n_steps, lost,
            (double)rate, BATCH_SIZE * (WINDOW_SIZE - 1) / each, each * (double)(t->n_steps - step));
}

/* --- steps --- */

/* Up to the whole rate in a straight line, then down to nothing along half a cosine. */
static float rate_at(const training *t, uint64_t step)
{
    const double warm_up = ceil(WARM_UP * (double)t->n_steps), at = (double)step;

    if (at <= warm_up)
        return (float)(t->args->rate * at / warm_up);
    return (float)(t->args->rate * 0.5 * (1 + cos(acos(-1) * (at - warm_up) / ((double)t->n_steps - warm_up))));
}

static void clip(float *gradient, size_t n)
{
    double square = 0;

    for (size_t i = 0; i < n; i++)
        square += (double)gradient[i] * gradient[i];
    if (square <= MOST_NORM * MOST_NORM)
        return;
    for (size_t i = 0; i < n; i++)
        gradient[i] *= (float)(MOST_NORM / sqrt(square));
}

static lorafmt_status take_step(training *t, uint64_t step, lorafmt_error *err)
{
    const lorafmt_adamw how = {.rate = rate_at(t, step), .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
    double lost;

    if (batch_learn(&t->batch, &lost, err))
        return err->status;
    clip(t->batch.gradients, t->trainable.n);
    lorafmt_adamw_step(&how, step, t->trainable.numbers, t->batch.gradients, t->m, t->v, t->trainable.n);
    tell_progress(t, step, lost, how.rate);
    return LORAFMT_OK;
}

/* A batch that is learnt for nothing tells how long one takes. The windows that are chosen do not depend on it. */
static lorafmt_status choose_steps(training *t, lorafmt_error *err)
{
    const uint64_t chance = t->batch.chance;
    const double start = now();
    double lost, steps;

    t->n_steps = t->args->n_steps;
    if (t->n_steps)
        return LORAFMT_OK;
    if (batch_learn(&t->batch, &lost, err))
        return err->status;
    t->batch.chance = chance;
    steps = (double)t->args->seconds / (now() - start);
    t->n_steps = steps < 1 ? 1 : (uint64_t)steps;
    return LORAFMT_OK;
}

static lorafmt_status take_steps(training *t, lorafmt_error *err)
{
    t->m = calloc(t->trainable.n, sizeof *t->m);
    t->v = calloc(t->trainable.n, sizeof *t->v);
    if (!t->m || !t->v)
        return fail_memory(err);
    if (choose_steps(t, err))
        return err->status;
    t->start = now();
    for (uint64_t step = 1; step <= t->n_steps; step++)
        if (take_step(t, step, err))
            return err->status;
    return LORAFMT_OK;
}

/* --- the whole --- */

static lorafmt_status score(training *t, double *mean, lorafmt_error *err)
{
    learner *l = &t->batch.learners[0];
    loss found = {0};
    lorafmt_status status = LORAFMT_OK;

    if (t->args->heldout)
        status = score_file(&l->session, &l->sequence, t->args->heldout, &found, err);
    *mean = found.mean;
    loss_free(&found);
    return status;
}

/* Before a minute is spent on it. */
static lorafmt_status check_output(const char *path, lorafmt_error *err)
{
    const char *slash = strrchr(path, '/');
    char folder[4096];

    if (access(path, F_OK) == 0)
        return fail(err, LORAFMT_IO, path, "", "is there already: remove it, or give -o another name");
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    return access(folder, W_OK) == 0 ? LORAFMT_OK : fail_io(err, folder);
}

static lorafmt_status start(training *t, lorafmt_error *err)
{
    const train_args *a = t->args;
    const stack base = {0};
    const lorakit_init_options options = {
        .struct_size = sizeof options,
        .targets = a->targets,
        .n_targets = a->n_targets,
        .seed = a->seed,
        .rank = a->rank,
        .has_alpha = true,
        .alpha = a->alpha,
    };
    lorafmt_swap_result result;

    if (check_output(a->output, err) || model_load(a->model, LORAFMT_F32, &t->model, err) ||
        model_swap(&t->model, &base, &result, err) || transposed_make(&t->model, &t->transposed, err) ||
        trainable_make(&t->model, &options, &t->trainable, err))
        return err->status;
    return batch_start(a->text, a->seed, a->n_threads, &t->model, &t->transposed, &t->trainable, &t->batch, err);
}

static lorafmt_status work(training *t, lorafmt_error *err)
{
    const train_args *a = t->args;
    double before, after;

    if (start(t, err))
        return err->status;
    tell_share(t);
    if (score(t, &before, err) || take_steps(t, err) || score(t, &after, err) ||
        trainable_save(&t->trainable, &t->model, a->output, a->dtype, err))
        return err->status;
    printf("%" PRIu64 " steps in %.0f s\n", t->n_steps, now() - t->start);
    if (a->heldout)
        printf("%s: %.4f nats per byte before, %.4f after\n", a->heldout, before, after);
    printf("try it: tinylm --model %s --adapter %s --prompt TEXT\n", a->model, a->output);
    return LORAFMT_OK;
}

lorafmt_status train(const train_args *a, lorafmt_error *err)
{
    training t = {.args = a};
    const lorafmt_status status = work(&t, err);

    free(t.m);
    free(t.v);
    batch_free(&t.batch);
    trainable_free(&t.trainable);
    transposed_free(&t.transposed);
    model_free(&t.model);
    return status;
}
