/* SPDX-License-Identifier: MIT */
/*
 * Two models, read piece by piece. Pieces are of a fixed number of elements and are summed in their order, so that results are
 * the same for any number of threads.
 */
#include "lib/algebra/diff.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/compare_elements.h"
#include "lib/algebra/numbers.h"
#include "lib/algebra/work.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements that one item reads, and that are read and widened at once. */
#define PIECE ((uint64_t)1 << 22)
#define BLOCK ((size_t)1 << 16)
#define TILE 512

/* What a piece is of; the sums are its own. */
typedef struct piece {
    size_t tensor; /* of the result */
    uint64_t begin, end;
    uint64_t n_differing;
    lk_element_sums sums;
} piece;

struct lorakit_model_diff {
    lorakit_tensor_diff *tensors;
    size_t n_tensors;
    lorakit_model_totals totals;
};

typedef struct job {
    const lorafmt_base *base, *tuned;
    const lorakit_diff_options *options;
    lorakit_model_diff *result;
    const lorafmt_base_tensor **by_name[2];
    piece *pieces;
    size_t n_pieces;
    uint64_t n_bytes;
} job;

/* --- which tensors --- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const lorafmt_base_tensor *const *)a)->name, (*(const lorafmt_base_tensor *const *)b)->name);
}

static lorafmt_status sort_names(const lorafmt_base *base, const lorafmt_base_tensor ***out, lorafmt_error *err)
{
    const lorafmt_base_tensor **t = calloc(base->n_tensors + 1, sizeof(const lorafmt_base_tensor *));

    if (!(*out = t))
        return lf_no_memory(err);
    for (size_t i = 0; i < base->n_tensors; i++)
        t[i] = &base->tensors[i];
    qsort(t, base->n_tensors, sizeof(const lorafmt_base_tensor *), compare_names);
    for (size_t i = 1; i < base->n_tensors; i++)
        if (!strcmp(t[i - 1]->name, t[i]->name))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, t[i]->name, "a model has two tensors of this name");
    return LORAFMT_OK;
}

static lorakit_diff_state state_of(const lorafmt_base_tensor *b, const lorafmt_base_tensor *t)
{
    if (!t)
        return LORAKIT_DIFF_ONLY_X;
    if (!b)
        return LORAKIT_DIFF_ONLY_Y;
    if (b->n_dims != t->n_dims || memcmp(b->shape, t->shape, b->n_dims * sizeof b->shape[0]))
        return LORAKIT_DIFF_OTHER_SHAPE;
    return b->dtype == t->dtype || (lf_dtype_is_real(b->dtype) && lf_dtype_is_real(t->dtype)) ? LORAKIT_DIFF_COMPARED
                                                                                              : LORAKIT_DIFF_OTHER_DTYPE;
}

/* Bytes of an element; 1 where it has less. */
static size_t unit_of(const lorafmt_base_tensor *t)
{
    return lorafmt_dtype_bits(t->dtype) >= 8 ? lorafmt_dtype_bits(t->dtype) / 8 : 1;
}

static bool are_real(const lorakit_tensor_diff *d)
{
    return lf_dtype_is_real(d->base->dtype) && lf_dtype_is_real(d->tuned->dtype);
}

static void add_tensor(job *j, const lorafmt_base_tensor *b, const lorafmt_base_tensor *t)
{
    lorakit_tensor_diff *d = &j->result->tensors[j->result->n_tensors++];

    *d = (lorakit_tensor_diff){.name = b ? b->name : t->name, .state = state_of(b, t), .base = b, .tuned = t};
    d->norm_base = d->norm_tuned = d->norm_difference = d->max_difference = NAN;
    if (d->state == LORAKIT_DIFF_COMPARED) {
        d->n_elements = b->size / unit_of(b);
        j->n_bytes += b->size + t->size;
        j->n_pieces += (size_t)((d->n_elements + PIECE - 1) / PIECE);
    }
}

static lorafmt_status match(job *j, lorafmt_error *err)
{
    const lorafmt_base_tensor **b, **t;
    size_t i = 0, k = 0;

    LF_TRY(sort_names(j->base, &j->by_name[0], err));
    LF_TRY(sort_names(j->tuned, &j->by_name[1], err));
    b = j->by_name[0];
    t = j->by_name[1];
    j->result->tensors = calloc(j->base->n_tensors + j->tuned->n_tensors + 1, sizeof *j->result->tensors);
    if (!j->result->tensors)
        return lf_no_memory(err);
    while (i < j->base->n_tensors || k < j->tuned->n_tensors) {
        const int order = i == j->base->n_tensors ? 1 : k == j->tuned->n_tensors ? -1 : strcmp(b[i]->name, t[k]->name);
        add_tensor(j, order <= 0 ? b[i] : NULL, order >= 0 ? t[k] : NULL);
        i += order <= 0;
        k += order >= 0;
    }
    return LORAFMT_OK;
}

