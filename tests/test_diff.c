/* SPDX-License-Identifier: MIT */
/* What tells adapters and models apart, against the same figures computed plainly from full matrices. */
#include "lorakit/diff.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define MOST 16 /* rows, columns, ranks */

/* --- adapters --- */

static uint64_t state = 1;

static float next_number(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 11) * 0x1p-53 * 2 - 1);
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = next_number();
}

/* An adapter of one low-rank site of random factors. */
typedef struct one {
    size_t out, in, rank;
    float a[MOST * MOST], b[MOST * MOST];
    lorafmt_factor factors[3];
    lorafmt_site site;
    lorafmt_adapter adapter;
    lorafmt_stack_entry entry;
} one;

static void wrap(one *o, unsigned kind, double scale, double weight)
{
    o->site = test_low_rank("w", kind, (uint32_t)o->rank, o->in, o->out, o->a, o->b, o->factors);
    o->site.scaling = LORAFMT_SCALING_EXPLICIT;
    o->site.alpha = 0;
    o->site.scale = scale;
    o->adapter = test_adapter("one", &o->site, 1);
    o->entry = (lorafmt_stack_entry){&o->adapter, weight};
}

static void make(one *o, size_t out, size_t in, size_t rank, double scale, double weight)
{
    memset(o, 0, sizeof *o);
    o->out = out;
    o->in = in;
    o->rank = rank;
    fill(o->a, rank * in);
    fill(o->b, out * rank);
    wrap(o, LORAFMT_KIND_LINEAR, scale, weight);
}

static void copy(one *to, const one *from)
{
    *to = *from;
    wrap(to, LORAFMT_KIND_LINEAR, from->site.scale, from->entry.weight);
}

