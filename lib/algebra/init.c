/* SPDX-License-Identifier: MIT */
#include "lorakit/init.h"

#include "format/base/arith.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/lapack.h"
#include "lib/algebra/numbers.h"
#include "lib/algebra/random.h"
#include "lib/algebra/result.h"
#include "lib/algebra/target.h"
#include "lib/algebra/work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Random numbers that are made and rounded at once. */
#define PIECE 512

/* Bytes of a base tensor that are read at once, or a row when that is more. */
#define READ_SIZE (UINT64_C(1) << 20)

typedef struct job {
    const lorafmt_base *base;
    const lorakit_init_options *options;
    lorafmt_dtype dtype;
    double alpha, scale;
    lk_target *targets;
    size_t n_targets;
    lorakit_adapter *result;
} job;

static const char *const method_names[] = {"gaussian", "kaiming", "pissa", "olora"};

#define N_METHODS (sizeof method_names / sizeof *method_names)

const char *lorakit_init_method_name(lorakit_init_method method)
{
    return (size_t)method < N_METHODS ? method_names[method] : "unknown";
}

static bool decomposes(lorakit_init_method method)
{
    return method == LORAKIT_INIT_PISSA || method == LORAKIT_INIT_OLORA;
}

/* --- options --- */

static lorafmt_status check_names(const char *field, const char *const *names, size_t n, lorafmt_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!*names[i])
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, field, "a name is empty");
    return LORAFMT_OK;
}

static lorafmt_status check_options(const lorafmt_base *base, const lorakit_init_options *o, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(base->struct_size, sizeof *base, err));
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (o->n_targets == 0)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "targets", "none is given");
    LF_TRY(check_names("targets", o->targets, o->n_targets, err));
    LF_TRY(check_names("excludes", o->excludes, o->n_excludes, err));
    if ((size_t)o->method >= N_METHODS)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "method", "%d, must be 0..%d", (int)o->method, (int)N_METHODS - 1);
    if (o->orientation != LORAFMT_OUT_IN && o->orientation != LORAFMT_IN_OUT)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "orientation", "%d, must be out-in or in-out",
                       (int)o->orientation);
    if (o->rank == 0 || o->rank > LF_MAX_RANK)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "rank", "%u, must be 1..%u", o->rank, LF_MAX_RANK);
    if (o->name && !lf_adapter_name_valid(o->name))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "name",
                       "an adapter name must be 1..255 bytes of UTF-8 without / \\ # = and control characters");
    return lk_check_dtype(o->dtype, err);
}

static lorafmt_status check_scale(const job *j, lorafmt_error *err)
{
    if (!isfinite(j->alpha))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "alpha", "%g, must be finite", j->alpha);
    if (j->options->method == LORAKIT_INIT_PISSA && !(j->scale > 0))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "alpha",
                       "%g, must be above 0 for pissa, which divides by the scale", j->alpha);
    return LORAFMT_OK;
}

static lorafmt_status check_decomposable(const job *j, const lk_target *t, lorafmt_error *err)
{
    const uint64_t most = t->n_out < t->n_in ? t->n_out : t->n_in;
    const char *method = lorakit_init_method_name(j->options->method);

    if (t->kind != LORAFMT_KIND_LINEAR)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, t->tensor->name, "is an embedding, %s is for linear layers",
                       method);
    if (j->options->rank > most)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, t->tensor->name,
                       "rank %u, must be at most %llu for %s, the smaller side of this matrix", j->options->rank,
                       (unsigned long long)most, method);
    return LORAFMT_OK;
}

/* What is asked for makes sense, and for which tensors. free() j->targets in any case. */
static lorafmt_status plan(job *j, lorafmt_error *err)
{
    const lorakit_init_options *o = j->options;

    LF_TRY(check_options(j->base, o, err));
    j->dtype = o->dtype ? o->dtype : LORAFMT_F32;
    j->alpha = o->has_alpha ? o->alpha : o->rank;
    j->scale = j->alpha / (o->use_rslora ? sqrt(o->rank) : o->rank);
    LF_TRY(check_scale(j, err));
    if (j->base->quantization)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "the base is quantised (%s): init from the original weights", j->base->quantization);
    LF_TRY(lk_targets_find(j->base, o, &j->targets, &j->n_targets, err));
    for (size_t i = 0; i < j->n_targets && decomposes(o->method); i++)
        LF_TRY(check_decomposable(j, &j->targets[i], err));
    return LORAFMT_OK;
}

