/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/page.h"
#include "tools/progress.h"
#include "tools/stack.h"
#include "tools/syntax.h"
#include "tools/table.h"
#include "tools/text.h"

#include "lorakit/compose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "compose"
#define MOST_METHODS 32

typedef struct compose_args {
    const char *output, *name, *method, *seed;
    text_list weights;
    rank_args rank;
    option_number density, clamp;
    unsigned sign, dtype, n_threads;
    input_args input;
    bool sites, any_base, force, json, quiet;
} compose_args;

static const option compose_options[] = {
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(compose_args, output), "the file to write"},
    {"method", 0, "METHOD", OPTION_TEXT, offsetof(compose_args, method),
     "sum, which is exact, when not given; svd: the sum, approximated; ties-svd, dare-linear-svd, dare-ties-svd, magnitude-prune-svd: "
     "on the updates, approximated; peft-cat, peft-linear, peft-ties, peft-dare-linear, peft-dare-ties, peft-magnitude-prune, "
     "peft-svd, peft-ties-svd and so on: as PEFT's add_weighted_adapter does it"},
    {"weight", 0, "NAME:PATTERN=W", OPTION_LIST, offsetof(compose_args, weights),
     "another weight of the adapter NAME for targets that match the pattern, as 'y:*.mlp.*=0.2'; the last that matches counts"},
    RANK_OPTIONS(compose_args, rank),
    {"density", 0, "D", OPTION_NUMBER, offsetof(compose_args, density),
     "with ties, dare and prune: the share of elements to keep"},
    {"clamp", 0, "Q", OPTION_NUMBER, offsetof(compose_args, clamp), "with peft-...svd: PEFT's svd_clamp, a quantile"},
    {"sign", 0, "total|frequency", OPTION_CHOICE, offsetof(compose_args, sign),
     "with ties: elect signs by the sum of values, which is so when not given, or of signs"},
    {"seed", 0, "N", OPTION_TEXT, offsetof(compose_args, seed), "with dare: what is drawn is a function of it; 0 when not given"},
    {"dtype", 0, "f32|bf16|f16|f64", OPTION_CHOICE, offsetof(compose_args, dtype),
     "of the new factors; else that of the old ones where it loses nothing, or f32. With f64 an f32 base becomes what merging the "
     "adapters makes of it, to the last bit or the one before"},
    {"name", 0, "NAME", OPTION_TEXT, offsetof(compose_args, name), "name the result; else as the first adapter is named"},
    {"any-base", 0, NULL, OPTION_FLAG, offsetof(compose_args, any_base),
     "do not compare the bases that the adapters say they are for"},
    {"sites", 0, NULL, OPTION_FLAG, offsetof(compose_args, sites), "say of each target what became of it"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(compose_args, n_threads), "targets that are worked on at once; else one per CPU"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(compose_args, force), "replace a file that exists"},
    INPUT_OPTIONS(compose_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(compose_args, json), "print what became of each target as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(compose_args, quiet), "print nothing but errors"},
    {0},
};

typedef struct compose_job {
    const compose_args *args;
    lorakit_compose_options options;
    adapter_stack stack;
    lorakit_term *terms;
    lorakit_weight *weights;
    char **weight_texts;
    lorakit_composed *sites;
    size_t n_sites, n_left_out;
    lorakit_adapter *result;
    uint8_t id[32];
} compose_job;

/* --- the command line --- */

/* Names without "-svd" of what has no other form here, and PEFT's spelling. */
static bool method_is(const char *typed, const char *name)
{
    const size_t n = strlen(name);
    size_t i = 0;

    while (typed[i] && (typed[i] == '_' ? '-' : typed[i]) == name[i])
        i++;
    if (!typed[i] && !name[i])
        return true;
    return !typed[i] && n > 4 && i + 4 == n && strcmp(name + i, "-svd") == 0 && strncmp(name, "peft-", 5) != 0;
}

static int parse_method(compose_job *job)
{
    const char *typed = job->args->method, *names[MOST_METHODS], *near;
    size_t n = 0;

    if (!typed)
        return EXIT_DONE;
    if (strcmp(typed, "linear") == 0)
        typed = "sum";
    for (; n < MOST_METHODS && (names[n] = lorakit_method_name((lorakit_method)n)); n++)
        if (method_is(typed, names[n])) {
            job->options.method = (lorakit_method)n;
            return EXIT_DONE;
        }
    near = nearest_name(typed, names, sizeof names[0], n);
    return message_usage(NAME, near ? "--method %s: no such method, did you mean %s?" : "--method %s: no such method", typed,
                         near);
}

static bool needs_density(lorakit_method method)
{
    const char *name = lorakit_method_name(method);

    return strstr(name, "ties") || strstr(name, "dare") || strstr(name, "prune");
}

