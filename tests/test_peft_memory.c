/* SPDX-License-Identifier: MIT */
/* Memory that the PEFT dialect does not get, on the way there and back: it never means something else. */
#include "lib/dialect/peft.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"

#include <cjson/cJSON.h>
#include <string.h>

#define M "base_model.model."
#define CONFIG(rest) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4" rest "}"
#define MAX_TENSORS 6

typedef struct named {
    const char *name;
    uint64_t shape[2];
} named;

typedef struct example {
    const char *config;
    named tensors[MAX_TENSORS];
} example;

static const example examples[] = {
    {CONFIG(", \"rank_pattern\": {\"^m\\\\.q\": 3, \"q\": 2}, \"alpha_pattern\": {\"k\": 8}"),
     {{M "m.q.lora_A.weight", {3, 4}},
      {M "m.q.lora_B.weight", {4, 3}},
      {M "m.k.lora_A.weight", {2, 4}},
      {M "m.k.lora_B.weight", {4, 2}}}},
    {CONFIG(""), {{M "m.q.lora_A.other.weight", {2, 4}}, {M "m.q.lora_B.other.weight", {4, 2}}}},
    {CONFIG(""), {{"m.q.lora_A.weight", {2, 4}}, {"m.q.lora_B.weight", {4, 2}}}},
    {CONFIG(""), {{"module." M "_orig_mod.m.q.lora_A.weight", {2, 4}}, {"module." M "_orig_mod.m.q.lora_B.weight", {4, 2}}}},
    {CONFIG(""), {{M "m.q.lora_A.weight", {2, 4}}, {M "m.q.lora_B.weight", {4, 2}}, {M "m.q.lora_A.stray.weight", {2, 4}}}},
    {CONFIG(", \"modules_to_save\": [\"head\"], \"task_type\": \"SEQ_CLS\""),
     {{M "head.original_module.weight", {4, 3}},
      {M "head.modules_to_save.default.weight", {4, 3}},
      {M "e.lora_embedding_A", {2, 4}},
      {M "e.lora_embedding_B", {4, 2}}}},
    {CONFIG(", \"trainable_token_indices\": {\"e\": [2, 0]}, \"bias\": \"lora_only\", \"use_dora\": true"),
     {{M "e.token_adapter.trainable_tokens_delta", {2, 4}},
      {M "m.q.lora_A.weight", {2, 4}},
      {M "m.q.lora_B.weight", {4, 2}},
      {M "m.q.lora_magnitude_vector", {4, 0}},
      {M "m.q.base_layer.bias", {4, 0}}}},
    {CONFIG(", \"lora_bias\": true"),
     {{M "m.q.lora_A.weight", {2, 4}}, {M "m.q.lora_B.weight", {4, 2}}, {M "m.q.lora_B.bias", {4, 0}}}},
    {CONFIG(", \"target_parameters\": [\"e.down\", \"e.up\"]"),
     {{M "e.lora_A.weight", {4, 3}},
      {M "e.lora_B.weight", {7, 4}},
      {M "e.base_layer.lora_A.weight", {4, 5}},
      {M "e.base_layer.lora_B.weight", {3, 4}}}},
};

/* Two experts each. */
static const lorafmt_base_tensor base_tensors[] = {{"e.down", LORAFMT_F32, 3, {2, 3, 5}, 120},
                                                   {"e.up", LORAFMT_F32, 3, {2, 7, 3}, 168}};
static const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 2, .tensors = base_tensors};

/* With its own config, and as an adapter that never was PEFT's. */
static lorafmt_status export_both(const lorafmt_adapter *adapter, lf_arena *arena, lorafmt_error *err)
{
    const char *config = lf_peft_metadata(adapter, LF_PEFT_CONFIG_KEY), *text;
    const lorafmt_metadata *order = adapter->metadata;
    lorafmt_adapter bare = *adapter;
    lf_peft_tensor *tensors;
    lorafmt_status st;
    size_t n;

    while (order < adapter->metadata + adapter->n_metadata && strcmp(order->key, LF_PEFT_ORDER_KEY) != 0)
        order++;
    bare.metadata = order;
    bare.n_metadata = order < adapter->metadata + adapter->n_metadata;
    st = lf_peft_export(adapter, arena, &text, &tensors, &n, err);
    if (st)
        return st;
    assert_ptr_equal(text, config);
    return lf_peft_export(&bare, arena, &text, &tensors, &n, err);
}

static lorafmt_status there_and_back(const void *ctx, lorafmt_error *err)
{
    static const float data[64] = {1, 2, 3};
    const example *x = ctx;
    lf_peft_tensor tensors[MAX_TENSORS];
    lf_peft_input in = {.config_text = x->config,
                        .config_size = strlen(x->config),
                        .tensors = tensors,
                        .name = "x",
                        .base = &base};
    lf_arena arena = {0};
    lf_notes notes = {0};
    lorafmt_adapter adapter;
    lorafmt_status st;

    for (const named *t = x->tensors; in.n_tensors < MAX_TENSORS && t->name; t++)
        tensors[in.n_tensors++] = (lf_peft_tensor){t->name, test_tensor(LORAFMT_F32, t->shape[0], t->shape[1], data)};
    st = lf_peft_import(&in, &arena, &adapter, &notes, err);
    if (!st)
        st = export_both(&adapter, &arena, err);
    lf_arena_free(&arena);
    return st;
}

static void test_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        assert_int_equal(refuse_each(there_and_back, &examples[i]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples)};

    cJSON_InitHooks(&(cJSON_Hooks){__wrap_malloc, __wrap_free});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
