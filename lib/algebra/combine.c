/* SPDX-License-Identifier: MIT */
/* One low-rank site out of several. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/compose.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/random.h"
#include "lib/algebra/rank.h"
#include "lib/algebra/work.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* spec 4.4 */
#define MOST_RANK (1u << 20)

#define DRAWN 512 // random numbers at once

typedef struct combiner {
    const lk_composition *c;
    const lk_piece *pieces;
    size_t n, n_experts, n_rows, n_cols;
    size_t rank_sum;
    lk_thin *made; /* per expert */
    double scale;  /* of the made ones */
    bool verbatim; /* they are the factors themselves, side by side */
    double norm, truncated;
} combiner;

static double weighted_scale(const combiner *k, size_t i)
{
    return k->pieces[i].weight * k->pieces[i].site->scale;
}

/* --- factors side by side --- */

/* What stands for w_i s_i, and w_i s_i s_i in PEFT's svd. */
static double side_by_side_factor(const combiner *k, size_t i)
{
    const bool twice = k->c->method->peft && k->c->method->way == LK_WAY_SVD;

    return weighted_scale(k, i) * (twice ? k->pieces[i].site->scale : 1);
}

static lorafmt_status concatenate(const combiner *k, size_t expert, lk_thin *out, lorafmt_error *err)
{
    size_t at = 0;

    LF_TRY(lk_thin_new(k->n_rows, k->n_cols, k->rank_sum, out, err));
    for (size_t i = 0; i < k->n; i++) {
        const lorafmt_site *site = k->pieces[i].site;
        LF_TRY(lk_thin_set(out, at, site, expert, side_by_side_factor(k, i) / k->scale, 1, err));
        at += site->rank;
    }
    return LORAFMT_OK;
}

static size_t rank_of(const combiner *k, const lk_core *core)
{
    const lorakit_compose_options *o = k->c->options;
    lorakit_rank rule = o->rank;

    if (k->c->method->way == LK_WAY_SUM)
        return lk_core_true_rank(core);
    if (rule.rule == LORAKIT_LOSSLESS && !rule.most)
        rule.most = (uint32_t)k->c->largest_rank;
    return lk_rank_choose(&rule, core->s, core->rank, lk_core_true_rank(core), k->n_rows < k->n_cols ? k->n_rows : k->n_cols);
}

typedef struct cores {
    lk_thin *thin;
    lk_core *core;
} cores;

static lorafmt_status make_cores(const combiner *k, cores *all, size_t *rank, lorafmt_error *err)
{
    all->thin = calloc(k->n_experts, sizeof *all->thin);
    all->core = calloc(k->n_experts, sizeof *all->core);
    if (!all->thin || !all->core)
        return lf_no_memory(err);
    for (size_t e = 0; e < k->n_experts; e++) {
        size_t more;
        LF_TRY(concatenate(k, e, &all->thin[e], err));
        LF_TRY(lk_core_make(&all->thin[e], &all->core[e], err));
        more = rank_of(k, &all->core[e]);
        *rank = more > *rank ? more : *rank;
    }
    return LORAFMT_OK;
}

/* Terms that cancel leave rounding errors, which are not an update. */
static bool is_nothing(const lk_core *core)
{
    return lk_core_true_rank(core) == 0;
}

static lorafmt_status split_cores(const combiner *k, const cores *all, size_t rank, lorafmt_error *err)
{
    for (size_t e = 0; e < k->n_experts; e++)
        LF_TRY(is_nothing(&all->core[e]) ? lk_thin_new(k->n_rows, k->n_cols, rank, &k->made[e], err)
                                         : lk_core_split(&all->core[e], rank, &k->made[e], err));
    return LORAFMT_OK;
}

static void measure_cores(combiner *k, const cores *all, size_t rank)
{
    for (size_t e = 0; e < k->n_experts; e++) {
        const lk_core *core = &all->core[e];
        if (is_nothing(core))
            continue;
        k->norm = hypot(k->norm, lk_tail(core->s, 0, core->rank));
        if (k->c->method->way != LK_WAY_SUM) // of which only rounding errors are left out
            k->truncated = hypot(k->truncated, lk_tail(core->s, rank, core->rank));
    }
}

