/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enough to see a pattern, few enough to leave the last line in sight. */
#define MOST_PROBLEMS 20

typedef struct problems {
    bool several; /* adapters: each line names its own */
    char *lines[MOST_PROBLEMS];
    size_t n;
} problems;

static const char *const orientation_words[] = {"out-in", "in-out", "shape"}; // in the order of the options' choices

const char *orientation_word(unsigned chosen)
{
    return chosen ? orientation_words[chosen - 1] : NULL;
}

bool orientation_parse(const char *word, unsigned *chosen)
{
    *chosen = 0;
    for (unsigned i = 0; word && i < sizeof orientation_words / sizeof orientation_words[0]; i++)
        if (!strcmp(word, orientation_words[i]))
            *chosen = i + 1;
    return !word || *chosen;
}

bool binding_is_asked(const binding_args *args)
{
    return args->map.n || args->orientation || args->any_base || args->allow_unmatched;
}

static void collect(void *ctx, const char *adapter, const char *target, const char *text)
{
    problems *p = ctx;
    const size_t size = strlen(adapter) + strlen(target) + strlen(text) + 8;

    if (p->n < MOST_PROBLEMS && (p->lines[p->n] = malloc(size)))
        snprintf(p->lines[p->n], size, "%s%s%s: %s", p->several ? adapter : "", p->several ? ": " : "", target, text);
    p->n++;
}

static void print_problems(const problems *p)
{
    for (size_t i = 0; i < p->n && i < MOST_PROBLEMS; i++)
        if (p->lines[i])
            print_line(stderr, "  %s", p->lines[i]);
    if (p->n > MOST_PROBLEMS)
        print_line(stderr, "  and %zu more", p->n - MOST_PROBLEMS);
}

/* OLD=NEW, cut at the first '='; the strings are owned by the renames. */
static int parse_rename(const char *verb, const char *text, lorafmt_rename *out, char **memory)
{
    char *at;

    if (!(*memory = strdup(text)))
        return message_no_memory();
    if (!(at = strchr(*memory, '=')))
        return message_usage(verb, "--map %s: must be OLD=NEW", text);
    if (!strcmp(text, "="))
        return message_usage(verb, "--map =: one side must not be empty");
    *at = '\0';
    out->from = *memory;
    out->to = at + 1;
    return EXIT_DONE;
}

static void free_renames(lorafmt_rename *renames, char **memory, size_t n)
{
    for (size_t i = 0; memory && i < n; i++)
        free(memory[i]);
    free(memory);
    free(renames);
}

static int parse_renames(const char *verb, const text_list *map, lorafmt_rename **renames, char ***memory)
{
    int code = EXIT_DONE;

    *renames = calloc(map->n + 1, sizeof **renames);
    *memory = calloc(map->n + 1, sizeof **memory);
    if (!*renames || !*memory)
        return message_no_memory();
    for (size_t i = 0; i < map->n && code == EXIT_DONE; i++)
        code = parse_rename(verb, map->items[i], &(*renames)[i], &(*memory)[i]);
    return code;
}

static int bind_reported(binding_step *step, void *ctx, lorafmt_bind_options *options, bool several, const char *file)
{
    problems p = {.several = several};
    lorafmt_error err;
    int code = EXIT_DONE;

    options->report = collect;
    options->report_ctx = &p;
    if (step(ctx, options, &err)) {
        if (p.n > 1) // a single one is the error
            print_problems(&p);
        code = message_failure(&err, file);
    }
    for (size_t i = 0; i < p.n && i < MOST_PROBLEMS; i++)
        free(p.lines[i]);
    return code;
}

int binding_run(const char *verb, const binding_args *args, bool check_only, bool several, const char *file, binding_step *step,
                void *ctx)
{
    static const lorafmt_orientation orientations[] = {LORAFMT_OUT_IN, LORAFMT_IN_OUT, LORAFMT_BY_SHAPE};
    lorafmt_bind_options options = {.struct_size = sizeof options,
                                    .n_renames = args->map.n,
                                    .allow_unmatched = args->allow_unmatched,
                                    .any_base = args->any_base,
                                    .check_only = check_only};
    lorafmt_rename *renames;
    char **memory;
    int code = parse_renames(verb, &args->map, &renames, &memory);

    if (code == EXIT_DONE) {
        options.renames = renames;
        options.cpu = (lorafmt_cpu)args->cpu;
        options.has_orientation = args->orientation != 0;
        if (args->orientation)
            options.orientation = orientations[args->orientation - 1];
        code = bind_reported(step, ctx, &options, several, file);
    }
    free_renames(renames, memory, args->map.n);
    return code;
}

/* What lorafmt_bind() takes besides options. */
typedef struct bind_call {
    const lorafmt_base *base;
    const lorafmt_stack_entry *stack;
    size_t n_stack;
    lorafmt_view **out;
} bind_call;

static lorafmt_status bind(void *ctx, const lorafmt_bind_options *options, lorafmt_error *err)
{
    const bind_call *call = ctx;

    return lorafmt_bind(call->base, call->stack, call->n_stack, options, call->out, err);
}

int binding_bind(const char *verb, const binding_args *args, bool check_only, const lorafmt_model *model,
                 const lorafmt_stack_entry *stack, size_t n_stack, const char *file, lorafmt_view **out)
{
    bind_call call = {lorafmt_model_base(model), stack, n_stack, out};

    *out = NULL;
    return binding_run(verb, args, check_only, n_stack > 1, file, bind, &call);
}

static void count_site(const lorafmt_bound_site *bound, coverage *out)
{
    out->n_total++;
    if (bound->match == LORAFMT_MATCH_NONE)
        return;
    out->n_matched++;
    switch (bound->effect) {
    case LORAFMT_EFFECT_NOTHING:
        out->n_nothing++;
        break;
    case LORAFMT_EFFECT_LOW_RANK:
        out->n_low_rank++;
        break;
    case LORAFMT_EFFECT_REPLACED:
        out->n_replaced++;
        break;
    case LORAFMT_EFFECT_NEW:
        out->n_new++;
        break;
    case LORAFMT_EFFECT_ROWS:
        out->n_rows++;
        break;
    case LORAFMT_EFFECT_ADDITIVE:
        out->n_additive++;
        break;
    }
}

void coverage_count(const lorafmt_view *view, size_t entry, coverage *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < lorafmt_view_n_sites(view); i++) {
        const lorafmt_bound_site *bound = lorafmt_view_get_site(view, i);
        if (bound->entry == entry)
            count_site(bound, out);
    }
}

const char *coverage_text(const coverage *c, char buf[COVERAGE_TEXT_SIZE])
{
    const struct {
        size_t n;
        const char *what;
    } parts[] = {{c->n_low_rank, "low-rank"},
                 {c->n_replaced, "replaced"},
                 {c->n_rows, "in rows"},
                 {c->n_additive, "additive"},
                 {c->n_new, "new"},
                 {c->n_nothing, "without effect"},
                 {c->n_total - c->n_matched, "not in the base"}};
    const char *before = " (";

    buf[0] = '\0';
    text_append(buf, COVERAGE_TEXT_SIZE, "%zu/%zu targets", c->n_matched, c->n_total);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].n) {
            text_append(buf, COVERAGE_TEXT_SIZE, "%s%zu %s", before, parts[i].n, parts[i].what);
            before = ", ";
        }
    text_append(buf, COVERAGE_TEXT_SIZE, "%s", c->n_total ? ")" : "");
    return buf;
}
