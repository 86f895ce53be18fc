/* SPDX-License-Identifier: MIT */
/* What a good manifest means. Malformed ones have a table in test_manifest.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/text.h"
#include "lib/scenario/yaml.h"
#include "lorakit/manifest.h"
#include "tests/failing_allocations.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <locale.h>
#include <pwd.h>
#include <string.h>

#define DIGEST "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1dfeff"

/* --- helpers --- */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static lorakit_manifest *open_text(const char *text)
{
    lorakit_manifest *manifest;
    lorafmt_error err = {0};

    write_file("m.yaml", text);
    if (lorakit_manifest_open("m.yaml", NULL, &manifest, &err))
        fail_msg("%s: %s: %s", err.file, err.field, err.text);
    return manifest;
}

static void assert_refused(const char *path, lorafmt_status status, const char *file, const char *part)
{
    lorakit_manifest *manifest = (lorakit_manifest *)-1;
    lorafmt_error err = {0};

    assert_int_equal(lorakit_manifest_open(path, NULL, &manifest, &err), status);
    assert_int_equal(err.status, status);
    assert_null(manifest);
    assert_string_equal(err.file, file);
    assert_non_null(strstr(err.text, part));
}

/* --- the whole --- */

static const char full[] = "version: 1\n"
                           "base:\n"
                           "  path: models/llama\n"
                           "  name: meta/llama\n"
                           "  revision: \"7\"\n"
                           "  structure: " DIGEST "\n"
                           "  sha256: " DIGEST "\n"
                           "adapters:\n"
                           "  z: adapters/z\n"
                           "  a:\n"
                           "    path: all.lora\n"
                           "    select: tang\n"
                           "    id: " DIGEST "\n"
                           "    map: {h: model.layers, \"\": x}\n"
                           "defaults: {dtype: bf16, output: out/models}\n"
                           "scenarios:\n"
                           "  s:\n"
                           "    description: Some text\n"
                           "    labels: {team: legal, area: \"1\"}\n"
                           "    dtype: f32\n"
                           "    adapters:\n"
                           "      - a\n"
                           "      - adapter: z\n"
                           "        weight: -2.5e-1\n"
                           "        weights: [{target: \"*.mlp.*\", layers: 0-11, weight: 0.5}, {layers: 3, weight: 7}]\n"
                           "  plain: {}\n";

static void assert_digest(bool has, const uint8_t digest[32])
{
    assert_true(has);
    for (int i = 0; i < 30; i++)
        assert_int_equal(digest[i], i);
    assert_int_equal(digest[30], 0xfe);
    assert_int_equal(digest[31], 0xff);
}

static void check_base_and_adapters(const lorakit_manifest *m)
{
    const lorakit_manifest_adapter *z = &m->adapters[0], *a = &m->adapters[1];

    assert_string_equal(m->base.path, "models/llama");
    assert_string_equal(m->base.name, "meta/llama");
    assert_string_equal(m->base.revision, "7");
    assert_digest(m->base.has_structure, m->base.structure);
    assert_digest(m->base.has_sha256, m->base.sha256);
    assert_int_equal(m->n_adapters, 2);
    assert_string_equal(z->name, "z");
    assert_string_equal(z->path, "adapters/z");
    assert_null(z->selected);
    assert_false(z->has_id);
    assert_int_equal(z->n_map, 0);
    assert_string_equal(a->name, "a");
    assert_string_equal(a->path, "all.lora");
    assert_string_equal(a->selected, "tang");
    assert_digest(a->has_id, a->id);
    assert_int_equal(a->n_map, 2);
    assert_string_equal(a->map[0].from, "h");
    assert_string_equal(a->map[0].to, "model.layers");
    assert_string_equal(a->map[1].from, "");
    assert_string_equal(a->map[1].to, "x");
}

