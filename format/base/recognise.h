/* SPDX-License-Identifier: MIT */
/* What a file is that was taken for another. */
#ifndef LF_BASE_RECOGNISE_H
#define LF_BASE_RECOGNISE_H

#include <stddef.h>
#include <stdint.h>

typedef enum lf_file_kind {
    LF_FILE_LORA,
    LF_FILE_SAFETENSORS,
    LF_FILE_JSON,
} lf_file_kind;

/*
 * Words for what the first bytes of a file look like ("a web page", "a Git-LFS pointer: fetch the file itself with `git lfs pull`"), or
 * NULL: it may be of the kind that is expected, or nothing is known that begins so. head may be as short as the file.
 */
const char *lf_recognise(const uint8_t *head, size_t size, lf_file_kind expected);

#endif
