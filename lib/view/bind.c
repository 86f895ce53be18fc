/* SPDX-License-Identifier: MIT */
/* spec 8: from a base and a stack of adapters to a view, with all checks. */
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/kernels/fpenv.h"
#include "lib/view/view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lf_problem(lf_binder *binder, lorafmt_status status, size_t entry, const char *target, const char *format, ...)
{
    char text[sizeof binder->first.text];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (binder->n_problems++ == 0)
        lf_fail(&binder->first, status, LORAFMT_NO_OFFSET, target, "%s", text);
    if (binder->options->report)
        binder->options->report(binder->options->report_ctx, binder->view->entries[entry].adapter->name, target, text);
}

void lf_problem_hint(lf_binder *binder, lorafmt_hint hint)
{
    if (binder->n_problems == 1)
        binder->first.hint = hint;
}

void lf_view_tensor_measure(lorafmt_view_tensor *info)
{
    uint64_t size = 0;

    lf_tensor_measure(info->dtype, info->n_dims, info->shape, &size);
    info->size = size;
    info->n_rows = info->n_dims >= 2 && lorafmt_dtype_bits(info->dtype) >= 8 ? info->shape[0] : 1; // rows are whole bytes
    info->row_size = info->n_rows ? size / info->n_rows : 0;
}

static lorafmt_status check_weights(const lorafmt_adapter *adapter, const double *weights, lorafmt_error *err)
{
    for (size_t i = 0; weights && i < adapter->n_sites; i++)
        if (!isfinite(weights[i]))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, adapter->sites[i].target, "weight %g, must be finite",
                           weights[i]);
    return LORAFMT_OK;
}

static lorafmt_status check_arguments(const lorafmt_base *base, const lorafmt_stack_entry *stack, size_t n_stack,
                                      const lorafmt_bind_options *options, lorafmt_error *err)
{
    uint64_t size;

    if (!base || base->struct_size != sizeof *base || (!stack && n_stack))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                       "bind needs a base of this API version and a stack of adapters");
    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_base_tensor *t = &base->tensors[i];
        if (!lf_tensor_measure(t->dtype, t->n_dims, t->shape, &size) || size != t->size)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, t->name, "the base's dtype, shape and size do not agree");
    }
    for (size_t i = 0; i < n_stack; i++)
        if (!stack[i].adapter || !isfinite(stack[i].weight))
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "adapter %zu of the stack: weight %g, must be finite", i,
                           stack[i].weight);
    for (size_t i = 0; options->entries && i < n_stack; i++)
        LF_TRY(check_weights(stack[i].adapter, options->entries[i].weights, err));
    return LORAFMT_OK;
}

lorafmt_status lf_choose_kernels(lorafmt_cpu cpu, lf_kernels *kernels, lorafmt_error *err)
{
    static const char *const names[] = {"the best", "scalar", "avx2", "avx512", "neon"};
    const unsigned has = lf_cpu_flags(), levels[] = {has, 0, LF_CPU_FMA, LF_CPU_FMA | LF_CPU_AVX512, LF_CPU_NEON};

    if ((size_t)cpu >= sizeof levels / sizeof *levels)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "cpu %d, must be 0..%d", (int)cpu, LORAFMT_CPU_NEON);
    if (levels[cpu] & ~has)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "cpu %s is asked for, which this one does not have",
                       names[cpu]);
    lf_kernels_init(kernels, levels[cpu]);
    return LORAFMT_OK;
}

/* A view with room for every site and every tensor that can come of them. */
static lorafmt_status new_view(const lorafmt_base *base, const lorafmt_stack_entry *stack, size_t n_stack,
                               const lorafmt_bind_options *options, lorafmt_view **out, lorafmt_error *err)
{
    lorafmt_view *view = calloc(1, sizeof *view);

    *out = view;
    if (!view)
        return lf_no_memory(err);
    view->base = base;
    view->n_entries = n_stack;
    view->check_only = options->check_only;
    LF_TRY(lf_choose_kernels(options->cpu, &view->kernels, err));
    for (size_t i = 0; i < n_stack; i++)
        view->n_sites += stack[i].adapter->n_sites;
    view->n_tensors = base->n_tensors;
    view->entries = lf_arena_alloc(&view->arena, n_stack, sizeof *view->entries);
    view->bridges = lf_arena_alloc(&view->arena, n_stack, sizeof *view->bridges);
    view->sites = lf_arena_alloc(&view->arena, view->n_sites, sizeof *view->sites);
    view->names = lf_arena_alloc(&view->arena, view->n_sites, sizeof *view->names);
    view->plans = lf_arena_alloc(&view->arena, base->n_tensors + view->n_sites, sizeof *view->plans);
    if (!view->entries || !view->bridges || !view->sites || !view->names || !view->plans)
        return lf_no_memory(err);
    if (n_stack)
        memcpy(view->entries, stack, n_stack * sizeof *stack);
    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_base_tensor *t = &base->tensors[i];
        lorafmt_view_tensor *info = &view->plans[i].info;
        info->name = t->name;
        info->dtype = t->dtype;
        info->n_dims = t->n_dims;
        memcpy(info->shape, t->shape, sizeof info->shape);
        lf_view_tensor_measure(info);
    }
    lf_view_survey(view);
    return lf_base_index_build(base, &view->arena, &view->index, err);
}

