/* SPDX-License-Identifier: MIT */
#include "tools/spectrum.h"

#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/page.h"
#include "tools/table.h"

#include "lorakit/spectrum.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What a rank has to keep to be recommended. */
#define ENOUGH 0.99

/* The matrices of a site together: value k is the root of the sum of squares of value k of each expert. */
typedef struct site_spectrum {
    const lorafmt_site *site;
    lorakit_spectrum all;
    uint32_t enough; /* the least rank that keeps ENOUGH of the sum of squares */
} site_spectrum;

typedef struct spectra {
    const lorafmt_adapter *adapter;
    site_spectrum *sites;
    size_t n;
} spectra;

/* --- computing --- */

static void add_expert(lorakit_spectrum *all, const lorakit_spectrum *one)
{
    for (size_t k = 0; k < one->n; k++)
        all->values[k] = hypot(all->values[k], one->values[k]);
    all->norm = hypot(all->norm, one->norm);
    all->true_rank = one->true_rank > all->true_rank ? one->true_rank : all->true_rank;
    all->effective_rank = fmax(all->effective_rank, one->effective_rank);
    all->stable_rank = fmax(all->stable_rank, one->stable_rank);
}

static int compute(const lorafmt_site *site, site_spectrum *out, const char *file)
{
    static const lorakit_rank enough = {.rule = LORAKIT_ENERGY, .value = ENOUGH};
    lorafmt_error err;

    out->site = site;
    if (lorakit_spectrum_compute(site, 0, &out->all, &err))
        return message_failure(&err, file);
    for (size_t e = 1; e < lorakit_n_experts(site); e++) {
        lorakit_spectrum one;
        if (lorakit_spectrum_compute(site, e, &one, &err))
            return message_failure(&err, file);
        add_expert(&out->all, &one);
        lorakit_spectrum_clear(&one);
    }
    if (lorakit_spectrum_rank(&out->all, &enough, &out->enough, &err))
        return message_failure(&err, file);
    return EXIT_DONE;
}

static int gather(const lorafmt_adapter *adapter, spectra *out, const char *file)
{
    int code = EXIT_DONE;

    *out = (spectra){.adapter = adapter, .sites = calloc(adapter->n_sites + 1, sizeof *out->sites)};
    if (!out->sites)
        return message_no_memory();
    for (size_t i = 0; i < adapter->n_sites && code == EXIT_DONE; i++)
        if (lorakit_n_experts(&adapter->sites[i]))
            code = compute(&adapter->sites[i], &out->sites[out->n++], file);
    return code;
}

static void clear(spectra *s)
{
    for (size_t i = 0; s->sites && i < s->n; i++)
        lorakit_spectrum_clear(&s->sites[i].all);
    free(s->sites);
}

static uint32_t recommended(const spectra *s)
{
    uint32_t most = 0;

    for (size_t i = 0; i < s->n; i++)
        most = s->sites[i].enough > most ? s->sites[i].enough : most;
    return most;
}

/* --- printing --- */

enum { RANK, TRUE_RANK, EFFECTIVE, STABLE, AT_1, AT_2, AT_4, AT_8, AT_16, AT_32, FOR_ENOUGH, N_COLUMNS };

static const column columns[N_COLUMNS] = {
    [RANK] = {.head = "rank", .number = true},       [TRUE_RANK] = {.head = "true", .number = true, .drop = 1},
    [EFFECTIVE] = {.head = "eff.", .number = true},  [STABLE] = {.head = "stable", .number = true},
    [AT_1] = {.head = "r=1", .number = true},        [AT_2] = {.head = "2", .number = true},
    [AT_4] = {.head = "4", .number = true},          [AT_8] = {.head = "8", .number = true},
    [AT_16] = {.head = "16", .number = true},        [AT_32] = {.head = "32", .number = true},
    [FOR_ENOUGH] = {.head = "99 %", .number = true},
};

/* Below 100 unless it is all. */
static void append_share(char *cell, const lorakit_spectrum *s, size_t rank)
{
    const double share = 100 * lorakit_spectrum_energy(s, rank);

    if (rank >= s->true_rank)
        snprintf(cell, CELL_SIZE, "100");
    else
        snprintf(cell, CELL_SIZE, "%.1f", fmin(share, 99.9));
}

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const site_spectrum *s = &((const spectra *)ctx)->sites[i];

    snprintf(cells[RANK], CELL_SIZE, "%u", s->site->rank);
    snprintf(cells[TRUE_RANK], CELL_SIZE, "%zu", s->all.true_rank);
    snprintf(cells[EFFECTIVE], CELL_SIZE, "%.1f", s->all.effective_rank);
    snprintf(cells[STABLE], CELL_SIZE, "%.1f", s->all.stable_rank);
    for (size_t k = 0; k <= AT_32 - AT_1; k++)
        if (k == 0 || (1U << k) < 2 * s->site->rank)
            append_share(cells[AT_1 + k], &s->all, (size_t)1 << k);
    snprintf(cells[FOR_ENOUGH], CELL_SIZE, "%u", s->enough);
}