/* --- sites without numbers --- */

/* A and B of a target, their data NULL. */
static lorafmt_status describe(const job *j, const lk_target *t, lorafmt_factor factors[2], lorafmt_site *site,
                               lorafmt_error *err)
{
    const lorakit_init_options *o = j->options;

    memset(factors, 0, 2 * sizeof *factors);
    factors[0] = (lorafmt_factor){LORAFMT_ROLE_A, {j->dtype, 2, {o->rank, t->n_in}, 0, NULL}};
    factors[1] = (lorafmt_factor){LORAFMT_ROLE_B, {j->dtype, 2, {t->n_out, o->rank}, 0, NULL}};
    *site = (lorafmt_site){.target = t->tensor->name,
                           .kind = (uint16_t)t->kind,
                           .orientation = t->orientation,
                           .scaling = o->use_rslora ? LORAFMT_SCALING_ALPHA_SQRT_R : LORAFMT_SCALING_ALPHA_R,
                           .rank = o->rank,
                           .alpha = j->alpha,
                           .scale = j->scale,
                           .n_factors = 2,
                           .factors = factors};
    for (size_t i = 0; i < 2; i++)
        if (!lf_tensor_measure(j->dtype, 2, factors[i].tensor.shape, &factors[i].tensor.size) ||
            factors[i].tensor.size > SIZE_MAX)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, t->tensor->name, "factors of rank %u are too large", o->rank);
    return LORAFMT_OK;
}

/* Elements of a tensor of the base, whose size was checked or does not matter. */
static bool count_elements(const lorafmt_base_tensor *t, uint64_t *out)
{
    bool fits = t->n_dims <= LORAFMT_MAX_DIMS;

    *out = 1;
    for (uint32_t d = 0; d < t->n_dims && fits; d++)
        fits = lf_mul_u64(*out, t->shape[d], out);
    return fits;
}

static lorafmt_status measure(const job *j, lorakit_init_size *out, lorafmt_error *err)
{
    bool fits = true;
    uint64_t n;

    for (size_t i = 0; i < j->n_targets; i++) {
        lorafmt_factor factors[2];
        lorafmt_site site;
        LF_TRY(describe(j, &j->targets[i], factors, &site, err));
        out->n_linear += site.kind == LORAFMT_KIND_LINEAR;
        out->n_embedding += site.kind == LORAFMT_KIND_EMBEDDING;
        fits = fits && lf_add_u64(out->n_bytes, factors[0].tensor.size, &out->n_bytes) &&
               lf_add_u64(out->n_bytes, factors[1].tensor.size, &out->n_bytes);
    }
    out->n_parameters = out->n_bytes / (lorafmt_dtype_bits(j->dtype) / 8);
    for (size_t i = 0; i < j->base->n_tensors; i++)
        fits = fits && count_elements(&j->base->tensors[i], &n) && lf_add_u64(out->n_base_parameters, n, &out->n_base_parameters);
    return fits ? LORAFMT_OK : lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, NULL, "more than 2^64 parameters");
}

lorafmt_status lorakit_init_measure(const lorafmt_base *base, const lorakit_init_options *options, lorakit_init_size *out,
                                    lorafmt_error *err)
{
    job j = {.base = base, .options = options};
    lorakit_init_size size = {0};
    lorafmt_status st = plan(&j, err);

    *out = size;
    if (!st)
        st = measure(&j, &size, err);
    if (!st)
        *out = size;
    free(j.targets);
    return st;
}

/* --- random numbers --- */

/* n numbers of a target's key: normal or uniform, divided. */
static void fill_random(const job *j, const lk_target *t, double by, uint8_t *dst, size_t n)
{
    const bool uniform = j->options->method == LORAKIT_INIT_KAIMING && t->kind == LORAFMT_KIND_LINEAR;
    const size_t unit = lorafmt_dtype_bits(j->dtype) / 8;
    const uint64_t key = lk_random_key(j->options->seed, t->tensor->name);
    double piece[PIECE];

    for (size_t at = 0; at < n; at += PIECE) {
        const size_t m = n - at < PIECE ? n - at : PIECE;
        if (uniform)
            lk_random_uniform(key, at, piece, m);
        else
            lk_random_normal(key, at, piece, m);
        for (size_t i = 0; i < m; i++)
            piece[i] /= by;
        lk_narrow(j->dtype, piece, dst + at * unit, m); // none is too large: |x| < 9
    }
}

