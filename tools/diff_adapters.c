/* SPDX-License-Identifier: MIT */
/* Two adapters or stacks beside each other, for people. */
#include "tools/diff.h"

#include "tools/command.h"
#include "tools/facts.h"
#include "tools/message.h"
#include "tools/stats.h"
#include "tools/table.h"
#include "tools/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 1024
#define MOST_SITES 10  /* of the most different ones */
#define MOST_ROWS 64   /* of an overview */
#define MOST_LISTED 10 /* of sites that are in one alone */
#define BAR_WIDTH 24

/* --- rows --- */

static bool adds(const lorakit_site_diff *d)
{
    return (d->x ? d->x : d->y)->kind >= LORAFMT_KIND_ADDITIVE;
}

static double or_zero(double x)
{
    return isnan(x) ? 0 : x;
}

static diff_row row_of(const lorakit_site_diff *d)
{
    const double x = d->x ? d->norm_x : 0, y = d->y ? d->norm_y : 0;

    return (diff_row){.place = place_of(d->target),
                      .norm_x = x,
                      .norm_y = y,
                      .difference = !d->y   ? x
                                    : !d->x ? y
                                            : d->norm_difference,
                      .dot = or_zero(d->cosine) * x * y,
                      .n_elements = d->n_elements,
                      .n_differing = d->n_differing,
                      .site = d};
}

int adapter_diff_survey(adapter_diff *d)
{
    const size_t n = lorakit_diff_n_sites(d->diff);

    if (!(d->rows.rows = calloc(n + 1, sizeof *d->rows.rows)))
        return message_no_memory();
    for (size_t i = 0; i < n; i++) {
        const diff_row row = row_of(lorakit_diff_get_site(d->diff, i));
        if (adds(row.site) && !isnan(row.difference))
            d->rows.rows[d->rows.n++] = row;
    }
    return diff_rows_finish(&d->rows);
}

/* --- what they are called, and say of themselves --- */

bool diff_is_same_id(const adapter_diff *d)
{
    const adapter_stack *x = &d->x.stack, *y = &d->y.stack;
    uint8_t id_x[32], id_y[32];

    if (x->n != 1 || y->n != 1 || x->entries[0].weight != y->entries[0].weight)
        return false;
    lorafmt_adapter_id(x->entries[0].adapter, id_x);
    lorafmt_adapter_id(y->entries[0].adapter, id_y);
    return !memcmp(id_x, id_y, sizeof id_x);
}

typedef struct facts_told {
    diff_fact *fact;
    void *ctx;
    size_t n;
} facts_told;

static void tell(facts_told *t, const char *key, const char *x, const char *y)
{
    if (x && y && !strcmp(x, y))
        return;
    if (t->fact)
        t->fact(t->ctx, key, x, y);
    t->n++;
}

/* "" is unknown, spec 4.3. */
static const char *known(const char *text)
{
    return *text ? text : NULL;
}

static void tell_text(facts_told *t, const char *key, const char *x, const char *y)
{
    if (known(x) || known(y))
        tell(t, key, known(x), known(y));
}

static void tell_metadata(facts_told *t, const lorafmt_adapter *x, const lorafmt_adapter *y)
{
    size_t i = 0, k = 0;

    while (i < x->n_metadata || k < y->n_metadata) {
        const int order = i == x->n_metadata ? 1 : k == y->n_metadata ? -1 : strcmp(x->metadata[i].key, y->metadata[k].key);
        tell(t, order <= 0 ? x->metadata[i].key : y->metadata[k].key, order <= 0 ? x->metadata[i].value : NULL,
             order >= 0 ? y->metadata[k].value : NULL);
        i += order <= 0;
        k += order >= 0;
    }
}

