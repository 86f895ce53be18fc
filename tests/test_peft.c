/* SPDX-License-Identifier: MIT */
/* The PEFT dialect: names, config keys, patterns, and the way there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/dialect/peft.h"
#include "tests/adapters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float data[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

typedef struct imported {
    lf_arena arena;
    lf_notes notes;
    lorafmt_adapter adapter;
    lorafmt_error err;
    lorafmt_status status;
} imported;

static void import(imported *out, const char *config, const lf_peft_tensor *tensors, size_t n)
{
    const lf_peft_input in = {.config_text = config,
                              .config_size = strlen(config),
                              .tensors = tensors,
                              .n_tensors = n,
                              .name = "x"};

    memset(out, 0, sizeof *out);
    out->status = lf_peft_import(&in, &out->arena, &out->adapter, &out->notes, &out->err);
}

static lf_peft_tensor tensor(const char *name, uint64_t rows, uint64_t cols)
{
    return (lf_peft_tensor){name, test_tensor(LORAFMT_F32, rows, cols, data)};
}

#define M "base_model.model."

static void test_names(void **state)
{
    static const struct {
        const char *name;
        int part; // or -1 when it is refused
        const char *module, *parameter_or_text;
    } table[] = {
        {M "a.q.lora_A.weight", LF_PEFT_A, "a.q", NULL},
        {M "a.q.lora_B.weight", LF_PEFT_B, "a.q", NULL},
        {M "wte.lora_embedding_A", LF_PEFT_EMBEDDING_A, "wte", NULL},
        {M "wte.lora_embedding_B", LF_PEFT_EMBEDDING_B, "wte", NULL},
        {M "a.q.base_layer.bias", LF_PEFT_BASE_LAYER, "a.q", "bias"},
        {M "lm_head.base_layer.weight", LF_PEFT_BASE_LAYER, "lm_head", "weight"},
        {M "score.weight", LF_PEFT_PARAMETER, "score", "weight"},
        {M "score.dense.bias", LF_PEFT_PARAMETER, "score.dense", "bias"},
        {M "model.layers.0.q.lora_A.weight", LF_PEFT_A, "model.layers.0.q", NULL}, // only one prefix is taken off
        {M "a.q.lora_A.other.weight", LF_PEFT_STRAY, "a.q", NULL},
        {M "wte.lora_embedding_B.other", LF_PEFT_STRAY, "wte", NULL},
        {M "a.q.lora_A.bias", -1, NULL, "unknown kind"}, // not a leftover of an adapter of that name
        {M "a.q.lora_B.weight_scale", -1, NULL, "unknown kind"},
        {M "a.q.lora_A.two.dots.weight", -1, NULL, "unknown kind"},
        {M "a.q.lora_magnitude_vector", LF_PEFT_MAGNITUDE, "a.q", NULL},
        {M "a.q.lora_magnitude_vector.weight", LF_PEFT_MAGNITUDE, "a.q", NULL},
        {M "a.q.lora_magnitude_vector.other", LF_PEFT_STRAY, "a.q", NULL},
        {M "a.q.lora_B.bias", LF_PEFT_B_BIAS, "a.q", NULL},
        {M "a.q.lora_diag", -1, NULL, "KaSA"},
        {M "e.token_adapter.trainable_tokens_delta", LF_PEFT_TOKEN_ROWS, "e", NULL},
        {M "e.token_adapter.base_layer.weight", -1, NULL, "unknown kind"},
        {M "m.base_layer.out_proj.lora_A.weight", LF_PEFT_A, "m.out_proj", NULL},
        {M "m.base_layer.out_proj.base_layer.bias", LF_PEFT_BASE_LAYER, "m.out_proj", "bias"},
        {M "m.base_layer.in_proj_bias", LF_PEFT_BASE_LAYER, "m", "in_proj_bias"},
        {M "m.base_layer.base_layer.lora_A.weight", LF_PEFT_A, "m", NULL},
        {M "m.base_layer.k_proj.lora_A.weight", -1, NULL, "inside another one"},
        {M "lora_A.weight", -1, NULL, "no module"},
        {M "lora_B.weight", -1, NULL, "no module"},
        {M "lora_embedding_A", -1, NULL, "no module"},
        {M ".base_layer.bias", -1, NULL, "no module"},
        {M "m.base_layer.k_proj.weight", -1, NULL, "inside another one"},
        {M "a.q.lora_C.weight", -1, NULL, "unknown kind"},
        {M "weight", -1, NULL, "no module"},
        {"a.q.lora_A.weight", -1, NULL, "prefix"},
        {"lora_unet_down.lora_down.weight", -1, NULL, "kohya"},
        {"lora_unet_down.lora_up.weight", -1, NULL, "kohya"},
        {"lora_unet_down.alpha", -1, NULL, "kohya"},
        {"a.q.lora_B.weight", -1, NULL, "prefix"},
        {M ".weight", -1, NULL, "no module"},
        {M "score.", -1, NULL, "no module"},
        {M ".lora_A.weight", -1, NULL, "no module"},
        {"whatever", -1, NULL, "base_model.model."},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        lf_arena arena = {0};
        lorafmt_error err = {0};
        lf_peft_key key;
        const lorafmt_status st = lf_peft_key_parse(table[i].name, &arena, &key, &err);
        if (table[i].part < 0) {
            assert_int_not_equal(st, LORAFMT_OK);
            assert_string_equal(err.field, table[i].name);
            if (!strstr(err.text, table[i].parameter_or_text))
                fail_msg("%s: '%s' does not say '%s'", table[i].name, err.text, table[i].parameter_or_text);
        } else {
            assert_int_equal(st, LORAFMT_OK);
            assert_int_equal(key.part, table[i].part);
            assert_string_equal(key.module, table[i].module);
            if (table[i].parameter_or_text)
                assert_string_equal(key.parameter, table[i].parameter_or_text);
        }
        lf_arena_free(&arena);
    }
}

#define CONFIG(rest) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4" rest "}"

static void test_config_keys(void **state)
{
    static const struct {
        const char *config;
        lorafmt_status status;
        const char *field, *text;
    } table[] = {
        {CONFIG(""), LORAFMT_OK, "", ""},
        {CONFIG(", \"lora_dropout\": 0.5, \"peft_version\": \"9\", \"loftq_config\": {}"), LORAFMT_OK, "", ""},
        {CONFIG(", \"brand_new\": null, \"newer\": false, \"newest\": [], \"a\": {}, \"b\": 0, \"c\": \"\""), LORAFMT_OK, "", ""},
        {CONFIG(", \"init_lora_weights\": \"gaussian\""), LORAFMT_OK, "", ""},
        {CONFIG(", \"brand_new\": true"), LORAFMT_UNSUPPORTED, "brand_new", "unknown key"},
        {CONFIG(", \"use_dora\": true"), LORAFMT_CORRUPT, M "m.q.lora_A.weight", "no lora_magnitude_vector"},
        {CONFIG(", \"use_dora\": 1"), LORAFMT_CORRUPT, "use_dora", "true or false"},
        {CONFIG(", \"lora_bias\": true"), LORAFMT_CORRUPT, M "m.q.lora_B.weight", "no lora_B.bias"},
        {CONFIG(", \"trainable_token_indices\": [1]"), LORAFMT_CORRUPT, "trainable_token_indices", "the file has none"},
        {CONFIG(", \"trainable_token_indices\": [-1]"), LORAFMT_CORRUPT, "trainable_token_indices", "whole number"},
        {CONFIG(", \"trainable_token_indices\": {\"e\": 1}"), LORAFMT_CORRUPT, "trainable_token_indices", "lists by module"},
        {CONFIG(", \"target_parameters\": [\"m.e\"]"), LORAFMT_OK, "", ""}, // of another module
        {CONFIG(", \"target_parameters\": [\"q.e\"]"), LORAFMT_MISUSE, "m.q", "only the base says"},
        {CONFIG(", \"target_parameters\": \"e\""), LORAFMT_CORRUPT, "target_parameters", "list of names"},
        {CONFIG(", \"layer_replication\": [[0, 2]]"), LORAFMT_UNSUPPORTED, "layer_replication", "stacked anew"},
        {CONFIG(", \"alora_invocation_tokens\": [1]"), LORAFMT_UNSUPPORTED, "alora_invocation_tokens", "cannot be merged"},
        {CONFIG(", \"arrow_config\": {\"a\": 1}"), LORAFMT_UNSUPPORTED, "arrow_config", "cannot be merged"},
        {CONFIG(", \"use_qalora\": true"), LORAFMT_UNSUPPORTED, "use_qalora", "cannot be merged"},
        {CONFIG(", \"use_bdlora\": {\"a\": 1}"), LORAFMT_UNSUPPORTED, "use_bdlora", "BD-LoRA"},
        {CONFIG(", \"kasa_config\": {\"a\": 1}"), LORAFMT_UNSUPPORTED, "kasa_config", "KaSA"},
        {CONFIG(", \"ensure_weight_tying\": true"), LORAFMT_UNSUPPORTED, "ensure_weight_tying", "tied"},
        {CONFIG(", \"init_lora_weights\": \"pissa\""), LORAFMT_UNSUPPORTED, "init_lora_weights", "path_initial_model"},
        {CONFIG(", \"init_lora_weights\": \"pissa_niter_4\""), LORAFMT_UNSUPPORTED, "init_lora_weights", "path_initial_model"},
        {CONFIG(", \"init_lora_weights\": \"olora\""), LORAFMT_UNSUPPORTED, "init_lora_weights", "path_initial_model"},
        {CONFIG(", \"init_lora_weights\": \"loftq\""), LORAFMT_UNSUPPORTED, "init_lora_weights", "path_initial_model"},
        {CONFIG(", \"init_lora_weights\": true"), LORAFMT_OK, "", ""},
        {CONFIG(
             ", \"init_lora_weights\": null, \"bias\": null, \"modules_to_save\": null, \"trainable_token_indices\": null, \"rank_pattern\": null"),
         LORAFMT_OK, "", ""},
        {CONFIG(", \"init_lora_weights\": 1"), LORAFMT_CORRUPT, "init_lora_weights", "true, false or a name"},
        {CONFIG(", \"fan_in_fan_out\": \"yes\""), LORAFMT_CORRUPT, "fan_in_fan_out", "true or false"},
        {CONFIG(", \"fan_in_fan_out\": null"), LORAFMT_OK, "", ""},
        {CONFIG(", \"lora_bias\": []"), LORAFMT_CORRUPT, "lora_bias", "true or false"},
        {CONFIG(", \"bias\": true"), LORAFMT_CORRUPT, "bias", "none, all or lora_only"},
        {CONFIG(", \"modules_to_save\": [1]"), LORAFMT_CORRUPT, "modules_to_save", "list of names"},
        {CONFIG(", \"modules_to_save\": [\"\"]"), LORAFMT_CORRUPT, "modules_to_save", "list of names"},
        {CONFIG(", \"modules_to_save\": []"), LORAFMT_OK, "", ""},
        {CONFIG(", \"trainable_token_indices\": 1"), LORAFMT_CORRUPT, "trainable_token_indices", "list of row numbers"},
        {CONFIG(", \"trainable_token_indices\": [\"1\"]"), LORAFMT_CORRUPT, "trainable_token_indices", "whole number"},
        {CONFIG(", \"trainable_token_indices\": [1.5]"), LORAFMT_CORRUPT, "trainable_token_indices", "whole number"},
        {CONFIG(", \"trainable_token_indices\": [1e300]"), LORAFMT_CORRUPT, "trainable_token_indices", "whole number"},
        {CONFIG(", \"trainable_token_indices\": {\"e\": [1, -1]}"), LORAFMT_CORRUPT, "trainable_token_indices", "whole number"},
        {CONFIG(", \"trainable_token_indices\": {}"), LORAFMT_OK, "", ""},
        {CONFIG(", \"base_model_name_or_path\": 1"), LORAFMT_CORRUPT, "base_model_name_or_path", "null or a text"},
        {CONFIG(", \"base_model_name_or_path\": \"a\\u0001\""), LORAFMT_CORRUPT, "base_model_name_or_path",
         "without control characters"},
        {CONFIG(", \"revision\": [\"main\"]"), LORAFMT_CORRUPT, "revision", "null or a text"},
        {CONFIG(", \"task_type\": true"), LORAFMT_CORRUPT, "task_type", "null or a text"},
        {CONFIG(", \"base_model_name_or_path\": null, \"revision\": \"main\", \"task_type\": \"QUESTION_ANS\""), LORAFMT_OK, "",
         ""},
        {CONFIG(", \"alpha_pattern\": \"q\""), LORAFMT_CORRUPT, "alpha_pattern", "object"},
        {CONFIG(", \"brand_new\": 1"), LORAFMT_UNSUPPORTED, "brand_new", "unknown key"},
        {CONFIG(", \"brand_new\": \"x\""), LORAFMT_UNSUPPORTED, "brand_new", "unknown key"},
        {CONFIG(", \"brand_new\": [0]"), LORAFMT_UNSUPPORTED, "brand_new", "unknown key"},
        {"{\"peft_type\": \"LORA\", \"r\": -1, \"lora_alpha\": 4}", LORAFMT_CORRUPT, "r", "rank -1"},
        {"{\"peft_type\": \"LORA\", \"r\": 1048577, \"lora_alpha\": 4}", LORAFMT_CORRUPT, "r", "1..2^20"},
        {"{\"peft_type\": 1, \"r\": 2, \"lora_alpha\": 4}", LORAFMT_CORRUPT, "peft_type", "LORA"},
        {CONFIG(", \"bias\": \"some\""), LORAFMT_CORRUPT, "bias", "none, all or lora_only"},
        {CONFIG(", \"use_rslora\": 1"), LORAFMT_CORRUPT, "use_rslora", "true or false"},
        {CONFIG(", \"modules_to_save\": \"head\""), LORAFMT_CORRUPT, "modules_to_save", "list"},
        {CONFIG(", \"rank_pattern\": [1]"), LORAFMT_CORRUPT, "rank_pattern", "object"},
        {CONFIG(", \"rank_pattern\": {\"(\": 1}"), LORAFMT_UNSUPPORTED, "rank_pattern", "no regular expression"},
        {CONFIG(", \"alpha_pattern\": {\"q\": \"1\"}"), LORAFMT_CORRUPT, "alpha_pattern", "number"},
        {"{\"peft_type\": \"IA3\", \"r\": 2, \"lora_alpha\": 4}", LORAFMT_UNSUPPORTED, "peft_type", "IA3"},
        {"{\"r\": 2, \"lora_alpha\": 4}", LORAFMT_CORRUPT, "peft_type", "missing"},
        {"{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 4}", LORAFMT_CORRUPT, "r", "rank 0"},
        {"{\"peft_type\": \"LORA\", \"r\": 2.5, \"lora_alpha\": 4}", LORAFMT_CORRUPT, "r", "whole number"},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 4}", LORAFMT_CORRUPT, "r", "number"},
        {"{\"peft_type\": \"LORA\", \"r\": 2}", LORAFMT_CORRUPT, "lora_alpha", "the scale is unknown"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": \"4\"}", LORAFMT_CORRUPT, "lora_alpha", "finite number"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1e999}", LORAFMT_CORRUPT, "lora_alpha", "finite number"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": NaN}", LORAFMT_CORRUPT, "", "NaN"},
        {"[]", LORAFMT_CORRUPT, "", "object"},
    };
    const lf_peft_tensor tensors[] = {tensor(M "m.q.lora_A.weight", 2, 3), tensor(M "m.q.lora_B.weight", 4, 2)};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        imported im;
        import(&im, table[i].config, tensors, 2);
        if (im.status != table[i].status ||
            (im.status && (strcmp(im.err.field, table[i].field) != 0 || !strstr(im.err.text, table[i].text))))
            fail_msg("%s: %s '%s' '%s'", table[i].config, lorafmt_status_name(im.status), im.err.field, im.err.text);
        lf_arena_free(&im.arena);
    }
}

/* The patterns of the reference, section 1.3: `(.*\.)?(KEY)$`, in the order of the file. */
static void test_patterns(void **state)
{
    static const struct {
        const char *patterns, *module;
        double value; // 0: none matches
    } table[] = {
        {"{\"q_proj\": 3}", "model.layers.0.q_proj", 3},
        {"{\"q_proj\": 3}", "q_proj", 3},
        {"{\"q_proj\": 3}", "model.layers.0.eq_proj", 0},
        {"{\"model.layers.0.q_proj\": 3}", "model.layers.0.q_proj", 3},
        {"{\"layers\\\\.[01]\\\\.q\": 3}", "model.layers.1.q", 3},
        {"{\"layers\\\\.[01]\\\\.q\": 3}", "model.layers.2.q", 0},
        {"{\"layers\\\\.\\\\d+\\\\.q\": 3}", "model.layers.12.q", 3},
        {"{\"(q|v)_proj\": 3, \"q_proj\": 4}", "m.q_proj", 3},
        {"{\"v_proj\": 3, \".*q_proj\": 4, \"q_proj\": 5}", "m.q_proj", 4},
        {"{\"^m.q_proj\": 3}", "m.q_proj", 3},
        {"{\"^q_proj\": 3}", "m.q_proj", 0},
        {"{\"a+b\": 3}", "a+b", 3},                 // matches as a key though not as a pattern
        {"{\"m+x.q\": 8, \".*q\": 2}", "m+x.q", 2}, // but patterns come first
        {"{\"layers.0.q\": 3}", "model.layers.0.q", 3},
        {"{\"layers.0.q\": 3}", "model_layers.0.q", 0},
        {"{\"layers.0\": 3}", "layers_0", 3}, // the dot is any character
        {"{\"q_proj\": 3}", "proj", 0},
        {"{\"a.b\": 3}", "m.aéb", 3}, // also one of two bytes
        {"{\"a.b\": 3, \"b\": 4}", "m.a.b", 3},
        {"{\"b\": 4, \"a.b\": 3}", "m.a.b", 4}, // the order of the file decides
        {"{\"a..c\": 3, \"abbc\": 4}", "abbc", 3},
        {"{\"abbd\": 4, \"a..c\": 3, \".b.c\": 5}", "abbc", 3},
        {"{\"(x)\": 1, \"q\": 3, \"q+\": 4}", "m.q", 3},
        {"{\".\": 3}", "é", 3},
        {"{\".\": 3}", "ab", 0},
        {"{\"\": 3}", "m.", 3},
        {"{\"\\\\w+_q\": 3}", "m.é_q", 3},
        {"{}", "q", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        lorafmt_error err = {0};
        lf_peft_patterns *patterns;
        cJSON *json;
        double value = 0;
        assert_int_equal(lf_json_parse(table[i].patterns, strlen(table[i].patterns), 0, &json, &err), LORAFMT_OK);
        assert_int_equal(lf_peft_patterns_parse(json, "rank_pattern", 1, &patterns, &err), LORAFMT_OK);
        assert_int_equal(lf_peft_patterns_find(patterns, table[i].module, &value, &err), LORAFMT_OK);
        if (value != table[i].value)
            fail_msg("%s on %s gives %g", table[i].patterns, table[i].module, value);
        lf_peft_patterns_free(patterns);
        cJSON_Delete(json);
    }
}

/* What PCRE2 reads in another way than Python's re does. */
static void test_foreign_patterns_are_refused(void **state)
{
    static const char *const keys[] = {"a{,3}",   "a\\\\Kb", "\\\\Qa.b\\\\E", "a\\\\Rb",  "[[:alpha:]]", "[a[=b=]]",
                                       "(*UCP)a", "(?i)a",   "(?>a)",         "(?P<x>a)", "(a)\\\\1",    "a\\\\x41"};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char text[64];
        lorafmt_error err = {0};
        lf_peft_patterns *patterns;
        cJSON *json;
        snprintf(text, sizeof text, "{\"%s\": 3}", keys[i]);
        assert_int_equal(lf_json_parse(text, strlen(text), 0, &json, &err), LORAFMT_OK);
        if (lf_peft_patterns_parse(json, "rank_pattern", 1, &patterns, &err) != LORAFMT_UNSUPPORTED)
            fail_msg("%s is taken", text);
        cJSON_Delete(json);
    }
}

