/* SPDX-License-Identifier: MIT */
#include "lib/algebra/diff.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/thin.h"
#include "lib/algebra/work.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lorakit_diff {
    lk_part *parts; /* of both stacks, those of a record beside each other */
    size_t n_parts;
    lk_site_diff *sites;
    size_t n_sites;
    lorakit_diff_totals totals;
};

const char *lorakit_diff_state_name(lorakit_diff_state state)
{
    switch (state) {
    case LORAKIT_DIFF_COMPARED:
        return "compared";
    case LORAKIT_DIFF_ONLY_X:
        return "only-x";
    case LORAKIT_DIFF_ONLY_Y:
        return "only-y";
    case LORAKIT_DIFF_OTHER_KIND:
        return "other-kind";
    case LORAKIT_DIFF_OTHER_SHAPE:
        return "other-shape";
    case LORAKIT_DIFF_OTHER_DTYPE:
        return "other-dtype";
    case LORAKIT_DIFF_NOT_COMPARED:
        return "not-compared";
    }
    return "unknown";
}

const char *lorakit_sameness_name(lorakit_sameness sameness)
{
    switch (sameness) {
    case LORAKIT_DIFFERENT:
        return "different";
    case LORAKIT_SAME_FUNCTION:
        return "same-function";
    case LORAKIT_SAME_BYTES:
        return "same-bytes";
    }
    return "unknown";
}

/* --- parts --- */

double lk_part_factor(const lk_part *part)
{
    return part->site->scale * part->weight; // 1 of what replaces, which is compared under weight 1 alone
}

lorafmt_status lk_part_failure(const lk_part *part, lorafmt_status st, lorafmt_error *err)
{
    lorafmt_error was;

    if (!err || st == LORAFMT_NO_MEMORY)
        return st;
    was = *err;
    return lf_fail(err, st, was.offset, was.field, "of adapter %.255s: %.700s", part->adapter->name, was.text);
}

static bool same_factor(const lorafmt_factor *a, const lorafmt_factor *b)
{
    return a->role == b->role && lf_tensor_same_type(&a->tensor, &b->tensor) &&
           (a->tensor.data == b->tensor.data || !memcmp(a->tensor.data, b->tensor.data, (size_t)a->tensor.size));
}

bool lk_same_bytes(const lk_site_diff *d)
{
    const lorafmt_site *x = d->x.parts[0].site, *y = d->y.parts[0].site;

    if (d->x.n != 1 || d->y.n != 1 || lk_part_factor(&d->x.parts[0]) != lk_part_factor(&d->y.parts[0]) ||
        x->n_factors != y->n_factors || x->rank != y->rank)
        return false;
    for (uint32_t i = 0; i < x->n_factors; i++)
        if (!same_factor(&x->factors[i], &y->factors[i]))
            return false;
    return true;
}

/* Is it something of which only the bytes can be compared? */
static bool is_opaque(const lorafmt_site *site)
{
    return lk_check_known(site, NULL) != LORAFMT_OK;
}

/* What a site does, as far as two that do the same are one record. */
static int class_of(const lorafmt_site *site)
{
    if (is_opaque(site))
        return -1;
    return site->kind >= LORAFMT_KIND_LINEAR  ? LORAFMT_KIND_LINEAR
           : site->kind == LORAFMT_KIND_SAVED ? LORAFMT_KIND_REPLACEMENT
                                              : site->kind;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_records(const lorafmt_site *a, const lorafmt_site *b)
{
    const uint32_t ranges = LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE;
    int order = strcmp(a->target, b->target);

    if (!order)
        order = class_of(a) - class_of(b);
    if (!order)
        order = compare_u64(a->flags & ranges, b->flags & ranges);
    if (!order)
        order = compare_u64(a->row_begin, b->row_begin);
    if (!order)
        order = compare_u64(a->row_end, b->row_end);
    if (!order)
        order = compare_u64(a->col_begin, b->col_begin);
    return order ? order : compare_u64(a->col_end, b->col_end);
}

static int compare_parts(const void *a_, const void *b_)
{
    const lk_part *a = a_, *b = b_;
    int order = compare_records(a->site, b->site);

    if (!order)
        order = (int)a->of_y - (int)b->of_y;
    return order ? order : compare_u64(a->order, b->order);
}

static void add_stack(lorakit_diff *diff, const lorafmt_stack_entry *stack, size_t n, bool of_y)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < stack[i].adapter->n_sites; k++)
            diff->parts[diff->n_parts++] = (lk_part){stack[i].adapter, &stack[i].adapter->sites[k], stack[i].weight, of_y, i};
}

