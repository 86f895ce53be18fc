/* SPDX-License-Identifier: MIT */
/* What targets do with the bytes of a container: use all of it, and make its checksums those of what is there. */
#ifndef FUZZ_CONTAINER_USE_H
#define FUZZ_CONTAINER_USE_H

#include "format/container/internal.h"

#include <stdbool.h>

/* All of an adapter, decoded, in the arena; false when a record is refused. */
bool read_adapter(const lf_container *c, size_t i, lorafmt_adapter *out, lf_arena *arena);

/* All tables, and, when the file is good, both codecs: what is written again has the same ids. */
void use_container(const lf_container *c);

/* The file as a loader looks it up, and as a whole. */
void use_file(const uint8_t *data, size_t size);

/* Repairs, of a file that has at least its header pages: checksums of header page and slots; */
void repair_checksums(uint8_t *file);

/* digests of tensors and ids of adapters; */
void repair_digests(const lf_container *c, uint8_t *file);

/* these, and the digests of indexes, the history's too. */
void repair_file(uint8_t *file, size_t size);

#endif
