/* SPDX-License-Identifier: MIT */
/* The shard index: what is accepted names plain files, is in order, and takes one more tensor. */
#include "fuzz/fuzz.h"

#include "format/foreign/shard_index.h"

#include <stdlib.h>
#include <string.h>

static void check_index(const lf_shard_index *index)
{
    for (size_t i = 0; i < index->n_entries; i++)
        require(i == 0 || strcmp(index->entries[i - 1].tensor, index->entries[i].tensor) < 0);
    for (size_t i = 0; i < index->n_files; i++) {
        require(i == 0 || strcmp(index->files[i - 1], index->files[i]) < 0);
        require(!strchr(index->files[i], '/') && index->files[i][0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const lf_shard_entry added = {"added by the fuzzer", "added.safetensors"};
    lf_shard_index *index, *extended;
    lorafmt_error err;
    size_t out_size;
    char *out;

    if (lf_shard_index_parse((const char *)data, size, &index, &err) != LORAFMT_OK)
        return 0;
    check_index(index);
    if (lf_shard_index_extend((const char *)data, size, &added, 1, 7, &out, &out_size, &err) == LORAFMT_OK) {
        require(lf_shard_index_parse(out, out_size, &extended, &err) == LORAFMT_OK);
        require(extended->n_entries == index->n_entries + 1);
        check_index(extended);
        lf_shard_index_free(extended);
    }
    free(out);
    lf_shard_index_free(index);
    return 0;
}
