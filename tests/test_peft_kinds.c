/* SPDX-License-Identifier: MIT */
/* Kinds of PEFT adapters other than plain matrices, each there and back; expected values from the text of PEFT's semantics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/bytes.h"
#include "lib/dialect/peft.h"
#include "tests/adapters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define M "base_model.model."
#define CONFIG(rest) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4" rest "}"
#define MAX_TENSORS 8

static float data[256];

static lf_peft_tensor tensor(const char *name, uint32_t n_dims, const uint64_t *shape)
{
    lorafmt_tensor t = {.dtype = LORAFMT_F32, .n_dims = n_dims, .data = data};
    memcpy(t.shape, shape, n_dims * sizeof *shape);
    assert_true(lf_tensor_measure(t.dtype, t.n_dims, t.shape, &t.size) && t.size <= sizeof data);
    return (lf_peft_tensor){name, t};
}

#define T(name, n, ...) tensor(M name, n, (const uint64_t[]){__VA_ARGS__})

typedef struct imported {
    lf_arena arena;
    lf_notes notes;
    lorafmt_adapter adapter;
    lorafmt_error err;
    lorafmt_status status;
} imported;

static const lorafmt_base no_base = {.struct_size = sizeof no_base};

static void import(imported *out, const char *config, const lf_peft_tensor *tensors, size_t n, const lorafmt_base *base,
                   const lorafmt_orientation *orientation)
{
    const lf_peft_input in = {.config_text = config,
                              .config_size = strlen(config),
                              .tensors = tensors,
                              .n_tensors = n,
                              .name = "x",
                              .base = base,
                              .orientation = orientation};
    memset(out, 0, sizeof *out);
    out->status = lf_peft_import(&in, &out->arena, &out->adapter, &out->notes, &out->err);
}

static void import_good(imported *out, const char *config, const lf_peft_tensor *tensors, size_t n, const lorafmt_base *base)
{
    import(out, config, tensors, n, base, NULL);
    if (out->status)
        fail_msg("%s: %s", out->err.field, out->err.text);
}

/* Refused, and why. */
static void import_bad(const char *config, const lf_peft_tensor *tensors, size_t n, const lorafmt_base *base,
                       lorafmt_status status, const char *text)
{
    imported im;
    import(&im, config, tensors, n, base, NULL);
    if (im.status != status || !strstr(im.err.text, text))
        fail_msg("%s '%s', not %s '%s'", lorafmt_status_name(im.status), im.err.text, lorafmt_status_name(status), text);
    lf_arena_free(&im.arena);
}

/* Export: the same config, the same names, the same bytes; without the old config, one that imports as the same sites. */
static void check_round_trip(imported *im, const char *config, const lf_peft_tensor *tensors, size_t n, const lorafmt_base *base)
{
    const lorafmt_orientation orientation = (lorafmt_orientation)im->adapter.sites[0].orientation;
    lf_peft_tensor *out;
    const char *text;
    size_t n_out;
    imported again;

    if (lf_peft_export(&im->adapter, &im->arena, &text, &out, &n_out, &im->err))
        fail_msg("%s: %s", im->err.field, im->err.text);
    assert_string_equal(text, config);
    assert_int_equal(n_out, n);
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < n && strcmp(out[k].name, tensors[i].name) != 0)
            k++;
        assert_true(k < n);
        assert_true(lf_tensor_same_type(&out[k].tensor, &tensors[i].tensor));
        assert_memory_equal(out[k].tensor.data, tensors[i].tensor.data, tensors[i].tensor.size);
    }
    for (size_t i = 0; i < im->adapter.n_metadata; i++) // as an adapter that never was PEFT's
        if (strcmp(im->adapter.metadata[i].key, LF_PEFT_CONFIG_KEY) == 0)
            ((lorafmt_metadata *)(uintptr_t)im->adapter.metadata)[i].key = "another";
    if (lf_peft_export(&im->adapter, &im->arena, &text, &out, &n_out, &im->err))
        fail_msg("derived config: %s: %s", im->err.field, im->err.text);
    import(&again, text, out, n_out, base, &orientation);
    assert_int_equal(again.status, LORAFMT_OK);
    assert_int_equal(again.adapter.n_sites, im->adapter.n_sites);
    lf_arena_free(&again.arena);
}

