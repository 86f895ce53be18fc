/* SPDX-License-Identifier: MIT */
/* adapter_config.json alone: one that is accepted says a rank and an alpha, and answers for any module within its bounds. */
#include "fuzz/fuzz.h"

#include "format/base/text.h"
#include "lib/dialect/peft.h"

#include <math.h>
#include <string.h>

static const char *const modules[] = {"model.layers.0.self_attn.q_proj",
                                      "model.layers.11.mlp.experts.3.w1",
                                      "lm_head",
                                      "classifier",
                                      "",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"};

#define N_MODULES (sizeof modules / sizeof modules[0])

/* A pattern may be too slow to match; then it says which. */
static void look_up(lf_peft_patterns *patterns, const char *module)
{
    double value = -7;
    lorafmt_error err;

    if (lf_peft_patterns_find(patterns, module, &value, &err) == LORAFMT_OK)
        require(patterns || value == -7);
    else
        require_refused(LORAFMT_LIMIT, &err);
}

static void ask(const lf_peft_config *config, const char *module)
{
    const cJSON *list;
    lorafmt_error err;

    look_up(config->rank_pattern, module);
    look_up(config->alpha_pattern, module);
    lf_peft_config_saves(config, module);
    if (lf_peft_token_list(config, module, &list, &err) == LORAFMT_OK)
        require(!list || cJSON_IsArray(list));
    else
        require_refused(LORAFMT_UNSUPPORTED, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lf_peft_config config;
    lorafmt_error err;

    if (lf_peft_config_parse((const char *)data, size, N_MODULES, &config, &err) == LORAFMT_OK) {
        require(config.r >= 1 && config.r <= LF_MAX_RANK && isfinite(config.alpha));
        for (size_t i = 0; i < N_MODULES; i++)
            ask(&config, modules[i]);
    } else {
        require(!config.json);
        require_refused(err.status, &err);
    }
    lf_peft_config_free(&config);
    return 0;
}
