/* SPDX-License-Identifier: MIT */
/* Two models beside each other, for people. */
#include "tools/diff.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/table.h"
#include "tools/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 1024
#define MOST_TENSORS 10
#define MOST_ROWS 64
#define MOST_LISTED 10
#define BAR_WIDTH 30

/* Of real numbers, compared, and with a difference that can be measured. */
static bool is_row(const lorakit_tensor_diff *t)
{
    return t->state == LORAKIT_DIFF_COMPARED && t->n_differing && !isnan(t->norm_difference);
}

int model_diff_survey(model_diff *d)
{
    const size_t n = lorakit_model_diff_n_tensors(d->diff);

    if (!(d->rows.rows = calloc(n + 1, sizeof *d->rows.rows)))
        return message_no_memory();
    for (size_t i = 0; i < n; i++) {
        const lorakit_tensor_diff *t = lorakit_model_diff_get_tensor(d->diff, i);
        if (is_row(t))
            d->rows.rows[d->rows.n++] = (diff_row){.place = place_of(t->name),
                                                   .norm_x = t->norm_base,
                                                   .norm_y = t->norm_tuned,
                                                   .difference = t->norm_difference,
                                                   .max_difference = t->max_difference,
                                                   .n_elements = t->n_elements,
                                                   .n_differing = t->n_differing,
                                                   .tensor = t};
    }
    return diff_rows_finish(&d->rows);
}

/* --- tables --- */

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : NAN;
}

static void append_percent(char *cell, double share)
{
    if (isnan(share))
        text_append(cell, CELL_SIZE, "-");
    else
        text_append(cell, CELL_SIZE, "%.3g %%", share);
}

static void fill_numbers(char cells[][CELL_SIZE], double base, double difference, double most, uint64_t n_differing, uint64_t n)
{
    append_significant(cells[0], 4, difference);
    append_significant(cells[1], 4, base);
    append_percent(cells[2], percent(difference, base));
    append_significant(cells[3], 3, most);
    append_percent(cells[4], percent((double)n_differing, (double)n));
}

enum { GROUP, N_TENSORS, DIFFERENCE, N_GROUP_COLUMNS = DIFFERENCE + 5 };

static const column module_columns[N_GROUP_COLUMNS] = {
    {.head = "module"},
    {.head = "tensors", .number = true, .drop = 1},
    {.head = "|T - B|", .number = true},
    {.head = "|B|", .number = true},
    {.head = "change", .number = true},
    {.head = "most", .number = true},
    {.head = "differ", .number = true},
};

static void fill_module(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const diff_group *g = (const diff_group *)ctx + i;
    char text[GROUP_TEXT_SIZE];

    append_target(cells[GROUP], diff_module_text(g, text));
    text_append(cells[N_TENSORS], CELL_SIZE, "%zu", g->n_rows);
    fill_numbers(cells + DIFFERENCE, g->norm_x, g->difference, g->max_difference, g->n_differing, g->n_elements);
}

enum { LAYER, LAYER_TENSORS, LAYER_DIFFERENCE, LAYER_CHANGE, BAR, N_LAYER_COLUMNS };

static const column layer_columns[N_LAYER_COLUMNS] = {
    [LAYER] = {.head = "layer"},
    [LAYER_TENSORS] = {.head = "tensors", .number = true, .drop = 1},
    [LAYER_DIFFERENCE] = {.head = "|T - B|", .number = true},
    [LAYER_CHANGE] = {.head = "change", .number = true},
    [BAR] = {.head = ""},
};

typedef struct layer_table {
    const page *page;
    const diff_rows *rows;
} layer_table;

static void fill_layer(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const layer_table *l = ctx;
    const diff_group *g = &l->rows->layers[i];
    char text[GROUP_TEXT_SIZE], bar[BAR_TEXT_SIZE];

    append_target(cells[LAYER], diff_layer_text(l->rows, g, text));
    text_append(cells[LAYER_TENSORS], CELL_SIZE, "%zu", g->n_rows);
    append_significant(cells[LAYER_DIFFERENCE], 4, g->difference);
    append_percent(cells[LAYER_CHANGE], percent(g->difference, g->norm_x));
    if (l->rows->greatest > 0)
        text_append(cells[BAR], CELL_SIZE, "%s", bar_text(l->page, g->difference / l->rows->greatest, BAR_WIDTH, bar));
}

static const column tensor_columns[] = {
    {.head = "|T - B|", .number = true}, {.head = "|B|", .number = true},    {.head = "change", .number = true},
    {.head = "most", .number = true},    {.head = "differ", .number = true},
};

static void fill_tensor(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const diff_row *r = (const diff_row *)ctx + i;

    fill_numbers(cells, r->norm_x, r->difference, r->max_difference, r->n_differing, r->n_elements);
}

static const char *row_name(const void *ctx, size_t i)
{
    return ((const diff_row *)ctx)[i].tensor->name;
}

static void print_tables(const page *p, const diff_rows *rows, bool all)
{
    const layer_table l = {p, rows};
    const table modules = {.n_columns = N_GROUP_COLUMNS,
                           .columns = module_columns,
                           .n_rows = rows->n_modules,
                           .fit = true,
                           .fill = fill_module,
                           .ctx = rows->modules},
                layers = {.n_columns = N_LAYER_COLUMNS,
                          .columns = layer_columns,
                          .n_rows = rows->n_layers,
                          .fit = true,
                          .fill = fill_layer,
                          .ctx = &l},
                tensors = {.n_columns = 5,
                           .columns = tensor_columns,
                           .n_rows = rows->n,
                           .fill = fill_tensor,
                           .ctx = rows->rows,
                           .tail_head = "tensor",
                           .tail = row_name};

    print_diff_table(p, &modules, MOST_ROWS, "of tensors that differ; change: |T - B| / |B|; most: in one element");
    if (rows->n_layers > 1)
        print_diff_table(p, &layers, MOST_ROWS, NULL);
    print_diff_table(p, &tensors, all ? SIZE_MAX : MOST_TENSORS, NULL);
}