static void close_cores(const combiner *k, cores *all)
{
    for (size_t e = 0; e < k->n_experts; e++) {
        if (all->thin)
            lk_thin_free(&all->thin[e]);
        if (all->core)
            lk_core_free(&all->core[e]);
    }
    free(all->thin);
    free(all->core);
}

static lorafmt_status keep_side_by_side(combiner *k, lorafmt_error *err)
{
    k->verbatim = true;
    for (size_t e = 0; e < k->n_experts; e++)
        LF_TRY(concatenate(k, e, &k->made[e], err));
    return LORAFMT_OK;
}

/* The scale of the first is kept, so that equal ones, and powers of two, leave the factors' bits alone. */
static lorafmt_status side_by_side(combiner *k, lorafmt_error *err)
{
    cores all = {0};
    size_t rank = 1;
    lorafmt_status st;

    k->scale = k->c->method->peft ? 1 : side_by_side_factor(k, 0);
    if (k->c->method->way == LK_WAY_CAT)
        return keep_side_by_side(k, err);
    st = make_cores(k, &all, &rank, err);
    if (!st)
        measure_cores(k, &all, rank);
    if (!st)
        st = rank == k->rank_sum ? keep_side_by_side(k, err) : split_cores(k, &all, rank, err);
    close_cores(k, &all);
    return st;
}

/* --- element by element --- */

static void draw(const combiner *k, size_t i, size_t expert, unsigned role, size_t n, uint8_t *kept)
{
    const lorakit_compose_options *o = k->c->options;
    const lk_piece *piece = &k->pieces[i];
    const uint64_t number = (uint64_t)piece->term << 40 | (uint64_t)role << 32 | expert;
    const uint64_t key = lk_random_key(lk_random_key(o->seed, piece->site->target) + number, "");
    double x[DRAWN];

    if (o->draw) {
        o->draw(o->draw_ctx, piece->term, piece->site->target, role, n, kept);
        return;
    }
    for (size_t at = 0; at < n; at += DRAWN) {
        const size_t m = n - at < DRAWN ? n - at : DRAWN;
        lk_random_uniform(key, at, x, m);
        for (size_t j = 0; j < m; j++)
            kept[at + j] = x[j] < 2 * o->density - 1;
    }
}

/* Marks that were made row by row, for a matrix by columns. */
static lorafmt_status turn(uint8_t *kept, size_t n_rows, size_t n_cols, lorafmt_error *err)
{
    const size_t n = n_rows * n_cols;
    uint8_t *copy = malloc(n > 0 ? n : 1);

    if (!copy)
        return lf_no_memory(err);
    memcpy(copy, kept, n);
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n_cols; j++)
            kept[j * n_rows + i] = copy[i * n_cols + j];
    free(copy);
    return LORAFMT_OK;
}

/* Matrices of one shape, a term each, that are combined into the first. */
typedef struct layers {
    size_t n, size;
    double **x;
    uint8_t **kept;
    double *weights;
} layers;

static lorafmt_status layers_open(layers *l, size_t n, size_t size, lorafmt_error *err)
{
    *l = (layers){.n = n, .size = size};
    l->x = calloc(n, sizeof *l->x);
    l->kept = calloc(n, sizeof *l->kept);
    l->weights = calloc(n, sizeof *l->weights);
    return l->x && l->kept && l->weights ? LORAFMT_OK : lf_no_memory(err);
}

static void layers_close(layers *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->x)
            free(l->x[i]);
        if (l->kept)
            free(l->kept[i]);
    }
    free(l->x);
    free(l->kept);
    free(l->weights);
}

/* PEFT prunes and divides in the dtype of the factors: it, when it is one of 16 bits, else 0. */
static lorafmt_dtype half_of(const combiner *k)
{
    const lorafmt_dtype dtype = k->pieces[0].site->factors[0].tensor.dtype;

    for (size_t i = 0; i < k->n; i++)
        if (k->pieces[i].site->factors[0].tensor.dtype != dtype || k->pieces[i].site->factors[1].tensor.dtype != dtype)
            return 0;
    return lorafmt_dtype_bits(dtype) == 16 ? dtype : 0;
}

