/* SPDX-License-Identifier: MIT */
/* Text for others' programs: JSON, shell, and the config that engines read. */
#ifndef LK_EMIT_TEXT_H
#define LK_EMIT_TEXT_H

#include "format/base/arena.h"
#include "lorafmt/adapter.h"

#include <stdio.h>

/* A JSON string, which is one of Python too; NULL is null. Write errors stay with the stream. */
void lk_put_json(FILE *to, const char *text);

/* One word of a POSIX shell. */
void lk_put_shell(FILE *to, const char *text);

/* Names of modules without their paths ("q_proj"), each once and ascending, NULL at the end; NULL when out of memory. */
const char **lk_module_names(lf_arena *arena, const lorafmt_adapter *adapter);

/* An adapter_config.json for an adapter of one rank and one scale, as the metadata that unpacking takes it from. */
const lorafmt_metadata *lk_emit_config(lf_arena *arena, const lorafmt_adapter *adapter, uint32_t rank, double alpha);

#endif
