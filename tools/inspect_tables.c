/* SPDX-License-Identifier: MIT */
/* An adapter by module type, by layer, and what it brings whole. */
#include "tools/command.h"
#include "tools/groups.h"
#include "tools/inspect.h"
#include "tools/sites.h"
#include "tools/table.h"
#include "tools/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* More rows than these are no overview; --sites has everything. */
#define MOST_ROWS 128

#define BAR_WIDTH 40

static void print_table(const page *p, const table *t)
{
    table shown = *t;

    if (t->n_rows == 0)
        return;
    if (shown.n_rows > MOST_ROWS)
        shown.n_rows = MOST_ROWS;
    putchar('\n');
    table_print(p, &shown);
    if (t->n_rows > MOST_ROWS)
        page_line(p, STYLE_QUIET, "  and %zu more; --sites lists all", t->n_rows - MOST_ROWS);
}

/* Numbers that stand in a column: six digits are plenty there. */
static void append_short(char *cell, bool given, double number)
{
    if (given)
        text_append(cell, CELL_SIZE, "%.6g", number);
    else
        text_append(cell, CELL_SIZE, "-");
}

/* A name from outside: cut to what a line holds, in its middle. */
static void append_name(char *cell, const char *name)
{
    char text[SHORT_TEXT_SIZE];

    text_append(cell, CELL_SIZE, "%s", text_shorten(name, PAGE_COLUMNS, text));
}

static void append_size(char *cell, uint64_t n_bytes)
{
    char text[NUMBER_TEXT_SIZE];

    if (n_bytes < 1024)
        text_append(cell, CELL_SIZE, "%" PRIu64 " B", n_bytes);
    else
        text_append(cell, CELL_SIZE, "%s", size_text(n_bytes, text));
}

enum { MODULE, N_SITES, KIND, RANK, ALPHA, SCALE, NORM, LEAST, GREATEST, SIZE, N_MODULE_COLUMNS };

static const column module_columns[N_MODULE_COLUMNS] = {
    [MODULE] = {.head = "module"},
    [N_SITES] = {.head = "sites", .number = true},
    [KIND] = {.head = "kind", .drop = 4},
    [RANK] = {.head = "rank", .number = true},
    [ALPHA] = {.head = "alpha", .number = true, .drop = 3},
    [SCALE] = {.head = "scale", .number = true},
    [NORM] = {.head = "norm", .number = true},
    [LEAST] = {.head = "min", .number = true, .drop = 1},
    [GREATEST] = {.head = "max", .number = true},
    [SIZE] = {.head = "size", .number = true, .drop = 2},
};

static void append_norms(char cells[][CELL_SIZE], const group *g)
{
    double *norms = calloc(g->n, sizeof *norms);
    size_t n = 0;

    for (size_t i = 0; norms && i < g->n; i++)
        if (g->sites[i]->has_norm && isfinite(g->sites[i]->norm)) // others are an oddity
            norms[n++] = g->sites[i]->norm;
    append_norm(cells[NORM], n, median_of(norms, n));
    append_norm(cells[LEAST], n, n ? norms[0] : 0);
    append_norm(cells[GREATEST], n, n ? norms[n - 1] : 0);
    free(norms);
}

static void fill_module(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const group *g = (const group *)ctx + i;
    const site_facts *s = g->sites[0];
    uint64_t n_bytes = 0;
    char path[PATH_TEXT_SIZE];

    for (size_t k = 0; k < g->n; k++)
        n_bytes += g->sites[k]->n_bytes;
    if (g->has_namesake)
        path_text(s->place.path, path);
    else
        snprintf(path, sizeof path, "%.*s", (int)s->place.module.length, s->place.module.text);
    append_name(cells[MODULE], path);
    text_append(cells[N_SITES], CELL_SIZE, "%zu", g->n);
    text_append(cells[KIND], CELL_SIZE, "%s", lorafmt_kind_name(s->site->kind));
    append_number(cells[RANK], s->site->rank != 0, s->site->rank);
    append_short(cells[ALPHA], site_has_alpha(s->site), s->site->alpha);
    append_short(cells[SCALE], site_has_scale(s->site), s->site->scale);
    append_norms(cells, g);
    append_size(cells[SIZE], n_bytes);
}

/* What the figures of a table are. */
static void print_caption(const page *p, const adapter_facts *facts, bool one_each)
{
    if (facts->shared_too_much)
        page_line(p, STYLE_QUIET, "  norms are left out: the sites share tensors too often");
    else
        page_line(p, STYLE_QUIET, "  norm: Frobenius norm of what a site adds%s%s", facts->n_magnitudes ? ", before DoRA" : "",
                  one_each ? "" : "; median, least, greatest");
}

int print_modules(const page *p, const adapter_facts *facts)
{
    group_list list;
    const int code = group_modules(facts, &list);
    const bool one_each = list.n == list.n_sites; // then the norm is all three
    const table t = {.n_columns = N_MODULE_COLUMNS,
                     .columns = module_columns,
                     .n_rows = list.n,
                     .fit = true,
                     .hidden = one_each ? 1u << LEAST | 1u << GREATEST : 0,
                     .fill = fill_module,
                     .ctx = list.groups};

    if (code == EXIT_DONE)
        print_table(p, &t);
    if (list.n)
        print_caption(p, facts, one_each);
    groups_free(&list);
    return code;
}

