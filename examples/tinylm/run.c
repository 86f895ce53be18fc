/* SPDX-License-Identifier: MIT */
#include "run.h"

#include "fail.h"
#include "score.h"
#include "text.h"

#include <stdlib.h>
#include <time.h>

typedef struct job {
    const args *args;
    report *report;
    model model;
    session session;
    facts *facts;         /* of each stack */
    text *texts;          /* of each stack */
    lorafmt_view **views; /* of each stack, when they are not merged */
    unmerged unmerged;
} job;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- what is asked, with one stack of adapters or with all --- */

static void write_texts(job *j, size_t first, size_t n, double *seconds)
{
    const writing how = {.n_bytes = j->args->n_bytes, .temperature = j->args->temperature, .seed = j->args->seed};
    const double start = now();

    texts_write(&j->session, j->texts + first, n, &how);
    *seconds = now() - start;
}

static lorafmt_status score(job *j, sequence *q, lorafmt_error *err)
{
    for (size_t i = 0; i < j->args->n_scores; i++) {
        loss found;
        const lorafmt_status status = score_file(&j->session, q, j->args->scores[i], &found, err);
        if (status == LORAFMT_OK)
            report_loss(j->report, j->args->scores[i], &found);
        loss_free(&found);
        if (status != LORAFMT_OK)
            return status;
    }
    return LORAFMT_OK;
}

static lorafmt_status tell(job *j, size_t i, lorafmt_error *err)
{
    facts *f = &j->facts[i];
    text *t = &j->texts[i];

    f->n_written = t->n_written;
    report_facts(j->report, f);
    report_logits(j->report, t->logits, j->args->n_logits);
    if (score(j, &t->sequence, err))
        return err->status;
    if (t->n_prompt)
        report_text(j->report, t->bytes, t->n_prompt, t->n_written);
    return LORAFMT_OK;
}

static lorafmt_status take_digest(job *j, size_t i, lorafmt_error *err)
{
    facts *f = &j->facts[i];

    f->has_digest = j->args->digest;
    return f->has_digest ? lorafmt_runtime_digest(j->model.runtime, f->digest, NULL, err) : LORAFMT_OK;
}

/* --- merged: one stack after the other --- */

/* What is live needs neither stack nor files. */
static lorafmt_status put_on(job *j, size_t i, lorafmt_error *err)
{
    stack *adapters = &j->args->stacks[i];
    facts *f = &j->facts[i];
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

/* Keys and values that a text keeps are of one stack, so all that it reads has to be. */
static lorafmt_status work_with(job *j, size_t i, lorafmt_error *err)
{
    lorafmt_status status;
    unsigned set;

    if (put_on(j, i, err) || take_digest(j, i, err))
        return err->status;
    set = lorafmt_runtime_read_begin(j->model.runtime);
    write_texts(j, i, 1, &j->facts[i].write_time);
    status = tell(j, i, err);
    lorafmt_runtime_read_end(j->model.runtime, set);
    return status;
}

static lorafmt_status work_merged(job *j, lorafmt_error *err)
{
    const session_options options = {.most = MOST_AT_ONCE};

    if (session_start(&j->model, &options, &j->session, err))
        return err->status;
    for (size_t i = 0; i < j->args->n_stacks; i++)
        if (work_with(j, i, err))
            return err->status;
    return LORAFMT_OK;
}

/* --- unmerged: all stacks at once --- */

static lorafmt_status bind_stack(job *j, size_t i, lorafmt_error *err)
{
    stack *adapters = &j->args->stacks[i];
    facts *f = &j->facts[i];
    const double start = now();
    const lorafmt_status status = stack_open(adapters, j->model.base, err);
    const double opened = now();

    if (status != LORAFMT_OK || model_bind(&j->model, adapters, &j->views[i], err))
        return err->status;
    if (unmerged_prepare(j->views[i], err)) {
        stack_name(adapters, err->file, sizeof err->file);
        return err->status;
    }
    f->is_unmerged = true;
    f->open_time = opened - start;
    f->apply_time += now() - opened;
    f->swap.n_sites = lorafmt_view_n_sites(j->views[i]);
    f->swap.n_bound = f->swap.n_sites; /* or it would not have been bound */
    return LORAFMT_OK;
}

static lorafmt_status bind_all(job *j, lorafmt_error *err)
{
    const stack base = {0};
    lorafmt_swap_result result;

    j->views = calloc(j->args->n_stacks, sizeof(lorafmt_view *));
    if (!j->views)
        return fail_memory(err);
    if (model_swap(&j->model, &base, &result, err))
        return err->status;
    for (size_t i = 0; i < j->args->n_stacks; i++)
        if (bind_stack(j, i, err) || take_digest(j, i, err))
            return err->status;
    return unmerged_make(j->views, j->args->n_stacks, &j->unmerged, err);
}

static lorafmt_status work_unmerged(job *j, lorafmt_error *err)
{
    const session_options options = {.most = MOST_AT_ONCE, .unmerged = &j->unmerged};
    double seconds;

    if (bind_all(j, err) || session_start(&j->model, &options, &j->session, err))
        return err->status;
    write_texts(j, 0, j->args->n_stacks, &seconds);
    for (size_t i = 0; i < j->args->n_stacks; i++) {
        j->facts[i].write_time = seconds;
        if (tell(j, i, err))
            return err->status;
    }
    return LORAFMT_OK;
}

/* --- all --- */

static lorafmt_status start_texts(job *j, lorafmt_error *err)
{
    const args *a = j->args;

    j->texts = calloc(a->n_stacks, sizeof *j->texts);
    if (!j->texts)
        return fail_memory(err);
    for (size_t i = 0; i < a->n_stacks; i++) {
        const char *prompt = a->n_prompts ? a->prompts[a->n_prompts == 1 ? 0 : i] : NULL;
        if (text_start(&j->model, (uint32_t)i, prompt, &j->texts[i], err))
            return err->status;
    }
    return LORAFMT_OK;
}

static lorafmt_status work(job *j, lorafmt_error *err)
{
    const double start = now();

    if (!(j->facts = calloc(j->args->n_stacks, sizeof *j->facts)))
        return fail_memory(err);
    if (model_load(j->args->model, j->args->f32 ? LORAFMT_F32 : LORAFMT_BF16, &j->model, err))
        return err->status;
    for (size_t i = 0; i < j->args->n_stacks; i++) {
        j->facts[i].adapters = &j->args->stacks[i];
        j->facts[i].is_swap = i > 0;
    }
    j->facts[0].apply_time = now() - start;
    if (start_texts(j, err))
        return err->status;
    return j->args->unmerged ? work_unmerged(j, err) : work_merged(j, err);
}

lorafmt_status run(const args *a, report *r, lorafmt_error *err)
{
    job j = {.args = a, .report = r};
    const lorafmt_status status = work(&j, err);

    session_free(&j.session);
    unmerged_free(&j.unmerged);
    for (size_t i = 0; i < a->n_stacks; i++) {
        if (j.views)
            lorafmt_view_free(j.views[i]);
        if (j.texts)
            text_free(&j.texts[i]);
    }
    free(j.views);
    free(j.texts);
    free(j.facts);
    model_free(&j.model);
    return status;
}
