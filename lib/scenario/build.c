/* SPDX-License-Identifier: MIT */
/* A scenario to be built: what it depends on, and how it is there. */
#include "lib/scenario/build.h"

#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"
#include "lib/scenario/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK (UINT64_C(1) << 16)

const char *lorakit_built_name(lorakit_built built)
{
    switch (built) {
    case LORAKIT_ABSENT:
        return "absent";
    case LORAKIT_PARTIAL:
        return "partial";
    case LORAKIT_STALE:
        return "stale";
    case LORAKIT_FRESH:
        return "fresh";
    }
    return "unknown";
}

const char *lk_build_path(lorakit_build *build, const char *directory, const char *name)
{
    return lf_arena_printf(&build->arena, "%s/%s", directory, name);
}

/* --- what it depends on --- */

static void print_adapter(FILE *to, const lk_stack *stack, size_t i)
{
    const lorafmt_entry_options *o = &stack->options[i];
    char id[LF_HEX_SIZE], map[LF_HEX_SIZE] = "-", weights[LF_HEX_SIZE] = "-";
    uint8_t digest[32];
    lf_sha256 h;

    if (o->n_renames) {
        lf_sha256_init(&h);
        for (size_t k = 0; k < o->n_renames; k++) {
            lf_sha256_str(&h, o->renames[k].from);
            lf_sha256_str(&h, o->renames[k].to);
        }
        lf_sha256_final(&h, digest);
        lf_hex(digest, map);
    }
    if (o->weights) {
        lf_sha256_init(&h);
        for (size_t k = 0; k < stack->entries[i].adapter->n_sites; k++)
            lf_sha256_f64(&h, o->weights[k]);
        lf_sha256_final(&h, digest);
        lf_hex(digest, weights);
    }
    fprintf(to, "adapter %zu: %s weight ", i + 1, lf_hex(stack->opened[i]->id, id));
    lk_put_number(to, stack->entries[i].weight);
    fprintf(to, " weights %s map %s\n", weights, map);
}

static lorafmt_status hash_image_file(lorafmt_image *image, size_t i, uint8_t out[32], lorafmt_error *err)
{
    const lorafmt_image_file *file = lorafmt_image_get_file(image, i);
    uint8_t block[BLOCK];
    lf_sha256 h;

    lf_sha256_init(&h);
    for (uint64_t at = 0; at < file->size; at += BLOCK) {
        const size_t n = (size_t)(file->size - at < BLOCK ? file->size - at : BLOCK);
        LF_TRY(lorafmt_image_read(image, i, at, block, n, err));
        lf_sha256_update(&h, block, n);
    }
    lf_sha256_final(&h, out);
    return LORAFMT_OK;
}

static lorafmt_status print_side_files(FILE *to, lorafmt_image *image, lorafmt_error *err)
{
    char hex[LF_HEX_SIZE];
    uint8_t digest[32];

    for (size_t i = 0; i < lorafmt_image_n_files(image); i++) {
        const lorafmt_image_file *file = lorafmt_image_get_file(image, i);
        if (strchr(file->name, '\n'))
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, file->name,
                           "a file of the base whose name has two lines");
        if (file->has_tensors)
            continue;
        LF_TRY(hash_image_file(image, i, digest, err));
        fprintf(to, "%s: %s\n", file->name, lf_hex(digest, hex));
    }
    return LORAFMT_OK;
}

static lorafmt_status print_inputs(lorakit_build *build, FILE *to, lorafmt_error *err)
{
    const lorafmt_dtype dtype = build->stack.scenario->dtype;
    uint8_t base[32];
    char hex[LF_HEX_SIZE];

    if (build->image)
        LF_TRY(lorakit_scenarios_base_sha256(build->set, base, err));
    else
        memcpy(base, build->set->structure, sizeof base);
    fprintf(to, "the form of builds: %s 1\nthe arithmetic: %d\nthe base: %s\n", build->image ? "model" : "lora",
            LORAKIT_ARITHMETIC, lf_hex(base, hex));
    for (size_t i = 0; i < build->stack.scenario->n_adapters; i++)
        print_adapter(to, &build->stack, i);
    if (!build->image)
        return LORAFMT_OK;
    fprintf(to, "the dtype: %s\n", dtype ? lorafmt_dtype_name(dtype) : "the base's");
    return print_side_files(to, build->image, err);
}

