/* SPDX-License-Identifier: MIT */
/* Names in adapter_model.safetensors: base_model.model.<module><suffix>. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/dialect/peft.h"

#include <string.h>

#define BASE_LAYER ".base_layer"
#define N_OF(table) (sizeof(table) / sizeof *(table))

/*
 * Tensors of an adapter: <module><head><tail>. While an adapter is on a model its name stands between the two (and PEFT takes it
 * out when it saves).
 */
static const struct {
    const char *head, *tail;
    lf_peft_part part;
} forms[] = {
    {".lora_A", ".weight", LF_PEFT_A},
    {".lora_B", ".weight", LF_PEFT_B},
    {".lora_B", ".bias", LF_PEFT_B_BIAS},
    {".lora_embedding_A", "", LF_PEFT_EMBEDDING_A},
    {".lora_embedding_B", "", LF_PEFT_EMBEDDING_B},
    {".lora_magnitude_vector", "", LF_PEFT_MAGNITUDE},
    {".lora_magnitude_vector", ".weight", LF_PEFT_MAGNITUDE},
    {".token_adapter.trainable_tokens_delta", "", LF_PEFT_TOKEN_ROWS},
};

/* What a name says: which form, where the module ends, and the adapter's name if it is there. */
typedef struct factor_name {
    lf_peft_part part;
    const char *module_end, *infix;
    size_t infix_length;
} factor_name;

static bool match_plain(const char *name, factor_name *out)
{
    const size_t n = strlen(name);

    for (size_t i = 0; i < N_OF(forms); i++) {
        const size_t head = strlen(forms[i].head), tail = strlen(forms[i].tail);
        if (n >= head + tail && lf_ends_with(name, forms[i].tail) && strncmp(name + n - tail - head, forms[i].head, head) == 0) {
            *out = (factor_name){.part = forms[i].part, .module_end = name + n - tail - head};
            return true;
        }
    }
    return false;
}

static bool match_infix(const char *name, factor_name *out)
{
    for (size_t i = 0; i < N_OF(forms); i++) {
        const char *at = strstr(name, forms[i].head);
        const size_t head = strlen(forms[i].head), tail = strlen(forms[i].tail);
        const char *infix = at ? at + head + 1 : NULL;
        if (!at || at[head] != '.' || strlen(infix) <= tail || !lf_ends_with(infix, forms[i].tail))
            continue;
        *out = (factor_name){.part = forms[i].part, .module_end = at, .infix = infix, .infix_length = strlen(infix) - tail};
        if (strcspn(infix, ".") == out->infix_length)
            return true;
    }
    return false;
}

bool lf_peft_key_infix(const char *name, const char **infix, size_t *length, bool *is_factor)
{
    factor_name found;

    *is_factor = match_plain(name, &found);
    if (*is_factor || !match_infix(name, &found))
        return false;
    *is_factor = true;
    *infix = found.infix;
    *length = found.infix_length;
    return true;
}

bool lf_peft_is_kohya(const char *name)
{
    return strstr(name, ".lora_down.") || strstr(name, ".lora_up.") || lf_ends_with(name, ".alpha");
}

static lorafmt_status refuse_foreign(const char *name, lorafmt_error *err)
{
    const char *what = "names in a PEFT file start with " LF_PEFT_PREFIX;

    if (lf_peft_is_kohya(name))
        what = "this is the kohya layout, which this version does not read; " LF_PEFT_PREFIX "... is expected";
    else if (strstr(name, ".lora_A.") || strstr(name, ".lora_B."))
        what = "the prefix " LF_PEFT_PREFIX " is missing, though other names of the file have it";
    return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "%s", what);
}

/* Take .base_layer off the end of a path; how often it was there. */
static unsigned cut_base_layers(char *path)
{
    unsigned n = 0;

    for (; lf_ends_with(path, BASE_LAYER); n++)
        path[strlen(path) - strlen(BASE_LAYER)] = '\0';
    return n;
}

/*
 * A path of modules: wrappers around the last one are counted and taken off. The only layer that PEFT wraps inside another one
 * is the output projection of an attention, <attention>.base_layer.out_proj.
 */
static lorafmt_status set_module(const char *name, lf_peft_key *key, lorafmt_error *err)
{
    static const char inside[] = BASE_LAYER ".out_proj";
    char *at;

    key->depth = cut_base_layers(key->module);
    at = strstr(key->module, BASE_LAYER ".");
    if (at && strcmp(at, inside) == 0) {
        memmove(at, at + strlen(BASE_LAYER), strlen(at + strlen(BASE_LAYER)) + 1);
        key->in_attention = true;
    } else if (at) {
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "an unknown kind of adapted layer inside another one");
    }
    if (!key->module[0])
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "no module in this name");
    return LORAFMT_OK;
}

/* The path before the last component, which is the parameter. */
static lorafmt_status split_parameter(const char *name, lf_peft_key *out, lorafmt_error *err)
{
    char *dot = strrchr(out->module, '.');

    if (!dot || dot == out->module || !dot[1])
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "no module and parameter in this name");
    *dot = '\0';
    out->parameter = dot + 1;
    LF_TRY(set_module(name, out, err));
    out->part = out->depth || out->in_attention ? LF_PEFT_BASE_LAYER : LF_PEFT_PARAMETER;
    return LORAFMT_OK;
}

lorafmt_status lf_peft_key_parse(const char *name, lf_arena *arena, lf_peft_key *out, lorafmt_error *err)
{
    const char *rest = name + strlen(LF_PEFT_PREFIX);
    factor_name factor = {0};

    memset(out, 0, sizeof *out);
    if (strncmp(name, LF_PEFT_PREFIX, strlen(LF_PEFT_PREFIX)) != 0)
        return refuse_foreign(name, err);
    if (strncmp(rest, "lora_A.", 7) == 0 || strncmp(rest, "lora_B.", 7) == 0 || strncmp(rest, "lora_embedding_", 15) == 0)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "no module in this name");
    if (lf_ends_with(rest, ".lora_diag"))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name,
                       "KaSA (lora_diag) changes the base before it adds to it");
    out->module = lf_arena_strdup(arena, rest);
    if (!out->module)
        return lf_no_memory(err);
    if (match_plain(rest, &factor) || match_infix(rest, &factor)) {
        out->part = factor.infix ? LF_PEFT_STRAY : factor.part;
        out->module[factor.module_end - rest] = '\0';
        return set_module(name, out, err);
    }
    if (strstr(rest, ".lora_") || strstr(rest, ".token_adapter."))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "an unknown kind of LoRA tensor");
    return split_parameter(name, out, err);
}
