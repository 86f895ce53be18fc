/* SPDX-License-Identifier: MIT */
/* Names in adapter_model.safetensors: base_model.model.<module><suffix>. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/dialect/peft.h"

#include <string.h>

#define PREFIX "base_model.model."

/* Suffixes that belong to kinds of adapters which this version does not carry over. */
static const struct {
    const char *suffix, *what;
} refused[] = {
    {".lora_magnitude_vector", "DoRA (lora_magnitude_vector)"},
    {".lora_magnitude_vector.weight", "DoRA (lora_magnitude_vector)"},
    {".lora_B.bias", "a bias of lora_B (lora_bias)"},
    {".lora_diag", "KaSA (lora_diag)"},
    {".token_adapter.trainable_tokens_delta", "trainable tokens (trainable_token_indices)"},
};

static const struct {
    const char *suffix;
    lf_peft_part part;
} factors[] = {
    {".lora_A.weight", LF_PEFT_A},
    {".lora_B.weight", LF_PEFT_B},
    {".lora_embedding_A", LF_PEFT_EMBEDDING_A},
    {".lora_embedding_B", LF_PEFT_EMBEDDING_B},
};

#define N_OF(table) (sizeof(table) / sizeof *(table))

static lorafmt_status refuse_foreign(const char *name, lorafmt_error *err)
{
    const char *what = "names in a PEFT file start with " PREFIX;

    if (strstr(name, ".lora_down.") || strstr(name, ".lora_up.") || lf_ends_with(name, ".alpha"))
        what = "this is the kohya layout, which this version does not read; " PREFIX "... is expected";
    else if (strstr(name, ".lora_A.") || strstr(name, ".lora_B."))
        what =
            "the prefix " PREFIX " is missing, as in files that diffusers or transformers wrote; this version does not read them";
    return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "%s", what);
}

/*
 * <module>.lora_A.<adapter>.weight or <module>.lora_embedding_A.<adapter>, exactly: PEFT takes the adapter's name out when it
 * saves, but for strays. Returns where the module ends, or NULL.
 */
static const char *stray_module_end(const char *rest)
{
    static const struct {
        const char *infix, *suffix;
    } forms[] = {{".lora_A.", ".weight"}, {".lora_B.", ".weight"}, {".lora_embedding_A.", ""}, {".lora_embedding_B.", ""}};

    for (size_t i = 0; i < N_OF(forms); i++) {
        const char *at = strstr(rest, forms[i].infix);
        const size_t n_suffix = strlen(forms[i].suffix);
        const char *name = at ? at + strlen(forms[i].infix) : NULL;
        if (at && lf_ends_with(name, forms[i].suffix) && strlen(name) > n_suffix && strcspn(name, ".") == strlen(name) - n_suffix)
            return at;
    }
    return NULL;
}

/* The path before the last component, which becomes the parameter. */
static lorafmt_status split_parameter(const char *name, lf_peft_key *out, lorafmt_error *err)
{
    static const char base_layer[] = ".base_layer";
    char *dot = strrchr(out->module, '.');

    if (!dot || dot == out->module || !dot[1])
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "no module and parameter in this name");
    *dot = '\0';
    out->parameter = dot + 1;
    out->part = LF_PEFT_PARAMETER;
    if (lf_ends_with(out->module, base_layer)) {
        out->module[strlen(out->module) - strlen(base_layer)] = '\0';
        out->part = LF_PEFT_BASE_LAYER;
    }
    return LORAFMT_OK;
}

static lorafmt_status check_module(const char *name, const lf_peft_key *key, lorafmt_error *err)
{
    if (!key->module[0])
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "no module in this name");
    if (lf_ends_with(key->module, ".base_layer") || strstr(key->module, ".base_layer."))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name,
                       "nested adapted layers (multi-head attention, target_parameters) are not supported by this version");
    if (strstr(key->module, ".modules_to_save") || strstr(key->module, ".original_module"))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name,
                       "the layout of a PEFT before 0.3; load and save it with a newer PEFT");
    return LORAFMT_OK;
}

lorafmt_status lf_peft_key_parse(const char *name, lf_arena *arena, lf_peft_key *out, lorafmt_error *err)
{
    const char *rest = name + strlen(PREFIX), *stray;

    memset(out, 0, sizeof *out);
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return refuse_foreign(name, err);
    if (strncmp(rest, "lora_", 5) == 0)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "no module in this name");
    for (size_t i = 0; i < N_OF(refused); i++)
        if (lf_ends_with(rest, refused[i].suffix))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "%s is not supported by this version",
                           refused[i].what);
    out->module = lf_arena_strdup(arena, rest);
    if (!out->module)
        return lf_no_memory(err);
    for (size_t i = 0; i < N_OF(factors); i++)
        if (lf_ends_with(rest, factors[i].suffix)) {
            out->part = factors[i].part;
            out->module[strlen(rest) - strlen(factors[i].suffix)] = '\0';
            return check_module(name, out, err);
        }
    stray = stray_module_end(rest);
    if (stray) {
        out->part = LF_PEFT_STRAY;
        out->module[stray - rest] = '\0';
        return check_module(name, out, err);
    }
    if (strstr(rest, ".lora_"))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, name, "an unknown kind of LoRA tensor");
    LF_TRY(split_parameter(name, out, err));
    return check_module(name, out, err);
}