size_t diff_facts(const adapter_diff *d, diff_fact *fact, void *ctx)
{
    const lorafmt_adapter *x = d->x.stack.entries[0].adapter, *y = d->y.stack.entries[0].adapter;
    char digest_x[DIGEST_TEXT_SIZE] = "", digest_y[DIGEST_TEXT_SIZE] = "";
    facts_told t = {fact, ctx, 0};

    if (d->x.stack.n != 1 || d->y.stack.n != 1)
        return 0;
    if (x->has_base_structure)
        digest_text(x->base_structure, digest_x);
    if (y->has_base_structure)
        digest_text(y->base_structure, digest_y);
    tell_text(&t, "base_name", x->base_name, y->base_name);
    tell_text(&t, "base_revision", x->base_revision, y->base_revision);
    tell_text(&t, "base_structure", digest_x, digest_y);
    tell_metadata(&t, x, y);
    return t.n;
}

/* --- the head --- */

static void print_adapter(const page *p, const char *label, const lorafmt_stack_entry *entry)
{
    char line[LINE_SIZE] = "", number[NUMBER_TEXT_SIZE], digest[DIGEST_TEXT_SIZE], text[STATS_TEXT_SIZE];
    adapter_stats stats;
    uint8_t id[32];

    adapter_stats_count(entry->adapter, &stats);
    lorafmt_adapter_id(entry->adapter, id);
    text_append(line, sizeof line, "id %.16s; %s", digest_text(id, digest), stats_kinds_text(&stats, text));
    if (stats.rank.n)
        text_append(line, sizeof line, "; rank %s", number_set_text(&stats.rank, text));
    if (stats.scale.n)
        text_append(line, sizeof line, "; scale %s", number_set_text(&stats.scale, text));
    if (entry->weight != 1)
        text_append(line, sizeof line, "; weight %s", number_text(entry->weight, number));
    page_field_wrapped(p, label, line);
}

static void print_side(const page *p, const char *which, const diff_side *side)
{
    char name[SHORT_TEXT_SIZE];

    page_print(p, STYLE_TITLE, "%s", which);
    page_line(p, STYLE_PLAIN, " = %s", text_shorten(side->text, PAGE_COLUMNS - strlen(which) - strlen(" = "), name));
    for (size_t i = 0; i < side->stack.n; i++)
        print_adapter(p, side->stack.n > 1 ? side->stack.entries[i].adapter->name : "", &side->stack.entries[i]);
}

static void print_verdict(const page *p, const adapter_diff *d, const lorakit_diff_totals *t)
{
    putchar('\n');
    if (diff_is_same_id(d))
        page_line(p, STYLE_TITLE, "the same adapter: ids and weights are equal");
    else if (t->same == LORAKIT_SAME_BYTES)
        page_line(p, STYLE_TITLE, "the same function: factors and scales are equal, only the ids are not");
    else if (t->same == LORAKIT_SAME_FUNCTION)
        page_line(p, STYLE_TITLE, "the same function, to rounding, by different factors");
    else if (t->norm_difference > 0)
        page_line(p, STYLE_TITLE, "different: |X - Y| is %.3g, |X| %.3g, |Y| %.3g", t->norm_difference, t->norm_x, t->norm_y);
    else
        page_line(p, STYLE_TITLE, "different");
    if (t->same == LORAKIT_DIFFERENT && !isnan(t->cosine))
        page_line(p, STYLE_PLAIN, "  cosine %.4f (1: the same direction, 0: unrelated, -1: opposite)", t->cosine);
}

static void print_counts(const page *p, const lorakit_diff_totals *t)
{
    char line[LINE_SIZE] = "";

    text_append(line, sizeof line, "%zu in both", t->n_compared + t->n_others);
    if (t->n_same_bytes)
        text_append(line, sizeof line, ", %zu with the same factors", t->n_same_bytes);
    if (t->n_same_function)
        text_append(line, sizeof line, ", %zu the same to rounding", t->n_same_function);
    if (t->n_others)
        text_append(line, sizeof line, ", %zu not comparable", t->n_others);
    if (t->n_only_x)
        text_append(line, sizeof line, "; %zu only in X", t->n_only_x);
    if (t->n_only_y)
        text_append(line, sizeof line, "; %zu only in Y", t->n_only_y);
    page_field_wrapped(p, "sites", line);
}

static void append_fact(void *ctx, const char *key, const char *x, const char *y)
{
    char *line = ctx;

    text_append(line, LINE_SIZE, "%s%s%s", line[0] ? ", " : "", key, x && y ? "" : x ? " (only X)" : " (only Y)");
}