enum { LAYER, N_LAYER_SITES, LAYER_NORM, BAR, N_LAYER_COLUMNS };

static const column layer_columns[N_LAYER_COLUMNS] = {
    [LAYER] = {.head = "layer"},
    [N_LAYER_SITES] = {.head = "sites", .number = true},
    [LAYER_NORM] = {.head = "total", .number = true},
    [BAR] = {.head = ""},
};

typedef struct layers {
    const page *page;
    group_list list;
    bool one_stack;  /* then the numbers say it all */
    double greatest; /* finite norm */
} layers;

static void fill_layer(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const layers *l = ctx;
    const group *g = &l->list.groups[i];
    const place *at = &g->sites[0]->place;
    char bar[BAR_TEXT_SIZE], name[PATH_TEXT_SIZE + NUMBER_TEXT_SIZE];
    size_t n_known;
    const double norm = group_norm(g, &n_known);

    if (at->has_layer && l->one_stack)
        snprintf(name, sizeof name, "%5" PRIu64, at->layer);
    else if (at->has_layer)
        snprintf(name, sizeof name, "%.*s %" PRIu64, (int)at->stack.length, at->stack.text, at->layer);
    else
        snprintf(name, sizeof name, "other");
    append_name(cells[LAYER], name);
    text_append(cells[N_LAYER_SITES], CELL_SIZE, "%zu", g->n);
    append_norm(cells[LAYER_NORM], n_known, norm);
    if (isfinite(norm) && l->greatest > 0)
        text_append(cells[BAR], CELL_SIZE, "%s", bar_text(l->page, norm / l->greatest, BAR_WIDTH, bar));
}

static void survey_layers(layers *l)
{
    const span first = l->list.groups[0].sites[0]->place.stack;

    l->one_stack = true;
    for (size_t i = 0; i < l->list.n; i++) {
        const group *g = &l->list.groups[i];
        size_t n_known;
        const double norm = group_norm(g, &n_known);
        if (isfinite(norm) && norm > l->greatest)
            l->greatest = norm;
        if (g->sites[0]->place.has_layer && span_compare(first, g->sites[0]->place.stack))
            l->one_stack = false;
    }
}

int print_layers(const page *p, const adapter_facts *facts)
{
    layers l = {.page = p};
    const int code = group_layers(facts, &l.list);
    const table t =
        {.n_columns = N_LAYER_COLUMNS, .columns = layer_columns, .n_rows = l.list.n, .fit = true, .fill = fill_layer, .ctx = &l};

    if (code == EXIT_DONE && l.list.n > 1) { // a single one is all of it
        survey_layers(&l);
        print_table(p, &t);
        if (!facts->shared_too_much)
            page_line(p, STYLE_QUIET, "  total: norm of all that the layer's sites add");
    }
    groups_free(&l.list);
    return code;
}

enum { TENSOR, WHOLE_KIND, DTYPE, SHAPE, WHOLE_SIZE, N_WHOLE_COLUMNS };

static const column whole_columns[N_WHOLE_COLUMNS] = {
    [TENSOR] = {.head = "replaced"},
    [WHOLE_KIND] = {.head = "kind"},
    [DTYPE] = {.head = "dtype"},
    [SHAPE] = {.head = "shape"},
    [WHOLE_SIZE] = {.head = "size", .number = true},
};

static void fill_whole(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const lorafmt_site *site = ((const lorafmt_site *const *)ctx)[i];
    const lorafmt_tensor *t = &site->factors[0].tensor;
    uint64_t n_bytes = 0;

    for (uint32_t f = 0; f < site->n_factors; f++)
        n_bytes += site->factors[f].tensor.size;
    append_name(cells[TENSOR], site->target);
    text_append(cells[WHOLE_KIND], CELL_SIZE, "%s", lorafmt_kind_name(site->kind));
    append_dtypes(cells[DTYPE], site);
    for (uint32_t d = 0; d < t->n_dims; d++)
        text_append(cells[SHAPE], CELL_SIZE, "%s%" PRIu64, d ? "," : "", t->shape[d]);
    append_size(cells[WHOLE_SIZE], n_bytes);
}

int print_whole(const page *p, const adapter_facts *facts)
{
    const lorafmt_site **sites = calloc(facts->adapter->n_sites, sizeof(const lorafmt_site *));
    table t = {.n_columns = N_WHOLE_COLUMNS, .columns = whole_columns, .fit = true, .fill = fill_whole, .ctx = sites};

    if (!sites)
        return message_no_memory();
    for (size_t i = 0; i < facts->adapter->n_sites; i++) {
        const lorafmt_site *site = &facts->adapter->sites[i];
        if (!site_is_low_rank(site) && site->kind != LORAFMT_KIND_ADDITIVE)
            sites[t.n_rows++] = site;
    }
    print_table(p, &t);
    free(sites);
    return EXIT_DONE;
}
