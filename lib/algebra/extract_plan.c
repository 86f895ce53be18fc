/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/extract.h"
#include "lib/algebra/names.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SIZE 640 /* two shapes, or a part of a name, which may be 1 KiB */

typedef struct planner {
    lk_extraction *x;
    const lorafmt_base_tensor **by_name; /* of the base */
    size_t *in_base;                     /* of each tensor of tuned */
    bool *differs;                       /* so too; only of those of one shape */
    bool *in_tuned;                      /* of each tensor of the base: has tuned one of that name? */
    size_t n_refused;
    lorafmt_status status; /* of the first that was refused */
    const char *first;
    char text[TEXT_SIZE];
} planner;

/* --- names --- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const lorafmt_base_tensor *const *)a)->name, (*(const lorafmt_base_tensor *const *)b)->name);
}

static lorafmt_status sort_names(const lorafmt_base *base, const lorafmt_base_tensor ***out, lorafmt_error *err)
{
    const lorafmt_base_tensor **names = calloc(base->n_tensors + 1, sizeof *names);

    *out = names;
    if (!names)
        return lf_no_memory(err);
    for (size_t i = 0; i < base->n_tensors; i++)
        names[i] = &base->tensors[i];
    qsort(names, base->n_tensors, sizeof *names, compare_names);
    for (size_t i = 1; i < base->n_tensors; i++)
        if (strcmp(names[i - 1]->name, names[i]->name) == 0)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, names[i]->name, "there twice in one model");
    return LORAFMT_OK;
}

static size_t find(const planner *p, const char *name)
{
    const lorafmt_base_tensor key = {.name = name}, *wanted = &key;
    const lorafmt_base_tensor *const *found =
        bsearch(&wanted, p->by_name, p->x->base->n_tensors, sizeof *p->by_name, compare_names);

    return found ? (size_t)(*found - p->x->base->tensors) : LK_NOT_THERE;
}

static lorafmt_status match_names(planner *p, lorafmt_error *err)
{
    const lorafmt_base *tuned = p->x->tuned;
    const lorafmt_base_tensor **sorted = NULL;
    const lorafmt_status st = sort_names(tuned, &sorted, err);

    free(sorted);
    LF_TRY(st);
    LF_TRY(sort_names(p->x->base, &p->by_name, err));
    for (size_t i = 0; i < tuned->n_tensors; i++) {
        p->in_base[i] = find(p, tuned->tensors[i].name);
        if (p->in_base[i] != LK_NOT_THERE)
            p->in_tuned[p->in_base[i]] = true;
    }
    return LORAFMT_OK;
}

static lorafmt_status check_targets(const lk_extraction *x, lorafmt_error *err)
{
    for (size_t k = 0; k < x->options->n_targets; k++) {
        const char *pattern = x->options->targets[k];
        size_t i = 0;
        while (i < x->tuned->n_tensors && !lk_target_takes(pattern, x->tuned->tensors[i].name))
            i++;
        if (i == x->tuned->n_tensors)
            return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, "targets", "no tensor of the tuned model is called %s",
                           pattern);
    }
    return LORAFMT_OK;
}

static bool is_target(const lorakit_extract_options *o, const char *name)
{
    bool taken = o->n_targets == 0;

    for (size_t k = 0; k < o->n_targets && !taken; k++)
        taken = lk_target_takes(o->targets[k], name);
    return taken;
}

/* --- what differs --- */

static bool same_shape(const lorafmt_base_tensor *a, const lorafmt_base_tensor *b)
{
    return a->n_dims == b->n_dims && memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape) == 0;
}

/* Of other dtypes than real ones, only bytes of the same dtype can be compared. */
static bool is_comparable(const lk_pair *pair)
{
    const lorafmt_base_tensor *b = &pair->base->tensors[pair->in_base], *t = &pair->tuned->tensors[pair->in_tuned];

    return same_shape(b, t) && (b->dtype == t->dtype || lk_pair_is_real(pair));
}

static lk_pair pair_of(const planner *p, size_t i)
{
    return (lk_pair){p->x->base, p->x->tuned, p->in_base[i], i};
}

