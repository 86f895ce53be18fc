/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/page.h"
#include "tools/scenarios.h"
#include "tools/table.h"
#include "tools/text.h"

#include "lorakit/build.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "plan"

typedef struct plan_args {
    const char *output;
    unsigned n_threads;
    bool json, quiet;
    limit_args trust;
} plan_args;

static const option plan_options[] = {
    {"output", 'o', "DIR", OPTION_TEXT, offsetof(plan_args, output),
     "where to look for what is built; else where the manifest says"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(plan_args, n_threads),
     "files of the base that are hashed at once; else one per CPU"},
    LIMIT_OPTIONS(plan_args, trust),
    {"json", 0, NULL, OPTION_FLAG, offsetof(plan_args, json), "print the plan as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(plan_args, quiet), "print nothing but errors"},
    {0},
};

/* Why a scenario cannot be made; any but text may be NULL. */
typedef struct problem {
    char *adapter, *target, *text;
} problem;

typedef struct planned {
    const lorakit_scenario *scenario;
    size_t n_problems;
    problem *problems;
    bool is_bound;
    coverage all;   /* of all its adapters */
    coverage *each; /* of each */
    uint64_t n_adapter_bytes;
    char *path; /* of what is built */
    lorakit_build_state state;
} planned;

typedef struct plan_job {
    const plan_args *args;
    scenario_set s;
    const lorakit_manifest *manifest;
    size_t n;
    size_t *scenarios;
    planned *planned;
    uint64_t n_stored, n_viewed; /* bytes of all of them: copies, and adapters, each of these once */
    bool *is_used;               /* of the adapters of the manifest */
} plan_job;

/* --- planning --- */

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

static void add_problem(void *ctx, const char *adapter, const char *target, const char *text)
{
    planned *p = ctx;
    problem *more = realloc(p->problems, (p->n_problems + 1) * sizeof *more);

    if (!more) {
        message_error("%s: %s", p->scenario->name, text);
        return;
    }
    p->problems = more;
    more[p->n_problems++] = (problem){copy(adapter), copy(target), copy(text)};
}

static void add_failure(planned *p, const char *adapter, const lorafmt_error *err)
{
    char line[sizeof err->file + sizeof err->field + sizeof err->text + 64];

    lorafmt_error_format(err, line, sizeof line);
    add_problem(p, adapter, NULL, line);
}

static uint64_t adapter_bytes(const lorafmt_adapter *adapter)
{
    uint64_t n = 0;

    for (size_t i = 0; i < adapter->n_sites; i++)
        for (uint32_t k = 0; k < adapter->sites[i].n_factors; k++)
            n += adapter->sites[i].factors[k].tensor.size;
    return n;
}

/* Each of them, so that everything that is missing is known at once. */
static void open_adapters(plan_job *job, planned *p)
{
    for (size_t i = 0; i < p->scenario->n_adapters; i++) {
        const size_t which = p->scenario->adapters[i].adapter;
        const lorafmt_adapter *adapter;
        lorafmt_error err;
        uint64_t n;
        if (lorakit_scenarios_adapter(job->s.set, which, &adapter, &err)) {
            add_failure(p, job->manifest->adapters[which].name, &err);
            continue;
        }
        n = adapter_bytes(adapter);
        p->n_adapter_bytes += n;
        job->n_viewed += job->is_used[which] ? 0 : n;
        job->is_used[which] = true;
    }
}

static void add_coverage(const coverage *from, coverage *to)
{
    to->n_total += from->n_total;
    to->n_matched += from->n_matched;
    to->n_low_rank += from->n_low_rank;
    to->n_replaced += from->n_replaced;
    to->n_rows += from->n_rows;
    to->n_additive += from->n_additive;
    to->n_new += from->n_new;
    to->n_nothing += from->n_nothing;
}

static int look(plan_job *job, planned *p, lorakit_build *build)
{
    lorafmt_error err;

    p->is_bound = true;
    p->each = calloc(p->scenario->n_adapters + 1, sizeof *p->each);
    p->path = strdup(lorakit_build_path(build));
    if (!p->each || !p->path)
        return message_no_memory();
    for (size_t i = 0; i < p->scenario->n_adapters; i++) {
        coverage_count(lorakit_build_view(build), i, &p->each[i]);
        add_coverage(&p->each[i], &p->all);
    }
    if (lorakit_build_look(build, &p->state, &err)) {
        if (err.status == LORAFMT_CANCELLED)
            return scenarios_failure(&job->s, &err);
        add_failure(p, NULL, &err);
    }
    job->n_stored += p->state.n_bytes;
    return EXIT_DONE;
}

static int plan_one(plan_job *job, planned *p, size_t scenario)
{
    lorakit_build *build;
    lorafmt_error err;
    int code;

    p->scenario = &job->manifest->scenarios[scenario];
    open_adapters(job, p);
    if (p->n_problems)
        return EXIT_DONE;
    if (lorakit_build_open(job->s.set, scenario, LORAKIT_FORM_MODEL, add_problem, NULL, p, &build, &err)) {
        add_failure(p, NULL, &err);
        return EXIT_DONE;
    }
    code = look(job, p, build);
    lorakit_build_free(build);
    return code;
}

static int plan_all(plan_job *job)
{
    int code = EXIT_DONE;

    job->manifest = lorakit_scenarios_manifest(job->s.set);
    job->planned = calloc(job->n + 1, sizeof *job->planned);
    job->is_used = calloc(job->manifest->n_adapters + 1, sizeof *job->is_used);
    if (!job->planned || !job->is_used)
        return message_no_memory();
    for (size_t i = 0; i < job->n && code == EXIT_DONE; i++)
        code = plan_one(job, &job->planned[i], job->scenarios[i]);
    return code;
}

/* --- saying it --- */

static bool can_be_made(const plan_job *job, const planned *p)
{
    return !p->n_problems && !scenarios_drifted(&job->s, p->scenario);
}

static const char *state_of(const plan_job *job, const planned *p)
{
    return can_be_made(job, p) ? lorakit_built_name(p->state.built) : "cannot be made";
}

/* "legal=0.5+tang" */
static void stack_text(const plan_job *job, const planned *p, char buf[CELL_SIZE])
{
    char number[NUMBER_TEXT_SIZE];

    for (size_t i = 0; i < p->scenario->n_adapters; i++) {
        const lorakit_scenario_adapter *a = &p->scenario->adapters[i];
        text_append(buf, CELL_SIZE, "%s%s", i ? "+" : "", job->manifest->adapters[a->adapter].name);
        if (a->weight != 1)
            text_append(buf, CELL_SIZE, "=%s", number_text(a->weight, number));
        if (a->n_rules)
            text_append(buf, CELL_SIZE, "*");
    }
    if (!p->scenario->n_adapters)
        text_append(buf, CELL_SIZE, "-");
}

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const plan_job *job = ctx;
    const planned *p = &job->planned[i];
    char size[NUMBER_TEXT_SIZE];

    snprintf(cells[0], CELL_SIZE, "%s", p->scenario->name);
    stack_text(job, p, cells[1]);
    if (p->is_bound) {
        snprintf(cells[2], CELL_SIZE, "%zu/%zu", p->all.n_matched, p->all.n_total);
        snprintf(cells[3], CELL_SIZE, "%s", size_text(p->state.n_bytes, size));
    }
    snprintf(cells[4], CELL_SIZE, "%s", size_text(p->n_adapter_bytes, size));
    snprintf(cells[5], CELL_SIZE, "%s", state_of(job, p));
}

