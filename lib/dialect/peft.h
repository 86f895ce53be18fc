/* SPDX-License-Identifier: MIT */
/*
 * The PEFT dialect: adapter_config.json and named tensors <-> an adapter (reference: huggingface/peft, LoraConfig and
 * get_peft_model_state_dict). Which layers are adapted is read from the tensors' names; the config gives alpha, rank and
 * orientation. Whatever this version does not carry over is refused by name, never skipped.
 *
 *   peft_config.c   the config, key by key
 *   peft_pattern.c  rank_pattern and alpha_pattern
 *   peft_key.c      tensor names
 *   peft_import.c   to an adapter
 *   peft_export.c   from an adapter
 */
#ifndef LF_DIALECT_PEFT_H
#define LF_DIALECT_PEFT_H

#include "format/base/arena.h"
#include "format/foreign/json.h"
#include "lorafmt/adapter.h"

#include <stdbool.h>

/* Metadata key under which the text of adapter_config.json is kept: spec 4.7. */
#define LF_PEFT_CONFIG_KEY "peft.adapter_config"

typedef struct lf_peft_tensor {
    const char *name; /* as in adapter_model.safetensors */
    lorafmt_tensor tensor;
} lf_peft_tensor;

/* What happened on the way that a person should know; sentences in an arena. */
typedef struct lf_notes {
    size_t n, capacity;
    const char **text;
} lf_notes;

__attribute__((format(printf, 3, 4))) lorafmt_status lf_note(lf_notes *notes, lf_arena *arena, const char *format, ...);

typedef enum lf_peft_bias { LF_PEFT_BIAS_NONE, LF_PEFT_BIAS_ALL, LF_PEFT_BIAS_LORA_ONLY } lf_peft_bias;

/* The members of the config that change what the tensors mean. */
typedef struct lf_peft_config {
    cJSON *json; /* owns what points into it; NULL for a bare file */
    const char *base_name, *revision, *task_type;
    uint32_t r; /* 0: take it from the shapes */
    double alpha;
    bool use_rslora;
    lorafmt_orientation orientation;
    lf_peft_bias bias;
    const cJSON *modules_to_save; /* array, or NULL */
    struct lf_peft_patterns *rank_pattern, *alpha_pattern;
} lf_peft_config;

/* n_lookups bounds how many modules will be asked for: what patterns may cost is shared out among them. */
lorafmt_status lf_peft_config_parse(const char *text, size_t size, size_t n_lookups, lf_peft_config *out, lorafmt_error *err);
void lf_peft_config_free(lf_peft_config *config); /* also for an all-zero one */

/* Is this module saved whole, going by modules_to_save and what the task type adds to it? */
bool lf_peft_config_saves(const lf_peft_config *config, const char *module);

/* An object of regular expressions and numbers. NULL patterns match nothing. */
typedef struct lf_peft_patterns lf_peft_patterns;
lorafmt_status lf_peft_patterns_parse(const cJSON *object, const char *field, size_t n_lookups, lf_peft_patterns **out,
                                      lorafmt_error *err);
void lf_peft_patterns_free(lf_peft_patterns *patterns);

/* The value of the first pattern that matches a module, as PEFT looks it up; *value is untouched when none does. */
lorafmt_status lf_peft_patterns_find(const lf_peft_patterns *patterns, const char *module, double *value, lorafmt_error *err);

/* What a tensor's name says it is. */
typedef enum lf_peft_part {
    LF_PEFT_A,
    LF_PEFT_B,
    LF_PEFT_EMBEDDING_A,
    LF_PEFT_EMBEDDING_B,
    LF_PEFT_BASE_LAYER, /* <module>.base_layer.<parameter>: a parameter of an adapted layer */
    LF_PEFT_PARAMETER,  /* <module>.<parameter> of a layer that is saved whole */
    LF_PEFT_STRAY,      /* a factor of another adapter */
} lf_peft_part;

typedef struct lf_peft_key {
    lf_peft_part part;
    char *module;          /* in the arena, without base_model.model. */
    const char *parameter; /* "weight", "bias", ...: of BASE_LAYER and PARAMETER */
} lf_peft_key;

lorafmt_status lf_peft_key_parse(const char *name, lf_arena *arena, lf_peft_key *out, lorafmt_error *err);

/*
 * Build an adapter. Strings and tables are in the arena, tensor data stays the caller's. config_text may be NULL for a bare
 * file: then bare gives alpha and use_rslora, ranks come from the shapes and the orientation is found by shape at bind.
 */
typedef struct lf_peft_bare {
    double alpha;
    bool use_rslora;
} lf_peft_bare;

lorafmt_status lf_peft_import(const char *config_text, size_t config_size, const lf_peft_bare *bare,
                              const lf_peft_tensor *tensors, size_t n_tensors, const char *name, lf_arena *arena,
                              lorafmt_adapter *out, lf_notes *notes, lorafmt_error *err);

/*
 * The config text and the named tensors of an adapter, both in the arena. The result was imported again and says the same, or
 * the export is UNSUPPORTED.
 */
lorafmt_status lf_peft_export(const lorafmt_adapter *adapter, lf_arena *arena, const char **config_text, lf_peft_tensor **tensors,
                              size_t *n_tensors, lorafmt_error *err);

#endif
