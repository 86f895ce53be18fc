/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/page.h"
#include "tools/progress.h"
#include "tools/table.h"
#include "tools/text.h"

#include "lorakit/resize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME "resize"

typedef struct resize_args {
    const char *output, *name, *budget;
    rank_args rank;
    unsigned dtype, n_threads;
    input_args input;
    bool sites, force, json, quiet;
} resize_args;

static const option resize_options[] = {
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(resize_args, output), "the file to write"},
    RANK_OPTIONS(resize_args, rank),
    {"sv-ratio", 0, "P", OPTION_NUMBER, offsetof(resize_args, rank.sv_ratio),
     "kohya's sv_ratio, and its rank, which is one more than what is above the largest singular value over P"},
    {"sv-cumulative", 0, "P", OPTION_NUMBER, offsetof(resize_args, rank.sv_cumulative), "kohya's sv_cumulative"},
    {"sv-fro", 0, "P", OPTION_NUMBER, offsetof(resize_args, rank.sv_fro), "kohya's sv_fro"},
    {"budget", 0, "BYTES", OPTION_TEXT, offsetof(resize_args, budget),
     "ranks such that all factors together take at most so much, as 20M, spent where it keeps the most"},
    {"dtype", 0, "f32|bf16|f16", OPTION_CHOICE, offsetof(resize_args, dtype), "of the new factors; else as they are"},
    {"name", 0, "NAME", OPTION_TEXT, offsetof(resize_args, name), "name the result; else as the adapter is named"},
    {"sites", 0, NULL, OPTION_FLAG, offsetof(resize_args, sites), "say of each site what it lost"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(resize_args, n_threads), "sites that are worked on at once; else one per CPU"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(resize_args, force), "replace a file that exists"},
    INPUT_OPTIONS(resize_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(resize_args, json), "print what was lost as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(resize_args, quiet), "print nothing but errors"},
    {0},
};

typedef struct resize_job {
    const resize_args *args;
    lorakit_resize_options options;
    input in;
    const lorafmt_adapter *adapter;
    lorakit_resized *sites;
    lorakit_adapter *result;
    uint8_t id[32];
} resize_job;

static int parse(resize_job *job)
{
    const resize_args *args = job->args;
    int code = rank_parse(NAME, &args->rank, &job->options.rank);

    job->options.struct_size = sizeof job->options;
    job->options.dtype = factor_dtype(args->dtype);
    job->options.name = args->name;
    job->options.n_threads = args->n_threads;
    if (code == EXIT_DONE && !args->output)
        code = message_usage(NAME, "-o OUT.lora is missing");
    if (code == EXIT_DONE && args->budget && (job->options.rank.rule || args->rank.rank))
        code = message_usage(NAME, "--budget and a rule for the rank: one of them");
    if (code == EXIT_DONE && args->budget)
        code = bytes_parse(NAME, "budget", args->budget, &job->options.budget);
    return code;
}

static int resize(resize_job *job)
{
    progress bar = {0};
    lorafmt_error err;
    lorafmt_status st;

    job->sites = calloc(job->adapter->n_sites + 1, sizeof *job->sites);
    if (!job->sites)
        return message_no_memory();
    interrupt_catch();
    progress_start(&bar, "resizing", job->args->quiet);
    job->options.progress = progress_update;
    job->options.progress_ctx = &bar;
    st = lorakit_resize(job->adapter, &job->options, job->sites, &job->result, &err);
    progress_end(&bar);
    return st ? progress_failure(&bar, &err, job->in.path) : EXIT_DONE;
}

/* --- saying it --- */

typedef struct totals {
    size_t n_sites;
    uint64_t rank_before, rank_after, bytes_before, bytes_after;
    double norm, truncated, rounded; /* roots of sums of squares */
    uint32_t least, most;
    size_t worst; /* site with the largest relative loss */
} totals;

static double lost_share(const lorakit_resized *site)
{
    return site->norm > 0 ? hypot(site->truncated, site->rounded) / site->norm : 0;
}

static uint64_t factor_bytes(const lorafmt_site *site)
{
    return lorafmt_site_factor(site, LORAFMT_ROLE_A)->tensor.size + lorafmt_site_factor(site, LORAFMT_ROLE_B)->tensor.size;
}

static totals sum_up(const resize_job *job)
{
    const lorafmt_adapter *after = lorakit_adapter_get(job->result);
    totals t = {.least = UINT32_MAX};

    for (size_t i = 0; i < job->adapter->n_sites; i++) {
        const lorakit_resized *site = &job->sites[i];
        if (!site->rank)
            continue;
        t.n_sites++;
        t.rank_before += job->adapter->sites[i].rank;
        t.rank_after += site->rank;
        t.bytes_before += factor_bytes(&job->adapter->sites[i]);
        t.bytes_after += factor_bytes(&after->sites[i]);
        t.norm = hypot(t.norm, site->norm);
        t.truncated = hypot(t.truncated, site->truncated);
        t.rounded = hypot(t.rounded, site->rounded);
        t.least = site->rank < t.least ? site->rank : t.least;
        t.most = site->rank > t.most ? site->rank : t.most;
        if (!job->sites[t.worst].rank || lost_share(site) > lost_share(&job->sites[t.worst]))
            t.worst = i;
    }
    return t;
}

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const resize_job *job = ctx;
    const lorakit_resized *site = &job->sites[i];

    snprintf(cells[0], CELL_SIZE, "%u", job->adapter->sites[i].rank);
    snprintf(cells[1], CELL_SIZE, "%u", site->rank);
    snprintf(cells[2], CELL_SIZE, "%.4g", site->norm);
    snprintf(cells[3], CELL_SIZE, "%.3g %%", percent(site->truncated, site->norm));
    snprintf(cells[4], CELL_SIZE, "%.2g %%", percent(site->rounded, site->norm));
}