static const lorakit_site_diff *compare(const one *x, const one *y, lorakit_diff **diff)
{
    assert_int_equal(lorakit_diff_stacks(&x->entry, 1, &y->entry, 1, NULL, diff, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_diff_n_sites(*diff), 1);
    return lorakit_diff_get_site(*diff, 0);
}

/* --- the same, plainly --- */

typedef struct matrix {
    size_t n_rows, n_cols;
    double x[MOST * MOST]; /* row by row */
} matrix;

static matrix full(const one *o)
{
    matrix m = {.n_rows = o->out, .n_cols = o->in};

    for (size_t i = 0; i < o->out; i++)
        for (size_t j = 0; j < o->in; j++)
            for (size_t p = 0; p < o->rank; p++)
                m.x[i * o->in + j] +=
                    o->site.scale * o->entry.weight * (double)o->b[i * o->rank + p] * (double)o->a[p * o->in + j];
    return m;
}

static double dot(const matrix *a, const matrix *b)
{
    double sum = 0;

    for (size_t i = 0; i < a->n_rows * a->n_cols; i++)
        sum += a->x[i] * b->x[i];
    return sum;
}

static double norm(const matrix *a)
{
    return sqrt(dot(a, a));
}

static matrix minus(const matrix *a, const matrix *b)
{
    matrix m = *a;

    for (size_t i = 0; i < a->n_rows * a->n_cols; i++)
        m.x[i] -= b->x[i];
    return m;
}

static matrix transposed(const matrix *a)
{
    matrix m = {.n_rows = a->n_cols, .n_cols = a->n_rows};

    for (size_t i = 0; i < m.n_rows; i++)
        for (size_t j = 0; j < m.n_cols; j++)
            m.x[i * m.n_cols + j] = a->x[j * a->n_cols + i];
    return m;
}

/* An orthonormal basis of the columns, as rows, by Gram and Schmidt, twice. */
static matrix basis(const matrix *a)
{
    matrix q = {.n_cols = a->n_rows};

    for (size_t j = 0; j < a->n_cols; j++) {
        double *v = q.x + q.n_rows * q.n_cols, length = 0;
        for (size_t i = 0; i < a->n_rows; i++)
            v[i] = a->x[i * a->n_cols + j];
        for (size_t k = 0; k < 2 * q.n_rows; k++) {
            const double *u = q.x + k % q.n_rows * q.n_cols;
            double along = 0;
            for (size_t i = 0; i < q.n_cols; i++)
                along += u[i] * v[i];
            for (size_t i = 0; i < q.n_cols; i++)
                v[i] -= along * u[i];
        }
        for (size_t i = 0; i < q.n_cols; i++)
            length += v[i] * v[i];
        if (sqrt(length) < 1e-9 * norm(a) || q.n_rows == q.n_cols)
            continue;
        for (size_t i = 0; i < q.n_cols; i++)
            v[i] /= sqrt(length);
        q.n_rows++;
    }
    return q;
}

/* Eigenvalues of a symmetric matrix, by Jacobi's rotations, into its diagonal. */
static void rotate_away(matrix *g)
{
    const size_t n = g->n_rows;

    for (int sweep = 0; sweep < 60; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                const double angle = 0.5 * atan2(2 * g->x[p * n + q], g->x[q * n + q] - g->x[p * n + p]), c = cos(angle),
                             s = sin(angle);
                for (size_t i = 0; i < n; i++) {
                    const double x = g->x[i * n + p], y = g->x[i * n + q];
                    g->x[i * n + p] = c * x - s * y;
                    g->x[i * n + q] = s * x + c * y;
                }
                for (size_t i = 0; i < n; i++) {
                    const double x = g->x[p * n + i], y = g->x[q * n + i];
                    g->x[p * n + i] = c * x - s * y;
                    g->x[q * n + i] = s * x + c * y;
                }
            }
}

static int descending(const void *a_, const void *b_)
{
    const double a = *(const double *)a_, b = *(const double *)b_;

    return (a < b) - (a > b);
}

/* Cosines of the angles between the columns of two matrices: roots of the eigenvalues of C' C with C = Q_x' Q_y. */
static size_t angles(const matrix *x, const matrix *y, double cosines[MOST])
{
    const matrix qx = basis(x), qy = basis(y);
    matrix g = {.n_rows = qy.n_rows, .n_cols = qy.n_rows};

    for (size_t k = 0; k < qx.n_rows; k++) {
        double c[MOST] = {0};
        for (size_t j = 0; j < qy.n_rows; j++)
            for (size_t i = 0; i < qx.n_cols; i++)
                c[j] += qx.x[k * qx.n_cols + i] * qy.x[j * qy.n_cols + i];
        for (size_t i = 0; i < qy.n_rows; i++)
            for (size_t j = 0; j < qy.n_rows; j++)
                g.x[i * g.n_cols + j] += c[i] * c[j];
    }
    rotate_away(&g);
    for (size_t i = 0; i < g.n_rows; i++)
        cosines[i] = sqrt(fmax(0, g.x[i * g.n_cols + i]));
    qsort(cosines, g.n_rows, sizeof *cosines, descending);
    return qx.n_rows < qy.n_rows ? qx.n_rows : qy.n_rows;
}

static void near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("%.17g, not %.17g", found, expected);
}

static void check_angles(const matrix *x, const matrix *y, size_t n, const double *found, double overlap)
{
    double expected[MOST], sum = 0;

    assert_int_equal(n, angles(x, y, expected));
    for (size_t i = 0; i < n; i++) {
        near(found[i], expected[i], 1e-7); // the reference is of squares
        sum += expected[i] * expected[i];
    }
    near(overlap, sum / (double)n, 1e-9);
}

static void check_against_full(const one *x, const one *y)
{
    const matrix fx = full(x), fy = full(y), d = minus(&fx, &fy), tx = transposed(&fx), ty = transposed(&fy);
    lorakit_diff *diff;
    const lorakit_site_diff *s = compare(x, y, &diff);
    const lorakit_diff_totals *t = lorakit_diff_get_totals(diff);

    assert_int_equal(s->state, LORAKIT_DIFF_COMPARED);
    assert_int_equal(s->same, LORAKIT_DIFFERENT);
    near(s->norm_x, norm(&fx), 1e-12 * norm(&fx));
    near(s->norm_y, norm(&fy), 1e-12 * norm(&fy));
    near(s->norm_difference, norm(&d), 1e-12 * norm(&d));
    near(s->cosine, dot(&fx, &fy) / norm(&fx) / norm(&fy), 1e-10);
    assert_int_equal(s->rank_x, x->rank);
    assert_int_equal(s->rank_y, y->rank);
    check_angles(&fx, &fy, s->n_angles, s->column_cosines, s->column_overlap);
    check_angles(&tx, &ty, s->n_angles, s->row_cosines, s->row_overlap);
    near(t->norm_difference, s->norm_difference, 0);
    near(t->cosine, s->cosine, 1e-15);
    lorakit_diff_free(diff);
}

