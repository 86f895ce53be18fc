/* SPDX-License-Identifier: MIT */
#include "lib/scenario/emit_text.h"

#include "lib/scenario/record.h"

#include <stdlib.h>
#include <string.h>

void lk_put_json(FILE *to, const char *text)
{
    if (!text) {
        fputs("null", to);
        return;
    }
    fputc('"', to);
    for (; *text; text++)
        if ((unsigned char)*text < 0x20)
            fprintf(to, "\\u%04x", (unsigned)*text);
        else
            fprintf(to, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    fputc('"', to);
}

void lk_put_shell(FILE *to, const char *text)
{
    fputc('\'', to);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", to);
        else
            fputc(*text, to);
    fputc('\'', to);
}

static int compare_texts(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* "model.layers.0.self_attn.q_proj.weight" -> "q_proj" */
static const char *module_name(lf_arena *arena, const char *target)
{
    const char *end = strrchr(target, '.'), *begin = end;

    if (!end)
        return target;
    while (begin > target && begin[-1] != '.')
        begin--;
    return lf_arena_strndup(arena, begin, (size_t)(end - begin));
}

const char **lk_module_names(lf_arena *arena, const lorafmt_adapter *adapter)
{
    const char **all = lf_arena_alloc(arena, adapter->n_sites + 1, sizeof *all);
    size_t n = 0;

    for (size_t i = 0; all && i < adapter->n_sites; i++)
        if (!(all[i] = module_name(arena, adapter->sites[i].target)))
            return NULL;
    if (!all)
        return NULL;
    qsort(all, adapter->n_sites, sizeof *all, compare_texts);
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (!n || strcmp(all[n - 1], all[i]) != 0)
            all[n++] = all[i];
    all[n] = NULL;
    return all;
}

static const char *text_or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static bool any_in_out(const lorafmt_adapter *adapter)
{
    for (size_t i = 0; i < adapter->n_sites; i++)
        if (adapter->sites[i].orientation == LORAFMT_IN_OUT)
            return true;
    return false;
}

static void put_config(FILE *to, const lorafmt_adapter *adapter, const char **modules, uint32_t rank, double alpha)
{
    fputs("{\n  \"peft_type\": \"LORA\",\n  \"base_model_name_or_path\": ", to);
    lk_put_json(to, text_or_null(adapter->base_name));
    fputs(",\n  \"revision\": ", to);
    lk_put_json(to, text_or_null(adapter->base_revision));
    fprintf(to, ",\n  \"r\": %u,\n  \"lora_alpha\": ", rank);
    lk_put_number(to, alpha);
    fputs(",\n  \"target_modules\": [", to);
    for (size_t i = 0; modules[i]; i++) {
        fputs(i ? ", " : "", to);
        lk_put_json(to, modules[i]);
    }
    fprintf(
        to,
        "],\n  \"fan_in_fan_out\": %s,\n  \"bias\": \"none\",\n  \"use_rslora\": false,\n  \"use_dora\": false,\n"
        "  \"lora_dropout\": 0.0,\n  \"modules_to_save\": null,\n  \"inference_mode\": true,\n  \"init_lora_weights\": true\n}\n",
        any_in_out(adapter) ? "true" : "false");
}

const lorafmt_metadata *lk_emit_config(lf_arena *arena, const lorafmt_adapter *adapter, uint32_t rank, double alpha)
{
    const char **modules = lk_module_names(arena, adapter);
    lorafmt_metadata *entry = lf_arena_alloc(arena, 1, sizeof *entry);
    lk_text text;

    if (!modules || !entry || lk_text_begin(&text, NULL))
        return NULL;
    put_config(text.stream, adapter, modules, rank, alpha);
    if (!lk_text_finish(&text, NULL))
        *entry = (lorafmt_metadata){.key = "peft.adapter_config", .value = lf_arena_strdup(arena, text.bytes)}; // spec 4.7
    free(text.bytes);
    return entry->value ? entry : NULL;
}
