/* SPDX-License-Identifier: MIT */
/*
 * The PEFT dialect: adapter_config.json and named tensors <-> an adapter (reference: huggingface/peft, LoraConfig and
 * get_peft_model_state_dict). Which layers are adapted is read from the tensors' names; the config gives alpha, rank and
 * orientation. Whatever this version does not carry over is refused by name, never skipped.
 *
 *   peft_config.c       the config, key by key
 *   peft_pattern.c      rank_pattern and alpha_pattern
 *   peft_normalise.c    names that other writers changed
 *   peft_key.c          what a tensor's name says
 *   peft_import.c       to an adapter: names, saved modules, tokens
 *   peft_layer.c        to an adapter: layers and parameters with factors
 *   peft_parameters.c   target_parameters: which parameter of the base is which wrapper's
 *   peft_layout.c       experts and token rows: PEFT's order of the elements <-> ours
 *   peft_export.c       from an adapter
 *   peft_derive.c       a config made from the sites
 */
#ifndef LF_DIALECT_PEFT_H
#define LF_DIALECT_PEFT_H

#include "format/base/arena.h"
#include "format/foreign/json.h"
#include "lorafmt/adapter.h"
#include "lorafmt/view.h"

#include <stdbool.h>

/* Metadata key under which the text of adapter_config.json is kept: spec 4.7. */
#define LF_PEFT_CONFIG_KEY "peft.adapter_config"

/*
 * Metadata key of the parameters that target_parameters adapts, in the order in which their modules register them: names with
 * one space between them. PEFT nests a wrapper for each, the first innermost, and does not name the parameter in the file.
 */
#define LF_PEFT_ORDER_KEY "peft.parameter_order"

/* What every name in adapter_model.safetensors starts with. */
#define LF_PEFT_PREFIX "base_model.model."

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
    bool use_rslora, use_dora, lora_bias;
    bool before_0_19; /* made by a PEFT that took every expert as in x out */
    lorafmt_orientation orientation;
    lf_peft_bias bias;
    const cJSON *modules_to_save;         /* array of names, or NULL */
    const cJSON *target_parameters;       /* array of names, or NULL */
    const cJSON *trainable_token_indices; /* array of row numbers, object of such arrays by module, or NULL */
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
lorafmt_status lf_peft_patterns_find(lf_peft_patterns *patterns, const char *module, double *value, lorafmt_error *err);

/*
 * Names as PEFT writes them: what torch.compile, FSDP and DDP put into names is taken out, base_model.model. put in front where
 * a writer left it out, the adapter's own name (lora_A.default.weight) taken out, and the base's copy of a saved module left out.
 * Each such change is a note. names[i] is in the arena, NULL for a tensor that is left out. CORRUPT when two names become one.
 */
lorafmt_status lf_peft_normalise(const lf_peft_tensor *tensors, size_t n, lf_arena *arena, const char **names, lf_notes *notes,
                                 lorafmt_error *err);

/* A name of kohya's scripts. */
bool lf_peft_is_kohya(const char *name);

/* What a tensor's name says it is. */
typedef enum lf_peft_part {
    LF_PEFT_A,
    LF_PEFT_B,
    LF_PEFT_EMBEDDING_A,
    LF_PEFT_EMBEDDING_B,
    LF_PEFT_MAGNITUDE,
    LF_PEFT_B_BIAS,
    LF_PEFT_STRAY,      /* a factor of another adapter */
    LF_PEFT_TOKEN_ROWS, /* <module>.token_adapter.trainable_tokens_delta */
    LF_PEFT_BASE_LAYER, /* <module>.base_layer.<parameter>: a parameter of an adapted layer */
    LF_PEFT_PARAMETER,  /* <module>.<parameter> of a layer that is saved whole */
} lf_peft_part;

typedef struct lf_peft_key {
    lf_peft_part part;
    char *module;          /* in the arena, without base_model.model. and .base_layer */
    unsigned depth;        /* of factors: wrappers around this one, each a .base_layer in the name */
    bool in_attention;     /* the out_proj inside a wrapped MultiheadAttention */
    const char *parameter; /* "weight", "bias", ...: of BASE_LAYER and PARAMETER */
} lf_peft_key;

lorafmt_status lf_peft_key_parse(const char *name, lf_arena *arena, lf_peft_key *out, lorafmt_error *err);

/*
 * The adapter's name inside that of a factor (lora_A.default.weight): where it starts and how long it is. false when there is
 * none, then *is_factor says whether this is a factor at all.
 */
bool lf_peft_key_infix(const char *name, const char **infix, size_t *length, bool *is_factor);

/* An adapter as PEFT writes it. */
typedef struct lf_peft_input {
    const char *config_text; /* NULL for a bare file: ranks come from the shapes, the orientation is found by shape at bind */
    size_t config_size;
    const char *config_file; /* where what is wrong with the config alone is said to be, or NULL */
    double alpha;            /* of a bare file */
    bool use_rslora;
    const lf_peft_tensor *tensors;
    size_t n_tensors;
    const char *name;
    const lorafmt_base *base;               /* names and shapes: for target_parameters, else may be NULL */
    const lorafmt_orientation *orientation; /* of experts that are square in the base; NULL = refuse them */
} lf_peft_input;

/* Build an adapter. Strings, tables and what is put in another order are in the arena, other tensor data stays the caller's. */
lorafmt_status lf_peft_import(const lf_peft_input *in, lf_arena *arena, lorafmt_adapter *out, lf_notes *notes,
                              lorafmt_error *err);

/* --- target_parameters --- */