static lorafmt_status make_random(const job *j, const lk_target *t, lk_made *made, lorafmt_error *err)
{
    const bool embedding = t->kind == LORAFMT_KIND_EMBEDDING;
    const double by = embedding ? 1 : j->options->method == LORAKIT_INIT_KAIMING ? sqrt((double)t->n_in) : j->options->rank;
    lorafmt_factor *f = lf_arena_alloc(&made->arena, 2, sizeof *f);
    uint8_t *data;

    if (!f)
        return lf_no_memory(err);
    LF_TRY(describe(j, t, f, &made->site, err));
    for (size_t i = 0; i < 2; i++) {
        lorafmt_tensor *tensor = &f[i].tensor;
        if (!(tensor->data = data = lf_arena_alloc(&made->arena, (size_t)tensor->size, 1)))
            return lf_no_memory(err);
        if ((i == 1) == embedding)
            fill_random(j, t, by, data, (size_t)tensor->size / (lorafmt_dtype_bits(j->dtype) / 8));
    }
    return LORAFMT_OK;
}

/* --- decompositions --- */

/* Rows [row, row + n) of the stored matrix into w [n_out x n_in], column-major. */
static void place_rows(const lk_target *t, uint64_t row, size_t n, const uint8_t *src, double *wide, double *w)
{
    const size_t n_cols = (size_t)t->tensor->shape[1], n_out = (size_t)t->n_out;

    for (size_t i = 0; i < n; i++) {
        const size_t at = (size_t)row + i;
        double *to = t->orientation == LORAFMT_IN_OUT ? w + at * n_out : wide;
        lk_widen(t->tensor->dtype, src + i * n_cols * (lorafmt_dtype_bits(t->tensor->dtype) / 8), to, n_cols);
        for (size_t c = 0; c < n_cols && to == wide; c++)
            w[c * n_out + at] = wide[c];
    }
}

static lorafmt_status read_rows(const job *j, const lk_target *t, size_t step, uint8_t *bytes, double *wide, double *w,
                                lorafmt_error *err)
{
    const uint64_t n_rows = t->tensor->shape[0], row_size = t->tensor->size / n_rows;

    for (uint64_t row = 0; row < n_rows; row += step) {
        const size_t n = n_rows - row < step ? (size_t)(n_rows - row) : step;
        LF_TRY(j->base->read(j->base->ctx, t->index, row * row_size, n * (size_t)row_size, bytes, err));
        place_rows(t, row, n, bytes, wide, w);
    }
    return LORAFMT_OK;
}

/* LAPACK may not come back from what is not finite. */
static lorafmt_status check_finite(const lk_target *t, const double *w, size_t n, lorafmt_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(w[i]))
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, t->tensor->name, "has a weight that is NaN or infinite");
    return LORAFMT_OK;
}

/* The logical matrix, column-major, to be given to free(); NULL on failure. */
static lorafmt_status read_matrix(const job *j, const lk_target *t, double **out, lorafmt_error *err)
{
    const uint64_t row_size = t->tensor->size / t->tensor->shape[0], step = row_size < READ_SIZE ? READ_SIZE / row_size : 1;
    double *w = t->n_out <= SIZE_MAX && t->n_in <= SIZE_MAX ? lk_matrix_new((size_t)t->n_out, (size_t)t->n_in) : NULL;
    double *wide = w ? lk_matrix_new((size_t)t->tensor->shape[1], 1) : NULL;
    uint8_t *bytes = wide ? malloc((size_t)(step * row_size)) : NULL; // a row of f64 fits, so one of the base does
    lorafmt_status st = bytes ? read_rows(j, t, (size_t)step, bytes, wide, w, err) : lf_no_memory(err);

    if (!st)
        st = check_finite(t, w, (size_t)t->n_out * (size_t)t->n_in, err);
    free(bytes);
    free(wide);
    *out = st ? NULL : w;
    if (st)
        free(w);
    return st;
}

/* w = u diag(s) vt: left = u sqrt(s / scale), right = v sqrt(s / scale), of the thin matrix's rank. */
static lorafmt_status split_svd(double *w, double scale, lk_thin *thin, lorafmt_error *err)
{
    const size_t m = thin->n_rows, n = thin->n_cols, k = m < n ? m : n;
    double *s = lk_matrix_new(k, 1), *u = lk_matrix_new(m, k), *vt = lk_matrix_new(k, n);
    lorafmt_status st = s && u && vt ? lk_svd(w, m, n, s, u, vt, err) : lf_no_memory(err);

    for (size_t p = 0; p < thin->rank && !st; p++) {
        const double root = sqrt(s[p] / scale);
        for (size_t i = 0; i < m; i++)
            thin->left[p * m + i] = root * u[p * m + i];
        for (size_t i = 0; i < n; i++)
            thin->right[p * n + i] = root * vt[i * k + p];
    }
    free(s);
    free(u);
    free(vt);
    return st;
}