static lorafmt_status combine_layers(const combiner *k, layers *l, size_t expert, unsigned role, lorafmt_error *err)
{
    const lk_method *m = k->c->method;
    const lk_elements how = {m->sparsity, k->c->options->density, m->elect, k->c->options->by_frequency,
                             m->peft ? half_of(k) : 0};

    for (size_t i = 0; m->sparsity == LK_DRAWN && how.density < 1 && i < l->n; i++) {
        if (!(l->kept[i] = malloc(l->size ? l->size : 1)))
            return lf_no_memory(err);
        draw(k, i, expert, role, l->size, l->kept[i]);
        if (role != LORAFMT_ROLE_A) // which alone lies here as it does there
            LF_TRY(turn(l->kept[i], k->n_rows, l->size / k->n_rows, err));
    }
    return lk_combine(&how, l->x, l->weights, l->n, l->size, (const uint8_t *const *)l->kept, l->x[0], err);
}

/* One of A and B, in the form that a thin matrix has. */
static lorafmt_status combine_factor(const combiner *k, size_t expert, bool left, double *out, lorafmt_error *err)
{
    const size_t size = k->pieces[0].site->rank * (left ? k->n_rows : k->n_cols);
    layers l;
    lorafmt_status st = layers_open(&l, k->n, size, err);

    for (size_t i = 0; i < k->n && !st; i++) {
        const double ws = weighted_scale(k, i), root = sqrt(fabs(ws));
        lk_thin thin = {0};
        st = lk_thin_of(k->pieces[i].site, expert, &thin, err);
        l.weights[i] = left || ws >= 0 ? root : -root;
        l.x[i] = left ? thin.left : thin.right;
        free(left ? thin.right : thin.left);
    }
    if (!st)
        st = combine_layers(k, &l, expert, left ? LORAFMT_ROLE_B : LORAFMT_ROLE_A, err);
    if (!st)
        memcpy(out, l.x[0], size * sizeof *out);
    layers_close(&l);
    return st;
}

static lorafmt_status by_factors(combiner *k, lorafmt_error *err)
{
    const size_t rank = k->pieces[0].site->rank;

    for (size_t i = 1; i < k->n; i++)
        if (k->pieces[i].site->rank != rank)
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, k->pieces[i].site->target,
                           "%s adds A to A and B to B, but the ranks are %zu and %u; sum and the svd forms take any",
                           k->c->method->name, rank, k->pieces[i].site->rank);
    k->scale = 1;
    for (size_t e = 0; e < k->n_experts; e++) {
        LF_TRY(lk_thin_new(k->n_rows, k->n_cols, rank, &k->made[e], err));
        LF_TRY(combine_factor(k, e, true, k->made[e].left, err));
        LF_TRY(combine_factor(k, e, false, k->made[e].right, err));
    }
    return LORAFMT_OK;
}

/* s B A */
static lorafmt_status form_delta(const combiner *k, size_t i, size_t expert, double **out, lorafmt_error *err)
{
    const lorafmt_site *site = k->pieces[i].site;
    lk_thin t = {0};
    lorafmt_status st = lk_thin_of(site, expert, &t, err);

    *out = lk_matrix_new(k->n_rows, k->n_cols);
    if (!st && !*out)
        st = lf_no_memory(err);
    if (!st)
        lk_multiply(LK_PLAIN, LK_TRANSPOSED, k->n_rows, k->n_cols, t.rank, site->scale, t.left, k->n_rows, t.right, k->n_cols, 0,
                    *out, k->n_rows);
    lk_thin_free(&t);
    return st;
}

static lorafmt_status combine_deltas(const combiner *k, size_t expert, double **out, lorafmt_error *err)
{
    layers l;
    lorafmt_status st = layers_open(&l, k->n, k->n_rows * k->n_cols, err);

    for (size_t i = 0; i < k->n && !st; i++) {
        l.weights[i] = k->c->method->peft ? weighted_scale(k, i) : k->pieces[i].weight;
        st = form_delta(k, i, expert, &l.x[i], err);
    }
    if (!st)
        st = combine_layers(k, &l, expert, 0, err);
    if (!st) {
        *out = l.x[0];
        l.x[0] = NULL;
    }
    layers_close(&l);
    return st;
}

/* A matrix that was formed, and its singular value decomposition. */
typedef struct dense {
    size_t n; /* min(n_rows, n_cols) */
    double *matrix, *s, *u, *vt;
} dense;