static const char *target_of(const void *ctx, size_t i)
{
    return ((const spectra *)ctx)->sites[i].site->target;
}

/* Columns for ranks that no site has are left out. */
static unsigned unused_columns(const spectra *s)
{
    uint32_t most = 1;
    unsigned hidden = 0;

    for (size_t i = 0; i < s->n; i++)
        most = s->sites[i].site->rank > most ? s->sites[i].site->rank : most;
    for (size_t k = 1; k <= AT_32 - AT_1; k++)
        if ((1U << k) >= 2 * most)
            hidden |= 1U << (AT_1 + k);
    return hidden;
}

static void print(const spectra *s)
{
    const page p = page_of_stdout();
    const table t = {.n_columns = N_COLUMNS,
                     .columns = columns,
                     .n_rows = s->n,
                     .hidden = unused_columns(s),
                     .fill = fill_row,
                     .ctx = s,
                     .tail_head = "target",
                     .tail = target_of};
    uint64_t before = 0, after = 0;
    double norm = 0;

    page_line(&p, STYLE_TITLE, "adapter %s", s->adapter->name);
    if (s->n == 0) {
        print_line(stdout, "  no low-rank sites");
        return;
    }
    table_print(&p, &t);
    for (size_t i = 0; i < s->n; i++) {
        before += s->sites[i].site->rank;
        after += s->sites[i].enough;
        norm = hypot(norm, s->sites[i].all.norm);
    }
    if (norm == 0) {
        print_line(stdout, "  every update is zero, as of an adapter that was not trained");
        return;
    }
    page_line(&p, STYLE_QUIET,
              "  eff., stable: effective and stable rank; under r: per cent of the squared norm that rank r keeps");
    print_line(stdout,
               "  rank %u keeps 99 %% of the squared norm everywhere; site by site it takes ranks of together %llu of %llu:",
               recommended(s), (unsigned long long)after, (unsigned long long)before);
    print_line(stdout, "  lorapack resize IN --energy %g -o OUT.lora", ENOUGH);
}

static void json_site(json_out *j, const site_spectrum *s)
{
    json_object(j, NULL);
    json_text(j, "target", s->site->target);
    json_u64(j, "rank", s->site->rank);
    json_u64(j, "n_experts", lorakit_n_experts(s->site));
    json_double(j, "norm", s->all.norm);
    json_u64(j, "true_rank", s->all.true_rank);
    json_double(j, "effective_rank", s->all.effective_rank);
    json_double(j, "stable_rank", s->all.stable_rank);
    json_u64(j, "rank_99", s->enough);
    json_array(j, "singular_values");
    for (size_t k = 0; k < s->all.n; k++)
        json_double(j, NULL, s->all.values[k]);
    json_array_end(j);
    json_object_end(j);
}

static void json_adapter(json_out *j, const spectra *s)
{
    json_object(j, NULL);
    json_text(j, "name", s->adapter->name);
    json_u64(j, "rank_99", recommended(s));
    json_array(j, "sites");
    for (size_t i = 0; i < s->n; i++)
        json_site(j, &s->sites[i]);
    json_array_end(j);
    json_object_end(j);
}

static void show(const input *in, const spectra *all, size_t n, bool json)
{
    json_out j = {.to = stdout};

    for (size_t i = 0; i < n && !json; i++)
        print(&all[i]);
    if (!json)
        return;
    json_object(&j, NULL);
    json_text(&j, "path", in->path);
    json_array(&j, "adapters");
    for (size_t i = 0; i < n; i++)
        json_adapter(&j, &all[i]);
    json_array_end(&j);
    json_object_end(&j);
}

int spectrum_show(const input *in, bool json)
{
    const lorafmt_adapter **adapters = NULL;
    spectra *all = NULL;
    size_t n = 0;
    int code = input_adapters(in, &adapters, &n);

    if (code == EXIT_DONE && !(all = calloc(n, sizeof *all)))
        code = message_no_memory();
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = gather(adapters[i], &all[i], in->path);
    if (code == EXIT_DONE)
        show(in, all, n, json);
    for (size_t i = 0; all && i < n; i++)
        clear(&all[i]);
    free(all);
    free(adapters);
    return code;
}
