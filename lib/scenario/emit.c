/* SPDX-License-Identifier: MIT */
#include "lib/scenario/emit.h"

#include "format/base/error.h"
#include "lib/scenario/emit_text.h"
#include "lorafmt/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lorakit_expression_name(lorakit_expression form)
{
    switch (form) {
    case LORAKIT_NOT_EXPRESSED:
        return "none";
    case LORAKIT_EXPRESSED_BASE:
        return "base";
    case LORAKIT_EXPRESSED_AS_IS:
        return "as-is";
    case LORAKIT_EXPRESSED_ONE:
        return "one";
    case LORAKIT_EXPRESSED_SUM:
        return "sum";
    }
    return "unknown";
}

typedef struct job {
    lorakit_scenarios *set;
    const lk_engine *engine;
    const lorakit_emit_options *options;
    lorakit_emitted *emitted;
    size_t n;
    lf_output *output;
    lf_arena arena;
    const char **modules; /* of all adapters, ascending, each once, NULL at the end */
    size_t n_modules;
} job;

/* Both are in order and become one. */
static bool add_modules(job *j, const lorafmt_adapter *adapter)
{
    const char **more = lk_module_names(&j->arena, adapter), **all;
    size_t n = 0, kept = 0, i = 0, k = 0;

    while (more && more[n])
        n++;
    all = more ? lf_arena_alloc(&j->arena, j->n_modules + n + 1, sizeof *all) : NULL;
    if (!all)
        return false;
    while (i < j->n_modules || k < n) {
        const int order = i == j->n_modules ? 1 : k == n ? -1 : strcmp(j->modules[i], more[k]);
        all[kept++] = order <= 0 ? j->modules[i] : more[k];
        i += order <= 0;
        k += order >= 0;
    }
    j->modules = all;
    j->n_modules = kept;
    return true;
}

/* What PEFT cannot say is a reason why a scenario is not there, and no failure. */
static lorafmt_status write_adapter(job *j, const lorafmt_adapter *adapter, lorakit_emitted *out, lorafmt_error *err)
{
    char *path = lf_output_member(j->output, adapter->name);
    lorafmt_error own;
    lorafmt_status st;

    if (!path)
        return lf_no_memory(err);
    st = lorafmt_unpack(adapter, path, false, &own);
    free(path);
    if (st == LORAFMT_UNSUPPORTED) {
        lk_emit_refuse(out, &own);
        return LORAFMT_OK;
    }
    if (st && err)
        *err = own;
    if (!st && !add_modules(j, adapter))
        return lf_no_memory(err);
    return st;
}

/* What went wrong with a scenario says which. */
static void name_scenario(lorafmt_error *err, const char *name)
{
    const lorafmt_error was = *err;

    snprintf(err->text, sizeof err->text, "%.240s%s%.700s", was.field, was.field[0] ? ": " : "", was.text);
    snprintf(err->field, sizeof err->field, "scenarios.%s", name);
}

static lorafmt_status emit_one(job *j, size_t i, lorafmt_error *err)
{
    const size_t scenario = j->options->scenarios ? j->options->scenarios[i] : i;
    const char *name = lorakit_scenarios_manifest(j->set)->scenarios[scenario].name;
    lorakit_emitted *out = &j->emitted[i];
    lk_emission e;
    lorafmt_status st;

    if (j->options->progress && !j->options->progress(j->options->progress_ctx, i, j->n))
        return lf_fail(err, LORAFMT_CANCELLED, LORAFMT_NO_OFFSET, NULL, "stopped");
    st = lk_emission_make(j->set, scenario, j->engine, j->options, &e, out, err);
    if (!st && out->form != LORAKIT_NOT_EXPRESSED && out->form != LORAKIT_EXPRESSED_BASE) {
        e.adapter.name = name;
        st = write_adapter(j, &e.adapter, out, err);
    }
    if (st && err)
        name_scenario(err, name);
    lk_emission_clear(&e);
    return st;
}

/* All that were asked for, or at least one. */
static lorafmt_status check_forms(const job *j, lorafmt_error *err)
{
    const lorakit_manifest *manifest = lorakit_scenarios_manifest(j->set);
    size_t n_none = 0;

    for (size_t i = 0; i < j->n; i++)
        if (j->emitted[i].form == LORAKIT_NOT_EXPRESSED) {
            n_none++;
            if (j->options->all)
                return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, manifest->scenarios[j->emitted[i].scenario].name,
                               "no adapter for %s: %s", j->engine->name, j->emitted[i].why);
        }
    if (n_none == j->n)
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL, "none of %zu scenarios can be an adapter for %s", j->n,
                       j->engine->name);
    return LORAFMT_OK;
}

static lorafmt_status emit_all(job *j, const char *path, lorafmt_error *err)
{
    static const char *const none[] = {NULL};

    LF_TRY(lf_output_begin_directory(path, false, &j->output, err));
    for (size_t i = 0; i < j->n; i++)
        LF_TRY(emit_one(j, i, err));
    LF_TRY(check_forms(j, err));
    return lk_emit_files(j->set, j->engine, j->emitted, j->n, j->modules ? j->modules : none, j->output, err);
}

static lorafmt_status check(const job *j, lorafmt_error *err)
{
    const size_t n_scenarios = lorakit_scenarios_manifest(j->set)->n_scenarios;

    LF_TRY(lf_check_struct_size(j->options->struct_size, sizeof *j->options, err));
    if (!j->engine)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "engine", "no engine of that number");
    for (size_t i = 0; j->options->scenarios && i < j->n; i++)
        if (j->options->scenarios[i] >= n_scenarios)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "scenario %zu, the manifest has %zu",
                           j->options->scenarios[i], n_scenarios);
    return LORAFMT_OK;
}

lorafmt_status lorakit_emit(lorakit_scenarios *set, lorakit_engine engine, const char *path, const lorakit_emit_options *options,
                            lorakit_emitted *emitted, lorafmt_error *err)
{
    static const lorakit_emit_options defaults = {.struct_size = sizeof defaults};
    job j = {.set = set, .engine = lk_engine_get(engine), .options = options ? options : &defaults, .emitted = emitted};
    lorafmt_status st;

    j.n = j.options->scenarios ? j.options->n_scenarios : lorakit_scenarios_manifest(set)->n_scenarios;
    LF_TRY(check(&j, err));
    if ((st = emit_all(&j, path, err)))
        lf_output_abort(j.output);
    else
        st = lf_output_commit(j.output, err);
    lf_arena_free(&j.arena);
    return st;
}