static void agrees_with_full_matrices(void **unused)
{
    one x, y;

    (void)unused;
    for (size_t rank = 1; rank <= 6; rank++) {
        make(&x, 9, 7, 3, 2, 1);
        make(&y, 9, 7, rank, -0.5, 1.5);
        check_against_full(&x, &y);
    }
    make(&x, 12, 2, 5, 1, 1); // ranks above dimensions
    make(&y, 12, 2, 9, 1, 1);
    check_against_full(&x, &y);
    make(&x, 3, 11, 8, 1, 1);
    make(&y, 3, 11, 2, 1, 1);
    check_against_full(&x, &y);
    make(&y, 3, 11, 8, 2, 1);
    check_against_full(&x, &y);
    make(&x, 1, 1, 1, 1, 1);
    make(&y, 1, 1, 4, 1, 1);
    check_against_full(&x, &y);
}

static void finds_shared_directions(void **unused)
{
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y;

    (void)unused;
    make(&x, 8, 8, 2, 1, 1);
    make(&y, 8, 8, 3, 1, 1);
    for (size_t i = 0; i < 8; i++)
        y.b[i * 3 + 1] = 3 * x.b[i * 2]; // one direction that both write
    s = compare(&x, &y, &diff);
    near(s->column_cosines[0], 1, 1e-12);
    assert_true(s->column_cosines[1] < 0.999 && s->row_cosines[0] < 0.999);
    assert_int_equal(s->true_rank_x, 2);
    assert_int_equal(s->true_rank_y, 3);
    lorakit_diff_free(diff);
}

/* --- nearly equal, and equal by other factors --- */

/* Of factors that differ by a rounding: what is nearly equal is subtracted first. */
static double plain_difference(const one *x, const one *y)
{
    double sum = 0;

    for (size_t i = 0; i < x->out; i++)
        for (size_t j = 0; j < x->in; j++) {
            double d = 0;
            for (size_t p = 0; p < x->rank; p++) {
                const double bx = (double)x->b[i * x->rank + p], ax = (double)x->a[p * x->in + j];
                const double by = (double)y->b[i * y->rank + p], ay = (double)y->a[p * y->in + j];
                d += (bx - by) * ax + by * (ax - ay);
            }
            sum += d * d;
        }
    return fabs(x->site.scale) * sqrt(sum);
}

/* y with a rank more, of zeros, which the same numbers must come out of. */
static void pad(one *to, const one *y)
{
    make(to, y->out, y->in, y->rank + 1, y->site.scale, y->entry.weight);
    memset(to->a, 0, sizeof to->a);
    memset(to->b, 0, sizeof to->b);
    memcpy(to->a, y->a, y->rank * y->in * sizeof *y->a);
    for (size_t i = 0; i < y->out; i++)
        memcpy(to->b + i * to->rank, y->b + i * y->rank, y->rank * sizeof *y->b);
}

static void measures_small_differences(void **unused)
{
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y, padded;

    (void)unused;
    make(&x, 10, 8, 3, 3, 1);
    copy(&y, &x);
    for (size_t i = 0; i < 10 * 3; i++)
        y.b[i] = nextafterf(y.b[i], i % 2 ? 2 : -2);
    pad(&padded, &y);
    s = compare(&x, &y, &diff);
    assert_true(s->norm_difference < 2e-7 * s->norm_x && s->norm_difference > 1e-9 * s->norm_x);
    near(s->norm_difference, plain_difference(&x, &y), 1e-12 * s->norm_difference);
    near(s->cosine, 1, 1e-9);
    lorakit_diff_free(diff);
    s = compare(&x, &padded, &diff);
    near(s->norm_difference, plain_difference(&x, &y), 1e-5 * s->norm_difference);
    lorakit_diff_free(diff);
}

