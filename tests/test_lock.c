/* SPDX-License-Identifier: MIT */
/* spec/manifest.md 5: a lock that is not as it has to be is refused at its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/base/arena.h"
#include "lib/scenario/lock.h"
#include "tests/temporary_directory.h"

#include <string.h>

#define DIGEST "\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1dfeff\""
#define HEAD "version: 1\narithmetic: 1\n"
#define BASE "base:\n  structure: " DIGEST "\n  files:\n    \"a\": {size: 5, sha256: " DIGEST "}\n"
#define ADAPTERS "adapters:\n  \"x\": " DIGEST "\n"

static lorafmt_status read_lock(const char *text, lf_arena *arena, lk_lock *lock, lorafmt_error *err)
{
    FILE *file = fopen("m.lock", "wb");
    bool found;

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return lk_lock_read("m.lock", NULL, arena, &found, lock, err);
}

static void test_good(void **state)
{
    lf_arena arena = {0};
    lk_lock lock;

    (void)state;
    assert_int_equal(read_lock(HEAD BASE ADAPTERS, &arena, &lock, NULL), LORAFMT_OK);
    assert_int_equal(lock.arithmetic, 1);
    assert_int_equal(lock.structure[31], 0xff);
    assert_int_equal(lock.n_files, 1);
    assert_string_equal(lock.files[0].name, "a");
    assert_int_equal(lock.files[0].size, 5);
    assert_int_equal(lock.files[0].sha256[30], 0xfe);
    assert_int_equal(lock.n_adapters, 1);
    assert_string_equal(lock.adapters[0].name, "x");
    assert_int_equal(lock.adapters[0].id[1], 1);
    lf_arena_free(&arena);
}

static void test_bad(void **state)
{
    static const struct {
        const char *text;
        lorafmt_status status;
        const char *place, *says;
    } table[] = {
        {"[]", LORAFMT_CORRUPT, "1:1", "must be a mapping"},
        {"arithmetic: 1\n" BASE ADAPTERS, LORAFMT_CORRUPT, "1:1", "version"},
        {"version: one\n", LORAFMT_CORRUPT, "1:10", "number"},
        {"version: 2\nwhatever: 1\n", LORAFMT_UNSUPPORTED, "1:10", "version 2, this reads 1"},
        {HEAD BASE ADAPTERS "more: 1\n", LORAFMT_CORRUPT, "9:1", "unknown key"},
        {"version: 1\n" BASE ADAPTERS, LORAFMT_CORRUPT, "1:1", "arithmetic"},
        {"version: 1\narithmetic: -1\n" BASE ADAPTERS, LORAFMT_CORRUPT, "2:13", "number"},
        {"version: 1\narithmetic: 4294967296\n" BASE ADAPTERS, LORAFMT_CORRUPT, "2:13", "must be below 2^32"},
        {HEAD ADAPTERS, LORAFMT_CORRUPT, "1:1", "base"},
        {HEAD "base: {}\n" ADAPTERS, LORAFMT_CORRUPT, "3:7", "structure"},
        {HEAD "base: 1\n" ADAPTERS, LORAFMT_CORRUPT, "3:7", "must be a mapping"},
        {HEAD "base: {structure: \"00\", files: {}}\n" ADAPTERS, LORAFMT_CORRUPT, "3:19", "64"},
        {HEAD "base: {structure: " DIGEST "}\n" ADAPTERS, LORAFMT_CORRUPT, "3:7", "files"},
        {HEAD "base: {structure: " DIGEST ", files: []}\n" ADAPTERS, LORAFMT_CORRUPT, "3:94", "must be a mapping"},
        {HEAD "base: {structure: " DIGEST ", files: {a: 1}}\n" ADAPTERS, LORAFMT_CORRUPT, "3:98", "must be a mapping"},
        {HEAD "base: {structure: " DIGEST ", files: {a: {sha256: " DIGEST "}}}\n" ADAPTERS, LORAFMT_CORRUPT, "3:98", "size"},
        {HEAD "base: {structure: " DIGEST ", files: {a: {size: 1}}}\n" ADAPTERS, LORAFMT_CORRUPT, "3:98", "sha256"},
        {HEAD "base: {structure: " DIGEST ", files: {a: {size: 1.5}}}\n" ADAPTERS, LORAFMT_CORRUPT, "3:105", "number"},
        {HEAD "base: {structure: " DIGEST ", files: {a: {sise: 1}}}\n" ADAPTERS, LORAFMT_CORRUPT, "3:99", "unknown key"},
        {HEAD BASE, LORAFMT_CORRUPT, "1:1", "adapters"},
        {HEAD BASE "adapters: []\n", LORAFMT_CORRUPT, "7:11", "must be a mapping"},
        {HEAD BASE "adapters: {x: f0}\n", LORAFMT_CORRUPT, "7:15", "64 hexadecimal digits"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char place[64];
        lf_arena arena = {0};
        lorafmt_error err = {0};
        lk_lock lock;
        snprintf(place, sizeof place, "m.lock:%s", table[i].place);
        if (read_lock(table[i].text, &arena, &lock, &err) != table[i].status || strcmp(err.file, place) != 0 ||
            !strstr(err.text, table[i].says))
            fail_msg("%s\n%d %s: %s: %s, wanted %s: %s", table[i].text, (int)err.status, err.file, err.field, err.text, place,
                     table[i].says);
        lf_arena_free(&arena);
    }
}

static void test_none(void **state)
{
    lf_arena arena = {0};
    lorafmt_error err;
    bool found = true;
    lk_lock lock;

    (void)state;
    assert_int_equal(lk_lock_read("m.lock", NULL, &arena, &found, &lock, NULL), LORAFMT_OK);
    assert_false(found);
    assert_int_equal(symlink("nowhere", "m.lock"), 0); // which is not as if there were none
    assert_int_equal(lk_lock_read("m.lock", NULL, &arena, &found, &lock, &err), LORAFMT_NOT_FOUND);
    assert_true(found);
    assert_int_equal(lk_lock_read("m.lock/lock", NULL, &arena, &found, &lock, &err), LORAFMT_OK);
    assert_false(found);
    lf_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {IN_DIRECTORY(test_good), IN_DIRECTORY(test_bad), IN_DIRECTORY(test_none)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