static lorafmt_status compare_one(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    const planner *p = ctx;
    const lk_pair pair = pair_of(p, i);
    lorafmt_status st;
    lf_fpenv env;

    (void)unused;
    if (pair.in_base == LK_NOT_THERE || !is_comparable(&pair))
        return LORAFMT_OK;
    env = lf_fpenv_enter();
    st = lk_pair_differs(&pair, &p->differs[i], err);
    lf_fpenv_leave(env);
    return st ? st : lk_meter_add(&p->x->meter, 0, err);
}

/* --- what becomes of it --- */

__attribute__((format(printf, 4, 5))) static void refuse(planner *p, const char *tensor, lorafmt_status status,
                                                         const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (p->n_refused++ == 0) {
        p->status = status;
        p->first = tensor;
        memcpy(p->text, text, sizeof text);
    }
    if (p->x->options->report)
        p->x->options->report(p->x->options->report_ctx, tensor, true, text);
}

static lorakit_outcome skip(const planner *p, const char *tensor, const char *text)
{
    if (p->x->options->report)
        p->x->options->report(p->x->options->report_ctx, tensor, false, text);
    return LORAKIT_SKIPPED;
}

/* A tensor that changed and is no low-rank update: why says so. */
static lorakit_outcome other(planner *p, const char *tensor, const char *why, lorakit_outcome when_additive,
                             lorakit_outcome when_replaced)
{
    lorakit_outcome outcome = LORAKIT_UNCHANGED;

    switch (p->x->options->others) {
    case LORAKIT_OTHERS_SKIP:
        return skip(p, tensor, why);
    case LORAKIT_OTHERS_ADDITIVE:
        outcome = when_additive;
        break;
    case LORAKIT_OTHERS_REPLACE:
        outcome = when_replaced;
        break;
    case LORAKIT_OTHERS_REFUSE:
        break;
    }
    if (outcome == LORAKIT_UNCHANGED)
        refuse(p, tensor, LORAFMT_UNSUPPORTED, "%s", why);
    return outcome;
}

static bool grew(const lorafmt_base_tensor *b, const lorafmt_base_tensor *t)
{
    return b->n_dims == 2 && t->n_dims == 2 && t->shape[0] > b->shape[0] && t->shape[1] == b->shape[1] &&
           (lk_is_embedding(t->name) || lk_is_head(t->name));
}

static lorakit_outcome decide_other_shape(planner *p, const lorafmt_base_tensor *b, const lorafmt_base_tensor *t)
{
    char in_base[LF_SHAPE_TEXT], in_tuned[LF_SHAPE_TEXT], why[TEXT_SIZE];

    lf_shape_text(b->n_dims, b->shape, in_base);
    lf_shape_text(t->n_dims, t->shape, in_tuned);
    if (grew(b, t)) {
        snprintf(why, sizeof why, "it has %s, in the base %s: such a tensor is saved whole", in_tuned, in_base);
        return other(p, t->name, why, LORAKIT_SAVED, LORAKIT_SAVED);
    }
    if (!same_shape(b, t))
        refuse(p, t->name, LORAFMT_MISMATCH, "it has %s, in the base %s", in_tuned, in_base);
    else
        refuse(p, t->name, LORAFMT_MISMATCH, "it is of %s, in the base of %s", lorafmt_dtype_name(t->dtype),
               lorafmt_dtype_name(b->dtype));
    return LORAKIT_UNCHANGED;
}

/* spec 8: a tensor is taken to be new when nothing in the base could be what its name means. */
static bool can_be_new(const lorafmt_base *base, const char *name)
{
    const size_t first = strcspn(name, "."), n = strlen(name);

    for (size_t i = 0; i < base->n_tensors; i++) {
        const char *other_name = base->tensors[i].name;
        const size_t m = strlen(other_name);
        if (strncmp(other_name, name, first) == 0 && (other_name[first] == '.' || other_name[first] == '\0'))
            return false;
        if (m > n && other_name[m - n - 1] == '.' && strcmp(other_name + m - n, name) == 0)
            return false;
    }
    return true;
}

static lorakit_outcome decide_new(planner *p, const char *name)
{
    const lorakit_outcome saved = can_be_new(p->x->base, name) ? LORAKIT_SAVED : LORAKIT_UNCHANGED;
    const size_t length = strcspn(name, ".");
    const int first = length < TEXT_SIZE / 2 ? (int)length : TEXT_SIZE / 2;
    char why[TEXT_SIZE];

    snprintf(why, sizeof why, "the base has no such tensor%s%.*s%s", saved ? "" : ", and others under ", saved ? 0 : first, name,
             saved ? "" : ", so that it cannot be added either");
    return other(p, name, why, LORAKIT_UNCHANGED, saved);
}