/* --- tensors that are not in those tables --- */

static bool is_equal(const lorakit_tensor_diff *t)
{
    return t->state == LORAKIT_DIFF_COMPARED && !t->n_differing && t->base->dtype == t->tuned->dtype;
}

static void append_type(char *cell, const lorafmt_base_tensor *t)
{
    if (!t) {
        text_append(cell, CELL_SIZE, "-");
        return;
    }
    text_append(cell, CELL_SIZE, "%s [", lorafmt_dtype_name(t->dtype));
    for (uint32_t d = 0; d < t->n_dims; d++)
        text_append(cell, CELL_SIZE, "%s%" PRIu64, d ? "," : "", t->shape[d]);
    text_append(cell, CELL_SIZE, "]");
}

static const column listed_columns[] = {{.head = "base"}, {.head = "tuned"}};

static void fill_listed(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const lorakit_tensor_diff *t = ((const lorakit_tensor_diff *const *)ctx)[i];

    append_type(cells[0], t->base);
    append_type(cells[1], t->tuned);
}

static const char *listed_name(const void *ctx, size_t i)
{
    return ((const lorakit_tensor_diff *const *)ctx)[i]->name;
}

/* Those that are not in both, or not with the same type; and those that differ without being numbers. */
static void print_listed(const page *p, const model_diff *d, size_t most)
{
    const size_t n = lorakit_model_diff_n_tensors(d->diff);
    const lorakit_tensor_diff **listed = calloc(n + 1, sizeof(const lorakit_tensor_diff *));
    table t = {.n_columns = 2,
               .columns = listed_columns,
               .fill = fill_listed,
               .ctx = listed,
               .tail_head = "other tensor",
               .tail = listed_name};

    for (size_t i = 0; listed && i < n; i++) {
        const lorakit_tensor_diff *tensor = lorakit_model_diff_get_tensor(d->diff, i);
        if (!is_equal(tensor) && (!is_row(tensor) || tensor->base->dtype != tensor->tuned->dtype))
            listed[t.n_rows++] = tensor;
    }
    print_diff_table(p, &t, most, NULL);
    free(listed);
}

/* --- the head --- */

static void print_counts(const page *p, const lorakit_model_totals *t)
{
    char line[LINE_SIZE] = "", count[NUMBER_TEXT_SIZE], whole[NUMBER_TEXT_SIZE];

    text_append(line, sizeof line, "%zu in both, %zu of them equal", t->n_compared + t->n_others, t->n_equal);
    if (t->n_others)
        text_append(line, sizeof line, ", %zu of another shape or dtype", t->n_others);
    if (t->n_only_base)
        text_append(line, sizeof line, "; %zu only in B", t->n_only_base);
    if (t->n_only_tuned)
        text_append(line, sizeof line, "; %zu only in T", t->n_only_tuned);
    page_field_wrapped(p, "tensors", line);
    if (!t->n_elements)
        return;
    snprintf(line, sizeof line, "%s of %s differ, %.3g %%", count_text(t->n_differing, count), count_text(t->n_elements, whole),
             percent((double)t->n_differing, (double)t->n_elements));
    page_field_wrapped(p, "elements", line);
}

static void print_nonfinite(const page *p, const lorakit_model_totals *t)
{
    char line[LINE_SIZE];

    if (!(t->n_nan_base + t->n_inf_base + t->n_nan_tuned + t->n_inf_tuned))
        return;
    snprintf(line, sizeof line,
             "%" PRIu64 " NaN and %" PRIu64 " infinite in B, %" PRIu64 " and %" PRIu64 " in T; norms leave them out",
             t->n_nan_base, t->n_inf_base, t->n_nan_tuned, t->n_inf_tuned);
    page_field_wrapped(p, "not finite", line);
}

static void print_model(const page *p, const char *which, const char *path)
{
    char name[SHORT_TEXT_SIZE];

    page_print(p, STYLE_TITLE, "%s", which);
    page_line(p, STYLE_PLAIN, " = %s", text_shorten(path, PAGE_COLUMNS - strlen(which) - strlen(" = "), name));
}

void model_diff_print(const model_diff *d, bool all_tensors)
{
    const lorakit_model_totals *t = lorakit_model_diff_get_totals(d->diff);
    const page p = page_of_stdout();

    print_model(&p, "B", d->base);
    print_model(&p, "T", d->tuned);
    putchar('\n');
    if (t->equal)
        page_line(&p, STYLE_TITLE, "the same model: every tensor is equal");
    else if (t->norm_difference > 0)
        page_line(&p, STYLE_TITLE, "different: |T - B| is %.3g, %.3g %% of |B|; at most %.3g in one element", t->norm_difference,
                  percent(t->norm_difference, t->norm_base), t->max_difference);
    else
        page_line(&p, STYLE_TITLE, "different%s", t->n_differing ? "" : ", but the numbers that both have are equal");
    print_counts(&p, t);
    print_nonfinite(&p, t);
    print_tables(&p, &d->rows, all_tensors);
    print_listed(&p, d, all_tensors ? SIZE_MAX : MOST_LISTED);
}
