/* SPDX-License-Identifier: MIT */
/*
 * What the files of the encoder share: a generation of a file before a byte of it is written.
 *
 *   encode.c          the index, and everything in file order   encode_tensors.c  what is stored, once each
 *   encode_behind.c   what a generation says of those before it
 */
#ifndef LF_CONTAINER_ENCODE_H
#define LF_CONTAINER_ENCODE_H

#include "format/container/internal.h"

/* A tensor of the generation. */
typedef struct lf_stored {
    lf_tensor_record record;
    lf_split split;         /* with codec split, unless kept */
    const uint8_t *kept_at; /* where its stored bytes are, of a tensor that another generation or file has; else NULL */
    size_t kept;            /* with kept_at: which of its tensors */
} lf_stored;

typedef struct lf_plan {
    const lorafmt_adapter *const *adapters;
    const lf_digest *const *digests; /* per adapter, those of its factors, or NULL where data is to be hashed; or NULL */
    size_t n_adapters;
    uint32_t align_log2;
    lorafmt_codec codec;
    const lf_container *file; /* that the generation is appended to; NULL for a new file */
    const lf_container *kept; /* whose tensors are not encoded again; or NULL */

    lf_splitter *splitter; /* with codec split */
    lf_arena arena;
    uint64_t n_records[LF_N_SECTIONS];
    uint64_t sections[LF_N_SECTIONS]; /* offsets in the index */
    lf_digest *sha256s;               /* one per factor, in table order */
    uint32_t *tensor_of;              /* the same: which stored tensor */
    lf_stored *tensors;               /* n_records[LF_TENSORS] of them, in order of first use */
    lf_digest *ids;                   /* one per adapter */
    lf_segment *segments;             /* n_records[LF_SEGMENTS] of them */
    lf_name_pool names;
    uint64_t begin; /* of what is written; before it are header pages or earlier generations */
    uint8_t *index;
    lf_root root;
} lf_plan;

/* Fills sha256s, tensor_of and tensors but for the offsets of those that are new. */
lorafmt_status lf_plan_tensors(lf_plan *plan, lorafmt_error *err);

/* Does the tensor stay where it is in the file that is appended to? */
static inline bool lf_plan_stays(const lf_plan *plan, const lf_stored *tensor)
{
    return plan->file && tensor->kept_at;
}

/* Segments and the number of entries of the history; the root's index_offset is known. */
lorafmt_status lf_plan_behind(lf_plan *plan, lorafmt_error *err);
void lf_history_encode(const lf_container *file, uint8_t *p);

#endif