static void check_scenario(const lorakit_scenario *s)
{
    const lorakit_weight_rule *rules = s->adapters[1].rules;

    assert_string_equal(s->name, "s");
    assert_string_equal(s->description, "Some text");
    assert_int_equal(s->dtype, LORAFMT_F32);
    assert_int_equal(s->n_labels, 2);
    assert_string_equal(s->labels[0].key, "area");
    assert_string_equal(s->labels[0].value, "1");
    assert_string_equal(s->labels[1].key, "team");
    assert_string_equal(s->labels[1].value, "legal");
    assert_int_equal(s->n_adapters, 2);
    assert_int_equal(s->adapters[0].adapter, 1);
    assert_true(s->adapters[0].weight == 1);
    assert_int_equal(s->adapters[0].n_rules, 0);
    assert_int_equal(s->adapters[1].adapter, 0);
    assert_true(s->adapters[1].weight == -0.25);
    assert_int_equal(s->adapters[1].n_rules, 2);
    assert_string_equal(rules[0].target, "*.mlp.*");
    assert_true(rules[0].has_layers && rules[0].first_layer == 0 && rules[0].last_layer == 11 && rules[0].weight == 0.5);
    assert_null(rules[1].target);
    assert_true(rules[1].has_layers && rules[1].first_layer == 3 && rules[1].last_layer == 3 && rules[1].weight == 7);
}

static void test_everything(void **state)
{
    lorakit_manifest *m = open_text(full);

    (void)state;
    assert_string_equal(m->path, "m.yaml");
    assert_string_equal(m->directory, ".");
    assert_string_equal(m->output, "out/models");
    check_base_and_adapters(m);
    assert_int_equal(m->n_scenarios, 2);
    check_scenario(&m->scenarios[0]);
    assert_string_equal(m->scenarios[1].name, "plain");
    assert_null(m->scenarios[1].description);
    assert_int_equal(m->scenarios[1].n_adapters, 0);
    assert_int_equal(m->scenarios[1].dtype, LORAFMT_BF16);
    lorakit_manifest_free(m);
}

static void test_least(void **state)
{
    lorakit_manifest *m = open_text("version: 1\nbase: b\nscenarios: {s: {}}\n");

    (void)state;
    assert_string_equal(m->base.path, "b");
    assert_null(m->base.name);
    assert_null(m->base.revision);
    assert_false(m->base.has_structure || m->base.has_sha256);
    assert_string_equal(m->output, "build");
    assert_int_equal(m->n_adapters, 0);
    assert_int_equal(m->scenarios[0].dtype, 0);
    lorakit_manifest_free(m);
    lorakit_manifest_free(NULL);
}

/* --- extends --- */

static void assert_entry(const lorakit_scenario *s, size_t i, size_t adapter, double weight, size_t n_rules)
{
    assert_int_equal(s->adapters[i].adapter, adapter);
    assert_true(s->adapters[i].weight == weight);
    assert_int_equal(s->adapters[i].n_rules, n_rules);
}

static void test_extends(void **state)
{
    lorakit_manifest *m = open_text("version: 1\n"
                                    "base: b\n"
                                    "adapters: {a: a, b: b, c: c}\n"
                                    "scenarios:\n"
                                    "  last: {extends: middle, adapters: [c], labels: {k: last, z: \"\"}}\n"
                                    "  middle: {extends: first, dtype: f16, adapters: [b, {adapter: a, weight: 3}]}\n"
                                    "  first:\n"
                                    "    description: the first\n"
                                    "    dtype: f32\n"
                                    "    labels: {k: first, a: b}\n"
                                    "    adapters: [{adapter: a, weight: 2, weights: [{layers: 1, weight: 0}]}]\n");
    const lorakit_scenario *s = m->scenarios;

    (void)state;
    assert_null(s[0].description);
    assert_int_equal(s[0].dtype, LORAFMT_F16);
    assert_int_equal(s[0].n_adapters, 3);
    assert_entry(&s[0], 0, 0, 3, 0); // a has the place of the first and the settings of the middle
    assert_entry(&s[0], 1, 1, 1, 0);
    assert_entry(&s[0], 2, 2, 1, 0);
    assert_int_equal(s[0].n_labels, 3);
    assert_string_equal(s[0].labels[0].key, "a");
    assert_string_equal(s[0].labels[0].value, "b");
    assert_string_equal(s[0].labels[1].key, "k");
    assert_string_equal(s[0].labels[1].value, "last");
    assert_string_equal(s[0].labels[2].key, "z");
    assert_int_equal(s[1].n_adapters, 2);
    assert_string_equal(s[1].labels[1].value, "first");
    assert_int_equal(s[2].dtype, LORAFMT_F32);
    assert_int_equal(s[2].n_adapters, 1);
    assert_entry(&s[2], 0, 0, 2, 1);
    lorakit_manifest_free(m);
}