static const lorafmt_site *site_of(const imported *im, const char *target, unsigned kind)
{
    for (size_t i = 0; i < im->adapter.n_sites; i++)
        if (strcmp(im->adapter.sites[i].target, target) == 0 && im->adapter.sites[i].kind == kind)
            return &im->adapter.sites[i];
    fail_msg("no site of kind %u on %s", kind, target);
    return NULL;
}

static void test_convolutions(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("c1.lora_A.weight", 3, 2, 3, 5),    T("c1.lora_B.weight", 3, 4, 2, 1),       T("c2.lora_A.weight", 4, 2, 3, 3, 3),
        T("c2.lora_B.weight", 4, 4, 2, 1, 1), T("c3.lora_A.weight", 5, 2, 2, 1, 2, 2), T("c3.lora_B.weight", 5, 4, 2, 1, 1, 1),
    };
    static const char config[] = CONFIG(", \"fan_in_fan_out\": true");
    imported im;
    (void)state;
    import_good(&im, config, tensors, 6, NULL);
    assert_int_equal(site_of(&im, "c1.weight", LORAFMT_KIND_CONV1D)->rank, 2);
    assert_int_equal(site_of(&im, "c2.weight", LORAFMT_KIND_CONV2D)->orientation,
                     LORAFMT_OUT_IN); // fan_in_fan_out is for matrices
    assert_true(site_of(&im, "c3.weight", LORAFMT_KIND_CONV3D)->scale == 2);
    check_round_trip(&im, config, tensors, 6, NULL);
    lf_arena_free(&im.arena);
}

static void test_grouped_convolution_is_refused(void **state)
{
    const lf_peft_tensor tensors[] = {T("c.lora_A.weight", 4, 2, 3, 1, 1), T("c.lora_B.weight", 4, 4, 1, 1, 1)};
    (void)state;
    import_bad(CONFIG(""), tensors, 2, NULL, LORAFMT_UNSUPPORTED, "grouped convolution");
}

static void test_dora(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("q.lora_A.weight", 2, 2, 3),    T("q.lora_B.weight", 2, 4, 2),    T("q.lora_magnitude_vector", 1, 4),
        T("e.lora_embedding_A", 2, 2, 7), T("e.lora_embedding_B", 2, 3, 2), T("e.lora_magnitude_vector", 1, 3),
    };
    static const char config[] = CONFIG(", \"use_dora\": true");
    imported im;
    (void)state;
    import_good(&im, config, tensors, 6, NULL);
    assert_non_null(lorafmt_site_factor(site_of(&im, "q.weight", LORAFMT_KIND_LINEAR), LORAFMT_ROLE_MAGNITUDE));
    assert_non_null(lorafmt_site_factor(site_of(&im, "e.weight", LORAFMT_KIND_EMBEDDING), LORAFMT_ROLE_MAGNITUDE));
    check_round_trip(&im, config, tensors, 6, NULL);
    lf_arena_free(&im.arena);
    import_bad(CONFIG(""), tensors, 6, NULL, LORAFMT_UNSUPPORTED, "no use_dora");
    import_bad(config, tensors, 5, NULL, LORAFMT_CORRUPT, "no lora_magnitude_vector");
}

static void test_lora_bias(void **state)
{
    const lf_peft_tensor tensors[] = {T("q.lora_A.weight", 2, 2, 3), T("q.lora_B.weight", 2, 4, 2), T("q.lora_B.bias", 1, 4)};
    static const char config[] = CONFIG(", \"lora_bias\": true");
    const lorafmt_site *site;
    imported im;
    (void)state;
    import_good(&im, config, tensors, 3, NULL);
    site = site_of(&im, "q.bias", LORAFMT_KIND_ADDITIVE);
    assert_int_equal(site->scaling, LORAFMT_SCALING_EXPLICIT);
    assert_true(site->scale == 2); // alpha / r, as for the weight
    check_round_trip(&im, config, tensors, 3, NULL);
    lf_arena_free(&im.arena);
    import_bad(CONFIG(""), tensors, 3, NULL, LORAFMT_UNSUPPORTED, "no lora_bias");
}