static void print_facts(const page *p, const adapter_diff *d)
{
    char line[LINE_SIZE] = "";

    if (diff_facts(d, append_fact, line))
        page_field_wrapped(p, "metadata", line);
}

static void print_magnitudes(const page *p, const adapter_diff *d)
{
    size_t n = 0, n_known = 0;
    double most = 0;
    char line[LINE_SIZE];

    for (size_t i = 0; i < lorakit_diff_n_sites(d->diff); i++) {
        const lorakit_site_diff *s = lorakit_diff_get_site(d->diff, i);
        n += s->has_magnitude_x || s->has_magnitude_y;
        n_known += !isnan(s->magnitude_difference);
        most = fmax(most, or_zero(s->magnitude_difference));
    }
    if (!n)
        return;
    snprintf(line, sizeof line, "%zu site%s; norms are of the low-rank part, which is not all that DoRA changes", n,
             n == 1 ? "" : "s");
    if (n_known && most == 0)
        text_append(line, sizeof line, "; magnitudes are equal");
    else if (n_known)
        text_append(line, sizeof line, "; magnitudes differ by at most %.3g %%", 100 * most);
    page_field_wrapped(p, "DoRA", line);
}

/* --- tables --- */

enum { MODULE, N_SITES, NORM_X, NORM_Y, DIFFERENCE, COSINE, COLUMNS, ROWS, N_MODULE_COLUMNS };

static const column module_columns[N_MODULE_COLUMNS] = {
    [MODULE] = {.head = "module"},
    [N_SITES] = {.head = "sites", .number = true, .drop = 1},
    [NORM_X] = {.head = "|X|", .number = true},
    [NORM_Y] = {.head = "|Y|", .number = true},
    [DIFFERENCE] = {.head = "|X - Y|", .number = true},
    [COSINE] = {.head = "cosine", .number = true},
    [COLUMNS] = {.head = "out", .number = true},
    [ROWS] = {.head = "in", .number = true},
};

static void fill_norms(char cells[][CELL_SIZE], double x, double y, double difference, double cosine)
{
    append_significant(cells[0], 4, x);
    append_significant(cells[1], 4, y);
    append_significant(cells[2], 4, difference);
    append_cosine(cells[3], cosine);
}

static void fill_overlaps(char cells[][CELL_SIZE], double columns, double rows)
{
    text_append(cells[0], CELL_SIZE, isnan(columns) ? "-" : "%.3f", columns);
    text_append(cells[1], CELL_SIZE, isnan(rows) ? "-" : "%.3f", rows);
}

static void fill_module(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const diff_group *g = (const diff_group *)ctx + i;
    char text[GROUP_TEXT_SIZE];

    append_target(cells[MODULE], diff_module_text(g, text));
    text_append(cells[N_SITES], CELL_SIZE, "%zu", g->n_rows);
    fill_norms(cells + NORM_X, g->norm_x, g->norm_y, g->difference, g->cosine);
    fill_overlaps(cells + COLUMNS, g->columns, g->rows);
}

enum { LAYER, LAYER_SITES, LAYER_X, LAYER_Y, LAYER_DIFFERENCE, LAYER_COSINE, BAR, N_LAYER_COLUMNS };

static const column layer_columns[N_LAYER_COLUMNS] = {
    [LAYER] = {.head = "layer"},
    [LAYER_SITES] = {.head = "sites", .number = true, .drop = 1},
    [LAYER_X] = {.head = "|X|", .number = true},
    [LAYER_Y] = {.head = "|Y|", .number = true},
    [LAYER_DIFFERENCE] = {.head = "|X - Y|", .number = true},
    [LAYER_COSINE] = {.head = "cosine", .number = true},
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
    text_append(cells[LAYER_SITES], CELL_SIZE, "%zu", g->n_rows);
    fill_norms(cells + LAYER_X, g->norm_x, g->norm_y, g->difference, g->cosine);
    if (l->rows->greatest > 0)
        text_append(cells[BAR], CELL_SIZE, "%s", bar_text(l->page, g->difference / l->rows->greatest, BAR_WIDTH, bar));
}