static lorafmt_status set_map(lf_binder *binder, const lorafmt_rename *renames, size_t n, lf_rename_map *map, lorafmt_error *err)
{
    *map = (lf_rename_map){renames, n, lf_arena_alloc(&binder->view->arena, n, sizeof *map->used)};
    return map->used ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status set_maps(lf_binder *binder, lorafmt_error *err)
{
    const lorafmt_bind_options *options = binder->options;
    const lorafmt_entry_options *entries = options->entries;
    const size_t n = binder->view->n_entries;

    LF_TRY(set_map(binder, options->renames, options->n_renames, &binder->map, err));
    if (!(binder->own_maps = lf_arena_alloc(&binder->view->arena, n, sizeof *binder->own_maps)))
        return lf_no_memory(err);
    for (size_t i = 0; entries && i < n; i++)
        LF_TRY(set_map(binder, entries[i].renames, entries[i].n_renames, &binder->own_maps[i], err));
    return LORAFMT_OK;
}

static lorafmt_status resolve_all(lf_binder *binder, lorafmt_error *err)
{
    lorafmt_view *view = binder->view;
    size_t first = 0;

    LF_TRY(set_maps(binder, err));
    for (size_t i = 0; i < view->n_entries; i++) {
        LF_TRY(lf_resolve_entry(binder, i, first, err));
        first += view->entries[i].adapter->n_sites;
    }
    lf_check_renames(binder);
    return LORAFMT_OK;
}

/* All problems in one sentence: the first one, and how many there are. */
static lorafmt_status refuse(const lf_binder *binder, lorafmt_error *err)
{
    if (err) {
        *err = binder->first;
        if (binder->n_problems > 1) {
            char more[48];
            const int n = snprintf(more, sizeof more, " (and %zu more)", binder->n_problems - 1);
            const size_t used = strlen(err->text), room = sizeof err->text - (size_t)n - 1;
            memcpy(err->text + (used < room ? used : room), more, (size_t)n + 1);
        }
    }
    return binder->first.status;
}

static lorafmt_status bind(lf_binder *binder, lorafmt_error *err)
{
    for (size_t i = 0; i < binder->view->n_entries; i++)
        lf_check_kinds(binder, i);
    if (binder->n_problems)
        return refuse(binder, err);
    LF_TRY(resolve_all(binder, err));
    if (binder->n_problems)
        return refuse(binder, err);
    LF_TRY(lf_fit_replacements(binder, err));
    lf_fit_vocabulary(binder);
    lf_fit_rows(binder);
    lf_fit_terms(binder);
    if (!binder->n_problems)
        LF_TRY(lf_fit_identity(binder, err));
    if (binder->n_problems)
        return refuse(binder, err);
    return lf_plan_terms(binder, err);
}

lorafmt_status lorafmt_bind(const lorafmt_base *base, const lorafmt_stack_entry *stack, size_t n_stack,
                            const lorafmt_bind_options *options, lorafmt_view **out, lorafmt_error *err)
{
    static const lorafmt_bind_options defaults = {.struct_size = sizeof defaults};
    lf_binder binder = {.options = options ? options : &defaults};
    lorafmt_status st;

    *out = NULL;
    LF_TRY(lf_check_struct_size(binder.options->struct_size, sizeof defaults, err));
    if (binder.options->has_orientation && (unsigned)binder.options->orientation > LORAFMT_BY_SHAPE)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "orientation", "%d, must be 0..2",
                       (int)binder.options->orientation);
    LF_TRY(check_arguments(base, stack, n_stack, binder.options, err));
    st = new_view(base, stack, n_stack, binder.options, &binder.view, err);
    if (!st) {
        const lf_fpenv env = lf_fpenv_enter();
        st = bind(&binder, err);
        lf_fpenv_leave(env);
    }
    if (st) {
        lorafmt_view_free(binder.view);
        return st;
    }
    *out = binder.view;
    return LORAFMT_OK;
}

void lorafmt_view_free(lorafmt_view *view)
{
    if (!view)
        return;
    lf_arena_free(&view->arena);
    free(view);
}

size_t lorafmt_view_n_tensors(const lorafmt_view *view)
{
    return view->n_tensors;
}

const lorafmt_view_tensor *lorafmt_view_get_tensor(const lorafmt_view *view, size_t tensor)
{
    return tensor < view->n_tensors ? &view->plans[tensor].info : NULL;
}

size_t lorafmt_view_n_sites(const lorafmt_view *view)
{
    return view->n_sites;
}

const lorafmt_bound_site *lorafmt_view_get_site(const lorafmt_view *view, size_t i)
{
    return i < view->n_sites ? &view->sites[i] : NULL;
}

const char *lorafmt_view_bridge(const lorafmt_view *view, size_t entry)
{
    return entry < view->n_entries ? view->bridges[entry] : NULL;
}

bool lorafmt_view_unties(const lorafmt_view *view)
{
    return view->unties;
}

uint64_t lorafmt_view_vocab_size(const lorafmt_view *view)
{
    return view->vocab_size;
}