/* Rows come in the order of the config's list, and are kept in ascending order. */
static void test_token_rows(void **state)
{
    const lf_peft_tensor tensors[] = {T("q.lora_A.weight", 2, 2, 3), T("q.lora_B.weight", 2, 4, 2),
                                      T("m.embed_tokens.token_adapter.trainable_tokens_delta", 2, 3, 2)};
    static const char *const configs[] = {CONFIG(", \"trainable_token_indices\": [17, 2, 5]"),
                                          CONFIG(", \"trainable_token_indices\": {\"embed_tokens\": [17, 2, 5]}")};
    static const uint64_t sorted[] = {2, 5, 17}, place[] = {1, 2, 0};
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        const lorafmt_tensor *rows, *row_index;
        imported im;
        import_good(&im, configs[c], tensors, 3, NULL);
        rows = &lorafmt_site_factor(site_of(&im, "m.embed_tokens.weight", LORAFMT_KIND_ROWS), LORAFMT_ROLE_VALUE)->tensor;
        row_index =
            &lorafmt_site_factor(site_of(&im, "m.embed_tokens.weight", LORAFMT_KIND_ROWS), LORAFMT_ROLE_ROW_INDEX)->tensor;
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(lf_load_u64le((const uint8_t *)row_index->data + 8 * i), sorted[i]);
            assert_memory_equal((const float *)rows->data + 2 * i, data + 2 * place[i], 2 * sizeof(float));
        }
        check_round_trip(&im, configs[c], tensors, 3, NULL);
        lf_arena_free(&im.arena);
    }
    import_bad(CONFIG(""), tensors, 3, NULL, LORAFMT_UNSUPPORTED, "no trainable_token_indices");
    import_bad(CONFIG(", \"trainable_token_indices\": [1, 2]"), tensors, 3, NULL, LORAFMT_CORRUPT,
               "lists 2 rows, the tensor has 3");
    import_bad(CONFIG(", \"trainable_token_indices\": [1, 2, 1]"), tensors, 3, NULL, LORAFMT_CORRUPT, "row 1 twice");
    import_bad(CONFIG(", \"trainable_token_indices\": {\"lm_head\": [1, 2, 3]}"), tensors, 3, NULL, LORAFMT_UNSUPPORTED,
               "no trainable_token_indices");
}

static void test_attention(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("a.attn.lora_A.weight", 2, 3, 4),
        T("a.attn.lora_B.weight", 2, 12, 3),
        T("a.attn.base_layer.out_proj.lora_A.weight", 2, 3, 4),
        T("a.attn.base_layer.out_proj.lora_B.weight", 2, 4, 3),
        T("a.attn.base_layer.in_proj_bias", 1, 12),
        T("a.attn.base_layer.out_proj.base_layer.bias", 1, 4),
    };
    static const char config[] = CONFIG(", \"bias\": \"all\", \"rank_pattern\": {\"attn\": 3}");
    const lorafmt_site *out_proj;
    imported im;
    (void)state;
    import_good(&im, config, tensors, 6, NULL);
    assert_int_equal(im.adapter.n_sites, 4);
    assert_true(site_of(&im, "a.attn.in_proj_weight", LORAFMT_KIND_LINEAR)->scale == 4.0 / 3);
    out_proj = site_of(&im, "a.attn.out_proj.weight", LORAFMT_KIND_LINEAR);
    assert_true(out_proj->flags & LORAFMT_SITE_DOUBLED); // PEFT adds it twice, in training too
    assert_true(out_proj->scale == 2 * (4.0 / 3));
    site_of(&im, "a.attn.in_proj_bias", LORAFMT_KIND_REPLACEMENT);
    site_of(&im, "a.attn.out_proj.bias", LORAFMT_KIND_REPLACEMENT);
    check_round_trip(&im, config, tensors, 6, NULL);
    lf_arena_free(&im.arena);
}

/* --- experts --- */

#define EXPERTS ", \"target_parameters\": [\"mlp.experts.down_proj\", \"mlp.experts.gate_up_proj\"]"

static lorafmt_base_tensor base_tensor(const char *name, uint64_t experts, uint64_t rows, uint64_t cols)
{
    return (lorafmt_base_tensor){.name = name, .dtype = LORAFMT_F32, .n_dims = 3, .shape = {experts, rows, cols}};
}

