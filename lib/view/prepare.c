/* SPDX-License-Identifier: MIT */
/*
 * spec 7.4: DoRA. An output is multiplied with its magnitude over the norm of what it is before, so that the whole tensor
 * must be seen once, in order of the rows, for each DoRA term. Sums are in binary64, in 16 stripes that are added in a fixed tree.
 */
#include "format/base/error.h"
#include "lib/kernels/fpenv.h"
#include "lib/view/patch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_STRIPES 16
#define READ_SIZE (1u << 20) // bytes of rows that are read at a time, if a row is not larger

/* Sums of squares: of every column, or of the rows of a patch. */
typedef struct norms {
    size_t n;
    double (*stripes)[N_STRIPES];
} norms;

static double add_stripes(const double s[N_STRIPES])
{
    return ((s[0] + s[8]) + (s[4] + s[12])) + ((s[2] + s[10]) + (s[6] + s[14])) +
           (((s[1] + s[9]) + (s[5] + s[13])) + ((s[3] + s[11]) + (s[7] + s[15])));
}

static void add_squares(const lf_plan *plan, const lf_dora *dora, norms *sums, const lf_patch *patch)
{
    for (size_t i = 0; i < patch->n_rows; i++)
        for (size_t j = 0; j < patch->n_cols; j++) {
            const double x = plan->f64 ? patch->acc.f64[i][j] : (double)patch->acc.f32[i][j];
            const size_t col = patch->col + j;
            if (dora->by_column)
                sums->stripes[col][(patch->row + i) % N_STRIPES] += x * x;
            else
                sums->stripes[i][col % N_STRIPES] += x * x;
        }
}

/* The factor of output i, whose stripes are complete. */
static void set_factor(const lf_plan *plan, lf_dora *dora, size_t i, const double stripes[N_STRIPES])
{
    const double norm = sqrt(add_stripes(stripes));
    const lf_real real = lf_real_of(dora->magnitude->dtype);
    const uint8_t *magnitude = (const uint8_t *)dora->magnitude->data + i * lf_real_size(real);

    if (plan->f64) {
        double m;
        lf_widen_f64(real, magnitude, &m, 1);
        ((double *)dora->factors)[i] = m / norm;
    } else {
        float m;
        lf_widen_f32(real, magnitude, &m, 1);
        ((float *)dora->factors)[i] = m / (float)norm;
    }
}

/* A few rows, as they are before term k is scaled. */
static void add_rows(const lorafmt_view *view, const lf_plan *plan, size_t k, norms *sums, lf_patch *patch, const uint8_t *src)
{
    const lf_real type = lf_real_of(plan->info.dtype);
    lf_dora *dora = plan->terms[k].dora;

    if (!dora->by_column)
        memset(sums->stripes, 0, patch->n_rows * sizeof *sums->stripes);
    for (patch->col = 0; patch->col < plan->n_cols; patch->col += LF_PATCH_COLS) {
        const lf_base_rows base = {src + patch->col * lf_real_size(type), (size_t)plan->info.row_size, type};
        patch->n_cols = plan->n_cols - patch->col < LF_PATCH_COLS ? plan->n_cols - patch->col : LF_PATCH_COLS;
        lf_patch_start(plan, &base, patch);
        for (size_t t = 0; t <= k; t++) {
            lf_patch_add(&view->kernels, plan, &plan->terms[t], patch);
            if (t < k && plan->terms[t].dora)
                lf_patch_apply_dora(plan, plan->terms[t].dora, patch);
        }
        add_squares(plan, dora, sums, patch);
    }
    for (size_t i = 0; i < patch->n_rows && !dora->by_column; i++)
        set_factor(plan, dora, (size_t)patch->row + i, sums->stripes[i]);
}

static lorafmt_status prepare_term(const lorafmt_view *view, size_t tensor, size_t k, uint8_t *buffer, uint64_t n_buffered,
                                   norms *sums, lorafmt_error *err)
{
    const lf_plan *plan = &view->plans[tensor];
    const lorafmt_view_tensor *info = &plan->info;

    lf_patch patch;

    memset(sums->stripes, 0, sums->n * sizeof *sums->stripes);
    for (uint64_t row = 0; row < info->n_rows; row += n_buffered) {
        const uint64_t n = info->n_rows - row < n_buffered ? info->n_rows - row : n_buffered;
        if (info->reads_base)
            LF_TRY(view->base->read(view->base->ctx, tensor, row * info->row_size, (size_t)(n * info->row_size), buffer, err));
        for (uint64_t i = 0; i < n; i += patch.n_rows) {
            patch.row = row + i;
            patch.n_rows = (size_t)lf_rows_together(plan, patch.row, n - i < LF_PATCH_ROWS ? n - i : LF_PATCH_ROWS);
            add_rows(view, plan, k, sums, &patch, buffer + i * info->row_size);
        }
    }
    for (size_t i = 0; plan->terms[k].dora->by_column && i < plan->n_cols; i++)
        set_factor(plan, plan->terms[k].dora, i, sums->stripes[i]);
    return LORAFMT_OK;
}

