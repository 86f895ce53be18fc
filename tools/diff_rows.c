/* SPDX-License-Identifier: MIT */
#include "tools/diff.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/table.h"
#include "tools/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef int compare_rows(const void *a, const void *b);

static int compare_modules(const void *a_, const void *b_)
{
    const diff_row *a = *(const diff_row *const *)a_, *b = *(const diff_row *const *)b_;
    const int order = span_compare(a->place.module, b->place.module);

    return order ? order : path_compare(a->place.path, b->place.path);
}

static int compare_layers(const void *a_, const void *b_)
{
    const diff_row *a = *(const diff_row *const *)a_, *b = *(const diff_row *const *)b_;
    int order = (int)b->place.has_layer - (int)a->place.has_layer;

    if (!order)
        order = span_compare(a->place.stack, b->place.stack);
    return order ? order : (a->place.layer > b->place.layer) - (a->place.layer < b->place.layer);
}

static const char *name_of(const diff_row *row)
{
    return row->site ? row->site->target : row->tensor->name;
}

/* The largest difference first; what is equal, by name. */
static int compare_differences(const void *a_, const void *b_)
{
    const diff_row *a = a_, *b = b_;

    if (a->difference != b->difference)
        return a->difference < b->difference ? 1 : -1;
    return (name_of(a) > name_of(b)) - (name_of(a) < name_of(b)); // they lie in the order of names
}

static int compare_groups(const void *a_, const void *b_)
{
    const diff_group *a = a_, *b = b_;

    if (a->difference != b->difference)
        return a->difference < b->difference ? 1 : -1;
    return span_compare(a->place.path, b->place.path);
}

static diff_group sum_up(const diff_row *const *rows, size_t n)
{
    diff_group g = {.place = rows[0]->place, .n_rows = n, .columns = 0, .rows = 0};
    double dot = 0;

    for (size_t i = 0; i < n; i++) {
        const diff_row *r = rows[i];
        g.norm_x = hypot(g.norm_x, r->norm_x);
        g.norm_y = hypot(g.norm_y, r->norm_y);
        g.difference = hypot(g.difference, r->difference);
        g.max_difference = fmax(g.max_difference, r->max_difference);
        g.n_elements += r->n_elements;
        g.n_differing += r->n_differing;
        dot += r->dot;
        if (r->site && r->site->n_angles) {
            g.columns += r->site->column_overlap;
            g.rows += r->site->row_overlap;
            g.n_overlaps++;
        }
    }
    g.cosine = g.norm_x > 0 && g.norm_y > 0 ? fmax(-1, fmin(1, dot / g.norm_x / g.norm_y)) : NAN;
    g.columns /= (double)g.n_overlaps; // NaN without
    g.rows /= (double)g.n_overlaps;
    return g;
}

static int group(const diff_rows *rows, compare_rows *compare, diff_group **groups, size_t *n_groups)
{
    const diff_row **order = calloc(rows->n + 1, sizeof(const diff_row *));

    *groups = calloc(rows->n + 1, sizeof **groups);
    if (!order || !*groups) {
        free(order);
        return message_no_memory();
    }
    for (size_t i = 0; i < rows->n; i++)
        order[i] = &rows->rows[i];
    qsort(order, rows->n, sizeof(const diff_row *), compare);
    for (size_t i = 0, end; i < rows->n; i = end) {
        for (end = i + 1; end < rows->n && !compare(&order[i], &order[end]);)
            end++;
        (*groups)[(*n_groups)++] = sum_up(order + i, end - i);
    }
    free(order);
    return EXIT_DONE;
}

int diff_rows_finish(diff_rows *rows)
{
    int code;

    if (rows->n == 0)
        return EXIT_DONE;
    qsort(rows->rows, rows->n, sizeof *rows->rows, compare_differences);
    code = group(rows, compare_modules, &rows->modules, &rows->n_modules);
    if (code == EXIT_DONE)
        code = group(rows, compare_layers, &rows->layers, &rows->n_layers);
    if (code != EXIT_DONE)
        return code;
    qsort(rows->modules, rows->n_modules, sizeof *rows->modules, compare_groups);
    rows->one_stack = true;
    for (size_t i = 0; i < rows->n_layers; i++) {
        const place *at = &rows->layers[i].place;
        rows->greatest = fmax(rows->greatest, rows->layers[i].difference);
        rows->one_stack = rows->one_stack && (!at->has_layer || !span_compare(at->stack, rows->layers[0].place.stack));
    }
    return EXIT_DONE;
}

void diff_rows_free(diff_rows *rows)
{
    free(rows->rows);
    free(rows->modules);
    free(rows->layers);
}

const char *diff_module_text(const diff_group *g, char buf[GROUP_TEXT_SIZE])
{
    return path_text(g->place.path, buf);
}

const char *diff_layer_text(const diff_rows *rows, const diff_group *g, char buf[GROUP_TEXT_SIZE])
{
    if (g->place.has_layer && rows->one_stack)
        snprintf(buf, GROUP_TEXT_SIZE, "%5" PRIu64, g->place.layer);
    else if (g->place.has_layer)
        snprintf(buf, GROUP_TEXT_SIZE, "%.*s %" PRIu64, (int)g->place.stack.length, g->place.stack.text, g->place.layer);
    else
        snprintf(buf, GROUP_TEXT_SIZE, "other");
    return buf;
}

void append_significant(char *cell, int digits, double number)
{
    if (isnan(number))
        text_append(cell, CELL_SIZE, "-");
    else if (number == 0)
        text_append(cell, CELL_SIZE, "0");
    else
        text_append(cell, CELL_SIZE, "%#.*g", digits, number);
}

void append_cosine(char *cell, double cosine)
{
    if (isnan(cosine))
        text_append(cell, CELL_SIZE, "-");
    else
        text_append(cell, CELL_SIZE, "%.4f", cosine);
}

void append_target(char *cell, const char *name)
{
    char text[SHORT_TEXT_SIZE];

    text_append(cell, CELL_SIZE, "%s", text_shorten(name, PAGE_COLUMNS, text));
}

void print_diff_table(const page *p, const table *t, size_t most, const char *caption)
{
    table shown = *t;

    if (t->n_rows == 0)
        return;
    if (shown.n_rows > most)
        shown.n_rows = most;
    putchar('\n');
    table_print(p, &shown);
    if (t->n_rows > most)
        page_line(p, STYLE_QUIET, "  and %zu more; --sites lists all", t->n_rows - most);
    if (caption)
        page_line(p, STYLE_QUIET, "  %s", caption);
}
