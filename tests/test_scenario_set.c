/* SPDX-License-Identifier: MIT */
/* Opened manifests when memory fails: at any allocation the right status, nothing held, and results that are whole or absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/io/io.h"
#include "lorafmt/files.h"
#include "lorakit/build.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <string.h>

#define N 4 /* rows and columns */
#define Q "model.layers.0.q_proj.weight"
#define V "model.layers.1.v_proj.weight"

static const char manifest[] = "version: 1\n"
                               "base: base\n"
                               "adapters: {x: x.lora, z: {path: z.lora, map: {model: model}}}\n"
                               "scenarios:\n"
                               "  one: {adapters: [{adapter: x, weight: 2, weights: [{layers: 1, weight: 0.5}]}]}\n"
                               "  two: {adapters: [x, {adapter: z, weight: -1}]}\n";

/* --- what there is --- */

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_base(void)
{
    static const char header[] = "{\"" Q "\":{\"dtype\":\"F32\",\"shape\":[4,4],\"data_offsets\":[0,64]},"
                                 "\"" V "\":{\"dtype\":\"F32\",\"shape\":[4,4],\"data_offsets\":[64,128]}}";
    uint8_t file[8 + sizeof header - 1 + 2 * N * N * sizeof(float)] = {sizeof header - 1};

    memcpy(file + 8, header, sizeof header - 1);
    assert_int_equal(mkdir("base", 0777), 0);
    write_file("base/model.safetensors", file, sizeof file);
    write_file("base/config.json", "{}", 2);
}

static void write_adapter(const char *name, const char *path)
{
    static const float a[N] = {1, 2, 3, 4}, b[N] = {1, 0, -1, 2};
    lorafmt_factor factors[2][2];
    const lorafmt_site sites[] = {test_low_rank(Q, LORAFMT_KIND_LINEAR, 1, N, N, a, b, factors[0]),
                                  test_low_rank(V, LORAFMT_KIND_LINEAR, 1, N, N, a, b, factors[1])};
    const lorafmt_adapter adapter = test_adapter(name, sites, 2), *adapters[] = {&adapter};

    assert_int_equal(lorafmt_pack(adapters, 1, path, NULL, NULL), LORAFMT_OK);
}

static void write_project(void)
{
    write_base();
    write_adapter("x", "x.lora");
    write_adapter("z", "z.lora");
    write_file("m.yaml", manifest, sizeof manifest - 1);
}

/* --- tests --- */

static const lorakit_scenarios_options single = {.struct_size = sizeof single, .n_threads = 1};

static void test_weights_of_sites(void **state)
{
    static const double expected[] = {2, 0.5};
    lorakit_scenarios *set;
    lorafmt_view *view;

    (void)state;
    write_project();
    assert_int_equal(lorakit_scenarios_open("m.yaml", &single, &set, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_scenarios_bind(set, 0, NULL, NULL, &view, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_view_n_sites(view), 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(lorafmt_view_get_site(view, i)->weight == expected[i]);
    lorafmt_view_free(view);
    lorakit_scenarios_free(set);
}

static void test_misuse(void **state)
{
    const lorakit_build_options part = {.struct_size = sizeof part, .part = 3, .n_parts = 2},
                                force = {.struct_size = sizeof force, .part = 1, .n_parts = 2, .force = true};
    const lorafmt_adapter *adapter;
    lorakit_build_result result;
    lorakit_scenarios *set;
    lorakit_build *build;
    lorafmt_view *view;

    (void)state;
    write_project();
    assert_int_equal(lorakit_scenarios_open("m.yaml", &single, &set, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_scenarios_adapter(set, 2, &adapter, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorakit_scenarios_bind(set, 2, NULL, NULL, &view, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorakit_build_open(set, 0, LORAKIT_FORM_MODEL, NULL, NULL, NULL, &build, NULL), LORAFMT_OK);
    assert_int_equal(lorakit_build_run(build, &part, &result, NULL), LORAFMT_MISUSE);
    assert_int_equal(lorakit_build_run(build, &force, &result, NULL), LORAFMT_MISUSE);
    lorakit_build_free(build);
    lorakit_scenarios_free(set);
    assert_int_equal(lf_path_type_of("build"), LF_PATH_NONE);
}

/* Everything that a set does, with what an earlier run left; and when it is done, as if it had not been. */
static lorafmt_status lock_and_build(const void *ctx, lorafmt_error *err)
{
    const lorakit_form form = *(const lorakit_form *)ctx;
    const size_t scenario = form == LORAKIT_FORM_MODEL; // the other has a map
    lorakit_scenarios *set = NULL;
    lorakit_build *build = NULL;
    lorakit_build_result result;
    lorakit_lock_state found;
    lorafmt_status st = lorakit_scenarios_open("m.yaml", &single, &set, err);

    if (!st)
        st = lorakit_scenarios_lock(set, true, &found, err);
    if (!st)
        st = lorakit_build_open(set, scenario, form, NULL, NULL, NULL, &build, err);
    if (!st)
        st = lorakit_build_run(build, NULL, &result, err);
    if (!st) {
        assert_int_equal(result.after.built, LORAKIT_FRESH);
        assert_int_equal(lf_path_type_of(form == LORAKIT_FORM_MODEL ? "build/two/config.json" : "build/one.lora"), LF_PATH_FILE);
        assert_int_equal(nftw("build", remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
        assert_int_equal(remove("m.lock"), 0);
    }
    lorakit_build_free(build);
    lorakit_scenarios_free(set);
    return st;
}

static void test_memory_that_fails(void **state)
{
    static const lorakit_form forms[] = {LORAKIT_FORM_MODEL, LORAKIT_FORM_LORA};

    (void)state;
    write_project();
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        refuse_each(lock_and_build, &forms[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_weights_of_sites),
        IN_DIRECTORY(test_misuse),
        IN_DIRECTORY(test_memory_that_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