/* B M and M^-1 A with M = [2 1; 1 1], rounded to F32. */
static void make_same_function(one *to, const one *x)
{
    copy(to, x);
    for (size_t i = 0; i < x->out; i++) {
        to->b[i * 2] = 2 * x->b[i * 2] + x->b[i * 2 + 1];
        to->b[i * 2 + 1] = x->b[i * 2] + x->b[i * 2 + 1];
    }
    for (size_t j = 0; j < x->in; j++) {
        to->a[j] = x->a[j] - x->a[x->in + j];
        to->a[x->in + j] = 2 * x->a[x->in + j] - x->a[j];
    }
}

static void recognises_the_same_function(void **unused)
{
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y;

    (void)unused;
    make(&x, 14, 11, 2, 0.25, 1);
    copy(&y, &x);
    s = compare(&x, &y, &diff);
    assert_int_equal(s->same, LORAKIT_SAME_BYTES);
    assert_true(s->norm_difference == 0);
    assert_int_equal(lorakit_diff_get_totals(diff)->same, LORAKIT_SAME_BYTES);
    lorakit_diff_free(diff);
    make_same_function(&y, &x);
    s = compare(&x, &y, &diff);
    assert_int_equal(s->same, LORAKIT_SAME_FUNCTION);
    assert_true(s->norm_difference > 0 && s->norm_difference <= s->rounding && s->rounding < 1e-5 * s->norm_x);
    assert_int_equal(lorakit_diff_get_totals(diff)->same, LORAKIT_SAME_FUNCTION);
    lorakit_diff_free(diff);
    y.a[3] += 1e-4f;
    assert_int_equal(compare(&x, &y, &diff)->same, LORAKIT_DIFFERENT);
    lorakit_diff_free(diff);
}

static void zero_updates_have_no_direction(void **unused)
{
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y;

    (void)unused;
    make(&x, 6, 5, 2, 1, 1);
    make(&y, 6, 5, 3, 1, 1);
    memset(y.b, 0, sizeof y.b);
    s = compare(&x, &y, &diff);
    assert_true(isnan(s->cosine) && isnan(s->column_overlap) && isnan(lorakit_diff_get_totals(diff)->cosine));
    assert_int_equal(s->n_angles, 0);
    assert_int_equal(s->true_rank_y, 0);
    near(s->norm_difference, s->norm_x, 1e-12);
    assert_true(s->norm_y == 0 && s->effective_rank_y == 0);
    lorakit_diff_free(diff);
    memset(x.b, 0, sizeof x.b);
    assert_int_equal(compare(&x, &y, &diff)->same, LORAKIT_SAME_FUNCTION);
    lorakit_diff_free(diff);
}

/* --- stacks --- */

/* Two low-rank updates beside each other are one of both ranks. */
static void adds_up_stacks(void **unused)
{
    lorafmt_stack_entry stack[2];
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one a, b, sum;

    (void)unused;
    make(&a, 7, 6, 2, 2, 1);
    make(&b, 7, 6, 1, 1, 0.5);
    make(&sum, 7, 6, 3, 1, 1);
    memcpy(sum.a, a.a, 12 * sizeof *a.a);
    memcpy(sum.a + 12, b.a, 6 * sizeof *b.a);
    for (size_t i = 0; i < 7; i++) {
        sum.b[3 * i] = 2 * a.b[2 * i];
        sum.b[3 * i + 1] = 2 * a.b[2 * i + 1];
        sum.b[3 * i + 2] = 0.5f * b.b[i];
    }
    stack[0] = a.entry;
    stack[1] = b.entry;
    assert_int_equal(lorakit_diff_stacks(stack, 2, &sum.entry, 1, NULL, &diff, NULL), LORAFMT_OK);
    s = lorakit_diff_get_site(diff, 0);
    assert_int_equal(s->same, LORAKIT_SAME_FUNCTION);
    assert_true(s->norm_difference == 0); // scales are powers of 2
    assert_int_equal(s->n_sites_x, 2);
    assert_int_equal(s->rank_x, 3);
    assert_true(isnan(s->factor_x) && s->factor_y == 1);
    lorakit_diff_free(diff);
}

static void check_failure(const lorafmt_stack_entry *x, size_t n_x, const lorafmt_stack_entry *y, lorafmt_status status,
                          const char *field, const char *text)
{
    lorakit_diff *diff;
    lorafmt_error err;

    assert_int_equal(lorakit_diff_stacks(x, n_x, y, 1, NULL, &diff, &err), status);
    assert_null(diff);
    assert_string_equal(err.field, field);
    assert_string_equal(err.text, text);
}

