/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/loader.h"
#include "tools/message.h"
#include "tools/stack.h"
#include "tools/syntax.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME "apply"
#define N_ROUNDS 7 /* of what is timed */

typedef struct apply_args {
    const char *base;
    text_list adapters, swaps;
    const char *rank;
    unsigned repeat, n_threads;
    binding_args binding;
    input_args input;
    bool json, quiet;
} apply_args;

static const option apply_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(apply_args, base),
     "the model: a .safetensors file, or a directory with one or with shards"},
    {"adapter", 0, "IN[#NAME][=WEIGHT]", OPTION_LIST, offsetof(apply_args, adapters),
     "applied while loading; may be given many times, and the order counts"},
    {"swap", 0, "STACK[,STACK...]", OPTION_LIST, offsetof(apply_args, swaps),
     "switch to other adapters, IN[=WEIGHT] or several of them joined by +; may be given many times"},
    {"repeat", 0, "N", OPTION_COUNT, offsetof(apply_args, repeat),
     "with --swap: switch N times, in an order drawn from a fixed seed; else once to each"},
    {"rank", 0, "K/N", OPTION_TEXT, offsetof(apply_args, rank),
     "be rank K, counted from 0, of N, which holds its share of the rows of every matrix"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(apply_args, json), "print it as JSON (docs/json.md)"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(apply_args, n_threads),
     "threads to compute with; the result does not depend on it"},
    CPU_OPTION(apply_args, binding),
    BINDING_OPTIONS(apply_args, binding),
    {"defer-digests", 0, NULL, OPTION_FLAG, offsetof(apply_args, input.defer_digests),
     "do not read all of a .lora to check it, only what is used: verify has checked it"},
    INPUT_OPTIONS(apply_args, input),
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(apply_args, quiet), "print nothing but errors"},
    {0},
};

/* Seconds: median, least, most. */
typedef struct timing {
    double median, least, most;
} timing;

/* What can be switched to. */
typedef struct scenario {
    char *text; /* as given */
    adapter_stack stack;
    lorafmt_swap_result result;
    timing swap, copy; /* from the base to it, and back, which copies the same tensors */
} scenario;

typedef struct apply_job {
    const apply_args *args;
    unsigned rank, n_ranks;
    loader loader;
    scenario first;     /* what is loaded */
    coverage *coverage; /* of each of its adapters */
    size_t n_scenarios;
    scenario *scenarios;
    double open, load, load_plain; /* seconds */
    uint8_t digest[32], base_digest[32];
    unsigned n_switches;
} apply_job;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static timing timing_of(double *seconds, size_t n)
{
    qsort(seconds, n, sizeof *seconds, compare);
    return (timing){seconds[n / 2], seconds[0], seconds[n - 1]};
}

static int check_args(apply_job *job)
{
    const apply_args *args = job->args;

    job->n_ranks = 1;
    if (!args->base)
        return message_usage(NAME, "--base is missing");
    if (!args->adapters.n && !args->swaps.n)
        return message_usage(NAME, "--adapter is missing (or --swap)");
    if (args->repeat && !args->swaps.n)
        return message_usage(NAME, "--repeat needs --swap");
    if (args->rank && (!fraction_parse(args->rank, OPTION_COUNT_MAX, &job->rank, &job->n_ranks) || job->rank == job->n_ranks))
        return message_usage(NAME, "--rank %s: must be K/N with K below N, 0/2 for the first of two", args->rank);
    return EXIT_DONE;
}

/* --- what is to be loaded and switched to --- */

static int parse_scenario(const char *text, scenario *out)
{
    out->text = strdup(text);
    return out->text ? stack_parse_sum(NAME, text, &out->stack) : message_no_memory();
}

static int parse_swap(apply_job *job, const char *text)
{
    char *copy = strdup(text), *rest = copy;
    int code = copy ? EXIT_DONE : message_no_memory();

    while (code == EXIT_DONE && rest) {
        const char *part = stack_next(&rest, ",");
        scenario *more = realloc(job->scenarios, (job->n_scenarios + 1) * sizeof *more);
        if (!more) {
            code = message_no_memory();
        } else {
            job->scenarios = more;
            memset(&more[job->n_scenarios], 0, sizeof *more);
            code = parse_scenario(part, &more[job->n_scenarios++]);
        }
    }
    free(copy);
    return code;
}

