/* SPDX-License-Identifier: MIT */
#include "lib/algebra/work.h"

#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/algebra/lapack.h"
#include "lib/kernels/fpenv.h"
#include "lib/threads/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    lk_item *item;
    void *ctx;
    lk_meter meter;
} run;

lorafmt_status lk_meter_add(lk_meter *meter, uint64_t n, lorafmt_error *err)
{
    bool go_on = true;

    pthread_mutex_lock(&meter->telling);
    meter->done += n;
    if (meter->progress)
        go_on = meter->progress(meter->ctx, meter->done, meter->total);
    pthread_mutex_unlock(&meter->telling);
    return go_on ? LORAFMT_OK : lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL, "stopped");
}

static lorafmt_status run_one(void *ctx, size_t i, void *unused, lorafmt_error *err)
{
    run *r = ctx;
    const lf_fpenv env = lf_fpenv_enter();
    const lorafmt_status st = r->item(r->ctx, i, err);

    (void)unused;
    lf_fpenv_leave(env);
    return st ? st : lk_meter_add(&r->meter, 1, err);
}

lorafmt_status lk_work_run(const lk_work *work, size_t n, lk_item *item, void *ctx, lorafmt_error *err)
{
    run r = {item, ctx, {work->progress, work->progress_ctx, n, PTHREAD_MUTEX_INITIALIZER, 0}};

    return lf_parallel(n, lf_n_threads(work->n_threads), 0, run_one, &r, err);
}

lorafmt_status lk_check_dtype(lorafmt_dtype dtype, lorafmt_error *err)
{
    if (!dtype || lf_dtype_is_real(dtype))
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "dtype", "%s, must be F32, BF16, F16 or F64",
                   lorafmt_dtype_name(dtype));
}

/* sum over p, q of (left' left)[p, q] (right' right)[p, q], which is the square of the norm of left right'. */
static lorafmt_status thin_square(const lk_thin *t, double *out, lorafmt_error *err)
{
    const size_t n = t->rank;
    double *left = lk_matrix_new(n, n), *right = lk_matrix_new(n, n);
    const bool ready = left && right;

    *out = 0;
    if (ready) {
        lk_gram(t->left, t->n_rows, n, left);
        lk_gram(t->right, t->n_cols, n, right);
        for (size_t j = 0; j < n; j++)
            for (size_t i = 0; i <= j; i++)
                *out += (i == j ? 1 : 2) * left[j * n + i] * right[j * n + i];
    }
    free(left);
    free(right);
    return ready ? LORAFMT_OK : lf_no_memory(err);
}

/* Is any of it not zero? */
static bool set_difference(double *x, const double *a, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        x[i] -= a[i];
        most = fmax(most, fabs(x[i]));
    }
    return most > 0;
}

/* B'A' - B A = (B' - B) A' + B (A' - A), so that what is nearly equal is subtracted before anything is multiplied. */
static lorafmt_status rounding_square(const lorafmt_site *made, const lk_thin *was, size_t expert, double *out,
                                      lorafmt_error *err)
{
    const size_t n_left = was->n_rows * was->rank, n_right = was->n_cols * was->rank;
    lk_thin d = {0};
    lorafmt_status st = lk_thin_new(was->n_rows, was->n_cols, 2 * was->rank, &d, err);
    bool left_differs = false, right_differs = false;

    if (!st)
        st = lk_thin_set(&d, 0, made, expert, 1, 1, err);
    if (!st) {
        memcpy(d.right + n_right, d.right, n_right * sizeof *d.right);
        left_differs = set_difference(d.left, was->left, n_left);
        memcpy(d.left + n_left, was->left, n_left * sizeof *d.left);
        right_differs = set_difference(d.right + n_right, was->right, n_right);
        d.rank = right_differs ? 2 * was->rank : left_differs ? was->rank : 0;
        st = thin_square(&d, out, err);
    }
    lk_thin_free(&d);
    return st;
}

lorafmt_status lk_rounding(const lorafmt_site *made, const lk_thin *thin, size_t n_experts, double *out, lorafmt_error *err)
{
    double sum = 0, one;

    *out = 0;
    for (size_t e = 0; e < n_experts; e++) {
        LF_TRY(rounding_square(made, &thin[e], e, &one, err));
        sum += one;
    }
    *out = sum > 0 ? sqrt(sum) : 0;
    return LORAFMT_OK;
}
