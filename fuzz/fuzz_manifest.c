/* SPDX-License-Identifier: MIT */
/* Manifests: a tree that is accepted is within its limits and in order; what is made of it refers to what is there. */
#include "fuzz/fuzz.h"

#include "lib/scenario/yaml.h"
#include "lorakit/manifest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t check_node(const lk_yaml *node, unsigned depth)
{
    const bool mapping = node->kind == LK_YAML_MAPPING;
    size_t n = 1;

    require(depth <= lorafmt_limit_most(LORAFMT_LIMIT_YAML_DEPTH) && node->line && node->column);
    for (size_t i = 0; i < node->n; i++) {
        const lk_yaml *value = node->value[i];
        require(value->index == i && value->parent == node && mapping == (value->key != NULL));
        if (mapping)
            require(lk_yaml_get(node, value->key->text) == value);
        n += mapping + check_node(value, depth + (value->kind != LK_YAML_SCALAR));
    }
    return n;
}

static void check_tree(const uint8_t *data, size_t size)
{
    lf_arena arena = {0};
    const lk_yaml *root;
    lorafmt_error err;

    if (lk_yaml_parse((const char *)data, size, "m.yaml", NULL, &arena, &root, &err) == LORAFMT_OK)
        require(check_node(root, 1) <= lorafmt_limit_most(LORAFMT_LIMIT_YAML_VALUES));
    else
        require(err.text[0] && strncmp(err.file, "m.yaml:", 7) == 0);
    lf_arena_free(&arena);
}

static void check_scenario(const lorakit_manifest *m, const lorakit_scenario *s)
{
    size_t found;

    require(lorakit_manifest_find(m, s->name, &found, NULL) == LORAFMT_OK && &m->scenarios[found] == s);
    for (size_t i = 1; i < s->n_labels; i++)
        require(strcmp(s->labels[i - 1].key, s->labels[i].key) < 0);
    for (size_t i = 0; i < s->n_adapters; i++) {
        require(s->adapters[i].adapter < m->n_adapters);
        for (size_t j = 0; j < i; j++)
            require(s->adapters[j].adapter != s->adapters[i].adapter);
        require(isfinite(lorakit_scenario_weight(&s->adapters[i], "model.layers.7.mlp.up_proj.weight")));
    }
}

/* MISUSE is a path outside of the roots. */
static void check_manifest(const lorakit_manifest *m)
{
    require(lorakit_manifest_check_path(m, m->base.path, NULL) != LORAFMT_MISUSE);
    require(lorakit_manifest_check_path(m, m->output, NULL) != LORAFMT_MISUSE);
    for (size_t i = 0; i < m->n_adapters; i++)
        require(lorakit_manifest_check_path(m, m->adapters[i].path, NULL) != LORAFMT_MISUSE);
    for (size_t i = 0; i < m->n_scenarios; i++)
        check_scenario(m, &m->scenarios[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("manifest", MFD_CLOEXEC);
    lorakit_manifest *manifest;
    lorafmt_error err;
    char path[64];

    check_tree(data, size);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (lorakit_manifest_open(path, NULL, &manifest, &err) == LORAFMT_OK)
        check_manifest(manifest);
    else
        require(err.text[0] && strncmp(err.file, path, strlen(path)) == 0);
    lorakit_manifest_free(manifest);
    close(fd);
    return 0;
}
