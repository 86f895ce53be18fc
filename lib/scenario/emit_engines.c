/* SPDX-License-Identifier: MIT */
/* What each engine takes. Where this is from is in docs/serving.md. */
#include "lib/scenario/emit.h"

#include "format/base/text.h"

#include <stdio.h>
#include <string.h>

static const lk_engine engines[] = {
    [LORAKIT_PEFT] = {.name = "peft", .start = "AutoModelForCausalLM.from_pretrained"},
    [LORAKIT_VLLM] = {.name = "vllm", .start = "vllm serve", .most_rank = 512, .plain_only = true},
    [LORAKIT_SGLANG] = {.name = "sglang",
                        .start = "python3 -m sglang.launch_server --model-path",
                        .plain_only = true,
                        .fills_partners = true},
    [LORAKIT_LORAX] = {.name = "lorax", .start = "lorax-launcher --model-id", .plain_only = true, .fills_layers = true},
};

#define N_ENGINES (sizeof engines / sizeof *engines)

const lk_engine *lk_engine_get(lorakit_engine engine)
{
    return (size_t)engine < N_ENGINES && engines[engine].name ? &engines[engine] : NULL;
}

const char *lorakit_engine_name(unsigned engine)
{
    return engine < N_ENGINES ? engines[engine].name : NULL;
}

const char *lorakit_engine_start(lorakit_engine engine)
{
    return lk_engine_get(engine) ? engines[engine].start : NULL;
}

/* What a site is that is no update of a linear layer, in words. */
static const char *other_kind(const lorafmt_site *site)
{
    switch (site->kind) {
    case LORAFMT_KIND_LINEAR:
        return NULL;
    case LORAFMT_KIND_REPLACEMENT:
        return lf_ends_with(site->target, ".bias") ? "a trained bias" : "a replaced tensor";
    case LORAFMT_KIND_SAVED:
        return "a saved module";
    case LORAFMT_KIND_ROWS:
        return "trained tokens";
    case LORAFMT_KIND_ADDITIVE:
        return "a bias of the update";
    case LORAFMT_KIND_EMBEDDING:
        return "an embedding";
    case LORAFMT_KIND_EXPERTS:
        return "experts";
    default:
        return "a convolution";
    }
}

static const char *oddity(const lorafmt_bound_site *bound)
{
    const lorafmt_site *site = bound->site;
    const char *other = other_kind(site);

    if (other)
        return other;
    if (lorafmt_site_factor(site, LORAFMT_ROLE_MAGNITUDE))
        return "DoRA";
    if (site->flags & LORAFMT_SITE_DOUBLED)
        return "an attention's output projection that PEFT adds twice";
    if (site->flags & (LORAFMT_SITE_ROW_RANGE | LORAFMT_SITE_COL_RANGE))
        return "a part of a tensor";
    if (bound->match == LORAFMT_MATCH_TIED)
        return "a head that is tied to the embedding, which the engine would not change with it";
    return lf_ends_with(site->target, ".weight") ? NULL : "a tensor that is no layer's weight";
}

bool lk_engine_refuses(const lk_engine *engine, const lorafmt_bound_site *bound, char *why, size_t size)
{
    const char *what = engine->plain_only ? oddity(bound) : NULL;

    if (what)
        snprintf(why, size, "%s: %s; %s takes low-rank updates of linear layers", bound->site->target, what, engine->name);
    return what != NULL;
}
