/* SPDX-License-Identifier: MIT */
/*
 * A whole loader on the installed library: map a model, load it with an adapter, switch to others, give the base back. Compiles as C
 * and as C++. docs/embedding.md goes through it.
 */
#include <lorafmt/lorafmt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct loader {
    lorafmt_model *model;
    lorafmt_place *places;
    lorafmt_runtime *runtime;
} loader;

static void must(lorafmt_status status, const lorafmt_error *error)
{
    char text[2048];

    if (status == LORAFMT_OK)
        return;
    lorafmt_error_format(error, text, sizeof text);
    fprintf(stderr, "%s\n", text);
    exit(EXIT_FAILURE);
}

/* A buffer for each tensor; the base stays mapped. */
static void open_model(loader *l, const char *path)
{
    const lorafmt_base *base;
    lorafmt_error error;

    must(lorafmt_model_open(path, &l->model, &error), &error);
    must(lorafmt_model_map(l->model, &error), &error);
    base = lorafmt_model_base(l->model);
    l->places = (lorafmt_place *)calloc(base->n_tensors, sizeof *l->places);
    for (size_t i = 0; i < base->n_tensors; i++) {
        l->places[i].pristine = lorafmt_model_data(l->model, i);
        l->places[i].live[0] = malloc((size_t)base->tensors[i].size);
    }
}

/* The live weights become base + adapter, or the base alone. */
static void switch_to(loader *l, const char *path)
{
    lorafmt_stack_entry stack = {NULL, 1.0};
    lorafmt_source *source = NULL;
    lorafmt_swap_result result;
    lorafmt_error error;
    uint8_t digest[32];

    if (strcmp(path, "base") != 0) {
        must(lorafmt_source_open(path, NULL, &source, &error), &error);
        must(lorafmt_source_choose(source, NULL, &stack.adapter, &error), &error);
    }
    must(lorafmt_runtime_swap(l->runtime, &stack, source ? 1 : 0, NULL, &result, NULL, &error), &error);
    lorafmt_source_free(source); /* what is live does not need it */
    must(lorafmt_runtime_digest(l->runtime, digest, NULL, &error), &error);
    printf("%s: %lu/%lu targets, SHA-256 ", path, (unsigned long)result.n_bound, (unsigned long)result.n_sites);
    for (size_t i = 0; i < sizeof digest; i++)
        printf("%02x", digest[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    lorafmt_runtime_options options;
    lorafmt_error error;
    loader l;

    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL ADAPTER... (or base)\n", argv[0]);
        return 2;
    }
    open_model(&l, argv[1]);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.load_by_swap = true; /* the first switch loads, in one pass */
    must(lorafmt_runtime_new(lorafmt_model_base(l.model), l.places, &options, &l.runtime, &error), &error);
    for (int i = 2; i < argc; i++)
        switch_to(&l, argv[i]);
    lorafmt_runtime_free(l.runtime);
    for (size_t i = 0; i < lorafmt_model_base(l.model)->n_tensors; i++)
        free(l.places[i].live[0]);
    free(l.places);
    lorafmt_model_free(l.model);
    return EXIT_SUCCESS;
}