enum { SITE_DIFFERENCE, SITE_X, SITE_Y, SITE_COSINE, SITE_COLUMNS, SITE_ROWS, RANKS, EFFECTIVE, N_SITE_COLUMNS };

static const column site_columns[N_SITE_COLUMNS] = {
    [SITE_DIFFERENCE] = {.head = "|X - Y|", .number = true},
    [SITE_X] = {.head = "|X|", .number = true},
    [SITE_Y] = {.head = "|Y|", .number = true},
    [SITE_COSINE] = {.head = "cosine", .number = true},
    [SITE_COLUMNS] = {.head = "out", .number = true},
    [SITE_ROWS] = {.head = "in", .number = true},
    [RANKS] = {.head = "rank"},
    [EFFECTIVE] = {.head = "eff. rank"},
};

/* "4", or "4, 8" when they are not the same. */
static void append_pair(char *cell, bool has_x, const char *x, bool has_y, const char *y)
{
    if (has_x && has_y && strcmp(x, y))
        text_append(cell, CELL_SIZE, "%s, %s", x, y);
    else
        text_append(cell, CELL_SIZE, "%s", has_x ? x : has_y ? y : "-");
}

static void fill_ranks(char cells[][CELL_SIZE], const lorakit_site_diff *s)
{
    char x[NUMBER_TEXT_SIZE], y[NUMBER_TEXT_SIZE];

    number_text((double)s->rank_x, x);
    number_text((double)s->rank_y, y);
    append_pair(cells[0], s->rank_x, x, s->rank_y, y);
    snprintf(x, sizeof x, "%.1f", s->effective_rank_x);
    snprintf(y, sizeof y, "%.1f", s->effective_rank_y);
    append_pair(cells[1], !isnan(s->effective_rank_x), x, !isnan(s->effective_rank_y), y);
}

static void fill_site(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const lorakit_site_diff *s = ((const diff_row *)ctx)[i].site;

    append_significant(cells[SITE_DIFFERENCE], 4, ((const diff_row *)ctx)[i].difference);
    append_significant(cells[SITE_X], 4, s->x ? s->norm_x : NAN);
    append_significant(cells[SITE_Y], 4, s->y ? s->norm_y : NAN);
    append_cosine(cells[SITE_COSINE], s->cosine);
    fill_overlaps(cells + SITE_COLUMNS, s->column_overlap, s->row_overlap);
    fill_ranks(cells + RANKS, s);
}

static const char *target_of(const void *ctx, size_t i)
{
    return ((const diff_row *)ctx)[i].site->target;
}

static void print_sites(const page *p, const diff_rows *rows, size_t most)
{
    const table t = {.n_columns = N_SITE_COLUMNS,
                     .columns = site_columns,
                     .n_rows = rows->n,
                     .fill = fill_site,
                     .ctx = rows->rows,
                     .tail_head = "target",
                     .tail = target_of};

    print_diff_table(p, &t, most, NULL);
}

static void print_modules(const page *p, const diff_rows *rows)
{
    const table t = {.n_columns = N_MODULE_COLUMNS,
                     .columns = module_columns,
                     .n_rows = rows->n_modules,
                     .fit = true,
                     .fill = fill_module,
                     .ctx = rows->modules};

    print_diff_table(p, &t, MOST_ROWS, "|X|: Frobenius norm of what X adds; out, in: overlap of the spaces written");
    if (rows->n_modules)
        page_line(p, STYLE_QUIET, "  and read, 1 when one lies in the other, about rank / width when unrelated");
}

static void print_layers(const page *p, const diff_rows *rows)
{
    const layer_table l = {p, rows};
    const table t = {.n_columns = N_LAYER_COLUMNS,
                     .columns = layer_columns,
                     .n_rows = rows->n_layers,
                     .fit = true,
                     .fill = fill_layer,
                     .ctx = &l};

    if (rows->n_layers > 1)
        print_diff_table(p, &t, MOST_ROWS, NULL);
}

/* --- sites that are not in those tables, or not in both --- */

