/* SPDX-License-Identifier: MIT */
/* lorafmt/generations.h: what the generations of a file hold. Opening does not look at their tensors. */
#include "lorafmt/generations.h"

#include "format/base/arena.h"
#include "format/base/error.h"
#include "lib/front/source.h"

#include <stdlib.h>
#include <string.h>

struct lorafmt_history {
    lf_map map;
    lf_container *container;
    lf_arena arena;
    size_t n;
    lorafmt_generation *generations;
};

static lorafmt_status read_adapters(const lf_container *c, lorafmt_generation *g, lf_arena *arena, lorafmt_error *err)
{
    const size_t n = lf_container_n_adapters(c);
    lorafmt_adapter *adapters = lf_arena_alloc(arena, n, sizeof *adapters);

    if (!adapters)
        return lf_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        uint32_t first_site, first_metadata;
        LF_TRY(lf_container_adapter(c, i, &adapters[i], &first_site, &first_metadata, err));
    }
    g->adapters = adapters;
    g->n_adapters = n;
    return LORAFMT_OK;
}

/* An earlier generation that cannot be read is no reason not to list the others. */
static lorafmt_status read_earlier(lorafmt_history *h, size_t i, lorafmt_generation *g, lorafmt_error *err)
{
    lf_container *earlier;
    lorafmt_error own;
    lorafmt_status st = lf_container_open_earlier(h->container, i, &earlier, &own);

    if (!st)
        st = read_adapters(earlier, g, &h->arena, &own);
    lf_container_free(earlier);
    if (st && (st == LORAFMT_NO_MEMORY || !(g->damage = lf_arena_printf(&h->arena, "%s: %s", own.field, own.text))))
        return lf_no_memory(err);
    return LORAFMT_OK;
}

static lorafmt_status read_generations(lorafmt_history *h, lorafmt_error *err)
{
    const size_t n_earlier = lf_container_n_earlier(h->container);
    lorafmt_container_info info;
    uint64_t end;

    lf_container_info(h->container, &info);
    h->n = n_earlier + 1;
    h->generations = lf_arena_alloc(&h->arena, h->n, sizeof *h->generations);
    if (!h->generations)
        return lf_no_memory(err);
    h->generations[0].number = info.generation;
    h->generations[0].n_bytes = info.file_end;
    LF_TRY(read_adapters(h->container, &h->generations[0], &h->arena, err));
    for (size_t i = 0; i < n_earlier; i++) {
        lorafmt_generation *g = &h->generations[i + 1];
        LF_TRY(lf_container_earlier(h->container, i, &g->number, &end, err));
        g->n_bytes = end;
        g[-1].n_bytes -= end < g[-1].n_bytes ? end : g[-1].n_bytes;
        LF_TRY(read_earlier(h, i, g, err));
    }
    return LORAFMT_OK;
}

lorafmt_status lorafmt_history_open(const char *path, lorafmt_history **out, lorafmt_error *err)
{
    lorafmt_history *h = calloc(1, sizeof *h);
    lorafmt_status st;

    *out = NULL;
    if (!h)
        return lf_no_memory(err);
    st = lf_container_open_file(path, NULL, &h->map, &h->container, err);
    if (!st)
        st = read_generations(h, err);
    if (st) {
        lf_error_set_file(err, path);
        lorafmt_history_free(h);
        return st;
    }
    *out = h;
    return LORAFMT_OK;
}

void lorafmt_history_free(lorafmt_history *h)
{
    if (!h)
        return;
    lf_container_free(h->container);
    lf_map_close(&h->map);
    lf_arena_free(&h->arena);
    free(h);
}

size_t lorafmt_history_n_generations(const lorafmt_history *h)
{
    return h->n;
}

const lorafmt_generation *lorafmt_history_generation(const lorafmt_history *h, size_t i)
{
    return i < h->n ? &h->generations[i] : NULL;
}

lorafmt_status lorafmt_history_verify(const lorafmt_history *h, size_t i, lorafmt_verify_result *out, lorafmt_error *err)
{
    lf_container *earlier;
    lorafmt_status st;

    if (out)
        memset(out, 0, sizeof *out);
    if (i == 0)
        return lf_container_check_generation(h->container, out, err);
    if (i >= h->n)
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "there is no generation at %zu, the file has %zu", i,
                       h->n);
    LF_TRY(lf_container_open_earlier(h->container, i - 1, &earlier, err));
    st = lf_container_check_generation(earlier, out, err);
    lf_container_free(earlier);
    return st;
}

void lorafmt_history_container(const lorafmt_history *h, lorafmt_container_info *out)
{
    lf_container_info(h->container, out);
}
