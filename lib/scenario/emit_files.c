/* SPDX-License-Identifier: MIT */
/* What starts an engine with the adapters, and a list of them. */
#include "lib/scenario/emit.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/scenario/emit_text.h"
#include "lib/scenario/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer {
    const lorakit_manifest *manifest;
    const lk_engine *engine;
    const lorakit_emitted *emitted;
    size_t n;
    const char *const *modules;
    char *base; /* absolute */
    uint32_t rank;
    size_t n_adapters;
} writer;

static bool has_adapter(const lorakit_emitted *e)
{
    return e->form != LORAKIT_NOT_EXPRESSED && e->form != LORAKIT_EXPRESSED_BASE;
}

static const char *name_of(const writer *w, size_t i)
{
    return w->manifest->scenarios[w->emitted[i].scenario].name;
}

/* --- adapters.json --- */

static void put_adapter(const writer *w, size_t i, FILE *to)
{
    const lorakit_emitted *e = &w->emitted[i];

    fputs("    {\"name\": ", to);
    lk_put_json(to, name_of(w, i));
    fputs(", \"form\": ", to);
    lk_put_json(to, lorakit_expression_name(e->form));
    if (has_adapter(e)) {
        fputs(", \"path\": ", to);
        lk_put_json(to, name_of(w, i));
        fprintf(to, ", \"rank\": %u, \"rounding\": ", e->rank);
        lk_put_number(to, e->rounding);
    }
    if (e->form == LORAKIT_NOT_EXPRESSED) {
        fputs(", \"why\": ", to);
        lk_put_json(to, e->why);
    }
    fputs("}", to);
}

static void put_list(const writer *w, FILE *to)
{
    fputs("{\n  \"engine\": ", to);
    lk_put_json(to, w->engine->name);
    fputs(",\n  \"base\": ", to);
    lk_put_json(to, w->base);
    fprintf(to, ",\n  \"max_rank\": %u,\n  \"scenarios\": [\n", w->rank);
    for (size_t i = 0; i < w->n; i++) {
        put_adapter(w, i, to);
        fputs(i + 1 < w->n ? ",\n" : "\n", to);
    }
    fputs("  ]\n}\n", to);
}

/* --- serve.sh --- */

/* What `lorapack build` or `mount` is for. */
static void put_comments(const writer *w, FILE *to)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->emitted[i].form == LORAKIT_EXPRESSED_BASE)
            fprintf(to, "# %s is the base itself.\n", name_of(w, i));
        else if (w->emitted[i].form == LORAKIT_NOT_EXPRESSED)
            fprintf(to, "# %s is not here: adapters.json says why, and it can be served as a model of its own.\n", name_of(w, i));
}

static void put_vllm(const writer *w, FILE *to)
{
    static const uint32_t ranks[] = {8, 16, 32, 64, 128, 256, 320, 512}; // --max-lora-rank takes these, and 1
    size_t k = 0;

    while (ranks[k] < w->rank)
        k++;
    fprintf(to, "exec vllm serve \"$base\" \\\n    --enable-lora --max-lora-rank %u --max-loras %zu \\\n    --lora-modules",
            ranks[k], w->n_adapters);
    for (size_t i = 0; i < w->n; i++)
        if (has_adapter(&w->emitted[i]))
            fprintf(to, " \\\n        '{\"name\": \"%s\", \"path\": \"%s\"}'", name_of(w, i), name_of(w, i));
    fputs(" \\\n    \"$@\"\n", to);
}

/* The base counts as one more in a batch. */
static void put_sglang(const writer *w, FILE *to)
{
    fprintf(to,
            "exec python3 -m sglang.launch_server --model-path \"$base\" \\\n"
            "    --enable-lora --max-lora-rank %u --max-loras-per-batch %zu \\\n    --lora-target-modules",
            w->rank, w->n_adapters + 1);
    for (size_t i = 0; w->modules[i]; i++) {
        fputc(' ', to);
        lk_put_shell(to, w->modules[i]);
    }
    fputs(" \\\n    --lora-paths", to);
    for (size_t i = 0; i < w->n; i++)
        if (has_adapter(&w->emitted[i]))
            fprintf(to, " \\\n        %s=%s", name_of(w, i), name_of(w, i));
    fputs(" \\\n    \"$@\"\n", to);
}

