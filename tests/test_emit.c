/* SPDX-License-Identifier: MIT */
/* Emitting by the library: what a program can get wrong, and memory that ends at every place it can. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorafmt/files.h"
#include "lorakit/emit.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <locale.h>

enum { SIZE = 4, RANK = 2 };

/* --- a manifest of a small base and two adapters --- */

static const char *const modules[] = {"model.layers.0.q_proj.weight", "model.layers.1.q_proj.weight"};

static void write_base(void)
{
    static const char header[] =
        "{\"model.layers.0.q_proj.weight\":{\"dtype\":\"F32\",\"shape\":[4,4],\"data_offsets\":[0,64]},"
        "\"model.layers.1.q_proj.weight\":{\"dtype\":\"F32\",\"shape\":[4,4],\"data_offsets\":[64,128]}} ";
    const uint64_t size = sizeof header - 1;
    static const float data[2 * SIZE * SIZE];
    FILE *file = fopen("base.safetensors", "wb");

    assert_non_null(file);
    fwrite(&size, sizeof size, 1, file); // little-endian hosts alone run this
    fwrite(header, 1, size, file);
    fwrite(data, sizeof data, 1, file);
    assert_int_equal(fclose(file), 0);
}

static void write_adapter(const char *path, size_t n_sites)
{
    static const float a[RANK * SIZE] = {1, 2, 3, 4, 5, 6, 7, 8}, b[SIZE * RANK] = {8, 7, 6, 5, 4, 3, 2, 1};
    lorafmt_factor factors[2][2];
    lorafmt_site sites[2];
    lorafmt_adapter adapter;
    const lorafmt_adapter *one = &adapter;

    for (size_t i = 0; i < n_sites; i++)
        sites[i] = test_low_rank(modules[i], LORAFMT_KIND_LINEAR, RANK, SIZE, SIZE, a, b, factors[i]);
    adapter = test_adapter("x", sites, n_sites);
    assert_int_equal(lorafmt_pack(&one, 1, path, NULL, NULL), LORAFMT_OK);
}

static void write_manifest(void)
{
    FILE *file = fopen("m.yaml", "w");

    write_base();
    write_adapter("one.lora", 1);
    write_adapter("two.lora", 2);
    assert_non_null(file);
    fputs("version: 1\nbase: base.safetensors\nadapters: {one: one.lora, two: two.lora}\n"
          "scenarios:\n  sum: {adapters: [one, {adapter: two, weight: 0.3}]}\n  alone: {adapters: [one]}\n",
          file);
    assert_int_equal(fclose(file), 0);
}

static lorafmt_status emit(lorakit_engine engine, const lorakit_emit_options *options, lorakit_emitted *emitted,
                           lorafmt_error *err)
{
    const lorakit_scenarios_options open = {.struct_size = sizeof open, .no_cache = true, .n_threads = 1};
    lorakit_scenarios *set;
    lorafmt_status st = lorakit_scenarios_open("m.yaml", &open, &set, err);

    if (!st)
        st = lorakit_emit(set, engine, "out", options, emitted, err);
    lorakit_scenarios_free(set);
    return st;
}

/* --- */