static lorafmt_base base_of(const lorafmt_base_tensor *tensors, size_t n)
{
    return (lorafmt_base){.struct_size = sizeof(lorafmt_base), .n_tensors = n, .tensors = tensors};
}

/* Element [e·out + o, ρ] of ours is element [o, ρ·E + e] of PEFT's B. */
static void check_expert_b(const lorafmt_site *site, uint64_t n_experts, uint64_t out)
{
    const lorafmt_tensor *b = &lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor;
    assert_int_equal(b->shape[0], n_experts * out);
    assert_int_equal(b->shape[1], site->rank);
    for (uint64_t e = 0; e < n_experts; e++)
        for (uint64_t o = 0; o < out; o++)
            for (uint64_t p = 0; p < site->rank; p++)
                assert_true(((const float *)b->data)[(e * out + o) * site->rank + p] ==
                            data[o * site->rank * n_experts + p * n_experts + e]);
}

/* 3 experts: gate_up [3, 6, 5] and down [3, 5, 4], as PEFT has written them since 0.19. */
static void test_experts(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("l.mlp.experts.base_layer.lora_A.weight", 2, 6, 5),
        T("l.mlp.experts.base_layer.lora_B.weight", 2, 6, 6),
        T("l.mlp.experts.lora_A.weight", 2, 6, 4),
        T("l.mlp.experts.lora_B.weight", 2, 5, 6),
        T("l.q.lora_A.weight", 2, 2, 5),
        T("l.q.lora_B.weight", 2, 5, 2),
    };
    // the file lacks the `model.` that the tree had at training time, or has it where the adapter has not
    static const char *const prefixes[] = {"", "model."};
    static const char config[] = CONFIG(EXPERTS ", \"alpha_pattern\": {\"experts.gate_up_proj\": 5}");
    (void)state;
    for (size_t p = 0; p < 2; p++) {
        char names[2][64];
        lorafmt_base_tensor there[] = {base_tensor(names[0], 3, 5, 4), base_tensor(names[1], 3, 6, 5)};
        const lorafmt_base base = base_of(there, 2);
        const lorafmt_site *gate, *down;
        imported im;
        snprintf(names[0], sizeof names[0], "%sl.mlp.experts.down_proj", prefixes[p]);
        snprintf(names[1], sizeof names[1], "%sl.mlp.experts.gate_up_proj", prefixes[p]);
        import_good(&im, config, tensors, 6, &base);
        gate = site_of(&im, "l.mlp.experts.gate_up_proj", LORAFMT_KIND_EXPERTS);
        down = site_of(&im, "l.mlp.experts.down_proj", LORAFMT_KIND_EXPERTS);
        assert_int_equal(gate->rank, 2);
        assert_true(gate->scale == 2.5 && down->scale == 2);
        assert_int_equal(gate->orientation, LORAFMT_OUT_IN);
        check_expert_b(gate, 3, 6);
        check_expert_b(down, 3, 5);
        assert_string_equal(lf_peft_metadata(&im.adapter, LF_PEFT_ORDER_KEY), "gate_up_proj down_proj"); // innermost first
        check_round_trip(&im, config, tensors, 6, &base);
        lf_arena_free(&im.arena);
    }
}

/* PEFT before 0.19 took [3, 6, 5] for in x out; so does a base that stores its experts transposed. */
static void test_experts_of_the_other_generation(void **state)
{
    const lf_peft_tensor tensors[] = {T("mlp.experts.lora_A.weight", 2, 6, 6), T("mlp.experts.lora_B.weight", 2, 5, 6)};
    static const char config[] = CONFIG(EXPERTS ", \"peft_version\": \"0.18.1\"");
    lorafmt_base_tensor there[] = {base_tensor("mlp.experts.gate_up_proj", 3, 6, 5)};
    const lorafmt_base base = base_of(there, 1);
    imported im;
    (void)state;
    import_good(&im, config, tensors, 2, &base);
    assert_int_equal(site_of(&im, "mlp.experts.gate_up_proj", LORAFMT_KIND_EXPERTS)->orientation, LORAFMT_IN_OUT);
    check_expert_b(site_of(&im, "mlp.experts.gate_up_proj", LORAFMT_KIND_EXPERTS), 3, 5);
    check_round_trip(&im, config, tensors, 2, &base);
    lf_arena_free(&im.arena);
}