static void refuses_by_name(void **unused)
{
    lorafmt_stack_entry stack[2];
    one x, y;

    (void)unused;
    make(&x, 4, 4, 1, 1, 1);
    make(&y, 4, 4, 1, 1, 1);
    y.adapter.name = "two";
    check_failure(&x.entry, 0, &y.entry, LORAFMT_MISUSE, "x", "an empty stack, there must be an adapter at least");
    y.entry.weight = INFINITY;
    check_failure(&x.entry, 1, &y.entry, LORAFMT_MISUSE, "y", "adapter 0: weight inf, must be finite");
    y.entry.weight = 1;
    y.a[2] = NAN;
    check_failure(&x.entry, 1, &y.entry, LORAFMT_CORRUPT, "w",
                  "of adapter two: A or B has a number that is NaN or infinite: lorapack inspect says where");
    make(&y, 4, 3, 1, 1, 1);
    y.adapter.name = "two";
    stack[0] = x.entry;
    stack[1] = y.entry;
    check_failure(stack, 2, &x.entry, LORAFMT_MISMATCH, "w",
                  "adapter two has it in another kind or shape than one, and they cannot be added");
}

static void says_what_it_does_not_compare(void **unused)
{
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y;

    (void)unused;
    make(&x, 4, 4, 1, 1, 1);
    make(&y, 4, 3, 1, 1, 1);
    s = compare(&x, &y, &diff);
    assert_int_equal(s->state, LORAKIT_DIFF_OTHER_SHAPE);
    assert_true(s->norm_x > 0 && s->norm_y > 0 && isnan(s->norm_difference));
    assert_int_equal(lorakit_diff_get_totals(diff)->n_others, 1);
    lorakit_diff_free(diff);
    make(&y, 4, 4, 1, 1, 1);
    wrap(&y, LORAFMT_KIND_EMBEDDING, 1, 1);
    assert_int_equal(compare(&x, &y, &diff)->state, LORAKIT_DIFF_OTHER_KIND);
    lorakit_diff_free(diff);
    x.site.kind = y.site.kind = 99;
    s = compare(&x, &y, &diff);
    assert_true(s->state == LORAKIT_DIFF_NOT_COMPARED && isnan(s->norm_x) && lorakit_diff_get_totals(diff)->norm_x == 0);
    lorakit_diff_free(diff);
    assert_int_equal(compare(&x, &x, &diff)->same, LORAKIT_SAME_BYTES);
    lorakit_diff_free(diff);
    x.site.kind = y.site.kind = LORAFMT_KIND_LINEAR;
    y.site.target = "v";
    assert_int_equal(lorakit_diff_stacks(&x.entry, 1, &y.entry, 1, NULL, &diff, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_diff_get_site(diff, 0)->state, LORAKIT_DIFF_ONLY_Y); // by name
    assert_int_equal(lorakit_diff_get_site(diff, 1)->state, LORAKIT_DIFF_ONLY_X);
    near(lorakit_diff_get_totals(diff)->norm_difference,
         hypot(lorakit_diff_get_site(diff, 0)->norm_y, lorakit_diff_get_site(diff, 1)->norm_x), 1e-14);
    lorakit_diff_free(diff);
}

/* The parts of a fused tensor are records of their own, and one that differs is enough. */
static void ranges_are_apart(void **unused)
{
    lorafmt_site x_sites[2], y_sites[3];
    lorakit_diff *diff;
    one x, y;

    (void)unused;
    make(&x, 4, 4, 1, 1, 1);
    make(&y, 4, 4, 1, 1, 1);
    for (int i = 0; i < 2; i++) {
        x_sites[i] = x.site;
        x_sites[i].flags = LORAFMT_SITE_ROW_RANGE;
        x_sites[i].row_begin = 4 * (uint64_t)i;
        x_sites[i].row_end = 4 * (uint64_t)i + 4;
    }
    y_sites[0] = y.site; // of all rows
    y_sites[1] = x_sites[0];
    y_sites[1].factors = y.factors;
    y_sites[2] = x_sites[1];
    x.adapter = test_adapter("one", x_sites, 2);
    y.adapter = test_adapter("two", y_sites, 3);
    assert_int_equal(lorakit_diff_stacks(&x.entry, 1, &y.entry, 1, NULL, &diff, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_diff_n_sites(diff), 3);
    assert_int_equal(lorakit_diff_get_site(diff, 0)->state, LORAKIT_DIFF_ONLY_Y);
    assert_int_equal(lorakit_diff_get_site(diff, 1)->same, LORAKIT_DIFFERENT);
    assert_int_equal(lorakit_diff_get_site(diff, 2)->same, LORAKIT_SAME_BYTES);
    assert_int_equal(lorakit_diff_get_totals(diff)->same, LORAKIT_DIFFERENT);
    assert_int_equal(lorakit_diff_get_totals(diff)->n_same_bytes, 1);
    lorakit_diff_free(diff);
}

/* --- experts, DoRA, whole tensors --- */

/* Two experts of 3 x 4: rows of A and B one expert after the other. */
static void experts_are_matrices_of_their_own(void **unused)
{
    double x_squares = 0, difference = 0;
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y, part_x, part_y;

    (void)unused;
    make(&x, 6, 4, 2, 1, 1); // of rank 1 each: A [2 x 4], B [6 x 1]
    make(&y, 6, 4, 2, 1, 1);
    for (int e = 0; e < 2; e++) {
        make(&part_x, 3, 4, 1, 1, 1);
        make(&part_y, 3, 4, 1, 1, 1);
        memcpy(x.a + 4 * e, part_x.a, 4 * sizeof *x.a);
        memcpy(x.b + 3 * e, part_x.b, 3 * sizeof *x.b);
        memcpy(y.a + 4 * e, part_y.a, 4 * sizeof *y.a);
        memcpy(y.b + 3 * e, part_y.b, 3 * sizeof *y.b);
        const matrix fx = full(&part_x), fy = full(&part_y), d = minus(&fx, &fy);
        x_squares += dot(&fx, &fx);
        difference += dot(&d, &d);
    }
    for (int i = 0; i < 2; i++) {
        one *o = i ? &y : &x;
        o->site.kind = LORAFMT_KIND_EXPERTS;
        o->site.rank = 1;
        o->factors[1].tensor = test_tensor(LORAFMT_F32, 6, 1, o->b);
    }
    s = compare(&x, &y, &diff);
    assert_int_equal(s->state, LORAKIT_DIFF_COMPARED);
    near(s->norm_x, sqrt(x_squares), 1e-12);
    near(s->norm_difference, sqrt(difference), 1e-12);
    assert_int_equal(s->n_angles, 2);
    near(s->effective_rank_x, 1, 1e-12);
    assert_true(s->column_cosines[0] >= s->column_cosines[1]);
    lorakit_diff_free(diff);
}

static void compares_magnitudes(void **unused)
{
    float m_x[4] = {3, 4, 0, 0}, m_y[4] = {3, 4, 0, 0.5f};
    lorakit_diff *diff;
    const lorakit_site_diff *s;
    one x, y;

    (void)unused;
    make(&x, 4, 4, 1, 1, 1);
    copy(&y, &x);
    x.factors[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 4, 0, m_x)};
    x.site.n_factors = 3;
    s = compare(&x, &y, &diff);
    assert_int_equal(s->same, LORAKIT_DIFFERENT); // though the low-rank parts are the same
    assert_true(s->has_magnitude_x && !s->has_magnitude_y && isnan(s->magnitude_difference));
    lorakit_diff_free(diff);
    y.factors[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, 4, 0, m_y)};
    y.site.n_factors = 3;
    s = compare(&x, &y, &diff);
    assert_int_equal(s->same, LORAKIT_DIFFERENT);
    near(s->magnitude_difference, 0.5 / sqrt(25.25), 1e-15);
    lorakit_diff_free(diff);
    m_y[3] = 0;
    assert_int_equal(compare(&x, &y, &diff)->same, LORAKIT_SAME_BYTES);
    lorakit_diff_free(diff);
}