static int open_stack(const apply_job *job, scenario *s)
{
    return stack_open(NAME, &job->args->input, job->loader.model, job->args->quiet, &s->stack);
}

static int open_all(apply_job *job)
{
    const apply_args *args = job->args;
    int code = stack_parse(NAME, &args->adapters, &job->first.stack);
    double start;

    for (size_t i = 0; i < args->swaps.n && code == EXIT_DONE; i++)
        code = parse_swap(job, args->swaps.items[i]);
    if (code == EXIT_DONE)
        code = loader_open(args->base, job->rank, job->n_ranks, &job->loader);
    start = now();
    if (code == EXIT_DONE)
        code = open_stack(job, &job->first);
    job->open = now() - start;
    for (size_t i = 0; i < job->n_scenarios && code == EXIT_DONE; i++)
        code = open_stack(job, &job->scenarios[i]);
    return code;
}

/* --- loading and switching --- */

/* A switch, as binding_run() wants it. */
typedef struct switching {
    apply_job *job;
    scenario *to; /* NULL = the base */
    lorafmt_view **view;
    double seconds;
} switching;

static lorafmt_status run_switch(void *ctx, const lorafmt_bind_options *options, lorafmt_error *err)
{
    switching *s = ctx;
    const lorafmt_swap_options swap = {.struct_size = sizeof swap, .bind = options};
    const lorafmt_stack_entry *entries = s->to ? s->to->stack.entries : NULL;
    const double start = now();
    const lorafmt_status st = lorafmt_runtime_swap(s->job->loader.runtime, entries, s->to ? s->to->stack.n : 0, &swap,
                                                   s->to ? &s->to->result : NULL, s->view, err);

    s->seconds = now() - start;
    return st;
}

static int switch_to(apply_job *job, scenario *to, lorafmt_view **view, double *seconds)
{
    switching s = {job, to, view, 0};
    const size_t n = to ? to->stack.n : 0;
    const int code =
        binding_run(NAME, &job->args->binding, false, n > 1, n == 1 ? to->stack.inputs[0].path : job->args->base, run_switch, &s);

    if (seconds)
        *seconds = s.seconds;
    return code;
}

static int digest(const apply_job *job, uint8_t out[32])
{
    lorafmt_error err;

    if (lorafmt_runtime_digest(job->loader.runtime, out, NULL, &err))
        return message_failure(&err, job->args->base);
    return EXIT_DONE;
}

static int count_coverage(apply_job *job, lorafmt_view *view)
{
    job->coverage = calloc(job->first.stack.n + 1, sizeof *job->coverage);
    for (size_t i = 0; job->coverage && view && i < job->first.stack.n; i++)
        coverage_count(view, i, &job->coverage[i]);
    lorafmt_view_free(view);
    return job->coverage ? EXIT_DONE : message_no_memory();
}

/* Without adapters, twice, so that the files are in memory when it is timed; then with them, in one pass. */
static int load(apply_job *job)
{
    lorafmt_view *view = NULL;
    int code = EXIT_DONE;
    double start;

    for (int i = 0; i < 2 && code == EXIT_DONE; i++) {
        start = now();
        code = loader_load(&job->loader, job->args->n_threads, false);
        job->load_plain = now() - start;
    }
    if (code == EXIT_DONE)
        code = digest(job, job->base_digest);
    start = now();
    if (code == EXIT_DONE)
        code = loader_load(&job->loader, job->args->n_threads, true);
    if (code == EXIT_DONE)
        code = switch_to(job, job->first.stack.n ? &job->first : NULL, &view, NULL);
    job->load = now() - start + job->open;
    if (code == EXIT_DONE)
        code = count_coverage(job, view);
    return code == EXIT_DONE ? digest(job, job->digest) : code;
}

