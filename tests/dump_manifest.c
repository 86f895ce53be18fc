/* SPDX-License-Identifier: MIT */
/*
 * dump_manifest FILE...: what the reader of manifests says of each, as one line of JSON: its status and, when that is not OK, place,
 * field and text; and the tree of its YAML, null when that is refused already, for tests that hold the schema against it.
 */
#include "format/foreign/json.h"
#include "lib/scenario/yaml.h"
#include "lorakit/manifest.h"

#include <stdio.h>
#include <string.h>

static lf_text_buffer out;

/* What readers of YAML that are not as strict make of it. */
static void dump_scalar(const lk_yaml *node)
{
    const char *taken_for = node->plain ? lk_yaml_taken_for(node->text) : NULL;
    double number;

    if (!taken_for || strcmp(taken_for, "a date") == 0 || strcmp(taken_for, "an operator") == 0)
        lf_text_add_json_string(&out, node->text);
    else if (strcmp(taken_for, "a number") == 0)
        lf_text_add(&out, "%.17g", lk_yaml_number(node, &number, NULL) == LORAFMT_OK ? number : 0);
    else
        lf_text_add(&out, strcmp(taken_for, "nothing") == 0 ? "null" : "true");
}

static void dump_node(const lk_yaml *node)
{
    const bool mapping = node->kind == LK_YAML_MAPPING;

    if (node->kind == LK_YAML_SCALAR) {
        dump_scalar(node);
        return;
    }
    lf_text_add(&out, mapping ? "{" : "[");
    for (size_t i = 0; i < node->n; i++) {
        lf_text_add(&out, i ? ", " : "");
        if (mapping) {
            lf_text_add_json_string(&out, node->value[i]->key->text);
            lf_text_add(&out, ": ");
        }
        dump_node(node->value[i]);
    }
    lf_text_add(&out, mapping ? "}" : "]");
}

static void dump_tree(const char *path)
{
    lf_arena arena = {0};
    const lk_yaml *root;

    if (lk_yaml_load(path, NULL, &arena, &root, NULL) == LORAFMT_OK)
        dump_node(root);
    else
        lf_text_add(&out, "null");
    lf_arena_free(&arena);
}

static void dump_text(const char *name, const char *value)
{
    lf_text_add(&out, ", \"%s\": ", name);
    lf_text_add_json_string(&out, value);
}

static void dump(const char *path)
{
    lorafmt_error err = {0};
    lorakit_manifest *manifest;

    lf_text_add(&out, "{\"tree\": ");
    dump_tree(path);
    lorakit_manifest_open(path, NULL, &manifest, &err);
    dump_text("status", lorafmt_status_name(err.status));
    dump_text("file", err.file);
    dump_text("field", err.field);
    dump_text("text", err.text);
    lf_text_add(&out, "}\n");
    lorakit_manifest_free(manifest);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        dump(argv[i]);
    fputs(out.text, stdout);
    lf_text_free(&out);
    return 0;
}