static lorafmt_status cut(job *j, lorafmt_error *err)
{
    size_t n = 0;

    if (!(j->pieces = calloc(j->n_pieces + 1, sizeof *j->pieces)))
        return lf_no_memory(err);
    for (size_t i = 0; i < j->result->n_tensors; i++) {
        const uint64_t n_elements = j->result->tensors[i].n_elements;
        for (uint64_t at = 0; at < n_elements; at += PIECE)
            j->pieces[n++] = (piece){.tensor = i, .begin = at, .end = n_elements - at < PIECE ? n_elements : at + PIECE};
    }
    return LORAFMT_OK;
}

/* --- a piece --- */

static void add_block(piece *p, const lorakit_tensor_diff *d, const uint8_t *b, const uint8_t *t, size_t n)
{
    const size_t unit_b = unit_of(d->base), unit_t = unit_of(d->tuned);
    double wide_b[TILE], wide_t[TILE];

    if (d->base->dtype == d->tuned->dtype)
        p->n_differing += lk_count_differing(b, t, unit_b, n);
    for (size_t at = 0; are_real(d) && at < n; at += TILE) {
        const size_t some = n - at < TILE ? n - at : TILE;
        lk_widen(d->base->dtype, b + at * unit_b, wide_b, some);
        lk_widen(d->tuned->dtype, t + at * unit_t, wide_t, some);
        lk_element_sums_add(&p->sums, wide_b, wide_t, some);
    }
}

static lorafmt_status read_piece(const job *j, piece *p, uint8_t *b, uint8_t *t, lorafmt_error *err)
{
    const lorakit_tensor_diff *d = &j->result->tensors[p->tensor];
    const size_t unit_b = unit_of(d->base), unit_t = unit_of(d->tuned);

    for (uint64_t at = p->begin; at < p->end; at += BLOCK) {
        const size_t n = p->end - at < BLOCK ? (size_t)(p->end - at) : BLOCK;
        LF_TRY(j->base->read(j->base->ctx, (size_t)(d->base - j->base->tensors), at * unit_b, n * unit_b, b, err));
        LF_TRY(j->tuned->read(j->tuned->ctx, (size_t)(d->tuned - j->tuned->tensors), at * unit_t, n * unit_t, t, err));
        add_block(p, d, b, t, n);
    }
    return LORAFMT_OK;
}

static lorafmt_status compare_piece(void *ctx, size_t i, lorafmt_error *err)
{
    const job *j = ctx;
    piece *p = &j->pieces[i];
    const lorakit_tensor_diff *d = &j->result->tensors[p->tensor];
    uint8_t *b = malloc(BLOCK * unit_of(d->base)), *t = malloc(BLOCK * unit_of(d->tuned));
    const lorafmt_status st = b && t ? read_piece(j, p, b, t, err) : lf_no_memory(err);

    free(b);
    free(t);
    return st;
}

/* --- sums --- */

/* Squares until all pieces are in. */
static void add_piece(lorakit_tensor_diff *d, const piece *p)
{
    const lk_element_sums *s = &p->sums;

    d->n_differing += d->base->dtype == d->tuned->dtype ? p->n_differing : s->n_differing;
    d->n_nan_base += s->n_nan_x;
    d->n_inf_base += s->n_inf_x;
    d->n_nan_tuned += s->n_nan_y;
    d->n_inf_tuned += s->n_inf_y;
    if (!are_real(d))
        return;
    d->norm_base += s->x;
    d->norm_tuned += s->y;
    d->norm_difference += s->difference;
    d->max_difference = fmax(d->max_difference, s->max_difference);
}

