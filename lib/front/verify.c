/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"
#include "lib/front/source.h"

#include <string.h>

static void count_adapter(const lorafmt_adapter *adapter, lorafmt_verify_result *out)
{
    out->n_adapters++;
    out->n_sites += adapter->n_sites;
    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t f = 0; f < adapter->sites[i].n_factors; f++) {
            out->n_tensors++;
            out->n_bytes += adapter->sites[i].factors[f].tensor.size;
            out->n_nonfinite += lf_count_nonfinite(&adapter->sites[i].factors[f].tensor);
        }
}

lorafmt_status lorafmt_verify(const lorafmt_source *source, lorafmt_verify_result *out, lorafmt_error *err)
{
    memset(out, 0, sizeof *out);
    if (source->container)
        return lf_container_check(source->container, out, err);
    for (size_t i = 0; i < source->n_adapters; i++)
        count_adapter(&source->adapters[i], out);
    return LORAFMT_OK;
}