static const char *tail_of(const void *ctx, size_t i)
{
    const plan_job *job = ctx;

    return can_be_made(job, &job->planned[i]) ? job->planned[i].state.why : "";
}

static void print_coverage(const plan_job *job)
{
    char text[COVERAGE_TEXT_SIZE], number[NUMBER_TEXT_SIZE];

    for (size_t i = 0; i < job->n; i++) {
        const planned *p = &job->planned[i];
        for (size_t k = 0; p->is_bound && k < p->scenario->n_adapters; k++) {
            const lorakit_scenario_adapter *a = &p->scenario->adapters[k];
            print_line(stdout, "%s: %s: %s, weight %s%s", p->scenario->name, job->manifest->adapters[a->adapter].name,
                       coverage_text(&p->each[k], text), number_text(a->weight, number),
                       a->n_rules ? ", others for some targets" : "");
        }
    }
}

static void print_plan(const plan_job *job)
{
    static const column columns[] = {{"scenario", false, 0}, {"adapters", false, 2}, {"targets", true, 1},
                                     {"stored", true, 0},    {"as a view", true, 0}, {"built", false, 0}};
    const table t = {.n_columns = 6,
                     .columns = columns,
                     .n_rows = job->n,
                     .fit = true,
                     .fill = fill_row,
                     .ctx = job,
                     .tail_head = "",
                     .tail = tail_of};
    const page p = page_of_stdout();
    char stored[NUMBER_TEXT_SIZE], viewed[NUMBER_TEXT_SIZE];

    print_coverage(job);
    table_print(&p, &t);
    print_line(stdout, "%zu scenario%s: %s as stored copies, %s as views, in memory and on disk, beside the base", job->n,
               job->n == 1 ? "" : "s", size_text(job->n_stored, stored), size_text(job->n_viewed, viewed));
}

