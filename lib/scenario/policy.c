/* SPDX-License-Identifier: MIT */
/* spec/manifest.md 3.6: whose adapters scenarios are made of. */
#include "format/base/error.h"
#include "lib/scenario/set.h"

lorafmt_status lk_policy_open(lorakit_scenarios *set, lorafmt_error *err)
{
    const lorakit_manifest *m = set->manifest;

    if (!(set->keys = lf_arena_alloc(&set->arena, m->n_keys, sizeof *set->keys)))
        return lf_no_memory(err);
    for (size_t i = 0; i < m->n_keys; i++) {
        LF_TRY(lorakit_manifest_check_path(m, m->keys[i], err));
        LF_TRY(lorafmt_public_key_load(m->keys[i], &set->keys[i], err));
    }
    return LORAFMT_OK;
}

lorafmt_status lk_policy_of(const lorakit_scenarios *set, size_t i, uint8_t signature[LORAFMT_SIGNATURE_SIZE],
                            lorafmt_policy *out, lorafmt_error *err)
{
    const char *path = set->manifest->adapters[i].signature;

    *out = (lorafmt_policy){.struct_size = sizeof *out, .n_keys = set->manifest->n_keys, .keys = set->keys};
    if (!path)
        return LORAFMT_OK;
    LF_TRY(lorakit_manifest_check_path(set->manifest, path, err));
    LF_TRY(lorafmt_signature_load(path, signature, err));
    out->signature = signature;
    return LORAFMT_OK;
}
