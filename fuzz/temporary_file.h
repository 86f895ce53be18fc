/* SPDX-License-Identifier: MIT */
/* An input as a file that has a path, for what reads no memory. */
#ifndef FUZZ_TEMPORARY_FILE_H
#define FUZZ_TEMPORARY_FILE_H

#include "fuzz/fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct temporary_file {
    int fd;
    char path[64];
} temporary_file;

static inline temporary_file temporary_file_make(const uint8_t *data, size_t size)
{
    temporary_file file = {.fd = memfd_create("input", MFD_CLOEXEC)};

    require(file.fd >= 0 && write(file.fd, data, size) == (ssize_t)size);
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.fd);
    return file;
}

#endif
