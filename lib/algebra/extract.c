/* SPDX-License-Identifier: MIT */
#include "lib/algebra/extract.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/rank.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"

#include <stdlib.h>

typedef struct job {
    lk_extraction x;
    lorakit_adapter *result;
    size_t n_small;
    size_t *order; /* of planned: the small ones, then the others */
} job;

static lorafmt_status check_rank(const lorakit_rank *rank, lorafmt_error *err)
{
    LF_TRY(lk_rank_check(rank, err));
    if (rank->rule != LORAKIT_LOSSLESS && rank->rule != LORAKIT_ENERGY && rank->rule != LORAKIT_MAX_ERROR)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "rank",
                       "a rule that needs all singular values; extract, then resize by it");
    if (rank->rule == LORAKIT_LOSSLESS && rank->most == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "rank", "0, must be 1..%u, or a rule given", LF_MAX_RANK);
    if (rank->most > LF_MAX_RANK)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "rank", "%u, must be 1..%u", (unsigned)rank->most, LF_MAX_RANK);
    return LORAFMT_OK;
}

static lorafmt_status check_options(const lorakit_extract_options *o, lorafmt_error *err)
{
    if (!o)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "options", "none, and the rank has no default");
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    LF_TRY(check_rank(&o->rank, err));
    if (o->name && !lf_adapter_name_valid(o->name))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, o->name,
                       "an adapter name must be 1..255 bytes of UTF-8 without / \\ # = and control characters");
    if (o->others > LORAKIT_OTHERS_SKIP)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "others", "%d, must be one of lorakit_others", (int)o->others);
    if (o->orientation != LORAFMT_OUT_IN && o->orientation != LORAFMT_IN_OUT)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "orientation", "%d, must be OUT_IN or IN_OUT",
                       (int)o->orientation);
    if (o->n_powers > 16)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "n_powers", "%u, must be 0..16", o->n_powers);
    return lk_check_dtype(o->dtype, err);
}

static lorafmt_status check_model(const lorafmt_base *model, const char *which, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(model->struct_size, sizeof *model, err));
    if (!model->read)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "read", "the %s model has no read callback", which);
    if (model->quantization)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "the %s model is quantised (%s): its weights are not numbers that differences could be taken of", which,
                       model->quantization);
    return LORAFMT_OK;
}

static lorafmt_status order_planned(job *j, lorafmt_error *err)
{
    const lk_extraction *x = &j->x;
    size_t n = 0;

    j->order = calloc(x->n_planned + 1, sizeof *j->order);
    if (!j->order)
        return lf_no_memory(err);
    for (int large = 0; large < 2; large++)
        for (size_t i = 0; i < x->n_planned; i++)
            if (lk_planned_is_small(x, &x->planned[i]) != (large == 1))
                j->order[n++] = i;
    for (j->n_small = 0; j->n_small < n && lk_planned_is_small(x, &x->planned[j->order[j->n_small]]);)
        j->n_small++;
    return LORAFMT_OK;
}

static lorafmt_status make(job *j, size_t i, unsigned n_threads, lorafmt_error *err)
{
    const lf_fpenv env = lf_fpenv_enter();
    const size_t at = j->order[i];
    const lorafmt_status st = lk_extract_site(&j->x, &j->x.planned[at], n_threads, &j->result->made[at], err);

    lf_fpenv_leave(env);
    return st;
}

static lorafmt_status make_small(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    (void)unused;
    return make(ctx, i, 1, err);
}

static void measure(lk_extraction *x)
{
    for (size_t i = 0; i < x->n_planned; i++) {
        const lk_pair *pair = &x->planned[i].pair;
        x->meter.total += pair->tuned->tensors[pair->in_tuned].size;
        if (pair->in_base != LK_NOT_THERE)
            x->meter.total += pair->base->tensors[pair->in_base].size;
    }
}

static lorafmt_status run(job *j, lorafmt_error *err)
{
    const lorafmt_adapter nothing = {.name = "extracted", .base_name = "", .base_revision = ""};
    lk_extraction *x = &j->x;

    LF_TRY(lk_extract_plan(x, err));
    LF_TRY(order_planned(j, err));
    LF_TRY(lk_result_new(&nothing, x->options->name ? x->options->name : nothing.name, x->n_planned, &j->result, err));
    measure(x);
    LF_TRY(lf_parallel(j->n_small, x->n_threads, 0, make_small, j, err));
    for (size_t i = j->n_small; i < x->n_planned; i++)
        LF_TRY(make(j, i, x->n_threads, err));
    LF_TRY(lk_result_note(j->result, "extract", NULL, NULL, 0, err));
    return lk_result_finish(j->result, err);
}

lorafmt_status lorakit_extract(const lorafmt_base *base, const lorafmt_base *tuned, const lorakit_extract_options *options,
                               lorakit_extracted *tensors, lorakit_adapter **out, lorafmt_error *err)
{
    job j = {.x = {.base = base, .tuned = tuned, .options = options}};
    lorafmt_status st;

    *out = NULL;
    LF_TRY(check_options(options, err));
    LF_TRY(check_model(base, "base", err));
    LF_TRY(check_model(tuned, "tuned", err));
    j.x.n_threads = lf_n_threads(options->n_threads);
    j.x.tensors = calloc(tuned->n_tensors + 1, sizeof *j.x.tensors);
    if (!j.x.tensors)
        return lf_no_memory(err);
    j.x.meter = (lk_meter){options->progress, options->progress_ctx, 0, PTHREAD_MUTEX_INITIALIZER, 0};
    st = run(&j, err);
    for (size_t i = 0; !st && tensors && i < tuned->n_tensors; i++)
        tensors[i] = j.x.tensors[i];
    if (st)
        lorakit_adapter_free(j.result);
    else
        *out = j.result;
    free(j.order);
    free(j.x.planned);
    free(j.x.d);
    free(j.x.tensors);
    return st;
}
