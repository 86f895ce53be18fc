/* SPDX-License-Identifier: MIT */
/* The tensors of a container in memory: decoded, and what their digests say they are. */
#ifndef LF_FRONT_LOAD_H
#define LF_FRONT_LOAD_H

#include "format/base/arena.h"
#include "format/container/container.h"

/*
 * Of those tensors that are wanted (NULL = all) the decoded bytes: where they lie in the file when they are raw, else in memory
 * from the arena, altogether at most twice the size of the file. Blocks are decoded, and then tensors hashed, by up to n_threads
 * threads (0 = one per CPU), fewer when there is little to do. With defer the data of raw tensors is not read.
 */
lorafmt_status lf_tensors_load(const lf_container *container, const bool *wanted, bool defer, unsigned n_threads, lf_arena *arena,
                               const void ***out, lorafmt_error *err);

#endif
