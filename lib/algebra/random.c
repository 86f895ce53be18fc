/* SPDX-License-Identifier: MIT */
#include "lib/algebra/random.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

lk_random lk_random_of(uint64_t seed, const char *text, uint64_t number)
{
    uint64_t state = mix(seed + GOLDEN);

    for (; *text; text++)
        state = mix(state ^ (uint8_t)*text) + GOLDEN;
    return (lk_random){mix(state ^ mix(number + GOLDEN))};
}

uint64_t lk_random_u64(lk_random *random)
{
    random->state += GOLDEN;
    return mix(random->state);
}

double lk_random_unit(lk_random *random)
{
    return (double)(lk_random_u64(random) >> 11) * 0x1p-53;
}
