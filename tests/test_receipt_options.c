/* SPDX-License-Identifier: MIT */
/* What the receipt of a merge says about how to do it again. What it says of the merge itself is in test_receipt.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/front/receipt.h"

#include <string.h>

static const char good[] =
    "{\"dry_run\": false, \"options\": {\"map\": [\"a=b\", \"c=\"], \"orientation\": \"in-out\", \"any_base\": true, \"allow_unmatched\": false, \"alpha\": 0.5, \"rslora\": true, \"experts_orientation\": \"out-in\"}, \"digests\": []}";

static void test_options(void **state)
{
    const lorafmt_receipt_options *o;
    lorafmt_receipt *receipt;

    (void)state;
    assert_int_equal(lf_receipt_parse(good, sizeof good - 1, &receipt, NULL), LORAFMT_OK);
    o = lorafmt_receipt_get_options(receipt);
    assert_false(o->dry_run);
    assert_true(o->has_digests);
    assert_int_equal(o->n_map, 2);
    assert_string_equal(o->map[0], "a=b");
    assert_string_equal(o->map[1], "c=");
    assert_string_equal(o->orientation, "in-out");
    assert_string_equal(o->experts_orientation, "out-in");
    assert_true(o->any_base && !o->allow_unmatched && o->rslora && o->has_alpha && o->alpha == 0.5);
    lorafmt_receipt_free(receipt);
    lorafmt_receipt_free(NULL);
}

static void test_bad_options(void **state)
{
    static const struct {
        const char *text, *field, *says;
    } table[] = {
        {"{\"dry_run\": 1, \"options\": null}", "dry_run", "is a number, must be true or false"},
        {"{}", "dry_run", "is missing, must be true or false"},
        {"{\"dry_run\": {}}", "dry_run", "is an object, must be true or false"},
        {"{\"dry_run\": false}", "options", "is missing, must be an object"},
        {"{\"dry_run\": false, \"options\": []}", "options", "is an array, must be an object"},
        {"{\"dry_run\": false, \"options\": {\"map\": null}}", "map", "is null, must be an array"},
        {"{\"dry_run\": false, \"options\": {\"map\": [1]}}", "map", "is a number, must be an array of OLD=NEW"},
        {"{\"dry_run\": false, \"options\": {\"map\": [\"a\"]}}", "map", "is a text, must be an array of OLD=NEW"},
        {"{\"dry_run\": false, \"options\": {\"map\": [\"a=b\", \"=\"]}}", "map", "is a text, must be an array of OLD=NEW"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": true, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": null, \"rslora\": false, \"experts_orientation\": null}, \"digests\": null}",
         "orientation", "is true or false, must be a text or null"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": \"yes\", \"allow_unmatched\": false, \"alpha\": null, \"rslora\": false, \"experts_orientation\": null}, \"digests\": null}",
         "any_base", "is a text, must be true or false"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": null, \"alpha\": null, \"rslora\": false, \"experts_orientation\": null}, \"digests\": null}",
         "allow_unmatched", "is null, must be true or false"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": \"1\", \"rslora\": false, \"experts_orientation\": null}, \"digests\": null}",
         "alpha", "is a text, must be a finite number or null"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": 1e999, \"rslora\": false, \"experts_orientation\": null}, \"digests\": null}",
         "alpha", "is a number, must be a finite number or null"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": null, \"experts_orientation\": null}, \"digests\": null}",
         "rslora", "is missing, must be true or false"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": null, \"rslora\": false, \"experts_orientation\": 2}, \"digests\": null}",
         "experts_orientation", "is a number, must be a text or null"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": null, \"rslora\": false, \"experts_orientation\": null}, \"digests\": {}}",
         "digests", "is an object, must be an array or null"},
        {"{\"dry_run\": false, \"options\": {\"map\": [], \"orientation\": null, \"any_base\": false, \"allow_unmatched\": false, \"alpha\": null, \"rslora\": false, \"experts_orientation\": null}}",
         "digests", "is missing, must be an array or null"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        lorafmt_receipt *receipt;
        lorafmt_error err;
        assert_int_equal(lf_receipt_parse(table[i].text, strlen(table[i].text), &receipt, &err), LORAFMT_CORRUPT);
        assert_null(receipt);
        assert_string_equal(err.field, table[i].field);
        assert_memory_equal(err.text, table[i].says, strlen(table[i].says));
        assert_string_equal(err.text + strlen(table[i].says), " in the receipt of a merge");
    }
}

/* It is the replay that is wrong, which the caller made. */
static void test_bad_replay(void **state)
{
    lorafmt_receipt *receipt;
    lorafmt_error err;

    (void)state;
    assert_int_equal(lf_receipt_parse(good, sizeof good - 1, &receipt, NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_receipt_compare(receipt, "{", 1, &err), LORAFMT_MISUSE);
    assert_string_equal(err.text, "the replay is no JSON");
    assert_int_equal(lorafmt_receipt_compare(receipt, good, sizeof good - 1, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_receipt_compare(receipt, "[]", 2, &err), LORAFMT_MISMATCH);
    lorafmt_receipt_free(receipt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_bad_replay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
