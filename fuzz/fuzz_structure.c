/* SPDX-License-Identifier: MIT */
/*
 * A .lora file whose checksums, digests and ids are made right, so that every change of its records, its data, its history and its
 * signatures is read. container_mutate.c makes such changes. Before that the input is used as it is.
 *
 * The seeds are spec/vectors.
 */
#include "fuzz/container_use.h"
#include "fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file;

    use_file(data, size);
    if (size < LF_SEGMENTS_OFFSET)
        return 0;
    file = malloc(size);
    require(file != NULL);
    memcpy(file, data, size);
    repair_file(file, size);
    use_file(file, size);
    free(file);
    return 0;
}