static lorakit_outcome decide(planner *p, size_t i)
{
    const lk_pair pair = pair_of(p, i);
    const lorafmt_base_tensor *t = &p->x->tuned->tensors[i];
    char shape[LF_SHAPE_TEXT], why[TEXT_SIZE];

    if (pair.in_base == LK_NOT_THERE)
        return decide_new(p, t->name);
    if (!is_comparable(&pair))
        return decide_other_shape(p, &p->x->base->tensors[pair.in_base], t);
    if (!p->differs[i])
        return LORAKIT_UNCHANGED;
    if (!lk_pair_is_real(&pair)) {
        snprintf(why, sizeof why, "it changed, and is of %s, which cannot be added to", lorafmt_dtype_name(t->dtype));
        return other(p, t->name, why, LORAKIT_UNCHANGED, LORAKIT_REPLACED);
    }
    if (t->n_dims == 2 && is_target(p->x->options, t->name))
        return LORAKIT_LOW_RANK;
    if (t->n_dims == 2)
        snprintf(why, sizeof why, "it changed, and is none of the targets");
    else
        snprintf(why, sizeof why, "it changed, and is no matrix but %s", lf_shape_text(t->n_dims, t->shape, shape));
    return other(p, t->name, why, LORAKIT_ADDITIVE, LORAKIT_REPLACED);
}

static void decide_missing(planner *p)
{
    for (size_t k = 0; k < p->x->base->n_tensors; k++)
        if (!p->in_tuned[p->by_name[k] - p->x->base->tensors])
            other(p, p->by_name[k]->name, "the tuned model has no such tensor", LORAKIT_UNCHANGED, LORAKIT_UNCHANGED);
}

static void decide_all(planner *p)
{
    lk_extraction *x = p->x;

    for (size_t i = 0; i < x->tuned->n_tensors; i++) {
        const lorakit_outcome outcome = decide(p, i);
        x->tensors[i].outcome = outcome;
        if (outcome != LORAKIT_UNCHANGED && outcome != LORAKIT_SKIPPED)
            x->planned[x->n_planned++] = (lk_planned){pair_of(p, i), outcome};
    }
    decide_missing(p);
}

static bool any_skipped(const lk_extraction *x)
{
    for (size_t i = 0; i < x->tuned->n_tensors; i++)
        if (x->tensors[i].outcome == LORAKIT_SKIPPED)
            return true;
    return false;
}

static lorafmt_status conclude(const planner *p, lorafmt_error *err)
{
    char others[64];

    snprintf(others, sizeof others, ", and %zu more", p->n_refused - 1);
    if (p->n_refused)
        return lf_fail(err, p->status, LORAFMT_NO_OFFSET, p->first, "%s%s", p->text, p->n_refused > 1 ? others : "");
    if (p->x->n_planned)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, NULL, "%s",
                   any_skipped(p->x) ? "every tensor that differs is left out" : "no tensor differs");
}

static lorafmt_status run(planner *p, lorafmt_error *err)
{
    lk_extraction *x = p->x;
    const size_t n = x->tuned->n_tensors;

    p->in_base = calloc(n + 1, sizeof *p->in_base);
    p->differs = calloc(n + 1, sizeof *p->differs);
    x->planned = calloc(n + 1, sizeof *x->planned);
    p->in_tuned = calloc(x->base->n_tensors + 1, sizeof *p->in_tuned);
    if (!p->in_base || !p->differs || !p->in_tuned || !x->planned)
        return lf_no_memory(err);
    LF_TRY(check_targets(x, err));
    LF_TRY(match_names(p, err));
    LF_TRY(lf_parallel(n, x->n_threads, 0, compare_one, p, err));
    decide_all(p);
    return conclude(p, err);
}

lorafmt_status lk_extract_plan(lk_extraction *x, lorafmt_error *err)
{
    planner p = {.x = x};
    const lorafmt_status st = run(&p, err);

    free(p.by_name);
    free(p.in_base);
    free(p.differs);
    free(p.in_tuned);
    return st;
}