static void test_find(void **state)
{
    lorakit_manifest *m = open_text("version: 1\nbase: b\nscenarios: {legal: {}, tang: {}}\n");
    lorafmt_error err;
    size_t found;

    (void)state;
    assert_int_equal(lorakit_manifest_find(m, "tang", &found, &err), LORAFMT_OK);
    assert_int_equal(found, 1);
    assert_int_equal(lorakit_manifest_find(m, "lagal", &found, &err), LORAFMT_NOT_FOUND);
    assert_string_equal(err.file, "m.yaml");
    assert_string_equal(err.text, "lagal is not there; did you mean legal? Known are legal, tang");
    assert_int_equal(lorakit_manifest_find(m, "base", &found, NULL), LORAFMT_NOT_FOUND);
    lorakit_manifest_free(m);
}

/* --- weights --- */

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "a.b", true},
        {"a*c", "abbc", true},
        {"a*c", "abbcd", false},
        {"*.mlp.*", "model.layers.0.mlp.up_proj", true},
        {"*.mlp.*", "mlp.up_proj", false},
        {"*a*b*c", "xaxbxbxc", true},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"?", "", false},
        {"[qk]_proj", "q_proj", true},
        {"[qk]_proj", "v_proj", false},
        {"[!qk]_proj", "v_proj", true},
        {"[^qk]_proj", "k_proj", false},
        {"layers.[0-4].x", "layers.4.x", true},
        {"layers.[0-4].x", "layers.5.x", false},
        {"[]a]", "]", true},
        {"[a-]", "-", true},
        {"[\\]x]", "]", true},
        {"[\\]x]", "\\", false},
        {"*[0-9]*[0-9].w", "l.10.w", true},
        {"[", "[", true},
        {"[a", "[a", true},
        {"[a", "a", false},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"\\[a]", "[a]", true},
        {"a\\", "a\\", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (lf_glob_matches(cases[i].pattern, cases[i].text, strlen(cases[i].text)) != cases[i].matches)
            fail_msg("%s and %s", cases[i].pattern, cases[i].text);
    assert_true(lf_target_matches("*.q_proj", "a.q_proj.weight"));
    assert_true(lf_target_matches("*.weight", "a.q_proj.weight"));
    assert_false(lf_target_matches("*.q_proj", "a.q_proj.bias"));
}

/* Stars that each could begin anywhere: time of pattern times text, not its power. */
static void test_pattern_takes_no_time(void **state)
{
    char text[1001], pattern[202];

    (void)state;
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < 200; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    memcpy(pattern + 200, "b", 2);
    assert_false(lf_glob_matches(pattern, text, sizeof text));
}

static void test_weights(void **state)
{
    static const struct {
        const char *target;
        double weight;
    } cases[] = {
        {"model.layers.0.self_attn.q_proj.weight", 2},
        {"model.layers.0.mlp.up_proj.weight", 5},    // the last that matches
        {"model.layers.12.mlp.up_proj.weight", 3},   // not beyond the last layer
        {"model.layers.11.mlp.2.up_proj.weight", 5}, // the first number counts
        {"7", 7},
        {"h.7.attn", 7},
        {"h.07.attn", 7},
        {"h7.attn", 1},
        {"h.7x.attn", 1},
        {"h.18446744073709551623.attn", 1}, // 2^64 + 7
        {"lm_head.weight", 9},
        {"mlp.weight", 1},
    };
    lorakit_manifest *m = open_text("version: 1\n"
                                    "base: b\n"
                                    "adapters: {a: a}\n"
                                    "scenarios:\n"
                                    "  s:\n"
                                    "    adapters:\n"
                                    "      - adapter: a\n"
                                    "        weights:\n"
                                    "          - {layers: 0, weight: 2}\n"
                                    "          - {layers: 7-7, weight: 7}\n"
                                    "          - {target: \"*.mlp.*\", weight: 3}\n"
                                    "          - {target: \"*.mlp.*\", layers: 0-11, weight: 5}\n"
                                    "          - {target: lm_head, weight: 9}\n");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (lorakit_scenario_weight(&m->scenarios[0].adapters[0], cases[i].target) != cases[i].weight)
            fail_msg("%s", cases[i].target);
    lorakit_manifest_free(m);
}