static void dense_close(dense *d)
{
    free(d->matrix);
    free(d->s);
    free(d->u);
    free(d->vt);
}

static lorafmt_status dense_open(const combiner *k, size_t expert, dense *d, lorafmt_error *err)
{
    d->n = k->n_rows < k->n_cols ? k->n_rows : k->n_cols;
    d->s = lk_matrix_new(d->n, 1);
    d->u = lk_matrix_new(k->n_rows, d->n);
    d->vt = lk_matrix_new(d->n, k->n_cols);
    if (!d->s || !d->u || !d->vt)
        return lf_no_memory(err);
    LF_TRY(combine_deltas(k, expert, &d->matrix, err));
    return lk_svd(d->matrix, k->n_rows, k->n_cols, d->s, d->u, d->vt, err);
}

static size_t dense_rank(const combiner *k, const dense *d)
{
    lorakit_rank rule = k->c->options->rank;
    size_t true_rank = 0;

    if (rule.rule == LORAKIT_LOSSLESS && !rule.most)
        rule.most = (uint32_t)k->c->largest_rank;
    while (true_rank < d->n && d->s[true_rank] > d->s[0] * (double)(k->n_rows + k->n_cols) * DBL_EPSILON)
        true_rank++;
    return lk_rank_choose(&rule, d->s, d->n, true_rank, d->n);
}

static void clamp_all(double *x, size_t n, double most)
{
    for (size_t i = 0; i < n; i++)
        x[i] = fmax(-most, fmin(most, x[i]));
}

/*
 * PEFT's clamp is of U S and V, while a split has the root of s on either side. A quantile of both together depends on the signs that
 * the decomposition happens to give them, so that it has to be of the matrix itself, as there.
 */
static lorafmt_status clamp(const combiner *k, const double *s, lk_thin *split, lorafmt_error *err)
{
    const size_t n_left = k->n_rows * split->rank, n_right = k->n_cols * split->rank;
    double most;

    if (k->c->options->clamp == 0)
        return LORAFMT_OK;
    for (size_t j = 0; j < split->rank; j++) {
        const double root = sqrt(s[j]);
        for (size_t i = 0; i < k->n_rows; i++)
            split->left[j * k->n_rows + i] *= root;
        for (size_t i = 0; i < k->n_cols && root > 0; i++)
            split->right[j * k->n_cols + i] /= root;
    }
    LF_TRY(lk_quantile(split->left, n_left, split->right, n_right, k->c->options->clamp, &most, err));
    clamp_all(split->left, n_left, most);
    clamp_all(split->right, n_right, most);
    return LORAFMT_OK;
}

static lorafmt_status dense_split(combiner *k, const dense *d, size_t rank, lk_thin *out, lorafmt_error *err)
{
    LF_TRY(lk_thin_new(k->n_rows, k->n_cols, rank, out, err));
    for (size_t j = 0; j < rank; j++) {
        const double root = sqrt(d->s[j]);
        for (size_t i = 0; i < k->n_rows; i++)
            out->left[j * k->n_rows + i] = root * d->u[j * k->n_rows + i];
        for (size_t i = 0; i < k->n_cols; i++)
            out->right[j * k->n_cols + i] = root * d->vt[i * d->n + j];
    }
    k->norm = hypot(k->norm, lk_tail(d->s, 0, d->n));
    k->truncated = hypot(k->truncated, lk_tail(d->s, rank, d->n));
    return clamp(k, d->s, out, err);
}

static lorafmt_status by_deltas(combiner *k, lorafmt_error *err)
{
    dense *all = calloc(k->n_experts, sizeof *all);
    lorafmt_status st = all ? LORAFMT_OK : lf_no_memory(err);
    size_t rank = 1;

    k->scale = 1;
    for (size_t e = 0; e < k->n_experts && !st; e++) {
        st = dense_open(k, e, &all[e], err);
        if (!st) {
            const size_t more = dense_rank(k, &all[e]);
            rank = more > rank ? more : rank;
        }
    }
    for (size_t e = 0; e < k->n_experts && !st; e++)
        st = dense_split(k, &all[e], rank, &k->made[e], err);
    for (size_t e = 0; all && e < k->n_experts; e++)
        dense_close(&all[e]);
    free(all);
    return st;
}

