/* SPDX-License-Identifier: MIT */
#include "lorakit/uniform.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/algebra/algebra.h"
#include "lib/algebra/numbers.h"
#include "lib/algebra/result.h"
#include "lib/kernels/fpenv.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512

/* How much larger than they are factors may become, where they become large. */
#define MOST_GROWTH 64
#define MUCH 1e9

static double doubling(const lorafmt_site *site)
{
    return site->flags & LORAFMT_SITE_DOUBLED ? 2 : 1;
}

static double own_scale(const lorafmt_site *site)
{
    return site->scale / doubling(site);
}

/* --- what all sites get --- */

static int compare_scales(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The scale, other than 0, that most low-rank sites have; 1 when there is none. */
static lorafmt_status common_scale(const lorafmt_adapter *adapter, double *out, lorafmt_error *err)
{
    double *scales = calloc(adapter->n_sites + 1, sizeof *scales);
    size_t n = 0, count = 0, best_count = 0;

    if (!scales)
        return lf_no_memory(err);
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (lk_is_low_rank(&adapter->sites[i]) && adapter->sites[i].scale != 0)
            scales[n++] = own_scale(&adapter->sites[i]);
    qsort(scales, n, sizeof *scales, compare_scales);
    *out = 1;
    for (size_t i = 0; i < n; i++) {
        count = i && scales[i] == scales[i - 1] ? count + 1 : 1;
        if (count > best_count) {
            best_count = count;
            *out = scales[i];
        }
    }
    free(scales);
    return LORAFMT_OK;
}

/* An alpha that divided by the rank is the scale; of ranks that are no power of two there may be none. */
static bool find_alpha(double scale, uint32_t rank, double *alpha)
{
    const double near = scale * rank, candidates[] = {near, nextafter(near, INFINITY), nextafter(near, -INFINITY)};

    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (candidates[i] / rank == scale && isfinite(candidates[i])) {
            *alpha = candidates[i];
            return true;
        }
    return false;
}

/* A few small sites of a hostile file may ask for much when another has a large rank, or all share one tensor. */
static lorafmt_status check_growth(const lorafmt_adapter *adapter, uint32_t rank, lorafmt_error *err)
{
    double before = 0, after = 0;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        double n_bytes = 0;
        if (!lk_is_low_rank(site))
            continue;
        for (unsigned f = 0; f < 2; f++)
            n_bytes += (double)site->factors[f].tensor.size;
        before += n_bytes;
        after += n_bytes / site->rank * rank;
    }
    if (after > MOST_GROWTH * before && after > MUCH)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, adapter->name,
                       "at one rank, %u, its factors would take %.3g bytes, %.0f times as many as now", rank, after,
                       after / before);
    return LORAFMT_OK;
}

static lorafmt_status choose(const lorafmt_adapter *adapter, lorakit_uniformed *said, lorafmt_error *err)
{
    for (size_t i = 0; i < adapter->n_sites; i++) {
        LF_TRY(lk_check_known(&adapter->sites[i], err));
        if (adapter->sites[i].rank > said->rank)
            said->rank = adapter->sites[i].rank;
    }
    if (!said->rank)
        return LORAFMT_OK;
    LF_TRY(common_scale(adapter, &said->scale, err));
    while (!find_alpha(said->scale, said->rank, &said->alpha)) {
        const uint32_t lowest = said->rank & (~said->rank + 1);
        if (said->rank >= LF_MAX_RANK)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, adapter->name, "no alpha gives the scale %.17g at rank %u",
                           said->scale, said->rank);
        said->rank += lowest; // clears the low bits one after the other, up to a power of two
    }
    return check_growth(adapter, said->rank, err);
}

/* --- a site --- */

/* A factor as `n_rows` runs of elements, which become longer by what is added after each. */
typedef struct runs {
    size_t n, length, added;
} runs;

/* B with a row for each output: its rank is the second dimension. */
static runs runs_of_b(const lorafmt_tensor *b, uint32_t rank)
{
    const size_t n = (size_t)b->shape[0], length = n ? (size_t)(b->size / (lorafmt_dtype_bits(b->dtype) / 8)) / n : 0;

    return (runs){n, length, length / (size_t)b->shape[1] * rank - length};
}

/* A, whose rank is the first dimension, of each expert. */
static runs runs_of_a(const lorafmt_tensor *a, uint32_t old_rank, uint32_t rank)
{
    const size_t n = (size_t)(a->shape[0] / old_rank), length = (size_t)(a->size / (lorafmt_dtype_bits(a->dtype) / 8)) / n;

    return (runs){n, length, length / old_rank * rank - length};
}

/* `factor` times the numbers of src, in dtype; adds up what rounding changes, and the numbers themselves, squared. */
static bool multiply(const uint8_t *src, lorafmt_dtype from, uint8_t *dst, lorafmt_dtype to, size_t n, double factor,
                     double *lost, double *sum)
{
    const size_t unit_from = lorafmt_dtype_bits(from) / 8, unit_to = lorafmt_dtype_bits(to) / 8;
    bool finite = true;

    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t m = n - at < BLOCK ? n - at : BLOCK;
        double x[BLOCK], product[BLOCK], rounded[BLOCK];
        lk_widen(from, src + at * unit_from, x, m);
        for (size_t i = 0; i < m; i++)
            product[i] = factor * x[i];
        finite = lk_narrow(to, product, dst + at * unit_to, m) && finite;
        lk_widen(to, dst + at * unit_to, rounded, m);
        for (size_t i = 0; i < m; i++) {
            const double error = fma(factor, x[i], -rounded[i]);
            *lost += error * error;
            *sum += product[i] * product[i];
        }
    }
    return finite;
}

