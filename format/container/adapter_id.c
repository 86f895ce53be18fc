/* SPDX-License-Identifier: MIT */
/* spec 6.1: the adapter id, fed piece by piece so that a file can be checked without its adapter being built */
#include "format/base/bytes.h"
#include "format/container/internal.h"

void lf_adapter_id_begin(lf_sha256 *h, const lorafmt_adapter *adapter)
{
    static const char domain[] = "lora adapter id v1"; // the NUL is hashed
    static const uint8_t absent[LF_SHA256_SIZE];

    lf_sha256_init(h);
    lf_sha256_update(h, domain, sizeof domain);
    lf_sha256_str(h, adapter->base_name);
    lf_sha256_str(h, adapter->base_revision);
    lf_sha256_u32(h, adapter->has_base_structure ? LF_ADAPTER_FLAG_BASE_STRUCTURE : 0);
    lf_sha256_update(h, adapter->has_base_structure ? adapter->base_structure : absent, LF_SHA256_SIZE);
    lf_sha256_u32(h, (uint32_t)adapter->n_sites);
}

void lf_adapter_id_site(lf_sha256 *h, const lorafmt_site *site)
{
    lf_sha256_str(h, site->target);
    lf_sha256_u16(h, site->kind);
    lf_sha256_u8(h, site->orientation);
    lf_sha256_u8(h, site->scaling);
    lf_sha256_u32(h, site->rank);
    lf_sha256_u32(h, site->flags);
    lf_sha256_f64(h, site->alpha);
    lf_sha256_f64(h, site->scale);
    lf_sha256_u64(h, site->row_begin);
    lf_sha256_u64(h, site->row_end);
    lf_sha256_u64(h, site->col_begin);
    lf_sha256_u64(h, site->col_end);
    lf_sha256_update(h, site->base_sha256, LF_SHA256_SIZE);
    lf_sha256_u32(h, site->n_factors);
}

void lf_adapter_id_factor(lf_sha256 *h, uint16_t role, const lorafmt_tensor *tensor, const uint8_t sha256[LF_SHA256_SIZE])
{
    lf_sha256_u16(h, role);
    lf_sha256_u8(h, (uint8_t)tensor->dtype);
    lf_sha256_u8(h, (uint8_t)tensor->n_dims);
    for (uint32_t d = 0; d < tensor->n_dims; d++)
        lf_sha256_u64(h, tensor->shape[d]);
    lf_sha256_update(h, sha256, LF_SHA256_SIZE);
}

void lf_adapter_id_metadata(lf_sha256 *h, const lorafmt_metadata *metadata)
{
    lf_sha256_str(h, metadata->key);
    lf_sha256_str(h, metadata->value);
}

static void hash_sites(lf_sha256 *h, const lorafmt_adapter *adapter, const uint8_t (*sha256s)[LF_SHA256_SIZE])
{
    size_t n = 0;

    for (size_t i = 0; i < adapter->n_sites; i++) {
        const lorafmt_site *site = &adapter->sites[i];
        lf_adapter_id_site(h, site);
        for (uint32_t k = 0; k < site->n_factors; k++) {
            const lorafmt_tensor *tensor = &site->factors[k].tensor;
            uint8_t sha256[LF_SHA256_SIZE];
            if (sha256s)
                memcpy(sha256, sha256s[n++], sizeof sha256);
            else
                lf_sha256_of(tensor->data, (size_t)tensor->size, sha256);
            lf_adapter_id_factor(h, site->factors[k].role, tensor, sha256);
        }
    }
}

void lf_adapter_id(const lorafmt_adapter *adapter, const uint8_t (*sha256s)[LF_SHA256_SIZE], uint8_t out[LF_SHA256_SIZE])
{
    uint32_t n_semantic = 0;
    lf_sha256 h;

    lf_adapter_id_begin(&h, adapter);
    hash_sites(&h, adapter, sha256s);
    for (size_t i = 0; i < adapter->n_metadata; i++)
        n_semantic += adapter->metadata[i].flags & LORAFMT_METADATA_SEMANTIC ? 1 : 0;
    lf_sha256_u32(&h, n_semantic);
    for (size_t i = 0; i < adapter->n_metadata; i++)
        if (adapter->metadata[i].flags & LORAFMT_METADATA_SEMANTIC)
            lf_adapter_id_metadata(&h, &adapter->metadata[i]);
    lf_sha256_final(&h, out);
}