static lorafmt_status check_stack(const lorafmt_stack_entry *stack, size_t n, const char *which, size_t *n_parts,
                                  lorafmt_error *err)
{
    if (n == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, which, "an empty stack, there must be an adapter at least");
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(stack[i].weight))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, which, "adapter %zu: weight %g, must be finite", i,
                           stack[i].weight);
        *n_parts += stack[i].adapter->n_sites;
    }
    return LORAFMT_OK;
}

/* --- records --- */

static bool same_kernel(const lorafmt_site *x, const lorafmt_site *y)
{
    const lorafmt_tensor *a = &lorafmt_site_factor(x, LORAFMT_ROLE_A)->tensor,
                         *b = &lorafmt_site_factor(y, LORAFMT_ROLE_A)->tensor;

    return a->n_dims == b->n_dims && !memcmp(a->shape + 1, b->shape + 1, sizeof a->shape - sizeof a->shape[0]);
}

static bool same_matrix(const lorafmt_site *x, const lorafmt_site *y)
{
    size_t rows_x, cols_x, rows_y, cols_y;

    lk_site_shape(x, &rows_x, &cols_x);
    lk_site_shape(y, &rows_y, &cols_y);
    return rows_x == rows_y && cols_x == cols_y && lk_site_n_experts(x) == lk_site_n_experts(y) && same_kernel(x, y);
}

static lorakit_diff_state low_rank_state(const lorafmt_site *x, const lorafmt_site *y)
{
    return x->kind != y->kind ? LORAKIT_DIFF_OTHER_KIND : same_matrix(x, y) ? LORAKIT_DIFF_COMPARED : LORAKIT_DIFF_OTHER_SHAPE;
}

static lorakit_diff_state whole_state(const lorafmt_site *x, const lorafmt_site *y)
{
    const lorafmt_tensor *a = &lorafmt_site_factor(x, LORAFMT_ROLE_VALUE)->tensor,
                         *b = &lorafmt_site_factor(y, LORAFMT_ROLE_VALUE)->tensor;
    const lorafmt_factor *rows_x = lorafmt_site_factor(x, LORAFMT_ROLE_ROW_INDEX),
                         *rows_y = lorafmt_site_factor(y, LORAFMT_ROLE_ROW_INDEX);

    if (a->n_dims != b->n_dims || memcmp(a->shape, b->shape, sizeof a->shape) || (rows_x && !same_factor(rows_x, rows_y)))
        return LORAKIT_DIFF_OTHER_SHAPE;
    return a->dtype == b->dtype || (lf_dtype_is_real(a->dtype) && lf_dtype_is_real(b->dtype)) ? LORAKIT_DIFF_COMPARED
                                                                                              : LORAKIT_DIFF_OTHER_DTYPE;
}

static lorakit_diff_state state_of(const lorafmt_site *x, const lorafmt_site *y)
{
    if (is_opaque(x))
        return LORAKIT_DIFF_NOT_COMPARED;
    return x->kind >= LORAFMT_KIND_LINEAR ? low_rank_state(x, y) : whole_state(x, y);
}

/* Can the sites of one stack be added? And, of what replaces: is there one, as it is? */
static lorafmt_status check_side(const lk_side *side, bool *alone, lorafmt_error *err)
{
    const lorafmt_site *first = side->n ? side->parts[0].site : NULL;
    const bool adds = first && first->kind >= LORAFMT_KIND_ADDITIVE && !is_opaque(first);

    *alone = adds || !side->n || (side->n == 1 && side->parts[0].weight == 1);
    for (size_t i = 0; i < side->n; i++) {
        const lk_part *part = &side->parts[i];
        if (adds && state_of(first, part->site) != LORAKIT_DIFF_COMPARED)
            return lf_fail(err, LORAFMT_MISMATCH, LORAFMT_NO_OFFSET, first->target,
                           "adapter %.255s has it in another kind or shape than %.255s, and they cannot be added",
                           part->adapter->name, side->parts[0].adapter->name);
        if (adds && !isfinite(lk_part_factor(part)))
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, first->target,
                           "of adapter %.255s: weight %g times scale %g is too large", part->adapter->name, part->weight,
                           part->site->scale);
    }
    return LORAFMT_OK;
}