/* The A and B of one wrapper of a module. */
typedef struct lf_peft_wrapper {
    const lf_peft_tensor *a, *b;
    const lorafmt_base_tensor *parameter; /* what it wraps: found here */
    const char *name;                     /* of the parameter within the module */
    uint32_t rank;                        /* per expert */
    lorafmt_orientation orientation;
} lf_peft_wrapper;

/* Parameters of the base that target_parameters names. */
typedef struct lf_peft_parameters {
    const lf_peft_input *in;
    const lf_peft_config *config;
    const lorafmt_base_tensor **tensors;
    size_t n;
    uint64_t n_steps; /* names compared so far */
} lf_peft_parameters;

lorafmt_status lf_peft_parameters_find(const lf_peft_input *in, const lf_peft_config *config, lf_arena *arena,
                                       lf_peft_parameters *out, lorafmt_error *err);

/*
 * Does target_parameters adapt parameters of this module? Then wrappers, the outermost first, get theirs. MISUSE without a base;
 * MISMATCH when the base has others, UNSUPPORTED when shapes do not tell which is which.
 */
lorafmt_status lf_peft_parameters_assign(lf_peft_parameters *parameters, const char *module, lf_peft_wrapper *wrappers, size_t n,
                                         bool *adapted, lorafmt_error *err);

/* The place of a name in a text of LF_PEFT_ORDER_KEY (which may be NULL: empty), or LF_PEFT_NO_PLACE. */
#define LF_PEFT_NO_PLACE SIZE_MAX
size_t lf_peft_order_find(const char *order, const char *name);

/* What the modules of a file say, each for itself, of the order in which parameters are registered. */
#define LF_PEFT_MAX_PARAMETERS 64
typedef struct lf_peft_order {
    const char *names[LF_PEFT_MAX_PARAMETERS]; /* the caller's, in the order in which they came */
    uint64_t before[LF_PEFT_MAX_PARAMETERS];   /* bit k: names[k] is registered before this one */
    size_t n;
} lf_peft_order;

/* The parameters of one module, the outermost first. LIMIT when there are more names than fit. */
lorafmt_status lf_peft_order_add(lf_peft_order *order, const lf_peft_wrapper *wrappers, size_t n, lorafmt_error *err);

/* A text of LF_PEFT_ORDER_KEY that holds for all modules, NULL without names. UNSUPPORTED when none does. */
lorafmt_status lf_peft_order_text(const lf_peft_order *order, lf_arena *arena, const char **out, lorafmt_error *err);

/* --- order of the elements --- */

/* B of experts, [out, rank x experts] with the expert fastest in PEFT, [experts x out, rank] in spec 4.5. */
lorafmt_status lf_peft_experts_from(const lorafmt_tensor *in, uint64_t n_experts, lf_arena *arena, lorafmt_tensor *out,
                                    lorafmt_error *err);
lorafmt_status lf_peft_experts_to(const lorafmt_tensor *in, uint64_t n_experts, lf_arena *arena, lorafmt_tensor *out,
                                  lorafmt_error *err);

/* The rows that the config lists for a module, in its order; *out is NULL when it lists none. UNSUPPORTED when it lists two. */
lorafmt_status lf_peft_token_list(const lf_peft_config *config, const char *module, const cJSON **out, lorafmt_error *err);

/* Is one of several lists, which then have names, for this module? */
bool lf_peft_token_list_is_for(const cJSON *list, const char *module);

/* Rows in the order of the list <-> in ascending order, with their numbers as an I64 tensor. */
lorafmt_status lf_peft_rows_from(const lorafmt_tensor *in, const cJSON *list, lf_arena *arena, lorafmt_tensor *rows,
                                 lorafmt_tensor *row_index, lorafmt_error *err);
lorafmt_status lf_peft_rows_to(const lorafmt_tensor *rows, const lorafmt_tensor *row_index, const cJSON *list, lf_arena *arena,
                               lorafmt_tensor *out, lorafmt_error *err);

/* --- export --- */

/*
 * The config text and the named tensors of an adapter, both in the arena. The result was imported again and says the same, or
 * the export is UNSUPPORTED.
 */
lorafmt_status lf_peft_export(const lorafmt_adapter *adapter, lf_arena *arena, const char **config_text, lf_peft_tensor **tensors,
                              size_t *n_tensors, lorafmt_error *err);

/*
 * A config made from the sites; what the old one said of training and provenance stays in it. anchored: patterns match one
 * module only, which PEFT before 0.15 does not understand.
 */
lorafmt_status lf_peft_derive_config(const lorafmt_adapter *adapter, const char *old, bool anchored, lf_arena *arena,
                                     const char **out, lorafmt_error *err);

/* Length of the module path in a target: all but the last component. */
size_t lf_peft_module_length(const char *target);

/* The low-rank site on another parameter[0, n) of the module of a target, or NULL; sites are in order of target. */
const lorafmt_site *lf_peft_find_low_rank(const lorafmt_adapter *adapter, const char *target, const char *parameter, size_t n);

/* Has the layer of a target a low-rank site on its weight? */
bool lf_peft_is_adapted(const lorafmt_adapter *adapter, const char *target);

/* Is the module path[0, n) an adapted MultiheadAttention: does its output projection have a doubled site? */
bool lf_peft_is_attention(const lorafmt_adapter *adapter, const char *path, size_t n);

/*
 * Is it adapted through target_parameters? Experts, and matrices that LF_PEFT_ORDER_KEY names; without that text (NULL) those that
 * are no layer's weight.
 */
bool lf_peft_is_parameter(const lorafmt_adapter *adapter, const char *order, const lorafmt_site *site);

/* A matrix or experts whose shape cannot tell how the base stores them. */
bool lf_peft_is_square(const lorafmt_site *site);

/* The value of an adapter's metadata, or NULL. */
const char *lf_peft_metadata(const lorafmt_adapter *adapter, const char *key);

#endif