static void test_too_many_matches_are_refused(void **state)
{
    static const char text[] = "{\"a+\": 3, \"b+\": 4}";
    lorafmt_error err = {0};
    lf_peft_patterns *patterns;
    cJSON *json;
    (void)state;
    assert_int_equal(lf_json_parse(text, sizeof text - 1, 0, &json, &err), LORAFMT_OK);
    assert_int_equal(lf_peft_patterns_parse(json, "rank_pattern", (1 << 16) + 1, &patterns, &err), LORAFMT_LIMIT);
    cJSON_Delete(json);
}

static void test_hostile_pattern_is_stopped(void **state)
{
    static const char text[] = "{\"(a|aa)+(b|d)\": 3}";
    lorafmt_error err = {0};
    lf_peft_patterns *patterns;
    cJSON *json;
    double value;
    (void)state;
    assert_int_equal(lf_json_parse(text, sizeof text - 1, 0, &json, &err), LORAFMT_OK);
    assert_int_equal(lf_peft_patterns_parse(json, "rank_pattern", 1, &patterns, &err), LORAFMT_OK);
    assert_int_equal(lf_peft_patterns_find(patterns, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", &value, &err),
                     LORAFMT_LIMIT);
    lf_peft_patterns_free(patterns);
    cJSON_Delete(json);
}

static void test_sites(void **state)
{
    static const char config[] =
        CONFIG(", \"use_rslora\": true, \"fan_in_fan_out\": true, \"bias\": \"all\", \"modules_to_save\": [\"head\"], "
               "\"rank_pattern\": {\"v\": 1}, \"alpha_pattern\": {\"v\": -3.5}, \"base_model_name_or_path\": \"org/name\", "
               "\"revision\": null");
    const lf_peft_tensor tensors[] = {
        tensor(M "m.v.lora_A.weight", 1, 3),       tensor(M "m.v.lora_B.weight", 4, 1),
        tensor(M "m.q.lora_A.weight", 2, 3),       tensor(M "m.q.lora_B.weight", 4, 2),
        tensor(M "e.lora_embedding_A", 2, 7),      tensor(M "e.lora_embedding_B", 3, 2),
        tensor(M "m.q.base_layer.bias", 4, 0),     tensor(M "norm.bias", 4, 0),
        tensor(M "my_head.weight", 2, 3),          tensor(M "e.base_layer.weight", 7, 3),
        tensor(M "m.q.lora_A.other.weight", 2, 3),
    };
    static const struct {
        const char *target;
        unsigned kind, rank;
        double alpha, scale;
    } wanted[] = {
        {"e.weight", LORAFMT_KIND_REPLACEMENT, 0, 0, 1},    {"e.weight", LORAFMT_KIND_EMBEDDING, 2, 4, 0},
        {"m.q.bias", LORAFMT_KIND_REPLACEMENT, 0, 0, 1},    {"m.q.weight", LORAFMT_KIND_LINEAR, 2, 4, 0},
        {"m.v.weight", LORAFMT_KIND_LINEAR, 1, -3.5, -3.5}, {"my_head.weight", LORAFMT_KIND_SAVED, 0, 0, 1},
        {"norm.bias", LORAFMT_KIND_REPLACEMENT, 0, 0, 1},
    };
    imported im;
    (void)state;
    import(&im, config, tensors, sizeof tensors / sizeof tensors[0]);
    assert_int_equal(im.status, LORAFMT_OK);
    assert_string_equal(im.adapter.base_name, "org/name");
    assert_int_equal(im.adapter.n_sites, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < im.adapter.n_sites; i++) {
        const lorafmt_site *s = &im.adapter.sites[i];
        assert_string_equal(s->target, wanted[i].target);
        assert_int_equal(s->kind, wanted[i].kind);
        assert_int_equal(s->rank, wanted[i].rank);
        assert_true(s->alpha == wanted[i].alpha);
        assert_true(s->scale == (wanted[i].scale != 0 ? wanted[i].scale : 4 / sqrt(2)));
        assert_int_equal(s->orientation,
                         s->kind == LORAFMT_KIND_LINEAR ? LORAFMT_IN_OUT : LORAFMT_OUT_IN); // never for embeddings
    }
    assert_int_equal(im.notes.n, 1);
    assert_non_null(strstr(im.notes.text[0], "m.q.lora_A.other.weight"));
    lf_arena_free(&im.arena);
}

static void test_bad_tensors(void **state)
{
    static const struct {
        const char *config, *names[2];
        uint64_t shapes[2][2];
        lorafmt_status status;
        const char *text;
    } table[] = {
        {CONFIG(""), {M "q.lora_A.weight", NULL}, {{2, 3}}, LORAFMT_CORRUPT, "lora_B is missing"},
        {CONFIG(""), {M "q.lora_B.weight", NULL}, {{4, 2}}, LORAFMT_CORRUPT, "lora_A is missing"},
        {CONFIG(""),
         {M "q.lora_A.weight", M "q.lora_embedding_B"},
         {{2, 3}, {4, 2}},
         LORAFMT_CORRUPT,
         "an embedding and of another layer"},
        {CONFIG(""), {M "q.lora_A.weight", M "q.lora_B.weight"}, {{2, 3}, {4, 3}}, LORAFMT_CORRUPT, "rank 2 and B has rank 3"},
        {CONFIG(""), {M "q.lora_A.weight", M "q.lora_B.weight"}, {{3, 3}, {4, 3}}, LORAFMT_CORRUPT, "the config gives rank 2"},
        {CONFIG(""), {M "q.lora_A.weight", M "q.lora_B.weight"}, {{2, 0}, {4, 2}}, LORAFMT_CORRUPT, "both must have 2"},
        {CONFIG(""), {M "q.bias", M "q.weight"}, {{2, 0}, {4, 2}}, LORAFMT_UNSUPPORTED, "bias none"},
        {CONFIG(""), {M "q.base_layer.weight", NULL}, {{2, 3}}, LORAFMT_CORRUPT, "0 wrappers"},
        {CONFIG(""), {M "q.lora_A.b.weight", NULL}, {{2, 3}}, LORAFMT_CORRUPT, "lora_B is missing"}, // its own name, then
        {CONFIG(""),
         {M "q.lora_A.b.weight", M "q.lora_B.c.weight"},
         {{2, 3}, {4, 2}},
         LORAFMT_UNSUPPORTED,
         "name within the key"},
        {CONFIG(""), {M "q.lora_A.weight", M "_orig_mod.q.lora_A.weight"}, {{2, 3}, {2, 3}}, LORAFMT_CORRUPT, "two tensors"},
        {CONFIG(""),
         {M "module.module.q.lora_A.weight", M "module.module.q.lora_B.weight"},
         {{2, 3}, {4, 2}},
         LORAFMT_UNSUPPORTED,
         "twice"},
        {CONFIG(""), {NULL, NULL}, {{0}}, LORAFMT_CORRUPT, "the adapter is empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        lf_peft_tensor tensors[2];
        size_t n = 0;
        imported im;
        for (; n < 2 && table[i].names[n]; n++)
            tensors[n] = tensor(table[i].names[n], table[i].shapes[n][0], table[i].shapes[n][1]);
        import(&im, table[i].config, tensors, n);
        assert_int_equal(im.status, table[i].status);
        if (!strstr(im.err.text, table[i].text))
            fail_msg("case %zu: '%s' does not say '%s'", i, im.err.text, table[i].text);
        lf_arena_free(&im.arena);
    }
}

static void test_empty_tensor_names_its_cause(void **state)
{
    lf_peft_tensor tensors[] = {tensor(M "q.lora_A.weight", 2, 3), tensor(M "q.lora_B.weight", 4, 2)};
    imported im;
    (void)state;
    tensors[0].tensor.shape[1] = 0;
    tensors[0].tensor.size = 0;
    import(&im, CONFIG(""), tensors, 2);
    assert_int_equal(im.status, LORAFMT_CORRUPT);
    assert_non_null(strstr(im.err.text, "ZeRO-3"));
    lf_arena_free(&im.arena);
}

/* The config comes back to the byte; without one, or with one that lies, a config is derived that says the same. */
static void test_export(void **state)
{
    static const char config[] =
        CONFIG(", \"bias\": \"lora_only\",\n \"modules_to_save\": [\"head\"], \"task_type\": \"CAUSAL_LM\", "
               "\"rank_pattern\": {\"v\": 1}, \"fan_in_fan_out\": true");
    const lf_peft_tensor tensors[] = {
        tensor(M "m.v.lora_A.weight", 1, 3),   tensor(M "m.v.lora_B.weight", 4, 1),  tensor(M "m.q.lora_A.weight", 2, 3),
        tensor(M "m.q.lora_B.weight", 4, 2),   tensor(M "e.lora_embedding_A", 2, 7), tensor(M "e.lora_embedding_B", 3, 2),
        tensor(M "m.q.base_layer.bias", 4, 0), tensor(M "head.weight", 2, 3),
    };
    const size_t n = sizeof tensors / sizeof tensors[0];
    (void)state;
    for (int derived = 0; derived < 3; derived++) {
        imported im, again;
        lf_peft_tensor *out;
        const char *text;
        size_t n_out;
        lorafmt_site *sites;
        import(&im, config, tensors, n);
        assert_int_equal(im.status, LORAFMT_OK);
        if (derived == 1)
            im.adapter.n_metadata = 0;
        if (derived == 2) { // another scale than the config says
            sites = lf_arena_alloc(&im.arena, im.adapter.n_sites, sizeof *sites);
            memcpy(sites, im.adapter.sites, im.adapter.n_sites * sizeof *sites);
            for (size_t i = 0; i < im.adapter.n_sites; i++)
                if (strcmp(sites[i].target, "m.v.weight") == 0) {
                    sites[i].alpha = sites[i].scale = 0.375;
                    sites[i].scaling = LORAFMT_SCALING_EXPLICIT;
                }
            im.adapter.sites = sites;
        }
        assert_int_equal(lf_peft_export(&im.adapter, &im.arena, &text, &out, &n_out, &im.err), LORAFMT_OK);
        assert_int_equal(n_out, n);
        if (!derived)
            assert_string_equal(text, config);
        else
            assert_string_not_equal(text, config);
        import(&again, text, out, n_out);
        assert_int_equal(again.status, LORAFMT_OK);
        for (size_t i = 0; i < again.adapter.n_sites; i++) {
            const lorafmt_site *a = &im.adapter.sites[i], *b = &again.adapter.sites[i];
            assert_string_equal(a->target, b->target);
            assert_int_equal(a->kind, b->kind);
            assert_true(a->scale == b->scale);
            assert_int_equal(a->orientation, b->orientation);
        }
        for (size_t i = 0; i < n; i++) { // the same names
            size_t found = 0;
            for (size_t j = 0; j < n_out; j++)
                found += strcmp(tensors[i].name, out[j].name) == 0;
            assert_int_equal(found, 1);
        }
        if (derived == 2)
            assert_non_null(strstr(text, "CAUSAL_LM")); // what was known of training is kept
        lf_arena_free(&again.arena);
        lf_arena_free(&im.arena);
    }
}

/* One module's path is the end of another's: the pattern must say which. And a square of unknown orientation stays unknown. */
static void test_export_of_overlapping_names(void **state)
{
    lf_arena arena = {0};
    lorafmt_factor f[3][2];
    lorafmt_site sites[] = {test_low_rank("layers.0.q.weight", LORAFMT_KIND_LINEAR, 3, 3, 2, data, data, f[0]),
                            test_low_rank("model.k.weight", LORAFMT_KIND_LINEAR, 2, 3, 2, data, data, f[2]),
                            test_low_rank("model.layers.0.q.weight", LORAFMT_KIND_LINEAR, 2, 3, 2, data, data, f[1])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 3);
    lorafmt_error err = {0};
    lf_peft_tensor *out;
    const char *text;
    size_t n_out;
    (void)state;
    assert_int_equal(lf_peft_export(&adapter, &arena, &text, &out, &n_out, &err), LORAFMT_OK);
    assert_non_null(strstr(text, "^layers\\\\.0\\\\.q"));
    sites[0] = test_low_rank("layers.0.q.weight", LORAFMT_KIND_LINEAR, 3, 3, 3, data, data, f[0]);
    sites[0].orientation = LORAFMT_BY_SHAPE;
    assert_int_equal(lf_peft_export(&adapter, &arena, &text, &out, &n_out, &err), LORAFMT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "square"));
    lf_arena_free(&arena);
}

static char *many(const char *before, const char *item, size_t n, const char *after)
{
    char *text = malloc(strlen(before) + n * (strlen(item) + 16) + strlen(after) + 1), *to = text;

    to += sprintf(to, "%s", before);
    for (size_t i = 0; i < n; i++)
        to += sprintf(to, "%s", i ? "," : ""), to += sprintf(to, item, i);
    sprintf(to, "%s", after);
    return text;
}

/* What a config from a stranger may cost: many patterns, large ones, many names. */
static void test_limits(void **state)
{
    static const struct {
        const char *before, *item, *after;
        size_t n;
        lorafmt_status status;
    } table[] = {
        {", \"rank_pattern\": {", "\"a.b%zu\": 2", "}", 2000, LORAFMT_OK}, // EVA writes one for each module
        {", \"rank_pattern\": {", "\"a*b%zu\": 2", "}", 256, LORAFMT_OK},
        {", \"rank_pattern\": {", "\"a*b%zu\": 2", "}", 257, LORAFMT_LIMIT},
        {", \"rank_pattern\": {", "\"(abcdefgh){1000}%zu\": 2", "}", 250, LORAFMT_LIMIT},
        {", \"modules_to_save\": [", "\"m%zu\"", "]", 1024, LORAFMT_OK},
        {", \"modules_to_save\": [", "\"m%zu\"", "]", 1025, LORAFMT_LIMIT},
    };
    const lf_peft_tensor tensors[] = {tensor(M "m.q.lora_A.weight", 2, 3), tensor(M "m.q.lora_B.weight", 4, 2)};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char *list = many(table[i].before, table[i].item, table[i].n, table[i].after);
        char *config = malloc(sizeof CONFIG("") + strlen(list));
        imported im;
        sprintf(config, CONFIG("%s"), list);
        import(&im, config, tensors, 2);
        if (im.status != table[i].status)
            fail_msg("case %zu: %s %s", i, lorafmt_status_name(im.status), im.err.text);
        lf_arena_free(&im.arena);
        free(config);
        free(list);
    }
}

