/* SPDX-License-Identifier: MIT */
/*
 * A .lora file, whole and looked up by name, three times: the input as it is; with its header and slot checksums repaired; and as an index with tensor data
 * behind a header and a root of our own, with all digests repaired, so that what looks well-formed passes all checks. What passes
 * is encoded again, in both codecs, and must come out with the same ids and digests.
 *
 * The seeds are the smallest file of spec 10 and the sample and the appended file of tests/container_files.h, some as an index,
 * and the index of an adapter in codec split.
 */
#include "format/base/bytes.h"
#include "fuzz/container_use.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>

static void open_repaired(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);

    require(copy != NULL);
    memcpy(copy, data, size);
    repair_checksums(copy);
    use_file(copy, size);
    free(copy);
}

static void encode_front(uint8_t *file, lf_root *root)
{
    lf_sha256_of(file + root->index_offset, (size_t)root->index_size, root->index_sha256);
    lf_header_page_encode(file);
    memset(file + LF_SLOT_OFFSET(0), 0, 2 * LF_PAGE_SIZE);
    lf_root_encode(root, file + LF_SLOT_OFFSET(0));
}

/* The first two bytes say how much of the rest is the index. */
static void open_wrapped(const uint8_t *data, size_t size)
{
    const size_t rest = size - 2, wanted = 8u * (size_t)lf_load_u16le(data),
                 index_size = wanted < rest ? wanted : rest & ~(size_t)7;
    lf_root root = {.generation = 1,
                    .index_offset = LF_SEGMENTS_OFFSET,
                    .index_size = index_size,
                    .file_end = LF_SEGMENTS_OFFSET + rest};
    uint8_t *file = malloc((size_t)root.file_end);
    lf_container *c;

    require(file != NULL);
    memcpy(file + LF_SEGMENTS_OFFSET, data + 2, rest);
    encode_front(file, &root);
    if (lf_container_open(file, root.file_end, 0, &c, NULL) == LORAFMT_OK) {
        use_container(c);
        repair_digests(c, file);
        lf_container_free(c);
        encode_front(file, &root);
        use_file(file, (size_t)root.file_end);
    }
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    use_file(data, size);
    if (size >= LF_SEGMENTS_OFFSET)
        open_repaired(data, size);
    if (size >= 2)
        open_wrapped(data, size);
    return 0;
}