static const char *target_of(const void *ctx, size_t i)
{
    return ((const resize_job *)ctx)->adapter->sites[i].target;
}

static void print_sites(const resize_job *job)
{
    static const column columns[] = {{"rank", true, 0},
                                     {"now", true, 0},
                                     {"norm", true, 0},
                                     {"truncated", true, 0},
                                     {"rounded", true, 0}};
    const table t = {.n_columns = 5,
                     .columns = columns,
                     .n_rows = job->adapter->n_sites,
                     .fill = fill_row,
                     .ctx = job,
                     .tail_head = "target",
                     .tail = target_of};
    const page p = page_of_stdout();

    table_print(&p, &t);
}

static void print_result(const resize_job *job)
{
    const totals t = sum_up(job);
    char before[NUMBER_TEXT_SIZE], after[NUMBER_TEXT_SIZE], ranks[64];

    if (t.n_sites == 0) {
        print_line(stdout, "%s: no low-rank sites, all taken over", job->adapter->name);
        return;
    }
    snprintf(ranks, sizeof ranks, t.least == t.most ? "%u" : "%u .. %u", t.least, t.most);
    print_line(stdout, "%s: %zu sites, ranks %s, together %llu of %llu; factors %s of %s", job->adapter->name, t.n_sites, ranks,
               (unsigned long long)t.rank_after, (unsigned long long)t.rank_before, size_text(t.bytes_after, after),
               size_text(t.bytes_before, before));
    print_line(stdout, "lost: %.3g %% of the norm of all updates by a smaller rank, %.2g %% by rounding; most, %.3g %%, at %s",
               percent(t.truncated, t.norm), percent(t.rounded, t.norm), 100 * lost_share(&job->sites[t.worst]),
               job->adapter->sites[t.worst].target);
    if (job->args->sites)
        print_sites(job);
    kit_print_id(job->id, job->args->output);
}

static void json_result(const resize_job *job)
{
    const lorafmt_adapter *after = lorakit_adapter_get(job->result);
    const totals t = sum_up(job);
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", job->args->output);
    json_text(&j, "source", job->in.path);
    json_text(&j, "name", after->name);
    json_digest(&j, "id", job->id);
    json_u64(&j, "n_bytes_before", t.bytes_before);
    json_u64(&j, "n_bytes", t.bytes_after);
    json_double(&j, "norm", t.norm);
    json_double(&j, "truncated", t.truncated);
    json_double(&j, "rounded", t.rounded);
    json_array(&j, "sites");
    for (size_t i = 0; i < after->n_sites; i++) {
        json_object(&j, NULL);
        json_text(&j, "target", after->sites[i].target);
        json_u64(&j, "rank_before", job->adapter->sites[i].rank);
        json_u64(&j, "rank", after->sites[i].rank);
        json_double(&j, "norm", job->sites[i].norm);
        json_double(&j, "truncated", job->sites[i].truncated);
        json_double(&j, "rounded", job->sites[i].rounded);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static int run_resize(const void *args, size_t n_inputs, char *const *inputs)
{
    resize_job job = {.args = args};
    int code = parse(&job);

    (void)n_inputs;
    if (code == EXIT_DONE)
        code = input_parse(NAME, inputs[0], false, &job.in);
    if (code == EXIT_DONE)
        code = input_open(NAME, &job.args->input, NULL, job.args->quiet, &job.in);
    if (code == EXIT_DONE)
        code = input_choose(&job.in, &job.adapter);
    if (code == EXIT_DONE)
        code = resize(&job);
    if (code == EXIT_DONE)
        code = kit_write(lorakit_adapter_get(job.result), NULL, job.args->output, job.args->force, job.id);
    if (code == EXIT_DONE && job.args->json)
        json_result(&job);
    else if (code == EXIT_DONE && !job.args->quiet)
        print_result(&job);
    lorakit_adapter_free(job.result);
    free(job.sites);
    input_close(&job.in);
    return code;
}

const command cmd_resize = {
    .name = NAME,
    .usage = "resize IN[#NAME] -o OUT.lora [--rank R] [--energy E | --max-error E | --budget BYTES ...] [options]",
    .summary = "give an adapter another rank, site by site",
    .about =
        "Replace the two matrices of each update by the best approximation of a smaller rank, found without ever forming the update "
        "itself. Without a rule nothing is lost: ranks become those that the updates really have. The scale stays. What is not "
        "low-rank is taken over.",
    .example = "lorapack resize legal.lora --energy 0.99 -o legal-small.lora\n"
               "lorapack resize legal.lora --budget 2M --dtype bf16 -o legal-2m.lora\n",
    .options = resize_options,
    .args_size = sizeof(resize_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .algebra = true,
    .run = run_resize,
};