/* --- paths --- */

static void test_directory(void **state)
{
    char here[256], path[300], expected[300];
    lorakit_manifest *m;

    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(mkdir("sub", 0777), 0);
    write_file("sub/m.yaml", "version: 1\nbase: /\nroots: [/]\nadapters: {a: x, b: ../y}\n");
    assert_int_equal(lorakit_manifest_open("sub/m.yaml", NULL, &m, NULL), LORAFMT_OK);
    assert_string_equal(m->path, "sub/m.yaml");
    assert_string_equal(m->directory, "sub");
    assert_string_equal(m->base.path, "/");
    assert_string_equal(m->adapters[0].path, "sub/x");
    assert_string_equal(m->adapters[1].path, "sub/../y");
    assert_string_equal(m->output, "sub/build");
    snprintf(expected, sizeof expected, "%s/sub", here);
    assert_string_equal(m->roots[0], expected);
    assert_string_equal(m->roots[1], "/");
    lorakit_manifest_free(m);

    snprintf(path, sizeof path, "%s/sub/m.yaml", here);
    assert_int_equal(lorakit_manifest_open(path, NULL, &m, NULL), LORAFMT_OK);
    assert_string_equal(m->directory, expected);
    lorakit_manifest_free(m);
}

static void test_check_path(void **state)
{
    lorakit_manifest *m = open_text("version: 1\nbase: b\n");
    lorafmt_error err;

    (void)state;
    assert_int_equal(lorakit_manifest_check_path(m, m->base.path, &err), LORAFMT_NOT_FOUND);
    assert_string_equal(err.file, "b");
    write_file("b", "");
    assert_int_equal(lorakit_manifest_check_path(m, m->base.path, &err), LORAFMT_OK);
    assert_int_equal(unlink("b"), 0);
    assert_int_equal(symlink("/usr", "b"), 0);
    assert_int_equal(lorakit_manifest_check_path(m, m->base.path, &err), LORAFMT_MISUSE);
    assert_string_equal(err.file, "b");
    assert_non_null(strstr(err.text, "leads to /usr, which is beneath none of the roots ("));
    assert_non_null(strstr(err.text, "add / to roots"));
    lorakit_manifest_free(m);
}

static void test_home(void **state)
{
    const struct passwd *user = getpwuid(getuid());
    lorakit_manifest *m;
    char expected[300];
    struct stat st;

    (void)state;
    if (!user || stat(user->pw_dir, &st) != 0 || !S_ISDIR(st.st_mode))
        skip();
    m = open_text("version: 1\nbase: ~/b\nroots: [~/]\n");
    snprintf(expected, sizeof expected, "%s/b", user->pw_dir);
    assert_string_equal(m->base.path, expected);
    lorakit_manifest_free(m);
}

static void test_files_that_are_none(void **state)
{
    (void)state;
    assert_refused("missing.yaml", LORAFMT_NOT_FOUND, "missing.yaml", "cannot open");
    assert_refused("/", LORAFMT_NOT_LORAFMT, "/", "a directory");
    write_file("m.yaml", "version: 1\nbase: b\n");
    assert_int_equal(symlink("/usr", "build"), 0);
    assert_refused("m.yaml", LORAFMT_CORRUPT, "m.yaml:1:1", "leads to /usr");
}

