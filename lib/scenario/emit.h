/* SPDX-License-Identifier: MIT */
/*
 * Emitting, between its files: emit_engines.c knows what each engine takes, emit_adapter.c makes a scenario the one adapter that it
 * is for an engine, emit_fill.c adds the updates of nothing that some need, emit_files.c writes what starts it, emit.c is the whole.
 */
#ifndef LK_EMIT_H
#define LK_EMIT_H

#include "format/base/arena.h"
#include "lib/io/io.h"
#include "lorakit/emit.h"

typedef struct lk_engine {
    const char *name;
    const char *start;   /* with a whole model */
    uint32_t most_rank;  /* 0 = no limit */
    bool plain_only;     /* linear layers and nothing else, with one rank and scale */
    bool fills_layers;   /* leaves out a kind of layer unless every one of them is adapted */
    bool fills_partners; /* reads fused layers only when the first part of them is adapted */
} lk_engine;

const lk_engine *lk_engine_get(lorakit_engine engine);

/* Why an engine does not take a site, as a text of at most size bytes; false when it takes it. */
bool lk_engine_refuses(const lk_engine *engine, const lorafmt_bound_site *bound, char *why, size_t size);

/* A scenario as one adapter; all but `adapter` belongs to the arena and to `made`. */
typedef struct lk_emission {
    lf_arena arena;
    lorafmt_adapter adapter;
    lorakit_adapter *sum, *uniform;
} lk_emission;

/* Sets out->form and what belongs to it; where that is NONE, or BASE, there is no adapter. To be cleared in any case. */
lorafmt_status lk_emission_make(lorakit_scenarios *set, size_t scenario, const lk_engine *engine,
                                const lorakit_emit_options *options, lk_emission *e, lorakit_emitted *out, lorafmt_error *err);
void lk_emission_clear(lk_emission *e);

/* The scenario is not expressed, for what an error says. */
void lk_emit_refuse(lorakit_emitted *out, const lorafmt_error *why);

/*
 * Add sites of zeros for the tensors of the view that the engine needs adapted besides those that are. sites [*n] becomes another
 * array of the arena.
 */
typedef struct lk_named_site {
    lorafmt_site site;
    const char *base_name; /* of the tensor that it changes */
} lk_named_site;

lorafmt_status lk_emit_fill(const lk_engine *engine, const lorafmt_base *base, lf_arena *arena, lk_named_site **sites, size_t *n,
                            lorafmt_error *err);

/* adapters.json, and serve.sh or load.py. */
lorafmt_status lk_emit_files(lorakit_scenarios *set, const lk_engine *engine, const lorakit_emitted *emitted, size_t n,
                             const char *const *modules, lf_output *output, lorafmt_error *err);

#endif