static void say_problems(const plan_job *job)
{
    for (size_t i = 0; i < job->s.n_drift; i++)
        message_error("%s: %s: %s; lorapack lock MANIFEST --update accepts it", lorakit_scenarios_lock_path(job->s.set),
                      job->s.drift[i].what, job->s.drift[i].text);
    for (size_t i = 0; i < job->n; i++)
        for (size_t k = 0; k < job->planned[i].n_problems; k++) {
            const problem *q = &job->planned[i].problems[k];
            message_error("%s: %s%s%s%s%s", job->planned[i].scenario->name, q->adapter ? q->adapter : "", q->adapter ? ": " : "",
                          q->target ? q->target : "", q->target ? ": " : "", q->text ? q->text : "out of memory");
        }
}

static void json_problems(json_out *j, const planned *p)
{
    json_array(j, "problems");
    for (size_t i = 0; i < p->n_problems; i++) {
        json_object(j, NULL);
        json_text(j, "adapter", p->problems[i].adapter);
        json_text(j, "target", p->problems[i].target);
        json_text(j, "text", p->problems[i].text);
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_coverage(json_out *j, const coverage *c)
{
    json_object(j, "coverage");
    json_u64(j, "matched", c->n_matched);
    json_u64(j, "total", c->n_total);
    json_u64(j, "low_rank", c->n_low_rank);
    json_u64(j, "replaced", c->n_replaced);
    json_u64(j, "rows", c->n_rows);
    json_u64(j, "additive", c->n_additive);
    json_u64(j, "new", c->n_new);
    json_u64(j, "nothing", c->n_nothing);
    json_object_end(j);
}

static void json_adapters(json_out *j, const plan_job *job, const planned *p)
{
    json_array(j, "adapters");
    for (size_t i = 0; i < p->scenario->n_adapters; i++) {
        const lorakit_scenario_adapter *a = &p->scenario->adapters[i];
        json_object(j, NULL);
        json_text(j, "name", job->manifest->adapters[a->adapter].name);
        json_double(j, "weight", a->weight);
        json_u64(j, "n_rules", a->n_rules);
        if (p->is_bound)
            json_coverage(j, &p->each[i]);
        else
            json_null(j, "coverage");
        json_object_end(j);
    }
    json_array_end(j);
}

static void json_planned(json_out *j, const plan_job *job, const planned *p)
{
    const lorafmt_dtype dtype = p->scenario->dtype;

    json_object(j, NULL);
    json_text(j, "name", p->scenario->name);
    json_text(j, "description", p->scenario->description);
    json_bool(j, "can_be_made", can_be_made(job, p));
    json_problems(j, p);
    json_adapters(j, job, p);
    json_text(j, "dtype", dtype ? lorafmt_dtype_name(dtype) : NULL);
    json_u64(j, "n_adapter_bytes", p->n_adapter_bytes);
    json_text(j, "path", p->path);
    json_text(j, "state", p->is_bound ? lorakit_built_name(p->state.built) : NULL);
    json_text(j, "why", p->state.why[0] ? p->state.why : NULL);
    json_u64(j, "n_files", p->state.n_files);
    json_u64(j, "n_finished", p->state.n_finished);
    json_u64(j, "n_bytes", p->state.n_bytes);
    json_object_end(j);
}

static void json_plan(const plan_job *job)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "manifest", job->s.path);
    json_text(&j, "base", job->manifest->base.path);
    json_text(&j, "output", lorakit_scenarios_output(job->s.set));
    scenarios_json_drift(&j, &job->s);
    json_array(&j, "scenarios");
    for (size_t i = 0; i < job->n; i++)
        json_planned(&j, job, &job->planned[i]);
    json_array_end(&j);
    json_u64(&j, "n_stored_bytes", job->n_stored);
    json_u64(&j, "n_view_bytes", job->n_viewed);
    json_object_end(&j);
}

