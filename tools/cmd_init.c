/* SPDX-License-Identifier: MIT */
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/page.h"
#include "tools/path.h"
#include "tools/progress.h"
#include "tools/stats.h"
#include "tools/table.h"
#include "tools/text.h"

#include "lorafmt/files.h"
#include "lorakit/init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "init"
#define MOST_RANK (1u << 20) /* of the format */

typedef struct init_args {
    const char *base, *output, *residual, *name, *seed, *what_if;
    text_list targets, excludes;
    unsigned rank, method, orientation, dtype, n_threads; /* of choices, the place */
    option_number alpha;
    bool rslora, force, json, quiet;
} init_args;

static const option init_options[] = {
    {"base", 0, "BASE", OPTION_TEXT, offsetof(init_args, base),
     "the model: a .safetensors file, or a directory with one or with shards"},
    {"target", 0, "NAMES", OPTION_LIST, offsetof(init_args, targets),
     "what to adapt, as q_proj,v_proj: modules of these names, wherever they are; with '*' for any characters the whole name, as "
     "*.layers.0.*; or all-linear: every matrix but embeddings, norms and output heads"},
    {"exclude", 0, "NAMES", OPTION_LIST, offsetof(init_args, excludes), "what to leave out of that, named in the same way"},
    {"rank", 0, "R", OPTION_COUNT, offsetof(init_args, rank), "columns of B and rows of A"},
    {"alpha", 0, "X", OPTION_NUMBER, offsetof(init_args, alpha), "the scale is X / R; else X is R, and the scale 1"},
    {"rslora", 0, NULL, OPTION_FLAG, offsetof(init_args, rslora), "the scale is alpha / sqrt(rank)"},
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(init_args, output), "the file to write"},
    {"init", 0, "gaussian|kaiming|pissa|olora", OPTION_CHOICE, offsetof(init_args, method),
     "what A and B are: A random and B zero (gaussian is the default, kaiming PEFT's), or the largest part of the weights"},
    {"residual", 0, "OUT", OPTION_TEXT, offsetof(init_args, residual),
     "of pissa and olora, the model that is left without that part: what is trained, and merged into"},
    {"seed", 0, "N", OPTION_TEXT, offsetof(init_args, seed), "of the random numbers; else 0"},
    {"what-if", 0, "R,R,...", OPTION_TEXT, offsetof(init_args, what_if),
     "say how large an adapter of these ranks is, write nothing"},
    {"orientation", 0, "out-in|in-out", OPTION_CHOICE, offsetof(init_args, orientation),
     "how the base stores linear layers; in-out is GPT-2's way"},
    {"dtype", 0, "f32|bf16|f16", OPTION_CHOICE, offsetof(init_args, dtype), "of the factors; else f32"},
    {"name", 0, "NAME", OPTION_TEXT, offsetof(init_args, name), "name the adapter; else as its file is named"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(init_args, n_threads), "matrices that are worked on at once; else one per CPU"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(init_args, force), "replace what exists"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(init_args, json), "print what was made as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(init_args, quiet), "print nothing but errors"},
    {0},
};

/* Names between commas, the caller's: names_free() in any case. */
typedef struct names {
    char **items;
    size_t n;
} names;

typedef struct init_job {
    const init_args *args;
    lorakit_init_options options;
    names targets, excludes, ranks;
    char *name;
    lorafmt_model *model;
    lorakit_init_size size;
    lorakit_adapter *result;
    lorafmt_model *residual;
    lorafmt_source *written;
} init_job;

/* --- the command line --- */

static void names_free(names *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
}

static int names_add(names *list, const char *name, size_t length)
{
    char **more = realloc(list->items, (list->n + 1) * sizeof *more);

    if (!more)
        return message_no_memory();
    list->items = more;
    if (!(more[list->n] = strndup(name, length)))
        return message_no_memory();
    list->n++;
    return EXIT_DONE;
}

static int names_split(const char *of, const char *text, names *out)
{
    int code = EXIT_DONE;

    for (const char *at = text; code == EXIT_DONE; at++) {
        const size_t length = strcspn(at, ",");
        if (!length)
            return message_usage(NAME, "--%s %s: a name is empty", of, text);
        code = names_add(out, at, length);
        at += length;
        if (!*at)
            break;
    }
    return code;
}

