/* SPDX-License-Identifier: MIT */
/* The shape of the model, from the config.json beside its weights. Names are those of a Hugging Face Llama checkpoint. */
#ifndef TINYLM_CONFIG_H
#define TINYLM_CONFIG_H

#include <lorafmt/error.h>

/* The token is the byte. */
#define VOCAB_SIZE 256

typedef struct model_config {
    size_t hidden_size;
    size_t intermediate_size;
    size_t num_hidden_layers;
    size_t num_attention_heads;
    size_t num_key_value_heads; /* divides num_attention_heads */
    size_t head_dim;            /* even */
    size_t max_position_embeddings;
    float rms_norm_eps;
    float rope_theta;
} model_config;

/* Read folder/config.json. What this program cannot compute (another vocabulary, activation or RoPE) is UNSUPPORTED. */
lorafmt_status config_read(const char *folder, model_config *out, lorafmt_error *err);

/* Numbers per position of all query heads, and of all key or value heads. */
size_t config_query_size(const model_config *config);
size_t config_key_size(const model_config *config);

#endif
