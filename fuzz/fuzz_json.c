/* SPDX-License-Identifier: MIT */
/* The strict parser: what it accepts prints and parses again, and an edited object says what was put into it. */
#include "fuzz/fuzz.h"

#include "format/foreign/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Parse a text that came from one that was accepted. */
static cJSON *parse_again(const char *text, size_t size)
{
    cJSON *root;

    require(lf_json_parse(text, size, 0, &root, NULL) == LORAFMT_OK);
    return root;
}

/* A number like 1e999, which is JSON, but which cJSON holds as infinite and prints as null. */
static int has_infinite(const cJSON *value)
{
    if (cJSON_IsNumber(value))
        return isinf(value->valuedouble);
    for (const cJSON *child = value->child; child; child = child->next)
        if (has_infinite(child))
            return 1;
    return 0;
}

static void check_print(const cJSON *root)
{
    char *text = cJSON_PrintUnformatted(root);
    cJSON *again;

    require(text != NULL);
    again = parse_again(text, strlen(text));
    require(has_infinite(root) || cJSON_Compare(root, again, 1));
    cJSON_Delete(again);
    free(text);
}

static void check_edit(const char *text, size_t size)
{
    lorafmt_error err;
    size_t out_size;
    char *out;

    if (lf_json_set_member(text, size, "a", "[null]", &out, &out_size, &err) == LORAFMT_OK) {
        cJSON *root = parse_again(out, out_size);
        require(cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(root, "a")));
        cJSON_Delete(root);
        free(out);
    }
    if (lf_json_set_member(text, size, "t.a", "true", &out, &out_size, &err) == LORAFMT_OK) {
        cJSON *root = parse_again(out, out_size);
        require(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "t"), "a")));
        cJSON_Delete(root);
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lorafmt_error err;
    cJSON *root;

    if (lf_json_parse((const char *)data, size, LF_JSON_WHOLE_NUMBERS, &root, &err) == LORAFMT_OK)
        cJSON_Delete(parse_again((const char *)data, size));
    cJSON_Delete(root);
    if (lf_json_parse((const char *)data, size, 0, &root, &err) == LORAFMT_OK) {
        check_print(root);
        check_edit((const char *)data, size);
    } else {
        require(err.offset == LORAFMT_NO_OFFSET || err.offset <= size);
    }
    cJSON_Delete(root);
    return 0;
}