typedef struct whole {
    lorafmt_factor factors[2];
    lorafmt_site site;
    lorafmt_adapter adapter;
    lorafmt_stack_entry entry;
} whole;

static void make_whole(whole *w, unsigned kind, lorafmt_tensor value, double weight)
{
    w->site = test_whole("w", kind, value, w->factors);
    w->adapter = test_adapter("whole", &w->site, 1);
    w->entry = (lorafmt_stack_entry){&w->adapter, weight};
}

static lorakit_site_diff compare_whole(const whole *x, const whole *y)
{
    lorakit_diff *diff;
    lorakit_site_diff s;

    assert_int_equal(lorakit_diff_stacks(&x->entry, 1, &y->entry, 1, NULL, &diff, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_diff_n_sites(diff), 1);
    s = *lorakit_diff_get_site(diff, 0);
    lorakit_diff_free(diff);
    return s;
}

static void compares_whole_tensors(void **unused)
{
    const float a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 6};
    const uint16_t half[4] = {0x3f80, 0x4000, 0x4040, 0x4080}; // a in BF16
    lorakit_site_diff s;
    whole x, y;

    (void)unused;
    make_whole(&x, LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, a), 1);
    make_whole(&y, LORAFMT_KIND_REPLACEMENT, test_tensor(LORAFMT_F32, 2, 2, b), 1);
    s = compare_whole(&x, &y);
    assert_int_equal(s.state, LORAKIT_DIFF_COMPARED);
    assert_true(s.n_elements == 4 && s.n_differing == 1 && s.norm_difference == 2 && s.norm_x == sqrt(30));
    make_whole(&y, LORAFMT_KIND_SAVED, test_tensor(LORAFMT_BF16, 2, 2, half), 1);
    s = compare_whole(&x, &y);
    assert_true(s.same == LORAKIT_SAME_FUNCTION && s.n_differing == 0);
    make_whole(&y, LORAFMT_KIND_SAVED, test_tensor(LORAFMT_I16, 2, 2, half), 1);
    assert_int_equal(compare_whole(&x, &y).state, LORAKIT_DIFF_OTHER_DTYPE);
    make_whole(&y, LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 4, 0, a), 1);
    assert_int_equal(compare_whole(&x, &y).state, LORAKIT_DIFF_OTHER_SHAPE);
    make_whole(&y, LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, a), 0.5);
    assert_int_equal(compare_whole(&x, &y).state, LORAKIT_DIFF_NOT_COMPARED);
    make_whole(&y, LORAFMT_KIND_SAVED, test_tensor(LORAFMT_F32, 2, 2, a), 1);
    assert_int_equal(compare_whole(&x, &y).same, LORAKIT_SAME_BYTES);
    make_whole(&x, LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 2, 2, a), 2);
    make_whole(&y, LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 2, 2, b), 1);
    s = compare_whole(&x, &y);
    assert_true(s.norm_x == 2 * sqrt(30) && s.norm_difference == sqrt(1 + 4 + 9 + 4));
}