static int check_density(const compose_job *job)
{
    const option_number *density = &job->args->density;
    const bool needed = needs_density(job->options.method);

    if (needed && !density->given)
        return message_usage(NAME, "%s needs --density", lorakit_method_name(job->options.method));
    if (!needed && density->given)
        return message_usage(NAME, "--density is for ties, dare and prune, not for %s", lorakit_method_name(job->options.method));
    if (needed && !(density->value > 0 && density->value <= 1))
        return message_usage(NAME, "--density %g: must be above 0, at most 1", density->value);
    return EXIT_DONE;
}

static int parse(compose_job *job)
{
    const compose_args *args = job->args;
    int code = args->output ? EXIT_DONE : message_usage(NAME, "-o OUT.lora is missing");

    job->options.struct_size = sizeof job->options;
    job->options.density = args->density.value;
    job->options.clamp = args->clamp.value;
    job->options.by_frequency = args->sign == 2;
    job->options.any_base = args->any_base;
    job->options.dtype = factor_dtype(args->dtype);
    job->options.name = args->name;
    job->options.n_threads = args->n_threads;
    if (code == EXIT_DONE)
        code = parse_method(job);
    if (code == EXIT_DONE)
        code = rank_parse(NAME, &args->rank, &job->options.rank);
    if (code == EXIT_DONE && !strstr(lorakit_method_name(job->options.method), "svd") &&
        (args->rank.rank || job->options.rank.rule))
        code = message_usage(NAME, "a rule for the rank is for the svd methods, not for %s",
                             lorakit_method_name(job->options.method));
    if (code == EXIT_DONE)
        code = check_density(job);
    return code == EXIT_DONE ? seed_parse(NAME, args->seed, &job->options.seed) : code;
}

static int find_term(const compose_job *job, const char *name, size_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < job->stack.n; i++)
        if (strcmp(job->terms[i].adapter->name, name) == 0) {
            *out = i;
            n++;
        }
    if (n == 1)
        return EXIT_DONE;
    return message_usage(NAME,
                         n ? "--weight %s:...: several adapters have that name" : "--weight %s:...: no adapter has that name",
                         name);
}

/* NAME:PATTERN=W */
static int parse_weight(compose_job *job, size_t i)
{
    const char *text = job->args->weights.items[i];
    char *copy = job->weight_texts[i] = strdup(text);

    if (!copy)
        return message_no_memory();
    if (!weight_rule_cut(copy, &job->weights[i].pattern, &job->weights[i].weight))
        return message_usage(NAME, "--weight %s: must be NAME:PATTERN=W, as 'y:*.mlp.*=0.2'", text);
    return find_term(job, copy, &job->weights[i].term);
}

static int parse_weights(compose_job *job)
{
    const size_t n = job->args->weights.n;
    int code = EXIT_DONE;

    job->weights = calloc(n + 1, sizeof *job->weights);
    job->weight_texts = calloc(n + 1, sizeof *job->weight_texts);
    if (!job->weights || !job->weight_texts)
        return message_no_memory();
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = parse_weight(job, i);
    job->options.weights = job->weights;
    job->options.n_weights = n;
    return code;
}

static int open_terms(compose_job *job, size_t n, char *const *inputs)
{
    text_list texts = {.items = calloc(n, sizeof *texts.items), .n = n};
    int code = texts.items ? EXIT_DONE : message_no_memory();

    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        texts.items[i] = inputs[i];
    if (code == EXIT_DONE)
        code = stack_parse(NAME, &texts, &job->stack);
    if (code == EXIT_DONE)
        code = stack_open(NAME, &job->args->input, NULL, job->args->quiet, &job->stack);
    free(texts.items);
    job->terms = code == EXIT_DONE ? calloc(n, sizeof *job->terms) : NULL;
    if (code == EXIT_DONE && !job->terms)
        code = message_no_memory();
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        job->terms[i] = (lorakit_term){job->stack.entries[i].adapter, job->stack.entries[i].weight};
    return code;
}

/* --- composing --- */

static void count_left_out(void *ctx, const char *adapter, const char *target, const char *text)
{
    compose_job *job = ctx;

    if (!job->args->quiet)
        message_note("%s: %s %s", adapter, target, text);
    job->n_left_out++;
}

static int compose(compose_job *job)
{
    progress bar = {0};
    lorafmt_error err;
    lorafmt_status st;

    interrupt_catch();
    progress_start(&bar, "composing", job->args->quiet);
    job->options.progress = progress_update;
    job->options.progress_ctx = &bar;
    job->options.report = count_left_out;
    job->options.report_ctx = job;
    st = lorakit_compose(job->terms, job->stack.n, &job->options, &job->result, &job->sites, &job->n_sites, &err);
    progress_end(&bar);
    return st ? progress_failure(&bar, &err, NULL) : EXIT_DONE;
}

/* --- saying it --- */

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const lorakit_composed *site = &((const compose_job *)ctx)->sites[i];

    snprintf(cells[0], CELL_SIZE, "%u", site->n_terms);
    if (!site->rank)
        return;
    snprintf(cells[1], CELL_SIZE, "%u", site->rank_sum);
    snprintf(cells[2], CELL_SIZE, "%u", site->rank);
    snprintf(cells[3], CELL_SIZE, "%.4g", site->norm);
    snprintf(cells[4], CELL_SIZE, "%.3g %%", percent(site->truncated, site->norm));
}