static double factor_of(const lk_side *side)
{
    return side->n == 1 && side->parts[0].site->scaling != LORAFMT_SCALING_NONE ? lk_part_factor(&side->parts[0]) : NAN;
}

/* One record out of the parts [0, n), of X first. */
static lorafmt_status make_record(const lk_part *parts, size_t n, lk_site_diff *out, lorafmt_error *err)
{
    bool alone_x, alone_y;
    size_t n_x = 0;

    while (n_x < n && !parts[n_x].of_y)
        n_x++;
    *out = (lk_site_diff){.x = {parts, n_x}, .y = {parts + n_x, n - n_x}};
    out->is = (lorakit_site_diff){.target = parts->site->target,
                                  .x = n_x ? parts->site : NULL,
                                  .y = n_x < n ? parts[n_x].site : NULL,
                                  .n_sites_x = n_x,
                                  .n_sites_y = n - n_x,
                                  .factor_x = factor_of(&out->x),
                                  .factor_y = factor_of(&out->y)};
    out->is.norm_x = out->is.norm_y = out->is.norm_difference = out->is.rounding = out->is.cosine = NAN;
    out->is.effective_rank_x = out->is.effective_rank_y = NAN;
    out->is.column_overlap = out->is.row_overlap = out->is.magnitude_difference = NAN;
    LF_TRY(check_side(&out->x, &alone_x, err));
    LF_TRY(check_side(&out->y, &alone_y, err));
    out->is.state = !out->is.y             ? LORAKIT_DIFF_ONLY_X
                    : !out->is.x           ? LORAKIT_DIFF_ONLY_Y
                    : !alone_x || !alone_y ? LORAKIT_DIFF_NOT_COMPARED
                                           : state_of(out->is.x, out->is.y);
    return LORAFMT_OK;
}

static lorafmt_status make_records(lorakit_diff *diff, lorafmt_error *err)
{
    for (size_t i = 0, end; i < diff->n_parts; i = end) {
        for (end = i + 1; end < diff->n_parts && !compare_records(diff->parts[i].site, diff->parts[end].site);)
            end++;
        LF_TRY(make_record(diff->parts + i, end - i, &diff->sites[diff->n_sites], err));
        diff->n_sites++;
    }
    return LORAFMT_OK;
}

static lorafmt_status compare_opaque(lk_site_diff *d)
{
    if (d->is.x && d->is.y && d->is.x->kind == d->is.y->kind && lk_same_bytes(d)) {
        d->is.state = LORAKIT_DIFF_COMPARED;
        d->is.same = LORAKIT_SAME_BYTES;
    }
    return LORAFMT_OK;
}

static lorafmt_status compare_one(void *ctx, size_t i, lorafmt_error *err)
{
    lk_site_diff *d = &((lorakit_diff *)ctx)->sites[i];

    const lorafmt_site *site = d->is.x ? d->is.x : d->is.y;

    if (is_opaque(site))
        return compare_opaque(d);
    return site->kind >= LORAFMT_KIND_LINEAR ? lk_diff_low_rank(d, err) : lk_diff_whole(d, err);
}

/* --- totals --- */

static bool adds(const lorakit_site_diff *d)
{
    const lorafmt_site *site = d->x ? d->x : d->y;

    return site->kind >= LORAFMT_KIND_ADDITIVE && !is_opaque(site);
}

/* Does a site that only one side has make another function? */
static bool only_one_matters(const lorakit_site_diff *d)
{
    return !adds(d) || d->has_magnitude_x || d->has_magnitude_y || !(fmax(d->norm_x, d->norm_y) <= 0);
}

