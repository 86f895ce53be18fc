/* SPDX-License-Identifier: MIT */
#include "tools/sites.h"

#include "tools/table.h"
#include "tools/text.h"

#include <inttypes.h>

enum { KIND, RANK, ALPHA, SCALE, NORM, DTYPE, SHAPES, N_COLUMNS };

static const column columns[N_COLUMNS] = {
    [KIND] = {.head = "kind"},
    [RANK] = {.head = "rank", .number = true},
    [ALPHA] = {.head = "alpha", .number = true},
    [SCALE] = {.head = "scale", .number = true},
    [NORM] = {.head = "norm", .number = true},
    [DTYPE] = {.head = "dtype"},
    [SHAPES] = {.head = "shapes"},
};

static void append_shape(char *cell, const lorafmt_factor *factor)
{
    text_append(cell, CELL_SIZE, "%s%s[", cell[0] ? " " : "", lorafmt_role_name(factor->role));
    for (uint32_t d = 0; d < factor->tensor.n_dims; d++)
        text_append(cell, CELL_SIZE, "%s%" PRIu64, d ? "," : "", factor->tensor.shape[d]);
    text_append(cell, CELL_SIZE, "]");
}

void append_dtypes(char *cell, const lorafmt_site *site)
{
    for (uint32_t i = 0; i < site->n_factors; i++) {
        const lorafmt_dtype dtype = site->factors[i].tensor.dtype;
        const char *name = lorafmt_dtype_name(dtype);
        if (i == 0 || dtype != site->factors[i - 1].tensor.dtype)
            text_append(cell, CELL_SIZE, "%s%s", cell[0] ? "," : "", name ? name : "unknown");
    }
}

void append_number(char *cell, bool given, double number)
{
    char text[NUMBER_TEXT_SIZE];

    text_append(cell, CELL_SIZE, "%s", given ? number_text(number, text) : "-");
}

void append_norm(char *cell, bool known, double norm)
{
    if (known)
        text_append(cell, CELL_SIZE, "%#.4g", norm);
    else
        text_append(cell, CELL_SIZE, "-");
}

static void fill(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const site_facts *facts = (const site_facts *)ctx + i;
    const lorafmt_site *site = facts->site;

    text_append(cells[KIND], CELL_SIZE, "%s", lorafmt_kind_name(site->kind));
    append_number(cells[RANK], site->rank != 0, site->rank);
    append_number(cells[ALPHA], site_has_alpha(site), site->alpha);
    append_number(cells[SCALE], site_has_scale(site), site->scale);
    append_norm(cells[NORM], facts->has_norm, facts->norm);
    append_dtypes(cells[DTYPE], site);
    for (uint32_t f = 0; f < site->n_factors; f++)
        append_shape(cells[SHAPES], &site->factors[f]);
}

static const char *target_of(const void *ctx, size_t i)
{
    return ((const site_facts *)ctx)[i].site->target;
}

void print_sites(const page *p, const adapter_facts *facts)
{
    const table t = {.n_columns = N_COLUMNS,
                     .columns = columns,
                     .n_rows = facts->adapter->n_sites,
                     .fill = fill,
                     .ctx = facts->sites,
                     .tail_head = "target",
                     .tail = target_of};

    putchar('\n');
    table_print(p, &t);
}
