/* SPDX-License-Identifier: MIT */
#include "tools/sites.h"

#include "tools/message.h"
#include "tools/stats.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { KIND, RANK, ALPHA, SCALE, DTYPE, SHAPES, N_COLUMNS };

#define CELL_SIZE 200

typedef struct row {
    char cells[N_COLUMNS][CELL_SIZE];
} row;

static void append_shape(char cell[CELL_SIZE], const lorafmt_factor *factor)
{
    text_append(cell, CELL_SIZE, "%s%s[", cell[0] ? " " : "", lorafmt_role_name(factor->role));
    for (uint32_t d = 0; d < factor->tensor.n_dims; d++)
        text_append(cell, CELL_SIZE, "%s%" PRIu64, d ? "," : "", factor->tensor.shape[d]);
    text_append(cell, CELL_SIZE, "]");
}

static void append_dtype(char cell[CELL_SIZE], const lorafmt_site *site, uint32_t i)
{
    const lorafmt_dtype dtype = site->factors[i].tensor.dtype;
    const char *name = lorafmt_dtype_name(dtype);

    if (i == 0 || dtype != site->factors[i - 1].tensor.dtype)
        text_append(cell, CELL_SIZE, "%s%s", cell[0] ? "," : "", name ? name : "unknown");
}

static void append_number(char cell[CELL_SIZE], bool given, double number)
{
    char text[NUMBER_TEXT_SIZE];

    text_append(cell, CELL_SIZE, "%s", given ? number_text(number, text) : "-");
}

static void fill(row *r, const lorafmt_site *site)
{
    for (size_t i = 0; i < N_COLUMNS; i++)
        r->cells[i][0] = '\0';
    text_append(r->cells[KIND], CELL_SIZE, "%s", lorafmt_kind_name(site->kind));
    append_number(r->cells[RANK], site->rank != 0, site->rank);
    append_number(r->cells[ALPHA], site_has_alpha(site), site->alpha);
    append_number(r->cells[SCALE], site_has_scale(site), site->scale);
    for (uint32_t i = 0; i < site->n_factors; i++) {
        append_dtype(r->cells[DTYPE], site, i);
        append_shape(r->cells[SHAPES], &site->factors[i]);
    }
}

static void widen(size_t widths[N_COLUMNS], const row *r)
{
    for (size_t i = 0; i < N_COLUMNS; i++) {
        const size_t width = text_width(r->cells[i]);
        if (width > widths[i])
            widths[i] = width;
    }
}

static void print_row(const row *r, const size_t widths[N_COLUMNS], const char *target)
{
    char line[N_COLUMNS * (CELL_SIZE + 2)] = "";
    size_t length = 0;

    for (size_t i = 0; i < N_COLUMNS; i++) {
        const bool number = i == RANK || i == ALPHA || i == SCALE;
        length += (size_t)snprintf(line + length, sizeof line - length, number ? "%*s  " : "%-*s  ", (int)widths[i], r->cells[i]);
    }
    print_line(stdout, "  %s%s", line, target);
}

void print_sites(const lorafmt_adapter *adapter)
{
    static const row head = {{"kind", "rank", "alpha", "scale", "dtype", "shapes"}};
    size_t widths[N_COLUMNS] = {0};
    row r;

    widen(widths, &head);
    for (size_t i = 0; i < adapter->n_sites; i++) {
        fill(&r, &adapter->sites[i]);
        widen(widths, &r);
    }
    putchar('\n');
    print_row(&head, widths, "target");
    for (size_t i = 0; i < adapter->n_sites; i++) {
        fill(&r, &adapter->sites[i]);
        print_row(&r, widths, adapter->sites[i].target);
    }
}
