/* SPDX-License-Identifier: MIT */
/* lorafmt/index.h: records of a container as they are asked for, each with the rules of what it means. */
#include "lorafmt/index.h"

#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/container/format.h"
#include "lib/adapter/adapter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(LORAFMT_MAX_FACTORS == LF_MAX_FACTORS, "the limit of spec 4.4");

struct lorafmt_index {
    lf_container *container;
};

lorafmt_status lorafmt_index_open(const void *bytes, uint64_t size, const lorafmt_index_options *options, lorafmt_index **out,
                                  lorafmt_error *err)
{
    lorafmt_index *index;
    lorafmt_status st;

    *out = NULL;
    if (options)
        LF_TRY(lf_check_struct_size(options->struct_size, sizeof *options, err));
    index = calloc(1, sizeof *index);
    if (!index)
        return lf_no_memory(err);
    st = lf_container_open(bytes, size, options && options->defer_digest ? LF_CONTAINER_DEFER_DIGEST : 0, &index->container, err);
    if (st) {
        lorafmt_index_free(index);
        return st;
    }
    *out = index;
    return LORAFMT_OK;
}

void lorafmt_index_free(lorafmt_index *index)
{
    if (!index)
        return;
    lf_container_free(index->container);
    free(index);
}

lorafmt_status lorafmt_index_check_digest(const lorafmt_index *index, lorafmt_error *err)
{
    return lf_container_check_digest(index->container, err);
}

void lorafmt_index_info(const lorafmt_index *index, lorafmt_container_info *out)
{
    lf_container_info(index->container, out);
}

size_t lorafmt_index_n_adapters(const lorafmt_index *index)
{
    return lf_container_n_adapters(index->container);
}

lorafmt_status lorafmt_index_adapter(const lorafmt_index *index, size_t i, lorafmt_adapter *out, size_t *first_site,
                                     size_t *n_sites, lorafmt_error *err)
{
    uint32_t first = 0, unused;
    const lorafmt_status st = lf_container_adapter(index->container, i, out, &first, &unused, err);

    if (st)
        memset(out, 0, sizeof *out);
    *first_site = out->n_sites ? first : 0;
    *n_sites = out->n_sites;
    out->n_sites = out->n_metadata = 0;
    return st;
}

static lorafmt_status read_site(const lf_container *c, size_t i, lorafmt_site *out, lorafmt_factor *factors, lorafmt_error *err)
{
    uint32_t first_factor, tensor;

    LF_TRY(lf_container_site(c, i, out, &first_factor, err));
    for (uint32_t k = 0; k < out->n_factors; k++)
        LF_TRY(lf_container_factor(c, (size_t)first_factor + k, &factors[k], &tensor, err));
    out->factors = factors;
    return LORAFMT_OK;
}

lorafmt_status lorafmt_index_site(const lorafmt_index *index, size_t i, lorafmt_site *out,
                                  lorafmt_factor factors[LORAFMT_MAX_FACTORS], lorafmt_error *err)
{
    lf_adapter_place place;
    lorafmt_status st;

    st = read_site(index->container, i, out, factors, err);
    if (!st) {
        st = lf_site_check_records(out, &place, err);
        if (st && err)
            err->offset = lf_site_place_offset(index->container, i, &place);
    }
    if (st)
        memset(out, 0, sizeof *out);
    return st;
}

lorafmt_status lorafmt_index_find(const lorafmt_index *index, size_t adapter, const char *target, size_t *site,
                                  lorafmt_error *err)
{
    return lf_container_find_site(index->container, adapter, target, site, err);
}

lorafmt_status lorafmt_index_load(const lorafmt_index *index, size_t site, uint32_t factor, void *dst, lorafmt_error *err)
{
    const lf_container *c = index->container;
    uint32_t first_factor, tensor;
    lorafmt_factor f;
    lorafmt_site s;

    LF_TRY(lf_container_site(c, site, &s, &first_factor, err));
    if (factor >= s.n_factors)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "factor", "%" PRIu32 ", the site has %" PRIu32, factor,
                       s.n_factors);
    LF_TRY(lf_container_factor(c, (size_t)first_factor + factor, &f, &tensor, err));
    if (!dst && !f.tensor.data)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "dst", "NULL, but the tensor is compressed");
    if (dst)
        LF_TRY(lf_container_decode_tensor(c, tensor, dst, err));
    return lf_container_check_tensor(c, tensor, dst ? dst : f.tensor.data, err);
}