static void test_square_experts(void **state)
{
    static const lorafmt_orientation out_in = LORAFMT_OUT_IN;
    const lf_peft_tensor tensors[] = {T("mlp.experts.lora_A.weight", 2, 6, 5), T("mlp.experts.lora_B.weight", 2, 5, 6)};
    lorafmt_base_tensor there[] = {base_tensor("mlp.experts.down_proj", 3, 5, 5)};
    const lorafmt_base base = base_of(there, 1);
    imported im;
    (void)state;
    import_bad(CONFIG(EXPERTS), tensors, 2, &base, LORAFMT_UNSUPPORTED, "stored either way");
    import_bad(CONFIG(EXPERTS ", \"peft_version\": \"0.19.1\""), tensors, 2, &base, LORAFMT_UNSUPPORTED, "stored either way");
    import_good(&im, CONFIG(EXPERTS ", \"peft_version\": \"0.18.0\""), tensors, 2, &base);
    assert_int_equal(im.adapter.sites[0].orientation, LORAFMT_IN_OUT);
    lf_arena_free(&im.arena);
    import(&im, CONFIG(EXPERTS), tensors, 2, &base, &out_in);
    assert_int_equal(im.status, LORAFMT_OK);
    assert_int_equal(im.adapter.sites[0].orientation, LORAFMT_OUT_IN);
    check_round_trip(&im, CONFIG(EXPERTS), tensors, 2, &base);
    lf_arena_free(&im.arena);
}

static void test_experts_that_do_not_tell(void **state)
{
    const lf_peft_tensor two[] = {
        T("mlp.experts.base_layer.lora_A.weight", 2, 6, 5),
        T("mlp.experts.base_layer.lora_B.weight", 2, 4, 6),
        T("mlp.experts.lora_A.weight", 2, 6, 5),
        T("mlp.experts.lora_B.weight", 2, 4, 6),
    };
    lorafmt_base_tensor alike[] = {base_tensor("mlp.experts.down_proj", 3, 4, 5),
                                   base_tensor("mlp.experts.gate_up_proj", 3, 4, 5)};
    lorafmt_base_tensor one[] = {base_tensor("mlp.experts.down_proj", 3, 4, 5)};
    lorafmt_base_tensor other[] = {base_tensor("mlp.experts.down_proj", 3, 4, 5),
                                   base_tensor("mlp.experts.gate_up_proj", 3, 4, 6)};
    lorafmt_base_tensor twice[] = {base_tensor("a.mlp.experts.down_proj", 3, 4, 5),
                                   base_tensor("b.mlp.experts.down_proj", 3, 4, 5)};
    lorafmt_base base;
    (void)state;
    import_bad(CONFIG(EXPERTS), two, 4, NULL, LORAFMT_MISUSE, "only the base says");
    import_bad(CONFIG(EXPERTS), two, 4, &no_base, LORAFMT_MISMATCH, "the base has none of them");
    base = base_of(alike, 2);
    import_bad(CONFIG(EXPERTS), two, 4, &base, LORAFMT_UNSUPPORTED, "do not tell which factors");
    base = base_of(one, 1);
    import_bad(CONFIG(EXPERTS), two, 4, &base, LORAFMT_MISMATCH, "for 2 parameters of this module, the base has 1");
    base = base_of(other, 2);
    import_bad(CONFIG(EXPERTS), two, 4, &base, LORAFMT_MISMATCH, "no factors of this module have the shapes");
    base = base_of(twice, 2);
    import_bad(CONFIG(EXPERTS), two, 4, &base, LORAFMT_MISMATCH, "two parameters that may be meant");
    import_bad(CONFIG(", \"rank_pattern\": {\"experts\": 6}"), two, 4, &no_base, LORAFMT_UNSUPPORTED, "no target_parameters");
    import_bad(CONFIG(EXPERTS), two, 2, &no_base, LORAFMT_CORRUPT, "a wrapper around this one are missing");
}