/* A long path is cut, line and column are not. */
static void test_long_path(void **state)
{
    char path[900] = "";

    (void)state;
    for (size_t i = 0; i < 440; i++)
        strcat(path, "./");
    strcat(path, "m.yaml");
    write_file("m.yaml", "version: 1\nbase: [\n");
    {
        lorakit_manifest *m;
        lorafmt_error err;
        assert_int_equal(lorakit_manifest_open(path, NULL, &m, &err), LORAFMT_CORRUPT);
        assert_memory_equal(err.file, path, 400);
        assert_string_equal(strchr(err.file, ':'), ":3:1");
    }
}

/* Each beginning was looked up, from the longest down: a manifest of such paths took minutes. */
static void test_path_that_is_not_there_takes_no_time(void **state)
{
    char text[4096] = "version: 1\nbase: ";
    lorakit_manifest *m;
    long before;

    (void)state;
    assert_int_equal(mkdir("d", 0777), 0);
    for (size_t i = 0; i < 300; i++)
        strcat(text, "d/../");
    for (size_t i = 0; i < 1000; i++)
        strcat(text, "m/");
    strcat(text, "\n");
    before = n_calls;
    m = open_text(text);
    assert_true(n_calls - before < 100); // of realpath(), and allocations
    lorakit_manifest_free(m);
}

/* --- numbers --- */

static void test_numbers_in_any_locale(void **state)
{
    static const char *const with_comma[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8"};
    lorakit_manifest *m;
    bool set = false;

    (void)state;
    for (size_t i = 0; i < sizeof with_comma / sizeof *with_comma && !set; i++)
        set = setlocale(LC_NUMERIC, with_comma[i]) != NULL;
    if (!set)
        skip();
    m = open_text("version: 1\nbase: b\nadapters: {a: a}\nscenarios: {s: {adapters: [{adapter: a, weight: 0.5}]}}\n");
    assert_true(m->scenarios[0].adapters[0].weight == 0.5);
    lorakit_manifest_free(m);
    setlocale(LC_NUMERIC, "C");
}

static void test_whole_numbers(void **state)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"12", true, 12},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999", false, 0},
        {"012", false, 0},
        {"-1", false, 0},
        {"1.0", false, 0},
        {"1_000", false, 0},
        {"\"1\"", false, 0},
        {"[1]", false, 0},
        {"~", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_arena arena = {0};
        const lk_yaml *root;
        lorafmt_error err;
        uint64_t value = 1;

        assert_int_equal(lk_yaml_parse(cases[i].text, strlen(cases[i].text), "x", NULL, &arena, &root, &err), LORAFMT_OK);
        if (lk_yaml_u64(root, &value, &err) != (cases[i].good ? LORAFMT_OK : LORAFMT_CORRUPT) || value != cases[i].value)
            fail_msg("%s", cases[i].text);
        if (!cases[i].good)
            assert_string_equal(err.file, "x:1:1");
        lf_arena_free(&arena);
    }
}

/* --- memory --- */

static lorafmt_status open_without_memory(const void *path, lorafmt_error *err)
{
    lorakit_manifest *m;
    const lorafmt_status st = lorakit_manifest_open(path, NULL, &m, err);

    assert_int_equal(m != NULL, st == LORAFMT_OK);
    lorakit_manifest_free(m);
    return st;
}

static void test_memory_that_fails(void **state)
{
    (void)state;
    write_file("m.yaml", full);
    assert_int_equal(refuse_each(open_without_memory, "m.yaml"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_everything),
        IN_DIRECTORY(test_least),
        IN_DIRECTORY(test_extends),
        IN_DIRECTORY(test_find),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_pattern_takes_no_time),
        IN_DIRECTORY(test_weights),
        IN_DIRECTORY(test_directory),
        IN_DIRECTORY(test_check_path),
        IN_DIRECTORY(test_home),
        IN_DIRECTORY(test_files_that_are_none),
        IN_DIRECTORY(test_long_path),
        IN_DIRECTORY(test_path_that_is_not_there_takes_no_time),
        IN_DIRECTORY(test_numbers_in_any_locale),
        cmocka_unit_test(test_whole_numbers),
        IN_DIRECTORY(test_memory_that_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
