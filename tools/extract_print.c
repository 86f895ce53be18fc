/* SPDX-License-Identifier: MIT */
#include "tools/extract.h"

#include "tools/json_out.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/table.h"
#include "tools/text.h"

#include <math.h>
#include <stdio.h>

typedef struct totals {
    size_t n_low_rank, n_whole, n_unchanged, n_skipped;
    uint64_t rank, n_bytes;
    uint32_t least, most;
    double norm, truncated, rounded; /* roots of sums of squares, of the low-rank ones */
    size_t worst;                    /* tensor with the largest relative loss */
} totals;

static double lost_share(const lorakit_extracted *e)
{
    return e->norm > 0 ? hypot(e->truncated, e->rounded) / e->norm : 0;
}

static void add_low_rank(const extract_result *r, size_t i, totals *t)
{
    const lorakit_extracted *e = &r->tensors[i];

    if (t->n_low_rank++ == 0 || lost_share(e) > lost_share(&r->tensors[t->worst]))
        t->worst = i;
    t->rank += e->rank;
    t->least = e->rank < t->least ? e->rank : t->least;
    t->most = e->rank > t->most ? e->rank : t->most;
    t->norm = hypot(t->norm, e->norm);
    t->truncated = hypot(t->truncated, e->truncated);
    t->rounded = hypot(t->rounded, e->rounded);
}

static totals sum_up(const extract_result *r)
{
    totals t = {.least = UINT32_MAX};

    for (size_t i = 0; i < r->tuned->n_tensors; i++) {
        const lorakit_outcome outcome = r->tensors[i].outcome;
        if (outcome == LORAKIT_LOW_RANK)
            add_low_rank(r, i, &t);
        t.n_whole += outcome == LORAKIT_ADDITIVE || outcome == LORAKIT_REPLACED || outcome == LORAKIT_SAVED;
        t.n_unchanged += outcome == LORAKIT_UNCHANGED;
        t.n_skipped += outcome == LORAKIT_SKIPPED;
    }
    for (size_t i = 0; i < r->adapter->n_sites; i++)
        for (uint32_t k = 0; k < r->adapter->sites[i].n_factors; k++)
            t.n_bytes += r->adapter->sites[i].factors[k].tensor.size;
    return t;
}

static const char *outcome_name(lorakit_outcome outcome)
{
    switch (outcome) {
    case LORAKIT_UNCHANGED:
        return "unchanged";
    case LORAKIT_LOW_RANK:
        return "low-rank";
    case LORAKIT_ADDITIVE:
        return "additive";
    case LORAKIT_REPLACED:
        return "replaced";
    case LORAKIT_SAVED:
        return "saved";
    case LORAKIT_SKIPPED:
        return "left out";
    }
    return "unknown";
}

/* --- for people --- */

/* Sites are in the order of names, tensors of a model too: the tensor of a site. */
static size_t tensor_of(const extract_result *r, size_t site)
{
    size_t i = 0;

    for (size_t n = 0;; i++)
        if (r->tensors[i].outcome != LORAKIT_UNCHANGED && r->tensors[i].outcome != LORAKIT_SKIPPED && n++ == site)
            return i;
}

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const extract_result *r = ctx;
    const lorakit_extracted *e = &r->tensors[tensor_of(r, i)];

    snprintf(cells[0], CELL_SIZE, "%s", outcome_name(e->outcome));
    if (e->outcome == LORAKIT_LOW_RANK || e->outcome == LORAKIT_ADDITIVE)
        snprintf(cells[2], CELL_SIZE, "%.4g", e->norm);
    if (e->outcome != LORAKIT_LOW_RANK)
        return;
    snprintf(cells[1], CELL_SIZE, "%u", e->rank);
    snprintf(cells[3], CELL_SIZE, "%.3g %%", percent(e->truncated, e->norm));
    snprintf(cells[4], CELL_SIZE, "%.2g %%", percent(e->rounded, e->norm));
}

static const char *target_of(const void *ctx, size_t i)
{
    return ((const extract_result *)ctx)->adapter->sites[i].target;
}

static void print_sites(const extract_result *r)
{
    static const column columns[] = {{"kind", false, 0},
                                     {"rank", true, 0},
                                     {"norm", true, 0},
                                     {"truncated", true, 0},
                                     {"rounded", true, 0}};
    const table t = {.n_columns = 5,
                     .columns = columns,
                     .n_rows = r->adapter->n_sites,
                     .fill = fill_row,
                     .ctx = r,
                     .tail_head = "target",
                     .tail = target_of};
    const page p = page_of_stdout();

    table_print(&p, &t);
}

static void print_low_rank(const extract_result *r, const totals *t)
{
    char ranks[64], bytes[NUMBER_TEXT_SIZE];

    snprintf(ranks, sizeof ranks, t->least == t->most ? "%u" : "%u .. %u", t->least, t->most);
    print_line(stdout, "%s: %zu low-rank sites, ranks %s, together %llu; %s in all", r->adapter->name, t->n_low_rank, ranks,
               (unsigned long long)t->rank, size_text(t->n_bytes, bytes));
    print_line(stdout, "lost: %.3g %% of the norm of all differences by the rank, %.2g %% by rounding; most, %.3g %%, at %s",
               percent(t->truncated, t->norm), percent(t->rounded, t->norm), 100 * lost_share(&r->tensors[t->worst]),
               r->tuned->tensors[t->worst].name);
}

void extract_print(const extract_result *r, bool sites)
{
    const totals t = sum_up(r);

    if (t.n_low_rank)
        print_low_rank(r, &t);
    print_line(stdout, "tensors: %zu low-rank, %zu whole, %zu left out, %zu unchanged", t.n_low_rank, t.n_whole, t.n_skipped,
               t.n_unchanged);
    if (sites)
        print_sites(r);
    kit_print_id(r->id, r->output);
}

/* --- for programs --- */

static void json_tensor(json_out *j, const extract_result *r, size_t i)
{
    const lorakit_extracted *e = &r->tensors[i];
    const bool low_rank = e->outcome == LORAKIT_LOW_RANK, known = low_rank || e->outcome == LORAKIT_ADDITIVE;

    json_object(j, NULL);
    json_text(j, "target", r->tuned->tensors[i].name);
    json_text(j, "outcome", outcome_name(e->outcome));
    json_u64(j, "rank", e->rank);
    json_bool(j, "exact", e->exact);
    json_double(j, "norm", known ? e->norm : NAN);
    json_double(j, "truncated", low_rank ? e->truncated : NAN);
    json_double(j, "rounded", low_rank ? e->rounded : NAN);
    json_object_end(j);
}

void extract_json(const extract_result *r)
{
    const totals t = sum_up(r);
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", r->output);
    json_text(&j, "base", r->base_path);
    json_text(&j, "tuned", r->tuned_path);
    json_text(&j, "name", r->adapter->name);
    json_digest(&j, "id", r->id);
    json_u64(&j, "n_bytes", t.n_bytes);
    json_u64(&j, "n_unchanged", t.n_unchanged);
    json_double(&j, "norm", t.norm);
    json_double(&j, "truncated", t.truncated);
    json_double(&j, "rounded", t.rounded);
    json_array(&j, "tensors");
    for (size_t i = 0; i < r->tuned->n_tensors; i++)
        if (r->tensors[i].outcome != LORAKIT_UNCHANGED)
            json_tensor(&j, r, i);
    json_array_end(&j);
    json_object_end(&j);
}