/* Adapters are named in each request, by the directory that the server sees. */
static void put_lorax(const writer *w, FILE *to)
{
    fputs("# Each request says which adapter, by its path as the server sees it:\n", to);
    for (size_t i = 0; i < w->n; i++)
        if (has_adapter(&w->emitted[i]))
            fprintf(to, "#   \"parameters\": {\"adapter_id\": \"%s\", \"adapter_source\": \"local\"}\n", name_of(w, i));
    fputs("exec lorax-launcher --model-id \"$base\" \"$@\"\n", to);
}

static void put_serve(const writer *w, FILE *to)
{
    fputs("#!/bin/sh\n"
          "# Written by lorapack emit. Further arguments are the engine's own.\n",
          to);
    put_comments(w, to);
    fputs("set -eu\ncd -- \"$(dirname -- \"$0\")\"\nbase=", to);
    lk_put_shell(to, w->base);
    fputc('\n', to);
    if (!w->n_adapters)
        fprintf(to, "exec %s \"$base\" \"$@\"\n", w->engine->start);
    else if (strcmp(w->engine->name, "vllm") == 0)
        put_vllm(w, to);
    else if (strcmp(w->engine->name, "sglang") == 0)
        put_sglang(w, to);
    else
        put_lorax(w, to);
}

/* --- load.py --- */

static void put_load(const writer *w, FILE *to)
{
    size_t n = 0;

    fputs("#!/usr/bin/env python3\n"
          "# Written by lorapack emit: the base with all adapters; model.set_adapter(NAME) chooses.\n",
          to);
    put_comments(w, to);
    fputs("from pathlib import Path\n\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
          "here = Path(__file__).resolve().parent\n"
          "base = model = AutoModelForCausalLM.from_pretrained(",
          to);
    lk_put_json(to, w->base);
    fputs(", torch_dtype=\"auto\")\n", to);
    for (size_t i = 0; i < w->n; i++) {
        if (!has_adapter(&w->emitted[i]))
            continue;
        fputs(n++ ? "model.load_adapter(here / " : "model = PeftModel.from_pretrained(base, here / ", to);
        lk_put_json(to, name_of(w, i));
        fputs(", adapter_name=", to);
        lk_put_json(to, name_of(w, i));
        fputs(")\n", to);
    }
}

/* --- files --- */

static lorafmt_status put_file(const writer *w, lf_output *output, const char *name, void (*put)(const writer *w, FILE *to),
                               lorafmt_error *err)
{
    lk_text text;
    lorafmt_status st;

    LF_TRY(lk_text_begin(&text, err));
    put(w, text.stream);
    st = lk_text_finish(&text, err);
    if (!st)
        st = lf_output_put(output, name, text.bytes, text.size, err);
    free(text.bytes);
    return st;
}

lorafmt_status lk_emit_files(lorakit_scenarios *set, const lk_engine *engine, const lorakit_emitted *emitted, size_t n,
                             const char *const *modules, lf_output *output, lorafmt_error *err)
{
    writer w = {.manifest = lorakit_scenarios_manifest(set), .engine = engine, .emitted = emitted, .n = n, .modules = modules};
    lorafmt_status st;

    for (size_t i = 0; i < n; i++) {
        w.n_adapters += has_adapter(&emitted[i]);
        w.rank = has_adapter(&emitted[i]) && emitted[i].rank > w.rank ? emitted[i].rank : w.rank;
    }
    w.base = realpath(w.manifest->base.path, NULL);
    if (!w.base)
        return lf_fail_os(err, errno, w.manifest->base.path, "cannot be resolved");
    if (lf_utf8_valid(w.base, strlen(w.base)))
        st = put_file(&w, output, "adapters.json", put_list, err);
    else
        st = lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "base.path", "its name is not UTF-8, which JSON must be");
    if (!st && engine->plain_only)
        st = put_file(&w, output, "serve.sh", put_serve, err);
    else if (!st)
        st = put_file(&w, output, "load.py", put_load, err);
    free(w.base);
    return st;
}