static int names_parse(const char *of, const text_list *texts, names *out)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < texts->n && code == EXIT_DONE; i++)
        code = names_split(of, texts->items[i], out);
    return code;
}

static bool decomposes(const init_job *job)
{
    return job->options.method == LORAKIT_INIT_PISSA || job->options.method == LORAKIT_INIT_OLORA;
}

/* "out/legal.lora" names "legal". */
static int name_result(init_job *job)
{
    static const char suffix[] = ".lora";
    const char *slash = strrchr(job->args->output, '/'), *file = slash ? slash + 1 : job->args->output;
    size_t n = strlen(file);

    if (n > sizeof suffix - 1 && strcmp(file + n - (sizeof suffix - 1), suffix) == 0)
        n -= sizeof suffix - 1;
    job->name = job->args->name ? strdup(job->args->name) : strndup(file, n);
    job->options.name = job->name;
    return job->name ? EXIT_DONE : message_no_memory();
}

static int check_args(const init_job *job)
{
    const init_args *args = job->args;

    if (!args->base)
        return message_usage(NAME, "--base is missing");
    if (!args->targets.n)
        return message_usage(NAME, "--target is missing");
    if (args->what_if && (args->output || args->residual || args->rank))
        return message_usage(NAME, "--what-if writes nothing and has ranks of its own: without --rank, -o and --residual");
    if (!args->rank && !args->what_if)
        return message_usage(NAME, "--rank is missing (or --what-if)");
    if (!args->output && !args->what_if)
        return message_usage(NAME, "-o OUT.lora is missing (or --what-if)");
    if (args->residual && !decomposes(job))
        return message_usage(NAME, "--residual is for --init pissa and --init olora, others leave the base as it is");
    if (!args->residual && !args->what_if && decomposes(job))
        return message_usage(NAME, "--residual OUT is missing: after --init %s the base is another one",
                             lorakit_init_method_name(job->options.method));
    return EXIT_DONE;
}

static int parse_lists(init_job *job)
{
    const init_args *args = job->args;
    uint64_t rank;
    int code = names_parse("target", &args->targets, &job->targets);

    if (code == EXIT_DONE)
        code = names_parse("exclude", &args->excludes, &job->excludes);
    if (code == EXIT_DONE && args->what_if)
        code = names_split("what-if", args->what_if, &job->ranks);
    for (size_t i = 0; i < job->ranks.n && code == EXIT_DONE; i++)
        if (!parse_whole(job->ranks.items[i], MOST_RANK, &rank) || !rank)
            code = message_usage(NAME, "--what-if %s: must be 1 .. %u", job->ranks.items[i], MOST_RANK);
    job->options.targets = (const char *const *)job->targets.items;
    job->options.n_targets = job->targets.n;
    job->options.excludes = (const char *const *)job->excludes.items;
    job->options.n_excludes = job->excludes.n;
    return code;
}

static int parse(init_job *job)
{
    const init_args *args = job->args;
    lorakit_init_options *o = &job->options;
    int code;

    o->struct_size = sizeof *o;
    o->method = args->method ? (lorakit_init_method)(args->method - 1) : LORAKIT_INIT_GAUSSIAN;
    o->orientation = args->orientation == 2 ? LORAFMT_IN_OUT : LORAFMT_OUT_IN;
    o->rank = args->rank;
    o->has_alpha = args->alpha.given;
    o->alpha = args->alpha.value;
    o->use_rslora = args->rslora;
    o->dtype = args->dtype ? factor_dtype(args->dtype) : LORAFMT_F32;
    o->n_threads = args->n_threads;
    if ((code = check_args(job)) || (code = parse_lists(job)) || (code = seed_parse(NAME, args->seed, &o->seed)))
        return code;
    return args->output ? name_result(job) : EXIT_DONE;
}