static const char *target_of(const void *ctx, size_t i)
{
    return ((const compose_job *)ctx)->sites[i].target;
}

static void print_sites(const compose_job *job)
{
    static const column columns[] = {{"of", true, 0},
                                     {"ranks", true, 0},
                                     {"rank", true, 0},
                                     {"norm", true, 0},
                                     {"truncated", true, 0}};
    const table t = {.n_columns = 5,
                     .columns = columns,
                     .n_rows = job->n_sites,
                     .fill = fill_row,
                     .ctx = job,
                     .tail_head = "target",
                     .tail = target_of};
    const page p = page_of_stdout();

    table_print(&p, &t);
}

static void print_result(const compose_job *job)
{
    const lorafmt_adapter *result = lorakit_adapter_get(job->result);
    double norm = 0, truncated = 0;
    uint64_t rank = 0, rank_sum = 0;

    for (size_t i = 0; i < job->n_sites; i++) {
        norm = hypot(norm, job->sites[i].norm);
        truncated = hypot(truncated, job->sites[i].truncated);
        rank += job->sites[i].rank;
        rank_sum += job->sites[i].rank_sum;
    }
    print_line(stdout, "%s: %zu targets of %zu adapter%s by %s, ranks together %llu of %llu", result->name, job->n_sites,
               job->stack.n, job->stack.n == 1 ? "" : "s", lorakit_method_name(job->options.method), (unsigned long long)rank,
               (unsigned long long)rank_sum);
    if (strstr(lorakit_method_name(job->options.method), "svd"))
        print_line(stdout, "lost: %.3g %% of the norm of all updates by a smaller rank", percent(truncated, norm));
    if (job->args->sites)
        print_sites(job);
    kit_print_id(job->id, job->args->output);
}

static void json_result(const compose_job *job)
{
    const lorafmt_adapter *result = lorakit_adapter_get(job->result);
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", job->args->output);
    json_text(&j, "name", result->name);
    json_digest(&j, "id", job->id);
    json_text(&j, "method", lorakit_method_name(job->options.method));
    json_u64(&j, "n_left_out", job->n_left_out);
    json_array(&j, "sites");
    for (size_t i = 0; i < job->n_sites; i++) {
        const lorakit_composed *site = &job->sites[i];
        json_object(&j, NULL);
        json_text(&j, "target", site->target);
        json_u64(&j, "n_adapters", site->n_terms);
        json_u64(&j, "rank_sum", site->rank_sum);
        json_u64(&j, "rank", site->rank);
        json_double(&j, "norm", site->norm);
        json_double(&j, "truncated", site->truncated);
        json_double(&j, "rounded", site->rounded);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static void close_all(compose_job *job)
{
    lorakit_adapter_free(job->result);
    for (size_t i = 0; job->weight_texts && i < job->args->weights.n; i++)
        free(job->weight_texts[i]);
    free(job->weight_texts);
    free(job->weights);
    free(job->terms);
    free(job->sites);
    stack_close(&job->stack);
}

static int run_compose(const void *args, size_t n_inputs, char *const *inputs)
{
    compose_job job = {.args = args};
    int code = parse(&job);

    if (code == EXIT_DONE)
        code = open_terms(&job, n_inputs, inputs);
    if (code == EXIT_DONE)
        code = parse_weights(&job);
    if (code == EXIT_DONE)
        code = compose(&job);
    if (code == EXIT_DONE)
        code = kit_write(lorakit_adapter_get(job.result), NULL, job.args->output, job.args->force, job.id);
    if (code == EXIT_DONE && job.args->json)
        json_result(&job);
    else if (code == EXIT_DONE && !job.args->quiet)
        print_result(&job);
    close_all(&job);
    return code;
}

const command cmd_compose = {
    .name = NAME,
    .usage = "compose IN[#NAME][=WEIGHT] [IN...] -o OUT.lora [--method METHOD] [options]",
    .summary = "make one adapter of several",
    .about =
        "Make one adapter that does what several do together, each with its weight, which may be negative. The sum is exact: factors "
        "are put side by side, and where they share directions the rank becomes that of the sum. Adapters may differ in rank, targets "
        "and scaling. What has no sum (DoRA, saved tensors) is refused by name, but where only one adapter has it, with weight 1.",
    .example = "lorapack compose legal.lora=0.7 tang.lora=0.3 -o mix.lora\n"
               "lorapack compose legal.lora tang.lora --weight 'tang:*.mlp.*=0.2' --method svd --rank 8 -o mix8.lora\n",
    .options = compose_options,
    .args_size = sizeof(compose_args),
    .min_inputs = 1,
    .max_inputs = MANY_INPUTS,
    .algebra = true,
    .run = run_compose,
};
