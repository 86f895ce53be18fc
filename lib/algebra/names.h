/* SPDX-License-Identifier: MIT */
/* What names of tensors say: which layer it is, and whether a pattern of the user's takes it. */
#ifndef LK_NAMES_H
#define LK_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* A table of vectors that are looked up: tokens, positions, token types. */
bool lk_is_embedding(const char *name);

/* The output layer, which models with GPT-2's transposed layers too store as out x in. */
bool lk_is_head(const char *name);

/*
 * Does a pattern (of lf_glob_matches()) take a tensor? It is held against the whole name and what follows each
 * dot in it, with and without the last component (".weight"). "all-linear" takes every .weight but those of embeddings and the
 * head.
 */
bool lk_target_takes(const char *pattern, const char *name);

#endif