/* Said before the work, and not after it. */
static int check_outputs(const init_args *args)
{
    const char *const paths[] = {args->output, args->residual};
    bool within = false;
    int code = EXIT_DONE;

    for (size_t i = 0; i < 2; i++)
        if (paths[i] && !args->force && path_exists(paths[i]))
            return message_error("%s: exists already; --force replaces it", paths[i]);
        else if (paths[i] && !path_parent_exists(paths[i]))
            return message_error("%s: cannot be written: its directory is not there", paths[i]);
    if (args->output)
        code = path_within(args->base, args->output, &within);
    if (code == EXIT_DONE && within)
        code = message_usage(NAME, "%s: the output must not be the base", args->output);
    if (code == EXIT_DONE && args->residual)
        code = path_check_output(NAME, args->base, args->residual);
    if (code == EXIT_DONE && args->residual)
        code = path_within(args->output, args->residual, &within);
    if (code == EXIT_DONE && within)
        code = message_usage(NAME, "%s: must not lie in %s, which is put in place as a whole", args->output, args->residual);
    return code;
}

/* --- the work --- */

static int measure(init_job *job)
{
    lorafmt_error err;

    if (lorakit_init_measure(lorafmt_model_base(job->model), &job->options, &job->size, &err))
        return message_failure(&err, job->args->base);
    return EXIT_DONE;
}

static int make(init_job *job)
{
    progress bar = {0};
    lorafmt_error err;
    lorafmt_status st;

    interrupt_catch();
    progress_start(&bar, decomposes(job) ? "decomposing" : "making", job->args->quiet);
    job->options.progress = progress_update;
    job->options.progress_ctx = &bar;
    st = lorakit_init(lorafmt_model_base(job->model), &job->options, &job->result, &err);
    progress_end(&bar);
    return st ? progress_failure(&bar, &err, job->args->base) : EXIT_DONE;
}

static void say_left(void *ctx, const char *file, const char *why)
{
    const init_job *job = ctx;

    if (!job->args->quiet)
        message_note("%s: %s is not carried over: %s", job->args->base, file, why);
}

static int merge_residual(init_job *job, lorafmt_view *view)
{
    const init_args *args = job->args;
    progress bar;
    const lorafmt_merge_options options = {.struct_size = sizeof options,
                                           .n_threads = args->n_threads,
                                           .force = args->force,
                                           .progress = progress_update,
                                           .progress_ctx = &bar};
    lorafmt_merge_result merged;
    lorafmt_error err;
    lorafmt_status st;

    progress_start(&bar, "residual", args->quiet);
    st = lorafmt_merge(job->model, view, args->residual, &options, say_left, job, &merged, &err);
    progress_end(&bar);
    return st ? progress_failure(&bar, &err, args->residual) : EXIT_DONE;
}

/* The base with the adapter taken out of it. */
static int write_residual(init_job *job)
{
    const lorafmt_stack_entry entry = {lorakit_adapter_get(job->result), -1};
    const binding_args binding = {0};
    lorafmt_view *view;
    int code = binding_bind(NAME, &binding, false, job->model, &entry, 1, job->args->base, &view);

    if (code == EXIT_DONE)
        code = merge_residual(job, view);
    lorafmt_view_free(view);
    return code == EXIT_DONE ? input_open_base(job->args->residual, &job->residual) : code;
}

/* The base it is for is recorded. A residual has the structure of the base it comes from: it takes digests to tell them apart. */
static int write_adapter(init_job *job)
{
    const lorafmt_adapter *adapter = lorakit_adapter_get(job->result);
    progress bar = {0};
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .base = job->residual ? job->residual : job->model,
                                          .headers_only = !job->residual,
                                          .force = job->args->force,
                                          .progress = progress_update,
                                          .progress_ctx = &bar};
    lorafmt_error err;

    if (lorafmt_pack(&adapter, 1, job->args->output, &options, &err))
        return progress_failure(&bar, &err, job->args->output);
    if (lorafmt_source_open(job->args->output, NULL, &job->written, &err)) // its id is that of what was recorded, too
        return message_unread(&err, job->args->output);
    return EXIT_DONE;
}

/* --- saying it --- */

static double share_of(const lorakit_init_size *size)
{
    return size->n_base_parameters ? (double)size->n_parameters / (double)size->n_base_parameters : 0;
}