static lorafmt_status set_inputs(lorakit_build *build, const lk_text *text, lorafmt_error *err)
{
    char hex[LF_HEX_SIZE];
    uint8_t key[32];

    lf_sha256_of(text->bytes, text->size, key);
    build->staging =
        lf_arena_printf(&build->arena, "%s/%s-%.*s", build->state, build->stack.scenario->name, LK_KEY_DIGITS, lf_hex(key, hex));
    build->inputs = build->staging ? lf_arena_strdup(&build->arena, text->bytes) : NULL;
    return build->inputs ? LORAFMT_OK : lf_no_memory(err);
}

lorafmt_status lk_build_inputs(lorakit_build *build, lorafmt_error *err)
{
    lk_text text;
    lorafmt_status st, ended;

    if (build->inputs)
        return LORAFMT_OK;
    LF_TRY(lk_text_begin(&text, err));
    st = print_inputs(build, text.stream, err);
    ended = lk_text_finish(&text, st ? NULL : err);
    if (!st && !(st = ended))
        st = set_inputs(build, &text, err);
    free(text.bytes);
    return st;
}

/* --- opening --- */

static lorafmt_status set_paths(lorakit_build *build, lorafmt_error *err)
{
    const char *name = build->stack.scenario->name, *output = build->set->output;
    const bool lora = build->form == LORAKIT_FORM_LORA;

    build->state = lk_build_path(build, output, LK_STATE_DIRECTORY);
    if (!build->state || !(build->name = lf_arena_printf(&build->arena, "%s%s", name, lora ? ".lora" : "")))
        return lf_no_memory(err);
    build->target = lk_build_path(build, output, build->name);
    build->record = lf_arena_printf(&build->arena, "%s/%s.%s", build->state, name, lora ? "lora" : "model");
    build->next = lf_arena_printf(&build->arena, "%s/%s.next", build->state, name);
    build->ready = lf_arena_printf(&build->arena, "%s/%s.ready", build->state, name);
    build->flock = lf_arena_printf(&build->arena, "%s/%s.flock", build->state, name);
    return build->target && build->record && build->next && build->ready && build->flock ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status open_build(lorakit_build *build, size_t scenario,
                                 void (*report)(void *ctx, const char *adapter, const char *target, const char *text),
                                 void (*left_behind)(void *ctx, const char *file, const char *why), void *ctx, lorafmt_error *err)
{
    lorakit_scenarios *set = build->set;
    lorafmt_image_options options = {.struct_size = sizeof options, .report = left_behind, .report_ctx = ctx};

    LF_TRY(lk_stack_open(set, scenario, &build->stack, err));
    LF_TRY(set_paths(build, err));
    if (build->form == LORAKIT_FORM_LORA)
        return lorakit_scenarios_compose(set, scenario, &build->adapter, err);
    LF_TRY(lorakit_scenarios_bind(set, scenario, report, ctx, &build->view, err));
    options.dtype = build->stack.scenario->dtype;
    return lorafmt_image_open(set->model, build->view, &options, &build->image, err);
}

lorafmt_status lorakit_build_open(lorakit_scenarios *set, size_t scenario, lorakit_form form,
                                  void (*report)(void *ctx, const char *adapter, const char *target, const char *text),
                                  void (*left_behind)(void *ctx, const char *file, const char *why), void *ctx,
                                  lorakit_build **out, lorafmt_error *err)
{
    lorakit_build *build = calloc(1, sizeof *build);
    lorafmt_status st;

    *out = NULL;
    if (!build)
        return lf_no_memory(err);
    build->set = set;
    build->form = form;
    st = open_build(build, scenario, report, left_behind, ctx, err);
    if (st)
        lorakit_build_free(build);
    else
        *out = build;
    return st;
}

void lorakit_build_free(lorakit_build *build)
{
    if (!build)
        return;
    lorafmt_image_free(build->image);
    lorafmt_view_free(build->view);
    lorakit_adapter_free(build->adapter);
    lk_stack_free(&build->stack);
    lf_arena_free(&build->arena);
    free(build);
}

const lorafmt_view *lorakit_build_view(const lorakit_build *build)
{
    return build->view;
}

const char *lorakit_build_path(const lorakit_build *build)
{
    return build->target;
}

/* --- how it is there --- */

bool lk_build_is_staged(lorakit_build *build, size_t file)
{
    const lorafmt_image_file *wanted = lorafmt_image_get_file(build->image, file);
    lk_built_file found;

    return lk_built_file_look(build->staging, wanted->name, &found) && found.size == wanted->size;
}

static void measure(const lorakit_build *build, lorakit_build_state *out)
{
    for (size_t i = 0; i < lorafmt_image_n_files(build->image); i++) {
        out->n_bytes += lorafmt_image_get_file(build->image, i)->size;
        out->n_files += lorafmt_image_get_file(build->image, i)->has_tensors;
    }
}

/* "changed since: adapter 2", of the first line that differs. */
static void explain(const char *now, const char *was, lorakit_build_state *out)
{
    const char *line = now;

    for (; *now && *now == *was; now++, was++)
        if (*now == '\n')
            line = now + 1;
    if (!*line)
        snprintf(out->why, sizeof out->why, "made from more than now");
    else
        snprintf(out->why, sizeof out->why, "changed since: %.*s", (int)(strcspn(line, "\n") < 300 ? strcspn(line, ":") : 300),
                 line);
}

static void judge(const lorakit_build *build, const lk_record *record, lorakit_build_state *out)
{
    const char *directory = build->form == LORAKIT_FORM_LORA ? build->set->output : build->target;
    const lk_built_file *changed;

    out->built = LORAKIT_STALE;
    if (!record->inputs)
        snprintf(out->why, sizeof out->why, "not made by build");
    else if (strcmp(record->inputs, build->inputs) != 0)
        explain(build->inputs, record->inputs, out);
    else if ((changed = lk_record_first_changed(record, directory)))
        snprintf(out->why, sizeof out->why, "%.300s is not what was built", changed->name);
    else
        out->built = LORAKIT_FRESH;
}

static void count_staged(lorakit_build *build, lorakit_build_state *out)
{
    for (size_t i = 0; i < lorafmt_image_n_files(build->image); i++)
        out->n_finished += lorafmt_image_get_file(build->image, i)->has_tensors && lk_build_is_staged(build, i);
    if (out->n_finished)
        out->built = LORAKIT_PARTIAL;
}

lorafmt_status lorakit_build_look(lorakit_build *build, lorakit_build_state *out, lorafmt_error *err)
{
    const bool known = lf_path_type_of(build->state) == LF_PATH_DIRECTORY;
    lk_record record = {0};
    struct stat st;
    const bool there = lstat(build->target, &st) == 0;

    *out = (lorakit_build_state){0};
    if (build->image)
        measure(build, out);
    else if (there)
        out->n_bytes = (uint64_t)st.st_size;
    if (known) {
        LF_TRY(lk_build_inputs(build, err));
        LF_TRY(lk_build_record_read(build, build->record, &record, err));
    }
    if (there)
        judge(build, &record, out);
    if (out->built == LORAKIT_FRESH)
        out->n_finished = out->n_files;
    else if (known && build->image)
        count_staged(build, out);
    return LORAFMT_OK;
}