/* [4, 3] and [3, 4]: each of them out x in, or both in x out with the wrappers swapped. PEFT stores a module one way. */
static void test_experts_of_one_orientation(void **state)
{
    static const lorafmt_orientation in_out = LORAFMT_IN_OUT;
    const lf_peft_tensor two[] = {
        T("mlp.experts.base_layer.lora_A.weight", 2, 4, 3),
        T("mlp.experts.base_layer.lora_B.weight", 2, 4, 4),
        T("mlp.experts.lora_A.weight", 2, 4, 4),
        T("mlp.experts.lora_B.weight", 2, 3, 4),
    };
    const lf_peft_tensor mixed[] = {two[0], two[1], T("mlp.experts.lora_A.weight", 2, 4, 5),
                                    T("mlp.experts.lora_B.weight", 2, 3, 4)};
    lorafmt_base_tensor there[] = {base_tensor("mlp.experts.down_proj", 2, 3, 4),
                                   base_tensor("mlp.experts.gate_up_proj", 2, 4, 3)};
    lorafmt_base_tensor other[] = {base_tensor("mlp.experts.down_proj", 2, 5, 3),
                                   base_tensor("mlp.experts.gate_up_proj", 2, 4, 3)};
    lorafmt_base base = base_of(there, 2);
    imported im;
    (void)state;
    import_bad(CONFIG(EXPERTS), two, 4, &base, LORAFMT_UNSUPPORTED, "stored either way");
    import(&im, CONFIG(EXPERTS), two, 4, &base, &in_out);
    assert_int_equal(im.status, LORAFMT_OK);
    assert_string_equal(lf_peft_metadata(&im.adapter, LF_PEFT_ORDER_KEY), "down_proj gate_up_proj");
    assert_int_equal(im.adapter.sites[0].orientation, LORAFMT_IN_OUT);
    lf_arena_free(&im.arena);
    base = base_of(other, 2);
    import_bad(CONFIG(EXPERTS), mixed, 4, &base, LORAFMT_MISMATCH, "no factors of this module have the shapes");
    base = base_of(other + 1, 1);
    import_bad(CONFIG(EXPERTS ", \"peft_version\": \"0.18.0\""),
               (const lf_peft_tensor[]){T("mlp.experts.lora_A.weight", 2, 4, 3), T("mlp.experts.lora_B.weight", 2, 4, 4)}, 2,
               &base, LORAFMT_MISMATCH, "no factors of this module have the shapes");
}

#define THREE ", \"target_parameters\": [\"e.p\", \"e.q\", \"e.r\"]"

/* Each module says a part of the order: q before p, r before q; and a module alone says nothing. */
static void test_order_of_parameters(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("0.e.lora_A.weight", 2, 2, 7),
        T("0.e.lora_B.weight", 2, 3, 2),
        T("1.e.base_layer.lora_A.weight", 2, 2, 7),
        T("1.e.base_layer.lora_B.weight", 2, 4, 2),
        T("1.e.lora_A.weight", 2, 2, 7),
        T("1.e.lora_B.weight", 2, 3, 2),
        T("2.e.base_layer.lora_A.weight", 2, 2, 7),
        T("2.e.base_layer.lora_B.weight", 2, 5, 2),
        T("2.e.lora_A.weight", 2, 2, 7),
        T("2.e.lora_B.weight", 2, 4, 2),
        T("3.e.base_layer.lora_A.weight", 2, 2, 7),
        T("3.e.base_layer.lora_B.weight", 2, 3, 2),
        T("3.e.lora_A.weight", 2, 2, 7),
        T("3.e.lora_B.weight", 2, 5, 2),
    };
    lorafmt_base_tensor there[] = {base_tensor("0.e.p", 1, 3, 7), base_tensor("1.e.p", 1, 3, 7), base_tensor("1.e.q", 1, 4, 7),
                                   base_tensor("2.e.q", 1, 4, 7), base_tensor("2.e.r", 1, 5, 7), base_tensor("3.e.p", 1, 3, 7),
                                   base_tensor("3.e.r", 1, 5, 7)};
    const lorafmt_base base = base_of(there, 7);
    imported im;
    (void)state;
    import_good(&im, CONFIG(THREE), tensors, 10, &base);
    assert_string_equal(lf_peft_metadata(&im.adapter, LF_PEFT_ORDER_KEY), "r q p");
    check_round_trip(&im, CONFIG(THREE), tensors, 10, &base);
    lf_arena_free(&im.arena);
    import_bad(CONFIG(THREE), tensors, 14, &base, LORAFMT_UNSUPPORTED, "in different orders"); // p before r before q before p
}