static int say(const plan_job *job)
{
    say_problems(job);
    if (job->args->json)
        json_plan(job);
    else if (!job->args->quiet)
        print_plan(job);
    for (size_t i = 0; i < job->n; i++)
        if (!can_be_made(job, &job->planned[i]))
            return EXIT_FAILED;
    return EXIT_DONE;
}

static void close_all(plan_job *job)
{
    for (size_t i = 0; job->planned && i < job->n; i++) {
        planned *p = &job->planned[i];
        for (size_t k = 0; k < p->n_problems; k++) {
            free(p->problems[k].adapter);
            free(p->problems[k].target);
            free(p->problems[k].text);
        }
        free(p->problems);
        free(p->each);
        free(p->path);
    }
    free(job->planned);
    free(job->is_used);
    free(job->scenarios);
    scenarios_close(&job->s);
}

static int run_plan(const void *args, size_t n_inputs, char *const *inputs)
{
    plan_job job = {.args = args};
    const lorakit_scenarios_options options = {.output = job.args->output, .no_cache = true, .n_threads = job.args->n_threads};
    int code = scenarios_open(NAME, inputs[0], &job.args->trust, &options, true, job.args->quiet, &job.s);

    if (code == EXIT_DONE)
        code = scenarios_choose(NAME, lorakit_scenarios_manifest(job.s.set), n_inputs - 1, inputs + 1, &job.scenarios, &job.n);
    if (code == EXIT_DONE)
        code = plan_all(&job);
    if (code == EXIT_DONE)
        code = say(&job);
    close_all(&job);
    return code;
}

const command cmd_plan = {
    .name = NAME,
    .usage = "plan MANIFEST [SCENARIO...]",
    .summary = "find out what of a manifest fits, what it takes and what is built",
    .about =
        "Bind every scenario of a manifest to the base and write nothing: what each covers, what does not fit or is missing, what differs "
        "from the lock, what a stored copy takes and what a view, and whether what is built is fresh. Exit status 1 when any scenario "
        "cannot be made.",
    .example = "lorapack plan lorafmt.yaml\n",
    .options = plan_options,
    .args_size = sizeof(plan_args),
    .min_inputs = 1,
    .max_inputs = MANY_INPUTS,
    .run = run_plan,
};