static void count(const lorakit_site_diff *d, lorakit_diff_totals *t)
{
    lorakit_sameness same = d->same;

    switch (d->state) {
    case LORAKIT_DIFF_COMPARED:
        t->n_compared++;
        t->n_same_bytes += d->same == LORAKIT_SAME_BYTES;
        t->n_same_function += d->same == LORAKIT_SAME_FUNCTION;
        break;
    case LORAKIT_DIFF_ONLY_X:
    case LORAKIT_DIFF_ONLY_Y:
        *(d->state == LORAKIT_DIFF_ONLY_X ? &t->n_only_x : &t->n_only_y) += 1;
        same = only_one_matters(d) ? LORAKIT_DIFFERENT : LORAKIT_SAME_FUNCTION;
        break;
    default:
        t->n_others++;
    }
    t->same = same < t->same ? same : t->same;
}

static void sum_up(lorakit_diff *diff)
{
    lorakit_diff_totals *t = &diff->totals;
    double dot = 0, difference;

    *t = (lorakit_diff_totals){.same = LORAKIT_SAME_BYTES};
    for (size_t i = 0; i < diff->n_sites; i++) {
        const lorakit_site_diff *d = &diff->sites[i].is;
        count(d, t);
        difference = !d->y ? d->norm_x : !d->x ? d->norm_y : d->norm_difference;
        if (!adds(d) || isnan(difference)) // of two that could not be compared, too
            continue;
        t->norm_x = hypot(t->norm_x, d->x ? d->norm_x : 0);
        t->norm_y = hypot(t->norm_y, d->y ? d->norm_y : 0);
        t->norm_difference = hypot(t->norm_difference, difference);
        dot += diff->sites[i].dot;
    }
    t->cosine = t->norm_x > 0 && t->norm_y > 0 ? fmax(-1, fmin(1, dot / t->norm_x / t->norm_y)) : NAN;
}

/* --- the whole --- */

static lorafmt_status diff_new(size_t n_parts, lorakit_diff **out, lorafmt_error *err)
{
    if (!(*out = calloc(1, sizeof **out)))
        return lf_no_memory(err);
    (*out)->parts = calloc(n_parts + 1, sizeof *(*out)->parts);
    (*out)->sites = calloc(n_parts + 1, sizeof *(*out)->sites);
    return (*out)->parts && (*out)->sites ? LORAFMT_OK : lf_no_memory(err);
}

lorafmt_status lorakit_diff_stacks(const lorafmt_stack_entry *x, size_t n_x, const lorafmt_stack_entry *y, size_t n_y,
                                   const lorakit_diff_options *options, lorakit_diff **out, lorafmt_error *err)
{
    static const lorakit_diff_options defaults = {.struct_size = sizeof defaults};
    const lorakit_diff_options *o = options ? options : &defaults;
    const lk_work work = {o->n_threads, o->progress, o->progress_ctx};
    lorakit_diff *diff = NULL;
    size_t n_parts = 0;
    lorafmt_status st;

    *out = NULL;
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    LF_TRY(check_stack(x, n_x, "x", &n_parts, err));
    LF_TRY(check_stack(y, n_y, "y", &n_parts, err));
    st = diff_new(n_parts, &diff, err);
    if (!st) {
        add_stack(diff, x, n_x, false);
        add_stack(diff, y, n_y, true);
        qsort(diff->parts, diff->n_parts, sizeof *diff->parts, compare_parts);
        st = make_records(diff, err);
    }
    if (!st)
        st = lk_work_run(&work, diff->n_sites, compare_one, diff, err);
    if (st) {
        lorakit_diff_free(diff);
        return st;
    }
    sum_up(diff);
    *out = diff;
    return LORAFMT_OK;
}

void lorakit_diff_free(lorakit_diff *diff)
{
    if (!diff)
        return;
    for (size_t i = 0; i < diff->n_sites; i++)
        for (int k = 0; k < 2; k++)
            free(diff->sites[i].cosines[k]);
    free(diff->sites);
    free(diff->parts);
    free(diff);
}

size_t lorakit_diff_n_sites(const lorakit_diff *diff)
{
    return diff->n_sites;
}

const lorakit_site_diff *lorakit_diff_get_site(const lorakit_diff *diff, size_t i)
{
    return &diff->sites[i].is;
}

const lorakit_diff_totals *lorakit_diff_get_totals(const lorakit_diff *diff)
{
    return &diff->totals;
}
