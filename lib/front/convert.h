/* SPDX-License-Identifier: MIT */
/* What packing changes in an adapter: name, metadata, dtypes, the identity of its base. */
#ifndef LF_FRONT_CONVERT_H
#define LF_FRONT_CONVERT_H

#include "format/base/arena.h"
#include "format/base/tensor_map.h"
#include "lorafmt/files.h"

/* What adapters of one file share: options, the arena of all copies, and which tensors were converted or checked. */
typedef struct lf_converter {
    const lorafmt_pack_options *options;
    lf_arena *arena;
    lf_tensor_map converted, row_indexes; /* their arena is set, all else zero */
} lf_converter;

/* A copy of an adapter with the options applied, in the arena; data that stays as it is stays borrowed. Checked. */
lorafmt_status lf_adapter_convert(lf_converter *converter, const lorafmt_adapter *in, lorafmt_adapter *out, lorafmt_error *err);

/* In pack.c: what packing and appending do alike. The options hold; all adapters with them applied, of names that differ. */
lorafmt_status lf_pack_options_check(const lorafmt_pack_options *options, size_t n_adapters, lorafmt_error *err);
lorafmt_status lf_adapters_convert(const lorafmt_adapter *const *adapters, size_t n, const lorafmt_pack_options *options,
                                   lf_arena *arena, const lorafmt_adapter ***out, lorafmt_error *err);

#endif
