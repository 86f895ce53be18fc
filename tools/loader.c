/* SPDX-License-Identifier: MIT */
#include "tools/loader.h"

#include "tools/command.h"
#include "tools/input.h"
#include "tools/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN ((size_t)64)

static size_t held_size(const lorafmt_base_tensor *tensor, unsigned rank, unsigned n_ranks, lorafmt_place *place)
{
    const uint64_t n_rows = tensor->n_dims >= 2 && lorafmt_dtype_bits(tensor->dtype) >= 8 ? tensor->shape[0] : 1;

    if (n_rows < n_ranks || n_ranks == 1)
        return (size_t)tensor->size;
    place->row = n_rows * rank / n_ranks;
    place->n_rows = n_rows * (rank + 1) / n_ranks - place->row;
    return (size_t)(tensor->size / n_rows * place->n_rows);
}

static void lay_out(loader *l, unsigned rank, unsigned n_ranks)
{
    const lorafmt_base *base = lorafmt_model_base(l->model);

    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_base_tensor *tensor = &base->tensors[i];
        lorafmt_place *place = &l->places[i];
        const size_t size = held_size(tensor, rank, n_ranks, place);
        const uint64_t before = place->n_rows ? tensor->size / tensor->shape[0] * place->row : 0;
        place->pristine = (const uint8_t *)lorafmt_model_data(l->model, i) + before;
        l->offsets[i] = l->region_size;
        l->region_size += (size + ALIGN - 1) / ALIGN * ALIGN;
    }
}

int loader_open(const char *path, unsigned rank, unsigned n_ranks, loader *out)
{
    lorafmt_error err;
    size_t n;
    int code = input_open_base(path, &out->model);

    if (code != EXIT_DONE)
        return code;
    if (lorafmt_model_map(out->model, &err))
        return message_failure(&err, path);
    n = lorafmt_model_base(out->model)->n_tensors;
    out->places = calloc(n + 1, sizeof *out->places);
    out->offsets = calloc(n + 1, sizeof *out->offsets);
    if (!out->places || !out->offsets)
        return message_no_memory();
    lay_out(out, rank, n_ranks);
    return EXIT_DONE;
}

static void unload(loader *l)
{
    lorafmt_runtime_free(l->runtime);
    l->runtime = NULL;
    if (l->region)
        munmap(l->region, l->region_size);
    l->region = NULL;
}

int loader_load(loader *l, unsigned n_threads, bool by_swap)
{
    const lorafmt_runtime_options options = {.struct_size = sizeof options, .n_threads = n_threads, .load_by_swap = by_swap};
    const lorafmt_base *base = lorafmt_model_base(l->model);
    lorafmt_error err;
    void *region;

    unload(l);
    region = mmap(NULL, l->region_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        return message_error("no memory for %zu bytes of live weights: %s", l->region_size, strerror(errno));
    l->region = region;
    for (size_t i = 0; i < base->n_tensors; i++)
        l->places[i].live[0] = (uint8_t *)region + l->offsets[i];
    if (lorafmt_runtime_new(base, l->places, &options, &l->runtime, &err))
        return message_failure(&err, NULL);
    return EXIT_DONE;
}

void loader_close(loader *l)
{
    unload(l);
    free(l->places);
    free(l->offsets);
    lorafmt_model_free(l->model);
    memset(l, 0, sizeof *l);
}
