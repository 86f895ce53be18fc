/* SPDX-License-Identifier: MIT */
#include "fuzz/fitting_base.h"

#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/adapter/adapter.h"

#include <string.h>

static void low_rank_shape(const lorafmt_site *site, lorafmt_base_tensor *out)
{
    const lorafmt_tensor *a = &lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor;
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    const bool turned = site->kind == LORAFMT_KIND_EMBEDDING || site->orientation == LORAFMT_IN_OUT;
    const uint64_t n_experts = site->kind == LORAFMT_KIND_EXPERTS ? a->shape[0] / site->rank : 1;

    if (site->kind == LORAFMT_KIND_EXPERTS)
        out->shape[out->n_dims++] = n_experts;
    out->shape[out->n_dims++] = turned ? a->shape[1] : b->shape[0] / n_experts;
    out->shape[out->n_dims++] = turned ? b->shape[0] / n_experts : a->shape[1];
    for (uint32_t d = 2; d < a->n_dims; d++)
        out->shape[out->n_dims++] = a->shape[d];
}

static void whole_shape(const lorafmt_site *site, lorafmt_base_tensor *out)
{
    const lorafmt_tensor *value = &lorafmt_site_factor(site, LORAFMT_ROLE_VALUE)->tensor;
    const lorafmt_factor *rows = lorafmt_site_factor(site, LORAFMT_ROLE_ROW_INDEX);

    out->n_dims = value->n_dims;
    memcpy(out->shape, value->shape, sizeof out->shape);
    if (rows && rows->tensor.data && rows->tensor.size >= 8)
        out->shape[0] = lf_load_u64le((const uint8_t *)rows->tensor.data + rows->tensor.size - 8) + 1;
}

/* false for a site of a newer format. */
static bool shape_of(const lorafmt_site *site, lorafmt_base_tensor *out)
{
    if (lf_site_is_newer(site))
        return false;
    if (lf_kind_is_low_rank(site->kind))
        low_rank_shape(site, out);
    else
        whole_shape(site, out);
    return true;
}

static bool is_there(const fitting_base *b, const char *name)
{
    for (size_t i = 0; i < b->base.n_tensors; i++)
        if (strcmp(b->tensors[i].name, name) == 0)
            return true;
    return false;
}

static void add_site(fitting_base *b, const lorafmt_site *site, script *s)
{
    static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16, LORAFMT_F64, LORAFMT_I8};
    lorafmt_base_tensor t = {.name = site->target};
    const uint8_t how = next_byte(s);
    uint8_t *data;

    t.dtype = dtypes[how % 5];
    if (how == 255 || is_there(b, t.name) || !shape_of(site, &t))
        return;
    if (how >= 250 && t.n_dims)
        t.shape[next_below(s, t.n_dims)]++;
    if (!lf_tensor_measure(t.dtype, t.n_dims, t.shape, &t.size) || t.size > MAX_BASE_TENSOR_SIZE)
        return;
    data = malloc((size_t)t.size);
    require(data != NULL || t.size == 0);
    for (size_t i = 0; i < t.size; i++)
        data[i] = (uint8_t)(how + i * 37 % 251);
    b->data[b->base.n_tensors] = data;
    b->tensors[b->base.n_tensors++] = t;
}

void fitting_base_add(fitting_base *b, const lorafmt_adapter *adapter, script *s)
{
    for (size_t i = 0; i < adapter->n_sites && b->base.n_tensors < MAX_BASE_TENSORS; i++)
        add_site(b, &adapter->sites[i], s);
}

static lorafmt_status read_tensor(void *ctx, size_t tensor, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const fitting_base *b = ctx;

    if (b->fails)
        return lf_fail(err, LORAFMT_IO, LORAFMT_NO_OFFSET, NULL, "the script says so");
    require(tensor < b->base.n_tensors && offset <= b->tensors[tensor].size && size <= b->tensors[tensor].size - offset);
    memcpy(dst, b->data[tensor] + offset, size);
    return LORAFMT_OK;
}

void fitting_base_finish(fitting_base *b, script *s)
{
    const uint8_t how = next_byte(s);

    b->base.struct_size = sizeof b->base;
    b->base.tensors = b->tensors;
    b->base.read = how == 255 ? NULL : read_tensor;
    b->base.ctx = b;
    b->base.tied = (lorafmt_tied)(how % 3);
    b->base.vocab_size = how & 64 && b->base.n_tensors ? b->tensors[0].shape[0] : 0;
    b->base.quantization = how == 254 ? "nf4" : NULL;
}

void fitting_base_free(fitting_base *b)
{
    for (size_t i = 0; i < b->base.n_tensors; i++)
        free(b->data[i]);
}