static lorafmt_status emit_for(const void *ctx, lorafmt_error *err)
{
    static const lorakit_emit_options options = {.struct_size = sizeof options, .n_threads = 1};
    const lorakit_engine *engine = ctx;
    lorakit_emitted emitted[2];
    const lorafmt_status st = emit(*engine, &options, emitted, err);

    assert_int_equal(access("out", F_OK) == 0, st == LORAFMT_OK);
    nftw("out", remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return st;
}

static void test_memory_that_fails(void **state)
{
    static const lorakit_engine engines[] = {LORAKIT_PEFT, LORAKIT_LORAX, LORAKIT_SGLANG};

    (void)state;
    write_manifest();
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        assert_int_equal(refuse_each(emit_for, &engines[i]), 0);
}

static void test_what_comes_out(void **state)
{
    static const size_t chosen[] = {1, 0};
    const lorakit_emit_options options = {.struct_size = sizeof options, .scenarios = chosen, .n_scenarios = 2};
    lorakit_emitted emitted[2];
    lorafmt_error err;

    (void)state;
    write_manifest();
    assert_int_equal(emit(LORAKIT_LORAX, &options, emitted, &err), LORAFMT_OK);
    assert_int_equal(emitted[0].scenario, 1);
    assert_int_equal(emitted[0].form, LORAKIT_EXPRESSED_ONE);
    assert_int_equal(emitted[0].n_filled, 1);
    assert_int_equal(emitted[1].form, LORAKIT_EXPRESSED_SUM);
    assert_int_equal(emitted[1].rank, RANK); // both have the same directions
    assert_int_equal(emit(LORAKIT_LORAX, &options, emitted, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
}

static bool stop_at_the_second(void *ctx, uint64_t done, uint64_t total)
{
    unsigned *n_told = ctx;

    assert_int_equal(done, (*n_told)++);
    assert_int_equal(total, 2);
    return done < 1;
}

static void test_stopped(void **state)
{
    unsigned n_told = 0;
    const lorakit_emit_options options = {.struct_size = sizeof options, .progress = stop_at_the_second, .progress_ctx = &n_told};
    lorakit_emitted emitted[2];

    (void)state;
    write_manifest();
    assert_int_equal(emit(LORAKIT_PEFT, &options, emitted, NULL), LORAFMT_CANCELLED);
    assert_int_equal(n_told, 2);
    assert_int_not_equal(access("out", F_OK), 0);
}

static void assert_holds(const char *path, const char *part)
{
    FILE *file = fopen(path, "rb");
    char text[4096];

    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, part));
}

/* JSON has no decimal commas. */
static void test_numbers_in_any_locale(void **state)
{
    static const char *const with_comma[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8"};
    lorakit_emitted emitted[1];
    bool set = false;
    FILE *file;

    (void)state;
    for (size_t i = 0; i < sizeof with_comma / sizeof *with_comma && !set; i++)
        set = setlocale(LC_NUMERIC, with_comma[i]) != NULL;
    if (!set)
        skip();
    write_manifest();
    file = fopen("m.yaml", "w");
    assert_non_null(file);
    fputs("version: 1\nbase: base.safetensors\nadapters: {one: one.lora}\n"
          "scenarios:\n  little: {adapters: [{adapter: one, weight: 0.0625}]}\n",
          file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(emit(LORAKIT_VLLM, NULL, emitted, NULL), LORAFMT_OK);
    assert_holds("out/little/adapter_config.json", "\"lora_alpha\": 0.");
    setlocale(LC_NUMERIC, "C");
}

static void test_misuse(void **state)
{
    static const size_t beyond[] = {2};
    const lorakit_emit_options old = {.struct_size = 4}, far = {.struct_size = sizeof far, .scenarios = beyond, .n_scenarios = 1};
    lorakit_emitted emitted[2];

    (void)state;
    write_manifest();
    assert_int_equal(emit(LORAKIT_VLLM, &old, emitted, NULL), LORAFMT_MISUSE);
    assert_int_equal(emit(LORAKIT_VLLM, &far, emitted, NULL), LORAFMT_MISUSE);
    assert_int_equal(emit((lorakit_engine)0, NULL, emitted, NULL), LORAFMT_MISUSE);
    assert_int_equal(emit((lorakit_engine)5, NULL, emitted, NULL), LORAFMT_MISUSE);
    assert_null(lorakit_engine_name(0));
    assert_null(lorakit_engine_name(5));
    assert_string_equal(lorakit_engine_name(LORAKIT_SGLANG), "sglang");
    assert_string_equal(lorakit_expression_name((lorakit_expression)9), "unknown");
    assert_int_not_equal(access("out", F_OK), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_memory_that_fails),     IN_DIRECTORY(test_what_comes_out), IN_DIRECTORY(test_stopped),
        IN_DIRECTORY(test_numbers_in_any_locale), IN_DIRECTORY(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
