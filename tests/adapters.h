/* SPDX-License-Identifier: MIT */
/* Small adapters in memory for tests. */
#ifndef TESTS_ADAPTERS_H
#define TESTS_ADAPTERS_H

#include "format/base/dtype.h"
#include "lorafmt/adapter.h"

#include <string.h>

static inline lorafmt_tensor test_tensor(lorafmt_dtype dtype, uint64_t rows, uint64_t cols, const void *data)
{
    lorafmt_tensor t = {.dtype = dtype, .n_dims = cols ? 2 : 1, .shape = {rows, cols}, .data = data};
    lf_tensor_measure(t.dtype, t.n_dims, t.shape, &t.size);
    return t;
}

/* A low-rank site with A [rank x in] and B [out x rank] in F32; f has room for two. Scale 1. */
static inline lorafmt_site test_low_rank(const char *target, unsigned kind, uint32_t rank, uint64_t in, uint64_t out,
                                         const float *a, const float *b, lorafmt_factor f[2])
{
    f[0] = (lorafmt_factor){LORAFMT_ROLE_A, test_tensor(LORAFMT_F32, rank, in, a)};
    f[1] = (lorafmt_factor){LORAFMT_ROLE_B, test_tensor(LORAFMT_F32, out, rank, b)};
    return (lorafmt_site){.target = target,
                          .kind = (uint16_t)kind,
                          .scaling = LORAFMT_SCALING_ALPHA_R,
                          .rank = rank,
                          .alpha = rank,
                          .scale = 1.0,
                          .n_factors = 2,
                          .factors = f};
}

/* A whole tensor; f has room for one. */
static inline lorafmt_site test_whole(const char *target, unsigned kind, lorafmt_tensor value, lorafmt_factor f[1])
{
    f[0] = (lorafmt_factor){LORAFMT_ROLE_VALUE, value};
    return (lorafmt_site){.target = target, .kind = (uint16_t)kind, .scale = 1.0, .n_factors = 1, .factors = f};
}

static inline lorafmt_adapter test_adapter(const char *name, const lorafmt_site *sites, size_t n)
{
    return (lorafmt_adapter){.name = name, .base_name = "", .base_revision = "", .n_sites = n, .sites = sites};
}

#endif