#define KINDS_TEXT_SIZE 64

/* "42 linear, 1 embedding"; returns buf. */
static const char *kinds_text(const lorakit_init_size *size, char buf[KINDS_TEXT_SIZE])
{
    buf[0] = '\0';
    if (size->n_linear)
        text_append(buf, KINDS_TEXT_SIZE, "%zu linear", size->n_linear);
    if (size->n_embedding)
        text_append(buf, KINDS_TEXT_SIZE, "%s%zu embedding", size->n_linear ? ", " : "", size->n_embedding);
    return buf;
}

static void print_result(const init_job *job)
{
    const lorakit_init_options *o = &job->options;
    const lorafmt_adapter *adapter = lorafmt_source_adapter(job->written, 0);
    const lorafmt_site *site = &adapter->sites[0];
    char kinds[KINDS_TEXT_SIZE], alpha[NUMBER_TEXT_SIZE], scale[NUMBER_TEXT_SIZE], n[NUMBER_TEXT_SIZE], of[NUMBER_TEXT_SIZE];

    print_line(stdout, "%s: %s, %s, rank %u, alpha %s, scale %s, %s", adapter->name, kinds_text(&job->size, kinds),
               lorakit_init_method_name(o->method), o->rank, number_text(site->alpha, alpha), number_text(site->scale, scale),
               lorafmt_dtype_name(o->dtype));
    print_line(stdout, "trainable: %s of %s, %.3g %%", count_text(job->size.n_parameters, n),
               count_text(job->size.n_base_parameters, of), 100 * share_of(&job->size));
    if (job->residual)
        print_line(stdout, "%s: the base without it; train and merge with that", job->args->residual);
    kit_print_id(adapter->id, job->args->output);
}

static void json_size(json_out *j, const lorakit_init_size *size)
{
    json_u64(j, "n_parameters", size->n_parameters);
    json_double(j, "share", share_of(size));
    json_u64(j, "n_bytes", size->n_bytes);
}