static void test_export_refuses_what_peft_cannot_say(void **state)
{
    lf_arena arena = {0};
    lorafmt_factor f[2][2];
    lorafmt_site sites[] = {test_low_rank("a.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, data, data, f[0]),
                            test_low_rank("b.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, data, data, f[1])};
    const lorafmt_adapter adapter = test_adapter("x", sites, 2);
    lorafmt_error err = {0};
    lf_peft_tensor *out;
    const char *text;
    size_t n_out;
    (void)state;
    sites[0].orientation = LORAFMT_IN_OUT; // one flag for the whole config
    assert_int_equal(lf_peft_export(&adapter, &arena, &text, &out, &n_out, &err), LORAFMT_UNSUPPORTED);
    sites[0].orientation = LORAFMT_OUT_IN;
    sites[1].flags = LORAFMT_SITE_ROW_RANGE;
    assert_int_equal(lf_peft_export(&adapter, &arena, &text, &out, &n_out, &err), LORAFMT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "a range"));
    sites[1] = test_whole("b.bias", LORAFMT_KIND_ADDITIVE, test_tensor(LORAFMT_F32, 2, 0, data), f[1]);
    assert_int_equal(lf_peft_export(&adapter, &arena, &text, &out, &n_out, &err), LORAFMT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "not the bias of an adapted layer"));
    lf_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_config_keys),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_foreign_patterns_are_refused),
        cmocka_unit_test(test_too_many_matches_are_refused),
        cmocka_unit_test(test_hostile_pattern_is_stopped),
        cmocka_unit_test(test_sites),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_empty_tensor_names_its_cause),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_export_of_overlapping_names),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_export_refuses_what_peft_cannot_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
