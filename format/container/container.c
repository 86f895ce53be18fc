/* SPDX-License-Identifier: MIT */
/* Opening: header page, root slots, index header and section table, in the order of the spec. */
#include "format/base/arith.h"
#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/container/internal.h"
#include "lorafmt/version.h"

#include <stdlib.h>

static lorafmt_status open_index(lf_container *c, unsigned flags, lorafmt_error *err)
{
    LF_TRY(lf_header_page_decode(c->bytes, c->size, err));
    LF_TRY(lf_root_choose(c, err));
    c->index = c->bytes + c->root.index_offset;
    if (!(flags & LF_CONTAINER_DEFER_DIGEST))
        LF_TRY(lf_container_check_digest(c, err));
    return lf_index_decode(c, err);
}

lorafmt_status lf_container_open(const uint8_t *bytes, uint64_t size, unsigned flags, lf_container **out, lorafmt_error *err)
{
    lf_container c = {.bytes = bytes, .size = size};

    *out = NULL;
    LF_TRY(open_index(&c, flags, err));
    *out = malloc(sizeof **out);
    if (!*out)
        return lf_no_memory(err);
    **out = c;
    return LORAFMT_OK;
}

void lf_container_free(lf_container *c)
{
    free(c);
}

void lf_container_info(const lf_container *c, lorafmt_container_info *out)
{
    *out = (lorafmt_container_info){
        .version_major = LORAFMT_FORMAT_MAJOR,
        .version_minor = lf_load_u16le(c->bytes + LF_HEADER_VERSION_MINOR),
        .generation = c->root.generation,
        .file_end = c->root.file_end,
        .index_size = c->root.index_size,
        .align = UINT32_C(1) << c->align_log2,
        .n_tensors = c->sections[LF_TENSORS].n_records,
        .n_signatures = c->sections[LF_SIGNATURES].n_records,
        .n_ignored_sections = c->n_ignored,
        .recovered = c->recovered,
    };
    for (size_t i = 0; i < out->n_tensors; i++) {
        lf_tensor_record t;
        if (lf_container_tensor(c, i, &t, NULL) == LORAFMT_OK)
            out->saved += lf_round_up(t.tensor.size, out->align) - lf_round_up(t.stored_size, out->align);
    }
    memcpy(out->index_sha256, c->root.index_sha256, sizeof out->index_sha256);
}

bool lf_container_is_recovered(const lf_container *c)
{
    return c->recovered;
}

uint64_t lf_container_index_size(const lf_container *c)
{
    return c->root.index_size;
}

size_t lf_container_n_adapters(const lf_container *c)
{
    return c->sections[LF_ADAPTERS].n_records;
}

size_t lf_container_n_tensors(const lf_container *c)
{
    return c->sections[LF_TENSORS].n_records;
}