static void json_result(const init_job *job)
{
    const lorakit_init_options *o = &job->options;
    const lorafmt_adapter *adapter = lorafmt_source_adapter(job->written, 0);
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", job->args->output);
    json_text(&j, "base", job->args->base);
    json_text(&j, "residual", job->args->residual);
    json_text(&j, "name", adapter->name);
    json_adapter_id(&j, adapter);
    json_text(&j, "init", lorakit_init_method_name(o->method));
    if (decomposes(job))
        json_null(&j, "seed");
    else
        json_u64(&j, "seed", o->seed);
    json_text(&j, "dtype", lorafmt_dtype_name(o->dtype));
    json_u64(&j, "rank", o->rank);
    json_double(&j, "alpha", adapter->sites[0].alpha);
    json_double(&j, "scale", adapter->sites[0].scale);
    json_u64(&j, "n_base_parameters", job->size.n_base_parameters);
    json_size(&j, &job->size);
    json_array(&j, "sites");
    for (size_t i = 0; i < adapter->n_sites; i++) {
        json_object(&j, NULL);
        json_text(&j, "target", adapter->sites[i].target);
        json_text(&j, "kind", lorafmt_kind_name(adapter->sites[i].kind));
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

/* --- what if --- */

typedef struct what_if {
    const names *ranks;
    const lorakit_init_size *sizes;
} what_if;

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const what_if *w = ctx;
    char text[NUMBER_TEXT_SIZE];

    snprintf(cells[0], CELL_SIZE, "%s", w->ranks->items[i]);
    snprintf(cells[1], CELL_SIZE, "%s", count_text(w->sizes[i].n_parameters, text));
    snprintf(cells[2], CELL_SIZE, "%.3g %%", 100 * share_of(&w->sizes[i]));
    snprintf(cells[3], CELL_SIZE, "%s", size_text(w->sizes[i].n_bytes, text));
}

static void print_what_if(const init_job *job, const lorakit_init_size *sizes)
{
    static const column columns[] = {{"rank", true, 0}, {"trainable", true, 0}, {"share", true, 0}, {"factors", true, 0}};
    const what_if w = {&job->ranks, sizes};
    const table t = {.n_columns = 4, .columns = columns, .n_rows = job->ranks.n, .fill = fill_row, .ctx = &w};
    const page p = page_of_stdout();
    char of[NUMBER_TEXT_SIZE], kinds[KINDS_TEXT_SIZE];

    print_line(stdout, "%s: %s parameters; of an adapter for %s, in %s:", job->args->base,
               count_text(sizes[0].n_base_parameters, of), kinds_text(&sizes[0], kinds), lorafmt_dtype_name(job->options.dtype));
    table_print(&p, &t);
}

static void json_what_if(const init_job *job, const lorakit_init_size *sizes)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "base", job->args->base);
    json_text(&j, "dtype", lorafmt_dtype_name(job->options.dtype));
    json_u64(&j, "n_base_parameters", sizes[0].n_base_parameters);
    json_u64(&j, "n_linear", sizes[0].n_linear);
    json_u64(&j, "n_embedding", sizes[0].n_embedding);
    json_array(&j, "ranks");
    for (size_t i = 0; i < job->ranks.n; i++) {
        json_object(&j, NULL);
        json_u64(&j, "rank", strtoull(job->ranks.items[i], NULL, 10));
        json_size(&j, &sizes[i]);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static int run_what_if(init_job *job)
{
    lorakit_init_size *sizes = calloc(job->ranks.n, sizeof *sizes);
    int code = sizes ? EXIT_DONE : message_no_memory();

    for (size_t i = 0; i < job->ranks.n && code == EXIT_DONE; i++) {
        job->options.rank = (uint32_t)strtoul(job->ranks.items[i], NULL, 10);
        code = measure(job);
        sizes[i] = job->size;
    }
    if (code == EXIT_DONE && job->args->json)
        json_what_if(job, sizes);
    else if (code == EXIT_DONE && !job->args->quiet)
        print_what_if(job, sizes);
    free(sizes);
    return code;
}

/* --- all of it --- */

static int init(init_job *job)
{
    int code = make(job);

    if (code == EXIT_DONE)
        code = measure(job);
    if (code == EXIT_DONE && decomposes(job))
        code = write_residual(job);
    if (code == EXIT_DONE)
        code = write_adapter(job);
    if (code == EXIT_DONE && job->args->json)
        json_result(job);
    else if (code == EXIT_DONE && !job->args->quiet)
        print_result(job);
    return code;
}

static void close_all(init_job *job)
{
    lorafmt_source_free(job->written);
    lorafmt_model_free(job->residual);
    lorakit_adapter_free(job->result);
    lorafmt_model_free(job->model);
    names_free(&job->targets);
    names_free(&job->excludes);
    names_free(&job->ranks);
    free(job->name);
}

static int run_init(const void *args, size_t n_inputs, char *const *inputs)
{
    init_job job = {.args = args};
    int code = parse(&job);

    (void)n_inputs;
    (void)inputs;
    if (code == EXIT_DONE)
        code = check_outputs(job.args);
    if (code == EXIT_DONE)
        code = input_open_base(job.args->base, &job.model);
    if (code == EXIT_DONE)
        code = job.args->what_if ? run_what_if(&job) : init(&job);
    close_all(&job);
    return code;
}

const command cmd_init = {
    .name = NAME,
    .usage = "init --base BASE --target NAMES --rank R -o OUT.lora [options]",
    .summary = "start a new adapter for a base model",
    .about =
        "Make an adapter that changes nothing yet: for each target a random A and a B of zeros, for embeddings the other way "
        "round. The random numbers of a target depend on the seed and its name alone, and are the same on every machine. With "
        "--init pissa or olora the adapter starts as the largest part of the weights, or as columns of their QR decomposition, "
        "and the base becomes what is left: --residual writes that, and the adapter fits no other.",
    .example = "lorapack init --base model --target q_proj,v_proj --rank 16 -o new.lora\n"
               "lorapack init --base model --target all-linear --what-if 4,8,16,32\n"
               "lorapack init --base model --target all-linear --rank 16 --init pissa --residual rest -o new.lora\n",
    .options = init_options,
    .args_size = sizeof(init_args),
    .algebra = true,
    .run = run_init,
};