/* From the base and back, in turns: the way back copies the tensors that the way there computes. */
static int time_scenario(apply_job *job, scenario *s)
{
    double there[N_ROUNDS], back[N_ROUNDS];
    int code = switch_to(job, NULL, NULL, NULL);

    for (int i = 0; i < N_ROUNDS && code == EXIT_DONE; i++) {
        code = switch_to(job, s, NULL, &there[i]);
        if (code == EXIT_DONE)
            code = switch_to(job, NULL, NULL, &back[i]);
    }
    if (code == EXIT_DONE) {
        s->swap = timing_of(there, N_ROUNDS);
        s->copy = timing_of(back, N_ROUNDS);
    }
    return code;
}

/* splitmix64: the same order everywhere. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static int check_digest(const apply_job *job, const uint8_t wanted[32], const char *what)
{
    uint8_t found[32];
    int code = digest(job, found);

    if (code == EXIT_DONE && memcmp(found, wanted, sizeof found) != 0)
        code = message_error("%s: after %u switches %s is not what it was: please report this", job->args->base, job->n_switches,
                             what);
    return code;
}

/* Many switches, then the base, then what was loaded: all as they were, to the bit. */
static int prove(apply_job *job)
{
    const unsigned n = job->args->repeat ? job->args->repeat : (unsigned)job->n_scenarios;
    uint64_t state = 1;
    int code = EXIT_DONE;

    for (; job->n_switches < n && code == EXIT_DONE; job->n_switches++) {
        const size_t i = job->args->repeat ? (size_t)(draw(&state) % job->n_scenarios) : job->n_switches;
        code = switch_to(job, &job->scenarios[i], NULL, NULL);
    }
    if (code == EXIT_DONE)
        code = switch_to(job, NULL, NULL, NULL);
    if (code == EXIT_DONE)
        code = check_digest(job, job->base_digest, "the base");
    if (code == EXIT_DONE)
        code = switch_to(job, &job->first, NULL, NULL);
    return code == EXIT_DONE ? check_digest(job, job->digest, "what was loaded") : code;
}

static int swap(apply_job *job)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < job->n_scenarios && code == EXIT_DONE; i++)
        code = time_scenario(job, &job->scenarios[i]);
    return code == EXIT_DONE && job->n_scenarios ? prove(job) : code;
}

/* --- saying it --- */

static void print_loading(const apply_job *job)
{
    char live[NUMBER_TEXT_SIZE], buf[COVERAGE_TEXT_SIZE], weight[NUMBER_TEXT_SIZE], text[DIGEST_TEXT_SIZE];

    for (size_t i = 0; i < job->first.stack.n; i++)
        print_line(stdout, "%s: %s, weight %s", job->first.stack.entries[i].adapter->name, coverage_text(&job->coverage[i], buf),
                   number_text(job->first.stack.entries[i].weight, weight));
    print_line(stdout, "live weights: %s%s%s", size_text(job->loader.region_size, live), job->args->rank ? ", of rank " : "",
               job->args->rank ? job->args->rank : "");
    print_line(stdout, "loading: %.2f ms without adapters, %.2f ms with them (%.2f x), of which %.2f ms to open and check them",
               1e3 * job->load_plain, 1e3 * job->load, job->load / job->load_plain, 1e3 * job->open);
    print_line(stdout, "SHA-256 of all tensors: %s", digest_text(job->digest, text));
}

static void print_scenario(const scenario *s)
{
    char bytes[NUMBER_TEXT_SIZE];

    print_line(stdout, "switch to %s: %zu/%zu targets, %s in %.2f ms (%.2f .. %.2f), %.2f x the %.2f ms of copying them", s->text,
               s->result.n_bound, s->result.n_sites, size_text(s->result.n_bytes, bytes), 1e3 * s->swap.median,
               1e3 * s->swap.least, 1e3 * s->swap.most, s->swap.median / s->copy.median, 1e3 * s->copy.median);
}

