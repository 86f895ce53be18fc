/* SPDX-License-Identifier: MIT */
/*
 * The trainer's gradients against finite differences of the loss, which only the forward pass takes part in: of the demo model, for A
 * and B of every matrix that can be trained, along directions of chance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "examples/tinylm/backward.h"
#include "examples/tinylm/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char words[] = "All this in a few words. ";

enum { N_TOKENS = sizeof words - 2, N_DIRECTIONS = 2 };

static const char *demo_base;

typedef struct setting {
    model model;
    trainable trainable;
    transposed transposed;
    learner learner;
    float *gradient;
} setting;

static void start(setting *s)
{
    static const char *const targets[] = {"all-linear", "lm_head"};
    const lorakit_init_options options = {.struct_size = sizeof options, .targets = targets, .n_targets = 2, .rank = 3};
    const stack base = {0};
    lorafmt_swap_result result;
    lorafmt_error err;

    assert_int_equal(model_load(demo_base, LORAFMT_F32, &s->model, &err), LORAFMT_OK);
    assert_int_equal(model_swap(&s->model, &base, &result, &err), LORAFMT_OK);
    assert_int_equal(transposed_make(&s->model, &s->transposed, &err), LORAFMT_OK);
    assert_int_equal(trainable_make(&s->model, &options, &s->trainable, &err), LORAFMT_OK);
    assert_int_equal(learner_start(&s->model, &s->transposed, &s->trainable, &s->learner, &err), LORAFMT_OK);
    s->gradient = calloc(s->trainable.n, sizeof *s->gradient);
    assert_non_null(s->gradient);
}

static void end(setting *s)
{
    free(s->gradient);
    learner_free(&s->learner);
    trainable_free(&s->trainable);
    transposed_free(&s->transposed);
    model_free(&s->model);
}

static double loss_now(setting *s)
{
    const uint8_t *bytes = (const uint8_t *)words;
    const float *logits;
    double sum = 0;

    s->learner.sequence.n_seen = 0;
    logits = session_feed_bytes(&s->learner.session, &s->learner.sequence, bytes, N_TOKENS);
    for (size_t t = 0; t < N_TOKENS; t++)
        sum += surprise(logits + t * VOCAB_SIZE, bytes[t + 1]);
    return sum / N_TOKENS;
}

/* The numbers of a factor, and how many. */
typedef struct part {
    float *numbers;
    size_t n;
} part;

/* The loss with the numbers moved along a direction. */
static double loss_at(setting *s, const part *p, const float *origin, const float *direction, float by)
{
    double found;

    for (size_t i = 0; i < p->n; i++)
        p->numbers[i] = origin[i] + by * direction[i];
    found = loss_now(s);
    memcpy(p->numbers, origin, p->n * sizeof *origin);
    return found;
}

/* To the fourth order in `by`. */
static double slope(setting *s, const part *p, const float *direction, float by)
{
    float *origin = malloc(p->n * sizeof *origin);
    double found;

    assert_non_null(origin);
    memcpy(origin, p->numbers, p->n * sizeof *origin);
    found = (8 * (loss_at(s, p, origin, direction, by) - loss_at(s, p, origin, direction, -by)) -
             (loss_at(s, p, origin, direction, 2 * by) - loss_at(s, p, origin, direction, -2 * by))) /
            (12 * by);
    free(origin);
    return found;
}

/*
 * Along a direction of length 1 whose elements are alike in size the slope is some |gradient| / sqrt(n): a twentieth of that
 * may be missing. A wrong sign, scale or part of the sum misses more.
 */
static void check_part(setting *s, const part *p, uint64_t *chance)
{
    const float *gradient = s->gradient + (p->numbers - s->trainable.numbers);
    float *direction = malloc(p->n * sizeof *direction);
    double square = 0, expected = 0;

    assert_non_null(direction);
    for (size_t i = 0; i < p->n; i++) {
        direction[i] = (float)((draw(chance) < 0.5 ? 1 : -1) / sqrt((double)p->n));
        square += (double)gradient[i] * gradient[i];
        expected += (double)gradient[i] * direction[i];
    }
    assert_true(square > 0);
    assert_float_equal(slope(s, p, direction, 0.1f), expected, sqrt(square / (double)p->n) / 20);
    free(direction);
}

static void test_finite_differences(void **state)
{
    setting s = {0};
    uint64_t chance = 1;

    (void)state;
    start(&s);
    for (size_t i = 0; i < s.trainable.n; i++) /* B is zero at first, and then the gradient of A is, too */
        s.trainable.numbers[i] += (float)(draw(&chance) - 0.5) / 8;
    assert_float_equal(learner_learn(&s.learner, (const uint8_t *)words, N_TOKENS, s.gradient), loss_now(&s), 1e-9);
    assert_int_equal(s.trainable.adapter.n_sites, 43);
    for (size_t i = 0; i < s.trainable.adapter.n_sites; i++)
        for (size_t k = 0; k < 2 * N_DIRECTIONS; k++) {
            const lorafmt_tensor *t = &s.trainable.factors[2 * i + k % 2].tensor;
            const part p = {s.trainable.numbers + ((const float *)t->data - s.trainable.numbers),
                            (size_t)t->size / sizeof(float)};
            check_part(&s, &p, &chance);
        }
    end(&s);
}

/* Gradients are added to what is there. */
static void test_adds(void **state)
{
    setting s = {0};
    float *twice;

    (void)state;
    start(&s);
    twice = calloc(s.trainable.n, sizeof *twice);
    assert_non_null(twice);
    learner_learn(&s.learner, (const uint8_t *)words, N_TOKENS, s.gradient);
    for (int i = 0; i < 2; i++)
        learner_learn(&s.learner, (const uint8_t *)words, N_TOKENS, twice);
    for (size_t i = 0; i < s.trainable.n; i++)
        assert_float_equal(twice[i], 2 * s.gradient[i], 1e-5f * fabsf(s.gradient[i]) + 1e-9f);
    free(twice);
    end(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_adds),
    };

    if (argc != 2)
        return 2;
    demo_base = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
