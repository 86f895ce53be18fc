/* SPDX-License-Identifier: MIT */
#include "tools/table.h"

#include "tools/text.h"

#include <stdio.h>
#include <string.h>

#define INDENT 2
#define LEAST_FIRST 14 /* columns that the first one keeps while others may leave */

typedef struct layout {
    size_t gap; /* between columns */
    size_t widths[TABLE_COLUMNS];
    bool dropped[TABLE_COLUMNS];
} layout;

static void clear(size_t n_columns, char cells[][CELL_SIZE])
{
    for (size_t c = 0; c < n_columns; c++)
        cells[c][0] = '\0';
}

static void widen(layout *l, size_t n_columns, char cells[][CELL_SIZE])
{
    for (size_t c = 0; c < n_columns; c++) {
        const size_t width = text_width(cells[c]);
        if (width > l->widths[c])
            l->widths[c] = width;
    }
}

static size_t total_width(const table *t, const layout *l)
{
    size_t width = INDENT;

    for (size_t c = 0; c < t->n_columns; c++)
        if (!l->dropped[c])
            width += l->widths[c] + (c ? l->gap : 0);
    return width;
}

/* Take the column that leaves first; false when none is left that may. */
static bool drop_one(const table *t, layout *l)
{
    size_t next = t->n_columns;

    for (size_t c = 0; c < t->n_columns; c++)
        if (t->columns[c].drop && !l->dropped[c] && (next == t->n_columns || t->columns[c].drop < t->columns[next].drop))
            next = c;
    if (next < t->n_columns)
        l->dropped[next] = true;
    return next < t->n_columns;
}

static void fit_to_page(const table *t, layout *l)
{
    const size_t first = l->widths[0], least = first < LEAST_FIRST ? first : LEAST_FIRST;
    size_t width;

    l->widths[0] = least;
    if (total_width(t, l) > PAGE_COLUMNS)
        l->gap = 1;
    while ((width = total_width(t, l)) > PAGE_COLUMNS && drop_one(t, l)) {
    }
    if (width < PAGE_COLUMNS && first > least)
        l->widths[0] += first - least < PAGE_COLUMNS - width ? first - least : PAGE_COLUMNS - width;
}

static layout lay_out(const table *t)
{
    char cells[TABLE_COLUMNS][CELL_SIZE];
    layout l = {.gap = 2};

    for (size_t c = 0; c < t->n_columns; c++) {
        l.widths[c] = strlen(t->columns[c].head);
        l.dropped[c] = t->hidden >> c & 1;
    }
    for (size_t i = 0; i < t->n_rows; i++) {
        clear(t->n_columns, cells);
        t->fill(t->ctx, i, cells);
        widen(&l, t->n_columns, cells);
    }
    if (t->fit)
        fit_to_page(t, &l);
    return l;
}

static void pad(char *line, size_t size, size_t n)
{
    text_append(line, size, "%*s", (int)n, "");
}

static void print_row(const page *p, style s, const table *t, const layout *l, char cells[][CELL_SIZE], const char *tail)
{
    char line[TABLE_COLUMNS * (CELL_SIZE + 2)] = "", text[SHORT_TEXT_SIZE];
    size_t length;

    for (size_t c = 0; c < t->n_columns; c++) {
        const char *cell = c == 0 && t->fit ? text_shorten(cells[c], l->widths[c], text) : cells[c];
        const size_t missing = l->widths[c] - text_width(cell);
        if (l->dropped[c])
            continue;
        pad(line, sizeof line, c ? l->gap : INDENT);
        if (t->columns[c].number)
            pad(line, sizeof line, missing);
        text_append(line, sizeof line, "%s", cell);
        if (!t->columns[c].number)
            pad(line, sizeof line, missing);
    }
    if (!tail)
        for (length = strlen(line); length && line[length - 1] == ' ';)
            line[--length] = '\0';
    page_line(p, s, "%s%s%s", line, tail ? "  " : "", tail ? tail : "");
}

static void print_head(const page *p, const table *t, const layout *l)
{
    char cells[TABLE_COLUMNS][CELL_SIZE];

    for (size_t c = 0; c < t->n_columns; c++)
        snprintf(cells[c], CELL_SIZE, "%s", t->columns[c].head);
    print_row(p, STYLE_TITLE, t, l, cells, t->tail_head);
}

void table_print(const page *p, const table *t)
{
    const layout l = lay_out(t);
    char cells[TABLE_COLUMNS][CELL_SIZE];

    if (t->n_rows)
        print_head(p, t, &l);
    for (size_t i = 0; i < t->n_rows; i++) {
        clear(t->n_columns, cells);
        t->fill(t->ctx, i, cells);
        print_row(p, STYLE_PLAIN, t, &l, cells, t->tail ? t->tail(t->ctx, i) : NULL);
    }
}