/* --- out of memory --- */

static lorafmt_status diff_without_memory(const void *ctx, lorafmt_error *err)
{
    const lorakit_diff_options options = {.struct_size = sizeof options, .n_threads = 1};
    const one *pair = ctx;
    lorakit_diff *diff;
    const lorafmt_status st = lorakit_diff_stacks(&pair[0].entry, 1, &pair[1].entry, 1, &options, &diff, err);

    assert_int_equal(diff != NULL, st == LORAFMT_OK);
    lorakit_diff_free(diff);
    return st;
}

static void every_allocation_may_fail(void **unused)
{
    one pair[2];

    (void)unused;
    make(&pair[0], 6, 5, 2, 1, 1);
    make(&pair[1], 6, 5, 7, 1, 1);
    assert_int_equal(refuse_each(diff_without_memory, pair), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_full_matrices),
        cmocka_unit_test(finds_shared_directions),
        cmocka_unit_test(measures_small_differences),
        cmocka_unit_test(recognises_the_same_function),
        cmocka_unit_test(zero_updates_have_no_direction),
        cmocka_unit_test(adds_up_stacks),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(says_what_it_does_not_compare),
        cmocka_unit_test(ranges_are_apart),
        cmocka_unit_test(experts_are_matrices_of_their_own),
        cmocka_unit_test(compares_magnitudes),
        cmocka_unit_test(compares_whole_tensors),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
