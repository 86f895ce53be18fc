/* SPDX-License-Identifier: MIT */
#include "lib/algebra/random.h"

#include <math.h>

/* SplitMix64 (Steele, Lea and Flood 2014): outputs are a mix of a counter that this is added to. */
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t lk_random_key(uint64_t seed, const char *name)
{
    uint64_t key = mix(seed + GOLDEN);

    for (; *name; name++)
        key = mix((key ^ (unsigned char)*name) + GOLDEN);
    return key;
}

/* In (0, 1), never 0 or 1: 52 bits and a half are a binary64. */
static double unit(uint64_t key, uint64_t i)
{
    return ((double)(mix(key + (i + 1) * GOLDEN) >> 12) + 0.5) * 0x1p-52;
}

void lk_random_uniform(uint64_t key, uint64_t at, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = 2 * unit(key, at + i) - 1;
}

/*
 * AS 241, PPND16 (Wichura 1988), good to about 1e-16: a quotient of polynomials in r, each from the highest power down, for
 * the middle of the distribution and two parts of its tails.
 */
#define N_TERMS 8
static const double middle[N_TERMS] = {2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
                                       4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                       1.3314166789178437745e+2, 3.3871328727963666080};
static const double middle_below[N_TERMS] = {5.2264952788528545610e+3, 2.8729085735721942674e+4,
                                             3.9307895800092710610e+4, 2.1213794301586595867e+4,
                                             5.3941960214247511077e+3, 6.8718700749205790830e+2,
                                             4.2313330701600911252e+1, 1.0};
static const double near[N_TERMS] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                                     1.27045825245236838258,    3.64784832476320460504,    5.76949722146069140550,
                                     4.63033784615654529590,    1.42343711074968357734};
static const double near_below[N_TERMS] = {1.05075007164441684324e-9, 5.47593808499534494600e-4,
                                           1.51986665636164571966e-2, 1.48103976427480074590e-1,
                                           6.89767334985100004550e-1, 1.67638483018380384940,
                                           2.05319162663775882187,    1.0};
static const double far[N_TERMS] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                                    2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580,
                                    5.46378491116411436990,    6.65790464350110377720};
static const double far_below[N_TERMS] = {2.04426310338993978564e-15, 1.42151175831644588870e-7,
                                          1.84631831751005468180e-5,  7.86869131145613259100e-4,
                                          1.48753612908506148525e-2,  1.36929880922735805310e-1,
                                          5.99832206555887937690e-1,  1.0};

static double polynomial(const double terms[N_TERMS], double x)
{
    double sum = terms[0];

    for (size_t i = 1; i < N_TERMS; i++)
        sum = sum * x + terms[i];
    return sum;
}

static double quotient(const double above[N_TERMS], const double below[N_TERMS], double x)
{
    return polynomial(above, x) / polynomial(below, x);
}

/*
 * libm's last bit differs from machine to machine, this one's not. x = m 2^e with m in [1/sqrt(2), sqrt(2)), ln m = 2 artanh t,
 * and t * t < 0.0295, so that the term after the last one of the series is below 2^-60 of the sum.
 */
static double natural_log(double x)
{
    int e;
    double m = frexp(x, &e), t, sum = 0;

    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        e--;
    }
    t = (m - 1) / (m + 1);
    for (int k = 25; k > 0; k -= 2)
        sum = sum * (t * t) + 1.0 / k;
    return e * 0x1.62e42fefa39efp-1 + 2 * t * sum;
}

static double quantile(double u)
{
    const double q = u - 0.5;
    double r, x;

    if (q >= -0.425 && q <= 0.425)
        return q * quotient(middle, middle_below, 0.180625 - q * q);
    r = sqrt(-natural_log(q < 0 ? u : 1 - u));
    x = r <= 5 ? quotient(near, near_below, r - 1.6) : quotient(far, far_below, r - 5);
    return q < 0 ? -x : x;
}

void lk_random_normal(uint64_t key, uint64_t at, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = quantile(unit(key, at + i));
}
