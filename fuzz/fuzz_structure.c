/* SPDX-License-Identifier: MIT */
/*
 * A .lora file whose checksums, digests and ids are made right, so that every change of its records, its data, its history and its
 * signatures is read. container_mutate.c makes such changes. Each file is used as it is by a reader of one file, by one of the
 * library's handles, and looked up.
 *
 * The seeds are spec/vectors.
 */
#include "fuzz/container_use.h"
#include "fuzz/fuzz.h"
#include "lorafmt/adapter.h"

#include <string.h>

/* The same verdict as the container's own, unless the adapters break a rule about what they mean. */
static void use_source(const uint8_t *data, size_t size)
{
    const lorafmt_memory memory = {.bytes = data, .size = size};
    const lorafmt_source_options options = {.struct_size = sizeof options, .n_threads = 1};
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_error err;

    if (lorafmt_source_open_memory(&memory, &options, &source, &err) == LORAFMT_OK) {
        lorafmt_container_info info;
        require(lorafmt_source_container(source, &info));
        if (lorafmt_verify(source, &result, &err) == LORAFMT_OK)
            require(result.n_adapters == lorafmt_source_n_adapters(source) && !info.recovered);
        else
            require(err.text[0] && err.status == (info.recovered ? LORAFMT_CORRUPT : err.status));
    } else {
        require(err.text[0]);
    }
    lorafmt_source_free(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file;

    if (size < LF_SEGMENTS_OFFSET)
        return 0;
    file = malloc(size);
    require(file != NULL);
    memcpy(file, data, size);
    repair_file(file, size);
    use_file(file, size);
    use_source(file, size);
    free(file);
    return 0;
}