/* w = q r: left = the first columns of q, right = the first rows of r. */
static lorafmt_status split_qr(double *w, lk_thin *thin, lorafmt_error *err)
{
    const size_t m = thin->n_rows, n = thin->n_cols, k = m < n ? m : n;
    double *t = lk_matrix_new(LK_BLOCK, k);
    lorafmt_status st = t ? lk_qr(w, m, n, t, err) : lf_no_memory(err);

    for (size_t p = 0; p < thin->rank && !st; p++) {
        thin->left[p * m + p] = 1;
        for (size_t i = p; i < n; i++)
            thin->right[p * n + i] = w[i * m + p];
    }
    if (!st)
        st = lk_qr_apply(w, m, k, t, thin->left, thin->rank, err);
    free(t);
    return st;
}

static lorafmt_status make_decomposed(const job *j, const lk_target *t, lk_made *made, lorafmt_error *err)
{
    lorafmt_factor factors[2];
    lorafmt_site like;
    lk_thin thin = {0};
    double *w = NULL;
    lorafmt_status st;

    LF_TRY(describe(j, t, factors, &like, err));
    st = read_matrix(j, t, &w, err);
    if (!st)
        st = lk_thin_new((size_t)t->n_out, (size_t)t->n_in, j->options->rank, &thin, err);
    if (!st)
        st = j->options->method == LORAKIT_INIT_PISSA ? split_svd(w, j->scale, &thin, err) : split_qr(w, &thin, err);
    if (!st)
        st = lk_made_low_rank(made, &like, &thin, 1, j->dtype, err);
    if (!st) {
        made->site.alpha = j->alpha; // as asked for, not as the scale has it
        made->site.scale = j->scale;
    }
    lk_thin_free(&thin);
    free(w);
    return st;
}

/* --- all of it --- */

static lorafmt_status make_one(void *ctx, size_t i, lorafmt_error *err)
{
    const job *j = ctx;
    const lk_target *t = &j->targets[i];

    return decomposes(j->options->method) ? make_decomposed(j, t, &j->result->made[i], err)
                                          : make_random(j, t, &j->result->made[i], err);
}

/* What is known only where adapters meet bases: quantised siblings, names that are there twice. */
static lorafmt_status check_binds(const job *j, lorafmt_error *err)
{
    const lorafmt_stack_entry entry = {lorakit_adapter_get(j->result), 1};
    const lorafmt_bind_options options = {.struct_size = sizeof options, .check_only = true};
    lorafmt_view *view;

    LF_TRY(lorafmt_bind(j->base, &entry, 1, &options, &view, err));
    lorafmt_view_free(view);
    return LORAFMT_OK;
}

static lorafmt_status make(job *j, lorafmt_error *err)
{
    const lorakit_init_options *o = j->options;
    const lk_work work = {o->n_threads, o->progress, o->progress_ctx};
    char method[64];

    LF_TRY(plan(j, err));
    if (decomposes(o->method) && !j->base->read)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "base", "its weights cannot be read, which %s has to",
                       lorakit_init_method_name(o->method));
    LF_TRY(lk_result_new(NULL, o->name ? o->name : "adapter", j->n_targets, &j->result, err));
    LF_TRY(lk_work_run(&work, j->n_targets, make_one, j, err));
    if (decomposes(o->method))
        snprintf(method, sizeof method, "init %s", lorakit_init_method_name(o->method));
    else
        snprintf(method, sizeof method, "init %s, seed %llu", lorakit_init_method_name(o->method), (unsigned long long)o->seed);
    LF_TRY(lk_result_note(j->result, method, NULL, NULL, 0, err));
    LF_TRY(lk_result_finish(j->result, err));
    return check_binds(j, err);
}

lorafmt_status lorakit_init(const lorafmt_base *base, const lorakit_init_options *options, lorakit_adapter **out,
                            lorafmt_error *err)
{
    job j = {.base = base, .options = options};
    const lorafmt_status st = make(&j, err);

    *out = NULL;
    free(j.targets);
    if (st)
        lorakit_adapter_free(j.result);
    else
        *out = j.result;
    return st;
}
