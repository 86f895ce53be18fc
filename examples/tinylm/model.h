/* SPDX-License-Identifier: MIT */
/* The weights of a Llama-shaped model: pristine in the mapped file, and live, where adapters change them and they are used. */
#ifndef TINYLM_MODEL_H
#define TINYLM_MODEL_H

#include "config.h"
#include "matrix.h"
#include "stack.h"

#include <lorafmt/model.h>
#include <lorafmt/runtime.h>

typedef struct layer {
    matrix input_layernorm;
    matrix q_proj, k_proj, v_proj, o_proj;
    matrix post_attention_layernorm;
    matrix gate_proj, up_proj, down_proj;
} layer;

typedef struct model {
    model_config config;
    const lorafmt_base *base; /* of file */
    lorafmt_model *file;
    uint8_t *live;         /* all tensors, one after another */
    lorafmt_place *places; /* of each tensor of the base */
    lorafmt_runtime *runtime;

    matrix embed_tokens, norm, lm_head; /* these and the layers point into live */
    layer *layers;
    size_t n_taken; /* tensors that have got their place in the architecture */
} model;

/*
 * Read folder/config.json and find a place for every tensor of the architecture, of which each must be one. Weights are there
 * after the first model_swap().
 *
 * dtype  of live weights: BF16 as the file has them, so that merged ones are rounded to it, or F32
 * out    zeroed; to be freed with model_free() in any case
 */
lorafmt_status model_load(const char *folder, lorafmt_dtype dtype, model *out, lorafmt_error *err);
void model_free(model *m);

/* Switch to a stack that is open, or to the base. What does not fit is listed on stderr, and leaves the live weights alone. */
lorafmt_status model_swap(model *m, const stack *adapters, lorafmt_swap_result *result, lorafmt_error *err);

/* The same stack as a view of the model, to be used unmerged. */
lorafmt_status model_bind(const model *m, const stack *adapters, lorafmt_view **out, lorafmt_error *err);

#endif