static const char *state_text(const lorakit_site_diff *d)
{
    switch (d->state) {
    case LORAKIT_DIFF_COMPARED:
        return d->same == LORAKIT_SAME_BYTES ? "equal" : d->same == LORAKIT_SAME_FUNCTION ? "equal to rounding" : "different";
    case LORAKIT_DIFF_ONLY_X:
        return "only in X";
    case LORAKIT_DIFF_ONLY_Y:
        return "only in Y";
    case LORAKIT_DIFF_OTHER_KIND:
        return "of another kind";
    case LORAKIT_DIFF_OTHER_SHAPE:
        return "of another shape";
    case LORAKIT_DIFF_OTHER_DTYPE:
        return "of another dtype";
    case LORAKIT_DIFF_NOT_COMPARED:
        return "not comparable";
    }
    return "";
}

static bool is_listed(const lorakit_site_diff *d)
{
    return d->state != LORAKIT_DIFF_COMPARED || !adds(d);
}

enum { STATE, KIND, DIFFERING, CHANGE, N_LISTED_COLUMNS };

static const column listed_columns[N_LISTED_COLUMNS] = {
    [STATE] = {.head = "other sites"},
    [KIND] = {.head = "kind"},
    [DIFFERING] = {.head = "differ", .number = true},
    [CHANGE] = {.head = "change", .number = true},
};

static void fill_listed(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const lorakit_site_diff *d = ((const lorakit_site_diff *const *)ctx)[i];

    text_append(cells[STATE], CELL_SIZE, "%s", state_text(d));
    text_append(cells[KIND], CELL_SIZE, "%s", lorafmt_kind_name((d->x ? d->x : d->y)->kind));
    if (d->n_elements)
        text_append(cells[DIFFERING], CELL_SIZE, "%.3g %%", 100 * (double)d->n_differing / (double)d->n_elements);
    if (d->norm_x > 0 && !isnan(d->norm_difference))
        text_append(cells[CHANGE], CELL_SIZE, "%.3g %%", 100 * d->norm_difference / d->norm_x);
}

static const char *listed_target(const void *ctx, size_t i)
{
    return ((const lorakit_site_diff *const *)ctx)[i]->target;
}

static int compare_listed(const void *a_, const void *b_)
{
    const lorakit_site_diff *a = *(const lorakit_site_diff *const *)a_, *b = *(const lorakit_site_diff *const *)b_;

    return a->state != b->state ? (int)a->state - (int)b->state : (a > b) - (a < b);
}

static void print_listed(const page *p, const adapter_diff *d, size_t most)
{
    const size_t n = lorakit_diff_n_sites(d->diff);
    const lorakit_site_diff **listed = calloc(n + 1, sizeof(const lorakit_site_diff *));
    table t = {.n_columns = N_LISTED_COLUMNS,
               .columns = listed_columns,
               .fill = fill_listed,
               .ctx = listed,
               .hidden = 1u << DIFFERING | 1u << CHANGE,
               .tail_head = "target",
               .tail = listed_target};

    for (size_t i = 0; listed && i < n; i++)
        if (is_listed(lorakit_diff_get_site(d->diff, i)))
            listed[t.n_rows++] = lorakit_diff_get_site(d->diff, i);
    if (listed)
        qsort(listed, t.n_rows, sizeof(const lorakit_site_diff *), compare_listed);
    for (size_t i = 0; i < t.n_rows; i++)
        t.hidden &= listed[i]->n_elements ? 0 : ~0u;
    print_diff_table(p, &t, most, NULL);
    free(listed);
}

void adapter_diff_print(const adapter_diff *d, bool all_sites)
{
    const lorakit_diff_totals *t = lorakit_diff_get_totals(d->diff);
    const bool different = t->same == LORAKIT_DIFFERENT;
    const page p = page_of_stdout();

    print_side(&p, "X", &d->x);
    print_side(&p, "Y", &d->y);
    print_verdict(&p, d, t);
    print_counts(&p, t);
    print_facts(&p, d);
    print_magnitudes(&p, d);
    if (different) {
        print_modules(&p, &d->rows);
        print_layers(&p, &d->rows);
    }
    if (different || all_sites)
        print_sites(&p, &d->rows, all_sites ? SIZE_MAX : MOST_SITES);
    print_listed(&p, d, all_sites ? SIZE_MAX : MOST_LISTED);
}