/* --- the site --- */

static bool is_power_of_two(double x)
{
    int exponent;

    return fabs(frexp(x, &exponent)) == 0.5 && exponent > -8 && exponent < 8;
}

/* What loses nothing, or else F32. */
static lorafmt_dtype natural_dtype(const combiner *k)
{
    const lorafmt_dtype first = k->pieces[0].site->factors[0].tensor.dtype;
    bool exact = k->verbatim;

    for (size_t i = 0; i < k->n; i++) {
        exact = exact && is_power_of_two(side_by_side_factor(k, i) / k->scale);
        for (unsigned f = 0; f < 2; f++) {
            const lorafmt_dtype dtype = k->pieces[i].site->factors[f].tensor.dtype;
            if (dtype == LORAFMT_F64)
                return LORAFMT_F64;
            exact = exact && dtype == first;
        }
    }
    return exact ? first : LORAFMT_F32;
}

/* Kind, target and shapes are those of the first; a magnitude is not. */
static lorafmt_site pattern_of(const combiner *k)
{
    lorafmt_site like = *k->pieces[0].site;

    for (size_t i = 1; i < k->n; i++)
        if (k->pieces[i].site->orientation != like.orientation)
            like.orientation = LORAFMT_BY_SHAPE; // PEFT's flag is for all layers, and corrected for each when it is loaded
    like.n_factors = 2;
    like.scale = k->scale * k->c->peft_scale;
    if (like.scaling == LORAFMT_SCALING_EXPLICIT)
        like.scaling = LORAFMT_SCALING_ALPHA_R;
    return like;
}

static lorafmt_status finish(combiner *k, lk_made *made, lorakit_composed *out, lorafmt_error *err)
{
    const lorafmt_site like = pattern_of(k);
    const double scale = fabs(like.scale);
    double rounded;

    LF_TRY(lk_made_low_rank(made, &like, k->made, k->n_experts, k->c->options->dtype ? k->c->options->dtype : natural_dtype(k),
                            err));
    LF_TRY(lk_rounding(&made->site, k->made, k->n_experts, &rounded, err));
    *out = (lorakit_composed){.target = made->site.target,
                              .n_terms = (uint32_t)k->n,
                              .rank_sum = (uint32_t)k->rank_sum,
                              .rank = made->site.rank,
                              .norm = scale * k->norm,
                              .truncated = scale * k->truncated,
                              .rounded = scale * rounded};
    return LORAFMT_OK;
}

static lorafmt_status combine(combiner *k, lk_made *made, lorakit_composed *out, lorafmt_error *err)
{
    if (!k->made)
        return lf_no_memory(err);
    switch (k->c->method->way) {
    case LK_WAY_SUM:
    case LK_WAY_CAT:
        LF_TRY(side_by_side(k, err));
        break;
    case LK_WAY_SVD:
        LF_TRY(k->c->options->clamp == 0 ? side_by_side(k, err) : by_deltas(k, err));
        break;
    case LK_WAY_FACTORS:
        LF_TRY(by_factors(k, err));
        break;
    case LK_WAY_DELTAS:
        LF_TRY(by_deltas(k, err));
        break;
    }
    return finish(k, made, out, err);
}

lorafmt_status lk_combine_pieces(const lk_composition *c, const lk_piece *pieces, size_t n, lk_made *made, lorakit_composed *out,
                                 lorafmt_error *err)
{
    combiner k = {.c = c, .pieces = pieces, .n = n, .n_experts = lk_site_n_experts(pieces[0].site)};
    lorafmt_status st;

    lk_site_shape(pieces[0].site, &k.n_rows, &k.n_cols);
    for (size_t i = 0; i < n; i++)
        k.rank_sum += pieces[i].site->rank;
    if (k.rank_sum > MOST_RANK)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, pieces[0].site->target,
                       "ranks of together %zu, at most %u are allowed", k.rank_sum, MOST_RANK);
    k.made = calloc(k.n_experts, sizeof *k.made);
    st = combine(&k, made, out, err);
    for (size_t e = 0; k.made && e < k.n_experts; e++)
        lk_thin_free(&k.made[e]);
    free(k.made);
    return st;
}