static void test_parameter_with_a_space_is_refused(void **state)
{
    const lf_peft_tensor tensors[] = {T("e.lora_A.weight", 2, 2, 3), T("e.lora_B.weight", 2, 3, 2)};
    lorafmt_base_tensor there[] = {base_tensor("e.a b", 2, 3, 3)};
    const lorafmt_base base = base_of(there, 1);
    (void)state;
    import_bad(CONFIG(", \"target_parameters\": [\"e.a b\"]"), tensors, 2, &base, LORAFMT_UNSUPPORTED, "no spaces");
}

/* A bias of an adapted layer is in as many base_layer as the layer has wrappers. */
static void test_depth_of_a_bias(void **state)
{
    static const char *const names[] = {M "q.base_layer.bias", M "q.bias", M "q.base_layer.base_layer.bias", M "v.bias"};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const lf_peft_tensor tensors[] = {T("q.lora_A.weight", 2, 2, 3), T("q.lora_B.weight", 2, 4, 2),
                                          tensor(names[i], 1, (const uint64_t[]){4})};
        imported im;
        import(&im, CONFIG(", \"bias\": \"lora_only\""), tensors, 3, NULL, NULL);
        if (im.status != (i < 2 ? LORAFMT_OK : i == 2 ? LORAFMT_CORRUPT : LORAFMT_UNSUPPORTED))
            fail_msg("%s: %s %s", names[i], lorafmt_status_name(im.status), im.err.text);
        lf_arena_free(&im.arena);
    }
}

#define TOKENS(list) CONFIG(", \"trainable_token_indices\": " list)

static void test_unclear_tokens_are_refused(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("a.e.token_adapter.trainable_tokens_delta", 2, 2, 3),
        T("b.e.token_adapter.trainable_tokens_delta", 2, 2, 3),
    };
    const lf_peft_tensor adapted[] = {tensors[0], T("a.e.lora_embedding_A", 2, 2, 5), T("a.e.lora_embedding_B", 2, 3, 2)};
    imported im;
    (void)state;
    import_bad(TOKENS("[0, 1]"), tensors, 2, NULL, LORAFMT_UNSUPPORTED, "a second module");
    import_bad(TOKENS("{\"e\": [0, 1], \"a.e\": [0, 2]}"), tensors, 2, NULL, LORAFMT_UNSUPPORTED, "lists of both e and a.e");
    import_bad(TOKENS("[0, 1]"), adapted, 3, NULL, LORAFMT_UNSUPPORTED, "also has LoRA factors");
    import_good(&im, TOKENS("{\"e\": [0, 1], \"head\": [0, 1]}"), tensors, 2, NULL);
    assert_int_equal(im.notes.n, 1);
    assert_non_null(strstr(im.notes.text[0], "no trained tokens of head"));
    lf_arena_free(&im.arena);
}

/* The projections of an attention stand together and have its shapes. */
static void test_attentions_that_are_none(void **state)
{
    const lf_peft_tensor tensors[] = {
        T("m.lora_A.weight", 2, 2, 3),
        T("m.lora_B.weight", 2, 9, 2),
        T("m.base_layer.out_proj.lora_A.weight", 2, 2, 3),
        T("m.base_layer.out_proj.lora_B.weight", 2, 3, 2),
    };
    const lf_peft_tensor not_three[] = {tensors[0], T("m.lora_B.weight", 2, 6, 2), tensors[2], tensors[3]};
    const lf_peft_tensor mixed[] = {tensors[0], tensors[1], tensors[2], T("m.out_proj.lora_B.weight", 2, 3, 2)};
    imported im;
    (void)state;
    import_good(&im, CONFIG(""), tensors, 4, NULL);
    lf_arena_free(&im.arena);
    import_bad(CONFIG(""), not_three, 4, NULL, LORAFMT_CORRUPT, "not of the shape");
    import_bad(CONFIG(""), tensors + 2, 2, NULL, LORAFMT_CORRUPT, "no factors of its own");
    import_bad(CONFIG(""), mixed, 4, NULL, LORAFMT_CORRUPT, "inside and outside of an attention");
    import_bad(CONFIG(", \"use_dora\": true"), tensors, 4, NULL, LORAFMT_UNSUPPORTED, "use_dora or lora_bias");
    import_bad(CONFIG(""), (const lf_peft_tensor[]){tensors[0], tensors[1], T("m.base_layer.out_proj.weight", 2, 3, 3)}, 3, NULL,
               LORAFMT_CORRUPT, "0 wrappers"); // the output projection is not adapted
}

