/* SPDX-License-Identifier: MIT */
#include "lib/algebra/rank.h"

#include "format/base/error.h"

#include <math.h>

#define KOHYA_NOTHING 1e-6

static lorafmt_status bad(double value, const char *what, const char *allowed, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, what, "%g, must be %s", value, allowed);
}

lorafmt_status lk_rank_check(const lorakit_rank *rule, lorafmt_error *err)
{
    const double x = rule->value;

    switch (rule->rule) {
    case LORAKIT_LOSSLESS:
        return x == 0 ? LORAFMT_OK : bad(x, "rank", "0 for the lossless rule", err);
    case LORAKIT_FIXED:
        return x == 0 && rule->most ? LORAFMT_OK : bad(rule->most, "rank", "at least 1, with a value of 0, for a fixed one", err);
    case LORAKIT_ENERGY:
        return x > 0 && x <= 1 ? LORAFMT_OK : bad(x, "energy", "a share above 0, at most 1", err);
    case LORAKIT_MAX_ERROR:
        return x >= 0 && x < 1 ? LORAFMT_OK : bad(x, "max-error", "a relative error from 0, below 1", err);
    case LORAKIT_SV_RATIO:
        return x > 0 && isfinite(x) ? LORAFMT_OK : bad(x, "sv_ratio", "above 0", err);
    case LORAKIT_SV_CUMULATIVE:
        return x > 0 && x <= 1 ? LORAFMT_OK : bad(x, "sv_cumulative", "a share above 0, at most 1", err);
    case LORAKIT_SV_FRO:
        return x > 0 && x <= 1 ? LORAFMT_OK : bad(x, "sv_fro", "a share above 0, at most 1", err);
    }
    return bad((double)rule->rule, "rule", "one of lorakit_rule", err);
}

double lk_tail(const double *s, size_t k, size_t n)
{
    double sum = 0;

    while (n > k) { // the smallest first
        n--;
        sum += s[n] * s[n];
    }
    return sqrt(sum);
}

double lk_effective_rank(const double *s, size_t n)
{
    double sum = 0, entropy = 0;

    for (size_t i = 0; i < n; i++)
        sum += s[i];
    for (size_t i = 0; i < n && sum > 0; i++) {
        const double p = s[i] / sum;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    return sum > 0 ? exp(entropy) : 0;
}

/* The least k whose tail is at most a share of the whole. */
static size_t by_tail(const double *s, size_t n, double share)
{
    const double most = share * lk_tail(s, 0, n);
    size_t k = n;

    while (k > 0 && lk_tail(s, k - 1, n) <= most)
        k--;
    return k;
}

/* The least k whose first k squares are the share of all. The squares that are left out are what is summed: they are the small ones. */
static size_t by_energy(const double *s, size_t n, double share)
{
    const double all = lk_tail(s, 0, n);
    size_t k = n;

    while (k > 0) {
        const double left = lk_tail(s, k - 1, n);
        if (all * all - left * left < share * all * all)
            break;
        k--;
    }
    return k;
}

/* Where the running sum of s^power reaches a share of the whole, plus 1. */
static size_t running(const double *s, size_t n, int power, double share)
{
    double all = 0, sum = 0;
    size_t i = 0;

    for (size_t k = 0; k < n; k++)
        all += power == 1 ? s[k] : s[k] * s[k];
    while (i < n) {
        sum += power == 1 ? s[i] : s[i] * s[i];
        if (sum >= share * all)
            break;
        i++;
    }
    return i + 1;
}

static size_t kohya(const lorakit_rank *rule, const double *s, size_t n, size_t n_all)
{
    size_t index = 0;

    if (n == 0 || s[0] <= KOHYA_NOTHING)
        return 1;
    if (rule->rule == LORAKIT_SV_RATIO)
        while (index < n && s[index] > s[0] / rule->value)
            index++;
    else if (rule->rule == LORAKIT_SV_CUMULATIVE)
        index = running(s, n, 1, rule->value);
    else
        index = running(s, n, 2, rule->value * rule->value);
    if (index > n_all - 1)
        index = n_all - 1;
    return (index ? index : 1) + 1;
}

static size_t choose(const lorakit_rank *rule, const double *s, size_t n, size_t true_rank, size_t n_all)
{
    switch (rule->rule) {
    case LORAKIT_LOSSLESS:
        return true_rank;
    case LORAKIT_FIXED:
        return rule->most;
    case LORAKIT_ENERGY:
        return by_energy(s, n, rule->value);
    case LORAKIT_MAX_ERROR:
        return by_tail(s, n, rule->value);
    case LORAKIT_SV_RATIO:
    case LORAKIT_SV_CUMULATIVE:
    case LORAKIT_SV_FRO:
        return kohya(rule, s, n, n_all);
    }
    return n;
}

/* Unless it is fixed, a rank above the number of values would be of zeros. */
size_t lk_rank_choose(const lorakit_rank *rule, const double *s, size_t n, size_t true_rank, size_t n_all)
{
    const size_t possible = rule->rule == LORAKIT_FIXED ? n_all : n;
    size_t k = choose(rule, s, n, true_rank, n_all);

    if (rule->most && k > rule->most)
        k = rule->most;
    if (k > possible)
        k = possible;
    return k ? k : 1;
}

lorafmt_status lk_rank_check_possible(const lorakit_rank *rule, size_t most, lorafmt_error *err)
{
    if (rule->rule != LORAKIT_FIXED || rule->most <= most)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "rank", "%u, no matrix that is changed can have more than %zu",
                   rule->most, most);
}