static void add_numbers(lorakit_model_totals *t, const lorakit_tensor_diff *d)
{
    t->n_elements += d->n_elements;
    t->n_differing += d->n_differing;
    t->n_nan_base += d->n_nan_base;
    t->n_inf_base += d->n_inf_base;
    t->n_nan_tuned += d->n_nan_tuned;
    t->n_inf_tuned += d->n_inf_tuned;
    if (!are_real(d))
        return;
    t->norm_base = hypot(t->norm_base, d->norm_base);
    t->norm_tuned = hypot(t->norm_tuned, d->norm_tuned);
    t->norm_difference = hypot(t->norm_difference, d->norm_difference);
    t->max_difference = fmax(t->max_difference, d->max_difference);
}

static void add_total(lorakit_model_totals *t, const lorakit_tensor_diff *d)
{
    switch (d->state) {
    case LORAKIT_DIFF_COMPARED:
        t->n_compared++;
        t->n_equal += d->n_differing == 0 && d->base->dtype == d->tuned->dtype;
        add_numbers(t, d);
        break;
    case LORAKIT_DIFF_ONLY_X:
        t->n_only_base++;
        break;
    case LORAKIT_DIFF_ONLY_Y:
        t->n_only_tuned++;
        break;
    default:
        t->n_others++;
    }
}

static void sum_up(job *j)
{
    lorakit_model_diff *r = j->result;

    for (size_t i = 0; i < r->n_tensors; i++) {
        lorakit_tensor_diff *d = &r->tensors[i];
        if (d->state == LORAKIT_DIFF_COMPARED && are_real(d))
            d->norm_base = d->norm_tuned = d->norm_difference = d->max_difference = 0;
    }
    for (size_t i = 0; i < j->n_pieces; i++)
        add_piece(&r->tensors[j->pieces[i].tensor], &j->pieces[i]);
    for (size_t i = 0; i < r->n_tensors; i++) {
        lorakit_tensor_diff *d = &r->tensors[i];
        d->norm_base = sqrt(d->norm_base);
        d->norm_tuned = sqrt(d->norm_tuned);
        d->norm_difference = sqrt(d->norm_difference);
        add_total(&r->totals, d);
    }
    r->totals.equal = r->totals.n_equal == r->n_tensors;
}

/* --- the whole --- */

/* Pieces are alike, but for those that are the rest of a tensor: near enough to bytes. */
static bool tell_bytes(void *ctx, uint64_t done, uint64_t total)
{
    const job *j = ctx;

    return j->options->progress(j->options->progress_ctx, (uint64_t)((double)j->n_bytes * (double)done / (double)total),
                                j->n_bytes);
}

static lorafmt_status run(job *j, lorafmt_error *err)
{
    const lk_work work = {j->options->n_threads, j->options->progress ? tell_bytes : NULL, j};

    if (!(j->result = calloc(1, sizeof *j->result)))
        return lf_no_memory(err);
    LF_TRY(match(j, err));
    LF_TRY(cut(j, err));
    LF_TRY(lk_work_run(&work, j->n_pieces, compare_piece, j, err));
    sum_up(j);
    return LORAFMT_OK;
}

static lorafmt_status check_model(const lorafmt_base *model, const char *which, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(model->struct_size, sizeof *model, err));
    return model->read ? LORAFMT_OK
                       : lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, which, "there is no callback to read it with");
}

lorafmt_status lorakit_diff_models(const lorafmt_base *base, const lorafmt_base *tuned, const lorakit_diff_options *options,
                                   lorakit_model_diff **out, lorafmt_error *err)
{
    static const lorakit_diff_options defaults = {.struct_size = sizeof defaults};
    job j = {.base = base, .tuned = tuned, .options = options ? options : &defaults};
    lorafmt_status st;

    *out = NULL;
    LF_TRY(lf_check_struct_size(j.options->struct_size, sizeof *j.options, err));
    LF_TRY(check_model(base, "base", err));
    LF_TRY(check_model(tuned, "tuned", err));
    st = run(&j, err);
    free(j.pieces);
    free(j.by_name[0]);
    free(j.by_name[1]);
    if (st)
        lorakit_model_diff_free(j.result);
    else
        *out = j.result;
    return st;
}

void lorakit_model_diff_free(lorakit_model_diff *diff)
{
    if (diff)
        free(diff->tensors);
    free(diff);
}

size_t lorakit_model_diff_n_tensors(const lorakit_model_diff *diff)
{
    return diff->n_tensors;
}

const lorakit_tensor_diff *lorakit_model_diff_get_tensor(const lorakit_model_diff *diff, size_t i)
{
    return &diff->tensors[i];
}

const lorakit_model_totals *lorakit_model_diff_get_totals(const lorakit_model_diff *diff)
{
    return &diff->totals;
}