static void print_all(const apply_job *job)
{
    print_loading(job);
    for (size_t i = 0; i < job->n_scenarios; i++)
        print_scenario(&job->scenarios[i]);
    if (job->n_scenarios)
        print_line(stdout, "after %u switches: the base, and what was loaded, as they were, to the bit", job->n_switches);
}

static void json_timing(json_out *j, const char *key, const timing *t)
{
    json_object(j, key);
    json_double(j, "median", t->median);
    json_double(j, "least", t->least);
    json_double(j, "most", t->most);
    json_object_end(j);
}

static void json_adapters(json_out *j, const apply_job *job)
{
    json_array(j, "adapters");
    for (size_t i = 0; i < job->first.stack.n; i++) {
        json_object(j, NULL);
        json_text(j, "name", job->first.stack.entries[i].adapter->name);
        json_double(j, "weight", job->first.stack.entries[i].weight);
        json_u64(j, "n_sites", job->coverage[i].n_total);
        json_u64(j, "n_matched", job->coverage[i].n_matched);
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_scenario(json_out *j, const scenario *s)
{
    json_object(j, NULL);
    json_text(j, "stack", s->text);
    json_u64(j, "n_sites", s->result.n_sites);
    json_u64(j, "n_matched", s->result.n_bound);
    json_u64(j, "n_tensors", s->result.n_computed);
    json_u64(j, "n_bytes", s->result.n_bytes);
    json_timing(j, "swap_seconds", &s->swap);
    json_timing(j, "copy_seconds", &s->copy);
    json_object_end(j);
}

static void json_all(const apply_job *job)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "base", job->args->base);
    json_u64(&j, "rank", job->rank);
    json_u64(&j, "n_ranks", job->n_ranks);
    json_u64(&j, "n_live_bytes", job->loader.region_size);
    json_adapters(&j, job);
    json_double(&j, "load_plain_seconds", job->load_plain);
    json_double(&j, "load_seconds", job->load);
    json_double(&j, "open_seconds", job->open);
    json_digest(&j, "sha256", job->digest);
    json_digest(&j, "base_sha256", job->base_digest);
    json_array(&j, "swaps");
    for (size_t i = 0; i < job->n_scenarios; i++)
        json_scenario(&j, &job->scenarios[i]);
    json_array_end(&j);
    json_u64(&j, "n_switches", job->n_switches);
    json_object_end(&j);
}

static void close_scenario(scenario *s)
{
    stack_close(&s->stack);
    free(s->text);
}

static void close_all(apply_job *job)
{
    loader_close(&job->loader);
    close_scenario(&job->first);
    for (size_t i = 0; i < job->n_scenarios; i++)
        close_scenario(&job->scenarios[i]);
    free(job->scenarios);
    free(job->coverage);
}

static int run_apply(const void *args, size_t n_inputs, char *const *inputs)
{
    apply_job job = {.args = args};
    int code = check_args(&job);

    (void)n_inputs;
    (void)inputs;
    if (code == EXIT_DONE)
        code = open_all(&job);
    if (code == EXIT_DONE)
        code = load(&job);
    if (code == EXIT_DONE)
        code = swap(&job);
    if (code == EXIT_DONE && job.args->json)
        json_all(&job);
    else if (code == EXIT_DONE && !job.args->quiet)
        print_all(&job);
    close_all(&job);
    return code;
}

const command cmd_apply = {
    .name = NAME,
    .usage = "apply --base BASE --adapter IN[#NAME][=WEIGHT] [--adapter ...] [--swap STACK ...] [options]",
    .summary = "rehearse loading a model with adapters, and switching them",
    .about =
        "Load a model into memory as a program that uses liblorafmt would, with adapters applied on the way, and say how long that "
        "takes beside plain loading and what comes of it. With --swap switch to other adapters while it is loaded, time each, and "
        "prove that nothing drifts. Nothing is written.",
    .example = "lorapack apply --base model --adapter legal.lora\n"
               "lorapack apply --base model --adapter legal.lora --swap tang.lora,legal.lora=0.5+tang.lora=0.5 --repeat 1000\n",
    .options = apply_options,
    .args_size = sizeof(apply_args),
    .run = run_apply,
};
