/* SPDX-License-Identifier: MIT */
/* What packing changes in an adapter: name, metadata, dtypes, the identity of its base. */
#ifndef LF_FRONT_CONVERT_H
#define LF_FRONT_CONVERT_H

#include "format/base/arena.h"
#include "lorafmt/files.h"

/* A copy of an adapter with the options applied, in the arena; data that stays as it is stays borrowed. Checked. */
lorafmt_status lf_adapter_convert(const lorafmt_adapter *in, const lorafmt_pack_options *options, lf_arena *arena,
                                  lorafmt_adapter *out, lorafmt_error *err);

#endif
