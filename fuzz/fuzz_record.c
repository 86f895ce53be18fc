/* SPDX-License-Identifier: MIT */
/*
 * The record of a build, twice: the input as it is, and with its digest behind it, so that it counts. What is read has the numbers and
 * names of its lines.
 */
#include "format/base/digest.h"
#include "format/base/text.h"
#include "fuzz/temporary_file.h"
#include "lib/scenario/build.h"
#include "lib/scenario/record.h"

#include <string.h>

/* Read, and false when it is none. */
static bool read_record(const uint8_t *data, size_t size, lorakit_build *build, lk_record *out)
{
    const temporary_file file = temporary_file_make(data, size);

    require(lk_build_record_read(build, file.path, out, NULL) == LORAFMT_OK);
    close(file.fd);
    return out->inputs != NULL;
}

static void check_record(const lk_record *record)
{
    const size_t n = strlen(record->inputs);

    require(n >= 1 && record->inputs[n - 1] == '\n' && !strstr(record->inputs, "\n\n"));
    for (size_t i = 0; i < record->n_files; i++)
        require(!strchr(record->files[i].name, '\n'));
    require((lk_record_first_changed(record, "/nonexistent") == NULL) == (record->n_files == 0));
}

static uint8_t *with_digest(const uint8_t *data, size_t size)
{
    uint8_t *whole = malloc(size + LF_HEX_SIZE), digest[LF_SHA256_SIZE];
    char hex[LF_HEX_SIZE];

    require(whole != NULL);
    memcpy(whole, data, size);
    lf_sha256_of(data, size, digest);
    memcpy(whole + size, lf_hex(digest, hex), LF_HEX_SIZE - 1);
    whole[size + LF_HEX_SIZE - 1] = '\n';
    return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *whole = with_digest(data, size);
    lorakit_build build = {.name = "x"};
    lk_record record;

    if (read_record(data, size, &build, &record))
        check_record(&record);
    if (read_record(whole, size + LF_HEX_SIZE, &build, &record))
        check_record(&record);
    lf_arena_free(&build.arena);
    free(whole);
    return 0;
}