/* --- names that others changed --- */

/* What PEFT's wrapper of a saved module has while it is on the model. */
static void test_wrapped_saved_modules(void **state)
{
    static const char *const trained[] = {M "score.weight", M "score.modules_to_save.weight",
                                          M "score.modules_to_save.default.weight"};
    const lf_peft_tensor original = T("score.original_module.weight", 2, 4, 3);
    imported im;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const lf_peft_tensor tensors[] = {original, tensor(trained[i], 2, (const uint64_t[]){4, 3})};
        import_good(&im, CONFIG(", \"modules_to_save\": [\"score\"]"), tensors, 2, NULL);
        assert_int_equal(im.adapter.n_sites, 1);
        site_of(&im, "score.weight", LORAFMT_KIND_SAVED);
        assert_non_null(strstr(im.notes.text[im.notes.n - 1], "left out 1 tensor of original_module"));
        lf_arena_free(&im.arena);
    }
    import_bad(CONFIG(""), &original, 1, NULL, LORAFMT_CORRUPT, "the trained base_model.model.score.weight is missing");
}

static void test_foreign_names(void **state)
{
    static const struct {
        const char *a, *b, *note;
    } table[] = {
        {M "m.q._orig_mod.lora_A.weight", "_orig_mod." M "m.q.lora_B.weight", "torch.compile"},
        {"module." M "m.q.lora_A.weight", "module." M "m.q.lora_B.weight", "DistributedDataParallel"},
        {M "module.m.q.lora_A.weight", M "module.m.q.lora_B.weight", "DistributedDataParallel"},
        {M "_fsdp_wrapped_module.m.q.lora_A.weight", M "m._fsdp_wrapped_module.q.lora_B.weight", "FSDP"},
        {M "m.q.lora_A.default.weight", M "m.q.lora_B.default.weight", "took the adapter's name default out of 2 names"},
        {"m.q.lora_A.weight", "m.q.lora_B.weight", "put base_model.model. in front of 2 names"},
        {"m.q.lora_A.mine.weight", "m.q.lora_B.mine.weight", "took the adapter's name mine"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const lf_peft_tensor tensors[] = {tensor(table[i].a, 2, (const uint64_t[]){2, 3}),
                                          tensor(table[i].b, 2, (const uint64_t[]){4, 2})};
        bool said = false;
        imported im;
        import_good(&im, CONFIG(""), tensors, 2, NULL);
        site_of(&im, "m.q.weight", LORAFMT_KIND_LINEAR);
        for (size_t k = 0; k < im.notes.n; k++)
            said = said || strstr(im.notes.text[k], table[i].note);
        if (!said)
            fail_msg("%s: no note says '%s'", table[i].a, table[i].note);
        lf_arena_free(&im.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_grouped_convolution_is_refused),
        cmocka_unit_test(test_dora),
        cmocka_unit_test(test_lora_bias),
        cmocka_unit_test(test_token_rows),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_experts_of_the_other_generation),
        cmocka_unit_test(test_square_experts),
        cmocka_unit_test(test_experts_that_do_not_tell),
        cmocka_unit_test(test_foreign_names),
        cmocka_unit_test(test_experts_of_one_orientation),
        cmocka_unit_test(test_order_of_parameters),
        cmocka_unit_test(test_parameter_with_a_space_is_refused),
        cmocka_unit_test(test_depth_of_a_bias),
        cmocka_unit_test(test_unclear_tokens_are_refused),
        cmocka_unit_test(test_attentions_that_are_none),
        cmocka_unit_test(test_wrapped_saved_modules),
    };
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++)
        data[i] = (float)(i + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
