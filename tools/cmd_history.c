/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/table.h"
#include "tools/text.h"

#include "lorafmt/generations.h"

#include <inttypes.h>
#include <string.h>

#define NAME "history"
#define MOST_BACK 1000 /* generations that one is compared with: a history may be long, and hostile */

typedef struct history_args {
    bool json;
} history_args;

static const option history_options[] = {
    {"json", 0, NULL, OPTION_FLAG, offsetof(history_args, json), "print the result as JSON (docs/json.md)"},
    {0},
};

static const lorafmt_adapter *find(const lorafmt_generation *g, const char *name)
{
    for (size_t i = 0; g && i < g->n_adapters; i++)
        if (strcmp(g->adapters[i].name, name) == 0)
            return &g->adapters[i];
    return NULL;
}

/* How an adapter differs from the one of its name in the generation before; NULL for not at all. */
static const char *change(const lorafmt_adapter *now, const lorafmt_adapter *before)
{
    if (!before)
        return "added";
    if (memcmp(now->id, before->id, sizeof now->id) != 0)
        return "replaced";
    return now->n_signatures > before->n_signatures ? "signed" : NULL;
}

static bool is_same(const lorafmt_generation *a, const lorafmt_generation *b)
{
    if (a->damage || b->damage || a->n_adapters != b->n_adapters)
        return false;
    for (size_t i = 0; i < a->n_adapters; i++) {
        const lorafmt_adapter *x = &a->adapters[i], *y = &b->adapters[i];
        if (strcmp(x->name, y->name) != 0 || memcmp(x->id, y->id, sizeof x->id) != 0 || x->n_signatures != y->n_signatures)
            return false;
    }
    return true;
}

/* As after a rollback: the newest generation that holds what generation i does, unless that is the one before it. NULL for none. */
static const lorafmt_generation *find_same(const lorafmt_history *history, size_t i)
{
    const lorafmt_generation *g = lorafmt_history_generation(history, i), *earlier;

    for (size_t back = 1; back <= MOST_BACK && (earlier = lorafmt_history_generation(history, i + back)); back++)
        if (is_same(g, earlier))
            return back > 1 ? earlier : NULL;
    return NULL;
}

/* "added legal, removed tang": what tells a generation from the one before it. */
static void changes_text(const lorafmt_generation *g, const lorafmt_generation *before, char *out, size_t size)
{
    out[0] = '\0';
    if (g->damage || (before && before->damage)) {
        text_append(out, size, "%s", g->damage ? g->damage : "unknown, since the one before is damaged");
        return;
    }
    for (size_t i = 0; i < g->n_adapters; i++) {
        const char *what = change(&g->adapters[i], find(before, g->adapters[i].name));
        if (what)
            text_append(out, size, "%s%s %s", out[0] ? ", " : "", what, g->adapters[i].name);
    }
    for (size_t i = 0; before && i < before->n_adapters; i++)
        if (!find(g, before->adapters[i].name))
            text_append(out, size, "%sremoved %s", out[0] ? ", " : "", before->adapters[i].name);
    if (!out[0])
        text_append(out, size, "nothing that an id covers");
}

static void fill_row(const void *ctx, size_t i, char cells[][CELL_SIZE])
{
    const lorafmt_history *history = ctx;
    const lorafmt_generation *g = lorafmt_history_generation(history, i), *same = find_same(history, i);

    snprintf(cells[0], CELL_SIZE, "%" PRIu64 "%s", g->number, i == 0 ? " (current)" : "");
    snprintf(cells[1], CELL_SIZE, "%zu", g->n_adapters);
    size_text(g->n_bytes, cells[2]);
    changes_text(g, lorafmt_history_generation(history, i + 1), cells[3], CELL_SIZE);
    if (same)
        text_append(cells[3], CELL_SIZE, " (as generation %" PRIu64 " was)", same->number);
}

static void print_text_table(const lorafmt_history *history)
{
    static const column columns[] = {{.head = "generation"},
                                     {.head = "adapters", .number = true},
                                     {.head = "bytes", .number = true},
                                     {.head = "change"}};
    const page p = page_of_stdout();
    const table t = {.n_columns = sizeof columns / sizeof columns[0],
                     .columns = columns,
                     .n_rows = lorafmt_history_n_generations(history),
                     .fill = fill_row,
                     .ctx = history};

    table_print(&p, &t);
}

static void json_generation(json_out *j, const lorafmt_generation *g)
{
    json_object(j, NULL);
    json_u64(j, "generation", g->number);
    json_u64(j, "n_bytes", g->n_bytes);
    json_text(j, "damage", g->damage);
    json_array(j, "adapters");
    for (size_t i = 0; i < g->n_adapters; i++) {
        json_object(j, NULL);
        json_text(j, "name", g->adapters[i].name);
        json_digest(j, "stated_id", g->adapters[i].id);
        json_u64(j, "n_sites", g->adapters[i].n_sites);
        json_u64(j, "n_signatures", g->adapters[i].n_signatures);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static void print_json(const char *path, const lorafmt_history *history, const lorafmt_container_info *info)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", path);
    json_bool(&j, "recovered", info->recovered);
    json_array(&j, "generations");
    for (size_t i = 0; i < lorafmt_history_n_generations(history); i++)
        json_generation(&j, lorafmt_history_generation(history, i));
    json_array_end(&j);
    json_object_end(&j);
}

static int run_history(const void *args_, size_t n_inputs, char *const *inputs)
{
    const history_args *args = args_;
    lorafmt_container_info info;
    lorafmt_history *history;
    lorafmt_error err;

    (void)n_inputs;
    if (lorafmt_history_open(inputs[0], &history, &err))
        return message_failure(&err, inputs[0]);
    lorafmt_history_container(history, &info);
    if (info.recovered)
        message_warning(
            "%s: a root slot is damaged, so there may have been a newer generation; this is what the other slot shows",
            inputs[0]);
    if (args->json)
        print_json(inputs[0], history, &info);
    else
        print_text_table(history);
    lorafmt_history_free(history);
    return EXIT_DONE;
}

const command cmd_history = {
    .name = NAME,
    .usage = "history FILE.lora [options]",
    .summary = "the earlier states that a .lora file remembers",
    .about =
        "List the generations of a .lora file, newest first: how many adapters each holds, the bytes that it wrote, and what it "
        "changed. lorapack rollback goes back to one, lorapack compact forgets all but the current one.",
    .example = "lorapack history all.lora\n",
    .options = history_options,
    .args_size = sizeof(history_args),
    .min_inputs = 1,
    .max_inputs = 1,
    .run = run_history,
};
