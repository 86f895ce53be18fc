/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/decompose.h"
#include "lib/algebra/extract.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/names.h"
#include "lib/algebra/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Up to this smaller side LAPACK finds all singular values in some tenths of a second, and there is no sketch to trust. */
#define EXACT_SIDE 512
/* Elements of a tensor of which several are worked on at once: in f64 and four times that, some 32 MB for each thread. */
#define SMALL ((uint64_t)1 << 20)
/* Values of a rule that does not say how many it wants, at first. */
#define FIRST_VALUES 64

typedef struct task {
    lk_extraction *x;
    const lk_planned *planned;
    const lorafmt_base_tensor *tensor;
    unsigned n_threads;
    size_t n_rows, n_cols;
    double square;
    uint64_t left; /* of the meter */
    lk_decomposition found;
    size_t rank;
} task;

static uint64_t bytes_of(const lk_planned *p)
{
    const lk_pair *pair = &p->pair;
    const uint64_t tuned = pair->tuned->tensors[pair->in_tuned].size;

    return pair->in_base == LK_NOT_THERE ? tuned : tuned + pair->base->tensors[pair->in_base].size;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- a low-rank update --- */

static bool wants_exact(const lorakit_extract_options *options, size_t side, size_t width)
{
    return options->exact || side <= EXACT_SIDE || width >= side / 2;
}

/* Columns of the first sketch: known when the rank is. */
static size_t first_width(const lorakit_rank *rule)
{
    const size_t values = rule->rule == LORAKIT_LOSSLESS || (rule->most && rule->most < FIRST_VALUES) ? rule->most : FIRST_VALUES;

    return values + LK_OVERSAMPLING;
}

/* Each of twice as many values; those that the rule allows at most are enough. */
static size_t next_width(const lorakit_rank *rule, size_t width)
{
    const size_t values = 2 * (width - LK_OVERSAMPLING);

    return (rule->most && values > rule->most ? rule->most : values) + LK_OVERSAMPLING;
}

static lorafmt_status decompose_all(task *t, lorafmt_error *err)
{
    double *d = lk_matrix_new(t->n_rows, t->n_cols);
    lorafmt_status st = d ? LORAFMT_OK : lf_no_memory(err);

    if (!st)
        st = lk_pair_subtract(&t->planned->pair, t->n_threads, d, &t->square, err);
    if (!st)
        st = lk_decompose_exact(d, t->n_rows, t->n_cols, &t->found, err);
    free(d);
    if (!st)
        lk_decomposition_rank(&t->found, &t->x->options->rank, &t->rank);
    return st;
}

static lorafmt_status sketch(task *t, size_t width, lorafmt_error *err)
{
    const lorakit_extract_options *o = t->x->options;
    const bool last = o->rank.most && width >= o->rank.most + LK_OVERSAMPLING;
    const lk_sketch_options options = {.width = width,
                                       .n_powers = o->n_powers ? o->n_powers : LK_N_POWERS,
                                       .seed = lk_random_key(o->seed, t->tensor->name), // so that it depends on no other tensor
                                       .n_threads = t->n_threads,
                                       .meter = &t->x->meter,
                                       .share = last ? t->left : t->left / 2};

    t->left -= options.share;
    return lk_decompose_sketch(t->x->d, t->n_rows, t->n_cols, &options, &t->found, err);
}

bool lk_planned_is_small(const lk_extraction *x, const lk_planned *p)
{
    const lorafmt_base_tensor *t = &p->pair.tuned->tensors[p->pair.in_tuned];
    const size_t side = smaller((size_t)t->shape[0], (size_t)t->shape[1]);

    return p->outcome != LORAKIT_LOW_RANK ||
           (lk_pair_n_elements(&p->pair) <= SMALL && wants_exact(x->options, side, first_width(&x->options->rank)));
}

static void free_room(lk_extraction *x)
{
    free(x->d);
    x->d = NULL;
    x->d_size = 0;
}

/* Kept for the next tensor: the pages of a new one would cost as much as a pass over it. */
static lorafmt_status make_room(task *t, lorafmt_error *err)
{
    lk_extraction *x = t->x;

    if (t->n_rows * t->n_cols <= x->d_size) // which does not overflow: the tensor's bytes are known
        return LORAFMT_OK;
    free_room(x);
    x->d = lk_matrix_new_f32(t->n_rows, t->n_cols);
    if (!x->d)
        return lf_no_memory(err);
    x->d_size = t->n_rows * t->n_cols;
    return LORAFMT_OK;
}

/* Sketches of more and more columns; *enough is false when all values are needed. */
static lorafmt_status decompose_large(task *t, bool *enough, lorafmt_error *err)
{
    const lorakit_rank *rule = &t->x->options->rank;
    const size_t side = smaller(t->n_rows, t->n_cols);

    *enough = false;
    LF_TRY(make_room(t, err));
    LF_TRY(lk_pair_subtract_f32(&t->planned->pair, t->n_threads, t->x->d, &t->square, err));
    for (size_t width = first_width(rule); !*enough && !wants_exact(t->x->options, side, width);
         width = next_width(rule, width)) {
        lk_decomposition_free(&t->found);
        LF_TRY(sketch(t, width, err));
        *enough = lk_decomposition_rank(&t->found, rule, &t->rank);
    }
    return LORAFMT_OK;
}

static lorafmt_status decompose(task *t, lorafmt_error *err)
{
    const size_t side = smaller(t->n_rows, t->n_cols);
    bool enough = false;

    if (!wants_exact(t->x->options, side, first_width(&t->x->options->rank)))
        LF_TRY(decompose_large(t, &enough, err));
    if (enough)
        return LORAFMT_OK;
    lk_decomposition_free(&t->found);
    if (!lk_planned_is_small(t->x, t->planned)) // small ones come first and at the same time
        free_room(t->x);
    return decompose_all(t, err);
}

static void swap_sides(lk_thin *thin)
{
    const lk_thin was = *thin;

    thin->n_rows = was.n_cols;
    thin->n_cols = was.n_rows;
    thin->left = was.right;
    thin->right = was.left;
}

/* A site of the kind that the tensor's name asks for, whose factors have shapes but nothing in them. */
static lorafmt_status prepare_site(const task *t, lk_made *made, lorafmt_site *like, bool *transposed, lorafmt_error *err)
{
    const char *name = t->tensor->name;
    const bool embedding = lk_is_embedding(name);
    const bool in_out = !embedding && !lk_is_head(name) && t->x->options->orientation == LORAFMT_IN_OUT;
    lorafmt_factor *factors = lf_arena_alloc(&made->arena, 2, sizeof *factors);

    *like = (lorafmt_site){.target = lf_arena_strdup(&made->arena, name),
                           .kind = embedding ? LORAFMT_KIND_EMBEDDING : LORAFMT_KIND_LINEAR,
                           .orientation = in_out ? LORAFMT_IN_OUT : LORAFMT_OUT_IN,
                           .scaling = LORAFMT_SCALING_ALPHA_R,
                           .scale = 1,
                           .n_factors = 2,
                           .factors = factors};
    *transposed = embedding || in_out;
    if (!factors || !like->target)
        return lf_no_memory(err);
    factors[0] =
        (lorafmt_factor){.role = LORAFMT_ROLE_A, .tensor = {.n_dims = 2, .shape = {0, *transposed ? t->n_rows : t->n_cols}}};
    factors[1] =
        (lorafmt_factor){.role = LORAFMT_ROLE_B, .tensor = {.n_dims = 2, .shape = {*transposed ? t->n_cols : t->n_rows}}};
    return LORAFMT_OK;
}

static lorafmt_status write_factors(task *t, lk_made *made, lk_thin *thin, double *rounded, lorafmt_error *err)
{
    const lorafmt_dtype dtype = t->x->options->dtype ? t->x->options->dtype : LORAFMT_F32;
    lorafmt_site like;
    bool transposed;

    LF_TRY(prepare_site(t, made, &like, &transposed, err));
    LF_TRY(lk_decomposition_split(&t->found, t->rank, thin, err));
    if (transposed)
        swap_sides(thin);
    LF_TRY(lk_made_low_rank(made, &like, thin, 1, dtype, err));
    return lk_rounding(&made->site, thin, 1, rounded, err);
}

static lorafmt_status make_low_rank(task *t, lk_made *made, lorafmt_error *err)
{
    lorakit_extracted *out = &t->x->tensors[t->planned->pair.in_tuned];
    lk_thin thin = {0};
    lorafmt_status st;

    t->n_rows = (size_t)t->tensor->shape[0];
    t->n_cols = (size_t)t->tensor->shape[1];
    st = decompose(t, err);
    if (!st)
        st = write_factors(t, made, &thin, &out->rounded, err);
    if (!st) {
        out->exact = t->found.exact;
        out->rank = (uint32_t)t->rank;
        out->norm = sqrt(t->square);
        out->truncated = lk_decomposition_left_out(&t->found, t->rank);
    }
    lk_thin_free(&thin);
    lk_decomposition_free(&t->found);
    return st;
}

/* --- whole tensors --- */

static uint16_t kind_of(lorakit_outcome outcome)
{
    return outcome == LORAKIT_ADDITIVE   ? LORAFMT_KIND_ADDITIVE
           : outcome == LORAKIT_REPLACED ? LORAFMT_KIND_REPLACEMENT
                                         : LORAFMT_KIND_SAVED;
}

/* As the tuned tensor is; a difference is in f32, or in f64 if either is. */
static lorafmt_dtype dtype_of_value(const task *t)
{
    const lk_pair *pair = &t->planned->pair;

    if (t->planned->outcome != LORAKIT_ADDITIVE)
        return t->tensor->dtype;
    return t->tensor->dtype == LORAFMT_F64 || pair->base->tensors[pair->in_base].dtype == LORAFMT_F64 ? LORAFMT_F64 : LORAFMT_F32;
}

static lorafmt_status new_value(const task *t, lk_made *made, lorafmt_tensor **out, void **data, lorafmt_error *err)
{
    lorafmt_factor *factor = lf_arena_alloc(&made->arena, 1, sizeof *factor);

    made->site = (lorafmt_site){.target = lf_arena_strdup(&made->arena, t->tensor->name),
                                .kind = kind_of(t->planned->outcome),
                                .scale = 1,
                                .n_factors = 1,
                                .factors = factor};
    if (!factor || !made->site.target)
        return lf_no_memory(err);
    factor->role = LORAFMT_ROLE_VALUE;
    *out = &factor->tensor;
    **out = (lorafmt_tensor){.dtype = dtype_of_value(t), .n_dims = t->tensor->n_dims};
    memcpy((*out)->shape, t->tensor->shape, sizeof(*out)->shape);
    if (!lf_tensor_measure((*out)->dtype, (*out)->n_dims, (*out)->shape, &(*out)->size) || (*out)->size > SIZE_MAX)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, t->tensor->name, "too large");
    (*out)->data = *data = lf_arena_alloc_dirty(&made->arena, (size_t)(*out)->size, 1);
    return *data ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status make_whole(task *t, lk_made *made, lorafmt_error *err)
{
    const lk_pair *pair = &t->planned->pair;
    lorafmt_tensor *value;
    void *data;

    LF_TRY(new_value(t, made, &value, &data, err));
    if (t->planned->outcome != LORAKIT_ADDITIVE)
        return pair->tuned->read(pair->tuned->ctx, pair->in_tuned, 0, (size_t)value->size, data, err);
    LF_TRY(value->dtype == LORAFMT_F64 ? lk_pair_subtract(pair, t->n_threads, data, &t->square, err)
                                       : lk_pair_subtract_f32(pair, t->n_threads, data, &t->square, err));
    t->x->tensors[pair->in_tuned].norm = sqrt(t->square);
    return LORAFMT_OK;
}

/* --- either --- */

lorafmt_status lk_extract_site(lk_extraction *x, const lk_planned *p, unsigned n_threads, lk_made *made, lorafmt_error *err)
{
    task t = {.x = x,
              .planned = p,
              .tensor = &p->pair.tuned->tensors[p->pair.in_tuned],
              .n_threads = n_threads,
              .left = bytes_of(p)};

    LF_TRY(p->outcome == LORAKIT_LOW_RANK ? make_low_rank(&t, made, err) : make_whole(&t, made, err));
    return lk_meter_add(&x->meter, t.left, err);
}