static lorafmt_status prepare_terms(const lorafmt_view *view, size_t tensor, lorafmt_error *err)
{
    const lf_plan *plan = &view->plans[tensor];
    const uint64_t row_size = plan->info.row_size, n_buffered = row_size < READ_SIZE ? READ_SIZE / row_size : 1;
    uint8_t *buffer = malloc((size_t)(n_buffered * row_size));
    norms sums = {.n = plan->n_cols > LF_PATCH_ROWS ? plan->n_cols : LF_PATCH_ROWS};
    lorafmt_status st;

    sums.stripes = calloc(sums.n, sizeof *sums.stripes);
    st = buffer && sums.stripes ? LORAFMT_OK : lf_no_memory(err);
    for (size_t k = 0; k < plan->n_terms && !st; k++)
        if (plan->terms[k].dora)
            st = prepare_term(view, tensor, k, buffer, n_buffered, &sums, err);
    free(buffer);
    free(sums.stripes);
    return st;
}

lorafmt_status lorafmt_view_prepare(lorafmt_view *view, size_t tensor, lorafmt_error *err)
{
    lorafmt_status st;
    lf_plan *plan;
    lf_fpenv env;

    if (view->check_only || tensor >= view->n_tensors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "no tensor of this view that could be evaluated");
    plan = &view->plans[tensor];
    if (!plan->info.needs_prepare || plan->prepared)
        return LORAFMT_OK;
    if (plan->info.reads_base && !view->base->read)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name,
                       "has a DoRA site, and the base gives no way to read it");
    env = lf_fpenv_enter();
    st = prepare_terms(view, tensor, err);
    lf_fpenv_leave(env);
    plan->prepared = !st;
    return st;
}

static size_t factors_size_of(const lf_plan *plan, const lf_dora *dora)
{
    const size_t n = (size_t)dora->magnitude->size / lf_real_size(lf_real_of(dora->magnitude->dtype));

    return n * (plan->f64 ? sizeof(double) : sizeof(float));
}

size_t lorafmt_view_factors_size(const lorafmt_view *view, size_t tensor)
{
    const lf_plan *plan = tensor < view->n_tensors ? &view->plans[tensor] : NULL;
    size_t size = 0;

    for (size_t k = 0; plan && plan->terms && k < plan->n_terms; k++)
        if (plan->terms[k].dora)
            size += factors_size_of(plan, plan->terms[k].dora);
    return size;
}

/* Factors go from or to the caller's memory, one site after the other. */
static lorafmt_status check_factors(const lorafmt_view *view, size_t tensor, size_t size, lorafmt_error *err)
{
    const size_t wanted = lorafmt_view_factors_size(view, tensor);

    if (tensor >= view->n_tensors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "tensor %zu, the view has %zu", tensor, view->n_tensors);
    if (size != wanted)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, view->plans[tensor].info.name,
                       "%zu bytes of factors, must be %zu for this stack", size, wanted);
    return LORAFMT_OK;
}

lorafmt_status lorafmt_view_get_factors(const lorafmt_view *view, size_t tensor, void *dst, size_t size, lorafmt_error *err)
{
    const lf_plan *plan;
    uint8_t *to = dst;

    LF_TRY(check_factors(view, tensor, size, err));
    plan = &view->plans[tensor];
    if (plan->info.needs_prepare && !plan->prepared)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, plan->info.name, "has a DoRA site and was not prepared");
    for (size_t k = 0; size && k < plan->n_terms; k++) {
        const lf_dora *dora = plan->terms[k].dora;
        if (!dora)
            continue;
        memcpy(to, dora->factors, factors_size_of(plan, dora));
        to += factors_size_of(plan, dora);
    }
    return LORAFMT_OK;
}

lorafmt_status lorafmt_view_set_factors(lorafmt_view *view, size_t tensor, const void *src, size_t size, lorafmt_error *err)
{
    const uint8_t *from = src;
    lf_plan *plan;

    LF_TRY(check_factors(view, tensor, size, err));
    plan = &view->plans[tensor];
    for (size_t k = 0; size && k < plan->n_terms; k++) {
        lf_dora *dora = plan->terms[k].dora;
        if (!dora)
            continue;
        memcpy(dora->factors, from, factors_size_of(plan, dora));
        from += factors_size_of(plan, dora);
    }
    plan->prepared = plan->info.needs_prepare;
    return LORAFMT_OK;
}