static void fill_zeros(uint8_t *dst, size_t n, size_t unit, bool negative)
{
    memset(dst, 0, n * unit);
    for (size_t i = 0; negative && i < n; i++)
        dst[i * unit + unit - 1] = 0x80;
}

/* B may be multiplied; what is added to it is -0, so that its product with the +0 of A is the -0 that changes no sum. */
static lorafmt_status rewrite(lf_arena *arena, lorafmt_tensor *t, runs r, lorafmt_dtype dtype, double factor, bool is_b,
                              double *relative, const char *target, lorafmt_error *err)
{
    const size_t from = lorafmt_dtype_bits(t->dtype) / 8, to = lorafmt_dtype_bits(dtype) / 8;
    uint8_t *data = lf_arena_alloc_dirty(arena, r.n * (r.length + r.added), to);
    const uint8_t *src = t->data;
    double lost = 0, sum = 0;
    bool finite = true;

    if (!data)
        return lf_no_memory(err);
    for (size_t i = 0; i < r.n; i++) {
        uint8_t *dst = data + i * (r.length + r.added) * to;
        if (factor == 1)
            memcpy(dst, src + i * r.length * from, r.length * from);
        else
            finite = multiply(src + i * r.length * from, t->dtype, dst, dtype, r.length, factor, &lost, &sum) && finite;
        fill_zeros(dst + r.length * to, r.added, to, is_b);
    }
    if (!finite)
        return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, target, "B times %g is too large for %s", factor,
                       lorafmt_dtype_name(dtype));
    t->dtype = dtype;
    t->data = data;
    *relative = lost > 0 ? sqrt(lost / sum) : 0;
    return LORAFMT_OK;
}

/* In the dtype of B if no more is lost than f64 loses, else in a wider one. */
static lorafmt_status fold(lf_arena *arena, lorafmt_tensor *b, runs r, double factor, double *relative, const char *target,
                           lorafmt_error *err)
{
    const lorafmt_tensor before = *b;
    const lorafmt_status st = rewrite(arena, b, r, b->dtype, factor, true, relative, target, err);

    if (st == LORAFMT_NO_MEMORY || (!st && *relative <= DBL_EPSILON))
        return st;
    *b = before;
    return rewrite(arena, b, r, b->dtype == LORAFMT_F64 ? LORAFMT_F64 : LORAFMT_F32, factor, true, relative, target, err);
}

static lorafmt_status shape_site(lf_arena *arena, lorafmt_site *site, lorakit_uniformed *said, lorafmt_error *err)
{
    lorafmt_factor *f = lf_arena_alloc(arena, site->n_factors, sizeof *f);
    const double factor = own_scale(site) == said->scale ? 1 : own_scale(site) / said->scale;
    double relative = 0;
    runs a, b;

    if (!f)
        return lf_no_memory(err);
    memcpy(f, site->factors, site->n_factors * sizeof *f); // A, B and what follows them: roles ascend
    a = runs_of_a(&f[0].tensor, site->rank, said->rank);
    b = runs_of_b(&f[1].tensor, said->rank);
    if (a.added)
        LF_TRY(rewrite(arena, &f[0].tensor, a, f[0].tensor.dtype, 1, false, &relative, site->target, err));
    if (factor != 1 && fma(factor, said->scale, -own_scale(site)) != 0)
        said->rounding = fmax(said->rounding, DBL_EPSILON / 2); // of the factor itself
    if (factor != 1)
        LF_TRY(fold(arena, &f[1].tensor, b, factor, &relative, site->target, err));
    else if (b.added)
        LF_TRY(rewrite(arena, &f[1].tensor, b, f[1].tensor.dtype, 1, true, &relative, site->target, err));
    f[0].tensor.shape[0] = a.n * said->rank;
    f[1].tensor.shape[1] = said->rank;
    for (unsigned i = 0; i < 2; i++)
        lf_tensor_measure(f[i].tensor.dtype, f[i].tensor.n_dims, f[i].tensor.shape, &f[i].tensor.size);
    said->n_padded += a.added > 0;
    said->n_folded += factor != 1;
    said->rounding = fmax(said->rounding, relative);
    site->factors = f;
    site->rank = said->rank;
    site->scaling = LORAFMT_SCALING_ALPHA_R;
    site->alpha = said->alpha;
    site->scale = said->scale * doubling(site);
    return LORAFMT_OK;
}

static lorafmt_status make(const lorafmt_adapter *adapter, lorakit_uniformed *said, lorakit_adapter *result, lorafmt_error *err)
{
    for (size_t i = 0; i < adapter->n_sites; i++) {
        lk_made *made = &result->made[i];
        made->site = adapter->sites[i];
        if (lk_is_low_rank(&made->site))
            LF_TRY(shape_site(&made->arena, &made->site, said, err));
    }
    LF_TRY(lk_result_note(result, "uniform", &adapter, NULL, 1, err));
    return lk_result_finish(result, err);
}

lorafmt_status lorakit_uniform(const lorafmt_adapter *adapter, lorakit_uniformed *said, lorakit_adapter **out, lorafmt_error *err)
{
    lorakit_uniformed found = {0};
    lorakit_adapter *result = NULL;
    const lf_fpenv env = lf_fpenv_enter();
    lorafmt_status st;

    *out = NULL;
    if (said)
        *said = found;
    if (!(st = choose(adapter, &found, err)) && !(st = lk_result_new(adapter, NULL, adapter->n_sites, &result, err)))
        st = make(adapter, &found, result, err);
    lf_fpenv_leave(env);
    if (st) {
        lorakit_adapter_free(result);
        return st;
    }
    if (said)
        *said = found;
    *out = result;
    return LORAFMT_OK;
}
