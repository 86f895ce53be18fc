/* SPDX-License-Identifier: MIT */
#include "run.h"

#include "fail.h"
#include "sample.h"
#include "score.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct job {
    const args *args;
    report *report;
    model model;
    session session;
    uint8_t *text;            /* the prompt and what the model wrote after it */
    size_t n_prompt;          /* 0 = nothing is to be written */
    float logits[VOCAB_SIZE]; /* after the prompt */
} job;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- writing --- */

static uint8_t choose(const args *a, const float *logits, uint64_t *chance)
{
    return a->temperature > 0 ? choose_at(logits, a->temperature, draw(chance)) : choose_best(logits);
}

/* The prompt, and room for what comes after it. */
static lorafmt_status take_prompt(job *j, lorafmt_error *err)
{
    const size_t context = j->model.config.max_position_embeddings;

    j->n_prompt = j->args->prompt ? strlen(j->args->prompt) : 0;
    if (j->n_prompt > context)
        return fail(err, LORAFMT_LIMIT, "", "", "the prompt has %zu bytes, the model's context %zu", j->n_prompt, context);
    if (!(j->text = malloc(context)))
        return fail_memory(err);
    if (j->n_prompt)
        memcpy(j->text, j->args->prompt, j->n_prompt);
    return LORAFMT_OK;
}

/* Each time from the same seed. */
static void write_text(job *j, facts *f)
{
    const size_t room = j->model.config.max_position_embeddings - j->n_prompt;
    const size_t n = j->args->n_bytes < room ? j->args->n_bytes : room;
    const double start = now();
    uint64_t chance = j->args->seed;
    const float *logits;

    session_restart(&j->session);
    logits = session_feed_all(&j->session, j->text, j->n_prompt);
    memcpy(j->logits, logits, sizeof j->logits);
    for (size_t i = 0; i < n; i++) {
        uint8_t *next = j->text + j->n_prompt + i;
        *next = choose(j->args, logits, &chance);
        if (i + 1 < n)
            logits = session_feed(&j->session, next, 1);
    }
    f->n_written = n;
    f->write_time = now() - start;
}

/* --- one stack of adapters --- */

static lorafmt_status score(job *j, lorafmt_error *err)
{
    for (size_t i = 0; i < j->args->n_scores; i++) {
        loss found;
        const lorafmt_status status = score_file(&j->session, j->args->scores[i], &found, err);
        if (status == LORAFMT_OK)
            report_loss(j->report, j->args->scores[i], &found);
        loss_free(&found);
        if (status != LORAFMT_OK)
            return status;
    }
    return LORAFMT_OK;
}

static lorafmt_status do_what_is_asked(job *j, facts *f, lorafmt_error *err)
{
    if (j->args->digest && lorafmt_runtime_digest(j->model.runtime, f->digest, NULL, err))
        return err->status;
    f->has_digest = j->args->digest;
    if (j->n_prompt)
        write_text(j, f);
    report_facts(j->report, f);
    report_logits(j->report, j->logits, j->args->n_logits);
    if (score(j, err))
        return err->status;
    if (j->n_prompt)
        report_text(j->report, j->text, j->n_prompt, f->n_written);
    return LORAFMT_OK;
}

/* What is live needs neither stack nor files. */
static lorafmt_status put_on(job *j, stack *adapters, facts *f, lorafmt_error *err)
{
    const double start = now();
    lorafmt_status status = stack_open(adapters, j->model.base, err);
    const double opened = now();

    if (status == LORAFMT_OK)
        status = model_swap(&j->model, adapters, &f->swap, err);
    f->open_time = opened - start;
    f->apply_time += now() - opened;
    stack_close(adapters);
    return status;
}

/* Keys and values that a session keeps are of one stack, so all that it reads has to be. */
static lorafmt_status work_with(job *j, stack *adapters, facts *f, lorafmt_error *err)
{
    lorafmt_status status;
    unsigned set;

    f->adapters = adapters;
    if (put_on(j, adapters, f, err))
        return err->status;
    set = lorafmt_runtime_read_begin(j->model.runtime);
    status = do_what_is_asked(j, f, err);
    lorafmt_runtime_read_end(j->model.runtime, set);
    return status;
}

/* --- all --- */

static lorafmt_status work(job *j, lorafmt_error *err)
{
    const double start = now();
    facts loaded = {0};

    if (model_load(j->args->model, &j->model, err))
        return err->status;
    loaded.apply_time = now() - start;
    if (session_start(&j->model, &j->session, err) || take_prompt(j, err) || work_with(j, &j->args->stacks[0], &loaded, err))
        return err->status;
    for (size_t i = 1; i < j->args->n_stacks; i++) {
        facts swapped = {.is_swap = true};
        if (work_with(j, &j->args->stacks[i], &swapped, err))
            return err->status;
    }
    return LORAFMT_OK;
}

lorafmt_status run(const args *a, report *r, lorafmt_error *err)
{
    job j = {.args = a, .report = r};
    const lorafmt_status status = work(&j, err);

    free(j.text);
    session_free(&j.session);
    model_free(&j.model);
    return status;
}
