/* SPDX-License-Identifier: MIT */
/* Scalars without quotes that a reader of YAML 1.1 or 1.2 takes for something else: by yaml.org/type and YAML 1.2, 10.3.2. */
#include "lib/scenario/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct {
    const char *what; /* NULL: text */
    const char *scalars[32];
} cases[] = {
    {"nothing", {"", "~", "null", "Null", "NULL"}},
    {"a boolean", {"y", "Y", "yes", "Yes", "NO", "n", "true", "False", "on", "Off", "OFF"}},
    {"an operator", {"=", "<<"}},
    {"a number", {"0",    "-1",       "+12",    "007",   "1_000",  "685_230.15",  "1.5",  ".5",        "1.",
                  "1e9",  "1E+9",     "6.8e-3", "0x1f",  "-0x_1F", "0b1010_0111", "0o17", "190:20:30", "1:00",
                  "-1:5", "20:30.15", ".inf",   "-.Inf", "+.INF",  ".nan",        ".NaN", ".NAN"}},
    {"a date",
     {"2002-12-14", "2001-1-1", "2001-12-15T02:59:43.1Z", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5",
      "2001-12-14\t\t2:59:43"}},
    {NULL,
     {"nil",      "yess",      "tRUE",  "===",     "1.2.3",  "1e",       "1e+",     "e5",        ".",           "..",
      "-",        "+",         "0x",    "0o18",    "0b2",    "0z1",      "12a",     "1:",        "1:x",         ":20",
      "1:20:30x", ".infinity", "-.nan", "200-1-1", "2001-1", "2001-x-1", "2001-1-", "2001-1-1x", "2001-12-14T", "2001-12-14 x"}},
};

static void test_taken_for(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(cases); k++)
        for (size_t i = 0; i < COUNT(cases[k].scalars) && cases[k].scalars[i]; i++) {
            const char *found = lk_yaml_taken_for(cases[k].scalars[i]);
            if (found != cases[k].what && (!found || !cases[k].what || strcmp(found, cases[k].what) != 0))
                fail_msg("'%s' is taken for %s", cases[k].scalars[i], found ? found : "text");
        }
}

static void test_characters(void **state)
{
    static const struct {
        const char *text;
        size_t length; /* 0: no line of text has it */
    } characters[] = {
        {" ", 1},
        {"~", 1},
        {"\x1f", 0},
        {"\t", 0},
        {"\x7f", 0},
        {"\x80", 0},
        {"\xc2\x80", 0},
        {"\xc2\x9f", 0},
        {"\xc2\xa0", 2},
        {"\xc3\xa9", 2},
        {"\xc3", 0},
        {"\xe2\x80\xa7", 3},
        {"\xe2\x80\xa8", 0},
        {"\xe2\x80\xa9", 0},
        {"\xe2\x80\xaa", 3},
        {"\xe2\x81\xa8", 3},
        {"\xef\xbb\xbe", 3},
        {"\xef\xbb\xbf", 0},
        {"\xef\xbf\xbd", 3},
        {"\xef\xbf\xbe", 0},
        {"\xef\xbf\xbf", 0},
        {"\xef\xbc\xbf", 3},
        {"\xed\xa0\x80", 0},
        {"\xf0\x9f\x98\x80", 4},
        {"\xf0\x9f\x98", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(characters); i++)
        if (lk_yaml_character(characters[i].text, strlen(characters[i].text)) != characters[i].length)
            fail_msg("character %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_for),
        cmocka_unit_test(test_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
